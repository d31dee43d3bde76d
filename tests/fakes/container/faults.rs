//! Faults: `faults.json` is a list of rules `{"verb", "match", "after", "times", "p", "do", …}`, of which the first that
//! fits strikes a call.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::call::Call;
use crate::store::{self, Store};
use crate::texts::{self, Error, fail, internal};

/// Whether a text is what a pattern with `*` describes.
fn fits(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((head, rest)) => text.strip_prefix(head).is_some_and(|text| {
            let starts = text.char_indices().map(|(at, _)| at).chain([text.len()]);
            starts.into_iter().any(|at| fits(rest, &text[at..]))
        }),
    }
}

/// The rule that strikes a call, counted.
pub fn choose(store: &Store, verb: &str, ids: &[String]) -> Option<Value> {
    let rules = store.settings("faults.json");
    let rules = rules.as_array()?;
    let _guard = store::take(&store.root.join("faults.lock"));
    let path = store.root.join("faults-seen.json");
    let mut seen: Map<String, Value> = store::read(&path).unwrap_or_default();
    let mut chosen = None;
    for rule in rules {
        let pattern = rule["match"].as_str().unwrap_or("*");
        let is_verb = rule["verb"].as_str().is_none_or(|wanted| fits(wanted, verb));
        if !is_verb || !(pattern == "*" || ids.iter().any(|id| fits(pattern, id))) {
            continue;
        }
        let key = rule.to_string();
        let counts = seen.entry(key).or_insert_with(|| json!({"met": 0, "struck": 0}));
        let (met, struck) = (counts["met"].as_i64().unwrap_or(0), counts["struck"].as_i64().unwrap_or(0));
        counts["met"] = (met + 1).into();
        let times = rule["times"].as_i64().unwrap_or(-1);
        let is_due = met >= rule["after"].as_i64().unwrap_or(0) && (times < 0 || struck < times);
        let share = rule["p"].as_f64().unwrap_or(1.0);
        if is_due && dice(rule, met) < share {
            counts["struck"] = (struck + 1).into();
            chosen = Some(rule.clone());
            break;
        }
    }
    store::write(&path, &seen);
    chosen
}

/// A number from 0 to 1, which is the same for the same origin and count.
fn dice(rule: &Value, met: i64) -> f64 {
    let number = match rule["origin"].as_u64() {
        None => crate::random::below(1 << 20),
        Some(origin) => {
            let mut state = origin ^ u64::try_from(met).unwrap_or_default().wrapping_mul(0x9e37_79b9_7f4a_7c15);
            for _ in 0..3 {
                state = (state ^ (state >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            }
            (state >> 32) % (1 << 20)
        }
    };
    f64::from(u32::try_from(number).unwrap_or_default()) / f64::from(1 << 20)
}

/// Strikes a call in place of its work, or lets it be.
pub fn strike(call: &mut Call, work: fn(&mut Call) -> Result<(), Error>) -> Result<(), Error> {
    let Some(rule) = call.fault.clone() else { return work(call) };
    let ids = crate::calls::ids(call.verb, &call.parsed);
    let millis = |name: &str| Duration::from_millis(rule[name].as_u64().unwrap_or_default());
    let raw = |text: &str| Error::Raw(text.lines().map(str::to_owned).collect(), 1);
    match rule["do"].as_str().unwrap_or_default() {
        "xpc_invalid" => {
            effect(call, &rule, work);
            Err(texts::connection(call.verb, &ids, "Connection invalid"))
        }
        "xpc_interrupted" => {
            effect(call, &rule, work);
            Err(texts::connection(call.verb, &ids, "Connection interrupted"))
        }
        "xpc_timeout" => {
            effect(call, &rule, work);
            std::thread::sleep(millis("delay_ms"));
            Err(texts::timeout(call.verb, &ids, &crate::latency::route_name(call.verb)))
        }
        "hang" => {
            effect(call, &rule, work);
            hang(call)
        }
        "exit" => {
            effect(call, &rule, work);
            call.out = rule["stdout"].as_str().unwrap_or_default().as_bytes().to_vec();
            let lines = rule["text"].as_str().unwrap_or_default().lines().map(str::to_owned).collect();
            let code = rule["code"].as_i64().and_then(|code| i32::try_from(code).ok()).unwrap_or(1);
            Err(Error::Raw(lines, code))
        }
        "missing_empty" | "ls_empty" => {
            call.line("[]");
            Ok(())
        }
        "not_found" => {
            // Another service, which has nothing.
            let root = call.store.root.join("void");
            call.store = Store { version: call.store.version, ..Store::open(root) };
            work(call)
        }
        "noise" => {
            call.err.push_str(rule["text"].as_str().unwrap_or("Warning! Something is odd.\n[1/6] Noise [0s]\n"));
            call.out.extend_from_slice(rule["stdout"].as_str().unwrap_or_default().as_bytes());
            work(call)
        }
        "server_crash" => {
            crash(call, millis("restart_ms"));
            Err(texts::connection(call.verb, &ids, "Connection interrupted"))
        }
        "runtime_crash" => {
            ids.iter().for_each(|id| kill_runtime(call, id, rule["ghost"] == true));
            work(call)
        }
        "net_limit" if too_many_networks(call, &rule) => match rule["mode"].as_str() {
            Some("hang") => hang(call),
            _ => Err(internal("failed to create vmnet network with status vmnet_return_t(rawValue: 1001)").into()),
        },
        "ip_exhausted" => Err(fail("invalidState", "no free indices are available for allocation").into()),
        "port_in_use" => Err(internal("bind(descriptor:ptr:bytes:): Address already in use (errno: 48)").into()),
        "no_kernel" => Err(texts::not_found(
            "default kernel not configured for architecture arm64, please use the `container system kernel set` \
             command to configure it",
        )
        .into()),
        "image_not_found" => {
            let name = call.parsed.arguments.first().cloned().unwrap_or_default();
            Err(texts::not_found(format!("image not found: {}", crate::images::full_name(&name))).into())
        }
        "pull_slow" => {
            std::thread::sleep(millis("delay_ms"));
            work(call)
        }
        "pull_fail" => Err(raw(rule["text"].as_str().unwrap_or("Error: internalError: \"failed to pull image\""))),
        // The others are asked for where they strike.
        _ => {
            let result = work(call);
            if result.is_ok() {
                damage(call, &rule);
            }
            result
        }
    }
}

/// Whether the service does the work of a call that it does not answer well: before the answer, after it, or never.
fn effect(call: &mut Call, rule: &Value, work: fn(&mut Call) -> Result<(), Error>) {
    match rule["effect"].as_str() {
        Some("before") => {
            detach(call);
            drop(work(call));
            call.out.clear();
            call.err.clear();
            call.code = 0;
        }
        Some("after") => {
            use std::process::{Command, Stdio};
            let mut command = Command::new("/proc/self/exe");
            command.args(["__later", &rule["after_ms"].as_u64().unwrap_or(100).to_string()]);
            command.args(std::env::args_os().skip(1));
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            fosse::sys::process::detach(&mut command);
            command.spawn().and_then(|mut child| child.wait()).map(drop).unwrap_or_default();
        }
        _ => {}
    }
}

/// Nobody stays with a process whose start was not answered.
pub fn detach(call: &mut Call) {
    call.parsed.options.retain(|(name, _)| !["attach", "interactive"].contains(&name.as_str()));
    if matches!(call.verb, "run" | "exec") {
        call.parsed.options.push(("detach".into(), String::new()));
    }
}

/// Says nothing, and never ends by itself.
pub fn hang(call: &Call) -> ! {
    let rule = call.fault.clone().unwrap_or_default();
    if rule["ignore_term"] == true {
        crate::signals::handle(|_| {});
    }
    let wedge = (rule["hold_lock"] == true).then(|| store::take(&call.store.root.join("wedge.lock")));
    loop {
        std::thread::park();
        std::hint::black_box(&wedge);
    }
}

fn crash(call: &Call, restart: Duration) {
    let _guard = call.store.lock();
    let mut server = call.store.server();
    server.state = "unregistered".into();
    server.restart_at = Some(store::now() + u64::try_from(restart.as_micros()).unwrap_or_default());
    call.store.write_server(&server);
}

/// Kills the helper of a container, and its machine with it.
fn kill_runtime(call: &Call, id: &str, ghost: bool) {
    use fosse::sys::process::{Pid, PidHandle};
    let state = call.store.state(id);
    if let Some(Ok(handle)) = state.supervisor.and_then(Pid::new).map(PidHandle::open) {
        if call.store.is_supervised(id, &state) {
            handle.signal(fosse::sys::signal::Signal::KILL).unwrap_or_default();
            while call.store.is_supervised(id, &state) {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
    if ghost {
        let _guard = call.store.lock();
        call.store.write_state(id, &crate::model::State { ghost: true, ..state });
    }
}

fn too_many_networks(call: &Call, rule: &Value) -> bool {
    let most = rule["n"].as_u64().unwrap_or(32);
    u64::try_from(call.store.networks().len()).unwrap_or_default() > most
}

/// What is wrong with the answer of a call that succeeded.
fn damage(call: &mut Call, rule: &Value) {
    let kind = rule["do"].as_str().unwrap_or_default();
    match kind {
        "garbage" => call.out = b"\x1b[?25h\xff\xfe not json {\"configuration\n".to_vec(),
        "truncated" => call.out.truncate(call.out.len() / 2),
        "empty" => call.out.clear(),
        "wrong_shape" => call.out = b"{\"containers\":{\"unexpected\":[1,2]}}\n".to_vec(),
        "state" | "null_fields" | "extra_fields" => {
            let Ok(mut value) = serde_json::from_slice::<Value>(&call.out) else { return };
            let state = rule["state"].as_str().unwrap_or("unknown");
            for item in value.as_array_mut().into_iter().flatten() {
                match kind {
                    "state" => force_state(item, state),
                    "null_fields" => nullify(item),
                    _ => extend(item),
                }
            }
            let text = crate::json::render(&value, crate::json::Form::Compact, call.store.version);
            call.out.clear();
            call.line(&text);
        }
        _ => {}
    }
}

fn force_state(item: &mut Value, state: &str) {
    if item["status"].is_object() {
        item["status"]["state"] = state.into();
    } else {
        item["status"] = state.into();
    }
}

/// Everything that is not what a container is called by.
fn nullify(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.iter_mut()
                .filter(|(key, _)| !["id", "state", "configuration", "status"].contains(&key.as_str()))
                .for_each(|(_, item)| *item = Value::Null);
            map.values_mut().for_each(nullify);
        }
        Value::Array(items) => items.iter_mut().for_each(nullify),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Fields of a release that nobody knows yet.
fn extend(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.values_mut().for_each(extend);
            map.insert("futureField".into(), json!({"nested": [1, "two", null]}));
        }
        Value::Array(items) => items.iter_mut().for_each(extend),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Whether an attached client loses the exit code that it has learned.
pub fn lose_exit(call: &mut Call) -> Result<(), Error> {
    if call.has_fault("exit_lost") {
        if call.fault.as_ref().is_some_and(|rule| rule["mode"] == "timeout") {
            return Err(fail("timeout", "timed out waiting for process output to end").into());
        }
        call.code = 255;
    }
    Ok(())
}
