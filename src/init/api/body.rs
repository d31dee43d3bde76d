//! The body of a request to run a command. It is checked while it is read, so that a wrong one is refused at its
//! first fault, with the name of the field, and costs no more memory than its bytes are worth.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::time::Duration;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::words::split_words;
use super::{Execute, Response};

/// The limit on a command's time where none is given.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(360);

/// The longest limit on a command's time, in seconds: a year.
const TIMEOUT_MAX: f64 = 86_400.0 * 365.0;

/// The most characters of a client's own text in a message.
const NAME_MAX: usize = 64;

const COMMAND: &str = "a string or an array of strings, the program first";
const TEXT: &str = "a string";
const PATH: &str = "a path, as a string that is not empty";
const ENV: &str = "an object of strings";
const TIMEOUT: &str = "a number of seconds above 0";
const BOOL: &str = "true or false";

/// Reads the body of `POST /process/execute`; anything wrong is a 400 that names the field.
pub fn parse_execute(body: &[u8]) -> Result<Execute, Response> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let parsed = Body.deserialize(&mut json).and_then(|execute| json.end().map(|()| execute));
    parsed.map_err(|error| Response::error(400, &message(body, &error)))
}

/// What is wrong: our own words about fields as they are, the parser's about JSON with their place.
fn message(body: &[u8], error: &serde_json::Error) -> String {
    let text = error.to_string();
    if body.trim_ascii().is_empty() {
        "body: expected a JSON object, got nothing".into()
    } else if error.is_data() {
        let place = format!(" at line {} column {}", error.line(), error.column());
        text.strip_suffix(&place).unwrap_or(&text).into()
    } else {
        format!("body: not valid JSON: {text}")
    }
}

/// A kind of value, for one field.
#[derive(Clone, Copy)]
enum Kind {
    Command,
    Text,
    Texts,
    Number,
    Bool,
}

enum Value {
    Words(Vec<OsString>),
    Text(String),
    Texts(BTreeMap<String, String>),
    Number(f64),
    Bool(bool),
}

/// Reads one field, and knows what to say about it.
struct Field<'a> {
    name: &'a dyn fmt::Display,
    kind: Kind,
    expected: &'a str,
}

impl Field<'_> {
    fn wrong<T, E: Error>(&self, got: impl fmt::Display) -> Result<T, E> {
        Err(E::custom(format_args!("{}: expected {}, got {got}", self.name, self.expected)))
    }

    /// No program can be given a text with a NUL.
    fn check_nul<E: Error>(&self, text: &str) -> Result<(), E> {
        if text.contains('\0') { self.wrong("a string with a NUL byte") } else { Ok(()) }
    }

    fn words<E: Error>(&self, words: Vec<OsString>) -> Result<Value, E> {
        match words.first() {
            None => self.wrong("no word at all"),
            Some(program) if program.is_empty() => self.wrong("a program without a name"),
            Some(_) => Ok(Value::Words(words)),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Field<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Field<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        self.wrong("null")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        if matches!(self.kind, Kind::Bool) { Ok(Value::Bool(value)) } else { self.wrong(value) }
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        self.visit_f64(value as f64)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        self.visit_f64(value as f64)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        if matches!(self.kind, Kind::Number) { Ok(Value::Number(value)) } else { self.wrong("a number") }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        match self.kind {
            Kind::Text => self.check_nul(text).map(|()| Value::Text(text.to_owned())),
            Kind::Command => {
                self.check_nul(text)?;
                split_words(text).or_else(|fault| self.wrong(fault)).and_then(|words| self.words(words))
            }
            Kind::Texts | Kind::Number | Kind::Bool => self.wrong("a string"),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        if !matches!(self.kind, Kind::Command) {
            return self.wrong("an array");
        }
        let mut words = Vec::new();
        loop {
            let at = words.len();
            let name = &format!("{}[{at}]", self.name);
            match elements.next_element_seed(Field { name, kind: Kind::Text, expected: TEXT })? {
                Some(Value::Text(word)) => words.push(word.into()),
                Some(_) => return self.wrong("another value"),
                None => return self.words(words),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        if !matches!(self.kind, Kind::Texts) {
            return self.wrong("an object");
        }
        let mut texts = BTreeMap::new();
        while let Some(key) = entries.next_key::<String>()? {
            let name = format!("{}.{}", self.name, shown(&key));
            if key.is_empty() || key.contains(['=', '\0']) {
                let fault = format!("{name}: the name of a variable is not empty and has no = and no NUL byte");
                return Err(A::Error::custom(fault));
            }
            let field = Field { name: &name, kind: Kind::Text, expected: TEXT };
            let Value::Text(value) = entries.next_value_seed(field)? else { return self.wrong("another value") };
            if texts.insert(key, value).is_some() {
                return Err(A::Error::custom(format_args!("{name}: given twice")));
            }
        }
        Ok(Value::Texts(texts))
    }
}

/// As much of a client's text as a message needs.
fn shown(text: &str) -> String {
    let short: String = text.chars().take(NAME_MAX).flat_map(char::escape_debug).collect();
    if text.chars().nth(NAME_MAX).is_some() { short + "…" } else { short }
}

/// The whole body.
struct Body;

impl<'de> DeserializeSeed<'de> for Body {
    type Value = Execute;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Execute, D::Error> {
        deserializer.deserialize_any(self)
    }
}

/// A body that is no object.
fn no_object<T, E: Error>(got: &str) -> Result<T, E> {
    Err(E::custom(format_args!("body: expected a JSON object, got {got}")))
}

impl<'de> Visitor<'de> for Body {
    type Value = Execute;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_unit<E: Error>(self) -> Result<Execute, E> {
        no_object("null")
    }

    fn visit_bool<E: Error>(self, _value: bool) -> Result<Execute, E> {
        no_object("a truth value")
    }

    fn visit_u64<E: Error>(self, _value: u64) -> Result<Execute, E> {
        no_object("a number")
    }

    fn visit_i64<E: Error>(self, _value: i64) -> Result<Execute, E> {
        no_object("a number")
    }

    fn visit_f64<E: Error>(self, _value: f64) -> Result<Execute, E> {
        no_object("a number")
    }

    fn visit_str<E: Error>(self, _value: &str) -> Result<Execute, E> {
        no_object("a string")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _elements: A) -> Result<Execute, A::Error> {
        no_object("an array")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Execute, A::Error> {
        let mut fields = Fields::default();
        while let Some(key) = entries.next_key::<String>()? {
            let (kind, expected) = match key.as_str() {
                "command" => (Kind::Command, COMMAND),
                "cwd" => (Kind::Text, PATH),
                "env" => (Kind::Texts, ENV),
                "timeout" => (Kind::Number, TIMEOUT),
                "split" => (Kind::Bool, BOOL),
                _ => return Err(A::Error::custom(format_args!("{}: not a known field", shown(&key)))),
            };
            let value = entries.next_value_seed(Field { name: &key, kind, expected })?;
            fields.put(value).map_err(|fault| A::Error::custom(format_args!("{key}: {fault}")))?;
        }
        fields.finish().map_err(A::Error::custom)
    }
}

#[derive(Default)]
struct Fields {
    command: Option<Vec<OsString>>,
    cwd: Option<String>,
    env: Option<BTreeMap<String, String>>,
    timeout: Option<Duration>,
    split: Option<bool>,
}

impl Fields {
    fn put(&mut self, value: Value) -> Result<(), String> {
        let twice = match value {
            Value::Words(words) => self.command.replace(words).is_some(),
            Value::Text(path) if path.is_empty() => return Err(format!("expected {PATH}, got an empty string")),
            Value::Text(path) => self.cwd.replace(path).is_some(),
            Value::Texts(texts) => self.env.replace(texts).is_some(),
            Value::Number(seconds) => self.timeout.replace(timeout(seconds)?).is_some(),
            Value::Bool(value) => self.split.replace(value).is_some(),
        };
        if twice { Err("given twice".into()) } else { Ok(()) }
    }

    fn finish(self) -> Result<Execute, String> {
        let argv = self.command.ok_or_else(|| format!("command: expected {COMMAND}, got nothing"))?;
        let env = self.env.unwrap_or_default().into_iter();
        Ok(Execute {
            argv,
            cwd: self.cwd.map(Into::into),
            env: env.map(|(name, value)| (name.into(), value.into())).collect(),
            timeout: self.timeout.unwrap_or(TIMEOUT_DEFAULT),
            split: self.split.unwrap_or(false),
        })
    }
}

fn timeout(seconds: f64) -> Result<Duration, String> {
    if seconds <= 0.0 {
        return Err(format!("expected {TIMEOUT}, got {seconds}"));
    }
    if seconds > TIMEOUT_MAX {
        return Err(format!("expected at most {TIMEOUT_MAX} seconds, got {seconds}"));
    }
    let exact = Duration::try_from_secs_f64(seconds).map_err(|error| format!("expected {TIMEOUT}: {error}"))?;
    // What is finer than the clocks of a poll must not become no time at all.
    Ok(exact.max(Duration::from_millis(1)))
}

#[cfg(test)]
mod tests;
