//! What two configurations differ in.

use super::Resolved;
use super::definitions::{TABLES, Table};
use super::shown::{Entry, Shown, shown};

/// What is not the same in both: flags, and repeated tables of the file by their header, each with
/// the table it belongs to. What nobody has set is no difference, though it may depend on the machine.
#[must_use]
pub fn changed_settings(before: &Resolved, after: &Resolved) -> Vec<(Table, String)> {
    let (before, after) = (shown(before), shown(after));
    let mut changed = Vec::new();
    for table in TABLES.into_iter().filter(|table| table.parent().is_none()) {
        let (old, new) = (of_table(&before, table), of_table(&after, table));
        if table.is_repeated() {
            let values = |all: Vec<&Shown>| all.into_iter().map(values).collect::<String>();
            changed
                .extend((values(old) != values(new)).then(|| (table, table.header().to_owned())));
            continue;
        }
        let entries = |all: Vec<_>| all.into_iter().flat_map(|shown: &Shown| &shown.entries);
        let pairs = entries(old).zip(entries(new));
        let differing = pairs.filter(|(a, b)| differ(a, b));
        changed.extend(differing.map(|(entry, _)| (table, entry.definition.flag())));
    }
    changed
}

fn of_table(all: &[Shown], table: Table) -> Vec<&Shown> {
    all.iter().filter(|shown| shown.table == table).collect()
}

fn differ(old: &Entry, new: &Entry) -> bool {
    let is_set = [old, new].iter().any(|entry| entry.source != "default");
    is_set && old.value != new.value
}

/// All values of a table and of those in it, wherever they came from.
fn values(shown: &Shown) -> String {
    let own = shown.entries.iter().map(|e| format!("{}={:?}\n", e.definition.key, e.value));
    own.chain(shown.tables.iter().map(values)).collect()
}
