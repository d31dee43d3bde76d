# Part of tests/bench: the native runtime, against bubblewrap and docker.
# shellcheck shell=sh disable=SC2034,SC2046,SC2086,SC2154,SC2329
# Lists of words, functions that are called by name, and variables that are shared with the entry and other parts.

# ---- whether it can be measured ---------------------------------------------------------------

# No test needs bubblewrap, so only this does what tests/run does for everything else.
get_bwrap() {
    ! command -v "$bwrap" >/dev/null || return 0
    if [ "$bwrap" != bwrap ] || [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then return 0; fi
    say 'installing bubblewrap'
    for step in update 'install --no-install-recommends bubblewrap'; do
        DEBIAN_FRONTEND=noninteractive apt-get -qy -o DPkg::Lock::Timeout=120 $step </dev/null >"$tmp/apt.log" 2>&1 ||
            say "apt-get ${step%% *}: $(tail -n 1 "$tmp/apt.log")"
    done
}

# can_sandbox NAME LAUNCH: whether it ends well. The reason for a no is in $tmp/why.
can_sandbox() {
    "$2" </dev/null >"$tmp/out" 2>&1 && return 0
    printf '%s makes no sandbox here: %s\n' "$1" "$(grep . "$tmp/out" | tail -n 1)" >"$tmp/why"
    return 1
}

# prepare_native: sets $no_native, $no_bwrap and $no_other to the reasons why not, empty if it can.
prepare_native() {
    no_native='' no_bwrap='' no_other=''
    get_bwrap
    can_sandbox fosse fosse_native || no_native=$(cat "$tmp/why")
    if ! command -v "$bwrap" >/dev/null; then
        no_bwrap="$bwrap is not installed (Debian: bubblewrap)"
    else
        can_sandbox "$bwrap" peer_bwrap || no_bwrap=$(cat "$tmp/why")
    fi
    if [ "$(id -u)" != 0 ] || ! command -v setpriv >/dev/null; then
        no_other='only root with setpriv can be another user'
    elif wanted native-user; then
        prepare_other 2>"$tmp/why" && can_sandbox fosse fosse_other && can_sandbox "$bwrap" peer_other ||
            no_other=$(cat "$tmp/why")
    fi
}

# Another user's home, with a binary that it can reach wherever this one was built. Not in $tmp, which stays closed.
other=4321
prepare_other() {
    home_of_other=$(mktemp -d "${TMPDIR:-/tmp}/bench.XXXXXX") && mkdir "$home_of_other/work" &&
        cp "$fosse" "$home_of_other/fosse" && chown -R "$other:$other" "$home_of_other"
}

# ---- what is launched -------------------------------------------------------------------------

# What bubblewrap is told for a sandbox that is nearest to fosse's: of the host everything, and nothing to be written.
bare='--unshare-all --ro-bind / / --dev /dev --proc /proc'

# Neither side has a network, but in native-open.
in_native() { "$fosse" run --runtime native --network none -- "$@" >/dev/null; }
in_bwrap() { "$bwrap" $bare "$@" >/dev/null; }
fosse_native() { in_native true; }
peer_bwrap() { in_bwrap true; }
fosse_native_open() { "$fosse" run --runtime native --network open -- true >/dev/null; }
peer_bwrap_open() { in_bwrap --share-net true; }
peer_docker_none() { "$docker" run --rm --network none "$image" true >/dev/null; }

# Both pay for a shell and for setpriv.
as_other() {
    (
        cd "$home_of_other/work" || exit
        FOSSE_STATE_DIR=$home_of_other/state FOSSE_RUNTIME_DIR=$home_of_other/runtime HOME=$home_of_other
        export FOSSE_STATE_DIR FOSSE_RUNTIME_DIR HOME
        exec setpriv --reuid "$other" --regid "$other" --clear-groups "$@" >/dev/null
    )
}
fosse_other() { as_other "$home_of_other/fosse" run --runtime native --network none -- true; }
peer_other() { as_other "$bwrap" $bare true; }

# As for docker: a shell tells of a pipe only how its last program ended.
fosse_native_pipe() {
    { "$fosse" run --runtime native --network none -- $(writer); echo $? >"$tmp/code"; } | cat >/dev/null
    [ "$(cat "$tmp/code")" = 0 ]
}
peer_bwrap_pipe() {
    { "$bwrap" $bare $(writer); echo $? >"$tmp/code"; } | cat >/dev/null
    [ "$(cat "$tmp/code")" = 0 ]
}

# Not functions of their own: a function in the background would be a process of the shell.
fosse_native_sleep() {
    inner=first_inside
    "$fosse" run --runtime native --network none -- sleep 2 >/dev/null &
}
peer_bwrap_sleep() {
    inner=first_inside
    "$bwrap" $bare sleep 2 >/dev/null &
}

# first_inside: the child of $live that is PID 1 of a namespace below this one.
first_inside() {
    awk -v parent="$live" '/^PPid:/ { ours = $2 == parent } /^NSpid:/ && ours && NF == 3 && $3 == 1 { print $2 }' \
        /proc/[0-9]*/status 2>/dev/null | grep .
}

# ---- the rows ---------------------------------------------------------------------------------

# with_bwrap ROW ...: measures, or says why not.
with_bwrap() {
    wanted "$1" || return 0
    if [ -n "$no_native$no_bwrap" ]; then left_out "$1" "${no_native:-$no_bwrap}"; else measure "$@"; fi
}

native_rows() {
    asked=
    for row in $native; do ! wanted "$row" || asked=1; done
    [ -n "$asked" ] || return 0
    prepare_native
    with_bwrap native-noop 2.5 time_of 1 fosse_native peer_bwrap
    with_bwrap native-open - time_of 1 fosse_native_open peer_bwrap_open
    if wanted native-user && [ -n "$no_other" ]; then
        left_out native-user "$no_other"
    else
        with_bwrap native-user - time_of 1 fosse_other peer_other
    fi
    if wanted native-docker && [ -n "$no_native" ]; then
        left_out native-docker "$no_native"
    else
        with_docker native-docker 0.1 time_of 1 fosse_native peer_docker_none
    fi
    if [ -z "$no_native" ] && wanted native-output; then
        arrives "$fosse" run --runtime native --network none -- || broken native-output fosse
    fi
    with_bwrap native-output 1.25 time_of 1 fosse_native_pipe peer_bwrap_pipe
    with_bwrap native-memory 8MB peak_of 1 fosse_native_sleep peer_bwrap_sleep
}
