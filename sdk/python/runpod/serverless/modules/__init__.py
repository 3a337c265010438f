"""Import paths of the real package: rp_logger, rp_progress, rp_fitness."""

from ..._missing import lacking

__getattr__ = lacking("runpod.serverless.modules", ("rp_fitness", "rp_logger", "rp_progress"))
