//! The command line and the environment as they were given: raw texts, read in `resolve`.
//!
//! Values stay texts here, so that every mistake in them can be reported at once and not only the
//! first. The flags are those of `definitions`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{
    Arg, ArgAction, ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand,
    builder::FalseyValueParser,
};

use super::Origin;
use super::definitions::{Definition, Kind, Table, flags};
use super::given::{Given, GivenValue, Layer};

const UNITS: &str = "\
Sizes:  4096, 64KiB, 512K, 1MiB (steps of 1024); 10MB (steps of 1000)
Times:  250ms, 10s, 5m, 2h, 1d; a plain number is seconds
Counts: 4096, 1_000_000
Every flag can stand in the environment as TIDEGATE_ and its name. The command line goes before the
environment, and that before the file of --config.

Exit codes: 0 stopped cleanly, 1 failed while running (cannot bind), 2 mistakes in flags or file,
            3 second signal, 4 drain timeout ran out with connections left";

/// The subcommand that takes all flags that serving does.
const SHOW: &str = "config";

/// Arguments and environment, with where each value came from.
///
/// Made by [`clap::Parser::parse`] and its kin.
#[derive(Clone, Debug)]
pub struct Cli {
    /// What to do; `None` is to serve.
    pub command: Option<Command>,
    given: Layer,
}

/// What to do other than serve.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Say which limit of this machine is in the way of the wanted connections, and what lifts it
    ///
    /// Nothing is changed. The exit code is 1 if something is in the way, else 0.
    Check(CheckArgs),
    /// Print the configuration in force, and where each value came from
    ///
    /// It takes the flags that serving takes. What it prints can be given back by --config.
    Config(ConfigArgs),
    /// Make an authority of your own and a certificate by it, to try TLS out
    ///
    /// It writes ca.pem, cert.pem and key.pem. Clients that trust ca.pem can connect; nothing else is
    /// to be trusted by it, for its key is thrown away.
    DevCert(DevCertArgs),
}

/// Flags of `tidegate check` alone.
#[derive(Clone, Debug, Args)]
pub struct CheckArgs {
    /// How the findings are written [text or json; default: text]
    #[arg(
        long,
        env = "TIDEGATE_FORMAT",
        value_name = "FORMAT",
        value_enum,
        default_value = "text",
        hide_default_value = true,
        hide_possible_values = true
    )]
    pub format: OutputFormat,
}

/// Flags of `tidegate config` alone.
#[derive(Clone, Debug, Args)]
pub struct ConfigArgs {
    /// How it is written [toml or json; default: toml]
    #[arg(
        long,
        value_name = "FORMAT",
        value_enum,
        default_value = "toml",
        hide_default_value = true,
        hide_possible_values = true
    )]
    pub format: ConfigFormat,
    /// Print docs/CONFIGURATION.md instead, which says what a file may hold
    #[arg(long)]
    pub docs: bool,
}

/// Flags of `tidegate dev-cert`.
#[derive(Clone, Debug, Args)]
pub struct DevCertArgs {
    /// Where to write them; made if need be
    #[arg(long, value_name = "FOLDER", default_value = "certs")]
    pub out: PathBuf,
    /// A name or address that the certificate is for; can be given several times
    #[arg(long, value_name = "NAME", default_values = ["localhost", "127.0.0.1", "::1"])]
    pub name: Vec<String>,
}

/// A way to write for people or for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum OutputFormat {
    /// Lines for people.
    Text,
    /// JSON.
    Json,
}

/// A way to write a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ConfigFormat {
    /// As a file of `--config`, with comments.
    Toml,
    /// JSON, each value beside its origin.
    Json,
}

impl Cli {
    /// Where a flag's value came from, of the command line and the environment; the flag as it is
    /// typed, such as `--loops`.
    #[must_use]
    pub fn origin(&self, flag: &str) -> Origin {
        self.given.get(flag).map_or(Origin::Default, |given| given.origin)
    }

    /// A flag's values as given on the command line or in the environment; none if it was not.
    #[must_use]
    pub fn values(&self, flag: &str) -> Vec<&str> {
        let given = self.given.get(flag).map_or(&[][..], |given| &given.values);
        given.iter().map(|value| value.text.as_str()).collect()
    }

    /// All that was given.
    pub(crate) fn layer(&self) -> &Layer {
        &self.given
    }
}

impl CommandFactory for Cli {
    fn command() -> clap::Command {
        with_flags(Arguments::command())
    }

    fn command_for_update() -> clap::Command {
        with_flags(Arguments::command_for_update())
    }
}

impl FromArgMatches for Cli {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let Arguments { command } = Arguments::from_arg_matches(matches)?;
        let all = [matches.subcommand_matches(SHOW), Some(matches)];
        let all: Vec<_> = all.into_iter().flatten().collect();
        let given = flags().filter_map(|flag| Some((flag.flag(), given(&all, flag)?)));
        Ok(Self { command, given: given.collect::<BTreeMap<_, _>>() })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Parser for Cli {}

/// A WebSocket edge gateway: a million client connections on a small machine
///
/// Without arguments it serves on 0.0.0.0:8080: `/echo` sends every message back, `/ws` speaks
/// JSON with rooms, `/healthz` answers 200.
#[derive(Parser)]
#[command(name = "tidegate", version, after_help = UNITS)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

fn with_flags(command: clap::Command) -> clap::Command {
    let serving_alone = flags().filter(|flag| !flag.is_for_check()).map(arg);
    command.args(flags().map(arg)).mut_subcommand(SHOW, |show| show.args(serving_alone))
}

fn arg(flag: &Definition) -> Arg {
    let arg = Arg::new(flag.key)
        .long(flag.key.replace('_', "-"))
        .env(flag.variable())
        .global(flag.is_for_check())
        .help(help(flag));
    let arg = if flag.detail.is_empty() {
        arg
    } else {
        arg.long_help(format!("{}\n\n{}", help(flag), flag.detail))
    };
    let arg = match (flag.table, flag.key) {
        (Table::FlagOnly, "config") => arg,
        _ => arg.help_heading(flag.table.heading()),
    };
    match (flag.kind, flag.key) {
        (_, "verbose") => arg.short('v').action(ArgAction::Count),
        (_, "quiet") => {
            arg.short('q').action(ArgAction::SetTrue).value_parser(FalseyValueParser::new())
        }
        (Kind::Address | Kind::Files | Kind::Texts, _) => {
            with_value(arg, flag).action(ArgAction::Append).value_delimiter(',')
        }
        _ => with_value(arg, flag).action(ArgAction::Set),
    }
}

fn with_value(arg: Arg, flag: &Definition) -> Arg {
    arg.value_name(flag.kind.placeholder()).allow_negative_numbers(true)
}

fn help(flag: &Definition) -> String {
    let Definition { summary, values, default, .. } = flag;
    let values = if values.is_empty() { String::new() } else { format!("{values}; ") };
    format!("{summary} [{values}default: {default}]")
}

/// A flag's values, from the command line where it has them, else from the environment.
fn given(all: &[&ArgMatches], flag: &Definition) -> Option<Given> {
    let from = |source: ValueSource, origin: Origin| {
        let matches = all.iter().find(|matches| matches.value_source(flag.key) == Some(source))?;
        let texts = texts(matches, flag).into_iter();
        let texts: Vec<_> = match origin {
            // A variable set to nothing is how many tools leave one out.
            Origin::Environment => texts.filter(|text| !text.is_empty()).collect(),
            _ => texts.collect(),
        };
        let values: Vec<_> =
            texts.into_iter().map(|text| GivenValue { text, place: None }).collect();
        (!values.is_empty()).then_some(Given { values, origin })
    };
    from(ValueSource::CommandLine, Origin::CommandLine)
        .or_else(|| from(ValueSource::EnvVariable, Origin::Environment))
}

fn texts(matches: &ArgMatches, flag: &Definition) -> Vec<String> {
    match flag.key {
        "verbose" => vec![matches.get_count(flag.key).to_string()],
        "quiet" => vec![matches.get_flag(flag.key).to_string()],
        _ => {
            let texts = matches.get_many::<String>(flag.key).unwrap_or_default();
            texts.map(|text| text.trim().to_owned()).collect()
        }
    }
}
