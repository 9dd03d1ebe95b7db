"""A document as a row, whatever the store: columns and their values, sealed where the codec has a key."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import NoneType
from typing import Any

from storage.base import Document, Entry, Stored
from storage.documents.codec import Codec

SEALABLE = ("text", "sealed_text", "vector", "body")

_PLAIN: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("id", "fingerprint", "category", "text"), (str,)),
    **dict.fromkeys(("dialect", "model", "tenant", "namespace", "provenance"), (str,)),
    **dict.fromkeys(("created", "cost_ms", "last_hit"), (float, int)),
    **dict.fromkeys(("size", "tokens_in", "tokens_out", "hits"), (int,)),
    **dict.fromkeys(("exact", "partition"), (bytes,)),
    "ttl": (float, int, NoneType),
}
"""Columns that hold what the entry's field of that name holds."""
_TYPES = _PLAIN | {"tags": (str,), "vector": (bytes, NoneType), "sealed_text": (bytes, NoneType)}


def to_row(document: Document, codec: Codec) -> dict[str, Any]:
    """The text is in `sealed_text`, and nowhere else, when the codec has a key."""
    entry = document.entry
    row = {name: _storable(getattr(entry, name)) for name in _PLAIN} | {
        "tags": json.dumps(entry.tags),
        "vector": codec.pack_vector(document.vector, entry.id),
        "body": codec.pack(document.body, entry.id),
        "sealed_text": None,
    }
    if not codec.seals:
        return row
    return row | {"sealed_text": codec.seal_text(row["text"], entry.id), "text": ""}


def resealed(row: Mapping[str, Any], codec: Codec) -> dict[str, Any] | None:
    """Of a row with `id` and `SEALABLE`, the latter as the codec's first key seals them; None when it does
    already. Raises ValueError when something is damaged, `Locked` when the codec does not have the key."""
    id, sealed_text = row["id"], row["sealed_text"]
    sealed = [sealed_text or b"", row["body"], *([] if row["vector"] is None else [row["vector"]])]
    if all(map(codec.is_newest, sealed)):
        return None
    text = row["text"] if sealed_text is None else codec.unseal_text(sealed_text, id)
    return {
        "text": "",
        "sealed_text": codec.seal_text(text, id),
        "vector": codec.pack_vector(codec.unpack_vector(row["vector"], id), id),
        "body": codec.pack(codec.unpack(row["body"], id), id),
    }


def _storable(value: Any) -> Any:
    """Text without what a database refuses: halves of surrogate pairs (JSON can carry them) and NUL."""
    if not isinstance(value, str):
        return value
    return value.encode("utf-8", "replace").decode().replace("\0", "\ufffd")


def from_row(row: Mapping[str, Any], codec: Codec) -> Stored:
    """Raises ValueError when the row is damaged: SQLite keeps whatever was put into a column. `Locked` when
    the codec does not have the key."""
    damaged = [name for name, types in _TYPES.items() if not isinstance(row.get(name), types)]
    damaged += [name for name in ("exact", "partition") if name not in damaged and len(row[name]) != 16]
    if damaged:
        raise ValueError(f"damaged row: {', '.join(damaged)}")
    entry = Entry(**{name: row[name] for name in _PLAIN}, tags=_tags(row["tags"]))
    if row["sealed_text"] is not None:
        entry.text = codec.unseal_text(row["sealed_text"], entry.id)
    return entry, codec.unpack_vector(row["vector"], entry.id)


def _tags(text: str) -> tuple[str, ...]:
    """Raises ValueError when it is not a list of strings."""
    tags = json.loads(text)
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise ValueError("damaged tags")
    return tuple(tags)
