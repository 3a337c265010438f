"""What both ways of running jobs share: the state of the worker, taking, the stop channel, draining."""

import json
import signal
import threading
import time
from collections import deque

from ..serverless.modules import rp_logger
from . import progress, results
from .wire_http import Backoff, Client

log = rp_logger.RunPodLogger()

TAKE_TIMEOUT_SECONDS = 90.0
#: How long a poll that was given up may take to end.
DRAIN_POLL_SECONDS = 5.0
MAX_CONCURRENCY = 4096
TOO_MANY_REQUESTS_SECONDS = 5.0
#: An empty answer sooner than this was no long poll.
HELD_SECONDS = 0.02
STOP_FLOOR_SECONDS = 1.0
NO_STOP_CHANNEL_SECONDS = 30.0
#: Raised in the main thread to stop a sync handler. Ignored by default, so a handler that resets it loses only this.
STOP_SIGNAL = signal.SIGURG


class JobStopped(BaseException):
    """Raised inside a sync handler whose job was stopped, wherever it waits. Like KeyboardInterrupt, not an Exception."""


class Job:
    """One delivery. `attempt`: its number as header text, or None from a server that tells none."""

    __slots__ = ("data", "id", "attempt", "chunks", "stopped", "task")

    def __init__(self, data, attempt):
        self.data, self.id, self.attempt = data, data["id"], attempt
        self.chunks = 0
        self.stopped = False
        self.task = None


def _attempt_header(attempt):
    return f"X-Rpx-Attempt: {attempt}\r\n" if attempt else ""


class Worker:
    """`ready`: jobs handed over and not begun. `running`: jobs in a handler or being reported."""

    def __init__(self, config, settings, heartbeat):
        self.handler = config["handler"]
        self.modifier = config.get("concurrency_modifier")
        self.aggregate = bool(config.get("return_aggregate_stream"))
        self.refresh = bool(config.get("refresh_worker"))
        self.settings = settings
        self.heartbeat = heartbeat
        self.concurrency = 1
        self.draining = False
        self.is_fast = False
        self.ready = deque()
        self.running = {}
        self.interruptible = None
        self.loop = None  # while jobs run on an event loop
        self.on_drain = None  # gives up the poll that is under way
        self.backoff = Backoff()
        self.quick_empty = 0
        progress.open_channel(settings.post_headers, settings.done, self._attempt_header_of)

    # ------------------------------------------------------------------ jobs

    def _attempt_header_of(self, job_id):
        job = self.running.get(job_id)
        return _attempt_header(job.attempt) if job else ""

    def begin(self, job):
        self.running[job.id] = job
        self.heartbeat.show(self.running)
        batch = job.data.get("batchId")
        rp_logger.batch_id.set(batch if isinstance(batch, str) else None)
        log.info("Started.", job.id)

    def end(self, job, is_next_ready=False):
        """The job is over and reported. The ping's list is left as it is when another job begins at once."""
        self.running.pop(job.id, None)
        if not is_next_ready:
            self.heartbeat.show(self.running)

    def final_post(self, job, result, is_stream, wanted):
        """(url, headers, body) of the job's last post. `wanted`: how many jobs to ask for with it."""
        if self.refresh:
            result["stopPod"] = True
        if result.get("stopPod"):
            log.info("This worker is to be refreshed: it takes no more jobs.", job.id)
            self.drain()
        headers = self.settings.post_headers + _attempt_header(job.attempt)
        if self.is_fast and wanted > 0 and not self.draining:
            headers += f"X-Rpx-Take: {wanted}\r\n"
        return self.settings.done(job.id, is_stream), headers, results.encode_result(result, job.id)

    def chunk_post(self, job, chunk):
        """(url, headers, body) of one chunk. Raises TypeError, ValueError or RecursionError when JSON cannot carry it."""
        headers = self.settings.post_headers + _attempt_header(job.attempt) + f"X-Rpx-Chunk: {job.chunks}\r\n"
        body = results.encode({"output": chunk})
        job.chunks += 1
        return self.settings.stream(job.id), headers, body

    # ------------------------------------------------------------------ taking

    def next_concurrency(self):
        """Asks the handler's concurrency_modifier; what it says holds from the next take on."""
        if self.modifier is None:
            return self.concurrency
        try:
            self.concurrency = min(max(int(self.modifier(self.concurrency)), 1), MAX_CONCURRENCY)
        except Exception as err:
            log.error(f"concurrency_modifier failed, {self.concurrency} stays: {type(err).__name__}: {err}")
        return self.concurrency

    def accept(self, reply):
        """Puts the jobs of a reply to a take or a final post on `ready`; their number."""
        self.is_fast = reply.headers.get("x-rpx-fast") == "1" or self.is_fast
        if reply.status != 200 or not reply.is_json() or not reply.body:
            return 0
        try:
            jobs = json.loads(reply.body)
        except (ValueError, RecursionError) as err:
            log.error(f"Failed to get job. | The reply is no JSON: {err}")
            return 0
        jobs = jobs if isinstance(jobs, list) else [jobs]
        attempts = [text.strip() for text in reply.headers.get("x-rpx-attempts", "").split(",")]
        count = 0
        for at, data in enumerate(jobs):
            if not isinstance(data, dict) or not isinstance(data.get("id"), str):
                log.error("Failed to get job. | A job without an id was dropped.")
                continue
            attempt = attempts[at] if at < len(attempts) and attempts[at].isdigit() else None
            self.ready.append(Job(data, attempt))
            count += 1
        return count

    def accept_next(self, reply):
        """Jobs that came with the reply to a final post: only an array counts."""
        if reply is not None and reply.body.lstrip()[:1] == b"[":
            return self.accept(reply)
        return 0

    def pause_after_take(self, outcome, held_seconds):
        """Seconds to wait before the next take. `outcome`: the reply, or the OSError in place of one."""
        status = getattr(outcome, "status", None)
        if self.ready or self.draining:
            self.quick_empty = 0
            self.backoff.reset()
            return 0
        if status is not None and status < 300 or status == 400:  # 400: nothing for this worker just now
            self.quick_empty = self.quick_empty + 1 if held_seconds < HELD_SECONDS else 0
            if self.quick_empty < 3:
                self.backoff.reset()
                return 0
            return self.backoff.next_seconds()
        log.warn(f"Failed to get job. | {f'HTTP {status}' if status else outcome}")
        return TOO_MANY_REQUESTS_SECONDS if status == 429 else self.backoff.next_seconds()

    # ------------------------------------------------------------------ stopping

    def drain(self):
        """Takes no more jobs; those that run, and those already handed over, end. Safe in a signal handler."""
        if self.draining:
            return
        self.draining = True
        if self.on_drain is not None:
            self.on_drain()

    def watch_stops(self):
        """The stop channel: a held request in a thread of its own. Never ends."""
        url = self.settings.stop()
        client, backoff = Client(), Backoff(STOP_FLOOR_SECONDS, NO_STOP_CHANNEL_SECONDS)
        while True:
            started = time.monotonic()
            try:
                wait = self._read_stops(client, url, started, backoff) if url else NO_STOP_CHANNEL_SECONDS
            except (OSError, ValueError):
                wait = backoff.next_seconds()
            self.heartbeat.check()
            time.sleep(wait)

    def _read_stops(self, client, url, started, backoff):
        reply = client.request("GET", url, self.settings.headers, None, TAKE_TIMEOUT_SECONDS)
        if reply.status == 429:
            return TOO_MANY_REQUESTS_SECONDS
        if reply.status >= 300:
            return backoff.next_seconds()
        backoff.reset()
        found = json.loads(reply.body) if reply.status == 200 and reply.body else None
        ids = found.get("jobsToStop") if isinstance(found, dict) else None
        for job_id in ids if isinstance(ids, list) else []:
            self._stop(job_id)
        return 0 if ids or time.monotonic() - started >= STOP_FLOOR_SECONDS else STOP_FLOOR_SECONDS

    def _stop(self, job_id):
        for job in list(self.ready):
            if job.id == job_id:
                job.stopped = True
        job = self.running.get(job_id) if isinstance(job_id, str) else None
        if job is None:
            return
        log.info("Stopping job.", job_id)
        job.stopped = True
        loop = self.loop
        if loop is not None:
            loop.call_soon_threadsafe(self._cancel, job)
        elif self.interruptible is job:
            signal.pthread_kill(threading.main_thread().ident, STOP_SIGNAL)

    @staticmethod
    def _cancel(job):
        if job.task is not None:
            job.task.cancel()

    def _interrupt(self, _signum, _frame):
        job = self.interruptible
        if job is not None and job.stopped:
            self.interruptible = None
            raise JobStopped()

    def _on_signal(self, signum, _frame):
        if signum == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)  # the second one ends it at once
        self.drain()

    def install_signals(self):
        """False when this is not the main thread: then a signal ends the process as usual."""
        try:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, self._on_signal)
            signal.signal(STOP_SIGNAL, self._interrupt)
            return True
        except ValueError:
            log.warn("Signal handling is only supported in the main thread.")
            return False

    def start_background(self):
        """The ping process and the stop channel. Runs while the server already looks for a job."""
        self.heartbeat.start()
        threading.Thread(target=self.watch_stops, name="rpx-stop", daemon=True).start()
