//! The built-in sandbox, piece by piece.

use super::{Check, Verdict};
use crate::base::time::Deadline;
use crate::runtime::native::probe;
use crate::sys::process::effective_ids;

/// Tries each piece by making it.
pub(crate) fn checks(deadline: Deadline) -> Vec<Check> {
    let pieces = probe::pieces(effective_ids(), deadline);
    let check = |piece: probe::Piece| {
        let name = format!("native {}", piece.name);
        match piece.result {
            Ok(words) => Check::new(name, Verdict::Well, words),
            Err((why, hint)) => {
                let verdict = if piece.needed { Verdict::Problem } else { Verdict::Note };
                let check = Check::new(name, verdict, why);
                if hint.is_empty() { check } else { check.hint(hint) }
            }
        }
    };
    pieces.into_iter().map(check).collect()
}
