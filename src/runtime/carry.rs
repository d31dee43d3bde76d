//! How a command's words and variables reach an engine's tool: what its argument vector may hold, and what it may not.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

/// How values of variables reach the tool: never in its arguments.
pub(crate) struct Environment {
    /// The content of the 0600 file.
    pub(crate) file: Vec<u8>,
    /// What such a file cannot hold, in the tool's own environment.
    pub(crate) by_process: Vec<(OsString, OsString)>,
}

/// For a call that is over at once: by the file, where a line can hold it. It has one line each, as text, and podman
/// strips quotes.
pub(crate) fn environment(env: &[(OsString, OsString)]) -> Environment {
    split(env, fits_a_line)
}

/// For a tool that lives as long as its command. Only what would steer the tool itself is in a file, so that mostly
/// there is none.
pub(crate) fn environment_beside(env: &[(OsString, OsString)]) -> Environment {
    split(env, |name, _| name.to_str().is_some_and(steers_the_tool))
}

fn split(env: &[(OsString, OsString)], by_file: impl Fn(&OsStr, &OsStr) -> bool) -> Environment {
    let mut carried = Environment { file: Vec::new(), by_process: Vec::new() };
    for (name, value) in env {
        if by_file(name, value) {
            for part in [name.as_bytes(), b"=", value.as_bytes(), b"\n"] {
                carried.file.extend_from_slice(part);
            }
        } else {
            carried.by_process.push((name.clone(), value.clone()));
        }
    }
    carried
}

/// Whether a variable can travel in a file of lines as the tools read it.
pub(crate) fn fits_a_line(name: &OsStr, value: &OsStr) -> bool {
    // bufio.Scanner, which both tools read the file with, refuses lines of 64 KiB.
    const LINE_MAX: usize = 30_000;
    // Apple's tool ends a line at whatever Unicode ends one at.
    const LINE_ENDS: [char; 7] = ['\n', '\r', '\u{b}', '\u{c}', '\u{85}', '\u{2028}', '\u{2029}'];
    let plain = |text: &str| {
        text.len() < LINE_MAX
            && !text.contains(LINE_ENDS)
            && !text.starts_with(['"', '\'', '#', '\u{feff}', ' ', '\t'])
            && !text.ends_with('*')
    };
    [name, value].into_iter().all(|text| text.to_str().is_some_and(plain))
}

/// Refuses what no JSON of a tool can hold; each text comes with what it is.
pub(crate) fn is_text<'a>(tool: &str, mut all: impl Iterator<Item = (String, &'a OsStr)>) -> Result<(), String> {
    match all.find(|(_, text)| text.to_str().is_none()) {
        Some((what, _)) => Err(format!("{what} is not UTF-8, which {tool} cannot carry")),
        None => Ok(()),
    }
}

/// Refuses what would have to travel in the tool's own environment and would change what it does.
pub(crate) fn check_environment(tool: &str, env: &[(OsString, OsString)]) -> Result<(), String> {
    let carried = environment(env);
    let mut names = carried.by_process.iter().map(|(name, _)| name.to_string_lossy());
    match names.find(|name| steers_the_tool(name)) {
        Some(name) => {
            Err(format!("the value of {name} is too long or has line ends, and that name steers {tool} itself"))
        }
        None => Ok(()),
    }
}

/// Whether a variable that cannot travel in a file would change what the tool itself does.
fn steers_the_tool(name: &str) -> bool {
    const NAMES: [&str; 9] = ["PATH", "HOME", "TMPDIR", "HOSTNAME", "NOTIFY_SOCKET", "LOGNAME", "USER", "TZ", "TERM"];
    const PREFIXES: [&str; 21] = [
        "DOCKER_",
        "CONTAINER",
        "BUILDKIT_",
        "PODMAN_",
        "_",
        "LD_",
        "GO",
        "XDG_",
        "SSL_",
        "SSH_",
        "LISTEN_",
        "STORAGE_",
        "REGISTRY_",
        "OTEL_",
        "BASH",
        "ENV",
        "PYTHON",
        "PERL",
        "NODE_",
        "RUBY",
        "GCONV",
    ];
    let upper = name.to_ascii_uppercase();
    NAMES.contains(&upper.as_str())
        || PREFIXES.iter().any(|prefix| upper.starts_with(prefix))
        || upper.ends_with("_PROXY")
}

/// Words of an argument vector.
pub(crate) fn words<const N: usize>(words: [&str; N]) -> Vec<OsString> {
    words.into_iter().map(OsString::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables() -> Vec<(OsString, OsString)> {
        vec![("A".into(), "secret".into()), ("B".into(), "two\nlines".into()), ("HOME".into(), "/h".into())]
    }

    #[test]
    fn a_value_that_a_line_cannot_hold_travels_beside_the_file() {
        let carried = environment(&variables());
        assert_eq!(carried.file, b"A=secret\nHOME=/h\n");
        assert_eq!(carried.by_process, [(OsString::from("B"), OsString::from("two\nlines"))]);
        assert!(steers_the_tool("DOCKER_HOST") && steers_the_tool("https_proxy") && !steers_the_tool("B"));
    }

    #[test]
    fn what_steers_a_tool_that_stays_travels_in_a_file() {
        let carried = environment_beside(&variables());
        assert_eq!(carried.file, b"HOME=/h\n");
        assert_eq!(carried.by_process.len(), 2);
    }
}
