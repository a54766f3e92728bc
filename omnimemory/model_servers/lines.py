"""Connections over which exchanges run: :class:`Line` for blocking callers, :class:`AsyncLine` for asyncio."""

from __future__ import annotations

import os
import time
import weakref
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

from omnimemory.forks import ForkLock
from omnimemory.model_servers.exchange import Answer, Call, NoAnswerError, Pause, Steps, Terms

if TYPE_CHECKING:
    import ssl

    import httpx

__all__ = ["AsyncLine", "Line"]

T = TypeVar("T")


class Line:
    """A connection for blocking callers; opened on first use, safe for several threads, new in a forked child."""

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self._pid = os.getpid()
        self._lock = ForkLock()
        self._client: httpx.Client | None = None
        self._closes: weakref.finalize[..., Line] | None = None

    def run(self, steps: Steps[T]) -> T:
        """Run an exchange to its end and return its result. Raises what it raises."""
        try:
            ask = next(steps)
            while True:
                if isinstance(ask, Pause):
                    time.sleep(ask.seconds)
                    ask = steps.send(None)
                    continue
                try:
                    answer = self._call(ask)
                except NoAnswerError as error:
                    ask = steps.throw(error)
                else:
                    ask = steps.send(answer)
        except StopIteration as end:
            result: T = end.value
            return result
        finally:
            steps.close()

    def _call(self, call: Call) -> Answer:
        client, terms = self._open(), self.terms
        with terms.reach(call) as deadline, client.stream(**terms.request(call)) as response:
            for part in response.iter_bytes():
                deadline.take(part)
            return terms.answer(response, deadline.body())

    def _open(self) -> httpx.Client:
        import httpx  # noqa: PLC0415 - slow to import, and a search with a local model needs none of it

        self._notice_fork()
        with self._lock:
            if self._client is None:
                self._client = httpx.Client(**self.terms.client_options(self.terms.tls_context()))
                self._closes = weakref.finalize(self, self._client.close)  # for those who forget to close
            return self._client

    def close(self) -> None:
        """Close the connections; the next call opens one again."""
        self._notice_fork()
        with self._lock:
            closes, self._client, self._closes = self._closes, None, None
        if closes is not None:
            closes()

    def _notice_fork(self) -> None:
        if self._pid != os.getpid():  # the parent goes on using its connections
            if self._closes is not None:
                self._closes.detach()
            self._pid, self._client, self._closes = os.getpid(), None, None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncLine:
    """A connection for asyncio, to be used as an asynchronous context manager inside one event loop."""

    def __init__(self, terms: Terms, context: ssl.SSLContext | None = None) -> None:
        self.terms = terms
        self._context = context
        self._client: httpx.AsyncClient | None = None

    async def run(self, steps: Steps[T]) -> T:
        """Run an exchange to its end and return its result. Cancelling it drops the request under way."""
        import asyncio  # noqa: PLC0415 - asynchronous callers have it

        try:
            ask = next(steps)
            while True:
                if isinstance(ask, Pause):
                    await asyncio.sleep(ask.seconds)
                    ask = steps.send(None)
                    continue
                try:
                    answer = await self._call(ask)
                except NoAnswerError as error:
                    ask = steps.throw(error)
                else:
                    ask = steps.send(answer)
        except StopIteration as end:
            result: T = end.value
            return result
        finally:
            steps.close()

    async def _call(self, call: Call) -> Answer:
        import asyncio  # noqa: PLC0415 - as above

        import httpx  # noqa: PLC0415 - as above

        if self._client is None:
            context = self._context or self.terms.tls_context()
            self._client = httpx.AsyncClient(**self.terms.client_options(context))
        terms = self.terms
        with terms.reach(call) as deadline:
            try:
                async with asyncio.timeout(call.seconds), self._client.stream(**terms.request(call)) as response:
                    async for part in response.aiter_bytes():
                        deadline.take(part)
                    return terms.answer(response, deadline.body())
            except TimeoutError:
                raise deadline.missed() from None

    async def aclose(self) -> None:
        """Close the connections; the next call opens one again."""
        held, self._client = self._client, None
        if held is not None:
            await held.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
