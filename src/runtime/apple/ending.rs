//! What the end of an attached client means: pure decisions, from its exit, from what init left, and from the last
//! words that it said.

use crate::process::Exit;
use crate::runtime::{End, Fact};
use crate::wire::exit::ExitFile;

use super::words::ERROR;

/// What is known at a client's end.
#[derive(Debug, Clone)]
pub(crate) struct Known<'a> {
    /// How the client ended.
    pub(crate) exit: Exit,
    /// Whether fosse's own PID 1 was to carry the command.
    pub(crate) has_init: bool,
    /// What it left.
    pub(crate) left: Option<ExitFile>,
    /// The end of what the client said, where the command's init says nothing by itself.
    pub(crate) tail: &'a [u8],
}

/// What to make of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// That is how it ended, or that it never ran.
    Certain(Fact),
    /// The client's exit may be about the client.
    Ask,
}

/// What a client's end means. Its exit is the command's, and comes when the machine has been taken down; but 1 is also
/// any failure of the tool, 64 any mistake in its options, and 255 an end that the service could not tell.
pub(crate) fn judge(known: &Known<'_>) -> Verdict {
    let Known { exit, has_init, left, tail } = known;
    if let Some(fact) = left.as_ref().and_then(|left| fact_of(left, *exit)) {
        return Verdict::Certain(fact);
    }
    let Exit::Code(code) = *exit else { return Verdict::Ask };
    match code {
        255 => Verdict::Ask,
        // An init that ends so has said so, unless what it could say was taken from it.
        1 | 64 if *has_init => Verdict::Ask,
        1 | 64 if ends_with_an_error(tail) => Verdict::Ask,
        // Nothing was left, although the command began: its init was killed with everything in the place.
        137 if left.is_some() => Verdict::Certain(ended(code, Some(9), false, None)),
        _ => Verdict::Certain(ended(code, None, false, None)),
    }
}

/// What init left, as a fact; none while it says only that the command began.
pub(crate) fn fact_of(left: &ExitFile, exit: Exit) -> Option<Fact> {
    let code = left.code?;
    if !left.started {
        let why = left.error.clone().unwrap_or_default();
        return Some(Fact::StartFailed { code: Some(code), why });
    }
    // A client that ended otherwise failed beside its command, perhaps before it had passed on everything.
    let cut = exit != Exit::Code(code);
    Some(Fact::Ended(End { code: Some(code), signal: left.signal, oom: left.oom, lost: None, output_cut: cut }))
}

/// An end that nobody can tell. `cut`: output may be missing.
pub(crate) fn lost(why: impl Into<String>, cut: bool) -> Fact {
    Fact::Ended(End { code: None, signal: None, oom: false, lost: Some(why.into()), output_cut: cut })
}

fn ended(code: u8, signal: Option<u8>, oom: bool, lost: Option<String>) -> Fact {
    Fact::Ended(End { code: Some(code), signal, oom, lost, output_cut: false })
}

/// Whether the last words are the tool's: its error, perhaps with the line that comes with one about the service.
pub(crate) fn ends_with_an_error(tail: &[u8]) -> bool {
    let text = String::from_utf8_lossy(tail);
    text.lines().rev().map(str::trim_end).filter(|line| !line.is_empty()).take(2).any(|line| line.starts_with(ERROR))
}

/// The tool's error in what a client said last, if there is one.
pub(crate) fn last_error(tail: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(tail);
    let line = text.lines().rev().map(str::trim_end).find(|line| line.starts_with(ERROR))?;
    Some(crate::base::error::one_line(line.trim_start_matches(ERROR)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(exit: Exit, has_init: bool, left: Option<ExitFile>, tail: &str) -> Verdict {
        judge(&Known { exit, has_init, left, tail: tail.as_bytes() })
    }

    fn code(verdict: &Verdict) -> Option<u8> {
        match verdict {
            Verdict::Certain(Fact::Ended(end)) => end.code,
            _ => None,
        }
    }

    #[test]
    fn what_init_left_is_how_it_ended_whatever_the_client_says() {
        for exit in [Exit::Code(1), Exit::Code(255), Exit::Signal(9), Exit::Code(0)] {
            let left = ExitFile::ended("k", 42, None, false);
            assert_eq!(code(&known(exit, true, Some(left), "Error: XPC")), Some(42), "{exit:?}");
        }
    }

    #[test]
    fn a_client_that_disagrees_may_have_lost_output() {
        let cut = |exit| match known(exit, true, Some(ExitFile::ended("k", 3, None, false)), "") {
            Verdict::Certain(Fact::Ended(end)) => end.output_cut,
            other => panic!("{other:?}"),
        };
        assert!(!cut(Exit::Code(3)) && cut(Exit::Code(1)) && cut(Exit::Signal(9)));
    }

    #[test]
    fn without_an_init_only_a_code_that_the_tool_may_mean_itself_is_asked_for() {
        for number in 0..=254 {
            assert_eq!(code(&known(Exit::Code(number), false, None, "my last words\n")), Some(number), "{number}");
        }
        assert_eq!(known(Exit::Code(255), false, None, ""), Verdict::Ask);
        assert_eq!(known(Exit::Signal(9), false, None, ""), Verdict::Ask);
        let error = "Error: failed to wait for process x (cause: \"interrupted\")\nEnsure container system service …\n";
        assert_eq!(known(Exit::Code(1), false, None, error), Verdict::Ask);
        assert_eq!(code(&known(Exit::Code(3), false, None, error)), Some(3));
    }

    #[test]
    fn an_init_that_left_no_code_was_killed_or_cannot_be_believed() {
        let began = || Some(ExitFile::running("k"));
        let killed = known(Exit::Code(137), true, began(), "");
        assert!(matches!(&killed, Verdict::Certain(Fact::Ended(end)) if end.signal == Some(9)), "{killed:?}");
        assert_eq!(known(Exit::Code(1), true, began(), ""), Verdict::Ask);
        assert_eq!(known(Exit::Code(1), true, None, ""), Verdict::Ask);
        assert_eq!(code(&known(Exit::Code(0), true, began(), "")), Some(0));
    }

    #[test]
    fn a_command_that_could_not_be_started_is_no_end() {
        let left = ExitFile::unstarted("k", 127, "No such file or directory");
        let why = "No such file or directory".to_owned();
        let wanted = Verdict::Certain(Fact::StartFailed { code: Some(127), why });
        assert_eq!(known(Exit::Code(127), true, Some(left), ""), wanted);
    }
}
