#!/usr/bin/env python3
"""Part of tests/bench: the round trip of a key through a program at a terminal, in nanoseconds.

keys.py COUNT COMMAND...   the median of COUNT keys, each sent when the one before has come back.

The terminal is in raw mode, so what comes back comes from the command, which gives back each byte as it comes and ends with
the last one; the program in between is whatever runs it.
"""
import os
import pty
import select
import statistics
import sys
import time
import tty


def main():
    count, command = int(sys.argv[1]), sys.argv[2:]
    pid, terminal = pty.fork()
    if pid == 0:
        tty.setraw(0)
        os.execvp(command[0], command)
    seen = b""

    def wait_for(text, limit=60):
        nonlocal seen
        late = time.monotonic() + limit
        while text not in seen:
            left = late - time.monotonic()
            if left <= 0 or not select.select([terminal], [], [], left)[0]:
                sys.exit("keys.py: no answer; what came: %r" % seen[-200:])
            seen += os.read(terminal, 65536)
        seen = seen[seen.index(text) + len(text):]

    wait_for(b"READY")
    times = []
    for number in range(count):
        key = b"%c" % (ord("a") + number % 26)
        begin = time.monotonic_ns()
        os.write(terminal, key)
        wait_for(key)
        times.append(time.monotonic_ns() - begin)
    try:
        while os.read(terminal, 65536):
            pass
    except OSError:
        pass  # The end of a terminal.
    os.waitpid(pid, 0)
    print(int(statistics.median(times)))


main()
