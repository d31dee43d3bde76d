//! `logs`: one file, stdout and stderr together, without times.

use std::fs;
use std::io::{Read, Seek, Write};
use std::time::Duration;

use crate::call::Call;
use crate::texts::{Error, fail, internal, no_container};

/// How often a log that is followed is looked at.
const LOOK: Duration = Duration::from_millis(5);

pub fn logs(call: &mut Call) -> Result<(), Error> {
    let id = call.parsed.arguments[0].clone();
    let wrong = |cause| Error::from(internal(format!("failed to get logs for container {id}")).caused_by(cause));
    call.store.container(&id).ok_or_else(|| wrong(no_container(&id)))?;
    let name = if call.parsed.has("boot") { "boot.log" } else { "stdio.log" };
    let path = call.store.dir(&id).join(name);
    let open = || fs::File::open(&path).map_err(|_| wrong(internal(format!("failed to open container logs: {name}"))));
    if call.has_fault("log_missing") {
        return Err(wrong(internal(format!("failed to open container logs: {name}"))));
    }
    let mut file = open()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(|error| wrong(internal(error.to_string())))?;
    if call.has_fault("log_bad_utf8") {
        bytes.extend_from_slice(b"\xff\xfe");
    }
    let number = call.parsed.value("n").and_then(|number| number.parse::<usize>().ok());
    if call.parsed.has("follow") {
        follow(call, &path, file, &bytes, number);
    }
    let text = String::from_utf8(bytes)
        .map_err(|_| Error::from(fail("internalError", "failed to convert container logs to utf8")))?;
    let shown = match number {
        // Blank lines do not count, and are not shown.
        Some(number) => last_lines(&text, number).join("\n"),
        None => text.trim_matches(['\n', '\r']).to_owned(),
    };
    if !shown.is_empty() {
        call.line(&shown);
    }
    Ok(())
}

fn last_lines(text: &str, number: usize) -> Vec<&str> {
    let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(number)..].to_vec()
}

/// Never ends: not with the container, nor when it is deleted.
fn follow(call: &mut Call, path: &std::path::Path, mut file: fs::File, bytes: &[u8], number: Option<usize>) -> ! {
    // It is in nobody's way.
    call.slot = None;
    let mut stdout = std::io::stdout();
    let mut show = |bytes: &[u8]| {
        // A chunk that is cut inside of a character is lost, and so are blank lines.
        let Ok(text) = std::str::from_utf8(bytes) else { return };
        for line in text.lines().filter(|line| !line.is_empty()) {
            if writeln!(stdout, "{line}").and_then(|()| stdout.flush()).is_err() {
                crate::call::leave(1);
            }
        }
    };
    match (number, std::str::from_utf8(bytes)) {
        (Some(number), Ok(text)) => show(last_lines(text, number).join("\n").as_bytes()),
        _ => show(bytes),
    }
    let mut buffer = vec![0; 64 << 10];
    loop {
        match file.read(&mut buffer) {
            Ok(0) | Err(_) => {
                let end = file.stream_position().unwrap_or_default();
                // Truncated by another start.
                if fs::metadata(path).is_ok_and(|found| found.len() < end) {
                    file.rewind().unwrap_or_default();
                }
                std::thread::sleep(LOOK);
            }
            Ok(count) => show(&buffer[..count]),
        }
    }
}
