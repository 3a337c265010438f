"""The heartbeat: a process of its own, so that a handler that never lets go of the interpreter still counts as alive.

A fresh interpreter rather than a fork: a fork would inherit the handler's open devices and locks. It ends with
its parent: the pipe `alive` then reads as ended, and the parent's id is compared too, because a process that
the handler forked may hold the pipe's other end.

As a script: ping.py PARENT_PID ALIVE_FD IDS_FD(-1: none) VERSION
"""

import os
import select
import sys
import time

if __name__ == "__main__":  # isolated (-I): nothing of the handler's folder can be imported by mistake
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    from wire_http import Client
else:
    from .wire_http import Client

DEFAULT_INTERVAL_SECONDS = 10
LEAST_INTERVAL_SECONDS = 0.1
PARENT_CHECK_SECONDS = 1.0
TRIES = 3
IDS_BYTES = 65536


def interval_seconds():
    """RUNPOD_PING_INTERVAL in seconds."""
    try:
        return max(int(os.environ.get("RUNPOD_PING_INTERVAL", "")) / 1000, LEAST_INTERVAL_SECONDS)
    except ValueError:
        return DEFAULT_INTERVAL_SECONDS


def is_wanted():
    """Pings are sent only where there is an address, a key and a worker id."""
    names = ("RUNPOD_WEBHOOK_PING", "RUNPOD_AI_API_KEY", "RUNPOD_POD_ID")
    return all(os.environ.get(name) for name in names)


def _quote(text):
    return "".join(c if c.isalnum() and c.isascii() or c in "-_." else "".join(f"%{b:02X}" for b in c.encode()) for c in text)


def send_ping(params, timeout):
    """One GET to the ping URL with `params` added; True when the server took it. Never raises OSError."""
    url = os.environ["RUNPOD_WEBHOOK_PING"].replace("$RUNPOD_POD_ID", os.environ["RUNPOD_POD_ID"])
    query = "&".join(f"{name}={_quote(value)}" for name, value in params if value)
    url += ("&" if "?" in url else "?") + query
    headers = f"Authorization: {os.environ['RUNPOD_AI_API_KEY'].strip()}\r\nConnection: close\r\n"
    try:
        reply = Client().request("GET", url, headers, None, timeout)
        return reply.status != 429 and reply.status < 500
    except (OSError, ValueError):
        return False


def _wait(alive, parent, seconds):
    """False when the parent is gone."""
    end = time.monotonic() + seconds
    while True:
        left = end - time.monotonic()
        if left <= 0:
            return True
        if select.select([alive], [], [], min(left, PARENT_CHECK_SECONDS))[0] or os.getppid() != parent:
            return False


def _job_ids(descriptor):
    if descriptor < 0:
        return ""
    return os.pread(descriptor, IDS_BYTES, 0).split(b"\0")[0].decode("ascii", "replace")


def main(parent, alive, ids, version):
    interval = interval_seconds()
    while True:
        for attempt in range(TRIES):
            params = [("job_id", _job_ids(ids)), ("runpod_version", version)]
            if send_ping(params, interval * 2):
                break
            if not _wait(alive, parent, min(2**attempt, interval)):
                return
        if not _wait(alive, parent, interval):
            return


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
