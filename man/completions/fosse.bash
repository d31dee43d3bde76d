# Completion of fosse(1) for bash. The program itself says what may come next: fosse __complete.

_fosse() {
    local rest=${COMP_LINE:0:COMP_POINT} trimmed word line current value prefix breaks offset i
    local -a words starts lines
    # bash takes words apart at = and :, where there is no blank.
    for ((i = 0; i <= COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        trimmed=${rest#"${rest%%[![:space:]]*}"}
        ((i == COMP_CWORD)) && word=$trimmed
        if ((i > 0)) && [[ $trimmed == "$rest" ]]; then
            words[${#words[@]} - 1]+=$word
        else
            words+=("$word")
            starts+=("$i")
        fi
        rest=${trimmed#"$word"}
    done
    current=${words[${#words[@]} - 1]}
    while IFS= read -r line; do
        lines+=("$line")
    done < <(command fosse __complete "${words[@]:1}" 2>/dev/null)
    COMPREPLY=()
    value=$current
    [[ $current == --*=* ]] && value=${current#*=}
    prefix=${current%"$value"}
    case ${lines[0]} in
    command\ *)
        offset=${starts[${lines[0]#command } + 1]}
        if declare -F _comp_command_offset >/dev/null; then
            _comp_command_offset "$offset"
        elif declare -F _command_offset >/dev/null; then
            _command_offset "$offset"
        elif ((offset == COMP_CWORD)) && [[ $current != */* ]]; then
            while IFS= read -r line; do COMPREPLY+=("$line"); done < <(compgen -c -- "$current")
        else
            compopt -o filenames 2>/dev/null
            while IFS= read -r line; do COMPREPLY+=("$line"); done < <(compgen -f -- "$current")
        fi
        return
        ;;
    files | directories)
        compopt -o filenames 2>/dev/null
        [[ ${lines[0]} == files ]] && i=-f || i=-d
        while IFS= read -r line; do COMPREPLY+=("$prefix$line"); done < <(compgen "$i" -- "$value")
        ;;
    words)
        for line in "${lines[@]:1}"; do
            COMPREPLY+=("${line%%$'\t'*}")
        done
        [[ ${COMPREPLY[0]} == *= ]] && compopt -o nospace 2>/dev/null
        ;;
    esac
    # What bash replaces begins after the last of these.
    [[ $COMP_WORDBREAKS == *=* ]] && breaks==
    [[ $COMP_WORDBREAKS == *:* ]] && breaks+=:
    if [[ -n $breaks && $current == *["$breaks"]* ]]; then
        prefix=${current%"${current##*["$breaks"]}"}
        for i in "${!COMPREPLY[@]}"; do
            COMPREPLY[i]=${COMPREPLY[i]#"$prefix"}
        done
    fi
}

complete -F _fosse fosse
