"""What kind of function a handler is, without the cost of importing inspect."""

_GENERATOR, _COROUTINE, _ASYNC_GENERATOR = 0x20, 0x80, 0x200


def _flags(function):
    while hasattr(function, "func"):  # functools.partial
        function = function.func
    function = getattr(function, "__func__", function)  # bound method
    code = getattr(function, "__code__", None)
    if code is None:  # an object with __call__
        code = getattr(getattr(type(function), "__call__", None), "__code__", None)
    return getattr(code, "co_flags", 0)


def is_async(handler):
    """True for `async def` handlers, async generators included."""
    return bool(_flags(handler) & (_COROUTINE | _ASYNC_GENERATOR))


def is_generator(value):
    """True for what a generator function returned."""
    return hasattr(value, "send") and hasattr(value, "__next__")


def is_async_generator(value):
    """True for what an async generator function returned."""
    return hasattr(value, "asend") and hasattr(value, "__anext__")


def is_awaitable(value):
    """True for coroutines, tasks and futures."""
    return hasattr(value, "__await__")


def run_maybe_async(function):
    """Calls `function()`; an awaitable that it returns is run to its end."""
    result = function()
    if not is_awaitable(result):
        return result
    import asyncio

    async def finish():
        return await result

    return asyncio.run(finish())
