//! Where runs take place in tests: the built-in sandbox and real engines, what carries a run there, and whose it is.

use std::ffi::OsStr;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use super::{Home, IMAGE, left_out, part};

/// Where a run can take place: a real engine, or the built-in sandbox, which is no engine and keeps no objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    Native,
    Docker,
    Podman,
    /// Apple's, of a release: the emulator of its tool.
    Apple(&'static str),
}

/// The releases of Apple's tool that differ in what they print and do.
pub const RELEASES: [Engine; 5] = [
    Engine::Apple("0.9.0"),
    Engine::Apple("0.12.0"),
    Engine::Apple("1.0.0"),
    Engine::Apple("1.2.2"),
    Engine::Apple("1.4.1"),
];

impl Engine {
    #[cfg(target_os = "linux")]
    pub const ALL: &'static [Engine] = &[Engine::Native, Engine::Docker, Engine::Podman];
    #[cfg(not(target_os = "linux"))]
    pub const ALL: &'static [Engine] = &[Engine::Docker, Engine::Podman];

    pub fn name(self) -> &'static str {
        match self {
            Engine::Native => "native",
            Engine::Docker => "docker",
            Engine::Podman => "podman",
            Engine::Apple(_) => "apple",
        }
    }

    pub fn is_apple(self) -> bool {
        matches!(self, Engine::Apple(_))
    }

    /// The options with which `fosse run` runs a command here. The built-in sandbox has the host's programs.
    pub fn options(self) -> &'static [&'static str] {
        match self {
            Engine::Native => &["--runtime", "native"],
            Engine::Docker => &["--runtime", "docker", "--image", IMAGE],
            Engine::Podman => &["--runtime", "podman", "--image", IMAGE],
            Engine::Apple(_) => &["--runtime", "apple", "--image", IMAGE],
        }
    }

    pub fn is_native(self) -> bool {
        self == Engine::Native
    }

    /// Whether it is there; a test that needs it is left out, or fails in strict mode.
    pub fn available(self) -> bool {
        static FOUND: [OnceLock<bool>; 4] = [const { OnceLock::new() }; 4];
        let number = match self {
            Engine::Native => 0,
            Engine::Docker => 1,
            Engine::Podman => 2,
            Engine::Apple(_) => 3,
        };
        let found = *FOUND[number].get_or_init(|| self.probe());
        if !found {
            left_out(&match self {
                Engine::Native => "a native sandbox cannot be made here".into(),
                Engine::Apple(_) => {
                    "the emulator of Apple's tool can run no container here: it needs root and a static busybox".into()
                }
                Engine::Docker | Engine::Podman => {
                    format!("{} is not available, or has no image {IMAGE}", self.name())
                }
            });
        }
        found
    }

    fn probe(self) -> bool {
        let variable = format!("FOSSE_TEST_{}", self.name().to_uppercase());
        // What is found out counts for all tests: one answer that is late decides nothing.
        let works = |attempt: &dyn Fn() -> Output| (0..3).any(|_| attempt().status.success());
        match (std::env::var(variable).as_deref(), self) {
            (Ok("0"), _) => false,
            (Ok(_), _) => true,
            (Err(_), Engine::Apple(_)) if !super::apple::has_images() => false,
            (Err(_), Engine::Apple(_)) => works(&|| Home::on(self, Carrier::Init).run(self, &[], &["true"])),
            (Err(_), Engine::Native) => works(&|| Home::new().run(self, &[], &["true"])),
            (Err(_), _) => works(&|| self.call(["image", "inspect", IMAGE])),
        }
    }

    /// What carries a run here.
    fn carriers(self) -> &'static [Carrier] {
        match self {
            // There is no engine whose client could.
            Engine::Native => &[Carrier::Init],
            Engine::Docker | Engine::Podman | Engine::Apple(_) => &Carrier::BOTH,
        }
    }

    /// Calls the engine's tool. There is none of the built-in sandbox's.
    pub fn call<A: AsRef<OsStr>>(self, args: impl IntoIterator<Item = A>) -> Output {
        assert!(!self.is_native() && !self.is_apple(), "there is no tool that would be everybody's");
        match Command::new(self.name()).args(args).stdin(Stdio::null()).output() {
            Ok(output) => output,
            Err(_) => Output { status: std::process::ExitStatus::from_raw(127 << 8), stdout: vec![], stderr: vec![] },
        }
    }

    /// What the tool prints, trimmed.
    pub fn says<A: AsRef<OsStr>>(self, args: impl IntoIterator<Item = A>) -> String {
        String::from_utf8_lossy(&self.call(args).stdout).trim().to_owned()
    }
}

/// What carries a run's bytes, signals and exit code: the same promises hold on both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// fosse's own PID 1.
    Init,
    /// The engine's attached client.
    Client,
}

impl Carrier {
    pub const BOTH: [Carrier; 2] = [Carrier::Init, Carrier::Client];
}

/// Runs the body wherever runs can take place, with either carrier.
pub fn on_each_engine(body: impl Fn(Engine, &Home)) {
    for carrier in Carrier::BOTH {
        on_each_engine_with(carrier, &body);
    }
}

/// Runs the body wherever runs can take place, with one carrier.
pub fn on_each_engine_with(carrier: Carrier, body: impl Fn(Engine, &Home)) {
    on_all_of(Engine::ALL, &[carrier], &body);
    on_apple_with(carrier, body);
}

/// Runs the body on every release of Apple's tool, as the emulator has them, at once, with one carrier.
pub fn on_each_release(carrier: Carrier, body: impl Fn(Engine, &Home) + Sync) {
    if !cfg!(target_os = "linux") || !RELEASES[0].available() {
        return;
    }
    part(|| {
        std::thread::scope(|scope| {
            for release in RELEASES {
                let body = &body;
                scope.spawn(move || body(release, &Home::on(release, carrier)));
            }
        });
    });
}

/// One release of Apple's tool that most facts are known of, with a service of its own, for what needs no more.
pub fn one_release(carrier: Carrier) -> Option<(Engine, Home)> {
    let release = Engine::Apple("1.2.2");
    release.available().then(|| (release, Home::on(release, carrier)))
}

/// Runs the body on Apple's containers: on one release, another one in each test. With FOSSE_TEST_REPEAT=100 on all.
fn on_apple_with(carrier: Carrier, body: impl Fn(Engine, &Home)) {
    if !cfg!(target_os = "linux") {
        return;
    }
    let (number, releases) = match carrier {
        Carrier::Init => (test_number(), &RELEASES[..]),
        // The first one has no init of its own: then a command without a handler hears no signal but KILL.
        Carrier::Client => (test_number() + 2, &RELEASES[1..]),
    };
    let one = &releases[number % releases.len()..][..1];
    on_all_of(if super::is_full() { releases } else { one }, &[carrier], body);
}

/// A number that is always the same for the test that runs, and another one for most others.
fn test_number() -> usize {
    std::thread::current().name().unwrap_or_default().bytes().map(usize::from).sum()
}

/// Runs the body wherever fosse's own PID 1 can be reached over a socket.
pub fn on_each_channel(body: impl Fn(Engine, &Home)) {
    on_all_of(Engine::ALL, &[Carrier::Init], body);
}

/// Runs the body on each real engine, with either carrier: promises about what an engine keeps.
pub fn on_each_real_engine(body: impl Fn(Engine, &Home)) {
    on_all_of(&[Engine::Docker, Engine::Podman], &Carrier::BOTH, body);
}

/// Runs the body on each real engine, with one carrier.
pub fn on_each_real_engine_with(carrier: Carrier, body: impl Fn(Engine, &Home)) {
    on_all_of(&[Engine::Docker, Engine::Podman], &[carrier], body);
}

/// Runs the body natively, and on docker with either carrier: promises that do not depend on which engine it is.
pub fn on_native_and_docker(body: impl Fn(Engine, &Home)) {
    for carrier in Carrier::BOTH {
        on_native_and_docker_with(carrier, &body);
    }
}

/// Runs the body natively and on docker, with one carrier.
pub fn on_native_and_docker_with(carrier: Carrier, body: impl Fn(Engine, &Home)) {
    let engines: Vec<Engine> = Engine::ALL.iter().copied().filter(|engine| *engine != Engine::Podman).collect();
    on_all_of(&engines, &[carrier], body);
}

/// Runs the body natively, if that is possible here.
pub fn on_native(body: impl Fn(&Home)) {
    if cfg!(target_os = "linux") {
        on_all_of(&[Engine::Native], &[Carrier::Init], |_, home| body(home));
    }
}

fn on_all_of(engines: &[Engine], carriers: &[Carrier], body: impl Fn(Engine, &Home)) {
    for carrier in carriers {
        for engine in engines.iter().filter(|engine| engine.carriers().contains(carrier)) {
            if *engine == Engine::Podman && *carrier == Carrier::Client && engines.len() > 1 && is_spared() {
                continue;
            }
            if engine.available() {
                part(|| body(*engine, &Home::on(*engine, *carrier)));
            }
            if engine.is_native() && !is_spared() && unprivileged() {
                part(|| body(*engine, &Home::of_user(Some(USER))));
            }
        }
    }
}

/// Whether the test that runs is one of the half, always the same, that leaves out what others show enough: podman's
/// own client, which is docker's path with other words and much slower, and natively a second user. With
/// FOSSE_TEST_REPEAT=100 none is.
fn is_spared() -> bool {
    !super::is_full() && test_number() % 2 == 1
}

/// How often a check of whole runs is repeated somewhere: each takes an engine longer, which has a part of them unless
/// nothing is to be spared.
pub fn repeat_on(engine: Engine, full: usize) -> usize {
    let part = match engine {
        _ if super::is_full() => 1,
        Engine::Native => 1,
        Engine::Docker | Engine::Apple(_) => 2,
        Engine::Podman => 4,
    };
    (super::repeat(full) / part).max(2)
}

/// A user without any rights, whom nobody knows.
const USER: u32 = 54_321;

/// Whether native runs are to be tested as that user, too: where these tests are root's.
fn unprivileged() -> bool {
    static POSSIBLE: OnceLock<bool> = OnceLock::new();
    if fosse::sys::process::effective_ids().0 != 0 || std::env::var_os("FOSSE_TEST_NATIVE").is_some_and(|v| v == "0") {
        return false;
    }
    let try_it = || Home::of_user(Some(USER)).run(Engine::Native, &[], &["true"]).status.success();
    let possible = *POSSIBLE.get_or_init(try_it);
    if !possible {
        left_out("a user without rights cannot make a native sandbox here");
    }
    possible
}

/// Runs the body on docker, if it is there, with either carrier.
pub fn on_docker(body: impl Fn(&Home)) {
    for carrier in Carrier::BOTH {
        on_docker_with(carrier, &body);
    }
}

/// Runs the body on docker, if it is there, with one carrier.
pub fn on_docker_with(carrier: Carrier, body: impl Fn(&Home)) {
    if Engine::Docker.available() {
        part(|| body(&Home::on(Engine::Docker, carrier)));
    }
}
