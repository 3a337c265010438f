"""The same small HTTP/1.1 client for an event loop: a pool of kept connections, one request on each at a time."""

import asyncio

from .wire_http import (
    CONNECT_TIMEOUT_SECONDS,
    MAX_BODY_BYTES,
    MAX_HEAD_BYTES,
    ConnectionLost,
    Reply,
    body_kind,
    chunk_bytes,
    parse_head,
    request_head,
    split_url,
)

MAX_IDLE_CONNECTIONS = 64


class AsyncClient:
    """For one event loop. Requests beyond the idle connections open more."""

    def __init__(self):
        self.idle = {}
        self.polls = set()
        self.is_given_up = False

    def give_up_polls(self):
        """Ends the sending side of every held poll: the server gives it up, yet a job already sent is read."""
        self.is_given_up = True
        for writer in self.polls:
            if writer.can_write_eof():
                writer.write_eof()
            else:
                writer.close()

    def close(self):
        for _, writer in [pair for pairs in self.idle.values() for pair in pairs]:
            writer.close()
        self.idle.clear()

    async def request(self, method, url, headers, body=None, timeout=60, is_poll=False):
        """Sends and reads one reply. `timeout`: seconds in all. Raises OSError. A stale connection is replaced, once."""
        origin, target = split_url(url)
        head = request_head(method, target, origin[3], headers, body)
        pair = self._take_idle(origin)
        if pair is not None:
            try:
                return await self._exchange(origin, pair, head, body, timeout, is_poll)
            except ConnectionLost as err:
                if not err.untouched or is_poll and self.is_given_up:
                    raise
        return await self._exchange(origin, await self._open(origin), head, body, timeout, is_poll)

    def _take_idle(self, origin):
        pairs = self.idle.get(origin, [])
        while pairs:
            reader, writer = pairs.pop()
            if not reader.at_eof() and not writer.is_closing():
                return reader, writer
            writer.close()
        return None

    async def _open(self, origin):
        tls, host, port, _ = origin
        opening = asyncio.open_connection(host, port, limit=MAX_HEAD_BYTES * 4, ssl=True if tls else None)
        try:
            return await asyncio.wait_for(opening, CONNECT_TIMEOUT_SECONDS)
        except asyncio.TimeoutError:
            raise ConnectionLost(f"no connection to {origin[3]} within {CONNECT_TIMEOUT_SECONDS} s") from None

    async def _exchange(self, origin, pair, head, body, timeout, is_poll):
        reader, writer = pair
        if is_poll and self.is_given_up:
            writer.close()
            raise ConnectionLost("draining")
        timer = asyncio.get_running_loop().call_later(timeout, writer.transport.abort)
        if is_poll:
            self.polls.add(writer)
        is_kept = False
        try:
            reply = await self._send_and_read(reader, writer, head, body)
            is_kept = reply.keeps_open() and not writer.is_closing()
            return reply
        finally:
            timer.cancel()
            given_up = is_poll and self.is_given_up
            self.polls.discard(writer)
            pairs = self.idle.setdefault(origin, [])
            if is_kept and not given_up and len(pairs) < MAX_IDLE_CONNECTIONS:
                pairs.append(pair)
            else:
                writer.close()

    async def _send_and_read(self, reader, writer, head, body):
        untouched = True
        try:
            writer.write(head if body is None else head + body)
            await writer.drain()
            status = 100
            while status < 200:
                text = await reader.readuntil(b"\r\n\r\n")
                untouched = False
                status, headers = parse_head(text[:-4])
            return Reply(status, headers, await self._read_body(reader, status, headers))
        except asyncio.IncompleteReadError as err:
            lost = untouched and not err.partial
            raise ConnectionLost("the server closed the connection", untouched=lost) from None
        except (asyncio.LimitOverrunError, ValueError) as err:
            raise ConnectionLost(f"no HTTP reply: {err}") from None
        except ConnectionError as err:
            if isinstance(err, ConnectionLost):
                raise
            raise ConnectionLost(str(err) or "the connection broke", untouched=untouched) from None

    async def _read_body(self, reader, status, headers):
        kind, length = body_kind(status, headers)
        if kind == "length":
            return await reader.readexactly(length) if length else b""
        if kind == "close":
            return await reader.read()
        body = bytearray()
        while True:
            size = chunk_bytes((await reader.readuntil(b"\r\n"))[:-2])
            if size == 0:
                while await reader.readuntil(b"\r\n") != b"\r\n":
                    pass
                return bytes(body)
            if len(body) + size > MAX_BODY_BYTES:
                raise ConnectionLost("the reply is too long")
            body += await reader.readexactly(size)
            await reader.readexactly(2)
