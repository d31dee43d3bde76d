//! JSON as Swift's encoders write it, byte by byte.

use serde_json::Value;

use crate::random;
use crate::version::Version;

/// How a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// On one line: `list`.
    Compact,
    /// Over several lines: `inspect` since 1.0.
    Pretty,
}

/// Writes a value in the style of a release: before 1.0 everything was compact, and keys had no order.
pub fn render(value: &Value, form: Form, version: Version) -> String {
    let pretty = form == Form::Pretty && version.is_modern();
    let mut out = String::new();
    write(&mut out, value, 0, Style { pretty, shuffled: !version.is_modern(), escaped: version.escapes_slashes() });
    out
}

#[derive(Clone, Copy)]
struct Style {
    pretty: bool,
    shuffled: bool,
    escaped: bool,
}

fn write(out: &mut String, value: &Value, depth: usize, style: Style) {
    match value {
        Value::Array(items) => {
            let items: Vec<(Option<&str>, &Value)> = items.iter().map(|item| (None, item)).collect();
            group(out, ('[', ']'), &items, depth, style);
        }
        Value::Object(map) => {
            let mut items: Vec<(Option<&str>, &Value)> =
                map.iter().map(|(key, item)| (Some(key.as_str()), item)).collect();
            if style.shuffled {
                random::shuffle(&mut items);
            }
            group(out, ('{', '}'), &items, depth, style);
        }
        Value::String(text) => out.push_str(&string(text, style)),
        Value::Null | Value::Bool(_) | Value::Number(_) => out.push_str(&value.to_string()),
    }
}

fn group(out: &mut String, signs: (char, char), items: &[(Option<&str>, &Value)], depth: usize, style: Style) {
    let line = |out: &mut String, depth: usize| {
        if style.pretty {
            out.push('\n');
            out.push_str(&"  ".repeat(depth));
        }
    };
    out.push(signs.0);
    if items.is_empty() && style.pretty {
        // Swift leaves a blank line in what is empty.
        out.push('\n');
    }
    for (at, (key, item)) in items.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        line(out, depth + 1);
        if let Some(key) = key {
            out.push_str(&string(key, style));
            out.push_str(if style.pretty { " : " } else { ":" });
        }
        write(out, item, depth + 1, style);
    }
    line(out, depth);
    out.push(signs.1);
}

fn string(text: &str, style: Style) -> String {
    let quoted = Value::from(text).to_string();
    if style.escaped { quoted.replace('/', "\\/") } else { quoted }
}

/// A date: ISO 8601 without a fraction, or seconds since 2001 before 1.0.
pub fn date(micros: u64, version: Version) -> Value {
    if version.is_modern() {
        let text = fosse::base::time::Timestamp::from_micros(micros / 1_000_000 * 1_000_000).to_string();
        return Value::from(text.replace(".000000Z", "Z"));
    }
    #[allow(clippy::cast_precision_loss, reason = "microseconds of this century fit into a double")]
    Value::from(micros as f64 / 1e6 - 978_307_200.0)
}
