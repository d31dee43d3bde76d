//! The sockets of this network namespace that have a path (/proc/net/unix, unix(7)).

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// How many bytes an address has for a path; no socket's is longer.
const PATH_MAX: usize = 108;

/// Absolute paths, each once: whoever has connected shows the path as well. A socket with a relative name, or an
/// abstract one, has none. That a socket shows a path does not prove that it is there: the process may have another
/// root.
pub(crate) fn parse(table: &[u8]) -> BTreeSet<PathBuf> {
    let mut paths: BTreeSet<Vec<u8>> = BTreeSet::new();
    let mut last: Option<Vec<u8>> = None;
    for line in table.strip_suffix(b"\n").unwrap_or(table).split(|byte| *byte == b'\n') {
        match (socket(line), &mut last) {
            (Some(path), _) => {
                paths.extend(last.take());
                last = path.starts_with(b"/").then(|| path.to_vec());
            }
            // A path is shown as it is, with the line breaks in it.
            (None, Some(path)) if path.len() + 1 + line.len() <= PATH_MAX => {
                // The path may also end here, and something else begin that is no socket: both are kept.
                paths.insert(path.clone());
                path.push(b'\n');
                path.extend_from_slice(line);
            }
            (None, _) => {}
        }
    }
    paths.extend(last);
    paths.into_iter().map(|path| OsString::from_vec(path).into()).collect()
}

/// The path that a line of the table shows, empty if the socket has none: `ADDRESS: COUNT 00000000 FLAGS TYPE STATE
/// INODE PATH`, the first six of a fixed shape. Nothing if the line does not begin so.
fn socket(line: &[u8]) -> Option<&[u8]> {
    let mut fields = line.splitn(2, |byte| *byte == b':');
    let is_hex = |field: &[u8]| !field.is_empty() && field.iter().all(u8::is_ascii_hexdigit);
    let (address, rest) = (fields.next()?, fields.next()?);
    let mut rest = rest.strip_prefix(b" ")?;
    let mut ok = is_hex(address);
    for width in [8, 8, 8, 4, 2] {
        ok = ok && rest.len() > width && is_hex(&rest[..width]) && rest[width] == b' ';
        rest = rest.get(width + 1..)?;
    }
    // The inode's number is padded with blanks on the left.
    let rest = &rest[rest.iter().position(|byte| *byte != b' ')?..];
    let digits = rest.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len());
    let path = rest.get(digits..)?;
    (ok && digits > 0).then(|| path.strip_prefix(b" ").unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(table: &str) -> Vec<String> {
        parse(table.as_bytes()).into_iter().map(|path| path.into_os_string().into_string().unwrap()).collect()
    }

    #[test]
    fn paths_are_taken_whole_and_each_once() {
        let head = "Num       RefCount Protocol Flags    Type St Inode Path\n";
        let line = |path: &str| format!("00000000f9200707: 00000003 00000000 00010000 0001 01   512{path}\n");
        for (lines, wanted) in [
            (vec![""], vec![]),
            (vec![" /run/a"], vec!["/run/a"]),
            (vec![" /run/a b  c"], vec!["/run/a b  c"]),
            (vec![" /run/a", "", " /run/a", " /b"], vec!["/b", "/run/a"]),
            (vec![" @/abstract", " @", " relative/x"], vec![]),
            // What follows a line break belongs to the path, or is of no use; a relative path's does not.
            (vec![" /x\ny", " /z"], vec!["/x", "/x\ny", "/z"]),
            (vec![" rel\n/etc/passwd"], vec![]),
            (vec![" /x\n1: 2 3"], vec!["/x", "/x\n1: 2 3"]),
        ] {
            let table: String = lines.iter().map(|path| line(path)).collect();
            assert_eq!(found(&(head.to_owned() + &table)), wanted, "{table}");
        }
        assert_eq!(found("0: 00000003 00000000 00010000 0001 01 123456789 /a"), ["/a"]);
        for bad in [
            "",
            "x",
            "0: 00000003 /a",
            "0:00000003 00000000 00010000 0001 01 1 /a",
            "g: 00000003 00000000 00010000 0001 01 1 /a",
        ] {
            assert_eq!(found(bad), [""; 0], "{bad}");
        }
    }
}
