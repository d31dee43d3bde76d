//! Who may ask. A browser can be made to send requests here by any web page, so nothing that one sends on its own is
//! let in; beyond that, the token decides.

use std::fmt;
use std::hint::black_box;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::request::Request;
use super::response::Response;

/// The one thing that can be seen without a token: it says nothing about what runs here.
const HEALTH: &str = "/health";

/// Which names of this server are right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hosts {
    /// Any: where no browser connects, or the token alone decides.
    Any,
    /// Those of this machine. A web page whose own name was made to point here has another one.
    Loopback,
}

/// What a request must show.
#[derive(Clone)]
pub struct Guard {
    /// The secret that must be shown, if one is needed.
    pub token: Option<String>,
    /// The names under which this server may be asked.
    pub hosts: Hosts,
}

/// Without the token.
impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let token = self.token.as_ref().map(|_| "…");
        f.debug_struct("Guard").field("token", &token).field("hosts", &self.hosts).finish()
    }
}

impl Guard {
    /// Lets a request in, or says why not. The body is not looked at, so a request that is still coming can be judged.
    ///
    /// What a browser gives away comes first and answers the same with any token; what is said about the request
    /// itself comes last, for those only who may know.
    pub fn admit(&self, request: &Request) -> Result<(), Response> {
        if request.header("origin").is_some() {
            return Err(Response::error(403, "requests of web pages are not served"));
        }
        if self.hosts == Hosts::Loopback && !request.header("host").is_some_and(is_loopback) {
            return Err(Response::error(403, "the Host header does not name this machine: use localhost"));
        }
        if request.path != HEALTH || !matches!(request.method.as_str(), "GET" | "HEAD") {
            self.check_token(request)?;
        }
        if (request.has_body() || request.method == "POST") && !is_json(request) {
            return Err(Response::error(415, "the Content-Type must be application/json"));
        }
        Ok(())
    }

    fn check_token(&self, request: &Request) -> Result<(), Response> {
        let Some(token) = &self.token else { return Ok(()) };
        let mut shown = request.all("authorization");
        let (first, second) = (shown.next(), shown.next());
        match first.and_then(bearer).filter(|_| second.is_none()) {
            Some(shown) if is_same(shown, token.as_bytes()) => Ok(()),
            Some(_) => Err(Response::unauthorized("the token is wrong")),
            None => Err(Response::unauthorized("a token is needed: Authorization: Bearer TOKEN")),
        }
    }
}

/// What stands behind `Bearer`.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(b"Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
}

/// Whether the secret was shown. The time it takes depends on what was shown alone; an empty secret is never right.
fn is_same(shown: &[u8], secret: &[u8]) -> bool {
    if secret.is_empty() {
        return false;
    }
    let mut differences = u8::from(shown.len() != secret.len());
    for (byte, right) in shown.iter().zip(secret.iter().cycle()) {
        differences = black_box(differences | (byte ^ right));
    }
    differences == 0
}

/// Whether a Host header names this machine, on any port.
fn is_loopback(host: &[u8]) -> bool {
    let Ok(host) = std::str::from_utf8(host) else { return false };
    let (name, port) = match host.rfind(']') {
        Some(end) => host.split_at(end + 1),
        None => host.split_at(host.find(':').unwrap_or(host.len())),
    };
    let digits = port.strip_prefix(':').unwrap_or_default();
    let port_is_right = port.is_empty() || digits.bytes().all(|byte| byte.is_ascii_digit()) && port.starts_with(':');
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    let name_is_right = match address {
        Some(address) => address.parse().is_ok_and(|address: Ipv6Addr| address.is_loopback()),
        None => {
            name.eq_ignore_ascii_case("localhost") || name.parse().is_ok_and(|address: Ipv4Addr| address.is_loopback())
        }
    };
    name_is_right && port_is_right
}

/// Whether the content is said to be JSON, once and clearly. A web form cannot say so.
fn is_json(request: &Request) -> bool {
    let mut types = request.all("content-type");
    let (Some(first), None) = (types.next(), types.next()) else { return false };
    let essence = first.split(|byte| *byte == b';').next().unwrap_or_default();
    essence.trim_ascii().eq_ignore_ascii_case(b"application/json")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, path: &str, headers: &[(&str, &str)]) -> Request {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()));
        Request { method: method.into(), path: path.into(), headers: headers.collect(), ..Request::default() }
    }

    fn status(guard: &Guard, request: &Request) -> u16 {
        guard.admit(request).map_or_else(|response| response.status, |()| 200)
    }

    const OPEN: Guard = Guard { token: None, hosts: Hosts::Any };
    const LOCAL: Guard = Guard { token: None, hosts: Hosts::Loopback };
    const TYPE: (&str, &str) = ("content-type", "application/json");

    #[test]
    fn no_web_page_is_served() {
        for origin in ["null", "http://localhost", "https://example.com", ""] {
            for path in ["/health", "/process/execute"] {
                assert_eq!(status(&OPEN, &request("GET", path, &[("origin", origin), TYPE])), 403, "{origin}");
            }
        }
    }

    #[test]
    fn only_names_of_this_machine_are_right_on_loopback() {
        for host in [
            "localhost",
            "localhost:2280",
            "LocalHost:1",
            "localhost:",
            "127.0.0.1",
            "127.1.2.3:80",
            "[::1]",
            "[::1]:2280",
            "[0:0:0:0:0:0:0:1]",
        ] {
            assert_eq!(status(&LOCAL, &request("GET", "/health", &[("host", host)])), 200, "{host}");
        }
        for host in [
            "",
            "example.com",
            "localhost.example.com",
            "127.0.0.1.example.com",
            "localhost:80:80",
            "localhost:x",
            "localhost.",
            "127.1",
            "128.0.0.1",
            "0.0.0.0",
            "::1",
            "[::2]",
            "[::1",
            "::1]",
            "[::1]x",
            "[::1]80",
            "[::ffff:127.0.0.1]",
            "[127.0.0.1]",
            ":80",
            "\u{e9}",
        ] {
            assert_eq!(status(&LOCAL, &request("GET", "/health", &[("host", host)])), 403, "{host}");
            assert_eq!(status(&OPEN, &request("GET", "/health", &[("host", host)])), 200, "{host}");
        }
        assert_eq!(status(&LOCAL, &request("GET", "/health", &[])), 403);
    }

    #[test]
    fn what_carries_a_body_says_that_it_is_json() {
        let post = |headers: &[(&str, &str)]| status(&OPEN, &request("POST", "/process/execute", headers));
        for json in ["application/json", "Application/JSON", "application/json; charset=utf-8", "application/json;x"] {
            assert_eq!(post(&[("content-type", json)]), 200, "{json}");
        }
        for other in ["", "text/plain", "application/x-www-form-urlencoded", "application/jsonx", "a; application/json"]
        {
            assert_eq!(post(&[("content-type", other)]), 415, "{other}");
        }
        assert_eq!(post(&[]), 415);
        assert_eq!(post(&[TYPE, ("content-type", "text/plain")]), 415);
        assert_eq!(status(&OPEN, &request("GET", "/health", &[])), 200);
        assert_eq!(status(&OPEN, &request("GET", "/health", &[("content-length", "0")])), 200);
        assert_eq!(status(&OPEN, &request("GET", "/health", &[("content-length", "01")])), 415);
        assert_eq!(status(&OPEN, &request("PUT", "/health", &[("transfer-encoding", "chunked")])), 415);
    }

    #[test]
    fn the_token_is_needed_for_everything_but_health() {
        let guard = Guard { token: Some("se cret".into()), hosts: Hosts::Any };
        let with = |value: &str| {
            let request = request("POST", "/process/execute", &[("authorization", value), TYPE]);
            status(&guard, &request)
        };
        assert_eq!(with("Bearer se cret"), 200);
        assert_eq!(with("bearer  se cret"), 200);
        for wrong in
            ["", "se cret", "Bearer", "Bearer ", "Bearer se", "Bearer se cret2", "Bearer Se cret", "Basic se cret"]
        {
            assert_eq!(with(wrong), 401, "{wrong}");
        }
        let twice = [("authorization", "Bearer se cret"), ("authorization", "Bearer se cret"), TYPE];
        assert_eq!(status(&guard, &request("POST", "/process/execute", &twice)), 401);
        assert_eq!(status(&guard, &request("GET", "/health", &[])), 200);
        assert_eq!(status(&guard, &request("HEAD", "/health", &[])), 200);
        assert_eq!(status(&guard, &request("POST", "/health", &[TYPE])), 401);
        assert_eq!(status(&guard, &request("GET", "/health/", &[])), 401);
        assert_eq!(status(&guard, &request("GET", "/nothing", &[])), 401);
        let empty = Guard { token: Some(String::new()), hosts: Hosts::Any };
        assert_eq!(status(&empty, &request("POST", "/process/execute", &[("authorization", "Bearer "), TYPE])), 401);
    }

    #[test]
    fn who_lacks_the_token_learns_nothing_else() {
        let guard = Guard { token: Some("secret".into()), hosts: Hosts::Loopback };
        let local = ("host", "localhost");
        assert_eq!(status(&guard, &request("POST", "/process/execute", &[local])), 401);
        assert_eq!(status(&guard, &request("POST", "/process/execute", &[])), 403);
        let right = ("authorization", "Bearer secret");
        assert_eq!(status(&guard, &request("POST", "/process/execute", &[local, right, ("origin", "x")])), 403);
        assert_eq!(status(&guard, &request("POST", "/process/execute", &[local, right])), 415);
    }

    #[test]
    fn secrets_are_in_no_debug_form() {
        let guard = Guard { token: Some("hunter2".into()), hosts: Hosts::Any };
        let mut request = request("POST", "/", &[("authorization", "Bearer hunter2")]);
        request.body = b"hunter2".to_vec();
        request.query = Some("hunter2".into());
        assert!(!format!("{guard:?} {request:?}").contains("hunter2"));
    }
}
