//! Files of the machine that programs believe only if they belong to root: root is nobody in the native runtime's
//! sandbox.

use std::fs;
use std::process::Output;

use crate::support::native::{Caller, for_each_caller, for_root, in_mounts, is_root, outside, run_cmd, said, says};
use crate::support::{Home, code, finish, left_out, stderr, stdout};

/// Whether there is a client of ssh, and mounts can be made.
fn has_ssh(home: &Home) -> bool {
    let found = code(&outside(home, "command -v ssh >/dev/null")) == 0;
    if !found {
        left_out("ssh, which is not installed");
    }
    found && is_root()
}

/// A system whose /etc is the machine's and can be written, and knows the caller.
const SYSTEM: &str = "mkdir $D/etc; \
    find /etc -mindepth 1 -maxdepth 1 ! -name 'fosse-test-*' -exec cp -a -t $D/etc {} +; mount --bind $D/etc /etc; rm -rf /etc/ssh; mkdir -p /etc/ssh/ssh_config.d; \
    echo person:x:4321:4321::/home/person:/bin/sh >>/etc/passwd; put() { mkdir -p ${1%/*}; cat >$1; chmod 644 $1; }; \
    echo 'Include /etc/ssh/ssh_config.d/*.conf' | put /etc/ssh/ssh_config";

/// Where packages put what is not configured: in /usr, whose files root's veil then cannot cover, or beside it.
const PACKAGES: [&str; 2] = [
    "mount -t tmpfs none /mnt; mkdir /mnt/u /mnt/w; \
     mount -t overlay -o lowerdir=/usr,upperdir=/mnt/u,workdir=/mnt/w none /usr; U=/usr",
    "mount -t tmpfs -o mode=755 none /opt; U=/opt/usr",
];

/// As Debian 13 has it: a link to a file of another package.
const DEBIAN: &str = "printf 'Host unix/*\\n ProxyUseFdpass yes\\n' | put $U/lib/systemd/ssh_config.d/20-proxy.conf; \
    ln -s ../../..$U/lib/systemd/ssh_config.d/20-proxy.conf /etc/ssh/ssh_config.d/";

/// As Fedora has it: a file that includes what a link leads to.
const FEDORA: &str = "echo Ciphers aes256-gcm@openssh.com | put $U/share/crypto-policies/DEFAULT/openssh.txt; \
    mkdir -p /etc/crypto-policies/back-ends; \
    ln -s $U/share/crypto-policies/DEFAULT/openssh.txt /etc/crypto-policies/back-ends/openssh.config; \
    printf 'Match final all\\n\\tInclude /etc/crypto-policies/back-ends/openssh.config\\n' | \
    put /etc/ssh/ssh_config.d/50-redhat.conf";

/// A script inside, on a system that was made so.
fn on(home: &Home, system: &[&str], inside: &str) -> Output {
    let scripts: Vec<&str> = [SYSTEM].iter().chain(system).copied().chain(["caller \"$@\""]).collect();
    let mut command = in_mounts(home, &scripts.join("; "), &run_cmd(home, &[], &["sh", "-c", inside]));
    command.env("D", &home.dir);
    let output = finish(command);
    fs::remove_dir_all(home.dir.join("etc")).unwrap();
    output
}

#[test]
fn ssh_takes_the_configuration_of_the_system_as_distributions_have_it() {
    for_each_caller(|_, home| {
        if !has_ssh(home) {
            return;
        }
        let look = "ssh -G unix/x | grep -c '^proxyusefdpass yes'; ssh -G host | grep ^ciphers";
        for (packages, shown) in [
            (PACKAGES[0], "true"),
            (PACKAGES[1], "true"),
            // A file system among them: the directory is taken apart, and each file shown by itself.
            (PACKAGES[1], "mkdir /etc/ssh/ssh_config.d/sub; mount -t tmpfs none /etc/ssh/ssh_config.d/sub"),
            // Too many to be taken apart: the kernel refuses an overlay.
            (PACKAGES[1], "cd /etc/ssh/ssh_config.d; seq 1600 | xargs mkdir; mount -t tmpfs none 7; cd $OLDPWD"),
        ] {
            let output = on(home, &[packages, DEBIAN, FEDORA, shown], look);
            let wanted = "1\nciphers aes256-gcm@openssh.com\n";
            assert_eq!(stdout(&output), wanted, "{packages} {shown}: {output:?}");
        }
    });
}

/// What somebody else could have written is not believed because it is in a sandbox.
#[test]
fn what_ssh_refuses_outside_it_refuses_inside() {
    for_each_caller(|_, home| {
        if !has_ssh(home) {
            return;
        }
        for change in ["chown 7777 $F", "chmod 666 $F", "chown 7777 ${F%/*}; chown 7777 $F"] {
            let system = format!("{DEBIAN}; F=/etc/ssh/ssh_config.d/a.conf; echo Port 77 | put $F; {change}");
            let output = on(home, &[PACKAGES[1], &system], "ssh -G host");
            assert_eq!(code(&output), 255, "{change}: {output:?}");
            assert!(stderr(&output).contains("Bad owner or permissions"), "{change}: {output:?}");
        }
        // Whoever writes a directory may exchange what is in it: what is there then stays nobody's.
        let system = "echo Port 77 | put /etc/ssh/ssh_config.d/a.conf; chmod 777 /etc/ssh/ssh_config.d";
        let output = on(home, &[system], "cd /etc; stat -c %u passwd; stat -c %u ssh/ssh_config.d/a.conf");
        let text = said(&output);
        let (others, this) = text.split_once('\n').unwrap();
        assert_eq!(this, others);
    });
}

#[test]
fn copies_are_like_their_originals_and_are_gone_with_the_run() {
    for_each_caller(|caller, home| {
        if !is_root() {
            return;
        }
        let system = "echo Port 77 | put /etc/ssh/ssh_config.d/a.conf; echo Port 78 | put /etc/ssh/ssh_config.d/b.conf; \
                      touch -d @86400 /etc/ssh/ssh_config.d/a.conf; chmod 444 /etc/ssh/ssh_config.d/a.conf; \
                      trap 'cat /etc/ssh/ssh_config.d/*; ls /etc/ssh/ssh_config.d' EXIT";
        let inside = "cd /etc/ssh/ssh_config.d; stat -c '%u %a %s %Y %h' a.conf; stat -c %u /etc/passwd ../ssh_config; ls; \
                      echo Port 79 >b.conf; cat b.conf; rm b.conf; mv a.conf c.conf; ls";
        let uid = caller.uid();
        let other = said(&on(home, &[], "stat -c %u /etc/passwd"));
        assert!(caller == Caller::Root || other == "65534", "{other}");
        let wanted = format!(
            "{uid} 444 8 86400 1\n{other}\n{other}\na.conf\nb.conf\nPort 79\nc.conf\nPort 77\nPort 78\na.conf\nb.conf"
        );
        assert_eq!(said(&on(home, &[system], inside)), wanted);
    });
}

#[test]
fn logrotate_finds_roots_own_files_if_it_runs_as_root() {
    for_each_caller(|caller, home| {
        if !is_root() {
            return;
        }
        let system = "echo weekly | put /etc/logrotate.conf; echo | put /etc/logrotate.d/one";
        let output = on(home, &[system], "stat -c %u /etc/logrotate.conf /etc/logrotate.d/one");
        assert_eq!(said(&output), if caller == Caller::Root { "0\n0" } else { "65534\n65534" });
    });
}

/// A completion that asks would wait for ever.
#[test]
fn zsh_believes_its_own_directories() {
    for_each_caller(|_, home| {
        if code(&outside(home, "command -v zsh >/dev/null")) != 0 {
            return;
        }
        assert_eq!(says(home, &[], "zsh -fc 'autoload -Uz compaudit; compaudit; echo $?'"), "0");
    });
}

/// One mount somewhere below, such as a container's overlay, lifts nothing of the veil: it is left out itself, unless it
/// was asked for.
#[test]
fn a_mount_that_cannot_be_veiled_is_left_out_alone() {
    for_root(|home| {
        let script = "mount -t tmpfs none /srv; mkdir -p /srv/a/b/c/d/e /srv/l /srv/u /srv/w /srv/m/n /srv/r; \
                      echo SECRET >/srv/r/k; echo SECRET >/srv/m/n/k; echo SECRET >/srv/a/b/c/d/e/k; chmod 600 /srv/a/b/c/d/e/k; echo open >/srv/a/b/c/d/e/o; \
                      mount -t overlay -o lowerdir=/srv/l,upperdir=/srv/u,workdir=/srv/w none /srv/m/n; \
                      mount -t ramfs none /srv/r; echo asked >/srv/r/f; echo asked >/srv/m/n/f; \
                      mount -t tmpfs none /srv/l; echo kept >/srv/l/f; caller \"$@\"";
        let look =
            "cat /srv/a/b/c/d/e/k 2>/dev/null; cat /srv/a/b/c/d/e/o /srv/l/f; ls -A /srv/r; ls -A /srv/m/n; cat /given";
        let inner = run_cmd(home, &["-m", "/srv/m/n/f:/given"], &["sh", "-c", look]);
        let output = finish(in_mounts(home, script, &inner));
        assert_eq!(said(&output), "open\nkept\nasked", "{output:?}");
    });
}
