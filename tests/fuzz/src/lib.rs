//! What must hold for any bytes whatever: one function a fuzz target, and `tests/source/seeds.rs` calls the same ones.

use std::fmt::Debug;
use std::fs;
use std::path::{Path, PathBuf};
#[cfg(target_os = "linux")]
use std::time::Duration;

use fosse::cli::config::{self, Layer};
use fosse::http::guard::{Guard, Hosts};
use fosse::http::request::{Limits, Reader as Requests, Refusal, Request};
use fosse::http::response::Response;
#[cfg(target_os = "linux")]
use fosse::init::api;
use fosse::run::output::{Frame, Reader, Stream, Totals, Writer};
use fosse::runtime::Status;
use fosse::runtime::docker::Tool;
use fosse::runtime::docker::parse;
use fosse::term::escape::{self, Escape, Prefix};
use fosse::term::modes::Modes;
use fosse::wire::channel::{self, Decoder, FromInit, Message, Page, ToInit};
use fosse::wire::record::{self, Record};
use serde_json::Value;

/// A record that can be read can be written, and is then the same; what is read is never impossible.
pub fn record(data: &[u8]) {
    let Ok(read) = record::parse(data) else { return };
    let bytes = record::format(&read);
    let again: Record = record::parse(&bytes).expect("what was written cannot be read");
    assert_eq!(again, read);
    assert_eq!(read.state.is_final(), read.reason.is_some());
    assert_eq!(read.state.is_final(), read.stopped_at.is_some());
}

/// What an engine prints is understood as it stands or refused: no answer is lost, no exit code invented.
pub fn engine_json(data: &[u8]) {
    if let (Ok(facts), Some(containers)) = (parse::facts(data), elements(data)) {
        assert_eq!(facts.len(), containers.len());
        for (facts, container) in facts.iter().zip(&containers) {
            assert_eq!(Value::from(facts.id.as_str()), container["Id"]);
            if let Status::Ended { code, .. } = facts.status {
                assert_eq!(Value::from(code), container["State"]["ExitCode"]);
            }
        }
    }
    if let (Ok(networks), Some(elements)) = (parse::networks(data), elements(data)) {
        assert_eq!(networks.len(), elements.len());
    }
    for kind in [Tool::Docker, Tool::Podman] {
        if let Ok(about) = parse::about(kind, data) {
            assert!(!(about.rootless && about.remapped && kind == Tool::Podman));
        }
    }
    let text = String::from_utf8_lossy(data);
    if let Some(id) = parse::id(data) {
        assert!(!id.is_empty() && id.len() <= 128 && text.contains(&id), "{id:?}");
        assert!(!id.contains(|c: char| c.is_whitespace() || c.is_control() || c == '/'), "{id:?}");
    }
    if let Some((code, _)) = parse::exec_failure(127, data) {
        assert!(matches!(code, 126 | 127));
    }
    refusals(data, &text);
    assert!(!(parse::only_missing(data) && text.trim().is_empty()));
    drop((parse::classify("call".into(), text.into_owned()), parse::discarded_limit(data)));
}

/// What a tool says of a command that it did not start is believed on one stream alone, where the code fits, and if
/// its first bytes were held back.
fn refusals(data: &[u8], text: &str) {
    let names = ["fosse-0123456789ab", "unix:///run/docker.sock"];
    for kind in [Tool::Docker, Tool::Podman] {
        for code in [0, 1, 2, 125, 126, 127, 137, 255] {
            for said in [[data, b""], [b"", data], [data, data]] {
                let Some(refusal) = parse::refusal(kind, &names, code, said) else { continue };
                assert!(matches!(refusal.code, 125..=127) && text.contains(&refusal.why), "{refusal:?}");
                assert!(matches!(code, 1 | 125..=127 | 255) && (said[0].is_empty() || said[1].is_empty()));
                assert!(parse::begins_like_a_refusal(data));
            }
        }
    }
}

/// The elements of a JSON array; nothing at all is an empty one. `None` where what the parsers skip is broken.
fn elements(data: &[u8]) -> Option<Vec<Value>> {
    if data.iter().all(u8::is_ascii_whitespace) { Some(Vec::new()) } else { serde_json::from_slice(data).ok() }
}

/// A file of output, however damaged: a reader gives the same before and after its repair, the repair only takes
/// away, what is added is there, and the cap holds. The first two bytes are the cap, the others the file.
pub fn output(data: &[u8]) {
    let Some((cap, content)) = data.split_first_chunk() else { return };
    let cap = u64::from(u16::from_le_bytes(*cap));
    let scratch = Scratch::new();
    fs::write(&scratch.0, content).unwrap();
    let whole = frames(&scratch.0, false);
    let before = frames(&scratch.0, true);
    assert!(before.starts_with(&whole) && before.len() <= whole.len() + 1);

    let writer = Writer::open(&scratch.0, cap).unwrap();
    let repaired = fs::metadata(&scratch.0).unwrap().len();
    assert!(repaired <= content.len() as u64);
    assert_eq!(frames(&scratch.0, false), before, "the repair changed what is read");
    assert_eq!(writer.totals(), totals(&before));

    writer.append(Stream::Stdout, b"one");
    writer.append(Stream::Stderr, b"two");
    assert!(fs::metadata(&scratch.0).unwrap().len() <= cap.max(repaired));
    let after = frames(&scratch.0, false);
    assert!(after.starts_with(&before));
    let added: Vec<u8> = after[before.len()..].iter().flat_map(bytes).copied().collect();
    assert!(b"onetwo".starts_with(&added[..]), "{added:?}");
    assert!(added.len() == 6 || writer.totals().truncated);
    assert_eq!(writer.totals().bytes, totals(&after).bytes);
}

fn frames(path: &Path, torn: bool) -> Vec<Frame> {
    let mut reader = Reader::open(path).unwrap();
    let mut next = || if torn { reader.next_torn() } else { reader.next_whole() };
    std::iter::from_fn(|| next().unwrap()).collect()
}

fn bytes(frame: &Frame) -> &[u8] {
    match frame {
        Frame::Bytes { bytes, .. } => bytes,
        Frame::LeftOut => b"",
    }
}

fn totals(frames: &[Frame]) -> Totals {
    let mut totals = Totals::default();
    for frame in frames {
        match frame {
            Frame::Bytes { stream, bytes, .. } => totals.bytes[stream.index()] += bytes.len() as u64,
            Frame::LeftOut => totals.truncated = true,
        }
    }
    totals
}

struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        let memory = Path::new("/dev/shm");
        let dir = if memory.is_dir() { memory.to_path_buf() } else { std::env::temp_dir() };
        // One thread of a process at a time has one.
        let thread = format!("{:?}", std::thread::current().id()).replace(['(', ')'], "-");
        Scratch(dir.join(format!("fosse-fuzz-{}-{thread}", std::process::id())))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_file(&self.0).unwrap_or_default();
    }
}

/// A configuration that is accepted from a workspace means the same as from a trusted file, and widens nothing.
pub fn config(data: &[u8]) {
    let trusted = config::parse(data, false);
    if let Ok(layer) = config::parse(data, true) {
        assert_eq!(trusted.as_ref(), Ok(&layer));
        let narrow = Layer {
            image: layer.image.clone(),
            memory: layer.memory,
            cpus_milli: layer.cpus_milli,
            pids: layer.pids,
            timeout: layer.timeout,
            grace: layer.grace,
            env: layer.env.clone(),
            label: layer.label.clone(),
            ..Layer::default()
        };
        assert_eq!(layer, narrow);
    }
    match trusted {
        Ok(layer) => {
            assert_eq!(layer.clone().over(Layer::default()), layer);
            assert_eq!(Layer::default().over(layer.clone()), layer);
            assert!(layer.cpus_milli.is_none_or(|milli| milli >= 10) && layer.pids != Some(0));
            assert!(layer.env.iter().all(|(name, value)| config::is_variable(name) && !value.contains('\0')));
        }
        Err(why) => assert!(!why.is_empty()),
    }
}

/// A client is understood the same however its bytes are cut, within limits, and what is answered is one response.
/// The first byte is the size of the pieces, the others the stream.
pub fn http_head(data: &[u8]) {
    let Some((size, stream)) = data.split_first() else { return };
    let whole = requests(stream, stream.len().max(1));
    assert_eq!(requests(stream, usize::from(*size).max(1)), whole, "it depends on where the stream is cut");
    let (requests, refusal) = whole;
    for (index, request) in requests.iter().enumerate() {
        assert!(request.keep_alive || (index + 1 == requests.len() && refusal.is_none()), "read on after the end");
        assert!(request.body.len() <= LIMITS.body && request.headers.len() <= 64);
        assert!(request.path.starts_with('/') || request.path == "*");
        assert!(!request.method.is_empty() && request.all("host").count() <= 1);
        assert!(request.headers.iter().all(|(name, _)| !name.bytes().any(|byte| byte.is_ascii_uppercase())));
        assert!(request.header("content-length").is_none() || request.header("transfer-encoding").is_none());
        let open = Guard { token: None, hosts: Hosts::Any }.admit(request);
        assert!(Guard { token: Some("secret".into()), hosts: Hosts::Loopback }.admit(request).is_err() || open.is_ok());
    }
    if let Some(refusal) = refusal {
        assert!((400..=505).contains(&refusal.status) && !refusal.message.is_empty());
        let bytes = Response::from(refusal).encode(false, false);
        let head = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("a response without end");
        assert!(serde_json::from_slice::<Value>(&bytes[head + 4..]).is_ok());
    }
}

/// Both ends of a run's channel: what is understood does not depend on where the stream is cut, written again it is
/// the same bytes, and what makes no sense stays refused. The first byte is the size of the pieces, the others the
/// stream; the first eight are an exit page as well.
pub fn channel(data: &[u8]) {
    if let Some(number) = data.first_chunk() {
        let page = Page::decode(u64::from_le_bytes(*number));
        assert_eq!(Page::decode(page.encode()), page);
    }
    let Some((size, stream)) = data.split_first() else { return };
    let size = usize::from(*size).max(1);
    one_way::<ToInit>(stream, size);
    one_way::<FromInit>(stream, size);
}

fn one_way<M: Message + PartialEq + Debug>(stream: &[u8], size: usize) {
    let whole = messages::<M>(stream, stream.len().max(1));
    assert_eq!(messages::<M>(stream, size), whole, "it depends on where the stream is cut");
    let (messages, refused) = whole;
    let read: Vec<u8> = messages.iter().flat_map(Message::encode).collect();
    let rest = stream.strip_prefix(&read[..]).expect("what was read is not what came");
    // A length and a kind, and less than they announce.
    if let (false, Some([length @ .., _])) = (refused, rest.first_chunk::<5>()) {
        let length = u32::from_le_bytes(*length) as usize;
        assert!(length <= channel::MAX && rest.len() < 5 + length, "a whole message was left");
    }
}

fn messages<M: Message + PartialEq + Debug>(stream: &[u8], size: usize) -> (Vec<M>, bool) {
    let (mut decoder, mut messages) = (Decoder::default(), Vec::new());
    let mut pieces = stream.chunks(size);
    while let Some(piece) = pieces.next() {
        decoder.feed(piece);
        loop {
            match decoder.message() {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(_) => {
                    pieces.for_each(|piece| decoder.feed(piece));
                    assert!(decoder.message::<M>().is_err(), "it reads on after what makes no sense");
                    return (messages, true);
                }
            }
        }
    }
    (messages, false)
}

const LIMITS: Limits = Limits { head: 512, body: 128 };

fn requests(stream: &[u8], size: usize) -> (Vec<Request>, Option<Refusal>) {
    let (mut reader, mut requests) = (Requests::new(LIMITS), Vec::new());
    for piece in stream.chunks(size) {
        reader.feed(piece);
        loop {
            match reader.next() {
                Ok(Some(request)) => requests.push(request),
                Ok(None) => break,
                Err(refusal) => return (requests, Some(refusal)),
            }
        }
        assert!(reader.wants_more(), "it waits for what it does not read");
        assert!(reader.pending().is_none_or(|request| request.body.len() <= LIMITS.body));
    }
    (requests, None)
}

/// What a command is made of can be given to a kernel, or the answer says what is wrong; bytes that come back as a
/// command's output are the same.
#[cfg(target_os = "linux")]
pub fn execute_body(data: &[u8]) {
    match api::parse_execute(data) {
        Ok(execute) => {
            let env = execute.env.iter().flat_map(|(name, value)| [name, value]);
            assert!(execute.argv.iter().chain(env).all(|text| !text.as_encoded_bytes().contains(&0)));
            assert!(!execute.argv[0].is_empty() && execute.cwd.is_none_or(|cwd| !cwd.as_os_str().is_empty()));
            assert!(execute.env.iter().all(|(name, _)| !name.is_empty()));
            assert!(!execute.timeout.is_zero() && execute.timeout <= Duration::from_secs(86_400 * 365));
        }
        Err(response) => {
            let body: Value = serde_json::from_slice(&response.body).unwrap();
            assert_eq!((response.status, &body["error"]["status"]), (400, &Value::from(400)));
            assert!(body["error"]["message"].as_str().is_some_and(|text| !text.is_empty() && text.len() < 1000));
        }
    }
    let output = api::Output::Split(data.to_vec(), b"text".to_vec());
    let outcome = api::Outcome { code: 0, signal: None, output, timed_out: false, truncated: false };
    let (_, body) = api::reply(outcome);
    let length = body.left();
    let bytes = body.collect::<Vec<_>>().concat();
    assert_eq!(bytes.len(), length);
    let body: Value = serde_json::from_slice(&bytes).unwrap();
    match std::str::from_utf8(data) {
        Ok(text) => assert_eq!((body["stdout"].as_str(), body.get("encoding")), (Some(text), None)),
        Err(_) => assert_eq!((&body["stderr"], &body["encoding"]), (&"dGV4dA==".into(), &"base64".into())),
    }
    if let Ok(words) = api::split_words(&String::from_utf8_lossy(data)) {
        assert!(words.len() <= data.len());
    }
}

/// What was typed means the same however it is cut, and nothing but an escape is kept from the command: what it gets
/// is what was typed, with bytes left out, and without a prefix all of it. The first byte is the size of the pieces.
pub fn escape(data: &[u8]) {
    let Some((size, stream)) = data.split_first() else { return };
    let size = usize::from(*size).max(1);
    assert_eq!(typed(None, stream, size), (stream.to_vec(), false));
    if let Ok(Some(prefix)) = escape::parse(&String::from_utf8_lossy(&stream[..stream.len().min(2)])) {
        assert_eq!(escape::parse(&prefix.to_string()), Ok(Some(prefix)));
    }
    for prefix in ["^/", "^_", "^a", "^@"].map(|text| escape::parse(text).expect("a prefix is refused")) {
        let whole = typed(prefix, stream, stream.len().max(1));
        assert_eq!(typed(prefix, stream, size), whole, "it depends on where the stream is cut");
        let (out, stops) = whole;
        assert!(out.len() <= stream.len());
        let byte = prefix.map(Prefix::byte);
        let may_escape = stream.iter().any(|typed| Some(*typed) == byte || *typed == 0x1b);
        assert!(may_escape || (out == stream && !stops));
        assert!(!stops || stream.contains(&b'k') || stream.windows(3).any(|window| window == b"107"));
    }
}

fn typed(prefix: Option<Prefix>, stream: &[u8], size: usize) -> (Vec<u8>, bool) {
    let (mut escape, mut out, mut stops) = (Escape::new(prefix), Vec::new(), false);
    for piece in stream.chunks(size) {
        stops |= escape.feed(piece, &mut out).is_some();
    }
    escape.finish(&mut out);
    (out, stops)
}

/// Any output is understood the same however it is cut, its undo is short, and leaves nothing to undo. The first byte
/// is the size of the pieces.
pub fn modes(data: &[u8]) {
    let Some((size, stream)) = data.split_first() else { return };
    let (mut whole, mut pieces) = (Modes::default(), Modes::default());
    whole.see(stream);
    stream.chunks(usize::from(*size).max(1)).for_each(|piece| pieces.see(piece));
    let undo = whole.undo();
    assert_eq!(pieces.undo(), undo, "it depends on where the stream is cut");
    assert!(undo.len() < 500);
    assert!(undo.is_empty() || stream.iter().any(|byte| matches!(byte, 0x0e | 0x1b)));
    whole.see(&undo);
    assert_eq!(whole.undo(), b"", "it leaves something on");
}
