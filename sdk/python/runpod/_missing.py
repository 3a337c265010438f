"""Names of the real package that this stand-in lacks: an ImportError that says where they are."""

import sys


def _message(name):
    return (
        f"{name} is not part of rpx's stand-in for the runpod package, which only runs workers. "
        "Install the real one beside your handler: pip install runpod (it is then used in place of this one)."
    )


def lacking(module, submodules=()):
    """A module `__getattr__` for `module`. Private names stay AttributeErrors: tools probe for those.

    `submodules` are imported when first touched, as the real package has them imported from the start.
    """

    def __getattr__(name):
        if name in submodules:
            import importlib

            return importlib.import_module(f"{module}.{name}")
        if name.startswith("_"):
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        raise ImportError(_message(f"{module}.{name}"), name=f"{module}.{name}")

    return __getattr__


class _LackingModules:
    """Last on sys.meta_path, so it is asked only for `runpod.` modules that nothing else has."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.startswith("runpod."):
            raise ModuleNotFoundError(_message(name), name=name)


def install():
    sys.meta_path.append(_LackingModules)
