//! Names of signals, as kill(1) and engines' tools take them.

use super::Signal;

/// Without `SIG`. Of two names of one number, the one that a number is given comes first.
const NAMES: &[(libc::c_int, &str)] = &[
    (libc::SIGHUP, "HUP"),
    (libc::SIGINT, "INT"),
    (libc::SIGQUIT, "QUIT"),
    (libc::SIGILL, "ILL"),
    (libc::SIGTRAP, "TRAP"),
    (libc::SIGABRT, "ABRT"),
    (libc::SIGABRT, "IOT"),
    (libc::SIGBUS, "BUS"),
    (libc::SIGFPE, "FPE"),
    (libc::SIGKILL, "KILL"),
    (libc::SIGUSR1, "USR1"),
    (libc::SIGSEGV, "SEGV"),
    (libc::SIGUSR2, "USR2"),
    (libc::SIGPIPE, "PIPE"),
    (libc::SIGALRM, "ALRM"),
    (libc::SIGTERM, "TERM"),
    #[cfg(target_os = "linux")]
    (libc::SIGSTKFLT, "STKFLT"),
    (libc::SIGCHLD, "CHLD"),
    (libc::SIGCONT, "CONT"),
    (libc::SIGSTOP, "STOP"),
    (libc::SIGTSTP, "TSTP"),
    (libc::SIGTTIN, "TTIN"),
    (libc::SIGTTOU, "TTOU"),
    (libc::SIGURG, "URG"),
    (libc::SIGXCPU, "XCPU"),
    (libc::SIGXFSZ, "XFSZ"),
    (libc::SIGVTALRM, "VTALRM"),
    (libc::SIGPROF, "PROF"),
    (libc::SIGWINCH, "WINCH"),
    (libc::SIGIO, "IO"),
    (libc::SIGIO, "POLL"),
    #[cfg(target_os = "linux")]
    (libc::SIGPWR, "PWR"),
    (libc::SIGSYS, "SYS"),
];

/// The real-time signals, as every C library numbers them for programs (signal(7)).
const RTMIN: libc::c_int = 34;
const RTMAX: libc::c_int = 64;

impl Signal {
    /// What a signal is called, for whoever got it wrong.
    pub(crate) const FORM: &'static str = "a signal such as TERM, QUIT or RTMIN+3, or its number";

    /// The name without `SIG`, as engines' tools take it; the number of one that has none.
    pub(crate) fn name(self) -> String {
        let known = NAMES.iter().find(|(number, _)| *number == self.number());
        known.map_or_else(|| self.number().to_string(), |(_, name)| (*name).to_owned())
    }

    /// From a name, with or without `SIG`, or a number. Nothing of what C libraries keep for themselves.
    pub(crate) fn parse(text: &str) -> Option<Signal> {
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        let digits = |text: &str| if text.bytes().all(|b| b.is_ascii_digit()) { text.parse().ok() } else { None };
        let known = |number: &libc::c_int| (1..32).contains(number) || (RTMIN..=RTMAX).contains(number);
        if let Some(number) = digits(&upper) {
            return Some(number).filter(known).map(Signal);
        }
        if let Some((number, _)) = NAMES.iter().find(|(_, known)| *known == name) {
            return Some(Signal(*number));
        }
        let (base, sign) = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
            (Some(""), _) => return Some(Signal(RTMIN)),
            (_, Some("")) => return Some(Signal(RTMAX)),
            (Some(rest), _) => (RTMIN, rest.strip_prefix('+').map(|offset| (1, offset))),
            (_, Some(rest)) => (RTMAX, rest.strip_prefix('-').map(|offset| (-1, offset))),
            (None, None) => return None,
        };
        let (sign, offset) = sign?;
        let offset: libc::c_int = digits(offset)?;
        base.checked_add(offset.checked_mul(sign)?).filter(|number| (RTMIN..=RTMAX).contains(number)).map(Signal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_read_by_its_name_or_number() {
        for (text, number) in [
            ("TERM", 15),
            ("SIGTERM", 15),
            ("sigquit", 3),
            ("int", 2),
            ("15", 15),
            ("RTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("rtmax-1", 63),
            ("64", 64),
            ("POLL", libc::SIGIO),
        ] {
            assert_eq!(Signal::parse(text).map(Signal::number), Some(number), "{text}");
        }
        for wrong in ["", "0", "32", "33", "65", "-1", "+9", "SIG", "NONE", "TERMS", "RTMIN+31", "RTMAX-31", "RTMIN-1"]
        {
            assert_eq!(Signal::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_name_is_read_back() {
        for number in (1..32).chain(RTMIN..=RTMAX) {
            assert_eq!(Signal::parse(&Signal(number).name()), Some(Signal(number)), "{number}");
        }
    }
}
