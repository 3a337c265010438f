"""Starting a worker: `runpod.serverless.start({"handler": handler})`."""

from .. import _missing
from ..version import __version__ as runpod_version
from .modules.rp_fitness import register_fitness_check
from .modules.rp_progress import progress_update

__all__ = ["start", "progress_update", "register_fitness_check", "runpod_version"]

__getattr__ = _missing.lacking("runpod.serverless", ("modules", "utils"))


def start(config):
    """Runs the worker until it is drained (SIGTERM, SIGINT or `refresh_worker`), or one local test.

    config: `handler` (needed), `concurrency_modifier`, `return_aggregate_stream`, `refresh_worker`.
    """
    from .._rpx.start import start as run

    run(config)
