//! The client side of HTTP/1.1 as values: one request as bytes, one answer from bytes.

/// The most bytes of an answer's head.
const HEAD_MAX: usize = 16 << 10;

/// The most header fields of an answer.
const FIELDS_MAX: usize = 64;

/// The bytes of a request with a JSON body, or without one. Path and body are this program's own.
pub(crate) fn request(method: &str, path: &str, body: Option<&[u8]>) -> Vec<u8> {
    let mut bytes = format!("{method} {path} HTTP/1.1\r\nHost: fosse\r\n").into_bytes();
    if let Some(body) = body {
        let fields = format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
        bytes.extend_from_slice(fields.as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body.unwrap_or_default());
    bytes
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The status.
    pub(crate) status: u16,
    /// The content.
    pub(crate) body: Vec<u8>,
}

/// Reads an answer from what has come; `None` if it is not complete. `max` is the longest body that is accepted. The
/// body's length must be said.
pub(crate) fn answer(bytes: &[u8], max: usize) -> Result<Option<Answer>, String> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut head = httparse::Response::new(&mut fields);
    let start = match head.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if bytes.len() > HEAD_MAX => return Err("the head is too long".into()),
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(format!("not an answer: {error}")),
    };
    let mut lengths = head.headers.iter().filter(|field| field.name.eq_ignore_ascii_case("content-length"));
    let length = match (lengths.next(), lengths.next()) {
        (Some(field), None) => std::str::from_utf8(field.value).ok().and_then(|text| text.trim().parse::<usize>().ok()),
        (None | Some(_), _) => None,
    };
    let length = length.filter(|length| *length <= max).ok_or("the length is missing or too large")?;
    let status = head.code.ok_or("the status is missing")?;
    Ok(bytes[start..].get(..length).map(|body| Answer { status, body: body.to_vec() }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::request::{Limits, Reader};
    use crate::http::response::Response;

    #[test]
    fn what_the_server_sends_is_understood_in_any_pieces() {
        let bytes = Response::from_json(202, b"{\"a\":1}".to_vec()).encode(false, false);
        for cut in 0..bytes.len() {
            assert_eq!(answer(&bytes[..cut], 100), Ok(None), "{cut}");
        }
        assert_eq!(answer(&bytes, 100), Ok(Some(Answer { status: 202, body: b"{\"a\":1}".to_vec() })));
        assert!(answer(&bytes, 6).is_err());
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        for bytes in [
            &b"SSH-2.0-OpenSSH\r\n"[..],
            b"\0\0\0",
            b"HTTP/1.1 200 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
            &[b'H'; HEAD_MAX + 1],
        ] {
            assert!(answer(bytes, 100).is_err(), "{}", String::from_utf8_lossy(&bytes[..bytes.len().min(40)]));
        }
    }

    #[test]
    fn the_server_understands_what_is_sent() {
        let mut reader = Reader::new(Limits::default());
        reader.feed(&request("POST", "/v1/reap", Some(b"{}")));
        reader.feed(&request("GET", "/v1/health", None));
        let first = reader.next().unwrap().unwrap();
        assert_eq!((first.method.as_str(), first.path.as_str(), &first.body[..]), ("POST", "/v1/reap", &b"{}"[..]));
        assert_eq!(reader.next().unwrap().unwrap().path, "/v1/health");
    }
}
