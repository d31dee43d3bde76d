//! One call of the tool: what was asked, what has been said so far, and how it ends.

use std::fs::File;
use std::io::Write;
use std::sync::Mutex;

use crate::args::Parsed;
use crate::store::Store;
use crate::texts::{self, Error};

/// A call that was understood.
pub struct Call {
    pub store: Store,
    /// The verb by its full name.
    pub verb: &'static str,
    pub parsed: Parsed,
    /// stdout so far: it is written at the end.
    pub out: Vec<u8>,
    /// stderr so far.
    pub err: String,
    /// The exit code, if it is not one of the tool's own.
    pub code: i32,
    /// A place in the service, while the service works for this call.
    pub slot: Option<File>,
    /// The fault that strikes this call, if one does.
    pub fault: Option<serde_json::Value>,
}

/// Told how the process ends, whoever ends it.
type Farewell = Box<dyn FnOnce(i32) + Send>;
static FAREWELL: Mutex<Option<Farewell>> = Mutex::new(None);

/// What is to be done last.
pub fn at_the_end(farewell: impl FnOnce(i32) + Send + 'static) {
    *FAREWELL.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(Box::new(farewell));
}

/// Ends this process, and notes that it did.
pub fn leave(code: i32) -> ! {
    // Held to the end: a second thread that leaves would not wait for the first one's last words.
    let mut farewell = FAREWELL.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(farewell) = farewell.take() {
        farewell(code);
    }
    std::process::exit(code)
}

impl Call {
    pub fn line(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
        self.out.push(b'\n');
    }

    /// Lines of progress, where this release shows them and nobody has asked it not to.
    pub fn progress(&self, lines: &[&str]) {
        use std::io::IsTerminal;
        let wanted = self.parsed.value("progress").unwrap_or("auto");
        let plain = wanted == "plain" || (wanted == "auto" && !std::io::stderr().is_terminal());
        if self.store.version.has_plain_progress() && plain {
            for line in lines {
                crate::warn(line);
            }
        }
    }

    /// Whether the fault of this call is of a kind.
    pub fn has_fault(&self, kind: &str) -> bool {
        self.fault.as_ref().is_some_and(|fault| fault["do"] == kind)
    }

    /// Says everything, and ends.
    pub fn end(mut self, result: Result<(), Error>) -> ! {
        if let Err(error) = result {
            let (text, code) = texts::say(error, self.store.version);
            self.err.push_str(&text);
            self.code = code;
        }
        // Nobody may listen any more.
        std::io::stderr().write_all(self.err.as_bytes()).unwrap_or_default();
        let mut stdout = std::io::stdout();
        stdout.write_all(&self.out).and_then(|()| stdout.flush()).unwrap_or_default();
        self.slot = None;
        leave(self.code)
    }
}
