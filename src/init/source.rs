//! Where something can happen, as the number that epoll keeps of it. No number comes twice, so that what was told of
//! one that is gone meanwhile concerns nobody.

/// Whom an event is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    /// Signals to this process.
    Signals,
    /// A place to connect to.
    Listener(u64),
    /// A client.
    Connection(u64),
    /// The pipe in which a command's start is reported.
    Reports(u64),
    /// A command's standard output, or both of its streams.
    Stdout(u64),
    /// A command's standard error.
    Stderr(u64),
    /// The owner of the run.
    Owner,
    /// A client that the owner has introduced.
    Session(u64),
}

/// The bits of the number that tell the kind.
const KIND_BITS: u32 = 3;

impl Source {
    pub(crate) fn token(self) -> u64 {
        let (kind, id) = match self {
            Source::Signals => (0, 0),
            Source::Listener(id) => (1, id),
            Source::Connection(id) => (2, id),
            Source::Reports(id) => (3, id),
            Source::Stdout(id) => (4, id),
            Source::Stderr(id) => (5, id),
            Source::Owner => (6, 0),
            Source::Session(id) => (7, id),
        };
        (id << KIND_BITS) | kind
    }

    pub(crate) fn from_token(token: u64) -> Source {
        let id = token >> KIND_BITS;
        match token & ((1 << KIND_BITS) - 1) {
            1 => Source::Listener(id),
            2 => Source::Connection(id),
            3 => Source::Reports(id),
            4 => Source::Stdout(id),
            5 => Source::Stderr(id),
            6 => Source::Owner,
            7 => Source::Session(id),
            _ => Source::Signals,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_known_by_its_number() {
        let kinds =
            [Source::Listener, Source::Connection, Source::Reports, Source::Stdout, Source::Stderr, Source::Session];
        for id in [0, 1, u64::MAX >> KIND_BITS] {
            for source in kinds.map(|kind| kind(id)) {
                assert_eq!(Source::from_token(source.token()), source);
            }
        }
        for source in [Source::Signals, Source::Owner] {
            assert_eq!(Source::from_token(source.token()), source);
        }
    }
}
