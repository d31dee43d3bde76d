//! Programs that size themselves by their limits see those of the run in the native runtime's sandbox, and nothing of
//! anybody else's control groups.

use crate::support::native::{Caller, for_each_caller, outside, run, said, says};
use crate::support::{Home, code, stderr};

/// Whether this caller can have control groups here; who cannot is told so.
fn has_groups(caller: Caller, home: &Home) -> bool {
    let output = run(home, &["--memory", "64m", "--cpus", "1"], "true");
    if code(&output) != 0 {
        assert!(caller == Caller::User, "{output:?}");
        assert!(stderr(&output).contains("cannot be limited"), "{output:?}");
    }
    code(&output) == 0
}

/// Finds the file of a limit as programs do: the group that /proc/self/cgroup names, below the mount that
/// /proc/self/mountinfo shows for its hierarchy. The arguments are a controller and the file's names in version 1 and 2.
const FIND: &str = r#"
    my ($controller, $old, $new) = @ARGV;
    open(my $own, "<", "/proc/self/cgroup") or die; open(my $mounts, "<", "/proc/self/mountinfo") or die;
    my %group = map { chomp; my ($n, $c, $path) = split(/:/, $_, 3); map { $_ => $path } $n ? split(/,/, $c) : "" } <$own>;
    for (<$mounts>) {
        my ($root, $point, $kind, $options) = /^\d+ \d+ \S+ (\S+) (\S+) .* - (\S+) \S+ (\S+)$/ or next;
        my $is_old = $kind eq "cgroup" && grep { $_ eq $controller } split(/,/, $options);
        next unless $is_old || $kind eq "cgroup2" && !exists $group{$controller};
        my $path = $group{$is_old ? $controller : ""};
        die "$root $path" unless $root eq "/" && $path eq "/";
        my $file = "$point/" . ($is_old ? $old : $new);
        open(my $limit, "<", $file) or die "$file: $!"; print <$limit>; exit 0;
    }
    die "no $controller";
"#;

/// What a program finds so.
fn limit(home: &Home, options: &[&str], names: [&str; 3]) -> String {
    home.write("ws/find", FIND);
    says(home, options, &format!("perl find {}", names.join(" ")))
}

#[test]
fn limits_are_found_where_programs_look_for_them() {
    for_each_caller(|caller, home| {
        if !has_groups(caller, home) {
            return;
        }
        let options = ["--memory", "96m", "--cpus", "0.5", "--pids", "77"];
        let memory = limit(home, &options, ["memory", "memory.limit_in_bytes", "memory.max"]);
        assert_eq!(memory, (96 << 20).to_string());
        let cpus = limit(home, &options, ["cpu", "cpu.cfs_quota_us", "cpu.max"]);
        assert_eq!(cpus.split(' ').next(), Some("50000"));
        assert_eq!(limit(home, &options, ["pids", "pids.max", "pids.max"]), "77");
        // One alone, too.
        let memory = limit(home, &["--memory", "96m"], ["memory", "memory.limit_in_bytes", "memory.max"]);
        assert_eq!(memory, (96 << 20).to_string());
    });
}

/// The processes in a group are those of the sandbox, no group is there but the run's, and nothing can be changed: by
/// the owner of the files, with rights in a namespace within, or for who makes a process of exec.
#[test]
fn of_control_groups_the_own_one_alone_is_there_and_can_only_be_read() {
    for_each_caller(|caller, home| {
        // Nobody's limits, nobody's groups.
        assert_eq!(
            says(
                home,
                &[],
                "ls -A /sys; ls -A /sys/fs 2>/dev/null; grep -c \" - cgroup2* \" /proc/self/mountinfo; true"
            ),
            "devices\n0"
        );
        if !has_groups(caller, home) {
            return;
        }
        let look = "find /sys/fs/cgroup -mindepth 1 -type d | sed 's/[^/]*//' | grep -c '/sys/fs/cgroup/.*/'; \
                    cat $(find /sys/fs/cgroup -name cgroup.procs) | sort -un | while read pid; do [ -d /proc/$pid ] || \
                    [ $pid -gt 5 ] || echo gone; done; grep -v ':/$' /proc/self/cgroup";
        assert_eq!(said_of(&run(home, &["--memory", "64m"], look)), "0\n", "a group below, or a stranger");
        let change = "cd /sys/fs/cgroup; chmod -R u+w . 2>/dev/null; for at in $(find . -type f); do (: >>$at) 2>/dev/null && \
                      echo opened $at; done; for at in . $(find . -type d); do mkdir $at/x 2>/dev/null && echo made $at; \
                      done; touch x 2>/dev/null && echo touched; true";
        assert_eq!(says(home, &["--memory", "64m"], change), "");
        home.write("ws/change", format!("mount -o remount,bind,rw /sys/fs/cgroup; umount -l /sys/fs/cgroup; {change}"));
        let nested = "unshare --user --mount sh change 2>/dev/null";
        assert_eq!(says(home, &["--memory", "64m", "--allow-userns"], nested), "");
    });
}

fn said_of(output: &std::process::Output) -> String {
    crate::support::stdout(output)
}

/// Not asked where they are not installed: what they read is asked above.
#[test]
fn java_and_node_size_themselves() {
    for_each_caller(|caller, home| {
        let has = |program: &str| code(&outside(home, &format!("command -v {program} >/dev/null"))) == 0;
        if !has_groups(caller, home) {
            return;
        }
        let options = ["--memory", "300m", "--cpus", "1"];
        if has("java") {
            let flags = "java -XX:+PrintFlagsFinal -version 2>/dev/null | awk '/ MaxHeapSize /{print $4}'";
            let heap = |options: &[&str]| says(home, options, flags).parse::<u64>().unwrap();
            assert!(heap(&options) < 300 << 20);
            assert_eq!(heap(&[]), said(&outside(home, flags)).parse::<u64>().unwrap());
        }
        if has("node") {
            let heap = "node -p 'v8.getHeapStatistics().heap_size_limit'";
            let heap = |options: &[&str]| says(home, options, heap).parse::<u64>().unwrap();
            assert!(heap(&options) < 300 << 20);
        }
    });
}
