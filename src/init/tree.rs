//! Who descends from whom, as /proc shows it, and signals that hit nobody else.

use std::collections::BTreeMap;
use std::io;

use crate::base::error::Ignore;
use crate::sys::process::{Pid, PidHandle};
use crate::sys::signal::Signal;
use crate::sys::stat::Stat;

/// All processes at one moment.
pub(crate) struct Tree {
    /// By number.
    all: BTreeMap<i32, Stat>,
    children: BTreeMap<i32, Vec<i32>>,
}

impl Tree {
    /// Looks. An error means that nothing is known, not that nobody is there.
    pub(crate) fn look() -> io::Result<Tree> {
        Stat::all().map(Tree::new)
    }

    fn new(all: Vec<Stat>) -> Tree {
        let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
        for process in &all {
            children.entry(process.parent).or_default().push(process.pid);
        }
        Tree { all: all.into_iter().map(|process| (process.pid, process)).collect(), children }
    }

    /// Those that are more than zombies and descend from any of `roots`, which are left out.
    pub(crate) fn descendants(&self, roots: &[i32]) -> Vec<Stat> {
        let mut found = BTreeMap::new();
        let mut parents = roots.to_vec();
        while let Some(parent) = parents.pop() {
            for pid in self.children.get(&parent).into_iter().flatten() {
                let is_new = !roots.contains(pid) && found.insert(*pid, self.all[pid]).is_none();
                parents.extend(is_new.then_some(*pid));
            }
        }
        found.into_values().filter(|process| process.live).collect()
    }

    /// Those that are more than zombies and for which it holds.
    pub(crate) fn those(&self, wanted: impl Fn(&Stat) -> bool) -> Vec<Stat> {
        self.all.values().filter(|process| process.live && wanted(process)).copied().collect()
    }
}

/// Signals a process if it still is who it was when it was seen, and still belongs: the handle first, then the
/// look, so that no stranger is hit who has its number by now.
pub(crate) fn signal(process: &Stat, signal: Signal, belongs: impl Fn(&Stat) -> bool) {
    let Some(pid) = Pid::new(process.pid) else { return };
    let Ok(handle) = PidHandle::open(pid) else { return };
    if Stat::of(pid).is_some_and(|now| now.start == process.start && belongs(&now)) {
        // It may have ended, and be a zombie.
        handle.signal(signal).ignore();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::stat::Halt;

    #[test]
    fn descendants_are_found_through_every_generation_and_nobody_else() {
        let process =
            |pid, parent, live| Stat { pid, live, halt: Halt::No, parent, group: pid, session: pid, start: 1 };
        let all =
            [(1, 0), (2, 1), (3, 2), (4, 3), (5, 1), (6, 5), (8, 7)].map(|(pid, parent)| process(pid, parent, true));
        let tree = Tree::new([&all[..], &[process(7, 3, false)]].concat());
        let found = |roots: &[i32]| tree.descendants(roots).iter().map(|process| process.pid).collect::<Vec<_>>();
        // A zombie is not among them, but what would descend from it is.
        assert_eq!(found(&[2]), [3, 4, 8]);
        assert_eq!(found(&[2, 5]), [3, 4, 6, 8]);
        assert_eq!(found(&[9]), [0; 0]);
        assert_eq!(tree.those(|process| process.parent == 1).len(), 2);
    }
}
