//! The variables that a command gets: a few of fosse's, the locale, and what the user says; nothing else of the
//! caller's.

use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::mistake;
use crate::base::env;
use crate::base::error::Result;
use crate::base::id::RunId;
use crate::cli::args::Run;
use crate::cli::config::{Layer, is_variable};
use crate::cli::session::input;
use crate::runtime::{Input, Kind};

/// The most bytes a file of variables may have.
const FILE_MAX: u64 = 1 << 20;

/// Where programs are on most hosts.
const USUAL_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

type Variables = Vec<(OsString, OsString)>;

/// All variables with values, and the names of those that the user set. A later one replaces an earlier one.
pub(crate) fn resolve(
    args: &Run,
    config: &Layer,
    id: &RunId,
    name: &str,
    kind: Kind,
) -> Result<(Variables, Vec<String>)> {
    let mut all: Variables = vec![
        ("FOSSE_RUN_ID".into(), id.as_str().into()),
        ("FOSSE_RUN_NAME".into(), name.into()),
        ("HOME".into(), crate::runtime::HOME.into()),
    ];
    if kind == Kind::Native {
        all.push(("PATH".into(), search_path(env::exact(OsStr::new("PATH")).as_deref())));
    }
    let at_terminal = input(args.interactive) == Input::Terminal;
    let is_passed =
        |name: &str| matches!(name, "LANG" | "TZ") || name.starts_with("LC_") || (name == "TERM" && at_terminal);
    // What an engine's tool cannot be told is left out: the caller did not ask for it.
    let arrives =
        |(name, value): &(OsString, OsString)| kind == Kind::Native || crate::runtime::fits_a_line(name, value);
    all.extend(env::matching(is_passed).into_iter().filter(arrives));
    let mut users: Variables = config.env.iter().map(|(name, value)| (name.into(), value.into())).collect();
    for path in &args.env_file {
        users.extend(file(path)?);
    }
    users.extend(assignments(&args.env)?);
    let mut names: Vec<String> = users.iter().map(|(name, _)| name.to_string_lossy().into_owned()).collect();
    names.sort();
    names.dedup();
    all.extend(users);
    Ok((last_of_each(all), names))
}

/// Where programs of the host are looked for inside: where the caller does, as far as that does not depend on a
/// current directory.
fn search_path(callers: Option<&OsStr>) -> OsString {
    let all = callers.unwrap_or_default().as_bytes().split(|byte| *byte == b':');
    let fixed: Vec<&[u8]> = all.filter(|directory| directory.starts_with(b"/")).collect();
    if fixed.is_empty() { USUAL_PATH.into() } else { OsStr::from_bytes(&fixed.join(&b':')).to_owned() }
}

/// Reads the values of `--env`. A later one replaces an earlier one.
pub(crate) fn assignments(texts: &[OsString]) -> Result<Variables> {
    let mut all = Variables::new();
    for text in texts {
        all.extend(assignment(text).map_err(|why| mistake(format!("--env: {why}")))?);
    }
    Ok(last_of_each(all))
}

/// Reads `KEY=VALUE`, or `KEY`, which copies the caller's; one that the caller does not have is left out.
fn assignment(text: &OsStr) -> std::result::Result<Option<(OsString, OsString)>, String> {
    let bytes = text.as_bytes();
    let (name, value) = match bytes.iter().position(|byte| *byte == b'=') {
        Some(at) => (OsStr::from_bytes(&bytes[..at]), Some(OsStr::from_bytes(&bytes[at + 1..]).to_owned())),
        None => (text, env::exact(text)),
    };
    if name.is_empty() {
        return Err("a variable has no name".into());
    }
    if !name.to_str().is_some_and(is_variable) {
        return Err(format!("{:?} cannot be the name of a variable", name.to_string_lossy()));
    }
    Ok(value.map(|value| (name.to_owned(), value)))
}

/// Reads a file of variables: one a line, blank lines and lines that start with `#` aside.
fn file(path: &Path) -> Result<Variables> {
    let failed = |why: String| mistake(format!("--env-file {}: {why}", path.display()));
    // The caller named it: a link, a pipe or /dev/null will do.
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(FILE_MAX + 1).read_to_end(&mut bytes));
    read.map_err(|error| failed(error.to_string()))?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(failed(format!("longer than {FILE_MAX} bytes")));
    }
    let mut variables = Vec::new();
    // As editors of other systems begin a file.
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        return Err(failed("it is UTF-16: save it as UTF-8".into()));
    }
    let line_end = if text.contains(&b'\n') { b'\n' } else { b'\r' };
    for (number, line) in text.split(|byte| *byte == line_end).enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.trim_ascii().is_empty() || line.starts_with(b"#") {
            continue;
        }
        if line.contains(&0) {
            return Err(failed(format!("line {} has a NUL byte", number + 1)));
        }
        let pair = assignment(OsStr::from_bytes(line)).map_err(|why| failed(format!("line {}: {why}", number + 1)))?;
        variables.extend(pair);
    }
    Ok(variables)
}

fn last_of_each(all: Variables) -> Variables {
    let mut kept: Variables = Vec::new();
    for (name, value) in all {
        match kept.iter_mut().find(|(known, _)| *known == name) {
            Some(entry) => entry.1 = value,
            None => kept.push((name, value)),
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assignments_are_split_at_the_first_equals_sign() {
        assert_eq!(assignment("A=b=c".as_ref()), Ok(Some(("A".into(), "b=c".into()))));
        assert_eq!(assignment("A=".as_ref()), Ok(Some(("A".into(), "".into()))));
        assert_eq!(assignment("FOSSE_SURELY_NOT_SET".as_ref()), Ok(None));
        assert!(assignment("=x".as_ref()).is_err() && assignment("".as_ref()).is_err());
    }

    #[test]
    fn programs_are_looked_for_where_the_caller_does_whatever_the_directory() {
        let path = |callers: &str| search_path(Some(callers.as_ref()));
        assert_eq!(path("/a:b::/c:."), "/a:/c");
        assert_eq!(path(""), USUAL_PATH);
        assert_eq!(search_path(None), USUAL_PATH);
    }

    #[test]
    fn the_last_of_several_values_counts() {
        let all = vec![("A".into(), "1".into()), ("B".into(), "2".into()), ("A".into(), "3".into())];
        assert_eq!(
            last_of_each(all),
            [("A".into(), "3".into()), ("B".into(), "2".into())] as [(OsString, OsString); 2]
        );
    }
}
