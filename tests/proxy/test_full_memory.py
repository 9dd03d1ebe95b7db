"""What the cache makes of a memory that is full: every document has its entry, and the other way round."""

from __future__ import annotations

from doubles import WordEmbedder

from policies.book import Book
from policies.model import Category
from proxy.cache import Cache, Rules
from storage.base import Entry
from storage.documents.buffered import BufferedDocuments
from storage.documents.memory import MemoryDocuments

CAPACITY = 8


async def make_cache(documents: BufferedDocuments, *categories: Category) -> Cache:
    book, embedder = Book.of(list(categories)), WordEmbedder()
    return Cache(await Rules.of(book, embedder), embedder, documents, CAPACITY)


def make_entry(id: str, category: str, cost_ms: float = 100.0) -> Entry:
    return Entry(
        id, id.encode().ljust(16), b"", "", category, id, 1_000.0, "openai", "demo", "shared", cost_ms=cost_ms
    )


async def test_no_document_stays_behind() -> None:
    documents = BufferedDocuments(MemoryDocuments())
    cache = await make_cache(documents, Category("default", 0.9, 1e6), Category("code", 0.9, 1e6, quota=1.0))
    for number in range(5 * CAPACITY):  # those without a share find no room in the end
        category = "code" if CAPACITY < number < 3 * CAPACITY else "default"
        assert cache.store(make_entry(str(number), category), None, b"answer", 1_000.0)
    await documents.flush()
    kept = {entry.id async for batch in documents.scan() for entry, _ in batch}
    assert kept == set(cache.entries.ids())
    assert {entry.category for entry in cache.entries.select(lambda entry: True)} == {"code"}
    await documents.close()


async def test_of_what_was_asked_for_again_the_least_of_priority_and_cost_leaves() -> None:
    documents = BufferedDocuments(MemoryDocuments())
    cache = await make_cache(
        documents, Category("default", 0.9, 1e6), Category("code", 0.9, 1e6, priority=5.0)
    )
    for number in range(CAPACITY):
        cheap = make_entry(f"default-{number}", "default", cost_ms=400.0)
        entry = cheap if number == 3 else make_entry(f"code-{number}", "code", cost_ms=100.0)
        cache.store(entry, None, b"answer", 1_000.0)
        assert await cache.load(entry, 1_000.0) == b"answer"
    cache.store(make_entry("new", "code"), None, b"answer", 1_000.0)
    assert cache.entries.get("default-3") is None
    assert cache.entries.get("new") is not None
    assert len(cache.entries) == CAPACITY
    await documents.close()
