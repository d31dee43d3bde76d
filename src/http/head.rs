//! What the head of a request says, read in one go once it is complete. Where RFC 9112 lets a server choose, what two
//! readers could understand differently is refused.

use super::request::{FIELDS_MAX, Limits, Refusal, Request};

/// How the end of a body is known.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Length(usize),
    Chunked,
}

/// A head that was understood: the request lacks its body only.
pub(super) struct Head {
    pub(crate) request: Request,
    pub(crate) framing: Framing,
    /// Whether the client waits to be told before it sends the body.
    pub(crate) expects: bool,
}

/// Whether a byte may stand in a method or a field's name.
pub(super) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Refuses what is not the first line of a request, without waiting for the rest.
pub(super) fn check_line(line: &[u8]) -> Result<(), Refusal> {
    let mut words = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(Refusal::bad("the first line is not METHOD TARGET VERSION"));
    };
    if method.is_empty() || !method.iter().copied().all(is_token) {
        return Err(Refusal::bad("the method is not a word"));
    }
    if target.is_empty() || !target.iter().all(u8::is_ascii_graphic) {
        return Err(Refusal::bad("the target has bytes that may not stand there"));
    }
    match version {
        b"HTTP/1.1" | b"HTTP/1.0" => Ok(()),
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit() => {
            Err(Refusal::new(505, "only HTTP/1.1 and HTTP/1.0 are spoken here"))
        }
        _ => Err(Refusal::bad("the first line does not end with a version of HTTP")),
    }
}

/// Reads a complete head, from its first line to the empty one.
pub(super) fn parse(bytes: &[u8], limits: &Limits) -> Result<Head, Refusal> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut head = httparse::Request::new(&mut fields);
    match head.parse(bytes) {
        Ok(httparse::Status::Complete(length)) if length == bytes.len() => {}
        Ok(_) => return Err(Refusal::bad("the head ends before its empty line")),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(Refusal::new(431, format!("more than {FIELDS_MAX} header fields")));
        }
        Err(error) => return Err(Refusal::bad(format!("the head cannot be read: {error}"))),
    }
    let headers = head.headers.iter().map(|field| (field.name.to_ascii_lowercase(), field.value.trim_ascii().to_vec()));
    let mut request = Request { headers: headers.collect(), ..Request::default() };
    request.method = head.method.unwrap_or_default().to_owned();
    let old = head.version == Some(0);
    let target = split_target(head.path.unwrap_or_default(), &request.method)
        .ok_or_else(|| Refusal::bad("the target is neither a path nor an http: address"))?;
    (request.path, request.query) = (target.path, target.query);
    check_host(&request, old)?;
    if let Some(authority) = target.authority {
        // RFC 9112, 3.2.2: the address takes the place of the field.
        request.headers.retain(|(name, _)| name != "host");
        request.headers.push(("host".into(), authority.into_bytes()));
        check_host(&request, old)?;
    }
    request.keep_alive = !old && !has_close(&request);
    let framing = framing(&request, old, limits)?;
    let expects = expects_continue(&request, old)? && framing != Framing::Length(0);
    Ok(Head { request, framing, expects })
}

struct Target {
    authority: Option<String>,
    path: String,
    query: Option<String>,
}

fn split_target(text: &str, method: &str) -> Option<Target> {
    if text.contains('#') {
        return None;
    }
    let scheme = ["http://", "https://"].iter().find_map(|scheme| {
        let head = text.get(..scheme.len())?;
        head.eq_ignore_ascii_case(scheme).then_some(&text[scheme.len()..])
    });
    let (authority, rest) = match scheme {
        Some(rest) => {
            let (authority, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
            (Some(authority.to_owned()), rest)
        }
        None if text.starts_with('/') || (text == "*" && method == "OPTIONS") => (None, text),
        None => return None,
    };
    let (path, query) = match rest.split_once('?') {
        Some((path, query)) => (path, Some(query.to_owned())),
        None => (rest, None),
    };
    let path = if path.is_empty() { "/" } else { path };
    Some(Target { authority, path: path.to_owned(), query })
}

/// Exactly one host, though an old client may name none.
fn check_host(request: &Request, old: bool) -> Result<(), Refusal> {
    let mut hosts = request.all("host");
    match (hosts.next(), hosts.next()) {
        (None, _) if old => Ok(()),
        (None, _) => Err(Refusal::bad("no Host header")),
        (Some(_), Some(_)) => Err(Refusal::bad("more than one Host header")),
        (Some(host), None) if host.iter().any(|byte| !byte.is_ascii_graphic() || b",/?#@\\\"<>".contains(byte)) => {
            Err(Refusal::bad("the Host header is not a host"))
        }
        (Some(_), None) => Ok(()),
    }
}

fn has_close(request: &Request) -> bool {
    request
        .all("connection")
        .any(|value| value.split(|byte| *byte == b',').any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close")))
}

/// Where the body ends. Anything that leaves room for a second opinion is refused: a proxy in front could have it.
fn framing(request: &Request, old: bool, limits: &Limits) -> Result<Framing, Refusal> {
    let mut codings = request.all("transfer-encoding");
    let mut lengths = request.all("content-length");
    match (codings.next(), codings.next(), lengths.next(), lengths.next()) {
        (Some(_), _, Some(_), _) => Err(Refusal::bad("both Transfer-Encoding and Content-Length")),
        (_, _, Some(_), Some(_)) => Err(Refusal::bad("more than one Content-Length")),
        (Some(_), _, None, _) if old => Err(Refusal::bad("Transfer-Encoding in HTTP/1.0")),
        (Some(coding), None, None, _) if coding.eq_ignore_ascii_case(b"chunked") => Ok(Framing::Chunked),
        (Some(_), _, None, _) => Err(Refusal::new(501, "the only Transfer-Encoding understood is chunked")),
        (None, _, None, _) => Ok(Framing::Length(0)),
        (None, _, Some(digits), None) => {
            let length = parse_length(digits).ok_or_else(|| Refusal::bad("Content-Length is not a number of bytes"))?;
            let fits = usize::try_from(length).ok().filter(|length| *length <= limits.body);
            fits.map(Framing::Length).ok_or_else(|| Refusal::too_large(limits))
        }
    }
}

/// Digits only: a sign, a list or a blank could be read otherwise elsewhere.
fn parse_length(digits: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(digits).ok()?;
    (!digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok())?
}

fn expects_continue(request: &Request, old: bool) -> Result<bool, Refusal> {
    let mut expects = false;
    for value in request.all("expect").filter(|_| !old) {
        if !value.eq_ignore_ascii_case(b"100-continue") {
            return Err(Refusal::new(417, "the only Expect understood is 100-continue"));
        }
        expects = true;
    }
    Ok(expects)
}

/// The most digits that the size of a chunk may have.
const SIZE_DIGITS_MAX: usize = 16;

/// The size that begins a chunk, and the length of its extensions, which mean nothing here.
pub(super) fn parse_chunk_size(line: &[u8]) -> Option<(u64, usize)> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (size, extensions) = line.split_at(digits);
    if digits == 0 || digits > SIZE_DIGITS_MAX {
        return None;
    }
    let printable = |byte: &u8| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f);
    let begin_right = extensions.is_empty() || extensions.trim_ascii_start().starts_with(b";");
    if !begin_right || !extensions.iter().all(printable) {
        return None;
    }
    let size = u64::from_str_radix(std::str::from_utf8(size).ok()?, 16).ok()?;
    Some((size, extensions.len()))
}

/// Trailer fields mean nothing here, but must be fields.
pub(super) fn check_trailers(bytes: &[u8]) -> Result<(), Refusal> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    match httparse::parse_headers(bytes, &mut fields) {
        Ok(httparse::Status::Complete((length, _))) if length == bytes.len() => Ok(()),
        Err(httparse::Error::TooManyHeaders) => {
            Err(Refusal::new(431, format!("more than {FIELDS_MAX} trailer fields")))
        }
        Ok(_) | Err(_) => Err(Refusal::bad("the trailers cannot be read")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_path_or_an_address() {
        let split = |text: &str| {
            split_target(text, "GET").map(|target| (target.authority.unwrap_or_default(), target.path, target.query))
        };
        let found = |authority: &str, path: &str, query: Option<&str>| {
            Some((authority.to_owned(), path.to_owned(), query.map(str::to_owned)))
        };
        assert_eq!(split("/"), found("", "/", None));
        assert_eq!(split("/a?b?c"), found("", "/a", Some("b?c")));
        assert_eq!(split("/a?"), found("", "/a", Some("")));
        assert_eq!(split("//evil/a"), found("", "//evil/a", None));
        assert_eq!(split("HTTP://host:1/a?b"), found("host:1", "/a", Some("b")));
        assert_eq!(split("http://host"), found("host", "/", None));
        assert_eq!(split("http://host?b"), found("host", "/", Some("b")));
        for bad in ["*", "a", "host:443", "/a#b", "ftp://host/", "http:/a", "é"] {
            assert_eq!(split(bad), None, "{bad}");
        }
        assert!(split_target("*", "OPTIONS").is_some());
    }

    #[test]
    fn a_length_is_digits_only() {
        assert_eq!(parse_length(b"0"), Some(0));
        assert_eq!(parse_length(b"007"), Some(7));
        assert_eq!(parse_length(b"18446744073709551615"), Some(u64::MAX));
        for bad in ["", "+1", "-1", "1 ", "1,1", "0x1", "1.0", "18446744073709551616", "\u{661}"] {
            assert_eq!(parse_length(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn a_chunk_begins_with_hex_digits_and_perhaps_extensions() {
        assert_eq!(parse_chunk_size(b"0"), Some((0, 0)));
        assert_eq!(parse_chunk_size(b"fF"), Some((255, 0)));
        assert_eq!(parse_chunk_size(b"a;b=c"), Some((10, 4)));
        assert_eq!(parse_chunk_size(b"a ;b=\"c d\""), Some((10, 9)));
        assert_eq!(parse_chunk_size(b"ffffffffffffffff"), Some((u64::MAX, 0)));
        for bad in ["", " 1", "1 ", "+1", "0x1", "g", "-1", ";a", "1;\r", "1 a", "10000000000000000"] {
            assert_eq!(parse_chunk_size(bad.as_bytes()), None, "{bad}");
        }
    }
}
