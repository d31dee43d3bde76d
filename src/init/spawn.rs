//! From words to a program that can be executed: all strings are made here, before anything is forked.

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use crate::sys::limit::DescriptorLimit;
use crate::sys::linux::keeper::Program;

/// A command to start.
pub(crate) struct Command<'a> {
    /// The program, and its arguments.
    pub(crate) argv: &'a [OsString],
    /// Variables beside those of this process, by name.
    pub(crate) env: &'a [(OsString, OsString)],
    /// Its directory, if it is not this process's.
    pub(crate) cwd: Option<&'a PathBuf>,
    /// Whether what it leaves ends with it.
    pub(crate) holds: bool,
    /// Whether its streams are a terminal, which is to be its own.
    pub(crate) terminal: bool,
}

/// What all commands get.
pub(crate) struct Base {
    /// Variables.
    pub(crate) env: Vec<(OsString, OsString)>,
    /// The limit on descriptors, where this process has another one.
    pub(crate) descriptors: Option<DescriptorLimit>,
}

/// Where a program is looked for if there is no PATH (execvp(3)).
const DEFAULT_PATH: &str = "/bin:/usr/bin";

impl Base {
    /// The program of a command. An error is about a text that holds a NUL.
    pub(crate) fn program(&self, command: &Command<'_>) -> io::Result<Program> {
        let is_replaced = |name: &OsStr| command.env.iter().any(|(known, _)| known == name);
        let kept = self.env.iter().filter(|(name, _)| !is_replaced(name));
        let env: Vec<_> = kept.chain(command.env).collect();
        let path = env.iter().find(|(name, _)| name == "PATH").map(|(_, value)| value.as_os_str());
        let variable = |(name, value): &&(OsString, OsString)| string(&[name.as_bytes(), b"=", value.as_bytes()]);
        let program = command.argv.first().map(|word| word.as_bytes()).unwrap_or_default();
        Ok(Program {
            paths: candidates(program, path.unwrap_or(OsStr::new(DEFAULT_PATH)))?,
            argv: command.argv.iter().map(|word| string(&[word.as_bytes()])).collect::<io::Result<_>>()?,
            env: env.iter().map(variable).collect::<io::Result<_>>()?,
            cwd: command.cwd.map(|cwd| string(&[cwd.as_os_str().as_bytes()])).transpose()?,
            descriptors: self.descriptors,
            holds: command.holds,
            terminal: command.terminal,
        })
    }
}

fn string(parts: &[&[u8]]) -> io::Result<CString> {
    Ok(CString::new(parts.concat())?)
}

/// Where a program may be: where its name says, or else in the directories of PATH, of which an empty one is the
/// command's own.
fn candidates(program: &[u8], path: &OsStr) -> io::Result<Vec<CString>> {
    if program.contains(&b'/') {
        return Ok(vec![string(&[program])?]);
    }
    let directories = path.as_bytes().split(|byte| *byte == b':');
    directories
        .map(|directory| if directory.is_empty() { string(&[program]) } else { string(&[directory, b"/", program]) })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(all: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
        all.iter().map(|(name, value)| (name.into(), value.into())).collect()
    }

    fn made(base: &[(&str, &str)], argv: &[&str], env: &[(&str, &str)]) -> io::Result<Program> {
        let base = Base { env: pairs(base), descriptors: None };
        let argv: Vec<OsString> = argv.iter().map(OsString::from).collect();
        base.program(&Command { argv: &argv, env: &pairs(env), cwd: None, holds: false, terminal: false })
    }

    fn texts(strings: &[CString]) -> Vec<&str> {
        strings.iter().map(|string| string.to_str().unwrap()).collect()
    }

    #[test]
    fn a_variable_of_the_commands_takes_the_place_of_one_of_inits() {
        let program = made(&[("A", "1"), ("B", "2")], &["x", ""], &[("B", "3"), ("C", "")]).unwrap();
        assert_eq!(texts(&program.env), ["A=1", "B=3", "C="]);
        assert_eq!(texts(&program.argv), ["x", ""]);
        assert_eq!(texts(&program.paths), ["/bin/x", "/usr/bin/x"]);
    }

    #[test]
    fn a_program_is_looked_for_on_the_commands_own_path() {
        let found = |path, name| made(&[("PATH", "/base")], &[name], path).unwrap().paths;
        assert_eq!(texts(&found(&[], "x")), ["/base/x"]);
        assert_eq!(texts(&found(&[("PATH", "/a::b:")], "x")), ["/a/x", "x", "b/x", "x"]);
        assert_eq!(texts(&found(&[("PATH", "/a")], "./x")), ["./x"]);
    }

    #[test]
    fn a_nul_is_refused() {
        assert!(made(&[], &["a\0"], &[]).is_err());
        assert!(made(&[], &["a"], &[("A", "\0")]).is_err());
    }
}
