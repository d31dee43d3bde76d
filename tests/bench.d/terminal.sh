# Part of tests/bench: terminal sessions.
# shellcheck shell=sh disable=SC2034,SC2046,SC2086,SC2154,SC2329
# Lists of words, functions that are called by name, and variables that are shared with the entry and other parts.

# echoing COUNT: says that it is ready, gives back each of so many bytes at once, and ends.
echoing() { echo "stty raw -echo; printf READY; exec dd bs=1 count=$1 2>/dev/null"; }

# keys_of COUNT LAUNCH: the median round trip of so many keys.
keys_of() {
    figure=$("$2" "$1" </dev/null 2>"$tmp/err") || return 1
    case $figure in '' | *[!0-9]*) return 1 ;; esac
}

keys() { count=$1; shift; python3 "$here/tests/bench.d/keys.py" "$count" "$@"; }
fosse_keys() { keys "$1" "$fosse" run -q -i --runtime native -- sh -c "$(echoing "$1")"; }
peer_keys() { keys "$1" sh -c "$(echoing "$1")"; }
fosse_keys_docker() { keys "$1" "$fosse" run -q -i --no-workspace --image "$image" -- sh -c "$(echoing "$1")"; }
peer_keys_docker() { keys "$1" "$docker" run --rm -it "$image" sh -c "$(echoing "$1")"; }

terminal_rows() {
    for row in $terminal; do
        wanted "$row" || continue
        command -v python3 >/dev/null || { left_out "$row" 'python3 is not installed'; continue; }
        case $row in
        key-native) measure key-native - keys_of 500 fosse_keys peer_keys ;;
        key-docker) with_docker key-docker 1.0 keys_of 500 fosse_keys_docker peer_keys_docker ;;
        esac
    done
}
