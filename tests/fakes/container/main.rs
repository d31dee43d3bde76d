//! An emulator of Apple's `container` tool, for tests on Linux: the flags, texts, JSON, streams and exit codes of each
//! release, with real processes in real namespaces behind them. All that it knows is from the project's page of facts
//! about that tool, never from what a driver would like.
//!
//! It only runs where FAKE_CONTAINER_ROOT says which directory is its service's.
#![allow(unreachable_pub, reason = "in a program of its own, pub is what modules show each other")]
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
mod latency;
mod life;
mod logs;
mod model;
mod networks;
mod place;
mod random;
mod rest;
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
        Some("__later") => later(Store::open(root), &args[1..]),
        _ => {}
    }
    tool(Store::open(root), &args)
}

fn empty_call(store: Store) -> Call {
    Call {
        store,
        verb: "",
        parsed: args::Parsed::default(),
        out: Vec::new(),
        err: String::new(),
        code: 0,
        slot: None,
        fault: None,
    }
}

/// A call of the tool.
fn tool(store: Store, argv: &[String]) -> ! {
    let mut call = empty_call(store);
    let version = call.store.version;
    let args: Vec<String> = argv.iter().skip_while(|arg| *arg == "--debug").cloned().collect();
    let result = understand(&mut call, &args);
    let debug = args.len() < argv.len() || call.parsed.has("debug") || std::env::var_os("CONTAINER_DEBUG").is_some();
    texts::DEBUG.store(debug, std::sync::atomic::Ordering::Relaxed);
    if !call.verb.is_empty() && !call.parsed.help && result.is_ok() {
        let ids = calls::ids(call.verb, &call.parsed);
        call.fault = faults::choose(&call.store, call.verb, &ids);
    }
    // Before anybody sees that the call has begun.
    signals::receive(matches!(call.verb, "run" | "start" | "exec"));
    calls::begin(&call.store, argv, call.verb, &call.parsed, call.fault.as_ref());
    let result = result.and_then(|()| match (call.verb, args.first().map(String::as_str)) {
        ("", Some("--version")) => {
            call.line(&system::version_line(version));
            Ok(())
        }
        ("", _) => {
            call.line("OVERVIEW: A container platform for macOS");
            Ok(())
        }
        _ => perform(&mut call),
    });
    call.end(result)
}

/// Reads the arguments; no verb for what is answered without one.
fn understand(call: &mut Call, args: &[String]) -> Result<(), Error> {
    match args.first().map(String::as_str) {
        Some("--version" | "--help" | "-h") | None => Ok(()),
        Some(option) if option.starts_with('-') => {
            Err(Error::Usage(format!("Unknown option '{option}'"), String::new()))
        }
        Some(word) => {
            let Some((verb, rest)) = verbs::find(args, call.store.version) else {
                return Err(unknown(call, word, args.get(1)));
            };
            call.verb = verb.path;
            call.parsed = args::parse(verb, rest, call.store.version)?;
            Ok(())
        }
    }
}

/// The work of a call that was answered before: `__later MILLISECONDS ARGUMENTS…`
fn later(store: Store, args: &[String]) -> ! {
    let millis = args.first().and_then(|millis| millis.parse().ok()).unwrap_or_default();
    std::thread::sleep(std::time::Duration::from_millis(millis));
    let mut call = empty_call(store);
    if understand(&mut call, &args[1..]).is_ok() {
        faults::detach(&mut call);
        drop(work(&mut call));
    }
    std::process::exit(0)
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
    let needs_service = !matches!(call.verb, "system start" | "system status" | "system version");
    if needs_service && call.store.server().state != "running" {
        return Err(texts::connection(call.verb, &calls::ids(call.verb, &call.parsed), "Connection invalid"));
    }
    let late = latency::enter(call);
    let result = faults::strike(call, work);
    match late {
        None => result,
        // The work is done, and nobody was told in time.
        Some(route) => {
            call.out.clear();
            Err(texts::timeout(call.verb, &calls::ids(call.verb, &call.parsed), route))
        }
    }
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
        "image prune" => rest::image_prune(call),
        "volume create" => rest::volume_create(call),
        "volume delete" => rest::volume_delete(call),
        "volume list" => rest::volume_list(call),
        "volume inspect" => rest::volume_inspect(call),
        "volume prune" => rest::volume_prune(call),
        "stats" => rest::stats(call),
        "build" => rest::build(call),
        "builder start" | "builder status" | "builder stop" | "builder delete" => rest::builder(call),
        "copy" => rest::copy(call),
        "export" => rest::export(call),
        "prune" => rest::prune(call),
        _ => Ok(()),
    }
}
