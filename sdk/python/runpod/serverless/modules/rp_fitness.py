"""Checks of the worker's surroundings that run once, before the first take. Only those that the handler registers."""

import os
import sys
import time

from ..._rpx.kinds import run_maybe_async
from .rp_logger import RunPodLogger

log = RunPodLogger()
_checks = []


def register_fitness_check(func):
    """Decorator. A check is a function, sync or async, that raises when this worker must not serve."""
    _checks.append(func)
    return func


def clear_fitness_checks():
    """Forgets all checks."""
    _checks.clear()


def run_fitness_checks(report):
    """Runs every check in order. The first that fails is told to `report(name, reason)`, then the process ends with 1.

    It ends by os._exit: threads that a handler module started before the checks cannot hold it back.
    """
    for check in _checks:
        name = getattr(check, "__name__", "fitness_check")
        started = time.perf_counter()
        try:
            run_maybe_async(check)
        except Exception as err:
            reason = f"{type(err).__name__}: {err}"
            log.error(f"Fitness check failed: {name} | {reason}")
            report(name, reason)
            log.error("Worker is unhealthy, exiting.")
            sys.stderr.flush()
            os._exit(1)
        log.debug(f"Fitness check passed: {name} ({(time.perf_counter() - started) * 1000:.2f}ms)")
    if _checks:
        log.info("All fitness checks passed.")
