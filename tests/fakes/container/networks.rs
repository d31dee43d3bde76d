//! `network`: the addresses are pretended, the rules about who uses what are not.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::call::Call;
use crate::json::{Form, date, render};
use crate::model::{Address, Config, Network};
use crate::store::{Store, now};
use crate::texts::{Error, Fail, fail, internal, invalid_argument, invalid_state, log_line, not_found, swift_list};
use crate::version::Version;

/// How many addresses of a /24 containers get: without its own, the gateway's and the last one.
const ADDRESSES: u64 = 252;

pub fn builtin() -> Network {
    let role = BTreeMap::from([("com.apple.container.resource.role".to_owned(), "builtin".to_owned())]);
    made("default", "192.168.64".into(), role, true)
}

fn made(name: &str, subnet: String, labels: BTreeMap<String, String>, builtin: bool) -> Network {
    Network {
        name: name.into(),
        created: now(),
        subnet,
        subnet_v6: format!("fd{}:{}:{}", crate::random::hex(1), crate::random::hex(2), crate::random::hex(2)),
        internal: false,
        builtin,
        labels,
        options: BTreeMap::new(),
        plugin: "container-network-vmnet".into(),
        asked: (None, None),
        next: 0,
    }
}

/// Gives a container its addresses. They are its own as long as its state lists them.
pub fn attach(store: &Store, config: &Config) -> Result<Vec<Address>, Fail> {
    let _guard = store.lock();
    let mut addresses = Vec::new();
    for wanted in &config.networks {
        let mut network =
            store.network(&wanted.network).ok_or_else(|| not_found(format!("network {} not found", wanted.network)))?;
        let containers = store.containers();
        let taken: Vec<String> = containers
            .iter()
            .flat_map(|container| &container.state.addresses)
            .filter(|address| address.network == network.name)
            .map(|address| address.ip.clone())
            .collect();
        let free = (0..ADDRESSES)
            .map(|step| (network.next + step) % ADDRESSES)
            .find(|number| !taken.contains(&format!("{}.{}", network.subnet, number + 2)));
        let number = free.ok_or_else(|| fail("invalidState", "no free indices are available for allocation"))?;
        network.next = (number + 1) % ADDRESSES;
        store.write_network(&network);
        let mac = format!("f2:3c:91:{:02x}:{:02x}:{:02x}", number % 7, crate::random::below(256), number + 2);
        addresses.push(Address {
            network: network.name.clone(),
            ip: format!("{}.{}", network.subnet, number + 2),
            prefix: "24".into(),
            gateway: format!("{}.1", network.subnet),
            ipv6: format!("{}::{:x}/64", network.subnet_v6, number + 2),
            mac: wanted.mac.clone().unwrap_or(mac),
            mtu: wanted.mtu.unwrap_or(1280),
        });
    }
    // They are not shown before it runs.
    let mut state = store.state(&config.id);
    state.addresses.clone_from(&addresses);
    store.write_state(&config.id, &state);
    Ok(addresses)
}

/// Containers that name a network, stopped ones included.
fn users(store: &Store, name: &str) -> Vec<String> {
    let named = |config: &Config| config.networks.iter().any(|wanted| wanted.network == name);
    let mut ids: Vec<String> =
        store.containers().into_iter().filter(|found| named(&found.config)).map(|found| found.config.id).collect();
    ids.sort();
    ids
}

fn shape(version: Version, network: &Network) -> Value {
    let mode = if network.internal { "hostOnly" } else { "nat" };
    let v4 = format!("{}.0/24", network.subnet);
    let gateway = format!("{}.1", network.subnet);
    let v6 = format!("{}::/64", network.subnet_v6);
    let status = json!({"ipv4Gateway": gateway, "ipv4Subnet": v4, "ipv6Subnet": v6});
    if !version.is_modern() {
        return json!({
            "id": network.name,
            "state": "running",
            "config": {"id": network.name, "mode": mode, "creationDate": date(network.created, version),
                "labels": network.labels, "pluginInfo": {"plugin": network.plugin, "variant": "reserved"}},
            "status": status,
        });
    }
    let mut configuration = json!({
        "creationDate": date(network.created, version),
        "labels": network.labels,
        "mode": mode,
        "name": network.name,
        "options": network.options,
        "plugin": network.plugin,
    });
    for (key, value) in [("ipv4Subnet", &network.asked.0), ("ipv6Subnet", &network.asked.1)] {
        if let Some(value) = value {
            configuration[key] = Value::from(value.as_str());
        }
    }
    json!({"configuration": configuration, "id": network.name, "status": status})
}

pub fn list(call: &mut Call) -> Result<(), Error> {
    let (networks, version) = (call.store.networks(), call.store.version);
    if call.parsed.value("format") == Some("json") {
        let shapes = networks.iter().map(|network| shape(version, network)).collect();
        let text = render(&Value::Array(shapes), Form::Compact, version);
        call.line(&text);
        return Ok(());
    }
    let quiet = call.parsed.has("quiet");
    if !quiet {
        call.line(if version.is_modern() { "NETWORK  SUBNET" } else { "NETWORK  STATE  SUBNET" });
    }
    for network in networks {
        let state = if version.is_modern() { "" } else { "running  " };
        let row = format!("{}  {state}{}.0/24", network.name, network.subnet);
        call.line(if quiet { &network.name } else { &row });
    }
    Ok(())
}

pub fn inspect(call: &mut Call) -> Result<(), Error> {
    let version = call.store.version;
    let names = call.parsed.arguments.clone();
    let missing = names.iter().find(|name| call.store.network(name).is_none());
    if let Some(name) = missing.filter(|_| version.is_modern()) {
        return Err(not_found(format!("network not found: {name}")).into());
    }
    let found = names.iter().filter_map(|name| call.store.network(name));
    let shapes = found.map(|network| shape(version, &network)).collect();
    let text = render(&Value::Array(shapes), Form::Pretty, version);
    call.line(&text);
    Ok(())
}

/// `^[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?$`
fn is_name(name: &str) -> bool {
    let end = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let bytes = name.as_bytes();
    let middle = |byte: &u8| end(Some(byte)) || b"._-".contains(byte);
    bytes.len() <= 63 && end(bytes.first()) && end(bytes.last()) && bytes.iter().all(middle)
}

/// `k=v`; without `=` the value is empty.
pub fn labels(texts: &[&str]) -> Result<BTreeMap<String, String>, Error> {
    let mut labels = BTreeMap::new();
    for text in texts {
        let mut parts = text.split('=');
        let (key, value) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        if parts.next().is_some() {
            return Err(invalid_argument(format!("invalid label format {text}")).into());
        }
        labels.insert(key.to_owned(), value.to_owned());
    }
    Ok(labels)
}

pub fn create(call: &mut Call) -> Result<(), Error> {
    let name = call.parsed.arguments[0].clone();
    if name == "none" {
        return Err(invalid_argument("network name none is reserved").into());
    }
    if !is_name(&name) {
        return Err(invalid_argument(format!("invalid network name: {name}")).into());
    }
    let labels = labels(&call.parsed.values("label"))?;
    let _guard = call.store.lock();
    if call.store.network(&name).is_some() {
        return Err(fail("exists", format!("network {name} already exists")).into());
    }
    let others = call.store.networks();
    let asked = call.parsed.value("subnet").map(str::to_owned);
    let subnet = match &asked {
        Some(subnet) => {
            let parts: Vec<&str> = subnet.split(['.', '/']).collect();
            if parts.len() != 5 || parts.iter().any(|part| part.parse::<u8>().is_err()) {
                return Err(invalid_argument(format!("invalid subnet {subnet}")).into());
            }
            parts[..3].join(".")
        }
        None => {
            let free = (65..255).map(|third| format!("192.168.{third}"));
            let mut free = free.filter(|subnet| others.iter().all(|other| other.subnet != *subnet));
            free.next().ok_or_else(|| internal("no free subnet"))?
        }
    };
    if let Some(other) = others.iter().find(|other| other.subnet == subnet) {
        let text = format!("IPv4 subnet {subnet}.0/24 overlaps an existing network with subnet {}.0/24", other.subnet);
        return Err(invalid_argument(text).into());
    }
    let mut network = made(&name, subnet, labels, false);
    network.internal = call.parsed.has("internal");
    network.asked = (asked, call.parsed.value("subnet-v6").map(str::to_owned));
    for option in call.parsed.values("option") {
        let (key, value) = option.split_once('=').unwrap_or((option, ""));
        network.options.insert(key.to_owned(), value.to_owned());
    }
    call.store.write_network(&network);
    call.line(&name);
    Ok(())
}

pub fn delete(call: &mut Call) -> Result<(), Error> {
    let version = call.store.version;
    let mut names = call.parsed.arguments.clone();
    let _guard = call.store.lock();
    if call.parsed.has("all") {
        names = call.store.networks().into_iter().filter(|found| !found.builtin).map(|found| found.name).collect();
    } else if names.is_empty() {
        return Err(invalid_argument("no networks specified and --all not supplied").into());
    }
    let missing: Vec<String> = names.iter().filter(|name| call.store.network(name).is_none()).cloned().collect();
    if !missing.is_empty() {
        return Err(not_found(format!("failed to delete one or more networks: {}", swift_list(&missing))).into());
    }
    let mut failed = Vec::new();
    for name in names {
        let network = call.store.network(&name);
        if network.is_some_and(|network| network.builtin) {
            return Err(invalid_argument(format!("cannot delete a builtin network: {name}")).into());
        }
        let users = users(&call.store, &name);
        let pending = call.has_fault("net_pending");
        if users.is_empty() && !call.has_fault("net_referring") && !pending {
            call.store.remove_network(&name);
            call.line(&name);
            continue;
        }
        let text = if pending {
            format!("network {name} has a pending operation")
        } else if version < Version(0, 11, 0) && users.iter().any(|id| is_running(&call.store, id)) {
            format!("cannot delete subnet {name} because the IP allocator cannot be disabled with active containers")
        } else {
            format!("cannot delete subnet {name} with referring containers: {}", users.join(", "))
        };
        let error = invalid_state(text).coded();
        call.err.push_str(&log_line("failed to delete network", &[("id", &name), ("error", &error)]));
        failed.push(name);
    }
    if failed.is_empty() {
        return Ok(());
    }
    Err(internal(format!("delete failed for one or more networks: {}", swift_list(&failed))).into())
}

fn is_running(store: &Store, id: &str) -> bool {
    store.container(id).is_some_and(|container| container.state.running)
}

pub fn prune(call: &mut Call) -> Result<(), Error> {
    let _guard = call.store.lock();
    for network in call.store.networks() {
        if !network.builtin && users(&call.store, &network.name).is_empty() {
            call.store.remove_network(&network.name);
            call.line(&network.name);
        }
    }
    Ok(())
}
