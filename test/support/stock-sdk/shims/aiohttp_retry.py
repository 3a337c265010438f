"""A stand-in for the package aiohttp_retry, which Debian does not carry.

This is ours and is not the SDK's own retry behaviour. It repeats what was measured of aiohttp_retry 2.9.1 under the
SDK: a 5xx is sent three times, with waits of 2 s and 3 s (Fibonacci) or under 1 s in all (exponential); a 4xx, a refused
and a reset connection are sent once. A test that uses it proves what our side does, not what the real package does.

It also lets the ClientTimeout of Debian's older aiohttp take the keyword `ceil_threshold`, which it ignores: the
keyword only says from how many seconds on a time-out is rounded up to a whole second.
"""

import asyncio

import aiohttp

FIRST_SERVER_ERROR = 500


def _accept_ceil_threshold():
    plain_init = aiohttp.ClientTimeout.__init__

    def init(self, *args, ceil_threshold=None, **kwargs):
        del ceil_threshold
        plain_init(self, *args, **kwargs)

    aiohttp.ClientTimeout.__init__ = init


if "ceil_threshold" not in aiohttp.ClientTimeout.__init__.__code__.co_varnames:
    _accept_ceil_threshold()


class FibonacciRetry:
    """Waits of 2 s, 3 s, 5 s and so on between the attempts."""

    def __init__(self, attempts=3):
        self.attempts = attempts

    def waits_s(self):
        """The waits between the attempts, in seconds."""
        earlier, later = 1.0, 2.0
        for _ in range(self.attempts - 1):
            yield later
            earlier, later = later, earlier + later


class ExponentialRetry:
    """Waits of 0.2 s, 0.4 s, 0.8 s and so on between the attempts."""

    def __init__(self, attempts=3):
        self.attempts = attempts

    def waits_s(self):
        """The waits between the attempts, in seconds."""
        for attempt in range(1, self.attempts):
            yield 0.1 * 2**attempt


class _Request:
    """One request with its repetitions, as an asynchronous context manager."""

    def __init__(self, session, options, method, url, raise_for_status=False, **kwargs):
        self._send = lambda: session.request(method, url, **kwargs)
        self._waits_s = options.waits_s()
        self._raise_for_status = raise_for_status
        self._response = None

    async def __aenter__(self):
        self._response = await self._send()
        for wait_s in self._waits_s:
            if self._response.status < FIRST_SERVER_ERROR:
                break
            self._response.release()
            await asyncio.sleep(wait_s)
            self._response = await self._send()
        if self._raise_for_status:
            self._response.raise_for_status()
        return self._response

    async def __aexit__(self, *_exc_info):
        if self._response is not None:
            self._response.release()


class RetryClient:
    """As much of the real RetryClient as the SDK touches."""

    def __init__(self, client_session, retry_options):
        self._session = client_session
        self._options = retry_options

    def get(self, url, **kwargs):
        """GET, repeated on 5xx."""
        return _Request(self._session, self._options, "GET", url, **kwargs)

    def post(self, url, **kwargs):
        """POST, repeated on 5xx."""
        return _Request(self._session, self._options, "POST", url, **kwargs)
