//! Where the results go beside the terminal, and the conditions they are held against. Files are
//! made before the run, so that one that cannot be written stops it before it starts; what one held
//! before is lost only once the run can begin.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use super::{Report, charts, fail_if::Condition, hgrm::hgrm, html};
use crate::cli::ReportArgs;

/// What was asked for.
#[derive(Debug)]
pub(crate) struct Outputs {
    json: Option<File>,
    hgrm: Option<File>,
    html: Option<File>,
    svg: Option<PathBuf>,
    conditions: Vec<Condition>,
}

impl Outputs {
    /// Makes the files.
    pub(crate) fn create(args: &ReportArgs) -> Result<Self, String> {
        let options = File::options().write(true).create(true).truncate(false).clone();
        let file = |flag: &str, path: &Option<PathBuf>| {
            let create =
                |path: &PathBuf| options.open(path).map_err(|error| named(flag, path, &error));
            path.as_ref().map(create).transpose()
        };
        if let Some(directory) = &args.svg {
            fs::create_dir_all(directory).map_err(|error| named("--svg", directory, &error))?;
        }
        Ok(Self {
            json: file("--json", &args.json)?,
            hgrm: file("--hgrm", &args.hgrm)?,
            html: file("--html", &args.html)?,
            svg: args.svg.clone(),
            conditions: args.fail_if.clone(),
        })
    }

    /// Whether `report`, which knows nothing of the run yet, will have what is asked for; if so, the
    /// files are emptied.
    pub(crate) fn check(&self, report: &Report) -> Result<(), String> {
        if self.hgrm.is_some() && report.main_latency().is_none() {
            return Err(format!("--hgrm: {} measures no latency", report.command));
        }
        let json = report.to_json()?;
        self.conditions.iter().try_for_each(|condition| condition.check(&json))?;
        let files = [("--json", &self.json), ("--hgrm", &self.hgrm), ("--html", &self.html)];
        files.into_iter().try_for_each(|(flag, file)| match file {
            Some(file) => empty(file).map_err(|error| format!("{flag}: {error}")),
            None => Ok(()),
        })
    }

    /// Holds the conditions against `report`.
    pub(crate) fn judge(&self, report: &mut Report) -> Result<(), String> {
        let json = report.to_json()?;
        report.judge(self.conditions.iter().filter_map(|condition| condition.judge(&json)));
        Ok(())
    }

    /// Writes the files.
    pub(crate) fn write(self, report: &Report) -> Result<(), String> {
        if let Some(file) = self.json {
            serde_json::to_writer_pretty(&file, report)
                .map_err(io::Error::from)
                .and_then(|()| writeln!(&file))
                .map_err(|error| format!("--json: {error}"))?;
        }
        if let Some((mut file, latency)) = self.hgrm.zip(report.latency()) {
            file.write_all(hgrm(latency).as_bytes()).map_err(|error| format!("--hgrm: {error}"))?;
        }
        if let Some(mut file) = self.html {
            let page = html::page(report);
            file.write_all(page.as_bytes()).map_err(|error| format!("--html: {error}"))?;
        }
        self.svg.map_or(Ok(()), |directory| write_charts(&directory, report))
    }
}

/// Empties a file; a pipe or a terminal holds nothing.
fn empty(file: &File) -> io::Result<()> {
    match file.metadata()?.is_file() {
        true => file.set_len(0),
        false => Ok(()),
    }
}

fn write_charts(directory: &Path, report: &Report) -> Result<(), String> {
    for chart in charts::of(report) {
        let path = directory.join(format!("{}.svg", chart.name));
        fs::write(&path, chart.file()).map_err(|error| named("--svg", &path, &error))?;
    }
    Ok(())
}

fn named(flag: &str, path: &Path, error: &io::Error) -> String {
    format!("{flag} {}: {error}", path.display())
}
