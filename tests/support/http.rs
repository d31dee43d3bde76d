//! A tiny blocking HTTP client that sends exactly the bytes it is told to, and says what came back.

use std::fmt;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use serde_json::Value;

use super::LIMIT;

/// Where a server is.
#[derive(Debug, Clone)]
pub enum Address {
    Unix(PathBuf),
    Tcp(u16),
}

impl Address {
    /// A port of this machine that nobody has just now.
    pub fn free_port() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        Address::Tcp(listener.local_addr().unwrap().port())
    }

    /// What an honest client says in `Host`.
    pub fn host(&self) -> String {
        match self {
            Address::Unix(_) => "localhost".into(),
            Address::Tcp(port) => format!("127.0.0.1:{port}"),
        }
    }

    /// Connects; whatever is read later fails after [`LIMIT`], which only a hang meets.
    pub fn connect(&self) -> io::Result<Conn> {
        // The standard library never asks what kind of socket it has: one type serves both.
        let stream = match self {
            Address::Unix(path) => UnixStream::connect(path)?,
            Address::Tcp(port) => {
                let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, *port))?;
                stream.set_nodelay(true)?;
                UnixStream::from(OwnedFd::from(stream))
            }
        };
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_write_timeout(Some(LIMIT))?;
        Ok(Conn { reader: BufReader::new(stream) })
    }

    /// A `GET` of a path.
    pub fn get(&self, path: &str) -> Vec<u8> {
        raw(&format!("GET {path} HTTP/1.1"), &[&format!("Host: {}", self.host())], b"")
    }

    /// A `POST /process/execute`, with further header lines.
    pub fn post(&self, headers: &[&str], body: &[u8]) -> Vec<u8> {
        let (host, length) = (format!("Host: {}", self.host()), format!("Content-Length: {}", body.len()));
        let all = [&[host.as_str(), "Content-Type: application/json", &length], headers].concat();
        raw("POST /process/execute HTTP/1.1", &all, body)
    }

    /// Sends one request on a connection of its own.
    pub fn ask(&self, request: &[u8]) -> Answer {
        let mut conn = self.connect().unwrap();
        conn.send(request).unwrap();
        conn.answer().unwrap()
    }
}

/// A request with exactly these header lines.
pub fn raw(line: &str, headers: &[&str], body: &[u8]) -> Vec<u8> {
    let head = [&[line], headers].concat().join("\r\n");
    [head.as_bytes(), b"\r\n\r\n", body].concat()
}

/// A connection.
pub struct Conn {
    reader: BufReader<UnixStream>,
}

impl Conn {
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.reader.get_mut().write_all(bytes)
    }

    /// Another handle of it, for a thread that writes, or to hang up while one reads.
    pub fn other_handle(&self) -> UnixStream {
        self.reader.get_ref().try_clone().unwrap()
    }

    /// Ends it in both directions, whoever has a handle of it.
    pub fn hang_up(handle: &UnixStream) {
        // The server may have closed it.
        handle.shutdown(Shutdown::Both).unwrap_or_default();
    }

    /// Whether the server has closed it, or does so: nothing more comes.
    pub fn is_over(&mut self) -> bool {
        match self.reader.fill_buf() {
            Ok(bytes) => bytes.is_empty(),
            Err(error) => matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe),
        }
    }

    /// Reads so many bytes of whatever comes.
    pub fn take(&mut self, count: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        self.reader.read_exact(&mut bytes).map(|()| bytes)
    }

    /// The next answer.
    pub fn answer(&mut self) -> io::Result<Answer> {
        let mut answer = self.head()?;
        answer.body = self.body(&answer)?;
        Ok(answer)
    }

    /// The next answer, which is to a `HEAD` or an interim one and so has no body.
    pub fn head(&mut self) -> io::Result<Answer> {
        let line = self.line()?;
        let status = line.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1)?.parse().ok());
        let status = status.ok_or_else(|| io::Error::new(ErrorKind::InvalidData, format!("no status: {line:?}")))?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(':') else { break };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        Ok(Answer { status, headers, body: Vec::new() })
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.reader.read_line(&mut line)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end_matches(['\r', '\n']).to_owned())
    }

    fn body(&mut self, head: &Answer) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        if head.status < 200 || head.status == 204 {
            return Ok(body);
        }
        if head.header("transfer-encoding") == Some("chunked") {
            loop {
                let size = self.line()?;
                let size = usize::from_str_radix(size.split(';').next().unwrap_or_default(), 16)
                    .map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
                body.extend(self.take(size)?);
                self.line()?;
                if size == 0 {
                    return Ok(body);
                }
            }
        }
        match head.header("content-length") {
            Some(length) => self.take(length.parse().map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?),
            None => self.reader.read_to_end(&mut body).map(|_| body),
        }
    }
}

/// An answer.
pub struct Answer {
    pub status: u16,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start = &self.body[..self.body.len().min(2000)];
        write!(f, "{} {:?} {}", self.status, self.headers, String::from_utf8_lossy(start))
    }
}

impl Answer {
    /// The value of a header, by its name in small letters.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The message of an error answer, which has to have the form of one.
    pub fn message(&self) -> String {
        let body = self.json();
        assert_eq!(body["error"]["status"], self.status, "{self:?}");
        let message = body["error"]["message"].as_str().unwrap_or_else(|| panic!("no message: {self:?}"));
        assert!(!message.is_empty(), "{self:?}");
        message.to_owned()
    }
}

/// The bytes of an output field of an executed command, whichever way they are written.
pub fn bytes_of(result: &Value, field: &str) -> Vec<u8> {
    let text = result[field].as_str().unwrap_or_else(|| panic!("{field} is no text: {result}"));
    if result["encoding"] == "base64" { base64(text) } else { text.as_bytes().to_vec() }
}

fn base64(text: &str) -> Vec<u8> {
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0_u32, 0);
    for letter in text.trim_end_matches('=').bytes() {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => panic!("{:?} is not base64", char::from(letter)),
        };
        bits = (bits << 6) | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(((bits >> count) & 0xff) as u8);
            bits &= (1 << count) - 1;
        }
    }
    bytes
}
