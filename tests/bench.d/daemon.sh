# Part of tests/bench: the daemon.
# shellcheck shell=sh disable=SC2034,SC2046,SC2086,SC2154,SC2329
# Lists of words, functions that are called by name, and variables that are shared with the entry and other parts.

# ---- what is launched -------------------------------------------------------------------------

fosse_start() { "$fosse" daemon start -q; }
# A candidate that finds another one has no client before it.
fosse_lose() { "$fosse" daemon start -q --foreground; }
fosse_noop_with() { FOSSE_DAEMON=auto "$fosse" run --image "$image" --no-workspace -- true >/dev/null; }
fosse_noop_without() { "$fosse" run --image "$image" --no-workspace -- true >/dev/null; }

# cold_of TIMES LAUNCH: as time_of, where the daemon that the launch may have made is ended outside of the time.
cold_of() {
    left=$1 sum=0
    while [ "$left" -gt 0 ]; do
        from=$(date +%s%N)
        "$2" </dev/null 2>"$tmp/err" || return 1
        sum=$((sum + $(date +%s%N) - from))
        "$fosse" daemon stop -q || return 1
        left=$((left - 1))
    done
    figure=$((sum / $1))
}

# ---- the rows ---------------------------------------------------------------------------------

daemon_pid() { sed -n 's/.*"pid":\([0-9]*\).*/\1/p' "$FOSSE_STATE_DIR"/daemon*.lock; }

# idle_daemon: resident set in MB and wakings a minute, over the span given in seconds.
switches() { cat /proc/"$1"/task/*/status | awk '/^voluntary_ctxt_switches/ { sum += $2 } END { print sum }'; }
idle_daemon() {
    fosse_start && sleep 2 || return 1
    pid=$(daemon_pid)
    before=$(switches "$pid")
    sleep "$1"
    after=$(switches "$pid")
    awk -v wakes=$(((after - before) * 60 / $1)) '/^VmRSS:/ { mb = $2 * 1024 / 1e6 } END {
        printf "%-16s %7.2f MB %10s %7s %12s  %-9s %s\n", "daemon-memory", mb, "-", "-", "-", "< 5MB", mb < 5 ? "met" : "MISSED"
        printf "%-16s %7d /min %8s %7s %12s  %-9s\n", "daemon-wakes", wakes, "-", "-", "-", "-" }' "/proc/$pid/status"
    "$fosse" daemon stop -q
}

daemon_rows() {
    use_state state-daemon
    ! wanted daemon-cold || measure daemon-cold 10 cold_of 1 fosse_start peer_true
    if wanted daemon-lose; then
        fosse_start || broken daemon-lose fosse_start
        measure daemon-lose 5 time_of 10 fosse_lose peer_true
        "$fosse" daemon stop -q
    fi
    if wanted daemon-memory || wanted daemon-wakes; then idle_daemon 30 2>"$tmp/err" || broken daemon-memory fosse_start; fi
    if wanted daemon-run; then
        fosse_start || broken daemon-run fosse_start
        with_docker daemon-run 1.03 time_of 1 fosse_noop_with fosse_noop_without
        "$fosse" daemon stop -q
    fi
    use_state state
}
