//! The API that commands are run by: what a request asks for, and what is answered. Values only; the loop acts.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use crate::http::request::Request;
use crate::http::response::Response;

mod body;
mod encode;
mod words;

pub use body::parse_execute;
pub(crate) use encode::Body;
pub use words::split_words;

use encode::Form;

/// What a request asks for.
#[derive(Debug, PartialEq)]
pub(crate) enum Call {
    /// Whether this server is well.
    Health,
    /// To run a command.
    Execute(Execute),
}

/// A command to run.
#[derive(Clone, PartialEq)]
pub struct Execute {
    /// The program, which is not empty, and its arguments.
    pub argv: Vec<OsString>,
    /// Where it runs, if that was said; not empty.
    pub cwd: Option<PathBuf>,
    /// Variables beside those of this process, by name.
    pub env: Vec<(OsString, OsString)>,
    /// When it is ended.
    pub timeout: Duration,
    /// Whether its two streams are told apart.
    pub(crate) split: bool,
}

/// Without the values of variables, which may be secrets.
impl fmt::Debug for Execute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.env.iter().map(|(name, _)| name).collect();
        f.debug_struct("Execute")
            .field("argv", &self.argv)
            .field("cwd", &self.cwd)
            .field("env", &names)
            .field("timeout", &self.timeout)
            .field("split", &self.split)
            .finish()
    }
}

/// What became of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Its own code, 127 if it was not found, 126 if it could not be run, 128+N if signal N ended it.
    pub code: u8,
    /// The signal that ended it.
    pub signal: Option<u8>,
    /// What it said.
    pub output: Output,
    /// Whether it was ended because its time was up.
    pub timed_out: bool,
    /// Whether it said more than is kept.
    pub truncated: bool,
}

/// What a command said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Both streams in their order.
    Merged(Vec<u8>),
    /// Its standard output and its standard error.
    Split(Vec<u8>, Vec<u8>),
}

/// Finds out what a request asks for, or answers why it cannot be had.
pub(crate) fn route(request: &Request) -> Result<Call, Response> {
    let method = request.method.as_str();
    match request.path.as_str() {
        "/health" if matches!(method, "GET" | "HEAD") => Ok(Call::Health),
        "/health" => Err(Response::not_allowed("GET, HEAD")),
        "/process/execute" if method == "POST" => parse_execute(&request.body).map(Call::Execute),
        "/process/execute" => Err(Response::not_allowed("POST")),
        _ => Err(Response::error(404, "nothing is served at this path")),
    }
}

/// The answer to [`Call::Health`]. `echild` counts the children whose end was seen and could not be had, which nothing
/// but a fault here brings about.
pub(crate) fn health(echild: u64) -> Response {
    #[derive(Serialize)]
    struct Health {
        status: &'static str,
        version: &'static str,
        echild: u64,
    }
    Response::json(200, &Health { status: "ok", version: env!("CARGO_PKG_VERSION"), echild })
}

/// The answer to [`Call::Execute`], but its head: 200, or 408 with the same body when the time was up.
///
/// If any of the streams in it is not UTF-8, all of them are base64 and `encoding` says so; otherwise they are text
/// and there is no such key. A character that the limit on output cut in two is left out, so that text stays text.
pub fn reply(outcome: Outcome) -> (u16, Body) {
    let Outcome { code, signal, output, timed_out, truncated } = outcome;
    let (is_split, mut streams) = match output {
        Output::Merged(bytes) => (false, vec![bytes]),
        Output::Split(stdout, stderr) => (true, vec![stdout, stderr]),
    };
    let whole = |bytes: &Vec<u8>| if truncated { encode::whole_characters(bytes).len() } else { bytes.len() };
    let lengths: Vec<usize> = streams.iter().map(whole).collect();
    let form = encode::form_of(streams.iter().zip(&lengths).map(|(bytes, length)| &bytes[..*length]));
    if form == Form::Text {
        streams.iter_mut().zip(lengths).for_each(|(bytes, length)| bytes.truncate(length));
    }
    let signal = signal.map_or("null".into(), |number| number.to_string());
    let mut body = Body::new();
    body.json(&format!(r#"{{"exitCode":{code},"signal":{signal},"result":"#));
    body.json(if is_split { r#"null,"stdout":"# } else { "" });
    for (number, bytes) in streams.into_iter().enumerate() {
        body.json(if number > 0 { r#","stderr":"# } else { "" });
        body.string(bytes, form);
    }
    body.json(if is_split { "" } else { r#","stdout":null,"stderr":null"# });
    body.json(&format!(r#","timedOut":{timed_out},"truncated":{truncated}"#));
    body.json(if form == Form::Base64 { r#","encoding":"base64"}"# } else { "}" });
    (if timed_out { 408 } else { 200 }, body)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, path: &str) -> Request {
        let body = br#"{"command":["true"]}"#.to_vec();
        Request { method: method.into(), path: path.into(), body, ..Request::default() }
    }

    fn refused(method: &str, path: &str) -> (u16, Vec<(&'static str, String)>) {
        let response = route(&request(method, path)).unwrap_err();
        (response.status, response.headers)
    }

    fn text(outcome: Outcome) -> (u16, String) {
        let (status, body) = reply(outcome);
        let length = body.left();
        let text = String::from_utf8(body.collect::<Vec<_>>().concat()).unwrap();
        assert_eq!(text.len(), length);
        (status, text)
    }

    fn outcome(output: Output) -> Outcome {
        Outcome { code: 0, signal: None, output, timed_out: false, truncated: false }
    }

    #[test]
    fn each_call_has_its_path_and_method() {
        assert_eq!(route(&request("GET", "/health")).unwrap(), Call::Health);
        assert_eq!(route(&request("HEAD", "/health")).unwrap(), Call::Health);
        assert!(matches!(route(&request("POST", "/process/execute")), Ok(Call::Execute(_))));
        assert_eq!(refused("POST", "/health"), (405, vec![("Allow", "GET, HEAD".into())]));
        for method in ["GET", "HEAD", "PUT", "OPTIONS", "post"] {
            assert_eq!(refused(method, "/process/execute"), (405, vec![("Allow", "POST".into())]), "{method}");
        }
        for path in ["/", "", "*", "/health/", "/Health", "//health", "/process", "/process/execute/", "/%68ealth"] {
            assert_eq!(refused("POST", path), (404, vec![]), "{path}");
        }
    }

    #[test]
    fn health_says_which_version_is_well() {
        let body = health(0).body;
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(String::from_utf8(body).unwrap(), format!(r#"{{"status":"ok","version":"{version}","echild":0}}"#));
    }

    #[test]
    fn a_reply_has_every_key_whatever_happened() {
        assert_eq!(
            text(outcome(Output::Merged("é\"\n".into()))),
            (
                200,
                r#"{"exitCode":0,"signal":null,"result":"é\"\n","stdout":null,"stderr":null,"timedOut":false,"truncated":false}"#
                    .into()
            )
        );
        let ended = Outcome {
            code: 137,
            signal: Some(9),
            output: Output::Split(b"a".to_vec(), Vec::new()),
            timed_out: true,
            truncated: true,
        };
        assert_eq!(
            text(ended),
            (
                408,
                r#"{"exitCode":137,"signal":9,"result":null,"stdout":"a","stderr":"","timedOut":true,"truncated":true}"#
                    .into()
            )
        );
    }

    #[test]
    fn what_is_not_text_makes_all_of_the_reply_base64() {
        let (_, body) = text(outcome(Output::Split(b"\xff\0".to_vec(), b"ok".to_vec())));
        assert!(body.contains(r#""result":null,"stdout":"/wA=","stderr":"b2s=","#), "{body}");
        assert!(body.ends_with(r#","encoding":"base64"}"#), "{body}");
    }

    #[test]
    fn a_character_that_the_limit_cut_does_not_make_text_binary() {
        let cut = b"ab\xf0\x9f\x98".to_vec();
        let (_, body) = text(Outcome { truncated: true, ..outcome(Output::Merged(cut.clone())) });
        assert!(body.contains(r#""result":"ab""#), "{body}");
        let (_, body) = text(outcome(Output::Merged(cut)));
        assert!(body.contains(r#""encoding":"base64""#), "{body}");
        // Of what is no text nothing is left out.
        let binary = Output::Merged(b"\xff\xc3".to_vec());
        let (_, body) = text(Outcome { truncated: true, ..outcome(binary) });
        assert!(body.contains(r#""result":"/8M=""#), "{body}");
    }

    #[test]
    fn values_of_variables_are_in_no_debug_form() {
        let call = parse_execute(br#"{"command":"x","env":{"TOKEN":"hunter2"}}"#).unwrap();
        let text = format!("{call:?}");
        assert!(text.contains("TOKEN") && !text.contains("hunter2"));
    }
}
