//! The tiny init of `--init`: PID 1 that passes signals on and reaps (0.10 and later).

use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

use fosse::sys::linux::init::{self, Ended, Found};
use fosse::sys::linux::signalfd::SignalFd;
use fosse::sys::process::{Pid, kill_child};
use fosse::sys::signal::Signal;

/// `__init PROGRAM NAME ARGUMENTS…`
pub fn main(args: &[String]) -> ! {
    let [program, name, arguments @ ..] = args else { std::process::exit(64) };
    let Ok(signals) = SignalFd::new() else { std::process::exit(1) };
    let mut command = Command::new(program);
    command.arg0(name).args(arguments);
    init::own_group_in_the_foreground(&mut command, None);
    let Ok(child) = command.spawn() else { std::process::exit(127) };
    let Some(child) = i32::try_from(child.id()).ok().and_then(Pid::new) else { std::process::exit(1) };
    loop {
        while let Ok(Found::Dead(pid, ended)) = init::look() {
            init::reap(pid).unwrap_or_default();
            if pid == child {
                std::process::exit(match ended {
                    Ended::Exited(code) => i32::from(code),
                    Ended::Killed(signal) => 128 + signal,
                });
            }
        }
        fosse::sys::poll::wait_readable(signals.as_fd(), None).unwrap_or_default();
        while let Ok(Some(signal)) = signals.next() {
            if signal != Signal::CHLD {
                kill_child(child, signal).unwrap_or_default();
            }
        }
    }
}
