//! Requests in whole and in pieces, and everything that is refused.

use std::fmt::Write;

use proptest::prelude::*;

use super::*;

const SMALL: Limits = Limits { head: 256, body: 32 };

/// Everything that comes out: requests, and the refusal that ended it.
#[derive(Debug, PartialEq, Default)]
struct Outcome {
    requests: Vec<Request>,
    refusal: Option<Refusal>,
}

fn read<'a>(limits: Limits, pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let mut reader = Reader::new(limits);
    let mut outcome = Outcome::default();
    for piece in pieces {
        reader.feed(piece);
        loop {
            match reader.next() {
                Ok(Some(request)) => outcome.requests.push(request),
                Ok(None) => break,
                Err(refusal) => {
                    outcome.refusal = Some(refusal);
                    break;
                }
            }
        }
        assert!(reader.wants_more(), "a reader that was asked for everything wants more");
    }
    outcome
}

fn whole(text: &str) -> Outcome {
    read(SMALL, [text.as_bytes()])
}

fn one(text: &str) -> Request {
    let mut outcome = whole(text);
    assert_eq!((outcome.requests.len(), &outcome.refusal), (1, &None), "{text}");
    outcome.requests.remove(0)
}

/// The status of the refusal; it must come before any request.
fn refused(text: &str) -> u16 {
    let outcome = whole(text);
    assert!(outcome.requests.is_empty(), "{text}");
    outcome.refusal.map_or(0, |refusal| refusal.status)
}

fn get(fields: &str) -> String {
    format!("GET /a HTTP/1.1\r\nHost: x\r\n{fields}\r\n")
}

fn chunked(body: &str) -> String {
    get("Transfer-Encoding: chunked\r\n") + body
}

/// Streams with something of everything, the refused ones at their end.
fn streams() -> Vec<String> {
    let plain = get("");
    let length = format!("{}hello", get("Content-Length: 5\r\n"));
    let chunks = chunked("3;a=\"b\"\r\nabc\r\n0A\r\n0123456789\r\n0\r\nTrailer: x\r\nOther:\r\n\r\n");
    vec![
        format!("\r\n\r\n{plain}{length}{chunks}\r\n{plain}"),
        format!("{chunks}{chunks}GET / HTTP/1.0\r\n\r\nignored"),
        format!("{length}{}ignored", get("Connection: Close\r\n")),
        format!("{plain}{}", chunked("0\r\n\r\nnonsense")),
        format!("{plain}PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        format!("{plain}GET /{} HTTP/1.1\r\n\r\n", "a".repeat(200)),
        format!("{plain}{}", get(&format!("Long: {}\r\n", "b".repeat(300)))),
        format!("{plain}{}", get("Content-Length: 33\r\n")),
        chunked("20\r\n0123456789abcdef0123456789abcdef\r\n1\r\nx"),
        chunked("4\r\nabcdefgh\r\n"),
        chunked(&format!("1;{}\r\nx\r\n", "e".repeat(1024))),
        chunked(&format!("0\r\nT: {}\r\n", "t".repeat(256))),
        format!("{plain}\r\n\r\n\r\n\r\n\r\n{plain}"),
        format!("{plain}\nGET"),
        get("Expect: 100-continue\r\nContent-Length: 3\r\n") + "abc",
        get("A: b\r\n c: d\r\n"),
        "\rGET / HTTP/1.1\r\n".into(),
        "\u{16}\u{3}\u{1}".into(),
    ]
}

#[test]
fn a_request_comes_out_as_it_was_sent() {
    let request = one("POST /process/execute?a=%20 HTTP/1.1\r\nHost: localhost:1\r\nX-Two: \t a b \r\nX-TWO:\r\n\
         content-length: 5\r\n\r\nhello");
    assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/process/execute"));
    assert_eq!(request.query.as_deref(), Some("a=%20"));
    assert_eq!(request.header("host"), Some(&b"localhost:1"[..]));
    assert_eq!(request.all("x-two").collect::<Vec<_>>(), [&b"a b"[..], b""]);
    assert_eq!(request.header("x-three"), None);
    assert_eq!(request.body, b"hello");
    assert!(request.keep_alive && request.has_body());
    let plain = one(&get(""));
    assert!(plain.keep_alive && !plain.has_body() && plain.query.is_none());
}

#[test]
fn it_does_not_matter_where_the_stream_is_cut() {
    for stream in streams() {
        let expected = whole(&stream);
        for at in 0..=stream.len() {
            let (before, after) = stream.as_bytes().split_at(at);
            assert_eq!(read(SMALL, [before, after]), expected, "cut at {at}: {stream:?}");
        }
        assert_eq!(read(SMALL, stream.as_bytes().chunks(1)), expected, "{stream:?}");
        assert_eq!(read(SMALL, stream.as_bytes().chunks(7)), expected, "{stream:?}");
    }
}

#[test]
fn requests_in_one_piece_come_out_one_after_another() {
    let outcome = whole(&streams()[0]);
    let bodies: Vec<_> = outcome.requests.iter().map(|request| request.body.as_slice()).collect();
    assert_eq!(bodies, [&b""[..], b"hello", b"abc0123456789", b""]);
    assert_eq!(outcome.refusal, None);
}

#[test]
fn chunks_are_put_together_and_trailers_thrown_away() {
    let request = one(&chunked("3 ;a\r\nabc\r\n00001\r\nd\r\n000\r\nHost: other\r\n\r\n"));
    assert_eq!(request.body, b"abcd");
    assert_eq!(request.all("host").count(), 1);
    let coding = one(&(get("Transfer-Encoding: CHUNKED\r\n") + "0\r\n\r\n"));
    assert!(coding.body.is_empty());
}

#[test]
fn an_address_as_target_takes_the_place_of_the_host() {
    let request = one("GET http://other:1/a HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!((request.path.as_str(), request.header("host")), ("/a", Some(&b"other:1"[..])));
    assert_eq!(refused("GET http://a@b/ HTTP/1.1\r\nHost: x\r\n\r\n"), 400);
    assert_eq!(refused("GET http://b/ HTTP/1.1\r\n\r\n"), 400);
}

#[test]
fn the_connection_ends_after_a_request_that_says_so() {
    for last in [
        "GET / HTTP/1.0\r\n\r\n",
        "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        &get("Connection: close\r\n"),
        &get("Connection: x , CLOSE\r\n"),
        &get("Connection: x\r\nConnection: close\r\n"),
    ] {
        let outcome = whole(&format!("{last}{}", get("")));
        assert_eq!((outcome.requests.len(), outcome.refusal), (1, None), "{last}");
        assert!(!outcome.requests[0].keep_alive);
    }
    assert!(one(&get("Connection: closed\r\n")).keep_alive);
}

#[test]
fn heads_that_could_be_understood_in_two_ways_are_refused() {
    for (status, fields) in [
        (400, "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"),
        (400, "Transfer-Encoding: x\r\nContent-Length: 1\r\n"),
        (400, "Content-Length: 1\r\nContent-Length: 2\r\n"),
        (400, "Content-Length: 1\r\nContent-Length: 1\r\n"),
        (400, "Content-Length: 1, 1\r\n"),
        (400, "Content-Length: +1\r\n"),
        (400, "Content-Length: -1\r\n"),
        (400, "Content-Length: 0x1\r\n"),
        (400, "Content-Length: 1 1\r\n"),
        (400, "Content-Length:\r\n"),
        (400, "Content-Length: 18446744073709551616\r\n"),
        (413, "Content-Length: 18446744073709551615\r\n"),
        (413, "Content-Length: 33\r\n"),
        (413, "Content-Length: 33\r\nExpect: 100-continue\r\n"),
        (501, "Transfer-Encoding: gzip\r\n"),
        (501, "Transfer-Encoding: gzip, chunked\r\n"),
        (501, "Transfer-Encoding: chunked, chunked\r\n"),
        (501, "Transfer-Encoding: identity\r\n"),
        (501, "Transfer-Encoding: \u{b}chunked\r\n"),
        (501, "Transfer-Encoding:\r\n"),
        (501, "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
        (417, "Expect: 200-ok\r\n"),
        (400, "A: b\r\n c\r\n"),
        (400, "A : b\r\n"),
        (400, " A: b\r\n"),
        (400, ": b\r\n"),
        (400, "A\r\n"),
        (400, "A b: c\r\n"),
        (400, "A: b\rc\r\n"),
        (400, "A: b\nC: d\r\n"),
        (400, "A: b\0\r\n"),
        (400, "Host: x\r\n"),
        (400, "hOST: y\r\n"),
    ] {
        // A control character is refused before the coding it stands in.
        let expected = if fields.contains('\u{b}') { 400 } else { status };
        assert_eq!(refused(&get(fields)), expected, "{fields:?}");
    }
}

#[test]
fn first_lines_that_are_none_are_refused_at_once() {
    for (status, line) in [
        (400, "hello\r\n"),
        (400, "GET /\r\n"),
        (400, "GET  / HTTP/1.1\r\n"),
        (400, "GET / HTTP/1.1 \r\n"),
        (400, " GET / HTTP/1.1\r\n"),
        (400, "GET / a HTTP/1.1\r\n"),
        (400, "GET\t/ HTTP/1.1\r\n"),
        (400, "G(T / HTTP/1.1\r\n"),
        (400, "GET /\u{1} HTTP/1.1\r\n"),
        (400, "GET /é HTTP/1.1\r\n"),
        (400, "GET / http/1.1\r\n"),
        (400, "GET / HTTP/1.1x\r\n"),
        (400, "GET / HTTP/11\r\n"),
        (400, "GET / HTTP/1.1\n"),
        (400, "GET / HTTP/1.1\r\r\n"),
        (400, "\n"),
        (400, "\r\n\r\n\r\n\r\n\r\n"),
        (400, "\u{16}"),
        (400, "{"),
        (505, "PRI * HTTP/2.0\r\n"),
        (505, "GET / HTTP/1.2\r\n"),
        (505, "GET / HTTP/0.9\r\n"),
        (505, "GET / HTTP/3.0\r\n"),
    ] {
        assert_eq!(refused(line), status, "{line:?}");
    }
    assert_eq!(refused(&format!("GET /{}", "a".repeat(124))), 414);
    assert_eq!(refused(&format!("GET /{}", "a".repeat(123))), 0);
    assert_eq!(refused(&"a".repeat(129)), 400);
    assert_eq!(refused("GET a HTTP/1.1\r\nHost: x\r\n\r\n"), 400);
    assert_eq!(refused("CONNECT a:1 HTTP/1.1\r\nHost: x\r\n\r\n"), 400);
}

#[test]
fn a_request_names_one_host() {
    assert_eq!(refused("GET / HTTP/1.1\r\n\r\n"), 400);
    assert_eq!(refused("GET / HTTP/1.0\r\nHost: x\r\nHost: x\r\n\r\n"), 400);
    for host in ["a,b", "a b", "http://a", "a@b", "a/b", "é"] {
        assert_eq!(refused(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")), 400, "{host}");
    }
    assert_eq!(one("GET / HTTP/1.1\r\nHost:\r\n\r\n").header("host"), Some(&b""[..]));
    assert_eq!(one("GET / HTTP/1.0\r\n\r\n").header("host"), None);
    assert_eq!(refused("GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), 400);
}

#[test]
fn heads_bodies_and_trailers_have_limits() {
    let head = |length: usize| get(&format!("A: {}\r\n", "a".repeat(length - get("A: \r\n").len())));
    assert_eq!(head(256).len(), 256);
    assert_eq!(whole(&head(256)).requests.len(), 1);
    assert_eq!(refused(&head(257)), 431);
    let fields = |count: usize| {
        (1..count).fold("GET / HTTP/1.1\r\nHost: x\r\n".to_owned(), |mut head, number| {
            write!(head, "A{number}: b\r\n").unwrap();
            head
        }) + "\r\n"
    };
    assert_eq!(read(Limits::default(), [fields(64).as_bytes()]).requests[0].headers.len(), 64);
    assert_eq!(read(Limits::default(), [fields(65).as_bytes()]).refusal.unwrap().status, 431);
    assert_eq!(one(&format!("{}{}", get("Content-Length: 32\r\n"), "b".repeat(32))).body.len(), 32);
    assert_eq!(refused(&chunked("21\r\n")), 413);
    assert_eq!(refused(&chunked("ffffffffffffffff\r\n")), 413);
    assert_eq!(refused(&chunked(&format!("{}1\r\n1\r\n", "1\r\nx\r\n".repeat(32)))), 413);
    assert_eq!(refused(&chunked(&format!("1;{}\r\nx\r\n", "e".repeat(99)).repeat(3))), 400);
    assert_eq!(refused(&chunked(&format!("0\r\nA: {}", "t".repeat(254)))), 431);
}

#[test]
fn broken_chunks_are_refused() {
    for body in [
        "x\r\n",
        "\r\n",
        "-1\r\n",
        "0x1\r\n",
        "1 \r\n",
        "1\nx",
        "1;a\n",
        "1;\u{1}\r\n",
        "11111111111111111\r\n",
        "1\r\nxy",
        "1\r\nx\n",
        "1\r\nx\rx",
        "0\r\nnonsense\r\n\r\n",
        "0\r\n a: b\r\n\r\n",
        "0\r\n\n",
    ] {
        assert_eq!(refused(&chunked(body)), 400, "{body:?}");
    }
}

#[test]
fn who_waits_to_be_told_is_told_once_and_only_if_the_body_is_missing() {
    let head = get("Content-Length: 2\r\nExpect: 100-Continue\r\n");
    let mut reader = Reader::new(SMALL);
    reader.feed(head.as_bytes());
    assert!(!reader.take_continue());
    assert_eq!(reader.next(), Ok(None));
    assert!(reader.take_continue() && !reader.take_continue());
    reader.feed(b"ok");
    assert_eq!(reader.next().unwrap().unwrap().body, b"ok");

    reader.feed(head.as_bytes());
    reader.feed(b"ok");
    assert_eq!(reader.next().unwrap().unwrap().body, b"ok");
    assert!(!reader.take_continue());

    for nothing_follows in [
        get("Expect: 100-continue\r\n"),
        get("Expect: 100-continue\r\nContent-Length: 0\r\n"),
        "POST / HTTP/1.0\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n".into(),
    ] {
        let mut reader = Reader::new(SMALL);
        reader.feed(nothing_follows.as_bytes());
        reader.next().unwrap();
        assert!(!reader.take_continue(), "{nothing_follows}");
    }
}

#[test]
fn a_slow_request_differs_from_none() {
    let mut reader = Reader::new(SMALL);
    let idle = |reader: &mut Reader, bytes: &[u8]| {
        reader.feed(bytes);
        let _taken = reader.next().unwrap();
        (reader.is_idle(), reader.pending().map(|request| request.path.clone()))
    };
    assert_eq!(idle(&mut reader, b""), (true, None));
    assert_eq!(idle(&mut reader, b"\r\n"), (true, None));
    assert_eq!(idle(&mut reader, b"GET /"), (false, None));
    assert_eq!(idle(&mut reader, b" HTTP/1.1\r\nHost: x\r\n"), (false, None));
    assert_eq!(idle(&mut reader, b"Content-Length: 1\r\n\r\n"), (false, Some("/".into())));
    assert_eq!(idle(&mut reader, b"x"), (true, None));
    reader.feed(get("").repeat(2).as_bytes());
    assert!(reader.next().unwrap().is_some());
    assert!(!reader.is_idle(), "the next one is here");
}

#[test]
fn a_client_that_does_not_wait_is_read_no_further() {
    let mut reader = Reader::new(SMALL);
    while reader.wants_more() {
        reader.feed(get("").as_bytes());
    }
    assert!(reader.held() <= SMALL.head + get("").len());
    let mut requests = 0;
    while reader.next().unwrap().is_some() {
        requests += 1;
    }
    assert!(requests > 1 && reader.wants_more() && reader.is_idle());
}

#[test]
fn after_its_end_nothing_counts_or_is_kept() {
    let mut refusing = Reader::new(SMALL);
    refusing.feed(b"nonsense\r\n");
    let refusal = refusing.next().unwrap_err();
    let mut closing = Reader::new(SMALL);
    closing.feed(b"GET / HTTP/1.0\r\n\r\n");
    assert!(closing.next().unwrap().is_some());
    for reader in [&mut refusing, &mut closing] {
        reader.feed(get("").repeat(100).as_bytes());
        assert_eq!(reader.held(), 0);
        assert!(reader.wants_more() && !reader.is_idle() && reader.pending().is_none());
    }
    assert_eq!(refusing.next(), Err(refusal));
    assert_eq!(closing.next(), Ok(None));
}

/// Bytes that look like HTTP often enough to get far.
fn fragments() -> impl Strategy<Value = Vec<u8>> {
    let texts = [
        "GET / HTTP/1.1\r\n",
        "Host: x\r\n",
        "Content-Length: 7\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Expect: 100-continue\r\n",
        "\r\n",
        "5\r\nhello\r\n",
        "0\r\n\r\n",
        "1;a\r\n",
        "\n",
        "x",
        " ",
    ];
    let fragment = prop_oneof![
        8 => prop::sample::select(texts.to_vec()).prop_map(|text| text.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..20),
    ];
    prop::collection::vec(fragment, 0..40).prop_map(|fragments| fragments.concat())
}

proptest! {
    #[test]
    fn no_bytes_break_the_reader_or_fill_the_memory(bytes in fragments(), size in 1..40_usize) {
        let mut reader = Reader::new(SMALL);
        for piece in bytes.chunks(size).filter(|piece| !piece.is_empty()) {
            if reader.wants_more() {
                reader.feed(piece);
            }
            let _taken = reader.next();
            // Used bytes may take as much room again.
            prop_assert!(reader.held() <= 2 * (SMALL.head + size) + SMALL.body);
        }
    }

    #[test]
    fn no_cut_changes_what_is_read(bytes in fragments(), size in 1..40_usize) {
        prop_assert_eq!(read(SMALL, bytes.chunks(size)), read(SMALL, [bytes.as_slice()]));
    }
}
