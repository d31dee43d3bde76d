//! Responses and their bytes. Everything is JSON, errors too, and nothing may be kept or guessed at by a browser.

use std::fmt;

use serde::Serialize;

use super::request::Refusal;

/// What tells a client to go on and send its body; the response follows later.
pub(crate) const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// The type of everything that is sent.
const JSON: &str = "application/json";

/// A response, complete.
#[derive(Clone, PartialEq, Eq)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// What the body is.
    pub(crate) content_type: &'static str,
    /// The content.
    pub body: Vec<u8>,
    /// Fields beyond those that every response has. Nothing that a client sent belongs here.
    pub(crate) headers: Vec<(&'static str, String)>,
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    error: ErrorText<'a>,
}

#[derive(Serialize)]
struct ErrorText<'a> {
    status: u16,
    message: &'a str,
}

impl Response {
    /// A value as JSON. One that has no JSON form is a fault of this program: 500.
    pub(crate) fn json(status: u16, value: &impl Serialize) -> Self {
        match serde_json::to_vec(value) {
            Ok(body) => Self::from_json(status, body),
            Err(error) => Self::error(500, &error.to_string()),
        }
    }

    /// JSON that is written already.
    pub(crate) fn from_json(status: u16, body: Vec<u8>) -> Self {
        Response { status, content_type: JSON, body, headers: Vec::new() }
    }

    /// What went wrong, as `{"error": {"status": …, "message": …}}`.
    pub(crate) fn error(status: u16, message: &str) -> Self {
        let body = serde_json::to_vec(&ErrorBody { error: ErrorText { status, message } });
        Self::from_json(status, body.unwrap_or_default())
    }

    /// 401: a token is missing or wrong.
    pub(crate) fn unauthorized(message: &str) -> Self {
        Self::error(401, message).with("WWW-Authenticate", "Bearer")
    }

    /// 405: the resource is there, but not for that method.
    pub(crate) fn not_allowed(allowed: &str) -> Self {
        Self::error(405, &format!("only {allowed} can be done here")).with("Allow", allowed)
    }

    /// Adds a field.
    #[must_use]
    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// All bytes to send. `head_only` answers HEAD: everything is said as if the body followed.
    pub fn encode(&self, keep_alive: bool, head_only: bool) -> Vec<u8> {
        let mut bytes = self.head(keep_alive);
        if !head_only {
            bytes.extend_from_slice(&self.body);
        }
        bytes
    }

    /// The bytes to send before the body, for who does not want that copied.
    pub(crate) fn head(&self, keep_alive: bool) -> Vec<u8> {
        self.head_for(self.body.len(), keep_alive)
    }

    /// The bytes to send before a body of that length, for who has it elsewhere.
    pub(crate) fn head_for(&self, length: usize, keep_alive: bool) -> Vec<u8> {
        let connection = if keep_alive { "keep-alive" } else { "close" };
        let mut head = format!(
            "HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {length}\r\nConnection: {connection}\r\n\
             Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n",
            self.status,
            reason(self.status),
            self.content_type,
        );
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        head.into_bytes()
    }
}

/// Without the body, which may be a command's output.
impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("status", &self.status)
            .field("headers", &self.headers)
            .field("body", &self.body.len())
            .finish_non_exhaustive()
    }
}

impl From<Refusal> for Response {
    fn from(refusal: Refusal) -> Self {
        Response::error(refusal.status, &refusal.message)
    }
}

/// The words for a status; a client goes by the number.
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_has_everything_a_client_needs() {
        let response = Response::json(200, &[1, 2]);
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 5\r\n";
        let rest = "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n\r\n";
        let text = |keep_alive, head_only| String::from_utf8(response.encode(keep_alive, head_only)).unwrap();
        assert_eq!(text(true, false), format!("{head}Connection: keep-alive\r\n{rest}[1,2]"));
        assert_eq!(text(false, true), format!("{head}Connection: close\r\n{rest}"));
    }

    #[test]
    fn an_error_says_what_is_wrong_and_cannot_break_out() {
        let response = Response::error(404, "no \"such\"\r\nX: y");
        assert_eq!(response.body, br#"{"error":{"status":404,"message":"no \"such\"\r\nX: y"}}"#);
        let refused = Response::from(Refusal::new(431, "much"));
        assert_eq!((refused.status, refused.body), (431, br#"{"error":{"status":431,"message":"much"}}"#.to_vec()));
    }

    #[test]
    fn a_refusal_says_what_would_be_accepted() {
        let text = |response: Response| String::from_utf8(response.encode(true, false)).unwrap();
        assert!(text(Response::not_allowed("GET, HEAD")).contains("\r\nAllow: GET, HEAD\r\n"));
        assert!(text(Response::unauthorized("no")).contains("\r\nWWW-Authenticate: Bearer\r\n"));
    }

    #[test]
    fn every_status_that_is_sent_has_words() {
        let sent = [200, 400, 401, 403, 404, 405, 408, 413, 414, 415, 417, 429, 431, 500, 501, 503, 505];
        assert!(sent.into_iter().all(|status| !reason(status).is_empty()));
    }

    #[test]
    fn a_value_without_a_json_form_is_a_fault_of_ours() {
        let unordered = std::collections::BTreeMap::from([((1, 2), 3)]);
        assert_eq!(Response::json(200, &unordered).status, 500);
    }
}
