"""Makes rpx's stand-in for `runpod` importable, after everything else.

This folder is on PYTHONPATH; the stand-in's is not, or it would shadow a real `runpod`. Python imports
only the first `sitecustomize` it finds, so the next one on the path is run from here.
"""

import os
import sys

_here = os.path.dirname(os.path.abspath(__file__))
_sdk = os.path.dirname(_here)
if _sdk not in sys.path:
    sys.path.append(_sdk)


def _run_next():
    from importlib.machinery import PathFinder

    others = [path for path in sys.path if os.path.abspath(path or ".") not in (_here, _sdk)]
    spec = PathFinder.find_spec("sitecustomize", others)
    if spec is None or spec.loader is None:
        return
    from importlib.util import module_from_spec

    module = module_from_spec(spec)
    sys.modules["sitecustomize"] = module
    spec.loader.exec_module(module)


_run_next()
