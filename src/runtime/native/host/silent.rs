//! Mounts that do not answer.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crossbeam_channel::bounded;

use super::mounts::Mounts;
use crate::base::error::Ignore;
use crate::base::threads;
use crate::base::time::Deadline;

/// How long a mount may take to answer before it is named.
const ANSWER: Duration = Duration::from_millis(500);

/// The mounts that give no answer within a moment: a server is gone. Whoever was asked goes on to wait, in a thread that
/// ends with the process.
pub(crate) fn silent_mounts() -> Vec<PathBuf> {
    let table = fs::read("/proc/self/mountinfo").unwrap_or_default();
    let mut points: Vec<PathBuf> = Mounts::parse(&table).remote().map(Path::to_owned).collect();
    points.sort();
    points.dedup();
    let (tell, told) = bounded(points.len());
    for point in points.clone() {
        let tell = tell.clone();
        let ask = move || {
            // An error is an answer.
            fs::symlink_metadata(&point).map(drop).ignore();
            tell.send(point).ignore();
        };
        threads::start("ask", 64, ask).ignore();
    }
    drop(tell);
    let late = Deadline::after(ANSWER);
    while let Ok(answered) = told.recv_timeout(late.remaining().unwrap_or_default()) {
        points.retain(|point| *point != answered);
    }
    points
}
