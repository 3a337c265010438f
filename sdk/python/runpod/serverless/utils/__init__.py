"""Import paths of the real package: rp_validator, rp_cleanup."""

from ..._missing import lacking

__getattr__ = lacking("runpod.serverless.utils", ("rp_cleanup", "rp_validator"))
