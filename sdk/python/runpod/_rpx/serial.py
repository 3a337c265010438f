"""One job at a time, in the main thread, without an event loop: sync handlers at concurrency 1.

Many handlers need the main thread (signals, CUDA set-up, GUI and database libraries), and asyncio costs a start
more than all the rest of this SDK.
"""

import threading
import time

from ..serverless.modules.rp_logger import RunPodLogger
from . import progress, results
from .deliver import deliver
from .kinds import is_async_generator, is_awaitable, is_generator
from .wire_http import Client
from .worker import DRAIN_POLL_SECONDS, TAKE_TIMEOUT_SECONDS, JobStopped

log = RunPodLogger()


class Serial:
    """`run` returns when the worker is drained, or when it is to run several jobs at once."""

    def __init__(self, worker):
        self.worker = worker
        self.client = Client()
        self.poll = None  # the connection of the poll that is under way
        self.own_loop = None  # for sync handlers that return an awaitable

    def run(self):
        worker = self.worker
        worker.on_drain = self._give_up_poll
        while worker.ready or not worker.draining:
            if worker.ready:
                self._handle(worker.ready.popleft())
            elif worker.next_concurrency() > 1:
                return
            else:
                self._take()
            if worker.concurrency > 1 and worker.ready:
                return

    def _give_up_poll(self):
        """In a signal handler, in the main thread: the poll's read goes on, so a job already sent is still run."""
        poll = self.poll
        if poll is not None:
            poll.half_close()
            timer = threading.Timer(DRAIN_POLL_SECONDS, poll.abort)
            timer.daemon = True
            timer.start()

    def _take(self, on_sent=None):
        worker, started = self.worker, time.monotonic()
        try:
            outcome = self._poll(worker.settings.take(1, False), on_sent)
            worker.accept(outcome)
        except OSError as err:
            outcome = err
        self._sleep(worker.pause_after_take(outcome, time.monotonic() - started))

    def _poll(self, url, on_sent):
        self.poll, target = self.client.connection(url)
        try:
            if self.worker.draining:
                raise ConnectionAbortedError("draining")
            return self.poll.request("GET", target, self.worker.settings.headers, None, TAKE_TIMEOUT_SECONDS, on_sent)
        finally:
            connection, self.poll = self.poll, None
            if connection.closing:  # given up: results go over a new connection
                connection.close()
                connection.closing = False

    def first_take(self):
        """The first poll starts the background parts once it is sent: they cost the cold start nothing."""
        todo = [self.worker.start_background]

        def background():
            if todo:
                todo.pop()()

        self.worker.on_drain = self._give_up_poll
        self._take(background)
        background()

    def _sleep(self, seconds):
        end = time.monotonic() + seconds
        while not self.worker.draining and time.monotonic() < end:
            time.sleep(min(0.1, max(end - time.monotonic(), 0)))

    # ------------------------------------------------------------------ one job

    def _handle(self, job):
        worker = self.worker
        if job.stopped:
            return
        worker.begin(job)
        result, is_stream = self._call(job)
        if result is None or job.stopped:
            log.info("Job stopped.", job.id)
        else:
            self._report(job, result, is_stream)
        worker.end(job, bool(worker.ready))

    def _report(self, job, result, is_stream):
        worker = self.worker
        if progress.has_waiting(job.id):
            progress.flush(job.id)
        wanted = 0 if worker.ready or worker.draining else worker.next_concurrency()
        url, headers, body = worker.final_post(job, result, is_stream, wanted)
        worker.accept_next(deliver(self.client, url, headers, body, job.id))
        log.info("Finished.", job.id)

    def _call(self, job):
        """(result, is_stream); the result is None when the job was stopped."""
        worker = self.worker
        streaming = [False]
        try:
            try:
                worker.interruptible = job
                if job.stopped:  # before it could be interrupted
                    raise JobStopped()
                return self._run_handler(job, streaming), streaming[0]
            finally:
                worker.interruptible = None
        except JobStopped:
            self._end_own_loop()
            return None, streaming[0]
        except Exception as err:
            return results.failed(err, job.id), streaming[0]

    def _run_handler(self, job, streaming):
        value = self.worker.handler(job.data)
        if is_generator(value):
            streaming[0] = True
            return self._stream(job, _iterate(value))
        if is_async_generator(value):
            streaming[0] = True
            return self._stream(job, _iterate_async(value, self._await))
        return results.returned(self._await(value) if is_awaitable(value) else value)

    def _stream(self, job, chunks):
        all_chunks = [] if self.worker.aggregate else None
        while True:
            is_last, chunk = next(chunks)
            if is_last:
                log.info("Finished running generator.", job.id)
                return results.streamed(all_chunks, chunk)
            error = results.chunk_error(chunk)
            if error is not None or job.stopped:
                chunks.close()
                return {"error": error or "stopped"}
            url, headers, body = self.worker.chunk_post(job, chunk)
            if all_chunks is not None:
                all_chunks.append(chunk)
            deliver(self.client, url, headers, body, job.id)

    # ------------------------------------------------------------------ awaitables from sync handlers

    def _await(self, awaitable):
        import asyncio

        async def finish():
            return await awaitable

        if self.own_loop is None:
            self.own_loop = asyncio.new_event_loop()
            asyncio.set_event_loop(self.own_loop)
        return self.own_loop.run_until_complete(finish())

    def _end_own_loop(self):
        """After a stop: what the job left on the loop is cancelled with it."""
        loop, self.own_loop = self.own_loop, None
        if loop is None:
            return
        import asyncio

        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        loop.close()


def _iterate(generator):
    """Yields (False, chunk) for each, then (True, the generator's return value)."""
    try:
        while True:
            try:
                chunk = next(generator)
            except StopIteration as end:
                yield True, end.value
                return
            yield False, chunk
    finally:
        generator.close()


def _iterate_async(generator, run):
    try:
        while True:
            try:
                chunk = run(generator.__anext__())
            except StopAsyncIteration:
                yield True, None
                return
            yield False, chunk
    finally:
        run(generator.aclose())
