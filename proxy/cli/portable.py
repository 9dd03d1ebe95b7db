"""The JSON lines of exports and imports: a line is a complete entry, as `nearhit export` writes it, or a
curated pair of question and answer."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import asdict, fields
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from policies.schema import Name
from storage.base import Document, Entry, Vector
from storage.documents.codec import vector_from_bytes

TENANT = r"^[0-9a-f]{32}$"
Seconds = Annotated[float, Field(allow_inf_nan=False, gt=0)]


class Line(BaseModel):
    """One line, of either kind, not validated yet."""

    model_config = ConfigDict(extra="allow")


class Pair(BaseModel):
    """A question and the answer it is to get."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    query: Annotated[str, Field(min_length=1, pattern=r"\S")]
    answer: Annotated[str, Field(min_length=1, pattern=r"\S")]
    model: Annotated[str, Field(min_length=1)]
    category: str | None = None
    """None: decided by the classifier."""
    tenant: Annotated[str, Field(pattern=TENANT)] | None = None
    """The owner's digest in full; required unless the category's answers cross tenants."""
    system: str | None = None
    """The exact system message of the callers."""
    request: dict[str, Any] = {}
    """Other members of the callers' bodies, such as `temperature`, which must match exactly."""
    namespace: str = ""
    tags: list[str] = []
    ttl: Seconds | None = None


class _Told(BaseModel):
    """The members of an entry that are used in headers and metric labels."""

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    category: Name


_ENTRY = TypeAdapter(Entry)
_BYTES = ("exact", "partition")


def line_of(document: Document) -> str:
    entry = asdict(document.entry)
    entry |= {name: entry[name].hex() for name in _BYTES}
    vector = document.vector
    packed = None if vector is None else base64.b64encode(vector.astype("<f4").tobytes()).decode()
    body = document.body.decode("utf-8", "surrogateescape")
    return json.dumps({**entry, "vector": packed, "body": body})


def is_entry(line: Line) -> bool:
    return "partition" in (line.model_extra or {})


def document_of(line: Line) -> Document:
    """Raises ValueError that says what is wrong."""
    values = dict(line.model_extra or {})
    body, vector = values.pop("body", None), values.pop("vector", None)
    if not isinstance(body, str):
        raise ValueError("body: should be text")
    if unknown := values.keys() - {field.name for field in fields(Entry)}:
        raise ValueError(f"{min(unknown)}: not a member of an entry")
    try:
        values |= {name: bytes.fromhex(str(values.get(name, ""))) for name in _BYTES}
        entry = _ENTRY.validate_python(values)
        _Told.model_validate(values)
    except ValidationError as error:
        raise ValueError(_first(error)) from None
    if any(len(getattr(entry, name)) != 16 for name in _BYTES):
        raise ValueError("exact, partition: not those of an entry")
    return Document(entry, _vector(vector), body.encode("utf-8", "surrogateescape"))


def pair_of(line: Line) -> Pair:
    """Raises ValueError that says what is wrong."""
    try:
        return Pair.model_validate(line.model_extra or {})
    except ValidationError as error:
        raise ValueError(_first(error)) from None


def _first(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"


def _vector(packed: Any) -> Vector | None:
    if packed is None:
        return None
    try:
        vector = vector_from_bytes(base64.b64decode(str(packed), validate=True))
    except (binascii.Error, ValueError):
        raise ValueError("vector: should be float32 numbers in base64") from None
    if vector is None or abs(float(np.linalg.norm(vector)) - 1.0) > 0.01:
        raise ValueError("vector: should be of unit length")
    return vector
