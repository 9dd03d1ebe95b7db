"""Imports answers from a file into the document store: exported entries unchanged, and curated pairs as
entries that real calls will find.

The file is trusted: its author decides what callers are told. But it cannot give one tenant's answers to
another: an entry keeps its tenant, and a pair is only shared if its category is.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any

from multidict import CIMultiDict, CIMultiDictProxy

from embeddings.base import Embedder, TextTooLong, Vector
from policies.decision import kept
from policies.model import in_force
from proxy.cache import IMPORTED, Rules, entry_of
from proxy.cli.portable import Line, Pair, document_of, is_entry, pair_of
from proxy.dialects import openai_chat
from proxy.dialects.base import Usage, dump
from proxy.jsonl import read_rows, wrong
from proxy.messages import SHARED, Call, Question, read_call
from storage.base import Document, Documents, Entry

BATCH = 64
_TARGET = "/v1/chat/completions"
_CHARACTERS_PER_TOKEN = 4
_MS_PER_TOKEN = 20.0
"""Rough time for a model to write the answer, so that eviction knows what it is worth."""


class _Refused(Exception):
    """A valid line that must not become an entry. `str()` is the reason, the same for all such lines."""


@dataclass(slots=True)
class Imported:
    entries: int = 0
    pairs: int = 0
    embedded: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    """How many lines were left out, by reason."""
    resumed_after: int = 0
    """Lines that an earlier run had already imported."""

    def shown(self) -> dict[str, Any]:
        names = ("entries", "pairs", "embedded", "resumed_after")
        return {name: getattr(self, name) for name in names} | {"refused": dict(self.refused)}


class Importer:
    def __init__(
        self, store: Documents, rules: Rules, embedder: Embedder, tenant: str | None, now: float
    ) -> None:
        """`tenant`: digest of the owner of pairs that name none. `embedder` must have room for `BATCH`
        texts."""
        self._store = store
        self._rules = rules
        self._embedder = embedder
        self._tenant = tenant
        self._now = now
        self.done = Imported()

    async def run(self, path: Path, store: str, advance: Callable[[int], None]) -> Imported:
        """Imports the file, or the rest of it after an interruption. `store`: name of the store, so that
        nothing is skipped that was imported into another one. `advance` is told the number of lines after
        each step. Raises `ConfigError` at the first invalid line, `EmbeddingError` and `StorageError`; the
        next run continues there."""
        mark = Mark(path, store)
        rows = read_rows(path, Line)
        self.done.resumed_after = await asyncio.to_thread(_skip, rows, mark.read())
        reached = self.done.resumed_after
        while batch := await asyncio.to_thread(list, islice(rows, BATCH)):
            await self._store.save(await self._documents(batch))
            reached += len(batch)
            await asyncio.to_thread(mark.write, reached)
            advance(len(batch))
        mark.remove()
        return self.done

    async def _documents(self, batch: Sequence[tuple[str, Line]]) -> list[Document]:
        made = await asyncio.gather(*(self._document(*row) for row in batch), return_exceptions=True)
        if failed := next((each for each in made if isinstance(each, BaseException)), None):
            raise failed
        return [each for each in made if isinstance(each, Document)]

    async def _document(self, place: str, line: Line) -> Document | None:
        try:
            document = await (self._entry(line) if is_entry(line) else self._pair(pair_of(line)))
        except ValueError as error:
            raise wrong(place, f"{error}; correct the line") from None
        except _Refused as refusal:
            self.done.refused[str(refusal)] += 1
            return None
        document.expires = document.entry.created + self._kept(document.entry)
        return document

    def _kept(self, entry: Entry) -> float:
        return kept(in_force(self._rules.book.get(entry.category), pressure=1.0), entry.ttl)

    # Whole entries

    async def _entry(self, line: Line) -> Document:
        document = document_of(line)
        entry = document.entry
        if self._now - entry.created > self._kept(entry):
            raise _Refused("expired")
        if document.vector is not None and not self._is_ours(entry, document.vector):
            document.vector = await self._embed(entry.text)
            entry.fingerprint = self._embedder.fingerprint if document.vector is not None else ""
        self.done.entries += 1
        return document

    def _is_ours(self, entry: Entry, vector: Vector) -> bool:
        return entry.fingerprint == self._embedder.fingerprint and len(vector) == self._embedder.dimensions

    # Pairs

    async def _pair(self, pair: Pair) -> Document:
        call = _call(pair)
        vector = await self._embed(pair.query)
        category = self._category(pair, vector)
        if category.barred:
            raise _Refused(f"category {category.name} is not cached")
        scope = SHARED if category.scope == "shared" else pair.tenant or self._tenant
        if scope is None:
            raise _Refused(f"category {category.name} is not shared, and no tenant is named (--tenant)")
        fingerprint = self._embedder.fingerprint if vector is not None else ""
        question = Question.of(
            replace(call, tenant=scope), scope, in_force(category, 0.0), vector, fingerprint
        )
        self.done.pairs += 1
        return self._answered(question, pair)

    def _answered(self, question: Question, pair: Pair) -> Document:
        id = question.exact.hex()[:24]  # deterministic, so that a second import replaces the first
        tokens = Usage(len(pair.query) // _CHARACTERS_PER_TOKEN, len(pair.answer) // _CHARACTERS_PER_TOKEN)
        body = dump(_completion(id, pair, tokens, self._now))
        entry = entry_of(question, id, len(body), tokens, tokens.tokens_out * _MS_PER_TOKEN, self._now)
        entry.tags, entry.ttl, entry.provenance = tuple(pair.tags), pair.ttl, IMPORTED
        return Document(entry, question.vector, body)

    def _category(self, pair: Pair, vector: Vector | None) -> Any:
        book = self._rules.book
        if pair.category is not None and pair.category not in book.categories:
            raise ValueError(f"category: {pair.category!r} does not exist")
        found = self._rules.classifier.classify(
            text=pair.query, model=pair.model, vector=vector, header=pair.category
        )
        return book.get(found.category)

    async def _embed(self, text: str) -> Vector | None:
        """None: too long for the model, so only the exact tier will find it."""
        try:
            vector = await self._embedder.embed(text)
        except TextTooLong:
            return None
        self.done.embedded += 1
        return vector


def _call(pair: Pair) -> Call:
    """The call of somebody who asks this question. Raises ValueError if there can be no such call."""
    taken = pair.request.keys() & {"model", "messages", "stream", "stream_options"}
    if taken:
        raise ValueError(f"request.{min(taken)}: must not be set here")
    system = [] if pair.system is None else [{"role": "system", "content": pair.system}]
    messages = [*system, {"role": "user", "content": pair.query}]
    body = json.dumps({**pair.request, "model": pair.model, "messages": messages}).encode()
    headers = CIMultiDict({"X-Nearhit-Namespace": pair.namespace}) if pair.namespace else CIMultiDict()
    call = read_call(openai_chat, _TARGET, CIMultiDictProxy(headers), body, "")
    if call is None or call.text is None:
        raise ValueError("query: no call can ask this")
    return call


def _completion(id: str, pair: Pair, tokens: Usage, now: float) -> dict[str, Any]:
    message = {"role": "assistant", "content": pair.answer, "refusal": None}
    return {
        "id": f"chatcmpl-{id}",
        "object": "chat.completion",
        "created": int(now),
        "model": pair.model,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": {
            "prompt_tokens": tokens.tokens_in,
            "completion_tokens": tokens.tokens_out,
            "total_tokens": tokens.tokens_in + tokens.tokens_out,
        },
    }


# Resuming after an interruption


class Mark:
    """Remembers how many lines of a file have been imported, in a second file next to it. It does not count
    for another version of the file."""

    def __init__(self, path: Path, store: str) -> None:
        self._path = path.with_name(path.name + ".importing")
        stat = path.stat()
        self._of = [stat.st_size, stat.st_mtime_ns, blake2b(store.encode(), digest_size=8).hexdigest()]

    def read(self) -> int:
        try:
            known = json.loads(self._path.read_text())
            return int(known["lines"]) if known["of"] == self._of else 0
        except (OSError, ValueError, KeyError, TypeError):
            return 0

    def write(self, lines: int) -> None:
        partial = self._path.with_name(self._path.name + ".new")
        try:
            partial.write_text(json.dumps({"of": self._of, "lines": lines}))
            partial.replace(self._path)
        except OSError:
            pass  # not writable: the next run starts over, and replaces entries by the same ones

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)


def _skip(rows: Iterator[Any], lines: int) -> int:
    return sum(1 for _ in islice(rows, lines))
