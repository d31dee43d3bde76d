//! A docker engine of a test's own, in a network namespace of its own: it can be restarted, and its address pool be
//! used up, without anybody noticing.

use std::fs;
use std::process::{Child, Command, Stdio};

use super::{Home, IMAGE, TERM, processes, wait_until};

/// A docker engine of a test's own.
pub struct OwnEngine {
    child: Option<Child>,
    dir: std::path::PathBuf,
    /// Whether it maps the users inside to others (userns-remap).
    maps_users: bool,
}

impl OwnEngine {
    pub fn start(home: &Home) -> Option<Self> {
        OwnEngine::begin(home, false)
    }

    /// One that maps the users inside to others (userns-remap).
    pub fn start_mapping_users(home: &Home) -> Option<Self> {
        OwnEngine::begin(home, true)
    }

    fn begin(home: &Home, maps_users: bool) -> Option<Self> {
        if Command::new("dockerd").arg("--version").output().is_err() || fosse::sys::process::effective_ids().0 != 0 {
            super::left_out("an engine of its own needs dockerd and root");
            return None;
        }
        let mut engine = OwnEngine { child: None, dir: home.dir.join("own-engine"), maps_users };
        fs::create_dir(&engine.dir).unwrap();
        engine.up();
        let mut image = Command::new("docker").args(["save", IMAGE]).stdout(Stdio::piped()).spawn().unwrap();
        let load = engine.docker().arg("load").stdin(image.stdout.take().unwrap()).output().unwrap();
        image.wait().unwrap();
        assert!(load.status.success(), "{load:?}");
        Some(engine)
    }

    pub fn host(&self) -> String {
        format!("unix://{}/sock", self.dir.display())
    }

    pub fn docker(&self) -> Command {
        let mut command = Command::new("docker");
        command.env("DOCKER_HOST", self.host());
        command
    }

    pub fn up(&mut self) {
        let at = |name: &str| self.dir.join(name).display().to_string();
        let log = fs::File::create(self.dir.join("log")).unwrap();
        let args = [
            "--data-root",
            &at("data"),
            "--exec-root",
            &at("exec"),
            "--pidfile",
            &at("pid"),
            "-H",
            &self.host(),
            "--bridge=none",
            "--iptables=false",
            "--default-address-pool",
            "base=10.211.0.0/26,size=28",
        ];
        // `--bridge=none` deletes a bridge named docker0, which would be that of the engine everybody uses.
        let mut command = Command::new("unshare");
        command.args(["--net", "--mount", "--propagation", "private"]);
        if self.maps_users {
            // Seen by this dockerd alone.
            fs::write(self.dir.join("subids"), "root:200000:65536\n").unwrap();
            let script = "for file in subuid subgid; do mount --bind \"$0\" /etc/$file || exit 1; done; exec \"$@\"";
            command.args(["sh", "-c", script, &at("subids"), "dockerd", "--userns-remap=root"]);
        } else {
            command.arg("dockerd");
        }
        let child = command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        self.child = Some(child);
        wait_until("the engine answers", || {
            self.docker().arg("version").output().is_ok_and(|output| output.status.success())
        });
    }

    pub fn down(&mut self, signal: i32) {
        if let Some(mut child) = self.child.take() {
            super::kill(i32::try_from(child.id()).unwrap(), signal);
            child.wait().unwrap();
            fs::remove_file(self.dir.join("pid")).unwrap_or_default();
            // It dies of dockerd's death; the next dockerd would take one that nobody has reaped yet for a living one.
            wait_until("its containerd is gone", || self.processes("/containerd.toml").is_empty());
            fs::remove_file(self.dir.join("exec/containerd/containerd.pid")).unwrap_or_default();
        }
    }

    /// Processes whose command line names this engine's directory and `what`.
    fn processes(&self, what: &str) -> Vec<i32> {
        let dir = self.dir.display().to_string();
        let pids = fs::read_dir("/proc").unwrap().flatten();
        pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter(|pid: &i32| {
                let cmdline = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                cmdline.contains(&dir) && cmdline.contains(what)
            })
            .collect()
    }
}

impl Drop for OwnEngine {
    fn drop(&mut self) {
        if self.child.is_none() {
            return;
        }
        // Its containers first, and its containerd with it.
        let ids = self.docker().args(["ps", "-aq"]).output().map(|output| output.stdout).unwrap_or_default();
        for id in String::from_utf8_lossy(&ids).split_whitespace() {
            self.docker().args(["rm", "-f", id]).output().map(drop).unwrap_or_default();
        }
        self.down(TERM);
        for pid in self.processes("containerd-shim") {
            // An engine that was killed may have forgotten a container that lives, which would outlive everything here.
            let inside = processes::children(pid);
            for pid in inside.into_iter().map(|(pid, _)| pid).chain([pid]) {
                super::try_kill(pid, 9);
            }
        }
        let needle = self.dir.display().to_string();
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        for point in mounts.lines().filter_map(|line| line.split(' ').nth(1)).filter(|point| point.contains(&needle)) {
            Command::new("umount").args(["-l", point]).output().map(drop).unwrap_or_default();
        }
    }
}
