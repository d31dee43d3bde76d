//! Mistakes on the command line: what is wrong in one line, and a hint that helps with this very mistake.

use std::ffi::OsString;

use clap::Command;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::base::error::Failure;

/// Verbs of other programs, and what stands for them here.
const FOREIGN_VERBS: [(&[&str], &str); 9] = [
    (&["ps"], "fosse list shows runs"),
    (&["kill"], "fosse stop --grace 0 RUN ends a run at once"),
    (&["attach"], "fosse logs -f RUN follows the output; fosse exec -i RUN -- sh starts a shell"),
    (&["start", "create", "up"], "fosse run starts a run; fosse daemon start starts the daemon"),
    (&["restart"], "fosse run starts a run; fosse daemon restart starts the daemon anew"),
    (&["remove", "delete", "del", "down"], "fosse destroy RUN removes a run"),
    (&["prune"], "fosse clean removes ended runs"),
    (&["top"], "fosse exec RUN -- ps -e shows the processes of a run"),
    (&["pull", "images", "build", "rmi"], "images belong to the engine: docker, podman or container has this verb"),
];

/// Options of other programs, by the verb that they are given to, and what stands for them here.
const FOREIGN_OPTIONS: [(&str, &[&str], &str); 16] = [
    ("run", &["-t", "--tty"], "-i gives a terminal where there is one: leave -t out"),
    ("run", &["--rm"], "leave it out: without --keep nothing of a run stays in the engine"),
    (
        "run",
        &["-d", "--detach"],
        "runs do not detach: put & after the command line; --name and --id-file tell which run it is",
    ),
    ("run", &["--volume"], "-m SRC:DST[:ro] mounts a file or directory"),
    ("run", &["--entrypoint"], "leave it out: COMMAND replaces the image's ENTRYPOINT"),
    ("run", &["-u"], "--user USER says who the command is inside"),
    ("run", &["--init"], "leave it out: fosse has a PID 1 of its own"),
    ("exec", &["-t", "--tty"], "-i gives a terminal where there is one: leave -t out"),
    ("exec", &["-d", "--detach"], "commands do not detach: put & after the command line"),
    ("exec", &["-u"], "--user USER says who the command is inside"),
    ("exec", &["-w"], "--workdir DIR is the directory inside"),
    ("list", &["-a", "--all"], "leave it out: ended runs are listed, too; --running lists live ones only"),
    ("list", &["--format", "--no-trunc"], "--json prints whole records, one a line"),
    ("logs", &["-t"], "--timestamps puts the time before each line"),
    ("stop", &["-t", "--time", "--timeout"], "--grace DURATION is the time between TERM and KILL"),
    ("destroy", &["-a", "--all"], "fosse clean destroys all ended runs"),
];

/// Options that make sense beside another one only.
const NEEDED: [(&str, &str); 1] = [("--json", "--dry-run")];

/// The verb that was typed, as far as it is one: its words by their usual names, and its parser.
pub(crate) struct Asked<'a> {
    pub(crate) words: Vec<&'a str>,
    pub(crate) parser: &'a Command,
    /// How many arguments these are.
    pub(crate) depth: usize,
}

/// Follows the arguments, without the program's name, into the verbs.
pub(crate) fn asked<'a>(program: &'a Command, args: &[OsString]) -> Asked<'a> {
    let mut asked = Asked { words: vec!["fosse"], parser: program, depth: 0 };
    while let Some(found) =
        args.get(asked.depth).and_then(|arg| asked.parser.find_subcommand(arg)).filter(|found| !found.is_hide_set())
    {
        asked.words.push(found.get_name());
        asked.parser = found;
        asked.depth += 1;
    }
    asked
}

/// Explains an error of the parser's; `args` are without the program's name.
pub(crate) fn explain(error: &clap::Error, program: &Command, args: &[OsString]) -> Failure {
    let asked = asked(program, args);
    let said = |kind| texts(error, kind).into_iter().next().unwrap_or_default();
    let option = |text: &str| text.split([' ', '=', '<']).next().unwrap_or_default().to_owned();
    let failure = match error.kind() {
        ErrorKind::InvalidSubcommand => return asked.unknown_verb(&said(ContextKind::InvalidSubcommand)),
        ErrorKind::UnknownArgument => return asked.unknown_option(&option(&said(ContextKind::InvalidArg))),
        ErrorKind::MissingRequiredArgument => return asked.missing(texts(error, ContextKind::InvalidArg), args),
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => return asked.value(error),
        ErrorKind::ArgumentConflict => {
            let [one, other] = [ContextKind::InvalidArg, ContextKind::PriorArg].map(|kind| option(&said(kind)));
            Failure::invalid("option", format!("{one} and {other} cannot be used together"))
        }
        ErrorKind::TooManyValues | ErrorKind::WrongNumberOfValues => {
            Failure::invalid("option", format!("{} takes no value", option(&said(ContextKind::InvalidArg))))
        }
        ErrorKind::InvalidUtf8 => {
            let odd = args.iter().find(|arg| arg.to_str().is_none());
            let odd = odd.map(|arg| format!("{:?}", arg.to_string_lossy())).unwrap_or_default();
            Failure::invalid("arguments", format!("{odd} is not UTF-8"))
        }
        ErrorKind::MissingSubcommand | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            Failure::invalid("arguments", "no verb is given")
        }
        _ => {
            let text = error.render().to_string();
            let first = text.split("\n\n").next().unwrap_or(&text).trim().trim_start_matches("error: ");
            Failure::invalid("arguments", first.split_whitespace().collect::<Vec<_>>().join(" "))
        }
    };
    failure.hint(asked.help())
}

impl Asked<'_> {
    fn path(&self) -> String {
        self.words.join(" ")
    }

    fn verb(&self) -> &str {
        self.words.get(1).copied().unwrap_or_default()
    }

    /// Where to read more.
    fn help(&self) -> String {
        let lists = if self.parser.has_subcommands() { "verbs" } else { "options" };
        format!("{} --help lists the {lists}", self.path())
    }

    /// A hint, and where to read more.
    fn with_help(&self, hint: &str) -> String {
        format!("{hint}{} {}", if hint.ends_with('?') { "" } else { ";" }, self.help())
    }

    fn unknown_verb(&self, word: &str) -> Failure {
        let foreign = FOREIGN_VERBS.iter().filter(|_| self.depth == 0).find(|(names, _)| names.contains(&word));
        let near = || {
            let verbs = self.parser.get_subcommands().filter(|verb| !verb.is_hide_set());
            let names = verbs.flat_map(|verb| std::iter::once(verb.get_name()).chain(verb.get_visible_aliases()));
            nearest(word, names).map(|name| self.with_help(&format!("did you mean {} {name}?", self.path())))
        };
        let hint = foreign.map(|(_, hint)| (*hint).to_owned()).or_else(near);
        let why = format!("{} has no verb {word:?}", self.path());
        Failure::invalid("verb", why).hint(hint.unwrap_or_else(|| self.help()))
    }

    fn unknown_option(&self, word: &str) -> Failure {
        if !word.starts_with('-') {
            let why = format!("{word:?} is one operand too many for {}", self.path());
            return Failure::invalid("operand", why).hint(self.help());
        }
        let foreign = FOREIGN_OPTIONS.iter().find(|(of, names, _)| *of == self.verb() && names.contains(&word));
        let near = || {
            let longs = self.parser.get_arguments().filter(|arg| !arg.is_hide_set()).filter_map(clap::Arg::get_long);
            let known: Vec<String> = longs.map(|long| format!("--{long}")).collect();
            let near = nearest(word, known.iter().map(String::as_str))?;
            Some(self.with_help(&format!("did you mean {near}?")))
        };
        let hint = foreign.map(|(_, _, hint)| (*hint).to_owned()).or_else(near);
        let why = format!("{} has no option {word}", self.path());
        Failure::invalid("option", why).hint(hint.unwrap_or_else(|| self.help()))
    }

    fn missing(&self, texts: Vec<String>, args: &[OsString]) -> Failure {
        let mut missing: Vec<String> = texts.iter().map(|text| plain(text)).collect();
        let end = args.iter().skip(self.depth).position(|arg| arg == "--");
        if self.verb() == "exec" && missing == ["COMMAND"] && end.is_some_and(|at| no_operand(self, args, at)) {
            // What was taken for the run is the command.
            missing = vec!["RUN".into()];
        }
        let hint = match (self.verb(), missing.first().map(String::as_str)) {
            ("exec", Some("RUN")) => "fosse exec RUN -- COMMAND; fosse list --running shows live runs".to_owned(),
            ("run" | "exec" | "init", Some("COMMAND")) => {
                let run = if self.verb() == "exec" { " RUN" } else { "" };
                self.with_help(&format!("{}{run} -- COMMAND [ARG...]", self.path()))
            }
            (_, Some("RUN")) => "name a run, or give its id: fosse list shows them".to_owned(),
            _ => self.help(),
        };
        let needed = NEEDED.iter().find(|(_, needed)| missing == [*needed]);
        let failure = match (needed, missing.len()) {
            (Some((needs, needed)), _) => Failure::invalid("option", format!("{needs} needs {needed}")),
            (None, 1) => Failure::invalid("arguments", format!("{} is missing", missing[0])),
            (None, _) => Failure::invalid("arguments", format!("{} are missing", missing.join(" and "))),
        };
        failure.hint(hint)
    }

    /// A value that is none of those that are allowed.
    fn value(&self, error: &clap::Error) -> Failure {
        let said = |kind| texts(error, kind).into_iter().next().unwrap_or_default();
        let (of, value) = (plain(&option_with_value(&said(ContextKind::InvalidArg))), said(ContextKind::InvalidValue));
        let kind = if of.starts_with('-') { "option" } else { "operand" };
        if value.is_empty() && error.kind() == ErrorKind::InvalidValue {
            return Failure::invalid(kind, format!("{of} needs a value")).hint(self.help());
        }
        let allowed = texts(error, ContextKind::ValidValue);
        let why = match std::error::Error::source(error) {
            Some(why) => why.to_string(),
            None if allowed.is_empty() => format!("{value:?} is not allowed"),
            None => format!("{value:?} is not {}", either(&allowed)),
        };
        let near = nearest(&value, allowed.iter().map(String::as_str));
        let hint = near.map_or_else(|| self.help(), |near| self.with_help(&format!("did you mean {near}?")));
        Failure::invalid(kind, format!("{of}: {why}")).hint(hint)
    }
}

/// Whether no operand stands before the `--` at this place of a verb's arguments.
fn no_operand(asked: &Asked<'_>, args: &[OsString], end: usize) -> bool {
    let mut rest = args[asked.depth..][..end].iter();
    while let Some(arg) = rest.next() {
        let Some(text) = arg.to_str().filter(|text| text.starts_with('-') && text.len() > 1) else { return false };
        if takes_next(asked.parser, text) {
            rest.next();
        }
    }
    true
}

/// Whether an option, as it was typed, has its value in the next argument.
pub(crate) fn takes_next(parser: &Command, text: &str) -> bool {
    let takes = |arg: &clap::Arg| arg.get_action().takes_values();
    if let Some(long) = text.strip_prefix("--") {
        return parser.get_arguments().any(|arg| arg.get_long() == Some(long) && takes(arg));
    }
    let mut shorts = text.chars().skip(1);
    while let Some(short) = shorts.next() {
        if parser.get_arguments().any(|arg| arg.get_short() == Some(short) && takes(arg)) {
            return shorts.next().is_none();
        }
    }
    false
}

/// What an error says of one kind.
fn texts(error: &clap::Error, kind: ContextKind) -> Vec<String> {
    match error.get(kind) {
        Some(ContextValue::String(text)) => vec![text.clone()],
        Some(ContextValue::Strings(texts)) => texts.clone(),
        Some(other) => vec![other.to_string()],
        None => Vec::new(),
    }
}

/// `<RUN>...` as people write it.
fn plain(text: &str) -> String {
    text.trim_end_matches("...").trim_matches(['<', '>', '[', ']']).to_owned()
}

/// `--color` of `--color <WHEN>`; an operand as it is.
fn option_with_value(text: &str) -> String {
    text.split(if text.starts_with('-') { " " } else { "\0" }).next().unwrap_or_default().to_owned()
}

/// `a, b or c`.
pub(crate) fn either<T: AsRef<str>>(words: &[T]) -> String {
    match words {
        [] => String::new(),
        [one] => one.as_ref().to_owned(),
        [some @ .., last] => {
            format!("{} or {}", some.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(", "), last.as_ref())
        }
    }
}

/// The known word that somebody probably meant.
pub(crate) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let limit = match word.trim_start_matches('-').chars().count() {
        0..=2 => return None,
        3..=5 => 1,
        6..=9 => 2,
        _ => 3,
    };
    let near = known.map(|known| (distance(word, known), known)).filter(|(distance, _)| *distance <= limit);
    near.min_by_key(|(distance, _)| *distance).map(|(_, known)| known)
}

/// How many letters were added, lost, mistaken, or swapped with the next one (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let [a, b] = [a, b].map(|text| text.chars().collect::<Vec<_>>());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let changed = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (row[j - 1] + 1).min(rows[i - 1][j] + 1).min(rows[i - 1][j - 1] + changed);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_that_was_meant_is_found_and_no_stranger() {
        let known = ["run", "exec", "list", "inspect", "--image", "--timeout"];
        for (word, meant) in [
            ("rnu", Some("run")),
            ("--imgae", Some("--image")),
            ("insepct", Some("inspect")),
            ("--timout", Some("--timeout")),
            ("xyz", None),
            ("ps", None),
            ("--frobnicate", None),
        ] {
            assert_eq!(nearest(word, known.into_iter()), meant, "{word}");
        }
        assert_eq!(distance("abcd", "acbd"), 1);
        assert_eq!(distance("", "ab"), 2);
    }
}
