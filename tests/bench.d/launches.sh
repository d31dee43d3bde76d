# Part of tests/bench: what is launched, and what lives while others are measured.
# shellcheck shell=sh disable=SC2034,SC2046,SC2154,SC2329 # variables are shared with the entry and the other parts

# ---- what is launched -------------------------------------------------------------------------

# Each is one launch, ends as the launch did, and leaves the measured program's stdout to the launch.
in_docker() { "$fosse" run --runtime docker --image "$image" --network open "$@" >/dev/null; }
in_podman() { "$fosse" run --runtime podman --image "$image" --network open "$@" >/dev/null; }
peer_docker() { "$docker" run --rm "$image" "$@" >/dev/null; }
peer_podman() { "$podman" run --rm "$image" "$@" >/dev/null; }

fosse_noop() { in_docker --no-workspace -- true; }
fosse_noop_ws() { in_docker -- true; }
fosse_noop_off() {
    FOSSE_INIT=off "$fosse" run --runtime docker --image "$image" --network open --no-workspace -- true >/dev/null
}
fosse_noop_podman() { in_podman --no-workspace -- true; }
fosse_noop_podman_ws() { in_podman -- true; }
peer_noop() { peer_docker true; }
peer_noop_podman() { peer_podman true; }

writer() { echo dd if=/dev/zero bs=64k count=$((megabytes * 16)); }
fosse_output() { in_docker --no-workspace -- $(writer); }
peer_output() { peer_docker $(writer); }
peer_same_log() {
    "$docker" run --rm --log-driver local --log-opt max-size=64m --log-opt max-file=2 --log-opt compress=false \
        "$image" $(writer) >/dev/null
}
# A shell tells of a pipe only how its last program ended.
fosse_pipe() {
    { "$fosse" run --runtime docker --image "$image" --network open --no-workspace -- $(writer); echo $? >"$tmp/code"; } |
        cat >/dev/null
    [ "$(cat "$tmp/code")" = 0 ]
}
peer_pipe() {
    { "$docker" run --rm "$image" $(writer); echo $? >"$tmp/code"; } | cat >/dev/null
    [ "$(cat "$tmp/code")" = 0 ]
}

fosse_list() { FOSSE_STATE_DIR=$tmp/state-list "$fosse" list >/dev/null; }
peer_ps() { "$docker" ps >/dev/null; }
fosse_version() { "$fosse" --version >/dev/null; }
peer_true() { "$true" >/dev/null; }
fosse_init() { "$fosse" init --subreaper -- "$true" >/dev/null; }
peer_tini() { "$tini" -s -- "$true" >/dev/null; }
if [ -x /bin/true ]; then true=/bin/true; else true=/usr/bin/true; fi
status_many() { FOSSE_STATE_DIR=$tmp/state-many "$fosse" status >/dev/null; }
status_none() { FOSSE_STATE_DIR=$tmp/state-none "$fosse" status >/dev/null; }

# Told how many, they make them all.
fosse_execute() { requests "$1" >/dev/null; }
fosse_execute_50() { requests "$1" --parallel --parallel-immediate --parallel-max 50 >/dev/null; }
peer_execute() { for _ in $(seq "$1"); do "$docker" exec "$guest" true >/dev/null || return 1; done; }
fosse_exec() { "$fosse" exec "$run" -- true >/dev/null; }
peer_exec() { "$docker" exec "fosse-$run" true >/dev/null; }

# Not functions of their own: a function in the background would be a process of the shell.
fosse_sleep() {
    rm -f "$tmp/id"
    inner=pid_of_init
    "$fosse" run --runtime docker --image "$image" --network open --no-workspace --id-file "$tmp/id" -- \
        sleep 2 >/dev/null &
}
fosse_idle() { "$fosse" init --subreaper --socket "$tmp/idle" -- sleep 1 >/dev/null & }
peer_idle() { "$tini" -s -- sleep 1 >/dev/null & }
peer_sleep() { "$docker" run --rm "$image" sleep 2 >/dev/null & }
fosse_output_behind() {
    "$fosse" run --runtime docker --image "$image" --network open --no-workspace -- $(writer) >/dev/null &
}
peer_output_behind() { "$docker" run --rm "$image" $(writer) >/dev/null & }

# ---- what lives while others are measured ------------------------------------------------------

# start_behind PROGRAM...: leaves it in the background, and returns when the command that it runs has said a line.
ready='echo ready; exec sleep 3600'
start_behind() {
    [ -p "$tmp/ready" ] || mkfifo "$tmp/ready" || return 1
    "$@" </dev/null >"$tmp/ready" 2>"$tmp/err" &
    behind="$behind $!"
    read -r _ <"$tmp/ready"
}

# A container with fosse's init as its PID 1, whose socket this user can open.
guest=fosse-bench-$$
start_guest() {
    mkdir "$tmp/socket" && start_behind "$docker" run --rm --pull=never --name "$guest" --user "$(id -u):$(id -g)" \
        --mount "type=bind,src=$fosse,dst=/fosse,readonly" --mount "type=bind,src=$tmp/socket,dst=/socket" \
        --entrypoint /fosse "$image" init --socket /socket/init -- sh -c "$ready"
}

# requests COUNT OPTION...: asks it to execute a command, by one curl.
requests() {
    number=$1
    shift
    curl -sS -f --fail-early --unix-socket "$tmp/socket/init" -H 'Content-Type: application/json' \
        -d '{"command": ["true"]}' "$@" "http://fosse/process/execute?[1-$number]"
}

# answers COUNT OPTION...: whether all of them end well.
answers() {
    there=$(requests "$@" 2>"$tmp/err" | grep -o '"exitCode":0,' | grep -c .)
    [ "$there" = "$1" ] || { echo "$there of $1 requests ended well" >>"$tmp/err"; return 1; }
}

# A run, called $run.
start_run() {
    rm -f "$tmp/id"
    start_behind "$fosse" run --runtime docker --image "$image" --network open --no-workspace --id-file "$tmp/id" -- \
        sh -c "$ready" && run=$(cat "$tmp/id")
}

# pid_of_init: that of the container whose run is in $tmp/id, once it has one.
pid_of_init() {
    [ -s "$tmp/id" ] || return 1
    "$docker" inspect -f '{{.State.Pid}}' "fosse-$(cat "$tmp/id")" 2>/dev/null </dev/null | grep '^[1-9]'
}
