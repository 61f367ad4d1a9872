"""A job of a run, `python -m remerge.job STAGE CONFIG …`, which does what `python -m remerge` would.

Importing torch and transformers takes longer than many a job. A run on one machine therefore has a process
that has imported them, see `remerge.forks`: it forks, and its child does the job with the files, folder and
environment of this process, which waits. If there is none, the job is done here.
"""

import json
import os
import socket
import sys

PLACE = "REMERGE_WARM"
"""The variable that tells a job the folder in which the sockets of its run are."""


def socket_in(folder: str) -> str:
    """The path of the socket in a folder: a container that sees the folder has files of its own."""
    return os.path.join(folder, os.readlink("/proc/self/ns/mnt"))


def main(arguments: list[str]) -> int:
    """Let the run's process do a job, or do it here; the exit status."""
    folder = os.environ.get(PLACE)
    try:
        status = _done_by(socket_in(folder), arguments) if folder else None
    except KeyboardInterrupt:
        return 130
    if status is None:
        from remerge import __main__ as command_line

        return command_line.main(arguments)
    return status if status >= 0 else 128 - status


def _done_by(place: str, arguments: list[str]) -> int | None:
    """The status of a job that the run's process has done; None if it did not even begin."""
    with socket.socket(socket.AF_UNIX) as warm:
        try:
            warm.connect(place)
            asked = {"arguments": arguments, "folder": os.getcwd(), "environment": dict(os.environ)}
            socket.send_fds(warm, [b"\n"], [0, 1, 2])
            warm.sendall(json.dumps(asked).encode() + b"\n")
            answers = warm.makefile()
            if not answers.readline():
                return None
        except OSError:  # not there yet, on another machine, or it could not import the libraries
            return None
        return int(answers.readline() or 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
