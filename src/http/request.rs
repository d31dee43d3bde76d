//! Requests, read from bytes in whatever pieces they come, within limits. What comes out, and whether it is refused,
//! depends on the bytes alone and not on where they were cut.

use std::fmt;

use super::buffer::{Buffer, Found};
use super::head::{self, Framing};

/// The most header fields, and the most trailer fields, of a request.
pub(super) const FIELDS_MAX: usize = 64;

/// The most empty lines before a request; some clients end a body with one too many.
const BLANK_MAX: usize = 4;

/// The longest line that begins a chunk, where a head may have more.
const CHUNK_LINE_MAX: usize = 1024;

/// How much a client may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a head, of a request's trailers, and of its chunk extensions, each; the first line gets half.
    pub head: usize,
    /// Bytes of a body.
    pub body: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { head: 16 << 10, body: 4 << 20 }
    }
}

/// A request, complete and within limits.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Request {
    /// `GET` and the like, as it was sent.
    pub method: String,
    /// The target up to the question mark, not decoded.
    pub path: String,
    /// The target behind the question mark, not decoded.
    pub(crate) query: Option<String>,
    /// The fields in their order; names in lower case, values without blanks around them.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The content, chunks put together.
    pub body: Vec<u8>,
    /// Whether another request may follow on the connection.
    pub keep_alive: bool,
}

impl Request {
    /// The first field of that name, which is given in lower case.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.all(name).next()
    }

    /// All fields of that name, which is given in lower case.
    pub fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.headers.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_slice())
    }

    /// Whether a body came or is announced.
    pub(crate) fn has_body(&self) -> bool {
        let announced = self.header("content-length").is_some_and(|digits| digits.iter().any(|digit| *digit != b'0'));
        announced || !self.body.is_empty() || self.header("transfer-encoding").is_some()
    }
}

/// Without values: tokens and environments are among them.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.headers.iter().map(|(name, _)| name).collect();
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("path", &self.path)
            .field("headers", &names)
            .field("body", &self.body.len())
            .field("keep_alive", &self.keep_alive)
            .finish_non_exhaustive()
    }
}

/// Why a client is not understood. Where its next request would begin is unknown, so the connection closes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The status to answer with.
    pub status: u16,
    /// What is wrong.
    pub message: String,
}

impl Refusal {
    pub(super) fn new(status: u16, message: impl Into<String>) -> Self {
        Refusal { status, message: message.into() }
    }

    pub(super) fn bad(message: impl Into<String>) -> Self {
        Refusal::new(400, message)
    }

    pub(super) fn too_large(limits: &Limits) -> Self {
        Refusal::new(413, format!("the body has more than {} bytes", limits.body))
    }
}

/// Reads the requests of one connection: [`feed`](Self::feed) what came, then take requests with
/// [`next`](Self::next) until there is none.
#[derive(Default)]
pub struct Reader {
    limits: Limits,
    buffer: Buffer,
    stage: Stage,
    /// The request whose body is coming.
    request: Request,
    /// Whether the client still waits to be told that it may send the body.
    expects: bool,
    /// Empty lines before the request.
    blank: usize,
    /// Bytes of chunk extensions in the request.
    extensions: usize,
    refused: Option<Refusal>,
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Stage {
    #[default]
    Line,
    Fields,
    /// So many bytes of a body.
    Length(usize),
    Size,
    /// So many bytes of a chunk.
    Chunk(usize),
    ChunkEnd,
    Trailers,
    /// Nothing that counts.
    Ended,
}

enum Step {
    /// The next stage may go on with what is there.
    Go,
    /// More bytes are needed.
    Wait,
    Done,
}

impl Reader {
    /// A reader for a new connection.
    pub fn new(limits: Limits) -> Self {
        Reader { limits, ..Reader::default() }
    }

    /// Takes what came. After the last request of the connection and after a refusal it is thrown away.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.stage != Stage::Ended {
            self.buffer.push(bytes);
        }
    }

    /// The next request, if it is complete. A refusal is the last word: it is repeated from then on.
    #[expect(clippy::should_implement_trait, reason = "not an end, but nothing yet")]
    pub fn next(&mut self) -> Result<Option<Request>, Refusal> {
        if let Some(refusal) = &self.refused {
            return Err(refusal.clone());
        }
        loop {
            match self.step() {
                Ok(Step::Go) => {}
                Ok(Step::Wait) => return Ok(None),
                Ok(Step::Done) => return Ok(Some(self.finish())),
                Err(refusal) => {
                    self.end();
                    self.refused = Some(refusal.clone());
                    return Err(refusal);
                }
            }
        }
    }

    /// Whether to read on from the connection: not while a client that does not wait for answers has sent enough.
    /// Always true after the last request and after a refusal, so that the end of the stream is noticed.
    pub fn wants_more(&self) -> bool {
        self.buffer.rest().len() <= self.limits.head
    }

    /// True once for a head that asks whether its body is welcome, unless that is here already.
    pub(crate) fn take_continue(&mut self) -> bool {
        std::mem::take(&mut self.expects)
    }

    /// Whether nothing of a request has arrived.
    pub(crate) fn is_idle(&self) -> bool {
        self.stage == Stage::Line && self.buffer.rest().is_empty()
    }

    /// The request whose head is complete and whose body is not: whoever may not send it can be told at once.
    pub fn pending(&self) -> Option<&Request> {
        (!matches!(self.stage, Stage::Line | Stage::Fields | Stage::Ended)).then_some(&self.request)
    }

    fn step(&mut self) -> Result<Step, Refusal> {
        match self.stage {
            Stage::Line => self.first_line(),
            Stage::Fields => self.fields(),
            Stage::Length(left) => Ok(match self.body(left) {
                0 => Step::Done,
                left => self.wait_in(Stage::Length(left)),
            }),
            Stage::Size => self.chunk_size(),
            Stage::Chunk(left) => Ok(match self.body(left) {
                0 => self.go_to(Stage::ChunkEnd),
                left => self.wait_in(Stage::Chunk(left)),
            }),
            Stage::ChunkEnd => self.chunk_end(),
            Stage::Trailers => self.trailers(),
            Stage::Ended => Ok(Step::Wait),
        }
    }

    fn go_to(&mut self, stage: Stage) -> Step {
        self.stage = stage;
        Step::Go
    }

    fn wait_in(&mut self, stage: Stage) -> Step {
        self.stage = stage;
        Step::Wait
    }

    fn finish(&mut self) -> Request {
        let request = std::mem::take(&mut self.request);
        (self.stage, self.blank, self.extensions, self.expects) = (Stage::Line, 0, 0, false);
        if !request.keep_alive {
            self.end();
        }
        request
    }

    fn end(&mut self) {
        (self.stage, self.expects) = (Stage::Ended, false);
        (self.buffer, self.request) = (Buffer::default(), Request::default());
    }

    fn first_line(&mut self) -> Result<Step, Refusal> {
        // Another protocol, TLS for one, may never send the end of a line.
        if self.buffer.rest().first().is_some_and(|byte| !head::is_token(*byte) && *byte != b'\r') {
            return Err(Refusal::bad("this is not HTTP"));
        }
        let max = self.limits.head / 2;
        match self.buffer.line(max) {
            Found::Part => Ok(Step::Wait),
            Found::TooLong if self.buffer.rest()[..max].contains(&b' ') => {
                Err(Refusal::new(414, format!("the first line has more than {max} bytes")))
            }
            Found::TooLong => Err(Refusal::bad("the first line is not METHOD TARGET VERSION")),
            Found::BareLf => Err(bare_lf()),
            Found::Line(range) if range.is_empty() => {
                self.buffer.use_lines();
                self.blank += 1;
                if self.blank > BLANK_MAX { Err(Refusal::bad("nothing but empty lines")) } else { Ok(Step::Go) }
            }
            Found::Line(range) => {
                head::check_line(self.buffer.get(range))?;
                Ok(self.go_to(Stage::Fields))
            }
        }
    }

    fn fields(&mut self) -> Result<Step, Refusal> {
        if !self.find_block("head")? {
            return Ok(Step::Wait);
        }
        let head = head::parse(self.buffer.lines(), &self.limits)?;
        self.buffer.use_lines();
        (self.request, self.expects) = (head.request, head.expects);
        Ok(self.go_to(match head.framing {
            Framing::Length(length) => Stage::Length(length),
            Framing::Chunked => Stage::Size,
        }))
    }

    fn chunk_size(&mut self) -> Result<Step, Refusal> {
        let range = match self.buffer.line(CHUNK_LINE_MAX.min(self.limits.head)) {
            Found::Part => return Ok(Step::Wait),
            Found::TooLong => return Err(Refusal::bad("the line before a chunk is too long")),
            Found::BareLf => return Err(bare_lf()),
            Found::Line(range) => range,
        };
        let (size, extensions) = head::parse_chunk_size(self.buffer.get(range))
            .ok_or_else(|| Refusal::bad("a chunk does not begin with its size"))?;
        self.buffer.use_lines();
        self.extensions += extensions;
        if self.extensions > self.limits.head {
            return Err(Refusal::bad("too many chunk extensions"));
        }
        let left = self.limits.body - self.request.body.len();
        let fits = usize::try_from(size).ok().filter(|size| *size <= left);
        let size = fits.ok_or_else(|| Refusal::too_large(&self.limits))?;
        Ok(self.go_to(if size == 0 { Stage::Trailers } else { Stage::Chunk(size) }))
    }

    fn chunk_end(&mut self) -> Result<Step, Refusal> {
        let rest = self.buffer.rest();
        if rest.len() < 2 && b"\r\n".starts_with(rest) {
            return Ok(Step::Wait);
        }
        if !rest.starts_with(b"\r\n") {
            return Err(Refusal::bad("a chunk is longer than its size"));
        }
        self.buffer.take(2);
        Ok(self.go_to(Stage::Size))
    }

    fn trailers(&mut self) -> Result<Step, Refusal> {
        if !self.find_block("trailer")? {
            return Ok(Step::Wait);
        }
        head::check_trailers(self.buffer.lines())?;
        self.buffer.use_lines();
        Ok(Step::Done)
    }

    /// Looks for the empty line that ends a head or trailers.
    fn find_block(&mut self, what: &str) -> Result<bool, Refusal> {
        loop {
            match self.buffer.line(self.limits.head) {
                Found::Part => return Ok(false),
                Found::TooLong => {
                    return Err(Refusal::new(431, format!("the {what} has more than {} bytes", self.limits.head)));
                }
                Found::BareLf => return Err(bare_lf()),
                Found::Line(range) if range.is_empty() => return Ok(true),
                Found::Line(_) => {}
            }
        }
    }

    /// Takes what is there of the bytes of a body that are `left`; how many then are.
    fn body(&mut self, left: usize) -> usize {
        let bytes = self.buffer.take(left);
        self.request.body.extend_from_slice(bytes);
        left - bytes.len()
    }

    /// The bytes it holds memory for.
    #[cfg(test)]
    fn held(&self) -> usize {
        self.buffer.held() + self.request.body.len()
    }
}

fn bare_lf() -> Refusal {
    Refusal::bad("a line ends without CR")
}

#[cfg(test)]
mod tests;
