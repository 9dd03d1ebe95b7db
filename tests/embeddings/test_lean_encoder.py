from __future__ import annotations

import json
import math
import os
import shutil
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue
from subprocess import run
from threading import Event
from typing import Any

import numpy as np
import onnxruntime
import pytest
from safetensors.numpy import load_file, save_file

from embeddings import weights
from embeddings.lean import LeanEncoder

TinyModel = Callable[..., Path]
EPSILON = 1e-12
ROOT = Path(__file__).parents[2]


def bert_in_float64(folder: Path, tokens: list[int], heads: int = 3) -> np.ndarray:
    """Hidden states, written down from the definition of BERT (arXiv 1810.04805) without fused operators."""
    w = {name: array.astype(np.float64) for name, array in load_file(folder / "model.safetensors").items()}
    x = w["embeddings.word_embeddings.weight"][tokens] + w["embeddings.token_type_embeddings.weight"][0]
    x = norm(x + w["embeddings.position_embeddings.weight"][: len(tokens)], w, "embeddings.LayerNorm")
    for layer in range(2):
        at = f"encoder.layer.{layer}."
        attended = attention(x, w, f"{at}attention.", heads)
        x = norm(x + attended, w, f"{at}attention.output.LayerNorm")
        inner = linear(x, w, f"{at}intermediate.dense")
        active = inner * 0.5 * (1 + np.vectorize(math.erf)(inner / math.sqrt(2)))
        x = norm(x + linear(active, w, f"{at}output.dense"), w, f"{at}output.LayerNorm")
    return x


def attention(x: np.ndarray, w: dict[str, np.ndarray], at: str, heads: int) -> np.ndarray:
    query, key, value = (
        np.stack(np.split(linear(x, w, f"{at}self.{part}"), heads, axis=1))
        for part in ("query", "key", "value")
    )
    scores = np.exp(query @ key.transpose(0, 2, 1) / math.sqrt(query.shape[2]))
    mixed = scores / scores.sum(axis=2, keepdims=True) @ value
    return linear(np.concatenate(list(mixed), axis=1), w, f"{at}output.dense")


def linear(x: np.ndarray, w: dict[str, np.ndarray], name: str) -> np.ndarray:
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def norm(x: np.ndarray, w: dict[str, np.ndarray], name: str) -> np.ndarray:
    centred = x - x.mean(axis=1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + EPSILON)
    return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]


def unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_vectors_are_those_of_the_definition(tiny_model: TinyModel, pooling: str) -> None:
    folder = tiny_model(pooling)
    encoder = LeanEncoder(folder, threads=1)
    tokens = encoder.tokenize("n e a r h i t")
    hidden = bert_in_float64(folder, list(tokens))
    expected = hidden.mean(axis=0) if pooling == "mean" else hidden[0]
    (vector,) = encoder.encode([tokens])
    assert vector.dtype == np.float32
    np.testing.assert_allclose(vector, unit(expected), atol=1e-5)


def test_a_vector_does_not_depend_on_its_batch(tiny_model: TinyModel) -> None:
    encoder = LeanEncoder(tiny_model(), threads=1)
    texts = [encoder.tokenize(text) for text in ("a", "x y z x y z x", "b c d", "q")]
    together = encoder.encode(texts)
    alone = np.concatenate([encoder.encode([text]) for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_a_batch_on_its_own_has_two_threads_and_two_have_one_each(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, threads, go_on = onnxruntime.InferenceSession, Queue[int](), Event()

    class Session:
        def __init__(self, model: bytes, options: onnxruntime.SessionOptions, providers: list[str]) -> None:
            self._threads = options.intra_op_num_threads
            self._session = real(model, options, providers)

        def run(self, *arguments: Any) -> Any:
            threads.put(self._threads)
            assert go_on.wait(10)
            return self._session.run(*arguments)

    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    encoder = LeanEncoder(tiny_model(), threads=2)
    text = encoder.tokenize("n e a r h i t")
    with ThreadPoolExecutor() as pool:
        first = pool.submit(encoder.encode, [text])
        assert threads.get(timeout=10) == 2
        second = pool.submit(encoder.encode, [text])
        assert threads.get(timeout=10) == 1
        go_on.set()
        np.testing.assert_allclose(first.result(10), second.result(10), atol=1e-6)
    np.testing.assert_allclose(encoder.encode([text]), first.result(), atol=1e-6)
    assert threads.get(timeout=10) == 2


def test_tokens_are_neither_cut_nor_padded(tiny_model: TinyModel) -> None:
    encoder = LeanEncoder(tiny_model(), threads=1)
    assert len(encoder.tokenize("a")) == 3
    assert len(encoder.tokenize("a " * 12)) == 14
    assert encoder.max_tokens == 10
    assert encoder.dimensions == 12


@pytest.mark.parametrize(
    ("setting", "value"),
    [("hidden_act", "relu"), ("model_type", "roberta"), ("position_embedding_type", "relative_key")],
)
def test_another_architecture_is_refused(tiny_model: TinyModel, setting: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"{setting} is '{value}'"):
        LeanEncoder(tiny_model(**{setting: value}), threads=1)


def test_another_pooling_is_refused(tiny_model: TinyModel) -> None:
    with pytest.raises(ValueError, match="pooling 'pooling_mode_max_tokens'"):
        LeanEncoder(tiny_model("max"), threads=1)


def test_another_module_is_refused(tiny_model: TinyModel) -> None:
    folder = tiny_model()
    modules = json.loads((folder / "modules.json").read_text())
    (folder / "modules.json").write_text(json.dumps([*modules, {"path": "3_Dense", "type": "models.Dense"}]))
    with pytest.raises(ValueError, match="no module Dense"):
        LeanEncoder(folder, threads=1)


def test_the_settings_of_newer_model_folders_are_read(tiny_model: TinyModel) -> None:
    folder = tiny_model()
    (folder / "1_Pooling" / "config.json").write_text('{"embedding_dimension": 12, "pooling_mode": "cls"}')
    (folder / "sentence_bert_config.json").write_text('{"transformer_task": "feature-extraction"}')
    (folder / "tokenizer_config.json").write_text('{"model_max_length": 7}')
    model = weights.read(folder)
    assert (model.pooling, model.max_tokens) == ("cls", 7)


@pytest.mark.parametrize("said", ["{}", '{"model_max_length": 1000000000000000019884624838656}'])
def test_without_a_limit_the_positions_are_the_limit(tiny_model: TinyModel, said: str) -> None:
    folder = tiny_model()
    (folder / "sentence_bert_config.json").unlink()
    (folder / "tokenizer_config.json").write_text(said)
    assert weights.read(folder).max_tokens == 16


@pytest.mark.parametrize("name", ["config.json", "modules.json", "tokenizer.json", "model.safetensors"])
def test_a_missing_file_is_named(tiny_model: TinyModel, name: str) -> None:
    folder = tiny_model()
    os.remove(folder / name)
    with pytest.raises(FileNotFoundError, match=name):
        LeanEncoder(folder, threads=1)


def test_missing_weights_are_named(tiny_model: TinyModel) -> None:
    folder = tiny_model(num_hidden_layers=3)
    with pytest.raises(ValueError, match=r"encoder\.layer\.2\."):
        LeanEncoder(folder, threads=1)


def test_the_fingerprint_follows_weights_and_pooling(tiny_model: TinyModel, tmp_path: Path) -> None:
    folder = tiny_model()
    first = weights.read(folder).fingerprint
    shutil.copytree(folder, tmp_path / "copy")
    assert weights.read(tmp_path / "copy").fingerprint == first
    changed = load_file(folder / "model.safetensors")
    changed["embeddings.LayerNorm.bias"] = changed["embeddings.LayerNorm.bias"] + np.float32(1e-3)
    save_file(changed, folder / "model.safetensors")
    assert weights.read(folder).fingerprint != first
    assert weights.read(tiny_model("cls")).fingerprint != first


def test_the_packaged_model_knows_a_paraphrase() -> None:
    try:
        folder = weights.packaged()
    except FileNotFoundError as missing:
        pytest.skip(str(missing))
    encoder = LeanEncoder(folder, threads=1)
    asked, reworded, other = encoder.encode(
        [
            encoder.tokenize(text)
            for text in (
                "How do I sort a list in Python?",
                "how to sort a python list",
                "Will it rain in Oslo?",
            )
        ]
    )
    assert asked @ reworded > 0.9
    assert asked @ other < 0.3


def test_the_runtime_reports_nothing_to_anybody(tmp_path: Path) -> None:
    """Left alone it keeps a database of events, for sending, under `HOME`."""
    code = "from embeddings.opening import open_encoder; open_encoder()"
    environ = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    run(
        [sys.executable, "-c", code], env={**environ, "HOME": str(tmp_path)}, check=True, cwd=ROOT, timeout=60
    )
    assert list(tmp_path.rglob("*")) == []
