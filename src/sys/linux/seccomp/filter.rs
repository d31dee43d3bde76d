//! The filter's rules, and the program in classic BPF that they make (seccomp(2), linux/filter.h).
//!
//! For a call that is allowed whatever its arguments the program is not even run: since Linux 5.11 the kernel finds
//! out once, when it is installed, for which numbers the answer needs no argument. It can do so as long as the
//! program up to there only loads the architecture or the number, compares them with constants, and returns.

use libc::{EAFNOSUPPORT, ENOSYS, EPERM, c_int, c_long, sock_filter};

use super::Policy;

// ---- the rules --------------------------------------------------------------------------------

/// An answer: the call is made.
const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;

/// An answer: the call is not made, and returns this error.
const fn fail(errno: c_int) -> u32 {
    libc::SECCOMP_RET_ERRNO | errno as u32
}

/// What becomes of a call. Arguments are 64 bits wide in a filter, and a caller may leave anything in the upper half.
/// Only the lower one is looked at: a domain is an `int`, a request an `unsigned int`, clone(2) drops the upper half of
/// its flags, and unshare(2) knows no flag there. So an upper half never makes a denied call an allowed one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// This, whatever the arguments.
    Always(u32),
    /// `hit` if the argument has one of the bits; it is allowed otherwise.
    Bits { argument: u32, bits: u32, hit: u32 },
    /// `hit` if the argument is one of the values, otherwise `miss`.
    Values { argument: u32, values: &'static [u32], hit: u32, miss: u32 },
}

/// AUDIT_ARCH_X86_64 (linux/audit.h).
#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xC000_003E;
/// AUDIT_ARCH_AARCH64 (linux/audit.h).
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xC000_00B7;

/// The bit of the calls of x32, which are otherwise of the same architecture (seccomp(2), Notes).
#[cfg(target_arch = "x86_64")]
const FOREIGN_BIT: Option<u32> = Some(0x4000_0000);
#[cfg(target_arch = "aarch64")]
const FOREIGN_BIT: Option<u32> = None;

/// Linux 6.15; the same number on every architecture but alpha.
const SYS_OPEN_TREE_ATTR: c_long = 467;
/// Linux 3.17, and 5.0 on aarch64. libc does not have it for every C library.
const SYS_KEXEC_FILE_LOAD: c_long = if cfg!(target_arch = "x86_64") { 320 } else { 294 };

/// Denied with EPERM, whatever their arguments and whatever the policy.
const DENIED: &[&[c_long]] = &[
    // Keys are not divided by namespaces, and the session keyring comes through fork and exec: the command would have
    // the keys of whoever started it (keyrings(7), session-keyring(7)).
    &[libc::SYS_keyctl, libc::SYS_add_key, libc::SYS_request_key],
    // The kernel's own code (init_module(2), kexec_load(2)). They need capabilities outside of any user namespace; so
    // does most of what follows. It is denied for the day when one of them forgets to ask.
    &[libc::SYS_init_module, libc::SYS_finit_module, libc::SYS_delete_module],
    &[libc::SYS_kexec_load, SYS_KEXEC_FILE_LOAD],
    // Large, made for privileged programs, and with a record of holes: bpf(2) (Linux 3.18, open to everybody where
    // kernel.unprivileged_bpf_disabled is 0) and perf_event_open(2) (2.6.31), which also watch other processes.
    &[libc::SYS_bpf, libc::SYS_perf_event_open],
    // Holds the kernel still in the middle of a copy, which is what exploits of races are made with (userfaultfd(2),
    // Linux 4.3; faults of the kernel for everybody before 5.11).
    &[libc::SYS_userfaultfd],
    // Does by itself what calls do, sockets among it (IORING_OP_SOCKET, Linux 5.19), where no filter looks; and has
    // had many holes (io_uring_setup(2), Linux 5.1).
    &[libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register],
    // Opens a file by its number in the file system, past every mount that covers it (open_by_handle_at(2), Linux
    // 2.6.39; newer kernels do not ask everybody for CAP_DAC_READ_SEARCH).
    &[libc::SYS_open_by_handle_at],
    // The machine's, which no namespace divides: swap, power, accounting, quotas, clocks (reboot(2), acct(2),
    // quotactl(2), quotactl_fd of Linux 5.14, clock_settime(2)). adjtimex(2) and clock_adjtime(2) also read, and
    // programs do that.
    &[libc::SYS_swapon, libc::SYS_swapoff, libc::SYS_reboot, libc::SYS_acct],
    &[libc::SYS_quotactl, libc::SYS_quotactl_fd],
    &[libc::SYS_settimeofday, libc::SYS_clock_settime],
    // The sandbox's name is given to it, not chosen by it (sethostname(2)).
    &[libc::SYS_sethostname, libc::SYS_setdomainname],
    // The kernel's log tells addresses, and what other processes did (syslog(2); everybody may read it where
    // kernel.dmesg_restrict is 0).
    &[libc::SYS_syslog],
    // The terminal is the caller's (vhangup(2)).
    &[libc::SYS_vhangup],
    // Watches whole file systems (fanotify_init(2), Linux 2.6.36; partly for everybody since 5.13).
    &[libc::SYS_fanotify_init],
    // Calls that were, each removed at its time: nfsservctl(2) in Linux 3.1, lookup_dcookie(2) in 6.8. Older kernels
    // have them, nothing uses them.
    &[libc::SYS_nfsservctl, libc::SYS_lookup_dcookie],
    #[cfg(target_arch = "x86_64")]
    &[libc::SYS_uselib, libc::SYS__sysctl],
    // The ports of devices (ioperm(2), iopl(2)). There are none on aarch64.
    #[cfg(target_arch = "x86_64")]
    &[libc::SYS_ioperm, libc::SYS_iopl],
];

/// Denied with EPERM unless namespaces are allowed: what mounts (mount(2), umount2 in umount(2), pivot_root(2); the
/// others are of Linux 5.2, mount_setattr(2) of 5.12), and entering a namespace (setns(2), Linux 3.0). They need
/// capabilities over the mount namespace, which a new user namespace gives to everybody.
const NAMESPACES: &[&[c_long]] = &[
    &[libc::SYS_mount, libc::SYS_umount2, libc::SYS_pivot_root],
    &[libc::SYS_open_tree, libc::SYS_move_mount, libc::SYS_mount_setattr, SYS_OPEN_TREE_ATTR],
    &[libc::SYS_fsopen, libc::SYS_fsconfig, libc::SYS_fsmount, libc::SYS_fspick],
    &[libc::SYS_setns],
];

/// What makes namespaces in clone(2). A user namespace gives all capabilities within, and with them the greater part
/// of the kernel that was only ever meant for root (user_namespaces(7)): many a hole was reached so.
const CLONE_NEW: u32 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u32;

/// For unshare(2) and clone3 alone (Linux 5.6): in the flags of clone(2) the bit is part of the signal.
const CLONE_NEWTIME: u32 = 0x80;

/// Puts input into the terminal as if it had been typed (TIOCSTI, TIOCLINUX with its paste: ioctl_tty(2),
/// ioctl_console(2)), for the caller's shell to execute once the command has ended; everybody may where
/// dev.tty.legacy_tiocsti (Linux 6.2) is 1. TIOCSETD loads line disciplines, old modules with a record of holes.
const TERMINAL: &[u32] = &[libc::TIOCSTI as u32, libc::TIOCLINUX as u32, libc::TIOCSETD as u32];

/// What sockets are for: others are either not divided by network namespaces, as vsock(7) to the machine's host is,
/// or modules that hardly anybody uses and that are loaded on demand.
const DOMAINS: &[u32] = &[libc::AF_UNIX as u32, libc::AF_INET as u32, libc::AF_INET6 as u32, libc::AF_NETLINK as u32];

/// The calls that do not simply pass, by their numbers, in no order.
fn rules(policy: Policy) -> Vec<(c_long, Rule)> {
    let denied = |calls: &[&[c_long]]| calls.concat().into_iter().map(|call| (call, Rule::Always(fail(EPERM))));
    let mut rules: Vec<_> = denied(DENIED).collect();
    // The kernel takes an `unsigned int` for the request, so no upper half can hide one.
    rules.push((libc::SYS_ioctl, Rule::Values { argument: 1, values: TERMINAL, hit: fail(EPERM), miss: ALLOW }));
    let domain = Rule::Values { argument: 0, values: DOMAINS, hit: ALLOW, miss: fail(EAFNOSUPPORT) };
    rules.push((libc::SYS_socket, domain));
    if !policy.allow_namespaces {
        rules.extend(denied(NAMESPACES));
        let flags = |bits| Rule::Bits { argument: 0, bits, hit: fail(EPERM) };
        rules.push((libc::SYS_unshare, flags(CLONE_NEW | CLONE_NEWTIME)));
        // All flags of this call are in the lower half, on both architectures in the first argument.
        rules.push((libc::SYS_clone, flags(CLONE_NEW)));
        // Its flags are in memory, where no filter can look (clone3 in clone(2), Linux 5.3). To whoever hears that
        // there is no such call, clone(2) is left; C libraries do that.
        rules.push((libc::SYS_clone3, Rule::Always(fail(ENOSYS))));
    }
    rules
}

// ---- the program ------------------------------------------------------------------------------

/// Where things are in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGUMENTS: u32 = 16;

/// Instructions, all with constants.
const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const IF_AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const IF_ANY_BIT: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;

/// The filter: the architecture, then a binary search for the number, then the looks at arguments, then the answers.
/// There is none if it would not fit what a jump can reach; that depends on the rules above, and the tests see it.
pub(super) fn program(policy: Policy) -> Option<Vec<sock_filter>> {
    let mut program = Assembler::default();
    // A call of another architecture has numbers of its own (32-bit programs; `int 0x80` from any program on x86).
    let foreign = program.answer(fail(ENOSYS));
    program.load(ARCH);
    program.go_on_if(IF_EQUAL, ARCHITECTURE, foreign);
    program.load(NUMBER);
    if let Some(bit) = FOREIGN_BIT {
        program.leave_if(IF_ANY_BIT, bit, foreign);
    }
    let mut checks = Vec::new();
    let ranges = ranges(rules(policy))?;
    let ranges: Vec<_> = ranges.into_iter().map(|(from, rule)| (from, program.outcome(rule, &mut checks))).collect();
    let start = program.label();
    program.search(start, &ranges);
    for (rule, label) in checks {
        program.check(rule, label);
    }
    program.finish()
}

/// What holds from which number on, in order, from the number 0.
fn ranges(mut rules: Vec<(c_long, Rule)>) -> Option<Vec<(u32, Rule)>> {
    rules.sort_unstable_by_key(|(number, _)| *number);
    let mut ranges = vec![(0, Rule::Always(ALLOW))];
    for (number, rule) in rules {
        let number = u32::try_from(number).ok()?;
        // What was to hold from here on, after the number before, never does.
        if ranges.last().is_some_and(|(from, _)| *from == number) {
            ranges.pop();
        }
        ranges.push((number, rule));
        ranges.push((number + 1, Rule::Always(ALLOW)));
    }
    ranges.dedup_by_key(|(_, rule)| *rule);
    Some(ranges)
}

/// A place further down in the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Label(usize);

enum Step {
    Do { code: u16, k: u32 },
    Jump { code: u16, k: u32, yes: Label, no: Label },
}

/// Puts the program together, from its beginning to its end: jumps only go forward, as the kernel demands.
#[derive(Default)]
struct Assembler {
    steps: Vec<Step>,
    /// Where each label is, once that is known.
    places: Vec<Option<usize>>,
    /// The answers that are given, at the end of the program.
    answers: Vec<(u32, Label)>,
}

impl Assembler {
    fn label(&mut self) -> Label {
        self.places.push(None);
        Label(self.places.len() - 1)
    }

    /// The label is here.
    fn place(&mut self, label: Label) {
        self.places[label.0] = Some(self.steps.len());
    }

    fn load(&mut self, offset: u32) {
        self.steps.push(Step::Do { code: LOAD, k: offset });
    }

    fn jump(&mut self, code: u16, k: u32, yes: Label, no: Label) {
        self.steps.push(Step::Jump { code, k, yes, no });
    }

    fn leave_if(&mut self, code: u16, k: u32, target: Label) {
        let next = self.label();
        self.jump(code, k, target, next);
        self.place(next);
    }

    fn go_on_if(&mut self, code: u16, k: u32, otherwise: Label) {
        let next = self.label();
        self.jump(code, k, next, otherwise);
        self.place(next);
    }

    /// Where this answer is given.
    fn answer(&mut self, value: u32) -> Label {
        if let Some((_, label)) = self.answers.iter().find(|(known, _)| *known == value) {
            return *label;
        }
        let label = self.label();
        self.answers.push((value, label));
        label
    }

    /// Where it is found out what the rule says. A look at arguments is still to be placed; those are collected.
    fn outcome(&mut self, rule: Rule, checks: &mut Vec<(Rule, Label)>) -> Label {
        if let Rule::Always(value) = rule {
            return self.answer(value);
        }
        let label = self.label();
        checks.push((rule, label));
        label
    }

    /// Finds the last of the ranges, two at least, that begins no later than the number that was loaded.
    fn search(&mut self, start: Label, ranges: &[(u32, Label)]) {
        self.place(start);
        let (low, high) = ranges.split_at(ranges.len() / 2);
        let (below, above) = (self.way_into(low), self.way_into(high));
        self.jump(IF_AT_LEAST, high[0].0, above, below);
        for (label, side) in [(below, low), (above, high)] {
            if side.len() > 1 {
                self.search(label, side);
            }
        }
    }

    /// One range is found; more are searched.
    fn way_into(&mut self, ranges: &[(u32, Label)]) -> Label {
        if let [(_, outcome)] = ranges { *outcome } else { self.label() }
    }

    /// Looks at an argument.
    fn check(&mut self, rule: Rule, label: Label) {
        self.place(label);
        match rule {
            Rule::Always(value) => self.steps.push(Step::Do { code: RETURN, k: value }),
            Rule::Bits { argument, bits, hit } => {
                self.load(ARGUMENTS + 8 * argument);
                let (hit, allow) = (self.answer(hit), self.answer(ALLOW));
                self.jump(IF_ANY_BIT, bits, hit, allow);
            }
            Rule::Values { argument, values, hit, miss } => {
                self.load(ARGUMENTS + 8 * argument);
                let hit = self.answer(hit);
                values.iter().for_each(|value| self.leave_if(IF_EQUAL, *value, hit));
                self.steps.push(Step::Do { code: RETURN, k: miss });
            }
        }
    }

    /// The instructions, the answers after all else; none if a jump is too far, or would not go forward.
    fn finish(mut self) -> Option<Vec<sock_filter>> {
        for (value, label) in std::mem::take(&mut self.answers) {
            self.place(label);
            self.steps.push(Step::Do { code: RETURN, k: value });
        }
        let distance = |at: usize, label: &Label| {
            let place = self.places[label.0]?;
            // Counted from the instruction after the jump.
            u8::try_from(place.checked_sub(at + 1)?).ok()
        };
        let instruction = |(at, step): (usize, &Step)| match step {
            Step::Do { code, k } => Some(sock_filter { code: *code, jt: 0, jf: 0, k: *k }),
            Step::Jump { code, k, yes, no } => {
                Some(sock_filter { code: *code, jt: distance(at, yes)?, jf: distance(at, no)?, k: *k })
            }
        };
        self.steps.iter().enumerate().map(instruction).collect()
    }
}

#[cfg(test)]
mod tests;
