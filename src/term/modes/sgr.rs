//! How characters look (`CSI … m`): which attributes are on, not which colours they have.

use super::parser::Csi;

const FOREGROUND: u32 = 1 << 16;
const BACKGROUND: u32 = 1 << 17;
const UNDERLINE_COLOUR: u32 = 1 << 18;
/// Some attribute behind the last parameter that has room.
const UNKNOWN: u32 = 1 << 19;
const UNDERLINE: u32 = 1 << 4;

/// The attributes that are on, as bits, after the sequence.
pub(super) fn apply(before: u32, csi: &Csi) -> u32 {
    let (mut on, mut at) = (before, 0);
    if csi.len() == 0 {
        return 0;
    }
    while at < csi.len() {
        let number = csi.get(at).unwrap_or(0);
        let has_subs = csi.is_sub(at + 1);
        let colour = match number {
            38 => FOREGROUND,
            48 => BACKGROUND,
            58 => UNDERLINE_COLOUR,
            _ => 0,
        };
        if colour != 0 {
            on |= colour;
            // Of the old form the colour's own numbers follow, which are no attributes.
            if !has_subs {
                at += match csi.get(at + 1) {
                    Some(5) => 2,
                    Some(2) => 4,
                    _ => 0,
                };
            }
        } else if number == 4 && has_subs && csi.get(at + 1) == Some(0) {
            on &= !UNDERLINE;
        } else {
            on = one(on, number);
        }
        at += 1;
        while csi.is_sub(at) {
            at += 1;
        }
    }
    if csi.is_cut { on | UNKNOWN } else { on }
}

fn one(on: u32, number: u16) -> u32 {
    let (set, clear) = match number {
        0 => (0, u32::MAX),
        // Bold, faint, italic, underlined, blinking (two), inverse, hidden, struck out.
        1..=9 => (1 << number, 0),
        10 => (0, 1 << 10),
        11..=19 => (1 << 10, 0),
        // Fraktur, which goes with italic; doubly underlined.
        20 => (1 << 3, 0),
        21 => (UNDERLINE, 0),
        22 => (0, (1 << 1) | (1 << 2)),
        23 => (0, 1 << 3),
        24 => (0, UNDERLINE),
        25 => (0, (1 << 5) | (1 << 6)),
        26 => (1 << 11, 0),
        27..=29 => (0, 1 << (number - 20)),
        30..=37 | 90..=97 => (FOREGROUND, 0),
        39 => (0, FOREGROUND),
        40..=47 | 100..=107 => (BACKGROUND, 0),
        49 => (0, BACKGROUND),
        50 => (0, 1 << 11),
        51 | 52 => (1 << 12, 0),
        53 => (1 << 13, 0),
        54 => (0, 1 << 12),
        55 => (0, 1 << 13),
        59 => (0, UNDERLINE_COLOUR),
        60..=64 => (1 << 14, 0),
        65 => (0, 1 << 14),
        73 | 74 => (1 << 15, 0),
        75 => (0, 1 << 15),
        _ => (0, 0),
    };
    on & !clear | set
}
