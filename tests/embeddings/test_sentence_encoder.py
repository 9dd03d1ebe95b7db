from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from embeddings import weights
from embeddings.lean import LeanEncoder

pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed (extra: gpu)")

from embeddings.sentence import SentenceEncoder

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

TEXTS = [
    "How do I sort a list in Python?",
    "hi",
    "What does article 6 of the GDPR say about consent, and does it apply to a club of twelve people?",
    "Résumé für Zürich — 漢字 ☂ \t\n",
    "x" * 300,
    "word " * 240,
]


@pytest.fixture(scope="module")
def folder() -> Path:
    try:
        return weights.packaged()
    except FileNotFoundError as missing:
        pytest.skip(str(missing))


def test_both_back_ends_give_the_same_vectors(folder: Path) -> None:
    reference, lean = SentenceEncoder(folder, device="cpu"), LeanEncoder(folder, threads=1)
    assert reference.fingerprint == lean.fingerprint
    assert (reference.dimensions, reference.max_tokens) == (lean.dimensions, lean.max_tokens)
    tokens = [reference.tokenize(text) for text in TEXTS]
    assert tokens == [lean.tokenize(text) for text in TEXTS]
    np.testing.assert_allclose(lean.encode(tokens), reference.encode(tokens), atol=1e-5)


def test_it_is_what_sentence_transformers_gives(folder: Path) -> None:
    from sentence_transformers import SentenceTransformer

    encoder = SentenceEncoder(folder, device="cpu")
    plain = SentenceTransformer(str(folder), device="cpu").encode(TEXTS, normalize_embeddings=True)
    rows = encoder.encode([encoder.tokenize(text) for text in TEXTS])
    np.testing.assert_allclose(rows, plain, atol=1e-5)


def test_a_small_model_with_cls_pooling(tiny_model: Callable[..., Path]) -> None:
    folder = tiny_model("cls", vocab_size=30, architectures=["BertModel"], pad_token_id=0, type_vocab_size=2)
    reference, lean = SentenceEncoder(folder, device="cpu"), LeanEncoder(folder, threads=1)
    tokens = [lean.tokenize(text) for text in ("a b c", "z", "q w e r t y")]
    np.testing.assert_allclose(lean.encode(tokens), reference.encode(tokens), atol=1e-5)
