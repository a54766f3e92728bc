"""One exchange with a server, written once for synchronous and asynchronous callers.

What is said to a server is a generator: it yields a :class:`Call` (or a :class:`Pause`), gets an :class:`Answer` back
or has a :class:`NoAnswerError` thrown into it, and returns the result. ``lines.py`` runs such generators over blocking
connections and over those of asyncio, and does not know what is talked about.

What is true of every exchange: redirects are not followed, so a text and a key go to the configured origin or nowhere;
proxies from the environment are not used for this machine; an answer has a size and a deadline; the key is in no
message, not even in one that the server sends back.
"""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from omnimemory.errors import ConfigError, ModelServerError
from omnimemory.model_servers.address import Address

if TYPE_CHECKING:
    import ssl

    import httpx

__all__ = ["Answer", "Call", "Deadline", "NoAnswerError", "Pause", "Steps", "Terms", "vectors_bytes"]

T = TypeVar("T")

_MIB = 1 << 20


def vectors_bytes(texts: int) -> int:
    """Return more bytes than an answer with the vectors of so many texts can have: 16,384 numbers of 32 digits each."""
    return _MIB + texts * 16_384 * 32


class NoAnswerError(ModelServerError):
    """The server could not be reached (then it is not ``reached``), hung up, or took too long (then it is ``late``)."""

    def __init__(self, message: str, *, reached: bool = True, late: bool = False) -> None:
        super().__init__(message)
        self.reached = reached
        self.late = late


@dataclass(frozen=True, slots=True)
class Call:
    """A request: ``body`` becomes JSON; the answer must be there ``seconds`` later and within ``most_bytes``."""

    method: str
    path: str
    body: Mapping[str, Any] | None = None
    seconds: float = 10.0
    most_bytes: int = 16 * _MIB


@dataclass(frozen=True, slots=True)
class Pause:
    """A wait between two calls, in seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said: ``headers`` have lower-case names."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the body as JSON; raises :class:`ValueError` (also when it is nested too deeply)."""
        try:
            return json.loads(self.body)
        except RecursionError as error:
            raise ValueError("it is nested too deeply") from error


Steps = Generator[Call | Pause, Answer | None, T]


@dataclass(frozen=True, slots=True)
class Terms:
    """How a server is spoken to: where, with which key, and how long a connection may take (seconds)."""

    address: Address
    key: str | None = field(default=None, repr=False)
    connect_seconds: float = 3.0

    def __post_init__(self) -> None:
        if self.key is None:
            return
        if not self.key.isascii() or not self.key.isprintable() or " " in self.key:
            raise ConfigError(f"The key for {self.address.origin} holds characters that no key has: set it again.")
        if self.address.scheme != "https" and not self.address.is_loopback:
            raise ConfigError(
                f"The key for {self.address.origin} would cross the network unencrypted: use https, or unset the key."
            )

    def client_options(self, context: ssl.SSLContext) -> dict[str, Any]:
        """Return the arguments of an httpx client."""
        import httpx  # noqa: PLC0415 - slow to import, and a search with a local model needs none of it

        headers = {"User-Agent": "omnimemory", "Accept": "application/json"}
        if self.key is not None:
            headers["Authorization"] = f"Bearer {self.key}"
        return {
            "headers": headers,
            "follow_redirects": False,
            "trust_env": not self.address.is_loopback,
            "timeout": httpx.Timeout(10.0, connect=self.connect_seconds),
            "verify": context,
        }

    def tls_context(self) -> ssl.SSLContext:
        """Return a context that checks certificates; over plain HTTP one that trusts nobody, which loads no file."""
        import ssl  # noqa: PLC0415 - as httpx, which imports it

        import httpx  # noqa: PLC0415 - as above

        if self.address.scheme == "https":
            return httpx.create_ssl_context()
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    def request(self, call: Call) -> dict[str, Any]:
        """Return the arguments of a client's ``stream``."""
        import httpx  # noqa: PLC0415 - as above

        content = None if call.body is None else json.dumps(call.body, allow_nan=False).encode()
        return {
            "method": call.method,
            "url": self.address.url + call.path,
            "content": content,
            "headers": {} if content is None else {"Content-Type": "application/json"},
            "timeout": httpx.Timeout(call.seconds, connect=min(self.connect_seconds, call.seconds)),
        }

    def answer(self, response: httpx.Response, body: bytes) -> Answer:
        """Return the answer, with the key taken out should the server have repeated it."""
        if self.key and response.status_code != 200:
            body = body.replace(self.key.encode(), b"[key]")
        return Answer(response.status_code, {name.lower(): value for name, value in response.headers.items()}, body)

    @contextmanager
    def reach(self, call: Call) -> Iterator[Deadline]:
        """Turn every way in which there is no answer into :class:`NoAnswerError`."""
        import httpx  # noqa: PLC0415 - as above

        try:
            yield Deadline(self.address.origin, call)
        except httpx.TimeoutException as error:
            what = "took no connection" if isinstance(error, httpx.ConnectTimeout) else "did not answer"
            raise NoAnswerError(f"{self.address.origin} {what} in time.", late=True) from error
        except httpx.ConnectError as error:
            raise NoAnswerError(f"{self.address.origin} cannot be reached ({error}).", reached=False) from error
        except (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL) as error:
            raise NoAnswerError(f"{self.address.origin} broke off ({type(error).__name__}: {error}).") from error


class Deadline:
    """Collects the parts of an answer for as long, and as many bytes, as the call allows."""

    def __init__(self, origin: str, call: Call) -> None:
        self._origin = origin
        self._call = call
        self._end = time.monotonic() + call.seconds
        self._parts = bytearray()

    def take(self, part: bytes) -> None:
        """Add a part. Raises :class:`NoAnswerError` when it is one too many, or comes too late."""
        self._parts += part
        if len(self._parts) > self._call.most_bytes:
            raise NoAnswerError(f"{self._origin} sent more than {self._call.most_bytes:,} bytes: not a sane answer.")
        if time.monotonic() > self._end:
            raise self.missed()

    def missed(self) -> NoAnswerError:
        """Return the error for an answer that was not complete in time."""
        return NoAnswerError(f"{self._origin} did not finish its answer within {self._call.seconds:g} s.", late=True)

    def body(self) -> bytes:
        """Return all parts."""
        return bytes(self._parts)
