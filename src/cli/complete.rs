//! What may come next on a command line: the shells' completion files (man/completions) ask this program at each TAB,
//! so that they are as new as the program and know runs by name. Records are read, and no engine is asked.
//!
//! `fosse __complete WORD… CURRENT` prints a line that says what to offer, then the words, each with a description
//! after a tab:
//!
//! | first line | what the shell offers |
//! |---|---|
//! | `words` | the words that follow |
//! | `files`, `directories` | those of the host |
//! | `command N` | whatever it offers for the command that begins with word N |

use std::collections::BTreeSet;
use std::ffi::OsString;

use clap::{Arg, ArgAction, Command};

use super::config::is_variable;
use super::list::STATES;
use super::output::Out;
use super::usage::takes_next;
use crate::base::env;
use crate::base::error::one_line;
use crate::run::store::{Entry, Store, View};
use crate::runtime::Kind;

/// The verb that the completion files use.
pub(crate) const VERB: &str = "__complete";

/// The longest description.
const DESCRIPTION_MAX: usize = 60;

/// What to offer.
#[derive(Debug, PartialEq, Eq)]
enum Offer {
    Words(Vec<(String, String)>),
    Files,
    Directories,
    /// What belongs to the command that begins with this word.
    Command(usize),
}

impl Offer {
    fn none() -> Offer {
        Offer::Words(Vec::new())
    }
}

/// Where runs are looked up; none are offered without it.
type Runs<'a> = &'a dyn Fn() -> Vec<View>;

/// Answers a shell. Whatever goes wrong: nothing is offered, and nothing is said.
pub(crate) fn complete(args: &[OsString]) -> u8 {
    let words: Vec<String> = args.iter().map(|word| unquoted(&word.to_string_lossy())).collect();
    let views = || super::store().map(|store| views(&store)).unwrap_or_default();
    let mut program = super::command();
    program.build();
    let (first, words) = match offer(&program, &words, &views) {
        Offer::Words(words) => ("words".to_owned(), words),
        Offer::Files => ("files".to_owned(), Vec::new()),
        Offer::Directories => ("directories".to_owned(), Vec::new()),
        Offer::Command(at) => (format!("command {at}"), Vec::new()),
    };
    let mut out = Out::stdout();
    let lines = words.iter().map(|(word, about)| format!("{word}\t{about}"));
    let said = std::iter::once(first).chain(lines).try_for_each(|line| out.line(&line));
    drop(said.and_then(|()| out.finish()));
    0
}

/// A word as the shell will read it, but for what a shell would have to look up.
fn unquoted(word: &str) -> String {
    let mut plain = String::new();
    let mut rest = word.chars();
    while let Some(c) = rest.next() {
        match c {
            '\\' => plain.extend(rest.next()),
            '\'' | '"' => {}
            other => plain.push(other),
        }
    }
    plain
}

/// All runs whose record can be read: live ones first, then the newest.
fn views(store: &Store) -> Vec<View> {
    let all = store.all_for_show().unwrap_or_default().into_iter();
    let mut known: Vec<View> = all
        .filter_map(|entry| match entry {
            Entry::Known(view) => Some(*view),
            Entry::Unreadable { .. } => None,
        })
        .collect();
    known.sort_by_key(|view| !view.is_live());
    known
}

/// What was typed before the current word.
struct Typed<'a> {
    parser: &'a Command,
    /// The verb's name, or nothing yet.
    verb: &'a str,
    /// Options that are there already.
    options: Vec<&'a Arg>,
    operands: Vec<&'a str>,
    /// The option whose value comes next.
    pending: Option<&'a Arg>,
    /// Whether `--` was there.
    ended: bool,
    /// Where the command began.
    command: Option<usize>,
}

impl<'a> Typed<'a> {
    fn read(program: &'a Command, words: &'a [String]) -> Typed<'a> {
        let mut typed = Typed {
            parser: program,
            verb: "",
            options: Vec::new(),
            operands: Vec::new(),
            pending: None,
            ended: false,
            command: None,
        };
        for (at, word) in words.iter().enumerate() {
            if typed.pending.take().is_some() {
                continue;
            }
            match word.as_str() {
                "--" if !typed.ended => typed.ended = true,
                option if option.starts_with('-') && option.len() > 1 && !typed.ended => typed.option(option),
                operand => typed.operand(operand, at),
            }
            if typed.command.is_some() {
                break;
            }
        }
        typed
    }

    fn option(&mut self, word: &str) {
        let named = |arg: &&Arg| match word.strip_prefix("--") {
            Some(long) => arg.get_long() == Some(long.split('=').next().unwrap_or_default()),
            None => arg.get_short() == word.chars().last(),
        };
        let found = self.parser.get_arguments().find(named);
        self.options.extend(found);
        if takes_next(self.parser, word) {
            self.pending = found;
        }
    }

    fn operand(&mut self, word: &'a str, at: usize) {
        if let Some(verb) = self.parser.find_subcommand(word) {
            (self.parser, self.verb) = (verb, verb.get_name());
            return;
        }
        if self.next_operand().is_some_and(Arg::is_trailing_var_arg_set) {
            self.command = Some(at);
        }
        self.operands.push(word);
    }

    /// The operand that comes next.
    fn next_operand(&self) -> Option<&'a Arg> {
        let all: Vec<&Arg> = self.parser.get_positionals().collect();
        let last = all.last().copied().filter(|last| matches!(last.get_action(), ArgAction::Append));
        all.get(self.operands.len()).copied().or(last)
    }
}

fn offer(program: &Command, words: &[String], runs: Runs<'_>) -> Offer {
    let Some((current, before)) = words.split_last() else { return Offer::none() };
    // `help VERB` is about verbs only.
    let helps = before.iter().take(2).position(|word| word == "help");
    let before = match helps {
        Some(at) => [&before[..at], &before[at + 1..]].concat(),
        None => before.to_vec(),
    };
    let typed = Typed::read(program, &before);
    if let Some(at) = typed.command {
        return Offer::Command(at);
    }
    if typed.parser.has_subcommands() && typed.pending.is_none() && !current.starts_with('-') {
        return if typed.operands.is_empty() { verbs(&typed, current, helps.is_some()) } else { Offer::none() };
    }
    if helps.is_some() {
        return Offer::none();
    }
    if let Some(option) = typed.pending {
        return value(option, &typed, "", current, runs);
    }
    if let (false, Some((name, text))) = (typed.ended, current.split_once('=').filter(|_| current.starts_with("--"))) {
        let option = typed.parser.get_arguments().find(|arg| arg.get_long() == Some(&name[2..]));
        return option.map_or_else(Offer::none, |option| value(option, &typed, &format!("{name}="), text, runs));
    }
    if !typed.ended && current.starts_with('-') {
        return options(&typed, current);
    }
    match typed.next_operand() {
        Some(operand) if operand.is_trailing_var_arg_set() => Offer::Command(before.len()),
        Some(operand) => value(operand, &typed, "", current, runs),
        None => Offer::none(),
    }
}

/// Those of some words that begin as the current one does.
fn fitting(prefix: &str, current: &str, words: impl IntoIterator<Item = (String, String)>) -> Offer {
    let fits = words.into_iter().filter(|(word, _)| word.starts_with(current));
    Offer::Words(fits.map(|(word, about)| (format!("{prefix}{word}"), about)).collect())
}

/// Plain words.
fn plain<T: Into<String>>(words: impl IntoIterator<Item = T>) -> Vec<(String, String)> {
    words.into_iter().map(|word| (word.into(), String::new())).collect()
}

fn verbs(typed: &Typed<'_>, current: &str, helps: bool) -> Offer {
    let known = typed.parser.get_subcommands().filter(|verb| !verb.is_hide_set());
    let mut all: Vec<(String, String)> = known
        .flat_map(|verb| {
            let about = verb.get_about().map(ToString::to_string).unwrap_or_default();
            let names = std::iter::once(verb.get_name()).chain(verb.get_visible_aliases());
            names.map(|name| (name.to_owned(), about.clone())).collect::<Vec<_>>()
        })
        .collect();
    if typed.verb.is_empty() && !helps {
        all.push(("help".into(), "Print the help of a verb".into()));
        all.push(("version".into(), "Print the version".into()));
    }
    fitting("", current, all)
}

fn options(typed: &Typed<'_>, current: &str) -> Offer {
    let is_used_up = |arg: &Arg| {
        let adds_up = matches!(arg.get_action(), ArgAction::Append);
        !adds_up && typed.options.iter().any(|used| used.get_id() == arg.get_id())
    };
    let known = typed.parser.get_arguments().filter(|arg| !arg.is_hide_set() && !arg.is_positional());
    let all = known.filter(|arg| !is_used_up(arg)).flat_map(|arg| {
        let about = arg.get_help().map(ToString::to_string).unwrap_or_default();
        let long = arg.get_long().map(|long| format!("--{long}"));
        let short = arg.get_short().map(|short| format!("-{short}"));
        long.into_iter().chain(short).map(move |name| (name, about.clone()))
    });
    fitting("", current, all)
}

/// What an option or operand can be.
fn value(arg: &Arg, typed: &Typed<'_>, prefix: &str, current: &str, runs: Runs<'_>) -> Offer {
    let possible = arg.get_possible_values();
    if !possible.is_empty() {
        let help = |value: &clap::builder::PossibleValue| value.get_help().map(ToString::to_string).unwrap_or_default();
        return fitting(prefix, current, possible.iter().map(|value| (value.get_name().to_owned(), help(value))));
    }
    let words = match arg.get_id().as_str() {
        "runtime" => plain(std::iter::once("auto").chain(Kind::ALL.map(Kind::as_str))),
        "network" => plain(["open", "none", "private"]),
        "user" => plain(["caller", "image", "root"]),
        "escape" => plain(["none", "^/", "^]"]),
        "stop_signal" => plain(["TERM", "INT", "HUP", "QUIT", "USR1", "USR2", "KILL"]),
        "image" => plain(runs().into_iter().filter_map(|view| view.record.image).collect::<BTreeSet<_>>()),
        "filter" => filters(current, runs),
        "env" => {
            let all = env::matching(is_variable).into_iter();
            plain(all.filter_map(|(name, _)| name.into_string().ok()))
        }
        "run" => operands(typed, current, &runs()),
        "workspace" | "workdir" => return Offer::Directories,
        "env_file" | "id_file" | "exit_file" | "socket" => return Offer::Files,
        "mount" if !current.contains(':') => return Offer::Files,
        _ => Vec::new(),
    };
    fitting(prefix, current, words)
}

fn filters(current: &str, runs: Runs<'_>) -> Vec<(String, String)> {
    let of = |key: &str, values: Vec<String>| plain(values.into_iter().map(|value| format!("{key}={value}")));
    match current.split_once('=').map(|(key, _)| key) {
        None => plain(["state=", "name=", "runtime=", "label="]),
        Some("state") => of("state", STATES.map(str::to_owned).into()),
        Some("runtime") => of("runtime", Kind::ALL.map(|kind| kind.as_str().to_owned()).into()),
        Some("name") => {
            let names: BTreeSet<String> = runs().iter().map(|view| view.record.name.to_string()).collect();
            of("name", names.into_iter().collect())
        }
        Some("label") => {
            let labels = |view: View| view.record.labels.into_iter().map(|(key, value)| format!("{key}={value}"));
            of("label", runs().into_iter().flat_map(labels).collect::<BTreeSet<_>>().into_iter().collect())
        }
        Some(_) => Vec::new(),
    }
}

/// Runs that a verb can do something with, by name; by id as well where somebody begins to type one, and where a name
/// means another run.
fn operands(typed: &Typed<'_>, current: &str, all: &[View]) -> Vec<(String, String)> {
    let has = |id: &str| typed.options.iter().any(|option| option.get_id() == id);
    let fits = |view: &&View| match typed.verb {
        "exec" => view.is_live(),
        "stop" => view.is_live() || view.is_orphan(),
        "destroy" => !view.is_live() || has("force"),
        _ => true,
    };
    let (mut named, mut words) = (BTreeSet::new(), Vec::new());
    for view in all {
        let record = &view.record;
        let (name, id) = (record.name.as_str(), record.id.as_str());
        let is_meant = named.insert(name);
        if !fits(&view) || typed.operands.contains(&name) || typed.operands.contains(&id) {
            continue;
        }
        let state = if view.is_orphan() { "failed" } else { record.state.as_str() };
        let about = |other: &str| {
            let text = one_line(&format!("{other} {state} {}", record.command.join(" ")));
            text.chars().take(DESCRIPTION_MAX).collect::<String>()
        };
        if is_meant {
            words.push((name.to_owned(), about(id)));
        }
        if !is_meant || !current.is_empty() {
            words.push((id.to_owned(), about(name)));
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first line, and the words.
    fn offered(line: &str) -> (String, Vec<String>) {
        let mut program = crate::cli::command();
        program.build();
        let words: Vec<String> = line.split(' ').map(unquoted).collect();
        match offer(&program, &words, &Vec::new) {
            Offer::Words(words) => ("words".into(), words.into_iter().map(|(word, _)| word).collect()),
            Offer::Files => ("files".into(), Vec::new()),
            Offer::Directories => ("directories".into(), Vec::new()),
            Offer::Command(at) => (format!("command {at}"), Vec::new()),
        }
    }

    #[test]
    fn the_place_of_a_word_decides_what_it_can_be() {
        for (line, first, words) in [
            ("ex", "words", &["exec"][..]),
            ("l", "words", &["list", "ls", "logs"]),
            ("help ex", "words", &["exec"]),
            ("help run ", "words", &[]),
            ("daemon st", "words", &["start", "stop", "status"]),
            ("daemon help sta", "words", &["start", "status"]),
            ("run --runtime n", "words", &["native"]),
            ("run --runtime=n", "words", &["--runtime=native"]),
            ("run --network=", "words", &["--network=open", "--network=none", "--network=private"]),
            ("run --user r", "words", &["root"]),
            ("run --no-w", "words", &["--no-workspace"]),
            ("run --keep --k", "words", &[]),
            ("run --env A=1 --env-", "words", &["--env-file"]),
            ("run -m ", "files", &[]),
            ("run -m /a:", "words", &[]),
            ("run -im ", "files", &[]),
            ("run --id-file ", "files", &[]),
            ("run --id-file=/t", "files", &[]),
            ("run -w ", "directories", &[]),
            ("run ", "command 1", &[]),
            ("run -- ", "command 2", &[]),
            ("run -- --", "command 2", &[]),
            ("run -n x ls --co", "command 3", &[]),
            ("run --dry-run git -", "command 2", &[]),
            ("exec web ", "command 2", &[]),
            ("exec -i web -- ls -", "command 4", &[]),
            ("init --subreaper ", "command 2", &[]),
            ("list --filter st", "words", &["state="]),
            ("list --filter state=f", "words", &["state=failed"]),
            ("list --filter=runtime=p", "words", &["--filter=runtime=podman"]),
            ("logs --stream std", "words", &["stdout", "stderr"]),
            ("clean ", "words", &["runs", "networks", "all"]),
            ("list -", "words", &["--running", "--filter", "--json", "--quiet", "-q", "--color", "--help", "-h"]),
            ("run --memory ", "words", &[]),
            ("nonsense ", "words", &[]),
        ] {
            let (said, all) = offered(line);
            assert_eq!(
                (said.as_str(), all.iter().map(String::as_str).collect::<Vec<_>>()),
                (first, words.to_vec()),
                "{line}"
            );
        }
    }
}
