"""A small HTTP/1.1 client that keeps its connections.

Not http.client: that one costs a worker's start 20 ms of imports, and cannot tell a connection that the
server closed while it was idle (asked again at once) from one that broke under a request (judged by the caller).
"""

import time

try:
    import _socket as socket  # the C part alone: `socket` adds imports and no function that is needed here
except ImportError:  # pragma: no cover
    import socket

CONNECT_TIMEOUT_SECONDS = 10
MAX_HEAD_BYTES = 64 * 1024
MAX_BODY_BYTES = 1024 * 1024 * 1024
#: Bodies up to this size go out in one segment train with their head.
JOINED_BODY_BYTES = 64 * 1024
_CHUNK_BYTES = 256 * 1024


class ConnectionLost(ConnectionError):
    """The peer closed before a whole reply. `untouched`: nothing of a reply had arrived."""

    def __init__(self, text, untouched=False):
        super().__init__(text)
        self.untouched = untouched


class Reply:
    """status: number; headers: lower-case name to value; body: bytes."""

    __slots__ = ("status", "headers", "body")

    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def keeps_open(self):
        return self.headers.get("connection", "").lower() != "close" and "x-until-close" not in self.headers

    def is_json(self):
        return self.headers.get("content-type", "").split(";")[0].strip().lower() == "application/json"


def split_url(url):
    """`(origin, target)`, origin being (is_tls, host, port, the Host header)."""
    scheme, _, rest = url.partition("://")
    if scheme not in ("http", "https") or not rest:
        raise ValueError(f"not an http or https URL: {url}")
    end = min([at for at in (rest.find("/"), rest.find("?")) if at >= 0], default=len(rest))
    authority, target = rest[:end], rest[end:] or "/"
    host, port = authority, 443 if scheme == "https" else 80
    bare = authority.rpartition("]")[2] if authority.startswith("[") else authority
    if ":" in bare:
        host, _, number = authority.rpartition(":")
        port = int(number)
    return (scheme == "https", host.strip("[]"), port, authority), target if target[0] == "/" else "/" + target


def request_head(method, target, authority, headers, body):
    """The bytes of a request up to its body. `headers`: ready lines, each ending in CRLF."""
    length = f"Content-Length: {len(body)}\r\n" if body is not None else ""
    return f"{method} {target} HTTP/1.1\r\nHost: {authority}\r\n{headers}{length}\r\n".encode("latin-1")


def parse_head(head):
    """(status, headers) of a reply's head without its empty line."""
    lines = head.decode("latin-1").split("\r\n")
    parts = lines[0].split(" ", 2)
    if not parts[0].startswith("HTTP/1.") or len(parts) < 2 or not parts[1].isdigit():
        raise ConnectionLost(f"no HTTP reply: {lines[0][:80]!r}")
    headers = {}
    for line in lines[1:]:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    if parts[0] == "HTTP/1.0" and headers.get("connection", "").lower() != "keep-alive":
        headers["connection"] = "close"
    return int(parts[1]), headers


def body_kind(status, headers):
    """How the body ends: ("length", n), ("chunked", None) or ("close", None)."""
    if status in (204, 304) or status < 200:
        return "length", 0
    if headers.get("transfer-encoding", "").lower() == "chunked":
        return "chunked", None
    length = headers.get("content-length")
    if length is None:
        headers["connection"] = "close"
        return "close", None
    if not length.isdigit() or int(length) > MAX_BODY_BYTES:
        raise ConnectionLost(f"a reply of {length} bytes is refused")
    return "length", int(length)


class Connection:
    """One connection to one origin, opened when needed. Not for two threads at once, `half_close` excepted."""

    def __init__(self, origin):
        self.origin = origin
        self.sock = None
        self.buffer = b""
        self.closing = False

    def close(self):
        sock, self.sock, self.buffer = self.sock, None, b""
        if sock is not None:
            sock.close()

    def half_close(self):
        """Ends the sending side, so that a held poll is given up by the server, yet a job already sent is read."""
        self.closing = True
        self._shutdown(1)

    def abort(self):
        """Ends both sides: a pending read returns at once."""
        self.closing = True
        self._shutdown(2)

    def _shutdown(self, how):
        sock = self.sock
        try:
            if sock is not None:
                sock.shutdown(how)
        except OSError:
            pass

    def request(self, method, target, headers, body=None, timeout=60, on_sent=None):
        """Sends and reads one reply. `timeout`: seconds without a byte. `on_sent` runs while the server works.

        Raises OSError (ConnectionLost among them). A kept connection that proves stale is replaced, once.
        """
        head = request_head(method, target, self.origin[3], headers, body)
        reused = self.sock is not None
        try:
            return self._exchange(head, body, timeout, on_sent)
        except OSError as err:
            self.close()
            stale = getattr(err, "untouched", isinstance(err, (BrokenPipeError, ConnectionResetError)))
            if not (reused and stale) or self.closing:
                raise
        except BaseException:
            self.close()
            raise
        try:
            return self._exchange(head, body, timeout, on_sent)
        except BaseException:
            self.close()
            raise

    def _exchange(self, head, body, timeout, on_sent):
        if self.sock is None:
            self.sock = self._open()
        self.sock.settimeout(timeout)
        failure = self._send(head, body)
        if self.closing:
            self._shutdown(1)
        if on_sent is not None:
            on_sent()
        try:
            reply = self._read_reply()
        except OSError as err:
            raise failure or err
        if failure or not reply.keeps_open():
            self.close()
        return reply

    def _send(self, head, body):
        """None, or why sending broke off: the server may have replied early, which is worth reading."""
        try:
            if body is None:
                self.sock.sendall(head)
            elif len(body) <= JOINED_BODY_BYTES:
                self.sock.sendall(head + body)
            else:
                self.sock.sendall(head)
                self.sock.sendall(body)
        except ConnectionError as err:
            return err
        return None

    def _open(self):
        tls, host, port, _ = self.origin
        failure = None
        for family, kind, protocol, _, address in socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM):
            sock = socket.socket(family, kind, protocol)
            try:
                sock.settimeout(CONNECT_TIMEOUT_SECONDS)
                sock.connect(address)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return _wrap_tls(sock, host) if tls else sock
            except OSError as err:
                sock.close()
                failure = err
            except BaseException:
                sock.close()
                raise
        raise failure or OSError(f"no address for {host}")

    def _fill(self):
        data = self.sock.recv(_CHUNK_BYTES)
        if not data:
            raise ConnectionLost("the server closed the connection", untouched=not self.buffer)
        self.buffer += data

    def _read_reply(self):
        while True:
            status, headers = self._read_head()
            if status >= 200:
                break
        kind, length = body_kind(status, headers)
        if kind == "length":
            body = self._read_exactly(length)
        elif kind == "chunked":
            body = self._read_chunks()
        else:
            body = self._read_to_end()
        return Reply(status, headers, body)

    def _read_head(self):
        while True:
            end = self.buffer.find(b"\r\n\r\n")
            if end >= 0:
                break
            if len(self.buffer) > MAX_HEAD_BYTES:
                raise ConnectionLost("the reply's headers are too long")
            self._fill()
        head, self.buffer = self.buffer[:end], self.buffer[end + 4 :]
        return parse_head(head)

    def _read_exactly(self, length):
        if len(self.buffer) >= length:
            body, self.buffer = self.buffer[:length], self.buffer[length:]
            return body
        body = bytearray(self.buffer)
        self.buffer = b""
        while len(body) < length:
            data = self.sock.recv(min(length - len(body), 1024 * 1024))
            if not data:
                raise ConnectionLost("the server closed the connection inside a reply")
            body += data
        return bytes(body)

    def _read_line(self):
        while b"\r\n" not in self.buffer:
            if len(self.buffer) > MAX_HEAD_BYTES:
                raise ConnectionLost("a chunk's size line is too long")
            self._fill()
        line, _, self.buffer = self.buffer.partition(b"\r\n")
        return line

    def _read_chunks(self):
        body = bytearray()
        while True:
            size = chunk_bytes(self._read_line())
            if size == 0:
                while self._read_line():
                    pass
                return bytes(body)
            if len(body) + size > MAX_BODY_BYTES:
                raise ConnectionLost("the reply is too long")
            body += self._read_exactly(size)
            self._read_line()

    def _read_to_end(self):
        body = bytearray(self.buffer)
        self.buffer = b""
        while len(body) <= MAX_BODY_BYTES:
            data = self.sock.recv(_CHUNK_BYTES)
            if not data:
                return bytes(body)
            body += data
        raise ConnectionLost("the reply is too long")


def chunk_bytes(line):
    """The size in a chunk's first line."""
    try:
        return int(line.split(b";")[0], 16)
    except ValueError:
        raise ConnectionLost("a chunk's size line is no number") from None


def _wrap_tls(sock, host):
    import socket as full_socket
    import ssl

    whole = full_socket.socket(fileno=sock.detach())
    return ssl.create_default_context().wrap_socket(whole, server_hostname=host)


class Client:
    """Requests to full URLs over one kept connection per origin. For one thread."""

    def __init__(self):
        self.connections = {}

    def connection(self, url):
        origin, target = split_url(url)
        found = self.connections.get(origin)
        if found is None:
            found = self.connections[origin] = Connection(origin)
        return found, target

    def request(self, method, url, headers, body=None, timeout=60, on_sent=None):
        connection, target = self.connection(url)
        return connection.request(method, target, headers, body, timeout, on_sent)


class Backoff:
    """Waits that double from `first` to `most` seconds, each shortened by up to a half at random."""

    def __init__(self, first=0.05, most=5.0):
        self.first, self.most, self.wait = first, most, first

    def reset(self):
        self.wait = self.first

    def next_seconds(self):
        wait, self.wait = self.wait, min(self.wait * 2, self.most)
        return wait * (0.5 + (time.monotonic_ns() // 1000 % 1000) / 2000)
