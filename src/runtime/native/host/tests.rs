//! look() over a tree that has a root of its own, and over the machine that the tests run on.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;

use super::*;
use crate::base::error::Ignore;

const PASSWD: &str = "root:x:0:0::/root:/bin/sh\nu:x:1000:1:::/bin/sh\nv:x:1001:1::/srv/people/v:/bin/sh\n\
    w:x:1002:1::/usr:/bin/sh\ns:x:1003:1::/srv/service:/usr/sbin/nologin\n";

/// A root with what every host has; gone with the test.
struct Tree(PathBuf);

impl Tree {
    fn new() -> Tree {
        let name = format!("fosse-host-{}", crate::base::id::random_hex(6).unwrap());
        let tree = Tree(fs::canonicalize(std::env::temp_dir()).unwrap().join(name));
        fs::create_dir(&tree.0).unwrap();
        tree.file("/etc/passwd", PASSWD).file("/etc/resolv.conf", "").file("/usr/bin/true", "");
        tree.file("/proc/self/mountinfo", "1 1 8:1 / / rw - ext4 x rw\n").file("/proc/net/unix", "");
        for own in ["/dev", "/sys", "/run", "/tmp", "/home", "/root"] {
            tree.directory(own);
        }
        tree
    }

    fn at(&self, path: &str) -> PathBuf {
        self.0.join(path.trim_start_matches('/'))
    }

    fn directory(&self, path: &str) -> &Tree {
        for (end, _) in path.match_indices('/').skip(1).chain([(path.len(), "")]) {
            let directory = self.at(&path[..end]);
            if !directory.exists() {
                fs::create_dir(&directory).unwrap();
                // Whatever the mask of whoever runs the tests.
                fs::set_permissions(&directory, Permissions::from_mode(0o755)).unwrap();
            }
        }
        self
    }

    fn file(&self, path: &str, text: &str) -> &Tree {
        self.directory(path.rsplit_once('/').unwrap().0);
        fs::write(self.at(path), text).unwrap();
        self.mode(path, 0o644)
    }

    fn mode(&self, path: &str, mode: u32) -> &Tree {
        fs::set_permissions(self.at(path), Permissions::from_mode(mode)).unwrap();
        self
    }

    /// A link to a path of the tree.
    fn link(&self, path: &str, to: &str) -> &Tree {
        self.directory(path.rsplit_once('/').unwrap().0);
        symlink(self.at(to), self.at(path)).unwrap();
        self
    }

    /// Mounts as `(device, root, point, type)`, below the root itself.
    fn mounts(&self, mounts: &[(&str, &str, &str, &str)]) -> &Tree {
        let mut table = String::from("1 1 8:1 / / rw - ext4 x rw\n");
        for (device, root, point, kind) in mounts {
            table += &format!("2 1 {device} {root} {point} rw shared:1 - {kind} x rw\n");
        }
        self.file("/proc/self/mountinfo", &table)
    }

    fn ask(&self, asked: &Question) -> Host {
        look_below(&Root::new(&self.0).unwrap(), asked).unwrap()
    }

    /// As a user who has nothing.
    fn look(&self) -> Host {
        self.ask(&Question::default())
    }

    fn hidden(&self, asked: &Question) -> Vec<String> {
        self.ask(asked).hidden.into_iter().map(|hidden| show(&hidden)).collect()
    }

    fn hidden_from_root(&self) -> Vec<String> {
        self.hidden(&Question { search: true, ..Question::default() })
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ignore();
    }
}

/// A directory ends with a slash.
fn show(hidden: &Hidden) -> String {
    format!("{}{}", hidden.path.to_str().unwrap(), if hidden.directory { "/" } else { "" })
}

/// Entries in one line: `name` a file, `name/` a directory, `name>` a link, `name-` an empty one, `name!` read-only,
/// `name(…)` a split one.
fn line(entries: &[Entry]) -> String {
    let entry = |entry: &Entry| {
        let kind = match &entry.kind {
            Kind::Directory => "/".into(),
            Kind::Empty => "-".into(),
            Kind::Split(entries) => format!("({})", line(entries)),
            Kind::ReadOnly => "!".into(),
            Kind::Link(_) => ">".into(),
            Kind::File => String::new(),
        };
        format!("{}{kind}", entry.name.to_str().unwrap())
    };
    entries.iter().map(entry).collect::<Vec<_>>().join(" ")
}

// ---- what is shown ----------------------------------------------------------------------------

#[test]
fn the_root_is_shown_without_what_the_sandbox_has_of_its_own() {
    let tree = Tree::new();
    tree.directory("/media").file("/a file", "").link("/bin", "/usr/bin").link("/gone", "/no/such");
    let _socket = UnixListener::bind(tree.at("/socket")).unwrap();
    let host = tree.look();
    assert_eq!(line(&host.tops), "a file bin> etc/ media- usr/");
    assert_eq!(host.tops[1].kind, Kind::Link(tree.at("/usr/bin")));
}

#[test]
fn a_directory_is_taken_apart_as_far_as_there_are_mounts_below() {
    let tree = Tree::new();
    tree.file("/data/a/b/file", "").file("/data/a/c/x", "").file("/data/disk/x", "").file("/data/one", "");
    tree.file("/data/a b/x", "").directory("/data/empty").link("/data/l", "/data/a").link("/data/dangling", "/none");
    tree.mounts(&[("8:2", "/", "/data/disk", "ext4"), ("8:1", "/x", "/data/a/b/file", "ext4")]);
    assert_eq!(line(&tree.look().tops), "data(a(b(file) c/) a b/ disk/ empty- l> one) etc/ usr/");
    // A mount point of the root itself has nothing below.
    tree.mounts(&[("8:2", "/", "/data", "ext4"), ("0:3", "/", "/run/x", "tmpfs"), ("0:4", "/", "/tmp", "tmpfs")]);
    assert_eq!(line(&tree.look().tops), "data/ etc/ usr/");
    tree.mounts(&[("8:2", "/", "/data/a\\040b", "ext4")]);
    assert_eq!(line(&tree.look().tops), "data(a/ a b/ disk/ empty- l> one) etc/ usr/");
}

#[test]
fn a_pseudo_file_system_is_an_empty_directory_wherever_it_is() {
    let tree = Tree::new();
    tree.file("/srv/nfs/rpc/x", "").file("/srv/ns", "").file("/auto/x/y", "").file("/chroot/proc/1/x", "");
    tree.mounts(&[
        ("0:1", "/", "/srv/nfs/rpc", "rpc_pipefs"),
        ("0:2", "net:[1]", "/srv/ns", "nsfs"),
        ("0:3", "/", "/auto", "autofs"),
        ("0:5", "/", "/auto/x", "nfs4"),
        ("0:4", "/", "/chroot/proc", "proc"),
    ]);
    assert_eq!(line(&tree.look().tops), "auto- chroot(proc-) etc/ srv(nfs(rpc-) ns) usr/");
}

#[test]
fn a_mount_in_something_hidden_is_in_the_way_of_what_is_above_only() {
    let tree = Tree::new();
    tree.file("/var/lib/docker/overlay2/a/merged/x", "").file("/var/lib/other/x", "").file("/var/log/x", "");
    tree.mounts(&[("0:9", "/", "/var/lib/docker/overlay2/a/merged", "overlay")]);
    let host = tree.look();
    assert_eq!(line(&host.tops), "etc/ usr/ var(lib(docker- other/) log/)");
    assert_eq!(host.hidden.iter().map(show).collect::<Vec<_>>(), ["/var/lib/docker/"]);
}

#[test]
fn what_is_too_large_or_too_deep_is_shown_read_only() {
    let tree = Tree::new();
    // The deep one comes first by name, but what is nearer to the root is taken apart before it.
    for number in 0..tops::ENTRIES_MAX {
        tree.file(&format!("/a/deep/{number}"), "");
    }
    tree.file("/a/deep/m/x", "").file("/b/1/2/3/4/5/6/7/x", "").file("/b/1/2/3/4/5/x", "");
    tree.mounts(&[("8:2", "/", "/a/deep/m", "ext4"), ("8:2", "/", "/b/1/2/3/4/5/6/7", "ext4")]);
    assert_eq!(line(&tree.look().tops), "a(deep!) b(1(2(3(4(5(6! x)))))) etc/ usr/");
    tree.mounts(&[("8:2", "/", "/b/1/2/3/4/5/6", "ext4")]);
    assert_eq!(line(&tree.look().tops), "a/ b(1(2(3(4(5(6/ x)))))) etc/ usr/");
}

#[test]
fn without_a_table_of_mounts_nothing_is_known() {
    let tree = Tree::new();
    fs::remove_file(tree.at("/proc/self/mountinfo")).unwrap();
    let error = look_below(&Root::new(&tree.0).unwrap(), &Question::default()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
    assert!(error.to_string().starts_with("reading /proc/self/mountinfo: "), "{error}");
}

// ---- what is hidden ---------------------------------------------------------------------------

#[test]
fn known_places_are_hidden_by_their_real_paths() {
    let tree = Tree::new();
    tree.file("/etc/shadow", "").file("/etc/ssh/ssh_host_rsa_key", "").file("/etc/ssh/ssh_host_rsa_key.pub", "");
    tree.file("/var/spool/cron/x", "").link("/var/spool/mail", "/var/mail").directory("/var/mail");
    tree.directory("/data/docker").link("/var/lib/docker", "/data/docker").link("/var/run", "/run");
    tree.directory("/var/tmp").directory("/etc/ssl/private").directory("/etc/ssl/certs");
    assert_eq!(
        tree.hidden(&Question::default()),
        [
            "/data/docker/",
            "/etc/shadow",
            "/etc/ssh/ssh_host_rsa_key",
            "/etc/ssl/private/",
            "/var/mail/",
            "/var/spool/cron/",
            "/var/tmp/"
        ]
    );
    fs::remove_file(tree.at("/var/run")).unwrap();
    tree.directory("/var/run/x");
    assert!(tree.look().hidden.iter().any(|hidden| hidden.path == Path::new("/var/run")));
}

#[test]
fn homes_are_hidden_wherever_they_are_unless_the_system_is_there() {
    let tree = Tree::new();
    tree.directory("/srv/people/v").directory("/srv/service").directory("/data/me").directory("/export/x");
    // What only a link in /home tells, and a place of the sandbox's own that is a link as a whole.
    tree.link("/home/x", "/export/x").link("/home/me", "/data/me").directory("/var/roothome");
    fs::remove_dir(tree.at("/root")).unwrap();
    tree.link("/root", "/var/roothome");
    let homes = |homes: &[&str]| Question { homes: homes.iter().map(PathBuf::from).collect(), ..Question::default() };
    let always = ["/data/me/", "/export/x/", "/srv/people/v/", "/var/roothome/"];
    assert_eq!(tree.hidden(&homes(&[])), always);
    assert_eq!(tree.hidden(&homes(&["/", "/usr", "/etc", "/usr/bin", "/home/me", "/no/such", "relative"])), always);
    let mine = ["/data/", "/export/x/", "/srv/people/v/", "/var/roothome/"];
    assert_eq!(tree.hidden(&homes(&["/data"])), mine);
    let tops = tree.ask(&homes(&["/data"])).tops;
    assert_eq!(line(&tops), "data- etc/ export/ srv/ usr/ var/");
}

#[test]
fn an_automounter_is_not_woken() {
    let tree = Tree::new();
    tree.directory("/auto/me").directory("/data/x").link("/home/x", "/data/x");
    tree.mounts(&[("0:1", "/", "/auto", "autofs"), ("0:1", "/", "/home", "autofs")]);
    let asked = Question { homes: vec!["/auto/me".into(), "/home/x".into()], ..Question::default() };
    assert_eq!(tree.hidden(&asked), [""; 0]);
}

#[test]
fn own_directories_and_sockets_are_hidden() {
    let tree = Tree::new();
    tree.directory("/data/state").directory("/data/run-1").directory("/run/own").file("/srv/forged", "");
    let _sockets = ["/srv/a b", "/srv/agent", "/run/s"].map(|path| UnixListener::bind(tree.at(path)).unwrap());
    let line = |path: &str| format!("00000000f9200707: 00000002 00000000 00010000 0001 01 51 {path}\n");
    let table: String = ["/srv/a b", "/srv/gone", "/srv/forged", "/run/s", "@/srv/agent"].map(line).concat();
    tree.file("/proc/net/unix", &table);
    let asked = Question {
        own: ["/data/state", "/run/own", "/data/later"].map(PathBuf::from).into(),
        sockets: ["/srv/agent", "/data/run-1", "/usr"].map(PathBuf::from).into(),
        ..Question::default()
    };
    assert_eq!(tree.hidden(&asked), ["/data/run-1/", "/data/state/", "/srv/a b", "/srv/agent"]);
}

#[test]
fn the_same_files_under_another_path_are_hidden_too() {
    let tree = Tree::new();
    tree.file("/etc/shadow", "").file("/mnt/all/etc/shadow", "").directory("/mnt/all/home").file("/mnt/all/usr/x", "");
    tree.directory("/data/me").directory("/home/me");
    tree.mounts(&[
        ("8:1", "/", "/mnt/all", "ext4"),
        ("8:2", "/me", "/home/me", "ext4"),
        ("8:2", "/", "/data", "ext4"),
        ("8:3", "/", "/mnt/none", "ext4"),
    ]);
    let asked = Question { homes: vec!["/home/me".into()], ..Question::default() };
    assert_eq!(tree.hidden(&asked), ["/data/me/", "/etc/shadow", "/mnt/all/etc/shadow", "/mnt/all/home/"]);
}

#[test]
fn from_user_0_is_hidden_what_others_cannot_read() {
    let tree = Tree::new();
    for (path, mode) in [
        ("/etc/a/b/c/d/e/secret", 0o640),
        ("/etc/open", 0o604),
        ("/etc/group", 0o600),
        ("/etc/ld.so.conf", 0o600),
        ("/var/lib/x/y", 0o600),
        ("/var/lib/x/z/too deep", 0o600),
        ("/usr/share/secret", 0o600),
        ("/usr/local/etc/secret", 0o600),
        ("/boot/vmlinuz", 0o600),
        ("/boot/grub/cfg", 0o600),
        ("/data/one/two", 0o600),
        ("/data/one/more/three", 0o600),
        ("/swap", 0o600),
        ("/home/x", 0o600),
        ("/opt/closed/x", 0o600),
        ("/opt/blind/x", 0o644),
        ("/etc/ssl/certs/x", 0o644),
    ] {
        tree.file(path, "").mode(path, mode);
    }
    tree.mode("/opt/closed", 0o700).mode("/opt/blind", 0o754).mode("/etc/ssl/certs", 0o700).mode("/var", 0o750);
    tree.directory("/lost+found").mode("/lost+found", 0o700).link("/etc/link", "/usr/share/secret");
    assert_eq!(
        tree.hidden_from_root(),
        [
            "/boot/vmlinuz",
            "/data/one/two",
            "/etc/a/b/c/d/e/secret",
            "/lost+found/",
            "/opt/blind/",
            "/opt/closed/",
            "/swap",
            "/usr/local/etc/secret",
            "/var/lib/x/y"
        ]
    );
    assert_eq!(tree.hidden(&Question::default()), [""; 0]);
}

#[test]
fn from_user_0_a_crowd_is_hidden_with_its_directory_and_never_a_top() {
    let tree = Tree::new();
    for number in 0..=hidden::CROWD {
        for directory in ["/etc", "/etc/many", "/data", "/data/many"] {
            let path = format!("{directory}/{number:03}");
            tree.file(&path, "").mode(&path, 0o600);
        }
    }
    tree.file("/etc/many/below/secret", "").mode("/etc/many/below/secret", 0o600);
    let hidden = tree.hidden_from_root();
    assert_eq!(hidden.len(), 2 * (hidden::CROWD + 1) + 2, "{hidden:?}");
    for wanted in ["/data/000", "/data/many/", "/etc/000", "/etc/many/"] {
        assert!(hidden.iter().any(|path| path == wanted), "{wanted} in {hidden:?}");
    }
}

#[test]
fn from_user_0_what_is_far_away_is_not_searched() {
    let tree = Tree::new();
    for path in ["/net/x/secret", "/far/x/secret", "/near/x/secret"] {
        tree.file(path, "").mode(path, 0o600);
    }
    tree.mounts(&[("0:1", "/", "/net", "autofs"), ("0:2", "/", "/far/x", "nfs4"), ("8:2", "/", "/near/x", "xfs")]);
    assert_eq!(tree.hidden_from_root(), ["/near/x/secret"]);
}

// ---- names and devices ------------------------------------------------------------------------

#[test]
fn the_resolver_is_told_if_its_place_is_not_shown() {
    let tree = Tree::new();
    assert_eq!(tree.look().resolver, None);
    for (to, wanted) in [
        ("/run/resolve/stub.conf", true),
        ("/usr/lib/resolv.conf", false),
        // A directory that is hidden.
        ("/var/run/resolv.conf", true),
    ] {
        tree.file(to, "");
        fs::remove_file(tree.at("/etc/resolv.conf")).unwrap();
        tree.link("/etc/resolv.conf", to);
        assert_eq!(tree.look().resolver, wanted.then(|| to.into()), "{to}");
    }
    fs::remove_file(tree.at("/var/run/resolv.conf")).unwrap();
    assert_eq!(tree.look().resolver, None, "a link that leads nowhere");
    tree.directory("/var/run/resolv.conf");
    assert_eq!(tree.look().resolver, None, "a directory");
}

#[test]
fn devices_are_those_that_are_devices() {
    let tree = Tree::new();
    tree.file("/dev/null", "").directory("/dev/full");
    symlink("/dev/zero", tree.at("/dev/zero")).unwrap();
    assert_eq!(tree.look().devices, ["zero"]);
}

#[test]
fn what_of_proc_could_be_written_is_found_whatever_the_kernel_calls_it() {
    let tree = Tree::new();
    tree.file("/proc/1/mem", "").directory("/proc/new").directory("/proc/pressure").file("/proc/switch", "");
    tree.file("/proc/version", "");
    tree.link("/proc/thread-self", "1/task/1");
    let mode = |path, mode| fs::set_permissions(tree.at(path), fs::Permissions::from_mode(mode)).unwrap();
    mode("/proc/switch", 0o200);
    mode("/proc/version", 0o444);
    let writable = tree.look().writable;
    for (name, expected) in [("new", 1), ("switch", 1), ("version", 0), ("1", 0), ("pressure", 0), ("thread-self", 0)] {
        assert_eq!(writable.iter().filter(|found| *found == name).count(), expected, "{name}: {writable:?}");
    }
}

// ---- this machine -----------------------------------------------------------------------------

#[test]
fn this_machine_is_understood() {
    for search in [true, false] {
        let host = look(&Question { search, ..Question::default() }).unwrap();
        assert!(host.tops.is_sorted_by(|a, b| a.name < b.name), "{:?}", host.tops);
        assert!(host.tops.iter().any(|top| top.name == "usr" && top.kind != Kind::Empty), "{:?}", host.tops);
        assert!(host.devices.contains(&"null"));
        for pair in host.hidden.windows(2) {
            assert!(pair[0].path < pair[1].path && !pair[1].path.starts_with(&pair[0].path), "{pair:?}");
        }
        for hidden in host.hidden {
            assert!(is_shown(&hidden.path) && !needed::is_needed(&hidden.path), "{hidden:?}");
        }
    }
}
