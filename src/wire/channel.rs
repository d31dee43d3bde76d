//! What a run's owner and the PID 1 inside its place say to each other: small messages on a stream, each a length, a
//! kind and a payload. Descriptors travel beside the bytes (unix(7), SCM_RIGHTS) and are not seen here.
//!
//! Both ends are the same program: the version in [`FromInit::Hello`] only tells that a stranger is not.

use std::fmt;

/// What the version in a greeting is.
pub(crate) const VERSION: u32 = 1;

/// The most bytes that a message may have. The kernel takes no command that is longer with its environment
/// (execve(2): a quarter of the stack's limit, 6 MiB at most).
pub const MAX: usize = 8 << 20;

/// Length and kind.
const HEAD: usize = 5;

/// A command to start, as bytes.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Start {
    /// The program and its arguments.
    pub(crate) argv: Vec<Vec<u8>>,
    /// Variables to set, beside those that the place has.
    pub(crate) env: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where it runs; init's own directory if empty.
    pub(crate) cwd: Vec<u8>,
    /// Where nothing is made if that is missing, which is said of a run's own command only.
    pub(crate) shared: Vec<Vec<u8>>,
    /// What its streams are.
    pub(crate) streams: Wanted,
}

/// What the streams of a command are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Wanted {
    /// Pipes for stdout and stderr; stdin is at its end.
    #[default]
    Output,
    /// A pipe for stdin as well.
    Pipes,
    /// A terminal of its own.
    Terminal(Window),
}

/// The size of a terminal's window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Window {
    /// Lines.
    pub(crate) rows: u16,
    /// Characters in a line.
    pub(crate) columns: u16,
    /// Pixels across; 0 if they are not known.
    pub(crate) width: u16,
    /// Pixels down; 0 if they are not known.
    pub(crate) height: u16,
}

impl Wanted {
    /// How many descriptors come with [`FromInit::Started`].
    pub(crate) fn descriptors(self) -> usize {
        match self {
            Wanted::Output => 2,
            Wanted::Pipes => 3,
            Wanted::Terminal(_) => 1,
        }
    }
}

/// Without the values of variables, which may be secrets.
impl fmt::Debug for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Start").field("argv", &self.argv.len()).field("streams", &self.streams).finish_non_exhaustive()
    }
}

/// Said by the owner, or by a client that the owner introduced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToInit {
    /// Start this command: the answer to the greeting, once. The owner's comes with the exit page.
    Start(Start),
    /// Deliver a signal to the command alone; KILL ends it with everything it started.
    Signal(u8),
    /// Stop everything in the place, or let it go on.
    Freeze(bool),
    /// The descriptor that comes with it is a client's: it will say what to start.
    Introduce,
    /// Deliver a signal to the command's process group.
    SignalGroup(u8),
}

/// Why a command was not started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// No process could be had for it.
    Fork,
    /// Its directory cannot be entered.
    Directory,
    /// It was not found, or cannot be executed.
    Execute,
    /// It has no streams: init has no descriptor left.
    Streams,
}

/// Said by init.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromInit {
    /// It is there, and nothing has run.
    Hello(u32),
    /// The command runs. Its streams come with it: where stdin is written (if it was asked for), and where stdout and
    /// stderr are read; or the one end of its terminal where all of that is done.
    Started,
    /// The command was not started, and why: an errno.
    Failed(Stage, i32),
    /// The command has ended.
    Exited(Exit),
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// Its own code, or 128 and the signal's number.
    pub(crate) code: u8,
    /// The signal that ended it.
    pub(crate) signal: Option<u8>,
    /// Whether the kernel killed it for memory.
    pub(crate) oom: bool,
}

/// What init leaves in the exit page, a file that its owner opened and both have in memory: an owner that is lost,
/// or an init that is killed, takes no exit along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    /// Nothing has run.
    Blank,
    /// The command was started.
    Started,
    /// The command has ended.
    Exited(Exit),
}

impl Page {
    /// The bytes it has in the file.
    pub(crate) const LEN: usize = 8;

    /// One number, so that it is written in one step: a mark, a phase, and the exit.
    pub fn encode(self) -> u64 {
        let bytes = match self {
            Page::Blank => return 0,
            Page::Started => [1, 0, 0, 0],
            Page::Exited(exit) => [2, exit.code, exit.signal.unwrap_or(0), u8::from(exit.oom)],
        };
        u64::from_le_bytes([b'f', b'o', b's', b'X', bytes[0], bytes[1], bytes[2], bytes[3]])
    }

    /// Reads it back; what is no page is a blank one.
    pub fn decode(number: u64) -> Page {
        match number.to_le_bytes() {
            [b'f', b'o', b's', b'X', 1, ..] => Page::Started,
            [b'f', b'o', b's', b'X', 2, code, signal, oom] => {
                Page::Exited(Exit { code, signal: Some(signal).filter(|signal| *signal > 0), oom: oom == 1 })
            }
            _ => Page::Blank,
        }
    }
}

/// A message that makes no sense; the connection is of no use any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Garbled;

impl fmt::Display for Garbled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a message makes no sense")
    }
}

impl std::error::Error for Garbled {}

/// A message in either direction.
pub trait Message: Sized {
    /// Its bytes on the stream, head and all.
    fn encode(&self) -> Vec<u8>;
    /// From a kind and its payload.
    fn decode(kind: u8, payload: &[u8]) -> Result<Self, Garbled>;
}

impl Message for ToInit {
    fn encode(&self) -> Vec<u8> {
        match self {
            ToInit::Start(start) => frame(1, |out| {
                match start.streams {
                    Wanted::Output => out.push(0),
                    Wanted::Pipes => out.push(1),
                    Wanted::Terminal(window) => {
                        out.push(2);
                        let Window { rows, columns, width, height } = window;
                        [rows, columns, width, height].iter().for_each(|size| out.extend(size.to_le_bytes()));
                    }
                }
                put(out, &start.cwd);
                number(out, start.shared.len());
                start.shared.iter().for_each(|dir| put(out, dir));
                number(out, start.argv.len());
                start.argv.iter().for_each(|word| put(out, word));
                number(out, start.env.len());
                for (name, value) in &start.env {
                    put(out, name);
                    put(out, value);
                }
            }),
            ToInit::Signal(signal) => frame(2, |out| out.push(*signal)),
            ToInit::Freeze(frozen) => frame(3, |out| out.push(u8::from(*frozen))),
            // 4 was another way to end a command.
            ToInit::Introduce => frame(5, |_| ()),
            ToInit::SignalGroup(signal) => frame(6, |out| out.push(*signal)),
        }
    }

    fn decode(kind: u8, payload: &[u8]) -> Result<Self, Garbled> {
        let mut fields = Fields(payload);
        let message = match kind {
            1 => ToInit::Start(Start {
                streams: fields.wanted()?,
                cwd: fields.bytes()?,
                shared: fields.list(Fields::bytes)?,
                argv: fields.list(Fields::bytes)?,
                env: fields.list(|fields| Ok((fields.bytes()?, fields.bytes()?)))?,
            }),
            2 => ToInit::Signal(fields.byte()?),
            3 => ToInit::Freeze(fields.truth()?),
            5 => ToInit::Introduce,
            6 => ToInit::SignalGroup(fields.byte()?),
            _ => return Err(Garbled),
        };
        fields.end(message)
    }
}

impl Message for FromInit {
    fn encode(&self) -> Vec<u8> {
        match self {
            FromInit::Hello(version) => frame(1, |out| out.extend(version.to_le_bytes())),
            FromInit::Started => frame(2, |_| ()),
            FromInit::Failed(stage, errno) => frame(3, |out| {
                out.push(match stage {
                    Stage::Fork => 0,
                    Stage::Directory => 1,
                    Stage::Execute => 2,
                    Stage::Streams => 3,
                });
                out.extend(errno.to_le_bytes());
            }),
            FromInit::Exited(exit) => frame(4, |out| {
                out.extend([exit.code, exit.signal.unwrap_or(0), u8::from(exit.oom)]);
            }),
        }
    }

    fn decode(kind: u8, payload: &[u8]) -> Result<Self, Garbled> {
        let mut fields = Fields(payload);
        let message = match kind {
            1 => FromInit::Hello(fields.number()?),
            2 => FromInit::Started,
            3 => {
                let stage = match fields.byte()? {
                    0 => Stage::Fork,
                    1 => Stage::Directory,
                    2 => Stage::Execute,
                    3 => Stage::Streams,
                    _ => return Err(Garbled),
                };
                FromInit::Failed(stage, i32::from_le_bytes(fields.number()?.to_le_bytes()))
            }
            4 => FromInit::Exited(Exit {
                code: fields.byte()?,
                signal: Some(fields.byte()?).filter(|signal| *signal > 0),
                oom: fields.truth()?,
            }),
            _ => return Err(Garbled),
        };
        fields.end(message)
    }
}

fn frame(kind: u8, fill: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = vec![0, 0, 0, 0, kind];
    fill(&mut out);
    let length = u32::try_from(out.len() - HEAD).unwrap_or(u32::MAX);
    out[..4].copy_from_slice(&length.to_le_bytes());
    out
}

fn number(out: &mut Vec<u8>, count: usize) {
    out.extend(u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes());
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    number(out, bytes.len());
    out.extend_from_slice(bytes);
}

/// What is left of a payload.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn wanted(&mut self) -> Result<Wanted, Garbled> {
        match self.byte()? {
            0 => Ok(Wanted::Output),
            1 => Ok(Wanted::Pipes),
            2 => {
                let (rows, columns) = (self.short()?, self.short()?);
                Ok(Wanted::Terminal(Window { rows, columns, width: self.short()?, height: self.short()? }))
            }
            _ => Err(Garbled),
        }
    }

    fn short(&mut self) -> Result<u16, Garbled> {
        <[u8; 2]>::try_from(self.take(2)?).map(u16::from_le_bytes).map_err(|_| Garbled)
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Garbled> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Garbled)?;
        self.0 = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, Garbled> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn truth(&mut self) -> Result<bool, Garbled> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Garbled),
        }
    }

    fn number(&mut self) -> Result<u32, Garbled> {
        let bytes = self.take(4)?;
        Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    fn bytes(&mut self) -> Result<Vec<u8>, Garbled> {
        let count = self.number()?;
        self.take(count as usize).map(<[u8]>::to_vec)
    }

    /// A list; room is made as its items come, whatever length it claims.
    fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Result<T, Garbled>) -> Result<Vec<T>, Garbled> {
        let count = self.number()?;
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(item(self)?);
        }
        Ok(items)
    }

    fn end<T>(self, message: T) -> Result<T, Garbled> {
        if self.0.is_empty() { Ok(message) } else { Err(Garbled) }
    }
}

/// Messages out of bytes in whatever pieces they come.
#[derive(Default)]
pub struct Decoder {
    bytes: Vec<u8>,
}

impl Decoder {
    /// Takes bytes that have come.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next message, if it is whole.
    pub fn message<M: Message>(&mut self) -> Result<Option<M>, Garbled> {
        let Some((head, rest)) = self.bytes.split_at_checked(HEAD) else { return Ok(None) };
        let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
        if length > MAX {
            return Err(Garbled);
        }
        let Some(payload) = rest.get(..length) else { return Ok(None) };
        let message = M::decode(head[4], payload)?;
        self.bytes.drain(..HEAD + length);
        Ok(Some(message))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn to_init() -> impl Strategy<Value = ToInit> {
        let terminal = any::<[u16; 4]>()
            .prop_map(|[rows, columns, width, height]| Wanted::Terminal(Window { rows, columns, width, height }));
        let streams = prop_oneof![Just(Wanted::Output), Just(Wanted::Pipes), terminal];
        let lists = any::<[Vec<Vec<u8>>; 2]>();
        let start = (streams, any::<Vec<u8>>(), lists, any::<Vec<(Vec<u8>, Vec<u8>)>>());
        prop_oneof![
            start.prop_map(|(streams, cwd, [argv, shared], env)| {
                ToInit::Start(Start { argv, env, cwd, shared, streams })
            }),
            any::<u8>().prop_map(ToInit::Signal),
            any::<bool>().prop_map(ToInit::Freeze),
            Just(ToInit::Introduce),
            any::<u8>().prop_map(ToInit::SignalGroup),
        ]
    }

    fn from_init() -> impl Strategy<Value = FromInit> {
        let stage = prop_oneof![Just(Stage::Fork), Just(Stage::Directory), Just(Stage::Execute), Just(Stage::Streams)];
        let exit = (any::<u8>(), prop::option::of(1_u8..), any::<bool>());
        prop_oneof![
            any::<u32>().prop_map(FromInit::Hello),
            Just(FromInit::Started),
            (stage, any::<i32>()).prop_map(|(stage, errno)| FromInit::Failed(stage, errno)),
            exit.prop_map(|(code, signal, oom)| FromInit::Exited(Exit { code, signal, oom })),
        ]
    }

    fn through<M: Message>(messages: &[M], piece: usize) -> Vec<M> {
        let stream: Vec<u8> = messages.iter().flat_map(Message::encode).collect();
        let (mut decoder, mut found) = (Decoder::default(), Vec::new());
        for piece in stream.chunks(piece) {
            decoder.feed(piece);
            while let Some(message) = decoder.message().unwrap() {
                found.push(message);
            }
        }
        found
    }

    #[test]
    fn a_claimed_length_makes_no_room() {
        let mut decoder = Decoder::default();
        decoder.feed(&[255, 255, 255, 255, 1]);
        assert_eq!(decoder.message::<ToInit>(), Err(Garbled));
        assert_eq!(ToInit::decode(1, &[0, 0, 0, 0, 0, 255, 255, 255, 255]), Err(Garbled));
    }

    #[test]
    fn the_page_tells_the_exit() {
        let exit = Exit { code: 137, signal: Some(9), oom: true };
        for page in [Page::Blank, Page::Started, Page::Exited(exit), Page::Exited(Exit { signal: None, ..exit })] {
            assert_eq!(Page::decode(page.encode()), page);
        }
        assert_eq!(Page::decode(u64::MAX), Page::Blank);
    }

    #[test]
    fn values_of_variables_are_not_shown() {
        let start = Start { env: vec![(b"A".to_vec(), b"secret".to_vec())], ..Start::default() };
        assert!(!format!("{:?}", ToInit::Start(start)).contains("secret"));
    }

    proptest! {
        #[test]
        fn messages_arrive_in_whatever_pieces(to in prop::collection::vec(to_init(), 0..5), piece in 1_usize..40) {
            prop_assert_eq!(through(&to, piece), to);
        }

        #[test]
        fn answers_arrive_in_whatever_pieces(from in prop::collection::vec(from_init(), 0..5), piece in 1_usize..40) {
            prop_assert_eq!(through(&from, piece), from);
        }

        #[test]
        fn any_bytes_are_understood_or_refused(kind: u8, payload: Vec<u8>) {
            if let Ok(message) = ToInit::decode(kind, &payload) {
                prop_assert_eq!(message.encode()[HEAD..].to_vec(), payload.clone());
            }
            if let Ok(message) = FromInit::decode(kind, &payload) {
                prop_assert_eq!(message.encode()[HEAD..].to_vec(), payload);
            }
        }
    }
}
