//! `system`: the service itself.

use serde_json::{Value, json};

use crate::call::Call;
use crate::json::{Form, render};
use crate::model::Server;
use crate::texts::Error;
use crate::version::Version;

fn build(version: Version) -> (String, &'static str, &'static str) {
    (version.to_string(), "release", "abcdefg")
}

pub fn version_line(version: Version) -> String {
    let (version, build, commit) = build(version);
    format!("container CLI version {version} (build: {build}, commit: {commit})")
}

fn server_line(version: Version) -> String {
    let (version, build, commit) = build(version);
    format!("container-apiserver version {version} (build: {build}, commit: {commit})")
}

pub fn status(call: &mut Call) -> Result<(), Error> {
    let version = call.store.version;
    let server = call.store.server();
    let up = server.state == "running";
    if call.parsed.value("format") == Some("json") {
        let text = render(&status_shape(call, &server), Form::Compact, version);
        call.line(&text);
    } else {
        match server.state.as_str() {
            "running" => call.line("apiserver is running"),
            "unregistered" => call.line("apiserver is not running and not registered with launchd"),
            _ => call.line("apiserver is not running"),
        }
    }
    call.code = i32::from(!up);
    Ok(())
}

fn status_shape(call: &Call, server: &Server) -> Value {
    let version = call.store.version;
    let up = server.state == "running";
    let word = if server.state == "not_running" { "not running" } else { &server.state };
    let root = call.store.root.to_string_lossy();
    if version >= Version(1, 4, 0) {
        return match up {
            false => json!({"status": word}),
            true => json!({
                "status": word,
                "server": {"appName": "container-apiserver", "build": "release", "commit": "abcdefg",
                    "version": server_line(version)},
                "paths": {"appRoot": root, "installRoot": "/usr/local"},
            }),
        };
    }
    let text = |text: &str| if up { text.to_owned() } else { String::new() };
    json!({
        "apiServerAppName": text("container-apiserver"),
        "apiServerBuild": text("release"),
        "apiServerCommit": text("abcdefg"),
        "apiServerVersion": text(&server_line(version)),
        "appRoot": text(&root),
        "installRoot": text("/usr/local/"),
        "status": word,
    })
}

pub fn version(call: &mut Call) -> Result<(), Error> {
    let version = call.store.version;
    let (number, build, commit) = build(version);
    let mut rows = vec![json!({"appName": "container", "buildType": build, "commit": commit, "version": number})];
    if call.store.server().state == "running" {
        let line = server_line(version);
        rows.push(json!({"appName": "container-apiserver", "buildType": build, "commit": commit, "version": line}));
    }
    if call.parsed.value("format") == Some("json") {
        let text = render(&Value::Array(rows), Form::Compact, version);
        call.line(&text);
        return Ok(());
    }
    call.line("COMPONENT  VERSION  BUILD  COMMIT");
    for row in rows {
        let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
        let line = format!("{}  {}  {}  {}", text("appName"), text("version"), text("buildType"), text("commit"));
        call.line(&line);
    }
    Ok(())
}

pub fn start(call: &mut Call) -> Result<(), Error> {
    let version = call.store.version;
    // They were on stdout up to 1.0.
    let lines = ["Launching container-apiserver...", "Testing access to container-apiserver..."];
    for line in lines {
        if version < Version(1, 1, 0) {
            call.line(line);
        } else {
            call.err.push_str(line);
            call.err.push('\n');
        }
    }
    {
        let _guard = call.store.lock();
        let mut server = call.store.server();
        if server.state != "running" {
            // Nothing that was before is known any more.
            server = Server { state: "running".into(), boot: server.boot + 1, restart_at: None };
            call.store.write_server(&server);
        }
    }
    let kernel = call.store.settings("server.json")["no_kernel"] == true;
    let told = ["enable-kernel-install", "disable-kernel-install"].iter().any(|name| call.parsed.has(name));
    if kernel && !told {
        let mut line = String::new();
        if std::io::stdin().read_line(&mut line).unwrap_or_default() == 0 {
            return Err(crate::texts::internal("failed to read user input").into());
        }
    }
    Ok(())
}

pub fn stop(call: &mut Call) -> Result<(), Error> {
    // What runs is stopped with it.
    for container in call.store.containers() {
        let question = json!({"op": "stop", "signal": 15, "time": 5});
        crate::wire::ask(&call.store.dir(&container.config.id), &question).map(drop).unwrap_or_default();
    }
    let _guard = call.store.lock();
    let server = call.store.server();
    call.store.write_server(&Server { state: "unregistered".into(), boot: server.boot, restart_at: None });
    Ok(())
}

pub fn logs(_call: &mut Call) -> Result<(), Error> {
    Ok(())
}

pub fn df(call: &mut Call) -> Result<(), Error> {
    let images = call.store.images().len();
    let containers = call.store.containers().len();
    if call.parsed.value("format") == Some("json") {
        let part = |total: usize| json!({"active": total, "reclaimable": 0, "sizeInBytes": 0, "total": total});
        let shape = json!({"containers": part(containers), "images": part(images),
            "volumes": part(call.store.volumes().len())});
        let text = render(&shape, Form::Compact, call.store.version);
        call.line(&text);
        return Ok(());
    }
    call.line("TYPE  TOTAL  ACTIVE  SIZE  RECLAIMABLE");
    call.line(&format!("Images  {images}  {images}  0 KB  0 KB"));
    call.line(&format!("Containers  {containers}  {containers}  0 KB  0 KB"));
    Ok(())
}
