//! How many connections fit, and how loops and tables are laid out for them.

use clap::Parser;
use proptest::prelude::*;
use tidegate::config::{
    Capacity, Cli, Config, FdTable, Machine, Problem, loops_needed, raise_descriptor_limit, resolve,
};
use tidegate::limits::{CONNECTIONS_PER_LOOP_MAX, LOOPS_MAX, descriptor_reserve};

fn machine(descriptor_limit: u64) -> Machine {
    Machine {
        cores: 2,
        descriptor_limit,
        memory_total_bytes: Some(24 << 30),
        cgroup_memory_bytes: None,
    }
}

fn laid_out(args: &str, machine: &Machine) -> Result<(Config, Capacity), Vec<Problem>> {
    let args = ["tidegate"].into_iter().chain(args.split_whitespace());
    let cli = Cli::try_parse_from(args).expect("arguments that clap takes");
    resolve(&cli, machine).map(|resolved| (resolved.config, resolved.capacity))
}

fn fits(args: &str, limit: u64) -> (Config, Capacity) {
    laid_out(args, &machine(limit)).unwrap_or_else(|problems| panic!("{problems:?}"))
}

fn refused(args: &str, limit: u64) -> String {
    let problems = laid_out(args, &machine(limit)).expect_err("too many");
    assert_eq!(problems.len(), 1, "{problems:?}");
    problems[0].to_string()
}

#[test]
fn the_reserve_counts_what_every_table_holds() {
    // Standard streams, spare ones, four per loop, a listener per loop.
    assert_eq!(descriptor_reserve(1, 1, false), 3 + 32 + 4 + 1);
    assert_eq!(descriptor_reserve(2, 3, false), 3 + 32 + 8 + 6);
    // A private table has all loops' four but its own listeners only.
    assert_eq!(descriptor_reserve(51, 2, true), 3 + 32 + 204 + 2);
}

#[test]
fn by_default_the_shared_table_is_filled() {
    let (config, capacity) = fits("", 20_000);
    assert_eq!((config.fd_table, config.loops), (FdTable::Shared, 2));
    assert_eq!((capacity.connections, capacity.per_loop), (19_955, 19_955));
    assert_eq!(capacity.limited_by, "descriptors: hard limit 20000 minus 45 reserved");
    assert_eq!(config.max_connections, capacity.connections);
}

#[test]
fn a_million_at_20000_descriptors_takes_private_tables() {
    let (config, capacity) = fits("--max-connections 1_000_000", 20_000);
    assert_eq!((config.fd_table, config.loops), (FdTable::Private, 51));
    let per_loop = 20_000 - descriptor_reserve(51, 1, true);
    assert_eq!((capacity.connections, capacity.per_loop), (1_000_000, per_loop));
    assert_eq!(capacity.limited_by, "--max-connections");
    assert!(50 * (20_000 - descriptor_reserve(50, 1, true)) < 1_000_000);
}

#[test]
fn the_last_connection_that_fits_the_shared_table_keeps_it() {
    assert_eq!(fits("--max-connections 19955", 20_000).0.fd_table, FdTable::Shared);
    let (config, _) = fits("--max-connections 19956", 20_000);
    assert_eq!((config.fd_table, config.loops), (FdTable::Private, 2));
    assert_eq!(fits("--max-connections 19955 --fd-table private", 20_000).0.loops, 2);
}

#[test]
fn private_tables_without_a_count_are_filled() {
    let (config, capacity) = fits("--fd-table private --loops 3", 1024);
    assert_eq!(config.max_connections, 3 * (1024 - descriptor_reserve(3, 1, true)));
    assert_eq!(capacity.per_loop * 3, capacity.connections);
    assert_eq!(capacity.limited_by, "descriptors: 3 tables of hard limit 1024 minus 48 reserved");
}

#[test]
fn too_many_for_the_shared_table_names_both_ways_out() {
    let text = refused("--fd-table shared --max-connections 30000", 20_000);
    assert!(
        text.starts_with("--max-connections 30000: one shared descriptor table holds 19955"),
        "{text}"
    );
    assert!(text.contains("--fd-table private (it takes 2 loops)"), "{text}");
    assert!(text.contains("ulimit -n 30045"), "{text}");
    assert!(laid_out("--fd-table shared --max-connections 30000", &machine(30_045)).is_ok());
}

#[test]
fn too_few_loops_names_how_many_it_takes() {
    let text = refused("--max-connections 1000000 --loops 4", 20_000);
    assert!(text.contains("4 loops with a descriptor table each hold"), "{text}");
    assert!(text.contains("give --loops 51 or leave --loops out"), "{text}");
    let limit: u64 = text.rsplit(' ').next().and_then(|word| word.parse().ok()).expect("a limit");
    assert!(laid_out("--max-connections 1000000 --loops 4", &machine(limit)).is_ok());
    assert!(laid_out("--max-connections 1000000 --loops 4", &machine(limit - 1)).is_err());
}

#[test]
fn what_no_number_of_loops_holds_names_the_limit_to_raise() {
    let text = refused("--max-connections 1000000", 1024);
    assert!(
        text.contains("no number of loops suffices: raise the hard limit: ulimit -n"),
        "{text}"
    );
    let text = refused("", 40);
    assert!(text.starts_with("--loops 2: the hard descriptor limit 40 leaves none"), "{text}");
}

#[test]
fn memory_bounds_the_default_and_sets_the_memory_limit() {
    let mut small = machine(1 << 30);
    small.memory_total_bytes = Some(2 << 30);
    small.cgroup_memory_bytes = Some(512 << 20);
    let (config, capacity) = laid_out("", &small).expect("fits");
    assert_eq!(capacity.connections, (256 << 20) / (3960 + 176));
    assert_eq!(capacity.limited_by, "memory: half of 512MiB at 4136 B an idle connection");
    assert_eq!(config.memory_limit_bytes, 256 << 20);
    // Who asks for more in so many words gets it.
    assert_eq!(laid_out("--max-connections 90000", &small).expect("fits").1.connections, 90_000);
}

#[test]
fn connection_ids_bound_what_descriptors_do_not() {
    let mut endless = machine(1 << 30);
    endless.memory_total_bytes = None;
    let (_, capacity) = laid_out("--loops 1", &endless).expect("fits");
    assert_eq!(capacity.connections, CONNECTIONS_PER_LOOP_MAX - 1);
    assert_eq!(capacity.limited_by, "connection ids: 16777215 a loop");
}

#[test]
fn a_library_configuration_is_validated_too() {
    let mut config = Config::default();
    let capacity = config.validate(&machine(20_000)).expect("the default is sound");
    assert_eq!((capacity.connections, capacity.per_loop), (1024, 1024));
    config.max_connections = 50_000;
    config.listen.clear();
    config.max_fragments = 0;
    config.tuning.mailbox_capacity = 0;
    let problems = config.validate(&machine(20_000)).expect_err("mistakes");
    let flags: Vec<&str> = problems.iter().map(|problem| problem.flag).collect();
    assert_eq!(flags, ["--listen", "--max-fragments", "tuning.mailbox_capacity"]);
    config.listen = Config::default().listen;
    let problems = config.validate(&machine(20_000)).expect_err("mistakes");
    let flags: Vec<&str> = problems.iter().map(|problem| problem.flag).collect();
    assert_eq!(flags, ["--max-fragments", "tuning.mailbox_capacity", "--max-connections"]);
}

#[test]
fn the_soft_descriptor_limit_is_raised_to_the_hard_one() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("limits");
    setrlimit(Resource::RLIMIT_NOFILE, hard / 2, hard).expect("lowered");
    assert_eq!(raise_descriptor_limit().expect("raised"), hard);
    assert_eq!(tidegate::config::descriptor_limits().expect("limits"), (hard, hard));
}

proptest! {
    /// The least number of loops holds what is wanted, and one fewer does not.
    #[test]
    fn loops_needed_is_the_least(
        wanted in 1_usize..3_000_000,
        limit in 64_u64..200_000,
        addresses in 1_usize..8,
    ) {
        let room = |loops: usize| {
            let limit = usize::try_from(limit).expect("small");
            loops * limit.saturating_sub(descriptor_reserve(loops, addresses, true))
        };
        match loops_needed(wanted, limit, addresses) {
            Some(loops) => {
                prop_assert!(room(loops) >= wanted);
                prop_assert!((1..loops).all(|fewer| room(fewer) < wanted));
            }
            None => prop_assert!((1..=LOOPS_MAX).all(|loops| room(loops) < wanted)),
        }
    }

    /// Whatever is accepted fits: table by table, descriptors and reserve are within the limit.
    #[test]
    fn what_is_accepted_fits_the_limit(
        wanted in 1_usize..500_000,
        limit in 64_u64..100_000,
        loops in 1_usize..64,
        table in 0_usize..3,
    ) {
        let table = ["auto", "shared", "private"][table];
        let args = format!("--max-connections {wanted} --loops {loops} --fd-table {table}");
        if let Ok((config, capacity)) = laid_out(&args, &machine(limit)) {
            let limit = usize::try_from(limit).expect("small");
            prop_assert_eq!(capacity.connections, wanted);
            prop_assert!(capacity.per_loop * config.loops >= wanted);
            let private = config.fd_table == FdTable::Private;
            let in_one_table = if private { capacity.per_loop } else { wanted };
            prop_assert!(in_one_table + descriptor_reserve(config.loops, 1, private) <= limit);
        }
    }
}
