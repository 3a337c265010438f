"""Several jobs at once, on an event loop in the main thread: async handlers, and any handler at concurrency above 1.

Sync handlers run in threads here. One take is held for all free places; a final post asks for the place that it
frees (fast path), so a busy worker never polls.
"""

import asyncio
import contextvars
import time

from ..serverless.modules.rp_logger import RunPodLogger
from . import progress, results
from .async_http import AsyncClient
from .deliver import REPLY_TIMEOUT_SECONDS, RESULT_RETRY_SECONDS, Delivery
from .kinds import is_async, is_async_generator, is_awaitable, is_generator
from .worker import DRAIN_POLL_SECONDS, MAX_CONCURRENCY, TAKE_TIMEOUT_SECONDS

log = RunPodLogger()

#: How often a concurrency_modifier is asked while all places are taken.
MODIFIER_SECONDS = 1.0


def run_parallel(worker, may_be_serial):
    """Returns when the worker is drained, or, with `may_be_serial`, when the concurrency fell to 1 and nothing runs."""
    try:
        asyncio.run(_Parallel(worker, may_be_serial).run())
    finally:
        worker.on_drain = worker.loop = None


class _Parallel:
    def __init__(self, worker, may_be_serial):
        self.worker = worker
        self.may_be_serial = may_be_serial
        self.runs_in_threads = not is_async(worker.handler)
        self.client = AsyncClient()
        self.tasks = set()
        self.taking = 0  # places that the pending take may fill
        self.reporting = 0  # tasks whose handler is done and whose final post is under way
        self.offered = 0  # places that those posts may fill
        self.changed = None
        self.threads = None
        self.failure = None

    async def run(self):
        worker = self.worker
        self.changed = asyncio.Event()
        worker.loop = loop = asyncio.get_running_loop()
        worker.on_drain = lambda: loop.call_soon_threadsafe(self._on_drain)
        if worker.draining:
            self.client.is_given_up = True
        self._fill()
        while not worker.draining and self.failure is None:
            concurrency = worker.next_concurrency()
            if self.may_be_serial and concurrency == 1 and not self.tasks:
                break
            if self._free() > 0:
                await self._take(self._free())
            else:
                await self._wait(MODIFIER_SECONDS if worker.modifier else None)
        while (self.tasks or worker.ready) and self.failure is None:
            await self._wait(None)
        self.client.close()
        if self.failure is not None:
            raise self.failure

    def _free(self):
        """Places for a take. A task that is being reported still holds its place, or has offered it with its post."""
        held = max(len(self.tasks), len(self.tasks) - self.reporting + self.offered)
        return self.worker.concurrency - held - len(self.worker.ready) - self.taking

    async def _wait(self, seconds):
        try:
            await asyncio.wait_for(self.changed.wait(), seconds)
        except asyncio.TimeoutError:
            pass
        self.changed.clear()

    def _on_drain(self):
        self.client.give_up_polls()
        self.changed.set()
        asyncio.get_running_loop().call_later(DRAIN_POLL_SECONDS, self._abort_polls)

    def _abort_polls(self):
        for writer in self.client.polls:
            writer.transport.abort()

    # ------------------------------------------------------------------ taking

    async def _take(self, count):
        worker, started = self.worker, time.monotonic()
        self.taking = count
        try:
            url = worker.settings.take(count, bool(self.tasks))
            outcome = await self.client.request("GET", url, worker.settings.headers, None, TAKE_TIMEOUT_SECONDS, True)
            worker.accept(outcome)
        except OSError as err:
            outcome = err
        finally:
            self.taking = 0
        pause = worker.pause_after_take(outcome, time.monotonic() - started)
        self._fill()
        if pause:
            await self._wait_drain(pause)

    async def _wait_drain(self, seconds):
        end = time.monotonic() + seconds
        while not self.worker.draining and time.monotonic() < end:
            await asyncio.sleep(min(0.1, max(end - time.monotonic(), 0)))

    def _fill(self):
        worker = self.worker
        while worker.ready and len(self.tasks) < worker.concurrency:
            job = worker.ready.popleft()
            if job.stopped:
                continue
            task = asyncio.ensure_future(self._handle(job))
            self.tasks.add(task)
            task.add_done_callback(self._on_done)

    def _on_done(self, task):
        self.tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.failure = task.exception()
        self._fill()
        self.changed.set()

    # ------------------------------------------------------------------ one job

    async def _handle(self, job):
        worker = self.worker
        worker.begin(job)
        try:
            result, is_stream = await self._call(job)
            if result is None or job.stopped:
                log.info("Job stopped.", job.id)
            else:
                await self._report(job, result, is_stream)
        finally:
            worker.end(job)

    async def _report(self, job, result, is_stream):
        worker = self.worker
        if progress.has_waiting(job.id):
            await asyncio.get_running_loop().run_in_executor(None, progress.flush, job.id)
        self.reporting += 1
        held = len(self.tasks) - self.reporting + self.offered + self.taking + len(worker.ready)
        url, headers, body = worker.final_post(job, result, is_stream, worker.concurrency - held)
        offered = worker.concurrency - held if "X-Rpx-Take" in headers else 0
        self.offered += offered
        try:
            worker.accept_next(await self._deliver(url, headers, body, job.id))
        finally:
            self.reporting -= 1
            self.offered -= offered
        log.info("Finished.", job.id)

    async def _deliver(self, url, headers, body, job_id):
        delivery = Delivery(job_id, RESULT_RETRY_SECONDS)
        while True:
            try:
                outcome = await self.client.request("POST", url, headers, body, REPLY_TIMEOUT_SECONDS)
            except OSError as err:
                outcome = err
            wait = delivery.again_after(outcome)
            if wait is None:
                return outcome if getattr(outcome, "status", 500) < 400 else None
            await asyncio.sleep(wait)

    async def _call(self, job):
        """(result, is_stream); the result is None when the job was stopped."""
        streaming = [False]
        job.task = asyncio.current_task()
        try:
            return await self._run_handler(job, streaming), streaming[0]
        except asyncio.CancelledError as err:
            if not job.stopped:
                return results.failed(err, job.id), streaming[0]
            return None, streaming[0]
        except Exception as err:
            return results.failed(err, job.id), streaming[0]
        finally:
            job.task = None  # from here on a stop only drops the result

    async def _run_handler(self, job, streaming):
        if self.runs_in_threads:
            job.task = None  # a thread cannot be interrupted: a stop drops the result, and ends a generator
            value = await self._in_thread(self._run_sync, job, streaming)
            if not is_awaitable(value) and not is_async_generator(value):
                return value
            job.task = asyncio.current_task()
        else:
            value = self.worker.handler(job.data)
        if is_awaitable(value):
            return results.returned(await value)
        if is_async_generator(value):
            streaming[0] = True
            return await self._stream(job, value)
        return results.returned(value)

    async def _stream(self, job, generator):
        chunks = [] if self.worker.aggregate else None
        try:
            async for chunk in generator:
                error = results.chunk_error(chunk)
                if error is not None:
                    return {"error": error}
                post = self.worker.chunk_post(job, chunk)
                if chunks is not None:
                    chunks.append(chunk)
                await self._deliver(*post, job.id)
        finally:
            await generator.aclose()
        log.info("Finished running generator.", job.id)
        return results.streamed(chunks, None)

    # ------------------------------------------------------------------ sync handlers

    def _in_thread(self, function, *arguments):
        if self.threads is None:
            from concurrent.futures import ThreadPoolExecutor

            self.threads = ThreadPoolExecutor(MAX_CONCURRENCY, thread_name_prefix="rpx-job")
        context = contextvars.copy_context()
        return asyncio.get_running_loop().run_in_executor(self.threads, context.run, function, *arguments)

    def _run_sync(self, job, streaming):
        """In a thread. The job's result, or an awaitable or async generator for the loop to run."""
        try:
            value = self.worker.handler(job.data)
        except StopIteration as err:  # no future can carry one
            raise RuntimeError("the handler raised StopIteration") from err
        if is_awaitable(value) or is_async_generator(value):
            return value
        if not is_generator(value):
            return results.returned(value)
        streaming[0] = True
        chunks = [] if self.worker.aggregate else None
        try:
            return self._stream_sync(job, value, chunks)
        finally:
            value.close()

    def _stream_sync(self, job, generator, chunks):
        while True:
            try:
                chunk = next(generator)
            except StopIteration as end:
                log.info("Finished running generator.", job.id)
                return results.streamed(chunks, end.value)
            error = results.chunk_error(chunk)
            if error is not None or job.stopped:
                return {"error": error or "stopped"}
            post = self.worker.chunk_post(job, chunk)
            if chunks is not None:
                chunks.append(chunk)
            asyncio.run_coroutine_threadsafe(self._deliver(*post, job.id), self.worker.loop).result()
