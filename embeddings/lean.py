"""The lean back end: runs a BERT model on the CPU with ONNX Runtime, in float32.

The texts of a batch are padded to the longest. Padding is masked in the attention and left out of the mean,
so a text's vector is the same in every batch, to within float32 rounding (1e-6).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from safetensors.numpy import load_file

from embeddings import graph, weights
from embeddings.base import Matrix

_BATCH_TOKENS = 256
_WIDE = 2
"""Threads for a batch that is encoded alone. ONNX Runtime fixes their number per session: there are two."""


class LeanEncoder:
    """`Encoder` for a folder with a BERT model and mean or cls pooling. Raises FileNotFoundError or
    ValueError."""

    def __init__(self, folder: Path, *, threads: int) -> None:
        model = weights.read(folder)
        _check(model)
        self.fingerprint = model.fingerprint
        self.dimensions = int(model.config["hidden_size"])
        self.max_tokens = model.max_tokens
        self.workers = threads
        self.batch_tokens = _BATCH_TOKENS
        self.tokenize = weights.tokenizer(model)
        self._pool = _mean if model.pooling == "mean" else _first
        encoder = _graph(model)
        # ONNX Runtime does not copy the weights, so they must live as long as the sessions.
        self._weights = {
            name: onnxruntime.OrtValue.ortvalue_from_numpy(array) for name, array in encoder.weights.items()
        }
        self._narrow = _opened(encoder, self._weights, threads=1)
        self._wide = _opened(encoder, self._weights, threads=_WIDE) if threads >= _WIDE else self._narrow
        self._running = 0
        self._counting = threading.Lock()

    def encode(self, batch: Sequence[Sequence[int]]) -> Matrix:
        lengths = np.array([len(tokens) for tokens in batch], np.int32)
        ids = np.zeros((len(batch), int(lengths.max())), np.int64)
        for row, tokens in zip(ids, batch, strict=True):
            row[: len(tokens)] = tokens
        with self._session() as session:
            (hidden,) = session.run(["hidden"], {"ids": ids, "lengths": lengths})
        pooled = np.stack([self._pool(rows[:length]) for rows, length in zip(hidden, lengths, strict=True)])
        unit: Matrix = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
        return unit

    @contextmanager
    def _session(self) -> Iterator[onnxruntime.InferenceSession]:
        """A batch that is encoded alone gets two cores. Batches side by side get one each, so that no thread
        waits for another one."""
        with self._counting:
            self._running += 1
            alone = self._running == 1
        try:
            yield self._wide if alone else self._narrow
        finally:
            with self._counting:
                self._running -= 1

    def close(self) -> None:
        """Nothing to do: the sessions are freed with their last reference."""


def _mean(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    mean: NDArray[np.float32] = rows.mean(axis=0)
    return mean


def _first(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    first: NDArray[np.float32] = rows[0]
    return first


def _check(model: weights.Model) -> None:
    config = model.config
    wanted = {"model_type": "bert", "hidden_act": "gelu", "position_embedding_type": "absolute"}
    for key, value in wanted.items():
        if config.get(key, value) != value:
            raise ValueError(
                f"{model.folder}: {key} is {config[key]!r}, the lean back end reads {value!r} only; "
                "set embedding.kind to sentence-transformers"
            )
    if more := set(model.modules) - {"Transformer", "Pooling", "Normalize"}:
        raise ValueError(
            f"{model.folder}: the lean back end has no module {', '.join(sorted(more))}; "
            "set embedding.kind to sentence-transformers"
        )
    if model.pooling not in ("mean", "cls"):
        raise ValueError(f"{model.folder}: pooling {model.pooling!r}; the lean back end knows mean and cls")


def _opened(
    encoder: graph.Graph, weights: Mapping[str, onnxruntime.OrtValue], threads: int
) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_external_initializers(list(weights), list(weights.values()))
    return onnxruntime.InferenceSession(encoder.model(), options, ["CPUExecutionProvider"])


def _graph(model: weights.Model) -> graph.Graph:
    path = model.folder / "model.safetensors"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: the lean back end reads weights as one safetensors file")
    config = model.config
    try:
        return graph.bert(
            {name: array.astype(np.float32, copy=False) for name, array in load_file(path).items()},
            layers=config["num_hidden_layers"],
            heads=config["num_attention_heads"],
            epsilon=float(config["layer_norm_eps"]),
        )
    except KeyError as error:
        raise ValueError(f"{path} or its config.json has no {error}: not the shape of a BERT model") from None
