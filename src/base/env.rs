//! The environment of this process: the one place that reads it.

use std::ffi::OsString;

/// The value of a variable; an empty one counts as unset, as the XDG rules and `NO_COLOR` have it.
#[allow(clippy::disallowed_methods)]
pub fn get(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// The value as it is, the empty one included: for passing on to a command.
#[allow(clippy::disallowed_methods)]
pub(crate) fn exact(name: &std::ffi::OsStr) -> Option<OsString> {
    std::env::var_os(name)
}

/// The value as text, or an error that names the variable (and not its value).
pub(crate) fn text(name: &str) -> Result<Option<String>, String> {
    match get(name) {
        None => Ok(None),
        Some(value) => value.into_string().map(Some).map_err(|_| format!("{name} is not UTF-8")),
    }
}

/// All variables whose name satisfies `wanted`.
pub(crate) fn matching(wanted: impl Fn(&str) -> bool) -> Vec<(OsString, OsString)> {
    std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(&wanted)).collect()
}

/// All variables as they are, but the one of that name.
pub(crate) fn all_but(name: &str) -> Vec<(OsString, OsString)> {
    std::env::vars_os().filter(|(known, _)| known != name).collect()
}
