//! A container as JSON, in the shape of each release.

use serde_json::{Map, Value, json};

use crate::json::date;
use crate::model::{Address, Config, MountKind, User};
use crate::store::Container;
use crate::version::Version;

pub fn container(version: Version, container: &Container) -> Value {
    let (config, state) = (&container.config, &container.state);
    let networks: Vec<Value> = match state.running {
        true => state.addresses.iter().map(|found| address(version, found, &config.id)).collect(),
        false => Vec::new(),
    };
    let word = if state.running { "running" } else { "stopped" };
    let started = state.started.map(|micros| date(micros, version));
    let mut status = Map::new();
    status.insert("networks".into(), Value::Array(networks));
    if let Some(started) = started {
        status.insert("startedDate".into(), started);
    }
    if version.is_modern() {
        status.insert("state".into(), word.into());
        return json!({"configuration": configuration(version, config), "id": config.id, "status": status});
    }
    status.insert("status".into(), word.into());
    status.insert("configuration".into(), configuration(version, config));
    Value::Object(status)
}

fn address(version: Version, address: &Address, id: &str) -> Value {
    let mut shape = json!({
        "hostname": id,
        "ipv4Address": format!("{}/{}", address.ip, address.prefix),
        "ipv4Gateway": address.gateway,
        "network": address.network,
    });
    if version >= Version(0, 12, 0) {
        shape["ipv6Address"] = address.ipv6.as_str().into();
        shape["macAddress"] = address.mac.as_str().into();
    }
    if version.is_modern() {
        shape["mtu"] = address.mtu.into();
    }
    if version >= Version(1, 1, 0) {
        shape["variant"] = "reserved".into();
    }
    shape
}

fn configuration(version: Version, config: &Config) -> Value {
    let user = match &config.user {
        User::Id(uid, gid) => json!({"id": {"gid": gid, "uid": uid}}),
        User::Raw(text) => json!({"raw": {"userString": text}}),
    };
    let rlimits: Vec<Value> = config
        .rlimits
        .iter()
        .map(|(kind, soft, hard)| json!({"limit": format!("RLIMIT_{}", kind.to_uppercase()), "soft": soft, "hard": hard}))
        .collect();
    let mut process = json!({
        "arguments": config.arguments,
        "environment": config.environment,
        "executable": config.executable,
        "supplementalGroups": [],
        "terminal": config.terminal,
        "user": user,
        "workingDirectory": config.cwd,
    });
    if version >= Version(0, 9, 0) {
        process["rlimits"] = rlimits.into();
    }
    let mut resources = json!({"cpus": config.cpus, "memoryInBytes": config.memory});
    let mut shape = json!({
        "dns": dns(config),
        "id": config.id,
        "image": {"descriptor": {"digest": config.digest,
            "mediaType": "application/vnd.oci.image.index.v1+json", "size": config.size}, "reference": config.image},
        "initProcess": process,
        "labels": config.labels,
        "mounts": mounts(config),
        "networks": networks(config),
        "platform": platform(config),
        "publishedPorts": config.ports.iter().map(|port| json!({
            "containerPort": port.container, "count": port.count, "hostAddress": port.address,
            "hostPort": port.host, "proto": port.proto,
        })).collect::<Vec<_>>(),
        "publishedSockets": config.sockets.iter().map(|(host, inside)| json!({
            "hostPath": host, "containerPath": inside,
        })).collect::<Vec<_>>(),
        "readOnly": config.read_only,
        "rosetta": config.rosetta,
        "ssh": config.ssh,
        "sysctls": {},
        "virtualization": config.virtualization,
        "runtimeHandler": config.runtime,
    });
    if version >= Version(0, 10, 0) {
        shape["useInit"] = config.init.into();
    }
    if version >= Version(0, 12, 0) {
        shape["capAdd"] = config.cap_add.clone().into();
        shape["capDrop"] = config.cap_drop.clone().into();
    }
    if version.is_modern() {
        resources["cpuOverhead"] = 1.into();
        shape["creationDate"] = date(config.created, version);
        if let Some(size) = config.shm_size {
            shape["shmSize"] = size.into();
        }
        if let Some(signal) = &config.stop_signal {
            shape["stopSignal"] = signal.as_str().into();
        }
    }
    if !config.masked_paths.is_empty() {
        shape["maskedPaths"] = config.masked_paths.clone().into();
    }
    if !config.readonly_paths.is_empty() {
        shape["readonlyPaths"] = config.readonly_paths.clone().into();
    }
    shape["resources"] = resources;
    shape
}

fn dns(config: &Config) -> Value {
    let dns = &config.dns;
    let mut shape = json!({"nameservers": dns.nameservers, "options": dns.options, "searchDomains": dns.search});
    if let Some(domain) = &dns.domain {
        shape["domain"] = domain.as_str().into();
    }
    shape
}

fn mounts(config: &Config) -> Vec<Value> {
    let shape = |mount: &crate::model::Mount| {
        let kind = match &mount.kind {
            MountKind::Virtiofs => json!({"virtiofs": {}}),
            MountKind::Tmpfs => json!({"tmpfs": {}}),
            MountKind::Volume(name) => {
                json!({"volume": {"cache": {"on": {}}, "format": "ext4", "name": name, "sync": {"fsync": {}}}})
            }
        };
        json!({"destination": mount.destination, "options": mount.options, "source": mount.source, "type": kind})
    };
    config.mounts.iter().map(shape).collect()
}

fn networks(config: &Config) -> Vec<Value> {
    let shape = |wanted: &crate::model::Attachment| {
        let mut options = json!({"hostname": config.id, "mtu": wanted.mtu.unwrap_or(1280)});
        if let Some(mac) = &wanted.mac {
            options["macAddress"] = mac.as_str().into();
        }
        json!({"network": wanted.network, "options": options})
    };
    config.networks.iter().map(shape).collect()
}

fn platform(config: &Config) -> Value {
    match config.arch.as_str() {
        "arm64" => json!({"architecture": "arm64", "os": "linux", "variant": "v8"}),
        other => json!({"architecture": other, "os": "linux"}),
    }
}
