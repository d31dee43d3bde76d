# Part of tests/bench: taking the figures and printing them.
# shellcheck shell=sh disable=SC2034,SC2046,SC2154,SC2329 # variables are shared with the entry and the other parts

# ---- measuring --------------------------------------------------------------------------------

# All set $figure, or fail with the reason in $tmp/err.

# time_of TIMES LAUNCH: nanoseconds for one launch.
time_of() {
    left=$1
    from=$(date +%s%N)
    while [ "$left" -gt 0 ]; do
        "$2" </dev/null 2>"$tmp/err" || return 1
        left=$((left - 1))
    done
    figure=$((($(date +%s%N) - from) / $1))
}

# batch_of TIMES LAUNCH: the same of a launch that is told how many.
batch_of() {
    from=$(date +%s%N)
    "$2" "$1" </dev/null 2>"$tmp/err" || return 1
    figure=$((($(date +%s%N) - from) / $1))
}

# peak PID: its peak resident set in bytes. Until it has executed the program, a new process is a copy of this shell,
# or of what makes containers; at its end it has no memory.
peak() {
    awk '/^Name:/ { name = $2 } /^VmHWM:/ { if (name !~ /^(sh|dash|bash|ash|bench|runc.*)$/) print $2 * 1024 }' \
        "/proc/$1/status" 2>/dev/null
}

# peak_of TIMES LAUNCH: the peak of the program that the launch leaves in the background, and of the process whose pid
# the function $inner prints, if the launch names one. TIMES is not used.
peak_of() {
    outer=0 within=0 inner='' pid=''
    "$2" </dev/null 2>"$tmp/err"
    live=$!
    while read -r name <"/proc/$live/comm" && [ -n "$name" ]; do
        now=$(peak "$live")
        [ "${now:-0}" -le "$outer" ] || outer=$now
        [ -n "$pid$inner" ] && pid=${pid:-$("$inner")} && [ -n "$pid" ] && now=$(peak "$pid") &&
            [ "${now:-0}" -gt "$within" ] && within=$now
        # A zombie stays in /proc until it is waited for.
        grep -q '^State:[[:space:]]*Z' "/proc/$live/status" 2>/dev/null && break
        sleep 0.03
    done 2>/dev/null
    wait "$live"
    code=$?
    live=
    [ "$code" = 0 ] || return 1
    figure=$((outer + within))
    case $outer/$inner/$within in
    0/* | */?*/0) echo 'no peak was seen before the process was gone' >"$tmp/err"; return 1 ;;
    esac
}

wanted() { case " ${BENCH_ONLY:-$rows} " in *[!a-z0-9-]"$1"[!a-z0-9-]*) ;; *) return 1 ;; esac; }

heading() { printf '%-16s %10s %10s %7s %12s  %-9s %s\n' "$@"; }
left_out() { printf '%-16s left out: %s\n' "$1" "$2"; }
broken() {
    failed=1
    printf '%-16s FAILED: %s: %s\n' "$1" "$2" "$(grep . "$tmp/err" | tail -n 1)"
}

# measure ROW AIM METHOD TIMES LAUNCH PEER: AIM is the largest ratio, one that it must be below (<1.0), a limit in MB
# (6MB), or - for none.
measure() {
    row=$1 aim=$2 method=$3 times=$4 launch=$5 peer=$6
    : >"$tmp/figures"
    count=-1 # the first pair is not measured
    while [ "$count" -lt "$pairs" ]; do
        "$method" "$times" "$launch" || { broken "$row" "$launch"; return; }
        ours=$figure
        "$method" "$times" "$peer" || { broken "$row" "$peer"; return; }
        count=$((count + 1))
        [ "$count" = 0 ] || echo "$ours $figure" >>"$tmp/figures"
        # The output of a run is kept; that of all of them would fill a small disk.
        case $row in *output*) "$fosse" clean runs </dev/null >/dev/null 2>&1 ;; esac
    done
    unit=ms
    [ "$method" != peak_of ] || unit=MB
    ours=$(awk '{ print $1 }' "$tmp/figures" | median)
    theirs=$(awk '{ print $2 }' "$tmp/figures" | median)
    ratio=$(awk '{ printf "%.6f\n", $1 / $2 }' "$tmp/figures" | median)
    awk -v row="$row" -v aim="$aim" -v unit="$unit" -v ours="$ours" -v theirs="$theirs" -v ratio="$ratio" '
        { one = $1 / $2; if (NR == 1 || one < low) low = one; if (one > high) high = one; if ($1 > most) most = $1 }
        END {
            digits = unit == "MB" || ours < 1e7 ? 2 : 0
            if (aim == "-") { wish = "-"; word = "" }
            else if (aim ~ /MB$/) { wish = "< " aim; word = most / 1e6 < aim + 0 ? "met" : "MISSED" }
            else if (sub(/^</, "", aim)) { wish = "< " aim; word = ratio < aim + 0 ? "met" : "MISSED" }
            else { wish = "<= " aim; word = ratio <= aim + 0 ? "met" : "MISSED" }
            printf "%-16s %7.*f %s %7.*f %s %7.2f %12s  %-9s %s\n", row, digits, ours / 1e6, unit, digits,
                theirs / 1e6, unit, ratio, sprintf("%.2f-%.2f", low, high), wish, word
        }' "$tmp/figures"
}

# rate ROW TIMES LAUNCH: how many a second; no peer and no aim.
rate() {
    : >"$tmp/figures"
    count=-1
    while [ "$count" -lt "$pairs" ]; do
        batch_of "$2" "$3" || { broken "$1" "$3"; return; }
        count=$((count + 1))
        [ "$count" = 0 ] || echo $((1000000000 / figure)) >>"$tmp/figures"
    done
    sort -n "$tmp/figures" | awk -v row="$1" -v figure="$(median <"$tmp/figures")" 'NR == 1 { low = $1 } END {
        printf "%-16s %7.0f /s %10s %7s %12s  %-9s\n", row, figure, "-", "-", low "-" $1, "-" }'
}

median() { sort -n | awk '{ v[NR] = $1 } END { printf "%.6f\n", (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2 }'; }

# forge DIRECTORY COUNT STATE: records that are copies of a real run's, with ids and names of their own.
forge() {
    real=$(echo "$tmp"/state-real/runs/*)
    if [ ! -e "$real" ]; then
        use_state state-real
        if [ -n "$has_docker" ]; then fosse_noop; else fosse_noop_podman; fi </dev/null 2>"$tmp/err" || return 1
        use_state state
        real=$(echo "$tmp"/state-real/runs/*)
    fi
    mkdir "$tmp/$1" "$tmp/$1/runs" "$tmp/$1/names"
    chmod 700 "$tmp/$1" "$tmp/$1/runs" "$tmp/$1/names"
    number=0
    while [ "$number" -lt "$2" ]; do
        number=$((number + 1))
        forged=$(printf 'be%010x' "$number")
        cp -R "$real" "$tmp/$1/runs/$forged" || return 1
        {
            echo "s/^  \"id\": .*/  \"id\": \"$forged\",/"
            echo "s/^  \"name\": .*/  \"name\": \"forged-$number\",/"
            [ "$3" = ended ] || printf '%s\n' 's/^  "state": .*/  "state": "running",/' \
                's/^  "\(stopped_at\|exit_code\|signal\|reason\)": .*/  "\1": null,/'
        } >"$tmp/edit"
        sed -f "$tmp/edit" "$real/record.json" >"$tmp/$1/runs/$forged/record.json"
    done
    cp "$tmp/state-real/instance" "$tmp/$1/instance"
}

# lists DIRECTORY COUNT WORD: whether fosse reads what was forged as it was meant.
lists() {
    there=$(FOSSE_STATE_DIR=$tmp/$1 "$fosse" list 2>"$tmp/err" | grep -c "$3")
    [ "$there" = "$2" ] || { echo "fosse list has $there of $2 forged runs" >"$tmp/err"; return 1; }
}

# arrives LAUNCHER...: whether all bytes do.
arrives() {
    there=$("$@" $(writer) </dev/null 2>"$tmp/err" | wc -c)
    [ "$there" -eq $((megabytes * 1048576)) ] || { echo "$there bytes arrived" >"$tmp/err"; return 1; }
}
