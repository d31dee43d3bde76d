//! What the command gets of what was typed, and what is asked for.

use proptest::prelude::*;

use super::*;

/// All of it at once, then the end of input: what the command gets, and whether the run is stopped.
fn typed(prefix: Option<Prefix>, bytes: &[u8]) -> (Vec<u8>, bool) {
    pieces(prefix, [bytes])
}

fn pieces<'a>(prefix: Option<Prefix>, pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<u8>, bool) {
    let (mut escape, mut out, mut stops) = (Escape::new(prefix), Vec::new(), false);
    for piece in pieces {
        stops |= escape.feed(piece, &mut out).is_some();
    }
    escape.finish(&mut out);
    assert!(!escape.is_holding());
    (out, stops)
}

/// Also byte by byte, and cut in two at every place.
fn assert_typed(text: &str, bytes: &str, expected: &str, stops: bool) {
    let prefix = parse(text).unwrap();
    let bytes = bytes.as_bytes();
    let expected = (expected.as_bytes().to_vec(), stops);
    assert_eq!(typed(prefix, bytes), expected, "{bytes:?}");
    assert_eq!(pieces(prefix, bytes.chunks(1)), expected, "{bytes:?}, byte by byte");
    for at in 0..bytes.len() {
        assert_eq!(pieces(prefix, [&bytes[..at], &bytes[at..]]), expected, "{bytes:?}, cut at {at}");
    }
}

/// Stops, and leaves these bytes for the command.
fn assert_stops(bytes: &str, rest: &str) {
    assert_typed("^/", bytes, rest, true);
}

fn assert_passes(bytes: &str, out: &str) {
    assert_typed("^/", bytes, out, false);
}

fn assert_unchanged(bytes: &str) {
    assert_passes(bytes, bytes);
}

#[test]
fn x2_the_prefix_then_k_stops() {
    assert_stops("\x1fk", "");
    assert_stops("one\x1fktwo", "onetwo");
    assert_stops("\x1fd\x1fk", "\x1fd");
}

#[test]
fn x2_the_prefix_then_another_key_passes_both() {
    for other in ["d", "K", "\x0b", "\0", "\r", "\x7f", "é", "\x1b[A", "\x1bOP", "\x1b[1;5A", "\x1b[15~", "\x1b[200~k"]
    {
        assert_unchanged(&format!("a\x1f{other}b"));
    }
}

#[test]
fn x2_the_prefix_twice_is_one_for_the_command() {
    assert_passes("\x1f\x1f", "\x1f");
    assert_passes("a\x1f\x1fk", "a\x1fk");
    assert_passes("\x1f\x1f\x1f\x1f", "\x1f\x1f");
    assert_stops("\x1f\x1f\x1fk", "\x1f");
}

#[test]
fn without_an_escape_every_byte_passes() {
    let all: Vec<u8> = (0..=255).cycle().take(3_000_000).collect();
    assert_eq!(typed(None, &all), (all.clone(), false));
    for keys in ["\x1fk", "\x1b[47;5uk", "\x1b[47;5u\x1b[107u", "\x1b", "\x1b[47;5", "\x1f"] {
        assert_typed("none", keys, keys, false);
    }
}

#[test]
fn no_byte_but_the_prefix_means_anything() {
    for byte in (0..=255_u8).filter(|byte| *byte != 0x1f) {
        let bytes = [byte, b'k', byte, byte, b'k', 0x1b, byte, b'k'];
        assert_eq!(typed(Some(Prefix::default()), &bytes), (bytes.to_vec(), false), "{byte:#x}");
    }
}

#[test]
fn a_large_paste_passes_whole_whatever_the_pieces() {
    let line = "a line with é and \x1b[1;31mcolours\x1b[m, \x1b]0;title\x07 and [47;5u \r\n";
    let text = line.repeat(10 * 1024 * 1024 / line.len());
    for (size, text) in [(7, &text[..line.len() * 1000]), (4096, &text), (text.len(), &text)] {
        let (out, stops) = pieces(Some(Prefix::default()), text.as_bytes().chunks(size));
        assert!(out == text.as_bytes() && !stops, "in pieces of {size}");
    }
}

/// Every form in which a terminal says that Ctrl and / were pressed.
const PRESSED: [&str; 14] = [
    "\x1f",
    "\x1b[47;5u",
    "\x1b[47;5:1u",
    "\x1b[47;5:u",
    "\x1b[47;69u",
    "\x1b[47;133u",
    "\x1b[47;197:1u",
    "\x1b[47::47;5u",
    "\x1b[47:63;5u",
    "\x1b[47:63:47;5:1u",
    "\x1b[47;5;u",
    // 7 with Shift is / there.
    "\x1b[55:47;6u",
    "\x1b[27;5;47~",
    "\x1b[27;6;47~",
];

/// What looks like it and is not.
const NOT_PRESSED: [&str; 20] = [
    "\x1b[47u",
    "\x1b[47;1u",
    "\x1b[47;3u",
    "\x1b[47;7u",
    "\x1b[47;13u",
    "\x1b[47;6u",
    "\x1b[47:63;6u",
    "\x1b[47;5:2u",
    "\x1b[47;5:3u",
    "\x1b[47;5:4u",
    "\x1b[47;5~",
    "\x1b[47;5U",
    "\x1b[47;;5u",
    "\x1b[?47;5u",
    "\x1b[48;5u",
    "\x1b[4;5u",
    "\x1b[470;5u",
    "\x1b[45::47;5u",
    "\x1b[27;5u",
    "\x1bO47;5u",
];

#[test]
fn x2_every_form_of_the_prefix_opens_the_escape() {
    for press in PRESSED {
        assert_stops(&format!("a{press}kb"), "ab");
        assert_unchanged(&format!("a{press}db"));
        // The second goes on as it came.
        for again in PRESSED {
            assert_passes(&format!("a{press}{again}k"), &format!("a{again}k"));
        }
    }
    for other in NOT_PRESSED {
        assert_unchanged(&format!("a{other}kb"));
        assert_unchanged(&format!("a{other}{other}\x1b[107u"));
    }
}

#[test]
fn x2_every_form_of_k_stops() {
    for k in [
        "\x1b[107u",
        "\x1b[107;u",
        "\x1b[107;1u",
        "\x1b[107;1:1u",
        "\x1b[107;65u",
        "\x1b[107;129:1u",
        "\x1b[107:75u",
        "\x1b[107::107;1u",
        "\x1b[107;;107u",
        "\x1b[107;1:1;107u",
        "\x1b[27;1;107~",
    ] {
        for press in PRESSED {
            assert_stops(&format!("a{press}{k}b"), "ab");
        }
        assert_unchanged(&format!("a{k}{k}"));
    }
    for other in ["\x1b[107;5u", "\x1b[107;2u", "\x1b[107;3u", "\x1b[107;1:2u", "\x1b[75u", "\x1b[107~", "\x1bk"] {
        assert_unchanged(&format!("\x1b[47;5u{other}k"));
        assert_unchanged(&format!("\x1f{other}k"));
    }
}

#[test]
fn releases_and_repeats_of_the_escape_are_neither_an_answer_nor_the_commands() {
    let (press, repeat, release) = ("\x1b[47;5u", "\x1b[47;5:2u", "\x1b[47;5:3u");
    let k = "\x1b[107;1:1u";
    let k_up = "\x1b[107;1:3u";
    assert_stops(&format!("{press}{release}{k}{k_up}x"), "x");
    assert_stops(&format!("{press}{repeat}{repeat}{release}k"), "");
    // Fingers that overlap, Ctrl up first, and k held down.
    assert_stops(&format!("{press}{k}\x1b[107;1:2u{release}{k_up}x"), "x");
    assert_stops(&format!("{press}k\x1b[47;1:3ux"), "x");
    // One release belongs to one press.
    assert_stops(&format!("{press}k{release}{release}"), release);
    assert_stops(&format!("{press}{release}k{release}"), release);
    assert_stops(&format!("{press}k{press}d{release}"), &format!("{press}d{release}"));
    assert_stops(&format!("{press}{k}{k_up}{k_up}"), k_up);
    assert_stops(&format!("{press}{k}{k}{k_up}"), &format!("{k}{k_up}"));
    assert_stops(&format!("\x1fk{release}{k_up}"), &format!("{release}{k_up}"));
    // The first is swallowed with its release, the second is the command's with its own.
    assert_passes(&format!("{press}{repeat}{release}{press}{release}x"), &format!("{press}{release}x"));
    assert_passes(&format!("{press}{release}{press}{repeat}k"), &format!("{press}{repeat}k"));
    // Another key: the command gets all that was typed.
    assert_unchanged(&format!("{press}{repeat}{release}d{release}"));
    assert_unchanged(&format!("{press}{release}\x1b[100;1:1u\x1b[100;1:3u"));
}

#[test]
fn keys_that_only_modify_and_releases_of_others_are_no_answer() {
    let (press, release) = ("\x1b[47;5u", "\x1b[47;5:3u");
    let (ctrl, ctrl_up, a_up) = ("\x1b[57442;5u", "\x1b[57442;5:3u", "\x1b[97;5:3u");
    let arrow_up = "\x1b[1;5:3A";
    assert_stops(
        &format!("{ctrl}{press}{a_up}{arrow_up}{release}{ctrl_up}k"),
        &format!("{ctrl}{a_up}{arrow_up}{ctrl_up}"),
    );
    assert_passes(
        &format!("{ctrl}{press}{release}{ctrl_up}{ctrl}{press}{release}{ctrl_up}"),
        &format!("{ctrl}{ctrl_up}{ctrl}{press}{release}{ctrl_up}"),
    );
    assert_unchanged(&format!("{ctrl}{press}{release}{ctrl_up}d"));
    // Caps Lock, both of them.
    assert_stops(&format!("{press}\x1b[57358;69u\x1b[57358;1:3uk"), "\x1b[57358;69u\x1b[57358;1:3u");
    assert_unchanged(&format!("{press}{release}{ctrl_up}"));
}

#[test]
fn what_the_terminal_tells_of_itself_goes_on_and_is_no_answer() {
    for report in ["\x1b[<35;10;12M", "\x1b[<0;1;1m", "\x1b[I", "\x1b[O"] {
        assert_unchanged(&format!("{report}{report}"));
        assert_stops(&format!("\x1f{report}k"), report);
        let (mut escape, mut out) = (Escape::new(Some(Prefix::default())), Vec::new());
        assert_eq!(escape.feed(format!("\x1f{report}").as_bytes(), &mut out), None);
        assert_eq!(out, report.as_bytes());
    }
}

#[test]
fn a_prefix_waits_without_limit_and_comes_at_the_end_of_input() {
    for press in ["\x1f", "\x1b[47;5u", "\x1b[47;5u\x1b[47;5:3u"] {
        let (mut escape, mut out) = (Escape::new(Some(Prefix::default())), Vec::new());
        assert_eq!(escape.feed(press.as_bytes(), &mut out), None);
        assert!(!escape.is_holding());
        escape.flush(&mut out);
        assert_eq!(out, b"");
        escape.finish(&mut out);
        assert_eq!(out, press.as_bytes());
    }
}

#[test]
fn only_what_may_become_a_prefix_is_held_and_only_until_the_flush() {
    let held = |bytes: &str| {
        let (mut escape, mut out) = (Escape::new(Some(Prefix::default())), Vec::new());
        assert_eq!(escape.feed(bytes.as_bytes(), &mut out), None);
        let held = bytes.len() - out.len();
        assert_eq!(escape.is_holding(), held > 0);
        escape.flush(&mut out);
        assert_eq!((out.as_slice(), escape.is_holding()), (bytes.as_bytes(), false));
        held
    };
    for part in
        ["\x1b", "\x1b[", "\x1b[4", "\x1b[47", "\x1b[47:", "\x1b[47;", "\x1b[47;5", "\x1b[47;69:1", "\x1b[55:47;"]
    {
        assert_eq!(held(&format!("a{part}")), part.len(), "{part:?}");
    }
    for part in [
        "\x1bO",
        "\x1b[A",
        "\x1b[?",
        "\x1b[<3",
        "\x1b[1;",
        "\x1b[1;5",
        "\x1b[47;1;",
        "\x1b[200~x",
        "\x1b]47",
        "\u{9b}47;5",
    ] {
        assert_eq!(held(part), 0, "{part:?}");
    }
    assert_eq!(held("\x1b\x1b"), 1);
    // What never ends is not held for ever.
    assert_eq!(held(&format!("\x1b[{}", "4".repeat(1000))), 0);
    assert_eq!(held(&format!("\x1b[47;{}", "5:".repeat(1000))), 0);
    assert_eq!(held(&format!("\x1b[{}u", "4".repeat(40))), 0);
}

#[test]
fn after_the_flush_the_rest_of_a_sequence_is_what_it_looks_like() {
    let (mut escape, mut out) = (Escape::new(Some(Prefix::default())), Vec::new());
    assert_eq!(escape.feed(b"\x1f\x1b", &mut out), None);
    assert_eq!(out, b"");
    // An Esc key after the prefix.
    escape.flush(&mut out);
    assert_eq!(out, b"\x1f\x1b");
    assert_eq!(escape.feed(b"[47;5uk", &mut out), None);
    assert_eq!(out, b"\x1f\x1b[47;5uk");
}

#[test]
fn a_prefix_held_down_for_hours_takes_no_memory() {
    let (mut escape, mut out) = (Escape::new(Some(Prefix::default())), Vec::new());
    assert_eq!(escape.feed(b"\x1b[47;5u", &mut out), None);
    for _ in 0..100_000 {
        assert_eq!(escape.feed(b"\x1b[47;5:2u", &mut out), None);
    }
    assert!(escape.open.as_ref().is_some_and(|open| open.all.len() <= BEHIND_MAX));
    assert_eq!(escape.feed(b"\x1b[47;5:3uk", &mut out), Some(Action::Stop));
    assert_eq!(out, b"");
    // As many releases are passed on with it.
    assert_eq!(escape.feed(b"\x1b[47;5u", &mut out), None);
    for _ in 0..100_000 {
        assert_eq!(escape.feed(b"\x1b[97;1:3u", &mut out), None);
    }
    assert_eq!(out.len(), 7 + 100_000 * 9);
}

#[test]
fn the_option_is_read_as_people_write_ctrl_keys() {
    for (text, byte) in
        [("^/", 0x1f), ("^_", 0x1f), ("^]", 0x1d), ("^a", 1), ("^A", 1), ("^z", 26), ("^@", 0), ("^\\", 0x1c)]
    {
        let prefix = parse(text).unwrap().unwrap();
        assert_eq!(prefix.byte(), byte, "{text}");
        assert_eq!(parse(&prefix.to_string()), Ok(Some(prefix)));
    }
    assert_eq!(parse("^/"), Ok(Some(Prefix::default())));
    assert_eq!(parse("none"), Ok(None));
    for bad in ["", "^", "/", "a", "^ab", "^[", "^?", "^1", "^é", "^\n", "ctrl-a", "None", "^ ", "^^^", "\x1f"] {
        let why = parse(bad).unwrap_err();
        assert!(why.contains(FORM) && why.contains(&format!("{bad:?}")) && !why.contains('\n'), "{why}");
    }
}

#[test]
fn x2_another_prefix_has_its_own_forms() {
    for (text, presses) in [
        ("^a", &["\x01", "\x1b[97;5u", "\x1b[97;69:1u", "\x1b[97:65;5u", "\x1b[27;5;97~"][..]),
        ("^]", &["\x1d", "\x1b[93;5u", "\x1b[57:93;6u"]),
        ("^_", &["\x1f", "\x1b[45;6u", "\x1b[45:95;6u", "\x1b[95;5u", "\x1b[27;6;95~"]),
        ("^^", &["\x1e", "\x1b[54;6u", "\x1b[94;5u"]),
        ("^@", &["\0", "\x1b[50:64;6u"]),
    ] {
        for press in presses {
            assert_typed(text, &format!("{press}k"), "", true);
            assert_typed(text, &format!("{press}d"), &format!("{press}d"), false);
            assert_typed(text, &format!("{press}{press}"), press, false);
        }
    }
    for (text, other) in [
        ("^a", "\x1fk"),
        ("^a", "\x1b[97;6uk"),
        ("^a", "\x1b[47;5uk"),
        ("^_", "\x1b[47;5uk"),
        ("^/", "\x1b[45;6uk"),
        ("^/", "\x1b[45:95;6uk"),
        ("^_", "\x1b[45:48;6uk"),
    ] {
        assert_typed(text, other, other, false);
    }
}

/// Keys, reports and pieces of them.
fn keyboard() -> impl Strategy<Value = Vec<u8>> {
    let known = PRESSED.iter().chain(&NOT_PRESSED).map(|keys| keys.as_bytes().to_vec());
    let others =
        ["k", "\x1b[107;1:1u", "\x1b[107;1:3u", "\x1b[47;5:3u", "\x1b[57442;1:3u", "\x1b[I", "\x1b", "\x1b[4", "é"];
    let known: Vec<Vec<u8>> = known.chain(others.iter().map(|keys| keys.as_bytes().to_vec())).collect();
    let key = prop_oneof![8 => proptest::sample::select(known), 1 => proptest::collection::vec(0_u8..=255, 0..4)];
    proptest::collection::vec(key, 0..12).prop_map(|keys| keys.concat())
}

proptest! {
    #[test]
    fn the_result_does_not_depend_on_the_pieces(bytes in keyboard(), cuts in proptest::collection::vec(0_usize..80, 0..6)) {
        let prefix = Some(Prefix::default());
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let cut = cuts.windows(2).map(|window| &bytes[window[0]..window[1]]);
        prop_assert_eq!(pieces(prefix, cut), typed(prefix, &bytes));
        prop_assert_eq!(pieces(prefix, bytes.chunks(1)), typed(prefix, &bytes));
    }

    #[test]
    fn without_k_and_a_second_prefix_nothing_is_lost(bytes in keyboard()) {
        // What remains of the first prefix alone passes whole, if no report overtakes it.
        let text = String::from_utf8_lossy(&bytes).replace(['k', 'I'], "d").replace("107", "100");
        let presses: usize = PRESSED.iter().map(|press| text.matches(press).count()).sum();
        prop_assume!(presses <= 1);
        prop_assert_eq!(typed(Some(Prefix::default()), text.as_bytes()), (text.clone().into_bytes(), false));
    }
}
