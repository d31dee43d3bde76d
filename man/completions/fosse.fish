# Completion of fosse(1) for fish. The program itself says what may come next: fosse __complete.

function __fosse_complete
    set -l before (commandline -opc)
    set -l current (commandline -ct)
    set -l lines (command fosse __complete $before[2..-1] "$current" 2>/dev/null)
    set -l value (string replace -r '^--[^=]*=' '' -- "$current")
    set -l prefix (string match -r '^--[^=]*=' -- "$current"; or echo)
    switch "$lines[1]"
        case 'command *'
            set -l start (math (string replace 'command ' '' -- $lines[1]) + 2)
            set -l command
            test $start -le (count $before); and set command (string escape -- $before[$start..-1])
            complete -C (string join ' ' -- $command "$current")
        case files
            printf '%s\n' $prefix(__fish_complete_path "$value")
        case directories
            printf '%s\n' $prefix(__fish_complete_directories "$value" '')
        case words
            printf '%s\n' $lines[2..-1]
    end
end

complete -c fosse -f -a '(__fosse_complete)'
