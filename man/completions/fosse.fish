# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_fosse_global_optspecs
    string join \n h/help V/version
end

function __fish_fosse_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_fosse_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_fosse_using_subcommand
    set -l cmd (__fish_fosse_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c fosse -n "__fish_fosse_needs_command" -s h -l help -d 'Print help'
complete -c fosse -n "__fish_fosse_needs_command" -s V -l version -d 'Print version'
complete -c fosse -n "__fish_fosse_needs_command" -f -a "run" -d 'Run a command; block until it ends; exit as it exits'
complete -c fosse -n "__fish_fosse_needs_command" -f -a "exec" -d 'Run one more command in a live run; exit as it exits'
complete -c fosse -n "__fish_fosse_needs_command" -f -a "list" -d 'List runs, newest first'
complete -c fosse -n "__fish_fosse_needs_command" -f -a "ls" -d 'List runs, newest first'
complete -c fosse -n "__fish_fosse_needs_command" -f -a "inspect" -d 'Print whole records as JSON'
complete -c fosse -n "__fish_fosse_needs_command" -f -a "logs" -d 'Print what a run wrote'
complete -c fosse -n "__fish_fosse_needs_command" -f -a "wait" -d 'Block until runs end; print each exit code; exit with the last one'
complete -c fosse -n "__fish_fosse_needs_command" -f -a "stop" -d 'End runs: a polite signal, a grace, then a kill'
complete -c fosse -n "__fish_fosse_needs_command" -f -a "destroy" -d 'Remove ended runs: record, output, engine objects'
complete -c fosse -n "__fish_fosse_needs_command" -f -a "rm" -d 'Remove ended runs: record, output, engine objects'
complete -c fosse -n "__fish_fosse_needs_command" -f -a "clean" -d 'Destroy ended runs, and remove engine objects that belong to nobody'
complete -c fosse -n "__fish_fosse_needs_command" -f -a "status" -d 'Show runtimes, live runs and disk use on one screen'
complete -c fosse -n "__fish_fosse_needs_command" -f -a "doctor" -d 'Check everything that a run needs, with a hint for each problem'
complete -c fosse -n "__fish_fosse_needs_command" -f -a "daemon" -d 'Start, end and ask the background process that cleans up after runs'
complete -c fosse -n "__fish_fosse_needs_command" -f -a "init" -d 'Be PID 1: start a command, pass signals on, reap, end as it ends'
complete -c fosse -n "__fish_fosse_using_subcommand run" -s n -l name -d 'Name of the run, unique among live ones [default: generated]' -r
complete -c fosse -n "__fish_fosse_using_subcommand run" -s w -l workspace -d 'Directory mounted read-write at /workspace [default: the current one]' -r -F
complete -c fosse -n "__fish_fosse_using_subcommand run" -l workdir -d 'Working directory inside [default: /workspace]' -r
complete -c fosse -n "__fish_fosse_using_subcommand run" -l escape -d 'Key after which k stops a terminal session\'s run: none, or ^X [default: ^/]' -r
complete -c fosse -n "__fish_fosse_using_subcommand run" -l runtime -d 'What provides the place: auto, native, docker, podman, apple [default: auto]' -r
complete -c fosse -n "__fish_fosse_using_subcommand run" -l image -d 'Image to run in; a missing one is pulled [default: none, the host\'s own programs]' -r
complete -c fosse -n "__fish_fosse_using_subcommand run" -s e -l env -d 'Set a variable inside; KEY alone copies the caller\'s' -r
complete -c fosse -n "__fish_fosse_using_subcommand run" -l env-file -d 'Read variables from a file, one KEY[=VALUE] a line' -r -F
complete -c fosse -n "__fish_fosse_using_subcommand run" -s m -l mount -d 'Make a file or directory of the host visible at a path inside' -r
complete -c fosse -n "__fish_fosse_using_subcommand run" -l user -d 'User inside: caller, image, root, UID[:GID] [default: caller; in an image without a workspace: image]' -r
complete -c fosse -n "__fish_fosse_using_subcommand run" -l memory -d 'Limit of memory, swap included' -r
complete -c fosse -n "__fish_fosse_using_subcommand run" -l cpus -d 'Limit of processors, such as 1.5' -r
complete -c fosse -n "__fish_fosse_using_subcommand run" -l pids -d 'Limit of processes and threads' -r
complete -c fosse -n "__fish_fosse_using_subcommand run" -l network -d 'What the command can reach: open, none, private' -r
complete -c fosse -n "__fish_fosse_using_subcommand run" -l timeout -d 'End the command after this time; the exit code is then 124' -r
complete -c fosse -n "__fish_fosse_using_subcommand run" -l grace -d 'Time between the polite signal and the kill [default: 10s]' -r
complete -c fosse -n "__fish_fosse_using_subcommand run" -l stop-signal -d 'Signal that asks the command to end [default: the image\'s own, else TERM]' -r
complete -c fosse -n "__fish_fosse_using_subcommand run" -l log-max -d 'Most bytes of output to record [default: 64m]' -r
complete -c fosse -n "__fish_fosse_using_subcommand run" -l label -d 'Attach a label to the record' -r
complete -c fosse -n "__fish_fosse_using_subcommand run" -l id-file -d 'Write the run\'s id to this new file before the command starts' -r -F
complete -c fosse -n "__fish_fosse_using_subcommand run" -l no-workspace -d 'Mount no workspace'
complete -c fosse -n "__fish_fosse_using_subcommand run" -s i -l interactive -d 'Give the command this program\'s stdin, and a terminal if stdin and stdout are both terminals'
complete -c fosse -n "__fish_fosse_using_subcommand run" -l allow-userns -d 'Let the command make user namespaces, in the native runtime'
complete -c fosse -n "__fish_fosse_using_subcommand run" -l keep -d 'Let an engine\'s container and network stay, stopped, until destroy or clean'
complete -c fosse -n "__fish_fosse_using_subcommand run" -l dry-run -d 'Print the plan and touch nothing'
complete -c fosse -n "__fish_fosse_using_subcommand run" -l json -d 'With --dry-run: print the plan as JSON'
complete -c fosse -n "__fish_fosse_using_subcommand run" -s q -l quiet -d 'Say nothing but errors'
complete -c fosse -n "__fish_fosse_using_subcommand run" -s v -l verbose -d 'Say when the command starts and how to see its output'
complete -c fosse -n "__fish_fosse_using_subcommand run" -s h -l help -d 'Print help'
complete -c fosse -n "__fish_fosse_using_subcommand exec" -l escape -d 'Key after which k stops the command in a terminal session: none, or ^X [default: ^/]' -r
complete -c fosse -n "__fish_fosse_using_subcommand exec" -s e -l env -d 'Set a variable for the command; KEY alone copies the caller\'s' -r
complete -c fosse -n "__fish_fosse_using_subcommand exec" -l workdir -d 'Working directory inside [default: the run\'s]' -r
complete -c fosse -n "__fish_fosse_using_subcommand exec" -l user -d 'User inside: caller, image, root, UID[:GID] [default: the run\'s]' -r
complete -c fosse -n "__fish_fosse_using_subcommand exec" -l timeout -d 'End the command after this time; the exit code is then 124' -r
complete -c fosse -n "__fish_fosse_using_subcommand exec" -s i -l interactive -d 'Give the command this program\'s stdin, and a terminal if stdin and stdout are both terminals'
complete -c fosse -n "__fish_fosse_using_subcommand exec" -s h -l help -d 'Print help'
complete -c fosse -n "__fish_fosse_using_subcommand list" -l filter -d 'Only runs with this state, name, label or runtime (label=KEY or label=KEY=VALUE)' -r
complete -c fosse -n "__fish_fosse_using_subcommand list" -l color -d 'When to use colour' -r -f -a "auto\t'On a terminal, unless NO_COLOR or TERM=dumb says otherwise'
always\t'Always'
never\t'Never'"
complete -c fosse -n "__fish_fosse_using_subcommand list" -l running -d 'Only live runs'
complete -c fosse -n "__fish_fosse_using_subcommand list" -l json -d 'Print one JSON object a line'
complete -c fosse -n "__fish_fosse_using_subcommand list" -s q -l quiet -d 'Print ids only, one a line'
complete -c fosse -n "__fish_fosse_using_subcommand list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c fosse -n "__fish_fosse_using_subcommand ls" -l filter -d 'Only runs with this state, name, label or runtime (label=KEY or label=KEY=VALUE)' -r
complete -c fosse -n "__fish_fosse_using_subcommand ls" -l color -d 'When to use colour' -r -f -a "auto\t'On a terminal, unless NO_COLOR or TERM=dumb says otherwise'
always\t'Always'
never\t'Never'"
complete -c fosse -n "__fish_fosse_using_subcommand ls" -l running -d 'Only live runs'
complete -c fosse -n "__fish_fosse_using_subcommand ls" -l json -d 'Print one JSON object a line'
complete -c fosse -n "__fish_fosse_using_subcommand ls" -s q -l quiet -d 'Print ids only, one a line'
complete -c fosse -n "__fish_fosse_using_subcommand ls" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c fosse -n "__fish_fosse_using_subcommand inspect" -l json -d 'Print one JSON object a line'
complete -c fosse -n "__fish_fosse_using_subcommand inspect" -s h -l help -d 'Print help'
complete -c fosse -n "__fish_fosse_using_subcommand logs" -s n -l tail -d 'Only the last N lines' -r
complete -c fosse -n "__fish_fosse_using_subcommand logs" -l stream -d 'Only one stream' -r -f -a "stdout\t'Standard output'
stderr\t'Standard error'"
complete -c fosse -n "__fish_fosse_using_subcommand logs" -s f -l follow -d 'Go on until the run ends'
complete -c fosse -n "__fish_fosse_using_subcommand logs" -l timestamps -d 'Put the time of its first byte before each line'
complete -c fosse -n "__fish_fosse_using_subcommand logs" -l json -d 'Print one JSON object a line of output'
complete -c fosse -n "__fish_fosse_using_subcommand logs" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c fosse -n "__fish_fosse_using_subcommand wait" -l json -d 'Print one JSON object a line'
complete -c fosse -n "__fish_fosse_using_subcommand wait" -s h -l help -d 'Print help'
complete -c fosse -n "__fish_fosse_using_subcommand stop" -l grace -d 'Time between the polite signal and the kill [default: the run\'s own]' -r
complete -c fosse -n "__fish_fosse_using_subcommand stop" -s q -l quiet -d 'Say nothing but errors'
complete -c fosse -n "__fish_fosse_using_subcommand stop" -s h -l help -d 'Print help'
complete -c fosse -n "__fish_fosse_using_subcommand destroy" -s f -l force -d 'Stop it first if it still runs; one that does not exist is fine'
complete -c fosse -n "__fish_fosse_using_subcommand destroy" -s q -l quiet -d 'Say nothing but errors'
complete -c fosse -n "__fish_fosse_using_subcommand destroy" -s h -l help -d 'Print help'
complete -c fosse -n "__fish_fosse_using_subcommand rm" -s f -l force -d 'Stop it first if it still runs; one that does not exist is fine'
complete -c fosse -n "__fish_fosse_using_subcommand rm" -s q -l quiet -d 'Say nothing but errors'
complete -c fosse -n "__fish_fosse_using_subcommand rm" -s h -l help -d 'Print help'
complete -c fosse -n "__fish_fosse_using_subcommand clean" -l older-than -d 'Only runs that ended longer ago than this' -r
complete -c fosse -n "__fish_fosse_using_subcommand clean" -l dry-run -d 'Say what would be removed, and remove nothing'
complete -c fosse -n "__fish_fosse_using_subcommand clean" -l json -d 'Print one JSON object a line'
complete -c fosse -n "__fish_fosse_using_subcommand clean" -s q -l quiet -d 'Say nothing but errors'
complete -c fosse -n "__fish_fosse_using_subcommand clean" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c fosse -n "__fish_fosse_using_subcommand status" -l json -d 'Print one JSON document'
complete -c fosse -n "__fish_fosse_using_subcommand status" -s h -l help -d 'Print help'
complete -c fosse -n "__fish_fosse_using_subcommand doctor" -l json -d 'Print one JSON object a line'
complete -c fosse -n "__fish_fosse_using_subcommand doctor" -s q -l quiet -d 'Print problems only'
complete -c fosse -n "__fish_fosse_using_subcommand doctor" -s h -l help -d 'Print help'
complete -c fosse -n "__fish_fosse_using_subcommand daemon; and not __fish_seen_subcommand_from start stop restart status reap" -s h -l help -d 'Print help'
complete -c fosse -n "__fish_fosse_using_subcommand daemon; and not __fish_seen_subcommand_from start stop restart status reap" -f -a "start" -d 'Start it, unless one serves already'
complete -c fosse -n "__fish_fosse_using_subcommand daemon; and not __fish_seen_subcommand_from start stop restart status reap" -f -a "stop" -d 'End it, and wait until it has ended'
complete -c fosse -n "__fish_fosse_using_subcommand daemon; and not __fish_seen_subcommand_from start stop restart status reap" -f -a "restart" -d 'End it, then start another one'
complete -c fosse -n "__fish_fosse_using_subcommand daemon; and not __fish_seen_subcommand_from start stop restart status reap" -f -a "status" -d 'Say whether it serves: 0 serving, 3 not running, 4 running but not answering'
complete -c fosse -n "__fish_fosse_using_subcommand daemon; and not __fish_seen_subcommand_from start stop restart status reap" -f -a "reap" -d 'Remove engine objects that belong to nobody, now'
complete -c fosse -n "__fish_fosse_using_subcommand daemon; and __fish_seen_subcommand_from start" -l foreground -d 'Be the daemon, for a service manager: log to stderr, and end only when told to'
complete -c fosse -n "__fish_fosse_using_subcommand daemon; and __fish_seen_subcommand_from start" -l force -d 'Replace one that does not answer even if a debugger holds it'
complete -c fosse -n "__fish_fosse_using_subcommand daemon; and __fish_seen_subcommand_from start" -l detached -d 'Be the daemon, and report on stdout how the start came out'
complete -c fosse -n "__fish_fosse_using_subcommand daemon; and __fish_seen_subcommand_from start" -s q -l quiet -d 'Say nothing but errors'
complete -c fosse -n "__fish_fosse_using_subcommand daemon; and __fish_seen_subcommand_from start" -s h -l help -d 'Print help'
complete -c fosse -n "__fish_fosse_using_subcommand daemon; and __fish_seen_subcommand_from stop" -l force -d 'End one that does not answer even if a debugger holds it'
complete -c fosse -n "__fish_fosse_using_subcommand daemon; and __fish_seen_subcommand_from stop" -s q -l quiet -d 'Say nothing but errors'
complete -c fosse -n "__fish_fosse_using_subcommand daemon; and __fish_seen_subcommand_from stop" -s h -l help -d 'Print help'
complete -c fosse -n "__fish_fosse_using_subcommand daemon; and __fish_seen_subcommand_from restart" -l force -d 'End one that does not answer even if a debugger holds it'
complete -c fosse -n "__fish_fosse_using_subcommand daemon; and __fish_seen_subcommand_from restart" -s q -l quiet -d 'Say nothing but errors'
complete -c fosse -n "__fish_fosse_using_subcommand daemon; and __fish_seen_subcommand_from restart" -s h -l help -d 'Print help'
complete -c fosse -n "__fish_fosse_using_subcommand daemon; and __fish_seen_subcommand_from status" -l json -d 'Print one JSON document'
complete -c fosse -n "__fish_fosse_using_subcommand daemon; and __fish_seen_subcommand_from status" -s q -l quiet -d 'Print nothing: the exit code says it'
complete -c fosse -n "__fish_fosse_using_subcommand daemon; and __fish_seen_subcommand_from status" -s h -l help -d 'Print help'
complete -c fosse -n "__fish_fosse_using_subcommand daemon; and __fish_seen_subcommand_from reap" -l dry-run -d 'Say what would be removed, and remove nothing'
complete -c fosse -n "__fish_fosse_using_subcommand daemon; and __fish_seen_subcommand_from reap" -l json -d 'Print one JSON object a line'
complete -c fosse -n "__fish_fosse_using_subcommand daemon; and __fish_seen_subcommand_from reap" -s q -l quiet -d 'Say nothing but errors'
complete -c fosse -n "__fish_fosse_using_subcommand daemon; and __fish_seen_subcommand_from reap" -s h -l help -d 'Print help'
complete -c fosse -n "__fish_fosse_using_subcommand init" -l listen -d 'Execute commands for who asks at this address; beyond this machine with FOSSE_INIT_TOKEN only' -r
complete -c fosse -n "__fish_fosse_using_subcommand init" -l socket -d 'Execute commands for who asks at this new socket file, which only this user can open' -r -F
complete -c fosse -n "__fish_fosse_using_subcommand init" -l grace -d 'After a TERM, wait this long for the command, then kill it [default: no limit]' -r
complete -c fosse -n "__fish_fosse_using_subcommand init" -l exit-file -d 'Leave in this file how the command ended, for who shares its directory; FILE.key has the key to it' -r -F
complete -c fosse -n "__fish_fosse_using_subcommand init" -l subreaper -d 'Adopt orphans although this is not PID 1'
complete -c fosse -n "__fish_fosse_using_subcommand init" -s g -l group -d 'Pass every signal to the command\'s process group, not only INT and QUIT'
complete -c fosse -n "__fish_fosse_using_subcommand init" -s h -l help -d 'Print help'
