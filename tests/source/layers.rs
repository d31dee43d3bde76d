//! The shape of the house, as the design has it: which module may use which, and what has one home only.
//!
//! The sources are read as text, without a compiler: comments and literals are blanked, the rest is cut into words.
//! What is renamed on its way (`use std::thread::sleep as wait`) is left to clippy, which knows paths.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Which modules each may use, beside itself. A new module needs a row here, and in the design.
const MAY_USE: [(&str, &[&str]); 11] = [
    ("base", &[]),
    ("sys", &[]),
    ("wire", &["base"]),
    ("process", &["base", "sys"]),
    ("http", &["base", "wire"]),
    ("term", &["base", "sys"]),
    ("runtime", &["base", "wire", "process", "sys"]),
    ("run", &["base", "wire", "runtime", "process", "sys", "term"]),
    ("init", &["base", "wire", "http", "process", "sys"]),
    ("daemon", &["base", "wire", "run", "runtime", "http", "process", "sys"]),
    ("cli", &["base", "wire", "run", "runtime", "process", "sys", "daemon", "init", "http", "term"]),
];

/// Words that stand only under these paths.
const HOMES: [(&[&str], &[&str]); 9] = [
    (&["unsafe"], &["src/sys/"]),
    (&["println", "!"], &["src/cli/output.rs"]),
    (&["print", "!"], &["src/cli/output.rs"]),
    (&["eprintln", "!"], &["src/base/log.rs"]),
    (&["eprint", "!"], &["src/base/log.rs"]),
    (&["thread", "::", "sleep"], &[]),
    (&["Command", "::", "new"], &["src/process/", "src/init/", "src/runtime/native/"]),
    (&["Instant", "::", "now"], &["src/base/time.rs"]),
    (&["SystemTime", "::", "now"], &["src/base/time.rs"]),
];

/// The longest that a file may be.
const LINES_MAX: usize = 500;

// ---- reading sources --------------------------------------------------------------------------

/// The source with comments and literals blanked; lines stay where they are.
fn blank(source: &str) -> String {
    let chars: Vec<char> = source.chars().collect();
    let mut out = String::with_capacity(source.len());
    let mut at = 0;
    while at < chars.len() {
        let end = literal_end(&chars, at).unwrap_or(at);
        if end == at {
            out.push(chars[at]);
            at += 1;
        } else {
            out.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    out
}

/// Where the comment or literal ends that starts at `at`, if one does.
fn literal_end(chars: &[char], at: usize) -> Option<usize> {
    let get = |at: usize| chars.get(at).copied().unwrap_or('\0');
    let find = |from: usize, end: &[char]| {
        let found = chars[from.min(chars.len())..].windows(end.len()).position(|window| window == end);
        found.map_or(chars.len(), |position| from + position + end.len())
    };
    match (get(at), get(at + 1)) {
        ('/', '/') => Some(find(at, &['\n']).saturating_sub(1).max(at + 2)),
        ('/', '*') => {
            let (mut depth, mut end) = (1, at + 2);
            while depth > 0 && end < chars.len() {
                match (chars[end], get(end + 1)) {
                    ('/', '*') => (depth, end) = (depth + 1, end + 2),
                    ('*', '/') => (depth, end) = (depth - 1, end + 2),
                    _ => end += 1,
                }
            }
            Some(end)
        }
        ('r', '"' | '#') if at == 0 || !is_word(chars[at - 1]) || matches!(chars[at - 1], 'b' | 'c') => {
            let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
            let end: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
            // Otherwise a raw name, r#type.
            (get(at + 1 + hashes) == '"').then(|| find(at + 2 + hashes, &end))
        }
        ('"', _) => Some(quoted_end(chars, at + 1, '"')),
        ('\'', '\\') => Some(quoted_end(chars, at + 1, '\'')),
        // A character; anything else is a lifetime.
        ('\'', _) if get(at + 2) == '\'' => Some(at + 3),
        _ => None,
    }
}

fn quoted_end(chars: &[char], mut at: usize, quote: char) -> usize {
    while at < chars.len() && chars[at] != quote {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(chars.len())
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The words and signs of a source, each with the number of its line; `::` is one sign.
fn tokens(source: &str) -> Vec<(usize, String)> {
    let mut tokens: Vec<(usize, String)> = Vec::new();
    for (number, line) in blank(source).lines().enumerate() {
        let mut last = ' ';
        for c in line.chars() {
            match tokens.last_mut() {
                Some((_, token)) if (is_word(c) && is_word(last)) || (c == ':' && last == ':' && token == ":") => {
                    token.push(c)
                }
                _ if c.is_whitespace() => {}
                _ => tokens.push((number + 1, c.into())),
            }
            last = c;
        }
    }
    tokens
}

/// The top-level modules that a source uses, with lines. `depth` is how far below the crate's root its module is.
fn uses(source: &str, depth: usize) -> Vec<(usize, String)> {
    let tokens = tokens(source);
    let word = |at: usize| tokens.get(at).map_or("", |(_, token)| token.as_str());
    let (mut used, mut braces, mut inline) = (Vec::new(), 0, Vec::new());
    let mut at = 0;
    while at < tokens.len() {
        let line = tokens[at].0;
        match word(at) {
            "{" => {
                if at >= 2 && word(at - 2) == "mod" {
                    inline.push(braces);
                }
                braces += 1;
            }
            "}" => {
                braces -= 1;
                if inline.last() == Some(&braces) {
                    inline.pop();
                }
            }
            // Another name for the root would hide what is used through it.
            "crate" if word(at + 1) == "as" => used.push((line, "crate as".into())),
            "crate" if word(at + 1) == "::" => used.extend(heads(&tokens, at + 2)),
            "super" if word(at + 1) == "::" => {
                let mut steps = 1;
                while word(at + 2 * steps) == "super" && word(at + 2 * steps + 1) == "::" {
                    steps += 1;
                }
                at += 2 * steps - 1;
                if steps >= depth + inline.len() {
                    used.extend(heads(&tokens, at + 1));
                }
            }
            _ => {}
        }
        at += 1;
    }
    used
}

/// The first names of the paths that begin at `at`: one, or a group in braces.
fn heads(tokens: &[(usize, String)], at: usize) -> Vec<(usize, String)> {
    if tokens.get(at).is_none_or(|(_, token)| token != "{") {
        return tokens.get(at).cloned().into_iter().collect();
    }
    let (mut heads, mut depth) = (Vec::new(), 0);
    for (index, (_, token)) in tokens.iter().enumerate().skip(at) {
        match token.as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            break;
        }
        if depth == 1 && matches!(token.as_str(), "{" | ",") {
            heads.extend(tokens.get(index + 1).filter(|(_, next)| next != "}").cloned());
        }
    }
    heads
}

/// The path of a file's module: `src/a/b/mod.rs` and `src/a/b.rs` are `a`, `b`; the roots have none.
fn module_path(file: &str) -> Vec<&str> {
    let path = file.trim_start_matches("src/").trim_end_matches(".rs");
    let path = path.strip_suffix("/mod").unwrap_or(path);
    if matches!(path, "lib" | "main") { Vec::new() } else { path.split('/').collect() }
}

/// What is wrong with the uses of one file.
fn wrong_uses(file: &str, source: &str) -> Vec<String> {
    let path = module_path(file);
    let Some(module) = path.first() else { return Vec::new() };
    let Some((_, allowed)) = MAY_USE.iter().find(|(name, _)| name == module) else {
        return vec![format!("{file}: module {module} is not in the table")];
    };
    let wrong =
        uses(source, path.len()).into_iter().filter(|(_, used)| used != module && !allowed.contains(&used.as_str()));
    wrong.map(|(line, used)| format!("{file}:{line}: {module} may not use {used}")).collect()
}

/// What stands in a file and has its home elsewhere.
fn homeless(file: &str, source: &str) -> Vec<String> {
    let tokens = tokens(source);
    let mut wrong = Vec::new();
    for (words, homes) in HOMES.iter().filter(|(_, homes)| !homes.iter().any(|home| file.starts_with(home))) {
        let where_else = if homes.is_empty() { "no file".into() } else { homes.join(", ") };
        for window in
            tokens.windows(words.len()).filter(|window| window.iter().map(|(_, token)| token).eq(words.iter()))
        {
            wrong.push(format!("{file}:{}: {} belongs in {}", window[0].0, words.concat(), where_else));
        }
    }
    wrong
}

fn misshapen(file: &str, source: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let lines = source.lines().count();
    if lines > LINES_MAX {
        wrong.push(format!("{file}: {lines} lines are more than {LINES_MAX}"));
    }
    // The entry point of the binary says it too; what the library is for is a page of its own.
    if !source.starts_with("//! ") && !source.starts_with("#![doc = include_str!(\"DESIGN.md\")]") {
        wrong.push(format!("{file}: does not begin with what it is for (//!)"));
    }
    wrong
}

/// A way round in a graph, if there is one.
fn cycle(graph: &BTreeMap<&str, BTreeSet<&str>>) -> Option<String> {
    let mut left = graph.clone();
    // Whatever uses nothing that is left cannot be part of one.
    while let Some(leaf) = left.iter().find(|(_, used)| !used.iter().any(|name| left.contains_key(name))) {
        let leaf = *leaf.0;
        left.remove(leaf);
    }
    (!left.is_empty()).then(|| left.keys().copied().collect::<Vec<_>>().join(" "))
}

/// Every source: its path from the package's root, and its text.
fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut directories, mut sources) = (vec![root.join("src")], Vec::new());
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                sources.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    assert!(sources.len() > 40, "only {} files were found", sources.len());
    sources.sort();
    sources
}

fn assert_none(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

// ---- the house --------------------------------------------------------------------------------

#[test]
fn modules_use_only_what_is_below_them() {
    let sources = sources();
    let found: usize = sources.iter().map(|(file, source)| uses(source, module_path(file).len()).len()).sum();
    assert!(found > 200, "only {found} uses were found");
    assert_none(&sources.iter().flat_map(|(file, source)| wrong_uses(file, source)).collect::<Vec<_>>());
}

#[test]
fn no_module_uses_itself_by_way_of_another() {
    let table = MAY_USE.iter().map(|(name, used)| (*name, used.iter().copied().collect())).collect();
    assert_eq!(cycle(&table), None, "the table itself");
    let sources = sources();
    let mut found = Vec::new();
    for (file, source) in &sources {
        let path = module_path(file);
        found.extend(path.first().map(|module| (*module, uses(source, path.len()))));
    }
    let mut graph: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (module, used) in &found {
        let others = used.iter().map(|(_, name)| name.as_str()).filter(|name| name != module);
        graph.entry(module).or_default().extend(others);
    }
    assert_eq!(cycle(&graph), None);
}

#[test]
fn unsafe_code_time_programs_and_printing_stay_in_their_homes() {
    assert_none(&sources().iter().flat_map(|(file, source)| homeless(file, source)).collect::<Vec<_>>());
}

#[test]
fn files_are_short_and_say_what_they_are_for() {
    assert_none(&sources().iter().flat_map(|(file, source)| misshapen(file, source)).collect::<Vec<_>>());
}

// ---- maps -------------------------------------------------------------------------------------

/// The names in a map: what stands in backquotes in the first column of a table whose head is `module` or `file`.
fn mapped(text: &str) -> BTreeSet<String> {
    let lines = text.lines().map(|line| line.trim_start_matches("//!").trim());
    let table = lines.skip_while(|line| !line.starts_with("| module |") && !line.starts_with("| file |"));
    let rows = table.take_while(|line| line.starts_with('|')).filter_map(|line| line.split('|').nth(1));
    rows.flat_map(|cell| cell.split('`').skip(1).step_by(2)).map(str::to_owned).collect()
}

/// The modules in a directory, tests apart.
fn modules_in(directory: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let modules = entries.filter(|path| path.is_dir() || path.extension().is_some_and(|ending| ending == "rs"));
    let names = modules.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned());
    names.filter(|name| !matches!(name.as_str(), "lib" | "main" | "mod" | "tests")).collect()
}

#[test]
fn maps_name_what_the_tree_has() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut maps = vec![(root.clone(), fs::read_to_string(root.join("DESIGN.md")).unwrap())];
    let directories = sources().into_iter().filter_map(|(file, source)| {
        let directory = Path::new(file.strip_suffix("/mod.rs")?.strip_prefix("src/")?).to_path_buf();
        Some((root.join(directory), source))
    });
    maps.extend(directories);
    assert!(maps.len() > 10, "{}", maps.len());
    for (directory, text) in maps {
        let modules = modules_in(&directory);
        // One or two need no map.
        if modules.len() > 2 {
            assert_eq!(mapped(&text), modules, "the map of {}", directory.display());
        }
    }
}

// ---- the scanner ------------------------------------------------------------------------------

fn used(source: &str, depth: usize) -> Vec<String> {
    uses(source, depth).into_iter().map(|(_, name)| name).collect()
}

#[test]
fn the_scanner_sees_every_way_to_name_a_module() {
    for (source, depth, expected) in [
        ("use crate::run;", 1, vec!["run"]),
        ("use crate::run::{state, store};", 1, vec!["run"]),
        ("use crate::{base::{time, id}, sys, wire::*};", 1, vec!["base", "sys", "wire"]),
        ("use crate::{\n    base,\n    cli,\n};", 1, vec!["base", "cli"]),
        ("fn f() { crate :: cli::main(x::y) }", 1, vec!["cli"]),
        ("pub(crate) fn f(a: &crate::wire::X) -> crate::base::Y {}", 1, vec!["wire", "base"]),
        ("use crate::*;", 1, vec!["*"]),
        ("use crate as house;", 1, vec!["crate as"]),
        ("use super::cli;", 1, vec!["cli"]),
        ("use super::{cli, run::x};", 1, vec!["cli", "run"]),
        ("use super::cli;", 2, vec![]),
        ("use super::super::cli;", 2, vec!["cli"]),
        ("use super::super::mine;", 3, vec![]),
        ("mod tests { use super::mine; fn f() { super::super::cli::x() } }", 1, vec!["cli"]),
        ("mod tests { use super::*; } use super::cli;", 1, vec!["cli"]),
        ("fn f() {} mod a { mod b { use super::super::super::cli; } use super::super::run; }", 1, vec!["cli", "run"]),
        ("pub(super) use self::x; pub(in super::super) fn f() {}", 4, vec![]),
        ("//! crate::cli\n/* crate::cli /* nested */ crate::run */ use crate::base; // crate::sys", 1, vec!["base"]),
        (
            "let a = \"crate::cli\"; let b = r#\"\"crate::run\"#; let c = '\"'; crate::base::d('\\'', b\"\\\"crate::x\")",
            1,
            vec!["base"],
        ),
        ("fn f<'a>(x: &'a str) -> crate::base::T<'a> { 'x: loop { break 'x; } }", 1, vec!["base"]),
        ("r#crate_like::x; notcrate::x; crates::x", 1, vec![]),
    ] {
        assert_eq!(used(source, depth), expected, "{source}");
    }
}

#[test]
fn the_scanner_reports_what_the_table_forbids_and_nothing_else() {
    let line = |file: &str, source: &str| wrong_uses(file, source).join("; ");
    assert_eq!(line("src/base/x.rs", "use crate::base::id;\nuse crate::sys;"), "src/base/x.rs:2: base may not use sys");
    assert_eq!(line("src/sys/linux/x.rs", "use crate::sys::cerr;"), "");
    assert_eq!(line("src/sys/linux/x.rs", "use crate::base::id;"), "src/sys/linux/x.rs:1: sys may not use base");
    assert_eq!(line("src/process/mod.rs", "use crate::{base, sys};"), "");
    assert_eq!(line("src/process/mod.rs", "use super::run;"), "src/process/mod.rs:1: process may not use run");
    assert_eq!(
        line("src/runtime/docker/mod.rs", "use crate::run::X;"),
        "src/runtime/docker/mod.rs:1: runtime may not use run"
    );
    assert_eq!(line("src/run/x.rs", "use crate::cli;"), "src/run/x.rs:1: run may not use cli");
    assert_eq!(line("src/wire/x.rs", "crate::process::Exit"), "src/wire/x.rs:1: wire may not use process");
    assert_eq!(line("src/cli/run.rs", "use crate::{run, runtime, process, sys, wire, base, cli};"), "");
    assert_eq!(line("src/run/x.rs", "use crate::Failure;"), "src/run/x.rs:1: run may not use Failure");
    assert_eq!(line("src/new/mod.rs", ""), "src/new/mod.rs: module new is not in the table");
    assert_eq!(line("src/lib.rs", "pub use cli::main;"), "");
}

#[test]
fn the_scanner_finds_what_has_left_its_home() {
    let count = |file: &str, source: &str| homeless(file, source).len();
    for (source, home) in [
        ("unsafe { x() }", Some("src/sys/fd.rs")),
        ("fn f() { println!(\"x\"); }", Some("src/cli/output.rs")),
        ("print! (\"x\")", Some("src/cli/output.rs")),
        ("std::eprintln!(\"x\")", Some("src/base/log.rs")),
        ("std::thread::sleep(d)", None),
        ("std::process::Command::new(\"x\")", Some("src/process/child.rs")),
        ("Instant::now()", Some("src/base/time.rs")),
        ("let f = SystemTime::\n    now;", Some("src/base/time.rs")),
    ] {
        assert_eq!(count("src/run/x.rs", source), 1, "{source}");
        assert_eq!(home.map_or(0, |home| count(home, source)), 0, "{source}");
    }
    for fine in
        ["#![deny(unsafe_code)]", "// unsafe", "\"println!\"", "writeln!(f)", "Instant::nowhere", "Commands::new()"]
    {
        assert_eq!(count("src/run/x.rs", fine), 0, "{fine}");
    }
    assert_eq!(homeless("src/run/x.rs", "\n\nunsafe"), ["src/run/x.rs:3: unsafe belongs in src/sys/"]);
}

#[test]
fn the_scanner_measures_files() {
    let lines = |count: usize| format!("//! What it is for.\n{}", "x\n".repeat(count - 1));
    assert_eq!(misshapen("src/x.rs", &lines(500)), [""; 0]);
    assert_eq!(misshapen("src/x.rs", &lines(501)), ["src/x.rs: 501 lines are more than 500"]);
    assert_eq!(misshapen("src/x.rs", "use x;\n//! late").len(), 1);
    assert_eq!(misshapen("src/x.rs", "").len(), 1);
}

#[test]
fn the_scanner_finds_a_cycle() {
    let graph = |edges: &[(&'static str, &'static str)]| {
        let mut graph: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (from, to) in edges {
            graph.entry(from).or_default().insert(to);
        }
        graph
    };
    assert_eq!(cycle(&graph(&[("a", "b"), ("b", "c"), ("a", "c")])), None);
    assert_eq!(cycle(&graph(&[("a", "b"), ("b", "c"), ("c", "b")])), Some("a b c".into()));
}
