"""A real HTTP server on 127.0.0.1 for tests of clients: it notes what is asked and can misbehave on every level.

A fault is a name from ``WIRE`` (the connection misbehaves), ``BODY`` (the body is not what was meant) or ``ROWS`` (the
vectors are not those of the texts), or a ready :class:`Reply`. ``faults`` holds those for the next requests, in order;
``None`` in it means that this request is served well.
"""

import contextlib
import gzip
import json
import random
import socket
import struct
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Reply:
    """An answer: ``body`` is bytes, or what becomes JSON."""

    status: int = 200
    body: object = b""
    headers: dict = field(default_factory=dict)

    def encoded(self):
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


@dataclass
class Asked:
    """A request as it came."""

    method: str
    path: str
    headers: dict
    body: object
    port: int = 0
    at: float = field(default_factory=time.monotonic)


def busy(status, seconds):
    return Reply(status, {"error": "server busy, please try again"}, {"Retry-After": str(seconds)})


REPLIES = {
    "500": Reply(500, {"error": "llama runner process has terminated: exit status 2"}),
    "500-without-words": Reply(500, b""),
    "502-html": Reply(502, b"<html><body><h1>502 Bad Gateway</h1></body></html>"),
    "503-with-retry-after": busy(503, 1),
    "429-with-retry-after": busy(429, 1),
    "204": Reply(204),
    "redirect": Reply(307, b"", {"Location": "http://example.invalid/api/embed"}),
    "not-json": Reply(200, b"<html>all is well</html>"),
    "empty": Reply(200, b""),
    "json-list": Reply(200, [1, 2, 3]),
    "json-null": Reply(200, b"null"),
    "deep-json": Reply(200, b"[" * 200_000),
    "error-with-200": Reply(200, {"error": "something went wrong"}),
    "not-utf-8": Reply(200, b'{"embeddings": "\xff\xfe"}'),
}
WIRE = ("drop", "reset", "half", "short", "drip", "silent", "huge", "bomb")
ROWS = {
    "fewer": lambda rows: rows[:-1],
    "more": lambda rows: [*rows, rows[0]],
    "reversed": lambda rows: rows[::-1],
    "shifted": lambda rows: rows[1:] + rows[:1],
    "all-the-same": lambda rows: [rows[0]] * len(rows),
    "wrong-dim": lambda rows: [row[: len(row) // 2] for row in rows],
    "mixed-dims": lambda rows: [*rows[:-1], rows[-1][:-1]],
    "nan": lambda rows: [*rows[:-1], [float("nan")] * len(rows[-1])],
    "infinity": lambda rows: [*rows[:-1], [float("inf"), *rows[-1][1:]]],
    "zero": lambda rows: [*rows[:-1], [0.0] * len(rows[-1])],
    "booleans": lambda rows: [[True] * len(row) for row in rows],
    "strings": lambda rows: [[str(number) for number in row] for row in rows],
    "nulls": lambda rows: [*rows[:-1], None],
    "flat": lambda rows: [number for row in rows for number in row],
    "other-model": lambda rows: [[*row[1:], row[0]] for row in rows],
}


class FakeServer:
    """Serves ``answer(asked)`` of a subclass until it is closed. Use it as a context manager."""

    def __init__(self):
        self.asked = []
        self.faults = deque()
        self.fault_rate = 0.0
        self.fault_names = ()
        self.random = random.Random(1)
        self.lock = threading.Lock()
        self.open = set()
        self.closing = threading.Event()
        self.port = 0
        self._server = None

    def answer(self, asked):
        raise NotImplementedError

    def may_fail(self, asked):
        """Return whether faults apply to this request."""
        return asked.method == "POST"

    def spoil(self, reply, change):
        """Return the reply with its vectors changed."""
        raise NotImplementedError

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def start(self):
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), _Handler)
        self._server.fake = self
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.closing.clear()
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def stop(self):
        """Stop serving; :meth:`start` goes on at the same port."""
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        with self.lock:
            for connection in self.open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    @property
    def connections(self):
        return len(self.open)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()

    def bodies(self, path):
        return [asked.body for asked in self.asked if asked.path == path]

    def fault_for(self, asked):
        with self.lock:
            if not self.may_fail(asked):
                return None
            if self.faults:
                return self.faults.popleft()
            if self.fault_rate and self.random.random() < self.fault_rate:
                return self.random.choice(self.fault_names)
        return None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    @property
    def fake(self):
        return self.server.fake

    def setup(self):
        super().setup()
        with self.fake.lock:
            self.fake.open.add(self.connection)

    def handle(self):
        with contextlib.suppress(OSError):
            super().handle()

    def finish(self):
        with self.fake.lock:
            self.fake.open.discard(self.connection)
        with contextlib.suppress(OSError):
            super().finish()

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.serve()

    def do_POST(self):
        self.serve()

    def serve(self):
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            body = json.loads(raw) if raw else None
        except ValueError:
            body = raw
        headers = {name.lower(): value for name, value in self.headers.items()}
        asked = Asked(self.command, self.path, headers, body, self.client_address[1])
        with self.fake.lock:
            self.fake.asked.append(asked)
        fault = self.fake.fault_for(asked)
        try:
            if isinstance(fault, Reply) or fault in REPLIES:
                self.send(fault if isinstance(fault, Reply) else REPLIES[fault])
            elif fault in ROWS:
                self.send(self.fake.spoil(self.fake.answer(asked), ROWS[fault]))
            elif fault in WIRE:
                getattr(self, f"wire_{fault}")(self.fake.answer(asked))
            else:
                assert fault is None, fault
                self.send(self.fake.answer(asked))
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def send(self, reply, body=None, length=None, headers=()):
        data = reply.encoded() if body is None else body
        self.send_response(reply.status)
        for name, value in {**reply.headers, **dict(headers)}.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(data) if length is None else length))
        self.end_headers()
        self.wfile.write(data)

    def wire_drop(self, _):
        self.close_connection = True

    def wire_reset(self, _):
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def wire_half(self, reply):
        data = reply.encoded()
        self.send(reply, data[: len(data) // 2], len(data))
        self.close_connection = True

    def wire_short(self, reply):
        """Send JSON that is cut off, with a length that fits."""
        data = reply.encoded()
        self.send(reply, data[: len(data) // 2])

    def wire_drip(self, reply):
        data = reply.encoded()
        self.send(reply, data[:1], len(data))
        for byte in data[1:]:
            if self.fake.closing.wait(0.01):
                return
            self.wfile.write(bytes([byte]))

    def wire_silent(self, _):
        self.fake.closing.wait(30)
        self.close_connection = True

    def wire_huge(self, reply):
        self.send(reply, b"", 1 << 40)
        try:
            while not self.fake.closing.is_set():
                self.wfile.write(b" " * (1 << 20))
        finally:
            self.close_connection = True

    def wire_bomb(self, reply):
        self.send(reply, _bomb(), headers={"Content-Encoding": "gzip"})


@cache
def _bomb():
    return gzip.compress(b" " * (64 << 20), 1)


def until(condition, seconds=10.0):
    """Wait for a condition to become true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.005)
