//! `fosse list`: runs, newest first. Reads records and locks; asks no engine and changes nothing.

use super::args::{Color, List};
use super::output::{Out, colored, table};
use super::report::{Error, Result};
use super::resolve::mistake;
use super::usage::{either, nearest};
use crate::base::duration;
use crate::base::time::Timestamp;
use crate::run::store::Entry;
use crate::runtime::Kind;
use crate::wire::record::{Record, State};

const HEADING: [&str; 7] = ["NAME", "ID", "RUNTIME", "STATE", "EXIT", "AGE", "COMMAND"];

/// The longest command in the table.
const COMMAND_MAX: usize = 60;

/// What `state` may be.
pub(crate) const STATES: [&str; 7] = ["created", "starting", "running", "stopping", "stopped", "failed", "unknown"];

/// A condition that a run must meet.
enum Filter {
    State(String),
    Name(String),
    Runtime(String),
    Label(String, Option<String>),
}

impl Filter {
    fn parse(text: &str) -> Result<Filter> {
        let refuse = || {
            let why = format!("--filter {text:?} is not state=, name=, runtime= or label= with a value");
            Error::Usage(mistake(why))
        };
        let unknown = |what: &str, value: &str, allowed: &[&str]| {
            let failure = mistake(format!("--filter: the {what} {value:?} is not {}", either(allowed)));
            let near = nearest(value, allowed.iter().copied());
            let hint = near.map(|near| format!("did you mean {what}={near}?"));
            Error::Usage(failure.hint(hint.unwrap_or_else(|| "fosse-list(1) describes every filter".into())))
        };
        let (key, value) = text.split_once('=').ok_or_else(refuse)?;
        let value = value.to_owned();
        match key {
            _ if value.is_empty() => Err(refuse()),
            "state" => {
                if STATES.contains(&value.as_str()) {
                    Ok(Filter::State(value))
                } else {
                    Err(unknown(key, &value, &STATES))
                }
            }
            "name" => Ok(Filter::Name(value)),
            "runtime" => {
                let all = Kind::ALL.map(Kind::as_str);
                if all.contains(&value.as_str()) { Ok(Filter::Runtime(value)) } else { Err(unknown(key, &value, &all)) }
            }
            "label" => match value.split_once('=') {
                Some((label, content)) => Ok(Filter::Label(label.to_owned(), Some(content.to_owned()))),
                None => Ok(Filter::Label(value, None)),
            },
            _ => Err(refuse()),
        }
    }

    fn matches(&self, row: &Row) -> bool {
        match (self, row) {
            (Filter::State(state), row) => row.state() == state,
            (_, Row::Unreadable(_)) => false,
            (Filter::Name(name), Row::Known(record)) => record.name.as_str() == name,
            (Filter::Runtime(runtime), Row::Known(record)) => record.runtime == *runtime,
            (Filter::Label(key, value), Row::Known(record)) => {
                record.labels.get(key).is_some_and(|there| value.as_ref().is_none_or(|wanted| wanted == there))
            }
        }
    }
}

/// A run in the list.
enum Row {
    Known(Box<Record>),
    Unreadable(String),
}

impl Row {
    fn state(&self) -> &'static str {
        match self {
            Row::Known(record) => record.state.as_str(),
            Row::Unreadable(_) => "unknown",
        }
    }

    fn id(&self) -> &str {
        match self {
            Row::Known(record) => record.id.as_str(),
            Row::Unreadable(id) => id,
        }
    }

    fn cells(&self, now: Timestamp) -> Vec<String> {
        let none = || "-".to_owned();
        match self {
            Row::Unreadable(id) => vec![none(), id.clone(), none(), "unknown".into(), none(), none(), none()],
            Row::Known(record) => vec![
                record.name.to_string(),
                record.id.to_string(),
                record.runtime.clone(),
                record.state.as_str().into(),
                record.exit_code.map_or_else(none, |code| code.to_string()),
                duration::short(record.created_at.age(now)),
                shortened(&record.command.join(" ")),
            ],
        }
    }
}

/// A command on one line, without bytes that a terminal would act on.
fn shortened(command: &str) -> String {
    let clean: String = command.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    if clean.chars().count() <= COMMAND_MAX {
        return clean;
    }
    let start: String = clean.chars().take(COMMAND_MAX - 1).collect();
    format!("{start}…")
}

pub(crate) fn list(args: &List) -> Result {
    let filters = args.filter.iter().map(|text| Filter::parse(text)).collect::<Result<Vec<_>>>()?;
    let store = super::store()?;
    let rows: Vec<Row> = store
        .all_for_show()?
        .into_iter()
        .filter(|entry| !args.running || matches!(entry, Entry::Known(view) if !view.shown().state.is_final()))
        .map(|entry| match entry {
            Entry::Known(view) => Row::Known(Box::new(view.shown())),
            Entry::Unreadable { id, .. } => Row::Unreadable(id.to_string()),
        })
        .filter(|row| filters.iter().all(|filter| filter.matches(row)))
        .collect();
    let mut out = Out::stdout();
    if args.quiet {
        for row in &rows {
            out.line(row.id())?;
        }
    } else if args.json {
        for row in &rows {
            match row {
                Row::Known(record) => out.json(record)?,
                Row::Unreadable(id) => {
                    out.json(
                        &serde_json::json!({"schema": crate::wire::record::SCHEMA, "id": id, "state": "unknown"}),
                    )?;
                }
            }
        }
    } else {
        print_table(&mut out, &rows, args.color)?;
    }
    out.finish()?;
    Ok(0)
}

fn print_table(out: &mut Out, rows: &[Row], color: Color) -> Result<()> {
    let now = Timestamp::now();
    let cells: Vec<Vec<String>> = rows.iter().map(|row| row.cells(now)).collect();
    let lines = table(&HEADING, &cells);
    let color = colored(color);
    for (at, line) in lines.iter().enumerate() {
        let paint = at.checked_sub(1).and_then(|row| rows.get(row)).and_then(shade).filter(|_| color);
        match paint {
            Some(code) => out.line(&format!("\u{1b}[{code}m{line}\u{1b}[0m"))?,
            None => out.line(line)?,
        }
    }
    Ok(())
}

/// Failed runs in red, live ones in green.
fn shade(row: &Row) -> Option<&'static str> {
    match row {
        Row::Unreadable(_) => Some("31"),
        Row::Known(record) => match record.state {
            State::Failed => Some("31"),
            State::Running => Some("32"),
            State::Created | State::Starting | State::Stopping | State::Stopped => None,
        },
    }
}
