"""The upstreams: which one is asked for a model, which ones stand in for it when it fails, and the state of
each.

A call goes to the first upstream with a pattern that matches its model; if none matches, or the call names no
model, to the first upstream of all. Its fallbacks are tried one after another until one begins to answer. An
upstream that is down comes last, but now and then a call tries it first, as a probe.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
    nullcontext,
)
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import lru_cache
from time import monotonic
from typing import Any

from multidict import CIMultiDict

from policies.outage import Outage
from proxy import dialects, targets
from proxy.dialects.base import dump
from proxy.dialects.gemini import CREDENTIALS_IN_QUERY
from proxy.errors import CallError, Crowded, Unreachable, UpstreamSlow
from proxy.messages import Call
from proxy.upstreams.limits import Admission, Place
from proxy.upstreams.load import UpstreamLoad, is_failure
from proxy.upstreams.upstream import Answer, Head, ReadAnswer, Upstream, forwarded

log = logging.getLogger("nearhit.fleet")

MODELS = 1024
"""Models whose upstream is cached."""
CREDENTIALS = (
    "Authorization", "x-api-key", "api-key", "x-goog-api-key", "x-portkey-api-key", "x-litellm-api-key",
    "helicone-auth", "cf-aig-authorization", "ocp-apim-subscription-key", "x-bf-vk",
)  # fmt: skip
"""Headers in which callers of the big APIs and of gateways send their credentials."""

FAILURES = (Unreachable, UpstreamSlow, Crowded)
"""Errors after which the next upstream is tried."""


@dataclass(eq=False)
class Backend:
    """One upstream and its state."""

    name: str
    upstream: Upstream
    load: UpstreamLoad
    models: Sequence[str] = ("*",)
    aliases: dict[str, str] = field(default_factory=dict)
    """This upstream's names of models, by the name that callers use."""
    key: str | None = field(default=None, repr=False)
    """Our own key, which replaces every caller's. None: the callers' credentials are passed on."""
    key_header: str | None = None
    admission: Admission | None = None
    """Limits the concurrent calls. None: every call is sent at once."""
    fallback: tuple[Backend, ...] = ()
    outage: Outage = field(default_factory=Outage)
    errors: Counter[str] = field(default_factory=Counter)
    """By kind: `unreachable`, `timeout`, `429`, `5xx`."""
    knows_usage: bool | None = None
    """Whether it accepts requests for a stream's usage. None: not known yet."""

    @property
    def crowded(self) -> bool:
        return self.admission is not None and not self.admission.free

    def name_of(self, model: str) -> str:
        return self.aliases.get(model, model)

    def body(self, model: str, body: bytes) -> bytes:
        """A request's body for this upstream: with its own name for `model`, if the body names that model."""
        alias = self.aliases.get(model)
        if alias is None:
            return body
        try:
            fields = json.loads(body)
        except (ValueError, RecursionError):
            return body
        named = isinstance(fields, dict) and fields.get("model") == model
        return dump({**fields, "model": alias}) if named else body

    def target(self, model: str, target: str) -> str:
        """Path and query for this upstream: with its own name for a model they name, and without the caller's
        key if we have our own."""
        path, mark, query = target.partition("?")
        if alias := self.aliases.get(model):
            path = targets.renamed(path, model, alias)
            query = targets.with_value(query, "model", alias)
        if self.key is not None and query:
            query = targets.without(query, CREDENTIALS_IN_QUERY)
            mark = mark if query else ""
        return path + mark + query

    def with_key(self, headers: CIMultiDict[str], target: str) -> CIMultiDict[str]:
        """The headers, with our key in place of the caller's if there is one."""
        if self.key is None:
            return headers
        for name in CREDENTIALS:
            headers.popall(name, None)
        name = self.key_header or _usual_key_header(headers, target)
        headers[name] = f"Bearer {self.key}" if name.lower() == "authorization" else self.key
        return headers

    @asynccontextmanager
    async def send(self, call: Call, body: bytes) -> AsyncIterator[Answer]:
        model, headers = call.reading.model, self.with_key(forwarded(call.headers), call.target)
        headers["Accept-Encoding"] = "identity"
        target, body = self.target(model, call.target), self.body(model, body)
        async with self.upstream.send("POST", target, headers, body, retry=True) as answer:
            yield answer

    @asynccontextmanager
    async def ask(
        self,
        call: Call,
        priority: int,
        opened: AbstractAsyncContextManager[Answer | ReadAnswer],
        background: bool = False,
        overdue: Callable[[], bool] = lambda: False,
    ) -> AsyncIterator[Answer | ReadAnswer]:
        """The answer, from its first byte on. Takes a place, then enters `opened`, which sends the call, and
        records the outcome in load, outage and errors. `overdue`: whether a missing answer has been recorded
        already. Raises `CallError`."""
        model, stream = call.reading.model, call.reading.stream
        track, admission = self.load.began(model, stream), self.admission
        queue = admission and admission.place((model, stream), priority, call.tenant, background)
        try:
            async with (
                queue or nullcontext() as place,
                self._begun(opened, place, overdue) as answer,
            ):
                track.answered(answer.head)
                yield answer
            track.landed(answer.size)
        except CallError as error:
            self.count_failure(error)
            track.failed(error)
            raise
        finally:
            track.given_up()

    @asynccontextmanager
    async def _begun(
        self,
        opened: AbstractAsyncContextManager[Answer | ReadAnswer],
        place: Place | None,
        overdue: Callable[[], bool],
    ) -> AsyncIterator[Answer | ReadAnswer]:
        answered = False
        try:
            async with opened as answer:
                answered = True
                self._answered(answer.head, place)
                yield answer
        except CallError as error:
            if not answered:
                self._unanswered(error, place, overdue())
            raise

    def _answered(self, head: Head, place: Place | None) -> None:
        if self.outage.down:
            log.info("upstream %s answers again", self.name)
        self.outage.answered()
        self.count_status(head.status)
        if self.admission is not None and place is not None:
            self.admission.answered(place, head.status)

    def _unanswered(self, error: CallError, place: Place | None, overdue: bool) -> None:
        if not overdue:
            self.missed(error.message)
        if self.admission is not None and place is not None:
            self.admission.failed(place, error)

    def missed(self, why: str) -> None:
        """Records that it did not answer, or not in time. After several of these it counts as down."""
        was_down = self.outage.down
        self.outage.failed()
        if self.outage.down and not was_down:
            log.warning("upstream %s counts as down: %s", self.name, why)

    def count_status(self, status: int) -> None:
        if is_failure(status):
            self.errors["429" if status == 429 else "5xx"] += 1

    def count_failure(self, error: CallError) -> None:
        if isinstance(error, Unreachable | UpstreamSlow):
            self.errors["unreachable" if isinstance(error, Unreachable) else "timeout"] += 1

    def shown(self) -> dict[str, Any]:
        """Its state, as the admin plane shows it."""
        admission = self.admission.shown() if self.admission else None
        return {**self.load.shown(), "down": self.outage.down, "admission": admission}


def _usual_key_header(headers: CIMultiDict[str], target: str) -> str:
    if dialects.of_google(target):
        return "x-goog-api-key"
    anthropic = target.startswith("/v1/messages") or "anthropic-version" in headers
    return "x-api-key" if anthropic else "Authorization"


class Fleet:
    def __init__(self, backends: Sequence[Backend]) -> None:
        """`backends`: at least one."""
        self.backends = {backend.name: backend for backend in backends}
        self.first = backends[0]
        self.of = lru_cache(MODELS)(self._of)
        """The upstream for a model, even if it is down. For "": the first of all."""

    @property
    def several(self) -> bool:
        return len(self.backends) > 1

    @property
    def asks_by_model(self) -> bool:
        """Whether a call's model must be known, to choose the upstream or to rename the model."""
        return self.several or bool(self.first.aliases)

    def _of(self, model: str) -> Backend:
        fits = (
            each
            for each in self.backends.values()
            if any(fnmatchcase(model, pattern) for pattern in each.models)
        )
        return next(fits, self.first) if model else self.first

    def standing(self, model: str) -> list[Backend]:
        """The upstreams that may be asked for that model, in order: its own, then its fallbacks; those that
        are down come last."""
        first = self.of(model)
        return sorted((first, *first.fallback), key=lambda each: each.outage.down)

    @contextmanager
    def route(self, model: str, background: bool = False) -> Iterator[list[Backend]]:
        """The same for a call that is sent now; one that is down may be tried first, as a probe.
        `background`: without fallbacks."""
        first = self.of(model)
        if background:
            yield [first]
        elif first.fallback and first.outage.down and first.outage.probe(monotonic()):
            try:
                yield [first, *first.fallback]
            finally:
                first.outage.probed()
        else:
            yield self.standing(model)

    def at(self, model: str) -> Backend:
        """The upstream that would be asked first for that model now."""
        first = self.of(model)
        return self.standing(model)[0] if first.fallback and first.outage.down else first

    def down(self, model: str) -> bool:
        """Whether all upstreams that may be asked for that model are down."""
        return self.at(model).outage.down

    def load_of(self, model: str) -> UpstreamLoad:
        return self.at(model).load

    def same_answers(self, model: str, backend: Backend) -> bool:
        """Whether `backend` serves the model that was asked for, and not another one in its place."""
        return backend.name_of(model) == self.of(model).name_of(model)

    def shown(self) -> dict[str, Any]:
        return {name: backend.shown() for name, backend in self.backends.items()}

    async def close(self) -> None:
        for backend in self.backends.values():
            await backend.upstream.close()


@asynccontextmanager
async def first_to_answer(
    route: Sequence[Backend],
    send: Callable[[Backend], AbstractAsyncContextManager[Answer | ReadAnswer]],
) -> AsyncIterator[tuple[Backend, Answer | ReadAnswer]]:
    """The answer of the first upstream in `route` that neither fails before its first byte nor answers with a
    failure; else that of the last one, whatever it is. Raises `CallError`."""
    for backend in route:
        last = backend is route[-1]
        async with AsyncExitStack() as stack:
            try:
                answer = await stack.enter_async_context(send(backend))
            except FAILURES:
                if last:
                    raise
                continue
            if last or not is_failure(answer.head.status):
                yield backend, answer
                return
