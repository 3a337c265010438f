"""A handler tried by hand: `python handler.py --test_input '{"input": {...}}'`, or test_input.json beside it."""

import json
import os
import sys

from ..serverless.modules.rp_logger import RunPodLogger
from . import results
from .kinds import is_async_generator, is_awaitable, is_generator

log = RunPodLogger()

TEST_FILE = "test_input.json"


def _give_up(message):
    log.error(message)
    sys.exit(1)


def _read_job(text):
    source = "--test_input"
    if text is not None:
        log.info("test_input set, using test_input as job input.")
    else:
        if not os.path.exists(TEST_FILE):
            log.warn(f"{TEST_FILE} not found, exiting.")
            sys.exit(1)
        log.info(f"Using {TEST_FILE} as job input.")
        source = TEST_FILE
        with open(TEST_FILE, encoding="utf-8") as file:
            text = file.read()
    try:
        job = json.loads(text)
    except ValueError as err:
        _give_up(f"{source} is not JSON: {err}")
    if not isinstance(job, dict) or job.get("input") is None:
        _give_up("Job has no input parameter. Unable to run.")
    job.setdefault("id", "local_test")
    return job


async def _finish(value, job_id, aggregate):
    """Like a worker would, in one go: chunks are logged instead of posted."""
    if is_awaitable(value):
        return results.returned(await value)
    chunks = []
    async for chunk in value:
        if results.chunk_error(chunk) is not None:
            return {"error": results.chunk_error(chunk)}
        log.info(f"Stream output: {chunk}", job_id)
        chunks.append(chunk)
    return results.streamed(chunks if aggregate else None, None)


def _finish_generator(generator, job_id, aggregate):
    chunks = []
    while True:
        try:
            chunk = next(generator)
        except StopIteration as end:
            return results.streamed(chunks if aggregate else None, end.value)
        if results.chunk_error(chunk) is not None:
            return {"error": results.chunk_error(chunk)}
        log.info(f"Stream output: {chunk}", job_id)
        chunks.append(chunk)


def _run(config, job):
    aggregate = bool(config.get("return_aggregate_stream"))
    log.info("Started.", job["id"])
    try:
        value = config["handler"](job)
        if is_generator(value):
            return _finish_generator(value, job["id"], aggregate)
        if not is_awaitable(value) and not is_async_generator(value):
            return results.returned(value)
        import asyncio

        return asyncio.run(_finish(value, job["id"], aggregate))
    except Exception as err:
        return results.failed(err, job["id"])


def run_local(config, test_input):
    """Runs one job and ends the process: 0, or 1 when there is no input or the handler reports an error."""
    job = _read_job(test_input)
    result = _run(config, job)
    if result.get("error"):
        _give_up(f"Job {job['id']} failed with error: {result['error']}")
    results.encode_result(result, job["id"])  # says so when the platform could not carry it
    log.info(f"Job {job['id']} completed successfully.")
    log.info(f"Job result: {result}")
    log.info("Local testing complete, exiting.")
    sys.exit(0)
