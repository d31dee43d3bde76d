//! How long the service takes, how many calls it serves at a time, and which answers come too late.
//!
//! `latency.json`: milliseconds by verb, `per_container` for those that list everything, `jitter`, `teardown`,
//! `exec_teardown`, `serial` (one call at a time) or `slots`, and `timeouts` by route, which replace those of the tool.

use std::time::{Duration, Instant};

use fosse::sys::lock;
use serde_json::Value;

use crate::call::Call;
use crate::store;

/// The route of a verb, and after how many milliseconds the tool gives up on it. Others wait for ever.
fn route(verb: &str) -> Option<(&'static str, u64)> {
    Some(match verb {
        "list" | "inspect" | "stats" | "prune" => ("containerList", 10_000),
        "create" => ("containerCreate", 60_000),
        "network list" | "network inspect" => ("networkList", 1000),
        "network create" => ("networkCreate", 60_000),
        "network delete" => ("networkDelete", 60_000),
        "copy" => ("containerCopy", 300_000),
        "system status" => ("ping", 10_000),
        _ => return None,
    })
}

/// The route of a verb for messages, also of one that has no limit.
pub fn route_name(verb: &str) -> String {
    let named = |(first, rest): (char, &str)| format!("container{}{rest}", first.to_ascii_uppercase());
    let split = verb.chars().next().map(|first| (first, &verb[first.len_utf8()..]));
    route(verb).map_or_else(|| split.map(named).unwrap_or_default(), |(name, _)| name.to_owned())
}

/// Waits for a place in the service, and for as long as its work takes; the route whose answer will be too late.
pub fn enter(call: &mut Call) -> Option<&'static str> {
    let began = Instant::now();
    // Somebody may hold up everything (a hung operation of #1884).
    let wedge = store::open(&call.store.root.join("wedge.lock"));
    let mut queued = !lock::try_shared(&wedge).unwrap_or(false);
    if queued {
        lock::wait_shared(&wedge).unwrap_or_else(|error| crate::give_up(&format!("wedge: {error}")));
    }
    drop(wedge);
    let settings = call.store.settings("latency.json");
    let number = |value: &Value| value.as_u64().unwrap_or_default();
    let slots = if settings["serial"] == true { 1 } else { number(&settings["slots"]) };
    if slots > 0 {
        call.slot = Some(place(call, slots));
        queued = true;
    }
    // Only what was meant to take time counts, and not how busy the machine is.
    let waited = if queued { began.elapsed() } else { Duration::ZERO };
    let mut millis = number(&settings[call.verb]);
    if matches!(call.verb, "list" | "inspect") {
        millis += number(&settings["per_container"]) * u64::try_from(call.store.containers().len()).unwrap_or(0);
    }
    if number(&settings["jitter"]) > 0 {
        millis += crate::random::below(number(&settings["jitter"]) + 1);
    }
    std::thread::sleep(Duration::from_millis(millis));
    let (name, limit) = route(call.verb)?;
    let limit = settings["timeouts"][name].as_u64().unwrap_or(limit);
    (waited + Duration::from_millis(millis) > Duration::from_millis(limit)).then_some(name)
}

/// One of so many places: the first that is free.
fn place(call: &Call, slots: u64) -> std::fs::File {
    let files: Vec<_> =
        (0..slots).map(|slot| store::open(&call.store.root.join(format!("slot-{slot}.lock")))).collect();
    loop {
        for file in &files {
            if lock::try_exclusive(file).unwrap_or(false) {
                return file.try_clone().unwrap_or_else(|error| crate::give_up(&format!("slot: {error}")));
            }
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}
