//! Who holds a lock of flock(2), as /proc shows it: the kernel's own word, whatever the lock's file says.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;

use crate::sys::file::FileId;

/// Whether a process holds the lock on a file alone (proc(5), fdinfo, Linux 4.1). A process that may not be looked
/// into holds nothing that can be proved.
pub fn holds(pid: i32, file: &File) -> bool {
    let Ok(wanted) = file.metadata().map(|metadata| FileId::from(&metadata)) else { return false };
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    descriptors.into_iter().any(|entry| {
        let number = entry.file_name();
        let same = fs::metadata(entry.path()).is_ok_and(|there| FileId::from(&there) == wanted);
        same && fs::read_to_string(format!("/proc/{pid}/fdinfo/{}", number.to_string_lossy()))
            .is_ok_and(|info| info.lines().any(is_exclusive))
    })
}

/// A line such as `lock: 1: FLOCK  ADVISORY  WRITE 4711 08:01:22 0 EOF`.
fn is_exclusive(line: &str) -> bool {
    line.strip_prefix("lock:").is_some_and(|lock| {
        let mut words = lock.split_ascii_whitespace().skip(1);
        (words.next(), words.nth(1)) == (Some("FLOCK"), Some("WRITE"))
    })
}

/// The processes of a user that hold the lock on a file alone: one, or several that share the open file.
pub(crate) fn holders(file: &File, uid: u32) -> Vec<i32> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let of_user = processes.filter(|entry| entry.metadata().is_ok_and(|metadata| metadata.uid() == uid));
    let numbers = of_user.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.filter(|pid| holds(*pid, file)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::lock;
    use crate::sys::process::{Pid, effective_ids};

    #[test]
    fn the_kernel_says_who_holds_a_lock() {
        let path = std::env::temp_dir().join(format!("fosse-flock-{}", Pid::own().number()));
        let (first, second) = (File::create(&path).unwrap(), File::open(&path).unwrap());
        fs::remove_file(&path).unwrap();
        let own = Pid::own().number();
        assert!(!holds(own, &second));
        assert!(lock::try_shared(&second).unwrap());
        assert!(!holds(own, &second), "readers hold nothing alone");
        drop(second);
        assert!(lock::try_exclusive(&first).unwrap());
        assert!(holds(own, &first));
        assert_eq!(holders(&first, effective_ids().0), [own]);
    }
}
