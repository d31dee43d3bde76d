//! The program is run by an interpreter of the few instructions that it has; and once by the kernel.

use std::io;
use std::thread;

use super::*;
use crate::sys::linux::{caps, seccomp};

const STRICT: Policy = Policy { allow_namespaces: false };
const NESTING: Policy = Policy { allow_namespaces: true };
const BOTH: [Policy; 2] = [STRICT, NESTING];

/// AUDIT_ARCH_I386, AUDIT_ARCH_ARM: what 32-bit programs are of.
const FOREIGN: [u32; 2] = [0x4000_0003, 0x4000_0028];

/// What the program answers, and after how many instructions.
fn interpret(program: &[sock_filter], arch: u32, number: u32, arguments: [u64; 6]) -> (u32, usize) {
    // struct seccomp_data: the number, the architecture, the instruction pointer, six arguments.
    let words = [u64::from(number) | (u64::from(arch) << 32), 0x1234_5678_9abc_def0].into_iter().chain(arguments);
    let data: Vec<u8> = words.flat_map(u64::to_ne_bytes).collect();
    let (mut at, mut accumulator) = (0, 0);
    for count in 1..=program.len() {
        let instruction = program[at];
        let taken = match instruction.code {
            LOAD => {
                let offset = instruction.k as usize;
                accumulator = u32::from_ne_bytes(data[offset..offset + 4].try_into().unwrap());
                at += 1;
                continue;
            }
            RETURN => return (instruction.k, count),
            IF_EQUAL => accumulator == instruction.k,
            IF_AT_LEAST => accumulator >= instruction.k,
            IF_ANY_BIT => accumulator & instruction.k != 0,
            code => panic!("instruction {code:#x}"),
        };
        at += 1 + usize::from(if taken { instruction.jt } else { instruction.jf });
    }
    panic!("it does not end");
}

fn answer(policy: Policy, call: c_long, arguments: &[u64]) -> u32 {
    let mut all = [0; 6];
    all[..arguments.len()].copy_from_slice(arguments);
    interpret(&program(policy).unwrap(), ARCHITECTURE, u32::try_from(call).unwrap(), all).0
}

/// The answer with nothing but this argument, with rubbish in all others and, both times, in its upper half.
fn answer_with(policy: Policy, call: c_long, argument: usize, value: u32) -> u32 {
    let answers = [0, 0xffff_ffff_0000_0000].map(|upper| {
        let mut arguments = [u64::MAX; 6];
        arguments[argument] = u64::from(value) | upper;
        answer(policy, call, &arguments)
    });
    assert_eq!(answers[0], answers[1], "call {call}, argument {value:#x}: the upper half counts");
    answers[0]
}

#[test]
fn what_programs_live_on_passes() {
    let calls = [
        libc::SYS_read,
        libc::SYS_write,
        libc::SYS_openat,
        libc::SYS_close,
        libc::SYS_mmap,
        libc::SYS_futex,
        libc::SYS_execve,
        libc::SYS_exit_group,
        libc::SYS_wait4,
        libc::SYS_prctl,
        libc::SYS_seccomp,
        libc::SYS_socketpair,
        libc::SYS_connect,
        libc::SYS_chroot,
        // Next to what is denied, and left alone on purpose.
        libc::SYS_ptrace,
        libc::SYS_adjtimex,
        libc::SYS_clock_adjtime,
        libc::SYS_clock_gettime,
        libc::SYS_name_to_handle_at,
        libc::SYS_fanotify_mark,
        libc::SYS_kcmp,
        libc::SYS_process_madvise,
        libc::SYS_pidfd_getfd,
        libc::SYS_memfd_secret,
        libc::SYS_pidfd_open,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_open,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_fork,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_vfork,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_modify_ldt,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_ustat,
    ];
    for policy in BOTH {
        for call in calls {
            assert_eq!(answer(policy, call, &[u64::MAX; 6]), ALLOW, "call {call}");
        }
        // Of Linux to come.
        for number in [468, 600, 0x3fff_ffff] {
            assert_eq!(answer(policy, number, &[0; 6]), ALLOW, "call {number}");
        }
    }
}

/// Written out once more, since what is tested is also that the rules are these.
#[test]
fn what_is_denied_is_denied_with_both_policies_and_what_makes_namespaces_with_one() {
    let denied = [
        libc::SYS_keyctl,
        libc::SYS_add_key,
        libc::SYS_request_key,
        libc::SYS_init_module,
        libc::SYS_finit_module,
        libc::SYS_delete_module,
        libc::SYS_kexec_load,
        SYS_KEXEC_FILE_LOAD,
        libc::SYS_bpf,
        libc::SYS_perf_event_open,
        libc::SYS_userfaultfd,
        libc::SYS_io_uring_setup,
        libc::SYS_io_uring_enter,
        libc::SYS_io_uring_register,
        libc::SYS_open_by_handle_at,
        libc::SYS_swapon,
        libc::SYS_swapoff,
        libc::SYS_reboot,
        libc::SYS_acct,
        libc::SYS_quotactl,
        libc::SYS_quotactl_fd,
        libc::SYS_nfsservctl,
        libc::SYS_settimeofday,
        libc::SYS_clock_settime,
        libc::SYS_sethostname,
        libc::SYS_setdomainname,
        libc::SYS_syslog,
        libc::SYS_vhangup,
        libc::SYS_lookup_dcookie,
        libc::SYS_fanotify_init,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_ioperm,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_iopl,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_uselib,
        #[cfg(target_arch = "x86_64")]
        libc::SYS__sysctl,
    ];
    let namespaces = [
        libc::SYS_mount,
        libc::SYS_umount2,
        libc::SYS_pivot_root,
        libc::SYS_open_tree,
        libc::SYS_move_mount,
        libc::SYS_fsopen,
        libc::SYS_fsconfig,
        libc::SYS_fsmount,
        libc::SYS_fspick,
        libc::SYS_mount_setattr,
        467,
        libc::SYS_setns,
    ];
    for arguments in [[0; 6], [u64::MAX; 6]] {
        for call in &denied {
            assert_eq!(BOTH.map(|policy| answer(policy, *call, &arguments)), [fail(EPERM); 2], "call {call}");
        }
        for call in &namespaces {
            assert_eq!(BOTH.map(|policy| answer(policy, *call, &arguments)), [fail(EPERM), ALLOW], "call {call}");
        }
        let clone3 = BOTH.map(|policy| answer(policy, libc::SYS_clone3, &arguments));
        assert_eq!(clone3, [fail(ENOSYS), ALLOW]);
    }
    // Nothing but those, and what the other tests are about.
    let by_arguments = [libc::SYS_ioctl, libc::SYS_socket, libc::SYS_unshare, libc::SYS_clone, libc::SYS_clone3];
    let mut known: Vec<_> = denied.iter().chain(&namespaces).chain(&by_arguments).copied().collect();
    let mut ruled: Vec<_> = rules(STRICT).into_iter().map(|(call, _)| call).collect();
    known.sort_unstable();
    ruled.sort_unstable();
    assert_eq!(ruled, known);
    ruled.dedup();
    assert_eq!(ruled, known, "two rules for one call");
}

#[test]
fn every_flag_of_a_namespace_is_denied_alone_and_among_others_and_no_other_flag() {
    let namespaces = [0x0002_0000, 0x0200_0000, 0x0400_0000, 0x0800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000];
    for bit in (0..32).map(|shift| 1_u32 << shift) {
        let is_namespace = namespaces.contains(&bit);
        for (call, denied, others) in [
            // A thread's flags: VM FS FILES SIGHAND THREAD SYSVSEM SETTLS PARENT_SETTID CHILD_CLEARTID.
            (libc::SYS_clone, is_namespace, 0x003d_0f00),
            (libc::SYS_unshare, is_namespace || bit == 0x80, 0x0000_0600),
        ] {
            let expected = if denied { fail(EPERM) } else { ALLOW };
            for flags in [bit, bit | others] {
                assert_eq!(answer_with(STRICT, call, 0, flags), expected, "call {call} {flags:#x}");
                assert_eq!(answer_with(NESTING, call, 0, flags), ALLOW, "call {call} {flags:#x}");
            }
        }
    }
    for policy in BOTH {
        let (fork, none) = (libc::SIGCHLD as u32, 0);
        assert_eq!(answer_with(policy, libc::SYS_clone, 0, fork), ALLOW);
        assert_eq!(answer_with(policy, libc::SYS_clone, 0, 0x003d_0f00), ALLOW);
        assert_eq!(answer_with(policy, libc::SYS_unshare, 0, none), ALLOW);
    }
}

#[test]
fn the_terminal_takes_no_input_from_the_command_and_other_requests_pass() {
    for policy in BOTH {
        for request in [0x5412, 0x541C, 0x5423] {
            assert_eq!(answer_with(policy, libc::SYS_ioctl, 1, request), fail(EPERM), "{request:#x}");
            // A neighbour, and the same number elsewhere.
            assert_eq!(answer_with(policy, libc::SYS_ioctl, 1, request + 1), ALLOW, "{request:#x}");
            assert_eq!(answer_with(policy, libc::SYS_ioctl, 0, request), ALLOW, "{request:#x}");
        }
        for request in [libc::TCGETS as u32, libc::TIOCGWINSZ as u32, libc::FIONREAD as u32, 0] {
            assert_eq!(answer_with(policy, libc::SYS_ioctl, 1, request), ALLOW, "{request:#x}");
        }
    }
}

#[test]
fn sockets_are_of_four_domains() {
    for policy in BOTH {
        for domain in (0..100).chain([u32::MAX]) {
            let expected = if matches!(domain, 1 | 2 | 10 | 16) { ALLOW } else { fail(EAFNOSUPPORT) };
            assert_eq!(answer_with(policy, libc::SYS_socket, 0, domain), expected, "domain {domain}");
        }
    }
}

#[test]
fn calls_of_another_architecture_do_not_exist() {
    let x32 = (ARCHITECTURE, 0x4000_0000);
    for program in BOTH.map(|policy| program(policy).unwrap()) {
        for number in (0..600).chain([0x3fff_ffff, u32::MAX]) {
            for arch in FOREIGN {
                assert_eq!(interpret(&program, arch, number, [0; 6]).0, fail(ENOSYS), "{arch:#x} {number}");
            }
            if cfg!(target_arch = "x86_64") {
                assert_eq!(interpret(&program, x32.0, number | x32.1, [0; 6]).0, fail(ENOSYS), "x32 {number}");
            }
        }
    }
}

#[test]
fn no_jump_leaves_the_program_and_all_of_it_is_of_use() {
    for policy in BOTH {
        let program = program(policy).unwrap();
        let mut reached = vec![false; program.len()];
        reached[0] = true;
        for (at, instruction) in program.iter().enumerate() {
            assert!(reached[at], "nothing leads to instruction {at}");
            let next: &[u8] = match instruction.code {
                RETURN => &[],
                LOAD => &[0],
                _ => &[instruction.jt, instruction.jf],
            };
            for distance in next {
                reached[at + 1 + usize::from(*distance)] = true;
            }
        }
    }
}

#[test]
fn what_is_searched_rises_and_has_no_border_without_need() {
    for policy in BOTH {
        let ranges = ranges(rules(policy)).unwrap();
        assert_eq!(ranges[0].0, 0);
        assert!(ranges.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 != pair[1].1), "{ranges:?}");
    }
    let (deny, allow) = (Rule::Always(fail(EPERM)), Rule::Always(ALLOW));
    // In any order, from the first number on, neighbours and loners.
    assert_eq!(
        ranges(vec![(9, deny), (1, deny), (0, deny), (5, deny)]).unwrap(),
        [(0, deny), (2, allow), (5, deny), (6, allow), (9, deny), (10, allow)]
    );
}

#[test]
fn an_answer_takes_few_instructions() {
    for program in BOTH.map(|policy| program(policy).unwrap()) {
        let longest = (0..600).map(|number| interpret(&program, ARCHITECTURE, number, [0; 6]).1).max();
        // Six or seven steps of a search, and the longest look at an argument.
        assert!(longest.is_some_and(|count| count <= 18), "{longest:?}");
    }
}

#[test]
fn a_jump_too_far_or_back_makes_no_program() {
    let far = |steps: usize| {
        let mut program = Assembler::default();
        let (near, target) = (program.label(), program.label());
        program.jump(IF_EQUAL, 0, target, near);
        program.place(near);
        (0..steps).for_each(|_| program.load(NUMBER));
        program.place(target);
        program.finish()
    };
    assert_eq!(far(255).unwrap()[0].jt, 255);
    assert!(far(256).is_none());
    let mut back = Assembler::default();
    let start = back.label();
    back.place(start);
    back.jump(IF_EQUAL, 0, start, start);
    assert!(back.finish().is_none());
    let mut nowhere = Assembler::default();
    let never = nowhere.label();
    nowhere.jump(IF_EQUAL, 0, never, never);
    assert!(nowhere.finish().is_none());
}

/// The errors of some calls with integers and null pointers: none can do anything, with or without a filter.
fn harmless() -> [Option<i32>; 6] {
    let errno = |result: c_long| (result == -1).then(|| io::Error::last_os_error().raw_os_error().unwrap());
    // SAFETY: unshare knows no flag 1; there is no descriptor -1; no socket has the domain 99; and what a structure is
    // needed for gets none.
    unsafe {
        [
            errno(libc::syscall(libc::SYS_unshare, CLONE_NEW | 1)),
            errno(libc::syscall(libc::SYS_clone3, 0_usize, 0_usize)),
            errno(libc::syscall(libc::SYS_add_key, 0_usize, 0_usize, 0_usize, 0_usize, 0)),
            errno(libc::syscall(libc::SYS_ioctl, -1, libc::TIOCSTI, 0_usize)),
            errno(libc::syscall(libc::SYS_ioctl, -1, libc::TIOCGWINSZ, 0_usize)),
            errno(libc::syscall(libc::SYS_socket, 99, 0, 0)),
        ]
    }
}

/// In threads, whose own calls are the only ones that are filtered.
#[test]
fn the_kernel_takes_the_program_and_does_what_it_says() {
    for policy in BOTH {
        let work = move || {
            let [unshare, clone3, _, tiocsti, tiocgwinsz, _] = harmless();
            // It may be refused by a filter that is there already, but not so.
            assert_eq!((tiocsti, tiocgwinsz), (Some(libc::EBADF), Some(libc::EBADF)));
            caps::no_new_privileges().unwrap();
            seccomp::install(policy).unwrap();
            let (unshare, clone3) = if policy == STRICT { (Some(EPERM), Some(ENOSYS)) } else { (unshare, clone3) };
            let expected = [unshare, clone3, Some(EPERM), Some(EPERM), tiocgwinsz, Some(EAFNOSUPPORT)];
            assert_eq!(harmless(), expected, "{policy:?}");
            // Threads can still be made, and inherit it.
            let child = thread::spawn(|| (std::net::TcpListener::bind("127.0.0.1:0").map(drop), harmless()));
            let (bound, found) = child.join().unwrap();
            bound.unwrap();
            assert_eq!(found, expected, "{policy:?}");
        };
        thread::spawn(work).join().unwrap();
    }
}
