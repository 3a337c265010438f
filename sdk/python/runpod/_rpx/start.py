"""Where `runpod.serverless.start` leads: a local test, or the worker."""

import os
import sys

from ..serverless.modules.rp_fitness import run_fitness_checks
from ..serverless.modules.rp_logger import RunPodLogger
from ..version import __version__
from .kinds import is_async
from .settings import Settings, is_production

log = RunPodLogger()

_WITH_VALUE = ("rp_log_level", "rp_api_port", "rp_api_concurrency", "rp_api_host", "test_input")
_FLAGS = ("rp_debugger", "rp_serve_api")


def _read_arguments():
    """The recognized arguments as a dictionary; they are removed from sys.argv, the handler's own stay."""
    found, rest = {}, sys.argv[:1]
    arguments = iter(sys.argv[1:])
    for argument in arguments:
        name, has_value, value = argument.partition("=")
        name = name[2:] if name.startswith("--") else ""
        if name in _FLAGS:
            found[name] = True
        elif name in _WITH_VALUE:
            value = value if has_value else next(arguments, None)
            if value is None:
                raise SystemExit(f"--{name} needs a value")
            found[name] = value
        else:
            rest.append(argument)
    sys.argv = rest
    return found


def _refuse_server(arguments):
    if arguments.get("rp_serve_api") or os.environ.get("RUNPOD_REALTIME_PORT", "0") != "0":
        raise SystemExit(
            "Error: rpx's stand-in for the runpod package has no API server (--rp_serve_api, RUNPOD_REALTIME_PORT).\n"
            "try: rpx dev   runs this handler behind the whole RunPod API, queue included\n"
            "try: pip install runpod   brings the package that has --rp_serve_api"
        )


def start(config):
    """`config` as runpod.serverless.start takes it. Returns when the worker is drained; a local test ends the process."""
    print(f"--- Starting Serverless Worker |  Version {__version__} ---", flush=True)
    if not callable(config.get("handler")):
        raise TypeError('runpod.serverless.start needs {"handler": function}')
    arguments = _read_arguments()
    _refuse_server(arguments)
    if arguments.get("rp_log_level"):
        log.set_level(arguments["rp_log_level"])
    if arguments.get("rp_debugger"):
        log.warn("--rp_debugger has no effect in rpx's stand-in for the runpod package.")
    if "test_input" in arguments or not is_production():
        from .local import run_local

        run_local(config, arguments.get("test_input"))
    _serve(config)


def _report_unhealthy(check, reason):
    from . import ping

    if ping.is_wanted():
        params = [("status", "unhealthy"), ("check", check), ("reason", reason[:256]), ("runpod_version", __version__)]
        ping.send_ping(params, 2)


def _serve(config):
    run_fitness_checks(_report_unhealthy)

    from .heartbeat import Heartbeat
    from .serial import Serial
    from .worker import Worker

    worker = Worker(config, Settings(), Heartbeat())
    worker.install_signals()
    is_serial = not is_async(worker.handler)
    if is_serial and worker.next_concurrency() == 1:
        serial = Serial(worker)
        serial.first_take()
        serial.run()
    else:
        worker.start_background()
    while worker.ready or not worker.draining:
        if is_serial and worker.concurrency == 1:
            Serial(worker).run()
        else:
            from .parallel import run_parallel

            run_parallel(worker, is_serial)
