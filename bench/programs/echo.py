"""Echoes its input. BENCH_LANES: how many jobs at once in one process; with one, a plain sync handler."""

import os

import runpod

LANES = int(os.environ.get("BENCH_LANES", "1"))


def handler(job):
    return job["input"]


async def handler_async(job):
    return job["input"]


if LANES == 1:
    runpod.serverless.start({"handler": handler})
else:
    runpod.serverless.start({"handler": handler_async, "concurrency_modifier": lambda _current: LANES})
