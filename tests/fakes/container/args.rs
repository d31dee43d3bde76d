//! Arguments, read as swift-argument-parser reads them.

use crate::texts::Error;
use crate::verbs::{GLOBAL, Verb};
use crate::version::Version;

/// An option of a verb.
struct Known {
    names: Vec<&'static str>,
    takes_value: bool,
}

/// A call that was understood.
#[derive(Debug, Clone, Default)]
pub struct Parsed {
    /// Options by their last, long name without dashes, in order.
    pub options: Vec<(String, String)>,
    /// What is no option.
    pub arguments: Vec<String>,
    /// Whether the help is wanted.
    pub help: bool,
}

impl Parsed {
    pub fn has(&self, name: &str) -> bool {
        self.options.iter().any(|(known, _)| known == name)
    }

    /// The last value of an option.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.options.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// All values of an option.
    pub fn values(&self, name: &str) -> Vec<&str> {
        self.options.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str()).collect()
    }
}

/// Reads one entry of the table, if this release has it.
fn known(entry: &'static str, version: Version) -> Option<Known> {
    let (entry, until) = entry.split_once('!').unwrap_or((entry, "9999"));
    let (entry, since) = entry.split_once('@').unwrap_or((entry, "0"));
    let is_there = version >= Version::parse(since)? && version < Version::parse(until)?;
    let (names, takes_value) = entry.strip_suffix('=').map_or((entry, false), |names| (names, true));
    is_there.then(|| Known { names: names.split('/').collect(), takes_value })
}

/// The name that an option is asked for by.
fn key(known: &Known) -> String {
    let long = known.names.iter().find(|name| name.starts_with("--")).unwrap_or(&known.names[0]);
    long.trim_start_matches('-').to_owned()
}

/// Reads the arguments behind a verb.
pub fn parse(verb: &Verb, args: &[String], version: Version) -> Result<Parsed, Error> {
    let entries = verb.options.iter().flat_map(|group| group.iter()).chain(GLOBAL);
    let table: Vec<Known> = entries.filter_map(|entry| known(entry, version)).collect();
    let wrong = |text: String| Error::Usage(text, verb.path.to_owned());
    let find = |name: &str| table.iter().find(|known| known.names.contains(&name));
    let mut parsed = Parsed::default();
    let mut rest = args.iter();
    let mut only_arguments = false;
    while let Some(arg) = rest.next() {
        if only_arguments || !arg.starts_with('-') || arg == "-" {
            parsed.arguments.push(arg.clone());
            if verb.passes.is_some_and(|count| parsed.arguments.len() >= count) {
                parsed.arguments.extend(rest.by_ref().cloned());
            }
            continue;
        }
        if arg == "--" {
            only_arguments = true;
            continue;
        }
        let (name, value) = match arg.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (arg.as_str(), None),
        };
        let Some(option) = find(name) else {
            // Short flags in one word: only such as take no value.
            let letters: Vec<String> = arg.chars().skip(1).map(|letter| format!("-{letter}")).collect();
            let flags: Option<Vec<&Known>> =
                letters.iter().map(|name| find(name).filter(|known| !known.takes_value)).collect();
            match flags.filter(|flags| !arg.starts_with("--") && flags.len() > 1) {
                Some(flags) => parsed.options.extend(flags.iter().map(|known| (key(known), String::new()))),
                None => return Err(wrong(format!("Unknown option '{name}'"))),
            }
            continue;
        };
        let value = match (option.takes_value, value) {
            (true, Some(value)) => value,
            (true, None) => match rest.next() {
                // A value that looks like an option is none.
                Some(next) if !next.starts_with('-') || next == "-" => next.clone(),
                _ => {
                    let value_name = key(option);
                    return Err(wrong(format!("Missing value for '{name} <{value_name}>'")));
                }
            },
            (false, None) => String::new(),
            (false, Some(value)) => {
                return Err(wrong(format!(
                    "The option '{name}' does not take any value, but '{value}' was specified."
                )));
            }
        };
        parsed.options.push((key(option), value));
    }
    parsed.help = parsed.has("help");
    if !parsed.help {
        check(verb, &parsed, version).map_err(wrong)?;
    }
    Ok(parsed)
}

/// Numbers are numbers, words are known, and no argument is missing or too many.
fn check(verb: &Verb, parsed: &Parsed, version: Version) -> Result<(), String> {
    for (name, value) in &parsed.options {
        let invalid = || {
            let shown = if name.len() == 1 { format!("-{name}") } else { format!("--{name}") };
            format!("The value '{value}' is invalid for '{shown} <{name}>'")
        };
        let is_good = match name.as_str() {
            "time" | "cpus" | "n" | "uid" | "gid" | "max-concurrent-downloads" | "timeout" | "vsock-port" => {
                value.parse::<i64>().is_ok()
            }
            "progress" if verb.path == "build" => ["auto", "plain", "tty"].contains(&value.as_str()),
            "progress" if version.has_plain_progress() => {
                ["auto", "none", "ansi", "plain", "color"].contains(&value.as_str())
            }
            "progress" => ["none", "ansi"].contains(&value.as_str()),
            "scheme" if version >= Version(1, 3, 0) => ["http", "https"].contains(&value.as_str()),
            "scheme" => ["http", "https", "auto"].contains(&value.as_str()),
            "format" if version >= Version(1, 0, 0) => ["json", "table", "yaml", "toml"].contains(&value.as_str()),
            "format" if version >= Version(0, 12, 0) => ["json", "table", "yaml"].contains(&value.as_str()),
            "format" => ["json", "table"].contains(&value.as_str()),
            _ => true,
        };
        if !is_good {
            return Err(invalid());
        }
    }
    for (at, name) in verb.arguments.iter().enumerate() {
        if name.starts_with('?') || parsed.arguments.len() > at {
            continue;
        }
        return Err(match name.strip_prefix('*') {
            Some(name) => format!("Missing expected argument '<{name}> ...'"),
            None => format!("Missing expected argument '<{name}>'"),
        });
    }
    let takes_any = verb.passes.is_some() || verb.arguments.iter().any(|name| name.starts_with(['?', '*']));
    match parsed.arguments.get(verb.arguments.len()) {
        Some(extra) if !takes_any => Err(format!("Unexpected argument '{extra}'")),
        _ => Ok(()),
    }
}
