"""The cache without HTTP: category book, classifier, embedder, entries and documents, and the rules by which
an entry may be served.

The exchange uses it for live calls, the simulator for recorded ones.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from embeddings.base import Embedder, TextTooLong, Vector
from policies import eviction
from policies.audit import Audits
from policies.automatic import Automatics
from policies.book import Book
from policies.bounded import TookTooLong
from policies.classifier import Classification, Classifier
from policies.decision import Offer, Verdict, judge, kept, lifetime, required_similarity
from policies.guards.objections import read_ahead
from policies.model import InForce, Mode, in_force
from proxy.dialects.base import Usage
from proxy.messages import SHARED, Call, Question, forget_bodies, shown
from storage.base import Document, Entry, StorageError, Vectors
from storage.documents.buffered import BufferedDocuments
from storage.index.entries import Entries
from storage.index.rebuild import drop, take_in
from storage.vectors.memory import MemoryVectors

log = logging.getLogger("nearhit.cache")

CANDIDATES = 8
"""Nearest entries that are considered: a guard may object to the best one while the next one is right."""

AUTO_OFF = "auto-off"
"""Reason for a miss without a semantic look-up: `mode: auto` found that look-ups do not pay."""

IMPORTED, SIMULATED = "imported", "simulated"
"""`Entry.provenance` of answers that no real upstream gave: from `nearhit import`, or from the demo
upstream."""

Tier = Literal["exact", "semantic", "inflight"]


@dataclass(slots=True)
class Found:
    """An entry that may be served."""

    entry: Entry
    tier: Tier
    similarity: float
    threshold: float
    verdict: Verdict
    policy: InForce
    shadowed: bool
    """Counted, but not served."""


@dataclass(slots=True)
class Search:
    """The result of a look-up for one question."""

    fresh: Found | None = None
    stale: Found | None = None
    """Too old to be served now, but good enough should the upstream fail."""
    nearest: float | None = None
    """Similarity of the nearest entry, served or not."""
    refused: str = ""
    """Why the nearest entry was not served."""
    failed: bool = False
    """The index could not be searched."""


@dataclass(frozen=True, slots=True)
class Rules:
    """Category book and classifier, which change together."""

    book: Book
    classifier: Classifier
    shares: bool = field(init=False)
    """Whether any category lets answers cross tenants."""

    def __post_init__(self) -> None:
        shared = any(category.scope == "shared" for category in self.book.categories.values())
        object.__setattr__(self, "shares", shared)

    @classmethod
    async def of(cls, book: Book, embedder: Embedder) -> Rules:
        """Raises `EmbeddingError`."""
        return cls(book, await Classifier.taught(book, embedder))

    @classmethod
    async def read(cls, folder: Path | None, embedder: Embedder) -> Rules:
        """From the category files in `folder`; None: the packaged ones. Raises `ConfigError` and
        `EmbeddingError`."""
        return await cls.of(await asyncio.to_thread(Book.from_folder, folder), embedder)


class Unclassified(Exception):
    """The classifier failed. It is then unknown whether the answer may be stored, so the call bypasses the
    cache."""


class Cache:
    def __init__(
        self,
        rules: Rules,
        embedder: Embedder,
        documents: BufferedDocuments,
        capacity: int,
        capacity_bytes: int | None = None,
        pressure: Callable[[str], float] = lambda model: 0.0,
        vectors: Vectors | None = None,
    ) -> None:
        """`capacity`, `capacity_bytes`: most entries, and most bytes of answers. `pressure`: the present
        pressure, 0 to 1, of the upstream for a model; "": the highest of all upstreams. `vectors`: where the
        vectors are kept; None: in memory."""
        self.pressure = pressure
        self.rules = rules
        self.audits = Audits()
        self.automatics = Automatics()
        self.embedder = embedder
        self.documents = documents
        self.entries = Entries(
            vectors or MemoryVectors(embedder.dimensions),
            capacity,
            capacity_bytes,
            worth=self._worth,
            guaranteed=self._guaranteed,
            over=eviction.over,
        )
        self.provenance = ""
        """The `Entry.provenance` of new entries. Only entries with the same one, or `IMPORTED`, are
        served."""
        self.certain: Callable[[], Awaitable[None]] = _nothing
        """Waits until it is certain whether another replica has purged anything."""
        self._embedding = 0
        """Callers' questions that are being embedded."""
        self.generation = 0
        """Raised by every purge; the answer to a call that began in an earlier generation is not stored."""

    # Looking up

    def exact(self, call: Call, now: float, pressure: float) -> Search:
        """Looks up the answer to an identical call; needs no embedder. `pressure`: of the upstream for the
        call's model."""
        found = Search()
        for scope in (call.tenant, SHARED) if self.rules.shares else (call.tenant,):
            entry = self.entries.by_exact(call.exact(scope))
            if entry is None or not self.serves(entry):
                continue
            named = call.controls.category or entry.category
            if self.open_to(call, scope, named) and (
                named == entry.category or self.open_to(call, scope, entry.category)
            ):
                self._consider(found, entry, 1.0, call, self.policy(named, pressure), now, exact=True)
                if found.fresh is not None:
                    return found
        return found

    def serves(self, entry: Entry) -> bool:
        """Whether the entry may be served at all: answers of the demo upstream are not served once there is a
        real one, nor the other way round."""
        return entry.provenance in (self.provenance, IMPORTED)

    def open_to(self, call: Call, scope: str, category: str) -> bool:
        """Whether the category still allows its answers to be served, and to callers in `scope`, for whom
        they were stored. Its file may have changed since then."""
        return not self.rules.book.get(category).barred and self._scope(category, call) == scope

    async def embed(self, text: str, tenant: str = "") -> Vector:
        """The text's vector. `tenant`: whose text it is; "": our own. Raises `EmbeddingError`."""
        return await self.embedder.embed(text, tenant)

    async def embed_asked(self, text: str, tenant: str) -> Vector:
        """The same for a question that a caller waits for. If the encoder has nothing else to do, this thread
        is idle in the meantime and prepares what the guards need to know of the text. Raises
        `EmbeddingError`."""
        idle = not self._embedding
        reading = asyncio.get_running_loop().call_soon(read_ahead, text) if idle else None
        self._embedding += 1
        try:
            return await self.embed(text, tenant)
        except TextTooLong:
            if reading is not None:
                reading.cancel()
            raise
        finally:
            self._embedding -= 1

    def classify(self, call: Call, vector: Vector | None) -> Classification:
        """Raises `Unclassified`."""
        text, model, header = call.text or "", call.reading.model, call.controls.category
        try:
            return self.rules.classifier.classify(text=text, model=model, vector=vector, header=header)
        except Exception as error:
            why = error if isinstance(error, TookTooLong) else type(error).__name__
            log.warning("classifying a question failed: %s", why)
            raise Unclassified from error

    def question(self, call: Call, category: str, vector: Vector | None) -> Question:
        fingerprint = self.embedder.fingerprint if vector is not None else ""
        policy = self.policy(category, self.pressure(call.reading.model))
        return Question.of(call, self._scope(category, call), policy, vector, fingerprint)

    async def again(self, call: Call, entry: Entry) -> Question:
        """The question to send upstream to renew `entry`, which was served to `call` past its lifetime.

        Raises `EmbeddingError`.
        """
        vector = None
        if entry.fingerprint and call.text is not None:
            vector = await self.embed(call.text, call.tenant)
        return self.question(call, entry.category, vector)

    def _scope(self, category: str, call: Call) -> str:
        shared = self.rules.book.get(category).scope == "shared" and not call.reading.tied
        return SHARED if shared else call.tenant

    def policy(self, category: str, pressure: float) -> InForce:
        """The category's policy in force: its threshold from the audits, then threshold and lifetime adjusted
        to `pressure`."""
        kind = self.rules.book.get(category)
        return in_force(kind, pressure, base=self.audits.threshold(kind))

    def known(self, category: str) -> str:
        """The name under which a category is counted. Callers may send any name, but metric labels must stay
        few."""
        return self.rules.book.get(category).name

    def mode(self, category: str, exact: bool = False) -> Mode:
        """The category's mode, with `auto` resolved to its present state. `exact`: for the exact tier, which
        `auto` leaves on, as it costs next to nothing and is never wrong."""
        chosen = self.rules.book.get(category).mode
        return chosen if chosen != "auto" else "on" if exact else self.automatics.mode(category)

    def shadowed(self, asked: str, stored: str, exact: bool) -> bool:
        """Whether a call of category `asked` that hits an answer of category `stored` is only counted."""
        return self.mode(asked, exact) == "shadow" or (
            stored != asked and self.mode(stored, exact) == "shadow"
        )

    def classified_off(self, call: Call) -> Classification | None:
        """The classification of a call whose semantic tier is off, so that it need not be embedded. None: the
        tier is on, or the category cannot be told without a vector."""
        if all(each.mode == "on" for each in self.automatics.of.values()):
            return None
        found = self.classify(call, None)
        return found if found.by != "default" and self.mode(found.category) == "off" else None

    async def semantic(self, question: Question, now: float) -> Search:
        """Looks up the best entry that is similar enough, fresh, and to which no guard objects. Only waits if
        the vectors are kept outside this process."""
        found = Search()
        if self.mode(question.policy.category.name) == "off":
            found.refused = AUTO_OFF
            return found
        if question.vector is None:
            return found
        try:
            nearest = await self.entries.nearest(question.partition, question.vector, CANDIDATES)
        except StorageError:
            found.failed = True
            return found
        required = required_similarity(question.policy, question.policy, question.call.controls)
        if nearest and nearest[0][0] >= required:
            await in_step()  # not on a miss, as a call that this one could join might end in the meantime
        for similarity, entry in nearest:
            if not self.serves(entry) or not self.open_to(question.call, question.scope, entry.category):
                continue  # simulated, or the category has been closed, or is no longer shared
            if found.nearest is None:
                found.nearest = similarity
            if similarity < required:
                break
            self._consider(found, entry, similarity, question.call, question.policy, now)
            if found.fresh is not None and found.fresh.verdict.freshness == "fresh":
                break
        return found

    def _consider(
        self,
        found: Search,
        entry: Entry,
        similarity: float,
        call: Call,
        policy: InForce,
        now: float,
        exact: bool = False,
    ) -> None:
        """Judges one entry and records the outcome in `found`. `policy`: of the call's category."""
        # Both are in one partition and so have the same model, whose pressure applies to both policies.
        same = policy.category.name == entry.category
        stored = policy if same else self.policy(entry.category, policy.pressure)
        offer = Offer(entry.text, similarity, now - entry.created, entry.ttl, stored, exact)
        verdict = judge(offer, call.text or "", policy, call.controls)
        threshold = required_similarity(policy, stored, call.controls)
        tier: Tier = "exact" if exact else "semantic"
        shadowed = self.shadowed(policy.category.name, entry.category, exact)
        candidate = Found(entry, tier, similarity, threshold, verdict, policy, shadowed)
        if verdict.freshness == "fresh":
            found.fresh = candidate
        elif verdict.freshness == "revalidate":
            found.fresh = found.fresh or candidate
        elif verdict.freshness == "stale":
            found.stale = found.stale or candidate
        found.refused = found.refused or verdict.reason

    def alike(self, question: Question, other: Question) -> float | None:
        """The similarity of two questions in flight, if the answer to `other` will do for `question`; else
        None."""
        if not self.open_to(question.call, question.scope, other.policy.category.name):
            return None
        if question.exact == other.exact:
            return 1.0
        if (
            question.vector is None
            or other.vector is None
            or self.mode(question.policy.category.name) == "off"
        ):
            return None
        similarity = float(question.vector @ other.vector)
        if similarity < question.policy.threshold:
            return None
        offer = Offer(other.call.text or "", similarity, 0.0, None, self._sharing(other))
        verdict = judge(offer, question.call.text or "", self._sharing(question), question.call.controls)
        return similarity if verdict.freshness == "fresh" else None

    def _sharing(self, question: Question) -> InForce:
        """The policy that decides whether an answer in flight is shared. It is computed anew, as pressure may
        have risen since the call was sent."""
        category = question.policy.category
        bends = category.load.share_flights
        return self.policy(category.name, self.pressure(question.call.reading.model) if bends else 0.0)

    async def load(self, entry: Entry, now: float) -> bytes | None:
        """The stored answer's body; loading it counts as a hit on the entry. None: it is lost or cannot be
        loaded now."""
        try:
            body = await self.documents.load(entry.id)
        except StorageError as error:
            log.warning("loading an entry failed: %s", error)
            return None
        self._loaded(entry, body, now)
        return body

    async def load_many(self, entries: Sequence[Entry], now: float) -> dict[str, bytes]:
        """The bodies of many entries, by id, without those that are lost or cannot be had now."""
        bodies = await self.documents.load_many([entry.id for entry in entries])
        for entry in entries:
            if entry.id in bodies:
                self._loaded(entry, bodies[entry.id], now)
        return {id: body for id, body in bodies.items() if body is not None}

    def _loaded(self, entry: Entry, body: bytes | None, now: float) -> None:
        if body is None:
            self.entries.remove(entry.id)
        else:
            self.entries.touch(entry, now)

    # Keeping

    def kept(self, entry: Entry) -> float:
        """Seconds after its creation at which nobody may be served the entry any more. By the lifetime under
        full pressure: what is gone cannot relieve an upstream."""
        return kept(self.policy(entry.category, 1.0), entry.ttl)

    def _worth(self, entry: Entry, demand: float, now: float) -> float:
        policy = self.policy(entry.category, self.pressure(entry.model))
        age, ttl = now - entry.created, lifetime(policy, policy, entry.ttl)
        return eviction.worth(policy.category.priority, demand, entry.cost_ms, age, ttl)

    def _guaranteed(self) -> dict[str, float]:
        return {name: category.quota for name, category in self.rules.book.categories.items()}

    def sweep(self, now: float, limit: int) -> None:
        """Deletes those of the next `limit` entries that can no longer be served to anybody."""
        self.documents.forget([entry.id for entry in self.entries.expired(now, self.kept, limit)])

    def keep(
        self,
        question: Question,
        id: str,
        body: bytes,
        usage: Usage,
        cost_ms: float,
        now: float,
        age: float = 0.0,
    ) -> bool:
        """Stores the answer to a question. `cost_ms`: the upstream time it took. `age`: seconds it had spent
        in other caches on arrival. Returns False as `store` does."""
        entry = entry_of(question, id, len(body), usage, cost_ms, now - age)
        entry.provenance = self.provenance
        return self.store(entry, question.vector, body, now)

    def store(self, entry: Entry, vector: Vector | None, body: bytes, now: float) -> bool:
        """Adds an entry to memory and queues its document for the store. False if it has expired already, or
        if the queue is full: an entry that might be lost is not promised."""
        expires = entry.created + self.kept(entry)
        if expires < now or not self.documents.put(Document(entry, vector, body, expires)):
            return False
        self.documents.forget([gone.id for gone in self.entries.add(entry, vector, now)])
        return True

    def drop(self, id: str) -> None:
        """Deletes one entry: from memory now, from the store soon."""
        if self.entries.remove(id) is not None:
            self.documents.forget([id])

    def lost(self, ids: Sequence[str]) -> None:
        """Deletes entries from memory whose documents the store failed to keep."""
        for id in ids:
            self.entries.remove(id)

    def take_in(self, entry: Entry, vector: Vector | None, now: float) -> None:
        """Adds an entry that another replica has stored."""
        take_in(self.documents, self.entries, self.embedder.fingerprint, self.kept, now, entry, vector)

    def dropped(self, ids: Sequence[str]) -> None:
        """Deletes entries from memory that another replica has deleted."""
        drop(self.documents, self.entries, ids)

    def begin_purge(self) -> None:
        """From now on, answers to calls that have already begun are neither stored nor shared."""
        self.generation += 1
        forget_bodies()

    def purge(self, ids: list[str]) -> None:
        """Deletes entries: from memory now, from the store soon."""
        for id in ids:
            self.entries.remove(id)
        self.documents.forget(ids)


async def in_step() -> None:
    """Yields to the event loop, so that calls whose vectors came from one batch take each step together. The
    code and data of a step then stay in the CPU caches, where a call running from start to end would evict
    what the next one needs (docs/performance.md)."""
    await asyncio.sleep(0)


async def _nothing() -> None:
    return None


def entry_of(question: Question, id: str, size: int, usage: Usage, cost_ms: float, now: float) -> Entry:
    """The entry for the answer to a question. `size`: of the body in bytes."""
    call = question.call
    return Entry(
        id=id,
        exact=question.exact,
        partition=question.partition,
        fingerprint=question.fingerprint,
        category=question.policy.category.name,
        # The guards need the whole text, but without a vector it is only shown to people.
        text=call.text or "" if question.vector is not None else shown(call.text or ""),
        created=now,
        dialect=call.dialect.name,
        model=call.reading.model,
        tenant=question.scope,
        namespace=call.controls.namespace,
        tags=call.controls.tags,
        ttl=call.controls.ttl,
        size=size,
        cost_ms=cost_ms,
        tokens_in=usage.tokens_in,
        tokens_out=usage.tokens_out,
    )
