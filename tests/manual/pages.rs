//! The manual, the completions, the README and the program say the same.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use fosse::cli::{command, config};
use fosse::runtime::Kind;
use fosse::wire::record;

pub type Names = BTreeSet<String>;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

pub fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

pub fn names<T: Into<String>>(names: impl IntoIterator<Item = T>) -> Names {
    names.into_iter().map(Into::into).collect()
}

/// Two lists of names that must be one; the message says what is missing where.
pub fn same(what: &str, documented: &Names, real: &Names) {
    let only = |a: &Names, b: &Names| a.difference(b).cloned().collect::<Vec<_>>().join(", ");
    assert_eq!(
        documented,
        real,
        "{what}: not documented: {}; documented only: {}",
        only(real, documented),
        only(documented, real)
    );
}

// ---- the program, as clap knows it ------------------------------------------------------------

/// The verbs with their parsers. Built, so that `--help` is among the options.
fn verbs() -> Vec<clap::Command> {
    let mut program = command();
    program.build();
    program.get_subcommands().cloned().collect()
}

fn verb_names() -> Names {
    names(verbs().iter().map(clap::Command::get_name))
}

/// What can be typed after the program's name to have something done: a verb, or one of a verb's own.
struct Leaf {
    /// Its words, as in `daemon start`.
    path: String,
    /// Its page.
    page: String,
    /// The section of the page that has its options; empty is the whole page.
    section: String,
    parser: clap::Command,
}

fn leaves() -> Vec<Leaf> {
    let mut leaves = Vec::new();
    for verb in verbs() {
        let page = page_of(verb.get_name());
        if !verb.has_subcommands() {
            let path = verb.get_name().to_owned();
            leaves.push(Leaf { path, page, section: String::new(), parser: verb });
            continue;
        }
        for action in verb.get_subcommands() {
            let path = format!("{} {}", verb.get_name(), action.get_name());
            let (page, parser) = (page.clone(), action.clone());
            leaves.push(Leaf { section: path.clone(), path, page, parser });
        }
    }
    leaves
}

/// The part of a page's synopsis that is about one leaf.
fn synopsis_of(leaf: &Leaf) -> String {
    let synopsis = section(&leaf.page, "SYNOPSIS");
    if leaf.section.is_empty() {
        return synopsis;
    }
    let head = format!(".Nm fosse Cm {}", leaf.path);
    let mut lines = synopsis.lines().skip_while(|line| *line != head);
    let own = lines.next().into_iter().chain(lines.take_while(|line| !line.starts_with(".Nm ")));
    own.collect::<Vec<_>>().join("\n")
}

/// `-n` and `--name` of each option that `--help` shows.
fn options_of(command: &clap::Command) -> Names {
    let spelled = |arg: &clap::Arg| {
        [arg.get_short().map(|short| format!("-{short}")), arg.get_long().map(|long| format!("--{long}"))]
    };
    command.get_arguments().filter(|arg| !arg.is_hide_set()).flat_map(spelled).flatten().collect()
}

/// What two spellings of one option have in common: the long one.
fn longs_of(command: &clap::Command) -> BTreeMap<String, String> {
    let pair = |arg: &clap::Arg| Some((format!("-{}", arg.get_short()?), format!("--{}", arg.get_long()?)));
    command.get_arguments().filter_map(pair).collect()
}

// ---- the manual -------------------------------------------------------------------------------

/// The page of a verb: of users, or of those who look after a machine.
fn page_of(verb: &str) -> String {
    let pages = ["1", "8"].map(|number| format!("man/fosse-{verb}.{number}"));
    let [usual, _] = &pages;
    pages.iter().find(|page| root().join(page).exists()).unwrap_or(usual).clone()
}

fn all_pages() -> Vec<String> {
    let entries = std::fs::read_dir(root().join("man")).unwrap();
    let files = entries.map(|entry| entry.unwrap()).filter(|entry| entry.path().is_file());
    let mut pages: Vec<String> = files.map(|entry| format!("man/{}", entry.file_name().to_string_lossy())).collect();
    // A page that only leads to another one is an alias's.
    pages.retain(|page| !read(page).starts_with(".so "));
    pages.sort();
    pages
}

/// The lines of one section, `.Sh` or `.Ss`; an empty name is the whole page.
pub fn section(page: &str, name: &str) -> String {
    let text = read(page);
    if name.is_empty() {
        return text;
    }
    let (mut lines, mut level) = (Vec::new(), None);
    for line in text.lines() {
        match line.split_once(' ') {
            Some((".Sh", title)) => level = (title == name).then_some(".Sh"),
            Some((".Ss", title)) if level != Some(".Sh") => level = (title == name).then_some(".Ss"),
            _ => {}
        }
        if level.is_some() {
            lines.push(line);
        }
    }
    assert!(!lines.is_empty(), "{page} has no section {name:?}");
    lines.join("\n")
}

/// The options that a line of mdoc(7) names: `Fl x` and `Fl Fl name`.
fn options_in(line: &str) -> Vec<String> {
    let words: Vec<&str> = line.trim_start_matches('.').split_whitespace().collect();
    let is_word = |word: &str| word.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || word == "V");
    let mut found = Vec::new();
    let mut at = 0;
    while at < words.len() {
        if words[at] == "Fl" {
            let long = words.get(at + 1) == Some(&"Fl");
            let mut next = at + 1 + usize::from(long);
            // `Fl q | v` is two options.
            while let Some(word) = words.get(next).filter(|word| is_word(word)) {
                found.push(if long { format!("--{word}") } else { format!("-{word}") });
                next += 1;
                if words.get(next) == Some(&"|") {
                    next += 1;
                } else {
                    break;
                }
            }
            at = next.max(at + 1);
        } else {
            at += 1;
        }
    }
    found
}

/// The heads of a page's lists: `.It Fl n , Fl Fl name Ar NAME`.
pub fn heads<'a>(text: &'a str, macro_name: &'a str) -> impl Iterator<Item = &'a str> {
    text.lines().filter_map(move |line| line.strip_prefix(".It ")?.strip_prefix(macro_name)?.strip_prefix(' '))
}

/// All words that some heads name, such as the variables of `.It Ev A , B`.
pub fn words_of<'a>(heads: impl Iterator<Item = &'a str>) -> Names {
    let first_only = |head: &'a str| head.split(" No ").next().unwrap_or(head);
    names(heads.map(first_only).flat_map(str::split_whitespace).filter(|word| *word != ","))
}

/// The words that a text names with one macro: `.Cm docker , podman`.
pub fn spelled(text: &str, macro_name: &str) -> Names {
    let own = text.lines().filter_map(|line| line.strip_prefix(macro_name)?.strip_prefix(' '));
    let words = own.flat_map(str::split_whitespace);
    names(words.filter(|word| word.bytes().any(|b| b.is_ascii_alphanumeric())))
}

/// One entry of a page's list, by its whole head.
fn entry(page: &str, head: &str) -> String {
    let text = read(page);
    let (_, rest) = text.split_once(&format!("\n.It {head}\n")).unwrap_or_else(|| panic!("{page} has no {head:?}"));
    rest.split("\n.It ").next().unwrap().to_owned()
}

/// The texts of all displays, with mdoc's escapes undone.
fn displays(page: &str) -> String {
    let (mut inside, mut shown) = (false, String::new());
    for line in read(page).lines() {
        match line {
            ".Ed" => inside = false,
            _ if line.starts_with(".Bd -literal") => inside = true,
            _ if inside => {
                shown.push_str(&line.replace("\\-", "-").replace("\\(aq", "'").replace("\\e", "\\"));
                shown.push('\n');
            }
            _ => {}
        }
    }
    shown
}

#[test]
fn every_verb_has_a_page_and_is_in_the_overview_and_in_the_readme() {
    let pages = all_pages();
    let verb_of = |page: &str| page.strip_prefix("man/fosse-")?.rsplit_once('.').map(|(verb, _)| verb.to_owned());
    // What several verbs have in common has pages of section 7.
    let paged = pages.iter().filter(|page| !page.ends_with(".7")).filter_map(|page| verb_of(page));
    same("pages of verbs", &names(paged), &verb_names());
    let overview = section("man/fosse.1", "Verbs");
    let listed: Names = words_of(heads(&overview, "Ic"));
    let with_aliases = verbs()
        .iter()
        .flat_map(|verb| {
            let aliases = verb.get_visible_aliases().map(str::to_owned).collect::<Vec<_>>();
            std::iter::once(verb.get_name().to_owned()).chain(aliases)
        })
        .collect();
    same("verbs in fosse(1)", &listed, &with_aliases);
    let readme = read("README.md");
    for verb in verb_names() {
        assert!(readme.contains(&format!("fosse {verb} ")), "README.md does not show fosse {verb}");
    }
}

#[test]
fn every_alias_is_on_its_verbs_page() {
    for verb in verbs() {
        let synopsis = section(&page_of(verb.get_name()), "SYNOPSIS");
        let named = synopsis.lines().filter_map(|line| line.strip_prefix(".Nm fosse Cm ")).map(str::to_owned);
        let own = leaves().into_iter().map(|leaf| leaf.path);
        let own = own.filter(|path| path.split(' ').next() == Some(verb.get_name()));
        let real = own.chain(verb.get_all_aliases().map(str::to_owned));
        same(verb.get_name(), &named.collect(), &real.collect());
    }
}

/// `man fosse-rm` shows the page of `destroy`.
#[test]
fn every_alias_has_a_page_that_leads_to_its_verbs() {
    for verb in verbs() {
        for alias in verb.get_visible_aliases() {
            let page = page_of(verb.get_name()).replace("man/", "man1/");
            assert_eq!(read(&format!("man/fosse-{alias}.1")), format!(".so {page}\n"));
        }
    }
}

/// What is wider than a terminal is broken or cut where it is read.
#[test]
fn displays_fit_a_terminal() {
    for page in all_pages() {
        for line in displays(&page).lines() {
            // They are indented by twelve.
            assert!(line.chars().count() <= 68, "{page}: {line}");
        }
        // mandoc takes a width of one character, and groff breaks the line after each head.
        let text = read(&page);
        assert!(!text.contains("-width \"1\""), "{page}");
    }
}

#[test]
fn every_option_is_on_its_verbs_page_and_every_option_there_exists() {
    for leaf in leaves() {
        let text = section(&leaf.page, &leaf.section);
        let mut listed: Names = heads(&text, "Fl").flat_map(|head| options_in(&format!("Fl {head}"))).collect();
        if !leaf.section.is_empty() {
            // Said once, for all that a verb can do.
            let before = read(&leaf.page).split("\n.Ss ").next().unwrap().to_owned();
            listed.extend(heads(&before, "Fl").flat_map(|head| options_in(&format!("Fl {head}"))));
        }
        same(&format!("{}: {}", leaf.page, leaf.path), &listed, &options_of(&leaf.parser));
    }
    let mut program = command();
    program.build();
    let overview = read("man/fosse.1");
    let listed = heads(&overview, "Fl").flat_map(|head| options_in(&format!("Fl {head}"))).collect();
    same("man/fosse.1", &listed, &options_of(&program));
}

#[test]
fn every_synopsis_names_every_option_once() {
    for leaf in leaves() {
        let longs = longs_of(&leaf.parser);
        let synopsis = synopsis_of(&leaf);
        let mut named: Vec<String> = synopsis.lines().flat_map(options_in).collect();
        named.iter_mut().for_each(|name| *name = longs.get(name).unwrap_or(name).clone());
        let count = named.len();
        let named = names(named);
        assert_eq!(count, named.len(), "the synopsis of {} names an option twice", leaf.path);
        let real = options_of(&leaf.parser);
        let real = real.into_iter().filter(|name| name.starts_with("--") && name != "--help").collect();
        same(&format!("synopsis of {}", leaf.path), &named, &real);
    }
}

#[test]
fn no_page_speaks_of_an_option_that_does_not_exist() {
    let own = leaves().into_iter().flat_map(|leaf| options_of(&leaf.parser));
    let mut known: Names = own.chain(options_of(&command())).collect();
    // Of the engines' tools.
    known.extend(["--init", "--userns", "--version", "-V"].map(str::to_owned));
    for page in all_pages() {
        for option in read(&page).lines().filter(|line| line.starts_with('.')).flat_map(options_in) {
            assert!(known.contains(&option), "{page} speaks of {option}");
        }
    }
}

#[test]
fn every_value_of_a_choice_is_on_its_verbs_page() {
    for leaf in leaves() {
        let page = read(&leaf.page);
        let spelled = words_of(heads(&page, "Cm").chain(page.lines().filter_map(|line| line.strip_prefix(".Cm "))));
        for arg in leaf.parser.get_arguments().filter(|arg| arg.get_action().takes_values()) {
            for value in arg.get_possible_values() {
                let there = spelled.contains(value.get_name());
                assert!(there, "{} does not explain {}={}", leaf.page, arg.get_id(), value.get_name());
            }
        }
    }
}

#[test]
fn every_runtime_is_named_wherever_one_is_chosen_or_shown() {
    let all = names(Kind::ALL.map(Kind::as_str));
    let mut chosen = all.clone();
    chosen.insert("auto".into());
    // The list comes first; other sentences name some of them again.
    let list = |page, head, before: usize| {
        let entry = entry(page, head);
        let sentences: Vec<&str> = entry.split(" .\n").collect();
        sentences[before].to_owned()
    };
    let option = list("man/fosse-run.1", "Fl Fl runtime Ar RUNTIME", 0);
    same("fosse-run(1), --runtime", &spelled(&option, ".Cm"), &chosen);
    let key = list("man/fosse.json.5", "Cm runtime", 1);
    same("fosse.json(5), runtime", &spelled(&key, ".Ql"), &chosen);
    for (page, head) in [
        ("man/fosse.1", "Em runtime"),
        ("man/fosse-records.7", "Va runtime"),
        ("man/fosse-list.1", "RUNTIME"),
        ("man/fosse-list.1", "Cm runtime Ns = Ns Ar RUNTIME"),
    ] {
        same(&format!("{page}, {head}"), &spelled(&entry(page, head), ".Cm"), &all);
    }
    let run = leaves().into_iter().find(|leaf| leaf.path == "run").unwrap().parser;
    let argument = run.get_arguments().find(|argument| argument.get_id() == "runtime").unwrap();
    let help = argument.get_help().unwrap().to_string();
    let words = help.split(|c: char| !c.is_ascii_lowercase()).filter(|word| !word.is_empty());
    let named = words.filter(|word| chosen.contains(*word));
    same("fosse run --help, --runtime", &names(named), &chosen);
}

#[test]
fn every_configuration_key_is_described_and_every_described_key_exists() {
    let keys = section("man/fosse.json.5", "Keys");
    same("keys of fosse.json(5)", &words_of(heads(&keys, "Cm")), &names(config::keys()));
}

#[test]
fn every_key_says_its_variable_and_whether_a_workspace_may_set_it() {
    let text = section("man/fosse.json.5", "Keys");
    let (mut variables, mut allowed) = (Names::new(), Names::new());
    for entry in text.split("\n.It Cm ").skip(1) {
        let key = entry.lines().next().unwrap();
        let twin = entry.lines().find_map(|line| line.strip_prefix(".Ev ")?.split_whitespace().next());
        if let Some(variable) = twin {
            assert_eq!(variable.to_lowercase(), format!("fosse_{key}"));
            variables.insert(variable.to_owned());
        }
        if entry.contains("may be set by a workspace") {
            allowed.insert(key.to_owned());
        }
    }
    same("variables of keys", &variables, &names(config::variables_of_keys()));
    same("keys of a workspace", &allowed, &names(config::workspace_keys()));
    let summary = section("man/fosse.json.5", "What a workspace may set");
    let listed = summary.lines().filter_map(|line| line.strip_prefix(".Cm ")).flat_map(str::split_whitespace);
    // The second mention of env is about its values.
    let listed = names(listed.filter(|word| *word != ","));
    same("keys of a workspace, in the summary", &listed, &names(config::workspace_keys()));
}

#[test]
fn every_variable_that_the_program_reads_or_sets_is_in_the_overview() {
    let mut real = names(config::variables_of_keys());
    for file in sources(&root().join("src")) {
        let text = std::fs::read_to_string(file).unwrap();
        for (at, _) in text.match_indices("FOSSE_") {
            let name: String = text[at..].chars().take_while(|c| c.is_ascii_uppercase() || *c == '_').collect();
            // Patterns, what only debug builds read, and a unit test's example are no user's business.
            let is_for_tests =
                name.starts_with("FOSSE_TEST_") || matches!(name.as_str(), "FOSSE_FAILPOINT" | "FOSSE_SURELY_NOT_SET");
            if !name.ends_with('_') && !is_for_tests {
                real.insert(name);
            }
        }
    }
    let text = section("man/fosse.1", "ENVIRONMENT");
    let mentioned = text.lines().flat_map(|line| line.trim_start_matches(".It ").split_whitespace());
    same("variables in fosse(1)", &names(mentioned.filter(|word| word.starts_with("FOSSE_"))), &real);
}

fn sources(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] }).collect()
}

#[test]
fn every_key_state_and_reason_of_a_record_is_described() {
    let text = r#"{"schema": 1, "id": "0123456789ab", "name": "n", "state": "created", "runtime": "docker",
        "engine": {"tool": "docker", "endpoint": "local"}, "io": "engine", "image": "i", "command": ["true"],
        "workspace": null, "user": "image", "network": "open", "created_at": "2026-01-01T00:00:00Z"}"#;
    let record = record::parse(text.as_bytes()).unwrap();
    let value = serde_json::to_value(record).unwrap();
    let described = section("man/fosse-records.7", "The record");
    same("keys of the record", &words_of(heads(&described, "Va")), &names(value.as_object().unwrap().keys()));
    for key in value["engine"].as_object().unwrap().keys() {
        assert!(described.contains(&format!(".Va {key} ")), "engine.{key} is not described");
    }
    // What is not a state or reason cannot be read back.
    let is = |kind: &str, word: &str| match kind {
        "state" => serde_json::from_str::<record::State>(&format!("{word:?}")).is_ok(),
        _ => serde_json::from_str::<record::Reason>(&format!("{word:?}")).is_ok(),
    };
    let (states, reasons) = described.split_once("of the end is one of these").unwrap();
    // The list of keys has heads of another kind.
    let (states, reasons) = (words_of(heads(states, "Cm")), words_of(heads(reasons, "Cm")));
    assert!(states.iter().all(|word| is("state", word)), "{states:?}");
    assert!(reasons.iter().all(|word| is("reason", word)), "{reasons:?}");
    use record::{Reason, State};
    let all = [State::Created, State::Starting, State::Running, State::Stopping, State::Stopped, State::Failed];
    same("states", &states, &names(all.map(State::as_str)));
    let all = [
        Reason::Exited,
        Reason::Signaled,
        Reason::Stopped,
        Reason::Timeout,
        Reason::StartFailed,
        Reason::Orphaned,
        Reason::Lost,
        Reason::Oom,
    ];
    same("reasons", &reasons, &names(all.map(Reason::as_str)));
}

// ---- examples ---------------------------------------------------------------------------------

/// The calls of fosse in a piece of shell, as words: from the name to what ends a command.
fn calls(script: &str) -> Vec<Vec<String>> {
    let script = script.replace("\\\n", " ");
    let mut found = Vec::new();
    for line in script.lines() {
        let mut words: Vec<(String, bool)> = Vec::new();
        let (mut word, mut quote, mut any, mut quoted) = (String::new(), None, false, false);
        for c in line.chars().chain([' ']) {
            match (quote, c) {
                (Some(open), _) if c == open => quote = None,
                (Some(_), _) => word.push(c),
                (None, '\'' | '"') => (quote, any, quoted) = (Some(c), true, true),
                (None, ' ' | '|' | ';' | '&' | '>' | ')' | '#') => {
                    if any || !word.is_empty() {
                        words.push((std::mem::take(&mut word), quoted));
                    }
                    (any, quoted) = (false, false);
                    if c != ' ' {
                        words.push((c.to_string(), false));
                    }
                }
                (None, _) => word.push(c),
            }
        }
        let ends = |(word, quoted): &(String, bool)| !quoted && ["|", ";", "&", ">", ")", "#"].contains(&word.as_str());
        for command in words.split(ends) {
            let program = command.iter().position(|(word, _)| word == "fosse" || word.ends_with("/fosse"));
            if let Some(at) = program {
                found.push(command[at..].iter().map(|(word, _)| word.clone()).collect());
            }
        }
    }
    found
}

/// The fenced blocks of a Markdown text in one language.
fn fenced(text: &str, language: &str) -> Vec<String> {
    let fence = format!("\n```{language}\n");
    text.split(&fence).skip(1).map(|rest| rest.split("\n```").next().unwrap().to_owned()).collect()
}

#[test]
fn every_example_is_understood_by_the_program() {
    let mut pieces: Vec<(String, String)> =
        all_pages().into_iter().map(|page| (page.clone(), displays(&page))).collect();
    pieces.extend(fenced(&read("README.md"), "sh").into_iter().map(|block| ("README.md".into(), block)));
    let mut seen = 0;
    for (place, script) in pieces {
        for call in calls(&script) {
            // A file to install, not a call.
            if call.len() == 1 || call[1].starts_with('/') {
                continue;
            }
            // `xargs fosse stop` adds the operand.
            let call = if script.contains(&format!("xargs -r {}", call.join(" "))) {
                [call, vec!["x".into()]].concat()
            } else {
                call
            };
            let parsed = command().try_get_matches_from(&call);
            assert!(parsed.is_ok(), "{place}: {call:?}: {}", parsed.unwrap_err());
            seen += 1;
        }
    }
    assert!(seen > 30, "only {seen} examples were found");
}

#[test]
fn every_example_of_a_configuration_is_one() {
    let blocks = displays("man/fosse.json.5").replace("}\n{", "}\u{0}{");
    let blocks: Vec<String> = blocks.split('\0').map(str::to_owned).collect();
    assert_eq!(blocks.len(), 2, "the user's and the workspace's");
    config::parse(blocks[0].as_bytes(), false).unwrap();
    config::parse(blocks[1].as_bytes(), true).unwrap();
    for block in fenced(&read("README.md"), "json") {
        config::parse(block.as_bytes(), true).unwrap();
    }
}

// ---- the README -------------------------------------------------------------------------------

#[test]
fn the_readme_starts_with_exactly_two_commands() {
    let readme = read("README.md");
    let start = readme.split("\n## ").find(|section| section.starts_with("Start\n")).unwrap();
    let blocks = fenced(start, "sh");
    assert_eq!(blocks.len(), 2, "{blocks:?}");
    assert!(blocks.iter().all(|block| block.lines().count() == 1), "{blocks:?}");
    assert_eq!(blocks[1], "sh tests/run");
}

#[test]
fn every_file_that_the_readme_names_exists() {
    let readme = read("README.md");
    let linked = readme.split("](").skip(1).map(|rest| rest.split(')').next().unwrap());
    let in_code = readme.split(|c: char| c.is_whitespace() || "`()".contains(c));
    let ours = |word: &&str| {
        ["tests/", "src/", "man/", ".cargo/"].iter().any(|top| word.trim_start_matches("./").starts_with(top))
    };
    let mut seen = 0;
    for name in linked.chain(in_code.filter(ours)) {
        let name = name.trim_start_matches("./").trim_end_matches([',', ';', '.', ']']);
        let there = match name.split_once('*') {
            None => root().join(name).exists(),
            Some((dir, ending)) => all_pages().iter().any(|page| page.starts_with(dir) && page.ends_with(ending)),
        };
        assert!(there, "README.md names {name}");
        seen += 1;
    }
    assert!(seen > 10, "only {seen} names were found");
}

#[test]
fn the_readme_and_the_manual_agree_on_exit_codes() {
    let readme = read("README.md");
    for (page, title) in
        [("man/fosse.1", "EXIT STATUS"), ("man/fosse-run.1", "EXIT STATUS"), ("man/fosse-records.7", "Exit codes")]
    {
        let text = section(page, title);
        let codes: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix(".It ")).take(6).collect();
        assert_eq!(codes, ["0\\(en255", "124", "125", "126", "127", "128+N"], "{page}");
    }
    for code in ["0–255", "124", "125", "126", "127", "128+N"] {
        assert!(readme.contains(&format!("\n| {code} | ")), "README.md does not explain {code}");
    }
}

// ---- files that programs read -----------------------------------------------------------------

const COMPLETIONS: [(&str, &str); 3] =
    [("bash", "man/completions/fosse.bash"), ("zsh", "man/completions/_fosse"), ("fish", "man/completions/fosse.fish")];

/// Runs a program on a file and gives what it says; `None` if the program is not installed.
fn check(program: &str, args: &[&str], file: &str) -> Option<(bool, String)> {
    let output = Command::new(program).args(args).arg(root().join(file)).stdin(Stdio::null()).output();
    let output = match output {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            crate::support::left_out(&format!("{program} is not installed"));
            return None;
        }
        other => other.unwrap(),
    };
    let said = [output.stdout, output.stderr].concat();
    Some((output.status.success(), String::from_utf8_lossy(&said).into_owned()))
}

#[test]
fn the_shells_can_read_their_completions() {
    for (shell, path) in COMPLETIONS {
        if let Some((well, said)) = check(shell, &["-n"], path) {
            assert!(well && said.is_empty(), "{path}: {said}");
        }
    }
}

#[test]
fn the_manual_is_well_formed() {
    for page in all_pages() {
        if let Some((_, said)) = check("mandoc", &["-T", "lint"], &page) {
            let bad: Vec<&str> = said
                .lines()
                .filter(|line| {
                    ["WARNING", "ERROR", "UNSUPP", "FATAL"].iter().any(|level| line.contains(&format!(" {level}: ")))
                })
                .collect();
            assert!(bad.is_empty(), "{}", bad.join("\n"));
        }
    }
}

#[test]
fn the_manual_refers_to_pages_that_exist() {
    let others = [
        "bwrap",
        "cgroups",
        "chroot",
        "clone3",
        "docker",
        "getrlimit",
        "head",
        "jq",
        "loginctl",
        "machine-id",
        "namespaces",
        "nohup",
        "open_by_handle_at",
        "podman",
        "prctl",
        "sd_listen_fds",
        "sd_notify",
        "seccomp",
        "su",
        "apt-get",
        "mount_setattr",
        "ssh",
        "sudo",
        "systemd",
        "tmpfs",
        "unshare",
        "user_namespaces",
    ];
    let pages = all_pages();
    for page in &pages {
        for line in read(page).lines() {
            let Some((name, number)) = line.strip_prefix(".Xr ").and_then(|rest| rest.split_once(' ')) else {
                continue;
            };
            let number = number.split_whitespace().next().unwrap();
            let known = others.contains(&name) || pages.contains(&format!("man/{name}.{number}"));
            assert!(known, "{page} refers to {name}({number})");
        }
    }
}

#[test]
fn both_licences_are_there_in_full() {
    let text = read("LICENSE");
    for part in [
        "the fosse contributors",
        "Permission is hereby granted, free of charge",
        "THE SOFTWARE IS PROVIDED \"AS IS\"",
        "TERMS AND CONDITIONS FOR USE, REPRODUCTION, AND DISTRIBUTION",
        "END OF TERMS AND CONDITIONS",
    ] {
        assert!(text.contains(part), "LICENSE lacks {part:?}");
    }
    assert!(read("Cargo.toml").contains("license = \"Apache-2.0 OR MIT\""));
}
