//! What the TAB key does in real shells, at a real terminal, with the completion files as they are installed.

use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::process::Command;

use crate::manual::pages::read;
use crate::support::terminal::Terminal;
use crate::support::{Engine, Home, code, left_out, on_native, stdout};

/// Shells, with what makes each of them read its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shell {
    /// With the package bash-completion, which most have.
    Bash,
    /// Without it.
    BareBash,
    Zsh,
    Fish,
}

/// Where that package is.
const BASH_COMPLETION: &str = "/usr/share/bash-completion/bash_completion";

impl Shell {
    fn program(self) -> &'static str {
        match self {
            Shell::Bash | Shell::BareBash => "bash",
            Shell::Zsh => "zsh",
            Shell::Fish => "fish",
        }
    }

    fn is_there(self) -> bool {
        let missing = |what: &str| {
            left_out(&format!("{what} is not installed"));
            false
        };
        if Command::new(self.program()).arg("--version").output().is_err() {
            return missing(self.program());
        }
        self != Shell::Bash || PathBuf::from(BASH_COMPLETION).exists() || missing("bash-completion")
    }

    /// The shell at a terminal, in a home of somebody who has installed fosse.
    fn open(self, home: &Home) -> Terminal {
        let file = |name: &str| format!("{}/man/completions/{name}", env!("CARGO_MANIFEST_DIR"));
        let base = home.cmd([""; 0]);
        let mut command = Command::new(self.program());
        match self {
            Shell::Bash | Shell::BareBash => {
                let package = if self == Shell::Bash { format!(". {BASH_COMPLETION}") } else { String::new() };
                let text = format!("{package}\n. {}\nPS1='prompt> '\nHISTFILE=\n", file("fosse.bash"));
                command.arg("--rcfile").arg(home.write("bashrc", text)).arg("-i");
            }
            Shell::Zsh => {
                let dir = home.dir.join("zsh");
                home.write("zsh/functions/_fosse", read("man/completions/_fosse"));
                let text = "PS1='prompt> '\nfpath=($ZDOTDIR/functions $fpath)\nautoload -Uz compinit\ncompinit -u -D\n";
                home.write("zsh/.zshrc", text);
                command.env("ZDOTDIR", dir).args(["-d", "-i"]);
            }
            Shell::Fish => {
                home.write("fish/fish/completions/fosse.fish", read("man/completions/fosse.fish"));
                let text = "function fish_prompt; echo 'prompt> '; end\nset -g fish_greeting\n";
                home.write("fish/fish/config.fish", text);
                command.env("XDG_CONFIG_HOME", home.dir.join("fish")).env("XDG_DATA_HOME", home.dir.join("fish-data"));
                command.arg("-i");
            }
        }
        for (name, value) in base.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        // Else fish makes a directory of that user's below /tmp, and leaves it there.
        command.env_remove("USER");
        let path = std::env::var_os("PATH").unwrap_or_default();
        let own = std::iter::once(home.dir.join("tools")).chain(std::env::split_paths(&path));
        command.env("PATH", std::env::join_paths(own).unwrap()).current_dir(home.workspace());
        let mut terminal = Terminal::open(home, &command);
        terminal.wait_for("prompt> ");
        terminal
    }
}

/// Runs the body with each shell, and with runs to be named: `web` lives, `web-old` has ended.
fn in_each_shell(body: impl Fn(Shell, &Home, &mut Terminal)) {
    on_native(|home| {
        std::fs::create_dir_all(home.dir.join("tools")).unwrap();
        std::os::unix::fs::symlink(home.program(), home.dir.join("tools/fosse")).unwrap();
        home.script("tools/uniqueprogram", "exit 0");
        home.write("ws/uniquefile", "");
        home.write("ws/uniquedir/below", "");
        assert_eq!(code(&home.run(Engine::Native, &["-n", "web-old", "--label", "team=a"], &["false"])), 1);
        let _live = home.start(Engine::Native, &["-n", "web"], "exec sleep 1000");
        for shell in [Shell::Bash, Shell::BareBash, Shell::Zsh, Shell::Fish] {
            if shell.is_there() {
                let mut terminal = shell.open(home);
                body(shell, home, &mut terminal);
                // Without that directory fish complains, once.
                let complains = |line: &&str| line.contains("Runtime path") || line.contains("Try deleting");
                let shown = terminal.text().lines().filter(|line| !complains(line)).collect::<Vec<_>>().join("\n");
                for trouble in ["not found", "error", "Unknown", "bad ", "_arguments", "no such"] {
                    assert!(!shown.contains(trouble), "{shell:?}: {shown}");
                }
            }
        }
        assert_eq!(code(&home.fosse(["stop", "--grace", "0", "web"])), 0);
    });
}

#[test]
fn tab_completes_verbs_options_values_and_runs() {
    in_each_shell(|shell, home, terminal| {
        let id = stdout(&home.fosse(["list", "-q", "--filter", "name=web-old"])).trim().to_owned();
        let short = format!("fosse wait {}", &id[..8]);
        for (line, last) in [
            ("fosse insp", "inspect"),
            ("fosse daemon rest", "restart"),
            ("fosse help dest", "destroy"),
            ("fosse run --runti", "--runtime"),
            ("fosse run --runtime nat", "native"),
            ("fosse run --runtime=nat", "--runtime=native"),
            ("fosse run --network priv", "private"),
            ("fosse run --user cal", "caller"),
            ("fosse list --filter state=fai", "state=failed"),
            ("fosse list --filter=state=fai", "--filter=state=failed"),
            ("fosse list --filter label=t", "label=team=a"),
            ("fosse logs --stream stdo", "stdout"),
            ("fosse clean netw", "networks"),
            // A name that begins another one's is complete for those who take live runs only.
            ("fosse exec we", "web"),
            ("fosse stop -q we", "web"),
            ("fosse logs web-", "web-old"),
            ("fosse inspect web web-", "web-old"),
            ("fosse rm we", "web-old"),
            (&short, &id),
            ("fosse run -m uniquef", "uniquefile"),
            ("fosse run --id-file=uniquef", "--id-file=uniquefile"),
            // There is nothing to be offered, and nothing goes wrong.
            ("fosse run --memory ", "--memory"),
            ("fosse init --listen ", "--listen"),
            ("fosse run --escape no", "none"),
        ] {
            completes(shell, terminal, line, last);
        }
        completes(shell, terminal, "fosse run -w uniq", if shell == Shell::Zsh { "uniquedir" } else { "uniquedir/" });
    });
}

#[test]
fn after_the_command_the_shell_completes_what_it_does_for_that_command() {
    in_each_shell(|shell, _home, terminal| {
        for (line, last) in [
            ("fosse run uniqueprog", "uniqueprogram"),
            ("fosse run -n x -- uniqueprog", "uniqueprogram"),
            ("fosse exec web uniqueprog", "uniqueprogram"),
            ("fosse run cat uniquef", "uniquefile"),
            ("fosse exec -i web -- cat uniquef", "uniquefile"),
            ("fosse init --subreaper -- cat uniquef", "uniquefile"),
            // No option of fosse's.
            ("fosse run cat --runti", "--runti"),
            ("fosse run -- cat --runti", "--runti"),
            ("fosse exec web -- cat --workd", "--workd"),
        ] {
            completes(shell, terminal, line, last);
        }
    });
}

#[test]
fn tab_lists_all_that_can_come() {
    in_each_shell(|_, _, terminal| {
        terminal.type_in("fosse run --network \t\t");
        for word in ["none", "open", "private"] {
            terminal.wait_for(word);
        }
    });
}

/// Types a line and TAB, and has the shell print the words of what it then is.
fn completes(shell: Shell, terminal: &mut Terminal, line: &str, last: &str) {
    terminal.type_in(format!("{line}\t\u{1}printf '<%s>;' \r"));
    terminal.wait_for("<fosse>;");
    terminal.wait_for("prompt> ");
    let shown = terminal.text();
    let printed = shown.rsplit("<fosse>;").next().unwrap();
    let words = printed.split(";").filter_map(|word| word.trim().strip_prefix('<')?.strip_suffix('>'));
    assert_eq!(words.last(), Some(last), "{shell:?} {line:?}: {shown:?}");
}

/// Where README has the files installed, shells find them without anything set up, in a login shell, too.
#[test]
fn shells_look_where_the_readme_installs() {
    let readme = read("README.md");
    let home = Home::without_engines();
    let target = |file: &str| {
        let line =
            readme.lines().find(|line| line.starts_with("install ") && line.contains(&format!("completions/{file} ")));
        let target = line.unwrap_or_else(|| panic!("README.md does not install {file}")).rsplit(' ').next().unwrap();
        PathBuf::from(target).parent().unwrap().to_str().unwrap().to_owned()
    };
    for (shell, script, file) in [
        (Shell::Zsh, "print -l $fpath", "_fosse"),
        (Shell::Fish, "string join \\n $fish_complete_path", "fosse.fish"),
        (
            Shell::Bash,
            "echo /usr/local/share/bash-completion/completions; echo /usr/share/bash-completion/completions",
            "fosse.bash",
        ),
    ] {
        if !shell.is_there() {
            continue;
        }
        let mut command = Command::new(shell.program());
        let path = std::env::var_os("PATH").unwrap();
        let run = home.dir.join("shell-run");
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&run).unwrap();
        command
            .env_clear()
            .env("XDG_RUNTIME_DIR", run)
            .env("HOME", &home.dir)
            .env("PATH", path)
            .args(["-l", "-c", script]);
        let dirs = stdout(&command.output().unwrap());
        assert!(dirs.lines().any(|dir| dir == target(file)), "{file} in {}: {dirs}", target(file));
    }
}
