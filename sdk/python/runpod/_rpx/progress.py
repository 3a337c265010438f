"""Progress updates: one background thread sends them in order, over a connection of its own."""

import threading
from collections import deque

from ..serverless.modules.rp_logger import RunPodLogger
from . import results
from .deliver import PROGRESS_RETRY_SECONDS, deliver
from .wire_http import Client

log = RunPodLogger()

#: More than this waiting means that the server is away: the oldest go, the newest tell the most.
MAX_WAITING = 256
FLUSH_SECONDS = 1.0

_changed = threading.Condition()
_waiting = deque()
_sending = None
_channel = None


def open_channel(post_headers, url_of, attempt_header):
    """Called once when the worker serves. `url_of(job_id)` and `attempt_header(job_id)` belong to its posts."""
    global _channel
    _channel = (post_headers, url_of, attempt_header)


def update(job, value):
    job_id = job["id"]
    try:
        body = results.encode({"status": "IN_PROGRESS", "output": value})
    except (TypeError, ValueError, RecursionError) as err:
        log.error(f"The progress update cannot be sent as JSON: {err}", job_id)
        return
    if _channel is None:
        log.debug(f"Progress update: {value}", job_id)
        return
    with _changed:
        if _sending is None:
            _start()
        if len(_waiting) >= MAX_WAITING:
            _waiting.popleft()
        _waiting.append((job_id, body))
        _changed.notify_all()


def has_waiting(job_id):
    """True while an update of this job is not out yet."""
    return _sending is not None and (_sending == job_id or any(waiting[0] == job_id for waiting in _waiting))


def flush(job_id):
    """Waits, a second at most, until this job's updates are out: they are not to follow its result."""
    with _changed:
        _changed.wait_for(lambda: not has_waiting(job_id), FLUSH_SECONDS)
        rest = [waiting for waiting in _waiting if waiting[0] != job_id]
        _waiting.clear()
        _waiting.extend(rest)


def _start():
    global _sending
    _sending = ""
    threading.Thread(target=_send_all, name="rpx-progress", daemon=True).start()


def _send_all():
    global _sending
    client = Client()
    post_headers, url_of, attempt_header = _channel
    while True:
        with _changed:
            _changed.wait_for(lambda: _waiting)
            job_id, body = _waiting.popleft()
            _sending = job_id
        headers = post_headers + attempt_header(job_id)
        deliver(client, url_of(job_id), headers, body, job_id, PROGRESS_RETRY_SECONDS)
        with _changed:
            _sending = ""
            _changed.notify_all()
