//! The verbs, seen from a terminal or a script: arguments, configuration, one file a verb.
//!
//! | module | what it knows |
//! |---|---|
//! | `args` | every verb and option, as typed |
//! | `usage` | mistakes on the command line |
//! | `complete` | what may come next on a command line |
//! | `config` | the layers of configuration |
//! | `resolve` | from what was typed and configured to a run that can be started |
//! | `engines` | the engines, as the configuration names them |
//! | `session` | stdin, and the caller's terminal |
//! | `output` | stdout: tables, colours, JSON |
//! | `report` | from an error to words and an exit code |
//! | `run`, `exec`, `list`, `inspect`, `logs`, `wait`, `stop` | verbs |
//! | `destroy`, `clean`, `status`, `doctor`, `daemon`, `init` | verbs |

pub(crate) mod args;
mod clean;
mod complete;
pub mod config;
mod daemon;
mod destroy;
mod doctor;
mod engines;
mod exec;
#[cfg(target_os = "linux")]
mod init;
mod inspect;
mod list;
mod logs;
mod output;
mod report;
mod resolve;
mod run;
mod session;
mod status;
mod stop;
mod usage;
mod wait;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use crate::base::error::Result;
use crate::base::log;
use crate::base::paths::Paths;
use crate::run::store::Store;
#[cfg(target_os = "linux")]
use crate::runtime::native::BUILDER;
use crate::sys::process::effective_ids;
use args::{Cli, Verb};

/// The exit code for wrong usage; `run`, `exec` and `init` use 125 for all that is not the command's own.
const USAGE: u8 = 2;
const RUN_FAULT: u8 = 125;

/// Runs the program with this process's arguments.
pub fn main() -> ExitCode {
    ExitCode::from(dispatch(std::env::args_os().collect()))
}

fn dispatch(argv: Vec<OsString>) -> u8 {
    crate::sys::signal::settle();
    // How a runtime starts this program as the init of its place: not for users, and without a parser's delay.
    #[cfg(target_os = "linux")]
    if let [_, verb, option, socket] = &argv[..] {
        if verb == "init" && option == "--channel" {
            return init::for_an_owner(socket);
        }
    }
    #[cfg(target_os = "linux")]
    if argv.iter().skip(1).eq(BUILDER) {
        return init::in_a_place();
    }
    if argv.get(1).is_some_and(|word| word == complete::VERB) {
        return complete::complete(&argv[2..]);
    }
    let argv = as_options(argv);
    let ends_as_a_command = argv.get(1).is_some_and(|verb| ["run", "exec", "init"].iter().any(|name| verb == name));
    let usage = if ends_as_a_command { RUN_FAULT } else { USAGE };
    let cli = match Cli::try_parse_from(&argv) {
        Ok(cli) => cli,
        Err(error) => return said_by_clap(&error, argv.get(1..).unwrap_or_default(), usage),
    };
    let result = match cli.verb {
        Verb::Run(args) => run::run(*args),
        Verb::Exec(args) => exec::exec(&args),
        Verb::List(args) => list::list(&args),
        Verb::Inspect(args) => inspect::inspect(&args),
        Verb::Logs(args) => logs::logs(&args),
        Verb::Wait(args) => wait::wait(&args),
        Verb::Stop(args) => stop::stop(&args),
        Verb::Destroy(args) => destroy::destroy(&args),
        Verb::Clean(args) => clean::clean(&args),
        Verb::Status(args) => status::status(&args),
        Verb::Doctor(args) => doctor::doctor(&args),
        Verb::Daemon(args) => daemon::daemon(&args),
        #[cfg(target_os = "linux")]
        Verb::Init(args) => init::init(args),
    };
    result.unwrap_or_else(|error| report::code_of(&error, usage))
}

/// Help and version go to stdout with 0; a mistake is one line and a hint.
fn said_by_clap(error: &clap::Error, args: &[OsString], usage: u8) -> u8 {
    if !matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        let mut program = command();
        // Built: `--help` is among the options then.
        program.build();
        log::error(&usage::explain(error, &program, args));
        return usage;
    }
    let mut out = output::Out::stdout();
    match out.text(&error.render().to_string()).and_then(|()| out.finish()) {
        Ok(()) => 0,
        Err(error) => report::code_of(&error.into(), usage),
    }
}

/// `fosse help VERB` is `fosse VERB --help`, and `fosse version` is `fosse --version`. Nothing else of what was typed
/// is kept: it could be a command.
fn as_options(argv: Vec<OsString>) -> Vec<OsString> {
    let is = |at: usize, word: &str| argv.get(at).is_some_and(|arg| arg == word);
    let (at, of) = if is(1, "daemon") { (2, &argv[..2]) } else { (1, &argv[..argv.len().min(1)]) };
    if is(1, "version") {
        return [of, &["--version".into()]].concat();
    }
    if !is(at, "help") {
        return argv;
    }
    let (program, words) = (command(), [&of[1..], &argv[at + 1..]].concat());
    let words: Vec<OsString> = words.into_iter().filter(|word| word != "help" && word != "version").collect();
    let asked = usage::asked(&program, &words);
    // A word that is no verb is the parser's to complain about.
    let kept = if asked.parser.has_subcommands() { words.len().min(asked.depth + 1) } else { asked.depth };
    [&argv[..1], &words[..kept], &["--help".into()]].concat()
}

/// The runs of this user, as the environment says.
fn store() -> Result<Store> {
    let (uid, _) = effective_ids();
    Ok(Store { paths: Paths::resolve(uid)?, uid })
}

/// The command line as clap knows it, for what documents it.
pub fn command() -> clap::Command {
    <Cli as clap::CommandFactory>::command()
}
