"""rpx's stand-in for the `runpod` package: what a serverless worker needs, on the standard library alone.

A real `runpod` always wins over it: this folder is last on sys.path. What is lacking raises an
ImportError that names the real package.
"""

from . import _missing

_missing.install()

from . import serverless  # noqa: E402
from .serverless.modules.rp_logger import RunPodLogger  # noqa: E402
from .version import __version__  # noqa: E402

__all__ = ["serverless", "RunPodLogger", "__version__"]

__getattr__ = _missing.lacking("runpod")
