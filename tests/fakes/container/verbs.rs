//! The verbs and their options, exactly as the facts page lists them, with the release each came with.
//!
//! An option is written `-s/--long=` (`=`: it takes a value), then `@` and the first release that has it, then `!` and
//! the first that does not have it any more.

use crate::version::Version;

/// A verb.
pub struct Verb {
    /// What it is called, a noun before it if there is one.
    pub path: &'static str,
    /// The last word's other name.
    pub alias: &'static str,
    /// What stands behind it in the usage line.
    pub usage: &'static str,
    /// Groups of options.
    pub options: &'static [&'static [&'static str]],
    /// The names of the arguments it must have; a `*` in front: one or more; a `?`: any number.
    pub arguments: &'static [&'static str],
    /// After how many arguments everything is the command's own.
    pub passes: Option<usize>,
    /// The first release that has it.
    pub since: Version,
}

/// The process options.
const PROCESS: &[&str] = &[
    "-e/--env=",
    "--env-file=",
    "-u/--user=",
    "--uid=",
    "--gid=",
    "-i/--interactive",
    "-t/--tty",
    "-w/--workdir/--cwd=",
    "--ulimit=@0.9.0",
];

const RESOURCES: &[&str] = &["-c/--cpus=", "-m/--memory="];

const MANAGEMENT: &[&str] = &[
    "-a/--arch=",
    "--cap-add=@0.12.0",
    "--cap-drop=@0.12.0",
    "--cidfile=",
    "-d/--detach",
    "--dns=",
    "--dns-domain=",
    "--dns-option=",
    "--dns-search=",
    "--no-dns",
    "--entrypoint=",
    "--init@0.10.0",
    "--init-image=@0.10.0",
    "-k/--kernel=",
    "--kernel-arg=@1.2.0",
    "-l/--label=",
    "--masked-path=@1.2.1",
    "--read-only-path=@1.2.1",
    "--mount=",
    "--name=",
    "--network=",
    "--os=",
    "--platform=",
    "-p/--publish=",
    "--publish-socket=",
    "--read-only@0.8.0",
    "--rm/--remove",
    "--rosetta",
    "--runtime=@0.10.0",
    "--ssh",
    "--shm-size=@1.0.0",
    "--tmpfs=",
    "--virtualization",
    "-v/--volume=",
];

const FETCH: &[&str] = &["--scheme=", "--max-concurrent-downloads="];
const PROGRESS: &[&str] = &["--progress="];
const PLATFORM: &[&str] = &["-a/--arch=", "--os=", "--platform="];
const FORMAT: &[&str] = &["--format="];
const QUIET: &[&str] = &["-q/--quiet"];
const ALL: &[&str] = &["-a/--all"];
const PREFIX: &[&str] = &["-p/--prefix="];

/// What every verb has.
pub const GLOBAL: &[&str] = &["--debug", "-h/--help"];

const V: Version = Version(0, 0, 0);
const IMAGE_COMMAND: &str = "[<options>] <image> [<arguments> ...]";
const IDS: &str = "[<options>] [<container-ids> ...]";

const fn verb(
    path: &'static str,
    alias: &'static str,
    usage: &'static str,
    arguments: &'static [&'static str],
) -> Verb {
    Verb { path, alias, usage, options: &[], arguments, passes: None, since: V }
}

/// All verbs.
pub const VERBS: &[Verb] = &[
    Verb {
        options: &[PROCESS, RESOURCES, MANAGEMENT, FETCH, PROGRESS],
        passes: Some(1),
        ..verb("run", "", IMAGE_COMMAND, &["image"])
    },
    Verb {
        options: &[PROCESS, RESOURCES, MANAGEMENT, FETCH],
        passes: Some(1),
        ..verb("create", "", IMAGE_COMMAND, &["image"])
    },
    Verb {
        options: &[&["-a/--attach", "-i/--interactive"]],
        ..verb("start", "", "[--attach] [--interactive] [--debug] <container-id>", &["container-id"])
    },
    Verb { options: &[ALL, &["-s/--signal=", "-t/--time="]], ..verb("stop", "", IDS, &["?container-ids"]) },
    Verb { options: &[ALL, &["-s/--signal="]], ..verb("kill", "", IDS, &["?container-ids"]) },
    Verb { options: &[ALL, &["-f/--force"]], ..verb("delete", "rm", IDS, &["?container-ids"]) },
    Verb {
        options: &[ALL, FORMAT, QUIET],
        ..verb("list", "ls", "[--all] [--format <format>] [--quiet] [--debug]", &[])
    },
    verb("inspect", "", "[--debug] <container-ids> ...", &["*container-ids"]),
    Verb {
        options: &[&["--boot", "-f/--follow", "-n="]],
        ..verb("logs", "", "[--boot] [--follow] [-n <n>] [--debug] <container-id>", &["container-id"])
    },
    Verb {
        options: &[PROCESS, &["-d/--detach@0.7.0"]],
        passes: Some(2),
        ..verb("exec", "", "[<options>] <container-id> <arguments> ...", &["container-id", "arguments"])
    },
    Verb {
        options: &[&["--format=", "--no-stream"]],
        since: Version(0, 7, 0),
        ..verb("stats", "", "[--format <format>] [--no-stream] [<containers> ...]", &["?containers"])
    },
    Verb {
        options: &[&["-o/--output="]],
        since: Version(0, 10, 0),
        ..verb("export", "", "[--output <output>] <id>", &["id"])
    },
    Verb { since: Version(1, 0, 0), ..verb("copy", "cp", "<source> <destination>", &["source", "destination"]) },
    Verb { since: Version(0, 9, 0), ..verb("prune", "", "[--debug]", &[]) },
    Verb { since: Version(1, 4, 1), ..verb("clean", "", "[--debug]", &[]) },
    Verb {
        options: &[&[
            "-a/--arch=",
            "--build-arg=",
            "-c/--cpus=",
            "--dns=",
            "--dns-domain=",
            "--dns-option=",
            "--dns-search=",
            "-f/--file=",
            "-l/--label=",
            "-m/--memory=",
            "--no-cache",
            "-o/--output=",
            "--os=",
            "--platform=",
            "--progress=",
            "--pull",
            "-q/--quiet",
            "--secret=",
            "--ssh=@1.2.1",
            "-t/--tag=",
            "--target=",
            "--vsock-port=",
        ]],
        ..verb("build", "", "[<options>] [<context-dir>]", &["?context-dir"])
    },
    Verb { options: &[RESOURCES], ..verb("builder start", "", "[--cpus <cpus>] [--memory <memory>]", &[]) },
    Verb { options: &[FORMAT, QUIET], ..verb("builder status", "", "[--format <format>]", &[]) },
    verb("builder stop", "", "", &[]),
    Verb { options: &[&["-f/--force"]], ..verb("builder delete", "rm", "[--force]", &[]) },
    Verb { options: &[FETCH, PROGRESS, PLATFORM], ..verb("image pull", "", "[<options>] <reference>", &["reference"]) },
    Verb {
        options: &[FORMAT, QUIET, &["-v/--verbose"]],
        ..verb("image list", "ls", "[--quiet] [--verbose] [--format <format>]", &[])
    },
    verb("image inspect", "", "<images> ...", &["*images"]),
    Verb { options: &[ALL, &["-f/--force"]], ..verb("image delete", "rm", "[--all] [<images> ...]", &["?images"]) },
    verb("image tag", "", "<source> <target>", &["source", "target"]),
    Verb { options: &[ALL], ..verb("image prune", "", "[--all]", &[]) },
    Verb {
        options: &[&["--internal@0.9.0", "--label=", "--option=", "--plugin=", "--subnet=", "--subnet-v6="]],
        ..verb("network create", "", "[<options>] <name>", &["name"])
    },
    Verb { options: &[ALL], ..verb("network delete", "rm", "[--all] [<network-names> ...]", &["?network-names"]) },
    Verb { options: &[FORMAT, QUIET], ..verb("network list", "ls", "[--format <format>] [--quiet]", &[]) },
    verb("network inspect", "", "<networks> ...", &["*networks"]),
    Verb { since: Version(0, 9, 0), ..verb("network prune", "", "", &[]) },
    Verb { options: &[&["--label=", "--opt=", "-s="]], ..verb("volume create", "", "[<options>] <name>", &["name"]) },
    Verb { options: &[ALL], ..verb("volume delete", "rm", "[--all] [<names> ...]", &["?names"]) },
    Verb { options: &[FORMAT, QUIET], ..verb("volume list", "ls", "[--format <format>] [--quiet]", &[]) },
    verb("volume inspect", "", "<names> ...", &["*names"]),
    Verb { since: Version(0, 9, 0), ..verb("volume prune", "", "", &[]) },
    Verb {
        options: &[&[
            "-a/--app-root=",
            "--install-root=",
            "--log-root=",
            "--enable-kernel-install",
            "--disable-kernel-install",
            "--timeout=",
        ]],
        ..verb("system start", "", "[<options>]", &[])
    },
    Verb { options: &[PREFIX], ..verb("system stop", "", "[--prefix <prefix>]", &[]) },
    Verb {
        options: &[PREFIX, &["--format=@0.10.0"]],
        ..verb("system status", "", "[--prefix <prefix>] [--format <format>]", &[])
    },
    Verb { options: &[FORMAT], since: Version(0, 8, 0), ..verb("system version", "", "[--format <format>]", &[]) },
    Verb { options: &[&["-f/--follow", "--last="]], ..verb("system logs", "", "[--follow] [--last <last>]", &[]) },
    Verb { options: &[FORMAT], ..verb("system df", "", "[--format <format>]", &[]) },
];

/// The nouns that have verbs, with their other names.
pub const NOUNS: &[(&str, &str)] =
    &[("image", "i"), ("network", "n"), ("volume", "v"), ("system", "s"), ("builder", "builder")];

/// The usage line of a verb.
pub fn usage(path: &str) -> &'static str {
    VERBS.iter().find(|verb| verb.path == path).map_or("[--debug] <subcommand>", |verb| verb.usage)
}

/// Finds the verb that arguments begin with, and what follows it.
pub fn find(args: &[String], version: Version) -> Option<(&'static Verb, &[String])> {
    let (first, rest) = args.split_first()?;
    let has = |verb: &&Verb| version >= verb.since;
    let noun = NOUNS.iter().find(|(name, alias)| first == name || first == alias);
    if let Some((noun, _)) = noun {
        let (word, rest) = rest.split_first()?;
        let named = |verb: &&Verb| {
            verb.path.split_once(' ').is_some_and(|(of, name)| of == *noun && (name == word || verb.alias == word))
        };
        return VERBS.iter().filter(has).find(named).map(|verb| (verb, rest));
    }
    let named = |verb: &&Verb| !verb.path.contains(' ') && (verb.path == first || (verb.alias == first));
    VERBS.iter().filter(has).find(named).map(|verb| (verb, rest))
}
