//! What is left on, and what undoes it.

use proptest::prelude::*;

use super::*;

fn seen(output: &str) -> Modes {
    let mut modes = Modes::default();
    modes.see(output.as_bytes());
    modes
}

/// The undo, however the output is cut; doing it leaves nothing to undo.
fn undo(output: &str) -> String {
    let whole = seen(output).undo();
    let mut single = Modes::default();
    output.as_bytes().chunks(1).for_each(|byte| single.see(byte));
    assert_eq!(single.undo(), whole, "{output:?}, byte by byte");
    for at in 0..output.len() {
        let mut cut = Modes::default();
        cut.see(&output.as_bytes()[..at]);
        cut.see(&output.as_bytes()[at..]);
        assert_eq!(cut.undo(), whole, "{output:?}, cut at {at}");
    }
    let mut after = seen(output);
    after.see(&whole);
    assert_eq!(after.undo(), b"", "{output:?}, undone");
    String::from_utf8(whole).unwrap()
}

fn assert_undone(cases: &[(&str, &str)]) {
    for (output, expected) in cases {
        assert_eq!(undo(output), *expected, "{output:?}");
        // Between text, and with a second terminal's worth of other output.
        assert_eq!(undo(&format!("text\r\n{output}é\x1b[2J\x1b[Hmore\x07")), *expected, "{output:?}");
    }
}

#[test]
fn nothing_is_written_for_a_command_that_left_nothing_on() {
    for clean in [
        "",
        "plain text\r\nand é, \u{1f600}\t\x07\x08\n",
        "\x1b[1;31mred\x1b[0m \x1b[38;5;196mred\x1b[39m \x1b[1mbold\x1b[22m \x1b[4:3m\x1b[4:0m\x1b[m",
        "\x1b[?1049h\x1b[?25l\x1b[?1000;1006h\x1b[H\x1b[2J\x1b[?1000;1006l\x1b[?25h\x1b[?1049l",
        "\x1b[?1h\x1b=\x1b[?2004h\x1b[?2004l\x1b[?1l\x1b>",
        "\x1b[>1u\x1b[<u\x1b[>4;2m\x1b[>4;m\x1b[5;10r\x1b[r\x0e\x0f\x1b(0\x1b(B",
        "\x1b[6n\x1b[c\x1b[?u\x1b[?25$p\x1b[18t\x1b[10;10H\x1b[3J\x1b[K\x1b[1L\x1b]0;title\x07\x1b]8;;http://x\x1b\\",
        "\x1bPq#0~\x1b\\\x1b_Ga=T;AAAA\x1b\\\x1b^x\x1b\\\x1bXx\x1b\\",
        "\x1b[?12h\x1b[?1007h\x1b[?1034h\x1b[?7h\x1b[?25h\x1b[12h\x1b[?4h\x1b[34h\x1b)0\x1b[1;1H\x1b[s\x1b[u\x1b7\x1b8",
    ] {
        assert_eq!(undo(clean), "", "{clean:?}");
    }
}

#[test]
fn every_mode_is_undone_by_its_own_sequence() {
    for number in [9, 1000, 1001, 1002, 1003, 1005, 1006, 1015, 1016, 1004, 2031, 2048, 2004, 9001, 1, 45, 69, 5, 2026]
    {
        assert_undone(&[(&format!("\x1b[?{number}h"), &format!("\x1b[?{number}l"))]);
        assert_undone(&[(&format!("\x1b[?{number}h\x1b[?{number}l"), ""), (&format!("\x1b[?{number}l"), "")]);
    }
    for number in [47, 1047, 1049] {
        assert_undone(&[(&format!("\x1b[?{number}h"), &format!("\x1b[?{number}l"))]);
    }
    assert_undone(&[
        ("\x1b[?25l", "\x1b[?25h"),
        ("\x1b[?7l", "\x1b[?7h"),
        ("\x1b[4h", "\x1b[4l"),
        ("\x1b[2h", "\x1b[2l"),
        ("\x1b[20h", "\x1b[20l"),
        ("\x1b[12l", "\x1b[12h"),
        ("\x1b=", "\x1b>"),
        ("\x1b[?66h", "\x1b>"),
        ("\x1b[?66h\x1b>", ""),
        ("\x1b[?6h", "\x1b[?6l\x1b[999H"),
        ("\x1b[5;20r\x1b[?6h", "\x1b[?6l\x1b[r\x1b[999H"),
        ("\x1b[5;20r", "\x1b7\x1b[r\x1b8"),
        ("\x1b[2r", "\x1b7\x1b[r\x1b8"),
        ("\x1b[;20r", "\x1b7\x1b[r\x1b8"),
        ("\x1b[5;20r\x1b[1r", ""),
        ("\x1b[5;20r\x1b[;r", ""),
        ("\x1b(0", "\x1b(B"),
        ("\x1b(A", "\x1b(B"),
        ("\x1b(%6", "\x1b(B"),
        ("\x0e", "\x0f"),
        ("\x1bn", "\x0f"),
        ("\x1b)0\x0e", "\x0f"),
        ("\x1b[6 q", "\x1b[0 q"),
        ("\x1b[6 q\x1b[ q", ""),
        ("\x1b[>4;2m", "\x1b[>4m"),
        ("\x1b[>4;2m\x1b[>4;0m", ""),
        ("\x1b[>4;2m\x1b[>4m", ""),
        ("\x1b[>4;2m\x1b[>m", ""),
        ("\x1b[>4;2m\x1b[>4n", ""),
        ("\x1b[>1;2m", ""),
    ]);
}

#[test]
fn several_modes_of_one_sequence_are_told_apart() {
    assert_undone(&[
        ("\x1b[?1000;1006;25h", "\x1b[?1000l\x1b[?1006l"),
        ("\x1b[?1000;1006h\x1b[?1000l", "\x1b[?1006l"),
        ("\x1b[?1049;25l\x1b[4;20h", "\x1b[20l\x1b[4l\x1b[?25h"),
        ("\x1b[4h\x1b[?4l", "\x1b[4l"),
        ("\x1b[1000h\x1b[25l\x1b[>1000h\x1b[?1000$h\x1b[?1000 h", ""),
        ("\x1b[?00001000h", "\x1b[?1000l"),
        ("\x1b[?66536;1001000h", ""),
        ("\x1b[?1:1000h", "\x1b[?1l"),
    ]);
}

#[test]
fn attributes_are_left_on_exactly_if_one_is() {
    for on in [
        "1",
        "2",
        "3",
        "4",
        "4:3",
        "5",
        "6",
        "7",
        "8",
        "9",
        "11",
        "20",
        "21",
        "26",
        "31",
        "97",
        "41",
        "107",
        "51",
        "52",
        "53",
        "58:5:1",
        "60",
        "73",
        "38;5;0",
        "38;2;0;0;0",
        "48:2::1:2:3",
        "0;1",
        ";1",
        "1;23",
        "38;5;0;49",
        "38;2;39;39;39",
        "48;5;49",
        "38:5:39",
    ] {
        assert_undone(&[(&format!("\x1b[{on}m"), "\x1b[0m"), (&format!("\x1b[{on}m\x1b[m"), "")]);
        assert_undone(&[(&format!("\x1b[{on};0m"), ""), (&format!("\x1b[{on}m\x1b[22;23;24;25;27;28;29m\x1b[0m"), "")]);
    }
    for (on, off) in [
        ("1;2", "22"),
        ("3", "23"),
        ("20", "23"),
        ("4", "24"),
        ("4:3", "4:0"),
        ("21", "24"),
        ("5;6", "25"),
        ("7", "27"),
        ("8", "28"),
        ("9", "29"),
        ("13", "10"),
        ("26", "50"),
        ("31", "39"),
        ("38;5;1", "39"),
        ("44", "49"),
        ("48:2:1:2:3", "49"),
        ("52", "54"),
        ("53", "55"),
        ("58;5;3", "59"),
        ("61", "65"),
        ("74", "75"),
        ("38;5;1;1", "22;39"),
    ] {
        assert_undone(&[(&format!("\x1b[{on}m\x1b[{off}m"), ""), (&format!("\x1b[{on}m\x1b[99m"), "\x1b[0m")]);
    }
    assert_undone(&[("\x1b[>1m\x1b[?1m\x1b[1 m\x1b[0;5;;m", "")]);
    // More than has room: it may be any, and only 0 ends it.
    assert_undone(&[(&format!("\x1b[{}1m", "0;".repeat(60)), "\x1b[0m")]);
    assert_undone(&[(&format!("\x1b[{}1m\x1b[22m", "0;".repeat(60)), "\x1b[0m")]);
}

#[test]
fn kitty_flags_are_undone_on_the_screen_where_they_were_set() {
    assert_undone(&[
        ("\x1b[>1u", "\x1b[<1u"),
        ("\x1b[>u\x1b[>31u", "\x1b[<2u"),
        ("\x1b[>1u\x1b[>1u\x1b[>1u\x1b[<2u", "\x1b[<1u"),
        ("\x1b[>1u\x1b[<u\x1b[<u", ""),
        ("\x1b[<5u\x1b[>1u", "\x1b[<1u"),
        ("\x1b[=5u", "\x1b[=5;3u"),
        ("\x1b[=5;1u\x1b[=2;2u\x1b[=4;3u", "\x1b[=3;3u"),
        ("\x1b[=5u\x1b[=0u", ""),
        ("\x1b[=5u\x1b[<u", ""),
        ("\x1b[>1u\x1b[=31u", "\x1b[<1u"),
        ("\x1b[=5u\x1b[>1u\x1b[<u", "\x1b[=5;3u"),
        ("\x1b[=1u\x1b[>5u", "\x1b[<1u\x1b[=1;3u"),
        ("\x1b[>1u\x1b[?1049h\x1b[>1u\x1b[>3u", "\x1b[<2u\x1b[?1049l\x1b[<1u"),
        ("\x1b[?1049h\x1b[>1u\x1b[<u\x1b[<u", "\x1b[?1049l"),
        ("\x1b[>1u\x1b[?1049h\x1b[<u\x1b[?1049l", "\x1b[<1u"),
        ("\x1b[?1047h\x1b[=1u", "\x1b[=1;3u\x1b[?1047l"),
        // Left behind on the screen that is not shown.
        ("\x1b[?1049h\x1b[>1u\x1b[?1049l", "\x1b[?1049h\x1b[<1u\x1b[?1049l"),
        ("\x1b[u\x1b[?u\x1b[1u", ""),
    ]);
}

#[test]
fn leaving_the_alternate_screen_brings_the_cursor_back_as_it_was() {
    assert_undone(&[
        ("\x1b[31m\x1b[?1049h\x1b[0m", "\x1b[?1049l\x1b[0m"),
        ("\x1b[31m\x1b[?1049h\x1b[0m\x1b[?1049l", "\x1b[0m"),
        ("\x1b[?1049h\x1b[31m\x1b[?1049l", ""),
        // Not every terminal brings them back, and it does no harm.
        ("\x1b[?1049h\x1b[31m\x1b(0\x0e", "\x1b[?1049l\x0f\x1b(B\x1b[0m"),
        ("\x1b[?47h\x1b[31m\x1b[?47l", "\x1b[0m"),
        ("\x1b[?1049h\x1b[?6h", "\x1b[?1049l"),
        ("\x1b[?1049h\x1b[?47h\x1b[?1047h", "\x1b[?1049l"),
        ("\x1b[?47h\x1b[?1049h", "\x1b[?47l"),
        ("\x1b[?1049h\x1b[?47l", ""),
        ("\x1b[?1049l", ""),
        ("\x1b[31m\x1b[?1049l", "\x1b[0m"),
        ("\x1b[31m\x1b7\x1b[0m\x1b8", "\x1b[0m"),
        ("\x1b7\x1b[31m\x1b(0\x0e\x1b[?6h\x1b8", ""),
        ("\x1b[s\x1b[31m\x1b[u", ""),
        ("\x1b[?1048h\x1b[31m\x1b[?1048l", ""),
        ("\x1b[31m\x1b8", "\x1b[0m"),
        ("\x1b[?69h\x1b[s\x1b[31m\x1b[u", "\x1b[?69l\x1b[0m"),
        // Each screen has its own.
        ("\x1b7\x1b[?47h\x1b[31m\x1b8", "\x1b[?47l\x1b[0m"),
    ]);
}

#[test]
fn modes_that_were_saved_come_back() {
    assert_undone(&[
        ("\x1b[?1000s\x1b[?1000;1002h\x1b[?1000;1002r", "\x1b[?1002l"),
        ("\x1b[?1000h\x1b[?1000s\x1b[?1000l\x1b[?1000r", "\x1b[?1000l"),
        ("\x1b[?1000h\x1b[?1000r", "\x1b[?1000l"),
        ("\x1b[?s\x1b[?1000;2004h\x1b[?25l\x1b[4h\x1b[?r", "\x1b[4l"),
    ]);
}

#[test]
fn resets_clear_what_they_clear() {
    let all = "\x1b[>1u\x1b[?1049h\x1b[>1u\x1b[?1;6;1000;2004;2026h\x1b[?7;25l\x1b[4h\x1b=\x1b[>4;2m\x1b[2;5r\x1b(0\x0e\x1b[1m\x1b[6 q\x1b7";
    assert_eq!(undo(&format!("{all}\x1bc")), "");
    assert_eq!(undo(&format!("{all}\x1bc\x1b[?25l")), "\x1b[?25h");
    assert_eq!(
        undo(&format!("{all}\x1b[!p")),
        "\x1b[?1000l\x1b[?2004l\x1b[<1u\x1b[?1049l\x1b[<1u\x1b[>4m\x1b[?7h\x1b[0 q\x1b[?2026l"
    );
    assert_eq!(undo("\x1b[31m\x1b7\x1b[!p\x1b8"), "");
    assert_undone(&[("\x1b[1m\x1b[p\x1b[?1;2$p\x1b[62\"p", "\x1b[0m"), ("\x1b[1m\x1b(c", "\x1b(B\x1b[0m")]);
}

#[test]
fn the_undo_has_the_order_that_works() {
    let output = "\x1b[?2026h\x1b[?25l\x1b[6 q\x1b[31m\x1b(0\x0e\x1b[2;5r\x1b[?7l\x1b=\x1b[?1h\x1b[>4;2m\x1b[=1u\x1b[?1049h\x1b[>1u\x1b[?1003;1006;1004;2004h\x1b]0;ti";
    let expected = "\x1b\\\x1b[?1003l\x1b[?1006l\x1b[?1004l\x1b[?2004l\x1b[<1u\x1b[?1049l\x1b[=1;3u\x1b[>4m\x1b[?1l\x1b>\x1b[?7h\x1b7\x1b[r\x1b8\x0f\x1b(B\x1b[0m\x1b[0 q\x1b[?25h\x1b[?2026l";
    assert_eq!(undo(output), expected);
}

#[test]
fn strings_are_skipped_and_ended() {
    for start in ["\x1b]", "\x1bP", "\x1b_", "\x1b^", "\x1bX"] {
        assert_eq!(undo(&format!("{start}0;[?25l\x0e\x0f(0 [?1049h é")), "\x1b\\");
        assert_eq!(undo(&format!("{start}0;[?25l\x0e\x1b\\")), "");
        assert_eq!(undo(&format!("{start}x\x18\x1b[?25l")), "\x1b[?25h");
        assert_eq!(undo(&format!("{start}x\x1a\x0e")), "\x0f");
        assert_eq!(undo(&format!("\x1b[?25l{start}")), "\x1b\\\x1b[?25h");
        // Whatever follows the escape byte, the string is over.
        assert_eq!(undo(&format!("{start}x\x1b[?25l")), "\x1b[?25h");
        assert_eq!(undo(&format!("{start}x\x1b")), "\x1b\\");
    }
    assert_eq!(undo("\x1b]0;title\x07\x0e"), "\x0f");
    assert_eq!(undo("\x1bPx\x07\x0e"), "\x1b\\");
}

#[test]
fn a_sequence_that_does_not_end_is_ended() {
    for start in ["\x1b", "\x1b[", "\x1b[?", "\x1b[?25", "\x1b[?25;", "\x1b(", "\x1b[1 ", "\x1b[1?"] {
        assert_eq!(undo(start), "\x1b\\", "{start:?}");
        assert_eq!(undo(&format!("{start}\x1b[?25l")), "\x1b[?25h", "{start:?}");
        assert_eq!(undo(&format!("{start}\x18\x0e")), "\x0f", "{start:?}");
    }
    // A character ends it as well.
    let mut modes = Modes::default();
    modes.see(b"\x1b[?\xc3");
    assert_eq!(modes.undo(), b"");
    // Controls in the middle of a sequence do what they do anywhere.
    assert_eq!(undo("\x1b[?2\x0e5l"), "\x0f\x1b[?25h");
    assert_eq!(undo("\x1b[?2\n5\x7fl"), "\x1b[?25h");
    assert_eq!(undo("\x1b[?1?25l\x1b[2 5l\x1b[??25l"), "");
}

#[test]
fn controls_of_eight_bits_are_text() {
    let mut modes = Modes::default();
    // CSI, OSC and DCS as one byte each, and as the second byte of a character.
    modes.see(b"\x9b?25l\x9d0;x\x90q\xc2\x9b?25l\xc2\x9d");
    assert_eq!(modes.undo(), b"");
    modes.see(b"\x0e");
    assert_eq!(modes.undo(), b"\x0f");
}

#[test]
fn nothing_makes_it_grow() {
    let mut modes = Modes::default();
    modes.see(b"\x1b[?1049h\x1b]0;");
    for _ in 0..1000 {
        modes.see(&[b'x'; 10_000]);
    }
    modes.see(b"\x07\x1b[");
    for _ in 0..1000 {
        modes.see(b"1;99999999999999999999:;::;");
    }
    modes.see(b"m");
    for _ in 0..70_000 {
        modes.see(b"\x1b[>1u\x1b7");
    }
    assert!(std::mem::size_of::<Modes>() < 512 && modes.undo().len() < 64);
}

/// Sequences that matter, and pieces of them.
fn output() -> impl Strategy<Value = Vec<u8>> {
    let known = [
        "\x1b[?1049h",
        "\x1b[?1049l",
        "\x1b[?47h",
        "\x1b[?1047l",
        "\x1b[?1000;1006h",
        "\x1b[?25l",
        "\x1b[?7l",
        "\x1b[?6h",
        "\x1b[4h",
        "\x1b=",
        "\x1b[>1u",
        "\x1b[<u",
        "\x1b[=5;2u",
        "\x1b[=1u",
        "\x1b[>4;2m",
        "\x1b[2;5r",
        "\x1b(0",
        "\x0e",
        "\x0f",
        "\x1b[1;31m",
        "\x1b[0m",
        "\x1b7",
        "\x1b8",
        "\x1b[s",
        "\x1b[u",
        "\x1b[?s",
        "\x1b[?r",
        "\x1b[?69h",
        "\x1b[!p",
        "\x1bc",
        "\x1b]0;t",
        "\x1bP",
        "\x1b\\",
        "\x07",
        "\x1b",
        "\x1b[",
        "text",
    ];
    let piece = prop_oneof![
        6 => proptest::sample::select(known.to_vec()).prop_map(|text| text.as_bytes().to_vec()),
        1 => proptest::collection::vec(0_u8..=255, 0..4),
    ];
    proptest::collection::vec(piece, 0..16).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn the_undo_undoes_all_whatever_the_output_and_its_pieces(bytes in output(), cut in 0_usize..100) {
        let mut whole = Modes::default();
        whole.see(&bytes);
        let (front, back) = bytes.split_at(cut.min(bytes.len()));
        let mut pieces = Modes::default();
        pieces.see(front);
        back.chunks(1).for_each(|byte| pieces.see(byte));
        prop_assert_eq!(pieces.undo(), whole.undo());
        whole.see(&pieces.undo());
        prop_assert_eq!(whole.undo(), b"");
    }
}
