"""What the replay counts, per category and on the whole; judged from the labels, which nothing that decides
sees."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from proxy.cache import Tier
from proxy.simulation.trace import Request, is_fresh


@dataclass(frozen=True, slots=True)
class Served:
    """What became of a request."""

    category: str
    tier: Tier | None = None
    answer: Request | None = None
    """The request whose answer was served; None where it got one of its own, or none at all."""
    answered: float = 0.0
    """When that answer was stored."""
    calls: int = 0
    """To the upstream."""

    def of_its_group(self, request: Request) -> bool:
        return self.answer is not None and self.answer.group == request.group

    def right(self, request: Request) -> bool:
        return self.of_its_group(request) and is_fresh(request, self.answered)

    def wrong(self, request: Request) -> bool:
        """Where nobody knows what is right, nothing is wrong."""
        return self.answer is not None and request.group is not None and not self.right(request)


@dataclass(slots=True)
class Row:
    """Counts of requests."""

    requests: int = 0
    hits: int = 0
    right: int = 0
    """Hits on an answer that its group got no longer than `fresh_s` ago."""
    wrong: int = 0
    """Hits of labelled requests that are not right."""
    stale: int = 0
    """Those of the wrong that are of the right group and too old."""
    oracle: int = 0
    """Requests that a cache which knows the groups answers."""
    exact: int = 0
    semantic: int = 0
    inflight: int = 0
    upstream_calls: int = 0
    """Misses, and answers renewed behind a hit."""

    def add(self, request: Request, served: Served, known: bool) -> None:
        self.requests += 1
        self.oracle += known
        self.upstream_calls += served.calls
        if served.answer is None or served.tier is None:
            return
        self.hits += 1
        setattr(self, served.tier, getattr(self, served.tier) + 1)
        if request.group is not None:
            self.right += served.right(request)
            self.wrong += served.wrong(request)
            self.stale += served.wrong(request) and served.of_its_group(request)


@dataclass(slots=True)
class Table:
    overall: Row = field(default_factory=Row)
    categories: defaultdict[str, Row] = field(default_factory=lambda: defaultdict(Row))
    """By the label where there is one, else by the category that was decided on."""

    def add(self, request: Request, served: Served, known: bool) -> None:
        """`known`: the oracle would have answered it."""
        for row in (self.overall, self.categories[request.category or served.category]):
            row.add(request, served, known)
