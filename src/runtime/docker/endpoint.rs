//! Which engine a tool would speak to now, and how to make it speak to the same one later.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::base::time::Deadline;
use crate::base::{env, fs};
use crate::process::{self, Cmd, no_cancel};
use crate::runtime::docker::Tool;
use crate::runtime::{Error, Result};

/// The endpoint of an engine without a listener: the tool works on the local store itself.
pub(crate) const LOCAL: &str = "local";

/// Where docker listens unless told otherwise (dockerd(8), `--host`).
const DOCKER_DEFAULT: &str = "unix:///var/run/docker.sock";

/// What precedes the name of a docker context that has no plain address.
const CONTEXT: &str = "context:";

/// The engine that `tool` would speak to in this environment. Docker's order: DOCKER_HOST, DOCKER_CONTEXT, the
/// configuration's current context, the default socket.
pub(crate) fn discover(kind: Tool, tool: &str, home: Option<&PathBuf>, deadline: Deadline) -> Result<String> {
    let variable = |name: &str| env::text(name).map_err(|why| Error::Garbled { call: tool.to_owned(), why });
    match kind {
        Tool::Podman => Ok(variable("CONTAINER_HOST")?.unwrap_or_else(|| LOCAL.into())),
        Tool::Docker => {
            if let Some(host) = variable("DOCKER_HOST")? {
                return Ok(host);
            }
            let context = match variable("DOCKER_CONTEXT")? {
                Some(name) => Some(name),
                None => configured_context(home),
            };
            match context.filter(|name| name != "default") {
                Some(name) => context_address(tool, &name, deadline),
                None => Ok(DOCKER_DEFAULT.into()),
            }
        }
    }
}

fn configured_context(home: Option<&PathBuf>) -> Option<String> {
    let directory = env::get("DOCKER_CONFIG").map(PathBuf::from).or_else(|| Some(home?.join(".docker")))?;
    let bytes = fs::read_bounded(&directory.join("config.json"), 1 << 20).ok()?;
    let config: serde_json::Value = serde_json::from_slice(&bytes).ok()?;
    config.get("currentContext")?.as_str().filter(|name| !name.is_empty()).map(str::to_owned)
}

/// The address of a context where that is all there is to it (a socket, ssh); else its name, because TLS material
/// belongs to the context.
fn context_address(tool: &str, name: &str, deadline: Deadline) -> Result<String> {
    let cmd = Cmd::new(tool).args(["context", "inspect", "--format", "{{.Endpoints.docker.Host}}", name]);
    let output = process::call(&cmd, deadline, &no_cancel())?;
    let address = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if !output.exit.success() || address.is_empty() {
        return Err(Error::Refused { call: format!("{tool} context inspect {name}"), complaint: output.complaint() });
    }
    let plain = address.starts_with("unix://") || address.starts_with("ssh://");
    Ok(if plain { address } else { format!("{CONTEXT}{name}") })
}

/// What podman 5 reads so as not to warn at each call of a host's control groups of version 1 (its
/// `checkSupportedCgroups`): that line would be taken for a complaint, and is nothing that a run can change.
const NO_CGROUPS_WARNING: &str = "PODMAN_IGNORE_CGROUPSV1_WARNING";

/// The variables that make the tool speak to `endpoint`, and of nothing else.
pub(crate) fn environment(kind: Tool, endpoint: &str) -> Vec<(OsString, OsString)> {
    let mut variables = address(kind, endpoint);
    if kind == Tool::Podman {
        variables.push((NO_CGROUPS_WARNING.into(), "1".into()));
    }
    variables
}

fn address(kind: Tool, endpoint: &str) -> Vec<(OsString, OsString)> {
    let set = |name: &str, value: &str| (OsString::from(name), OsString::from(value));
    match (kind, endpoint.strip_prefix(CONTEXT)) {
        // An empty DOCKER_HOST counts as none, and a set one would win over the context.
        (Tool::Docker, Some(name)) => vec![set("DOCKER_CONTEXT", name), set("DOCKER_HOST", "")],
        (Tool::Docker, None) => vec![set("DOCKER_HOST", endpoint), set("DOCKER_CONTEXT", "")],
        (Tool::Podman, _) if endpoint == LOCAL => Vec::new(),
        (Tool::Podman, _) => vec![set("CONTAINER_HOST", endpoint)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_endpoint_wins_over_the_environment() {
        let docker = environment(Tool::Docker, "unix:///a.sock");
        assert!(docker.contains(&("DOCKER_HOST".into(), "unix:///a.sock".into())));
        assert!(docker.contains(&("DOCKER_CONTEXT".into(), "".into())));
        let context = environment(Tool::Docker, "context:far");
        assert!(context.contains(&("DOCKER_CONTEXT".into(), "far".into())));
        assert!(context.contains(&("DOCKER_HOST".into(), "".into())));
        assert!(address(Tool::Podman, LOCAL).is_empty());
    }

    #[test]
    fn podman_is_told_not_to_warn_of_control_groups() {
        for endpoint in [LOCAL, "unix:///a.sock"] {
            assert!(environment(Tool::Podman, endpoint).contains(&(NO_CGROUPS_WARNING.into(), "1".into())));
        }
        assert!(environment(Tool::Docker, "unix:///a.sock").iter().all(|(name, _)| name != NO_CGROUPS_WARNING));
    }
}
