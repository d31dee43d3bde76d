//! An emulator of Apple's `container` tool, for tests on Linux: the flags, texts, JSON, streams and exit codes of each
//! release, with real processes in real namespaces behind them. All that it knows is from the project's page of facts
//! about that tool, never from what a driver would like.
//!
//! It only runs where FAKE_CONTAINER_ROOT says which directory is its service's.
#![allow(clippy::disallowed_methods, reason = "it is no part of the product: it starts programs and waits")]

mod args;
mod attached;
mod boot;
mod call;
mod calls;
mod create;
mod execs;
mod faults;
mod images;
mod json;
mod life;
mod logs;
mod model;
mod networks;
mod place;
mod random;
mod shapes;
mod signals;
mod store;
mod supervisor;
mod system;
mod texts;
mod tiny;
mod verbs;
mod version;
mod wire;

use std::io::Write;
use std::path::PathBuf;

use call::Call;
use store::Store;
use texts::Error;

/// Ends with a text, where the emulator itself cannot go on.
pub fn give_up(text: &str) -> ! {
    warn(&format!("fake container: {text}"));
    std::process::exit(70)
}

/// Writes a line to stderr, if anybody listens.
pub fn warn(text: &str) {
    std::io::stderr().write_all(format!("{text}\n").as_bytes()).unwrap_or_default();
}

fn main() {
    let args: Vec<String> = std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect();
    if args.first().is_some_and(|arg| arg == "__init") {
        tiny::main(&args[1..]);
    }
    let Some(root) = std::env::var_os("FAKE_CONTAINER_ROOT").filter(|root| !root.is_empty()) else {
        give_up("FAKE_CONTAINER_ROOT is not set")
    };
    let root = PathBuf::from(root);
    match args.first().map(String::as_str) {
        Some("__supervise") => supervisor::main(root, &args[1]),
        Some("__boot") => boot::main(root),
        _ => {}
    }
    tool(Store::open(root), &args)
}

/// A call of the tool.
fn tool(store: Store, args: &[String]) -> ! {
    let mut call = Call {
        store,
        verb: "",
        parsed: args::Parsed::default(),
        out: Vec::new(),
        err: String::new(),
        code: 0,
        slot: None,
        fault: None,
    };
    let version = call.store.version;
    let args: Vec<String> = args.iter().skip_while(|arg| *arg == "--debug").cloned().collect();
    match args.first().map(String::as_str) {
        Some("--version") => call.line(&system::version_line(version)),
        Some("--help" | "-h") | None => call.line("OVERVIEW: A container platform for macOS"),
        Some(option) if option.starts_with('-') => {
            call.end(Err(Error::Usage(format!("Unknown option '{option}'"), String::new())))
        }
        Some(word) => {
            let result = match verbs::find(&args, version) {
                None => Err(unknown(&call, word, args.get(1))),
                Some((verb, rest)) => {
                    call.verb = verb.path;
                    args::parse(verb, rest, version).and_then(|parsed| {
                        call.parsed = parsed;
                        perform(&mut call)
                    })
                }
            };
            call.end(result)
        }
    }
    call.end(Ok(()))
}

/// What is said about a verb that there is not.
fn unknown(call: &Call, word: &str, next: Option<&String>) -> Error {
    if let Some((noun, _)) = verbs::NOUNS.iter().find(|(name, alias)| word == *name || word == *alias) {
        return match next {
            Some(next) => Error::Usage(format!("Unexpected argument '{next}'"), (*noun).to_owned()),
            None => Error::Usage("Missing expected subcommand".into(), (*noun).to_owned()),
        };
    }
    if call.store.server().state != "running" {
        let text = "Plugins are unavailable. Start the container system services and retry:";
        return Error::Raw(vec![format!("Error: {text}"), String::new(), "    container system start".into()], 64);
    }
    let lines = [
        format!("Error: Plugin 'container-{word}' not found."),
        String::new(),
        "- If you intended to use a plugin, check that it is installed.".into(),
        "  See 'container --help' for the commands that exist.".into(),
    ];
    Error::Raw(lines.to_vec(), 64)
}

fn perform(call: &mut Call) -> Result<(), Error> {
    if call.parsed.help {
        let usage = verbs::usage(call.verb);
        call.line(&format!("USAGE: container {} {usage}", call.verb));
        return Ok(());
    }
    let attached = matches!(call.verb, "run" | "start" | "exec");
    signals::receive(attached);
    let needs_service = !matches!(call.verb, "system start" | "system status" | "system version");
    if needs_service && call.store.server().state != "running" {
        return Err(texts::connection(call.verb, &call.parsed.arguments, "Connection invalid"));
    }
    work(call)
}

fn work(call: &mut Call) -> Result<(), Error> {
    match call.verb {
        "run" => life::run(call),
        "create" => create::create(call),
        "start" => life::start(call),
        "stop" => life::stop(call),
        "kill" => life::kill(call),
        "delete" => life::delete(call),
        "list" => life::list(call),
        "inspect" => life::inspect(call),
        "exec" => life::exec(call),
        "logs" => logs::logs(call),
        "image pull" => images::pull(call),
        "image list" => images::list(call),
        "image inspect" => images::inspect(call),
        "image tag" => images::tag(call),
        "image delete" => images::delete(call),
        "network create" => networks::create(call),
        "network delete" => networks::delete(call),
        "network list" => networks::list(call),
        "network inspect" => networks::inspect(call),
        "network prune" => networks::prune(call),
        "system start" => system::start(call),
        "system stop" => system::stop(call),
        "system status" => system::status(call),
        "system version" => system::version(call),
        "system logs" => system::logs(call),
        "system df" => system::df(call),
        _ => Ok(()),
    }
}
