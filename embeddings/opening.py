"""Chooses and opens the `Embedder` that the settings ask for."""

from __future__ import annotations

import os
from pathlib import Path

from embeddings import sentence, weights
from embeddings.base import Embedder, Encoder
from embeddings.batcher import Batcher
from embeddings.lean import LeanEncoder
from embeddings.remembered import Remembered

_KINDS = ("local", "onnx", "sentence-transformers")
_MOST_THREADS = 8
_REMEMBERED = 4096


def open_embedder(
    kind: str = "local",
    model: str = "",
    device: str = "auto",
    *,
    queue: int = 256,
    deadline_s: float = 2.0,
    threads: int | None = None,
) -> Embedder:
    """Reads the weights, which takes half a second or more: call it in a thread.

    `kind`: `local` (sentence-transformers when a GPU can be used, otherwise ONNX Runtime), `onnx` or
    `sentence-transformers`. `model`: a folder in sentence-transformers layout; "" is the packaged MiniLM.
    `device`: `auto`, `cpu`, or torch's name for a GPU. `threads`: encoder threads on the CPU; None: one per
    core, at most 8. Raises ValueError or FileNotFoundError with one line that says what to do.
    """
    encoder = open_encoder(kind, model, device, threads=threads)
    return Remembered(Batcher(encoder, queue=queue, deadline_s=deadline_s), _REMEMBERED)


def open_encoder(
    kind: str = "local", model: str = "", device: str = "auto", *, threads: int | None = None
) -> Encoder:
    """Only the back end, chosen as in `open_embedder`."""
    if kind not in _KINDS:
        raise ValueError(f"embedding.kind is {kind!r}: use one of {', '.join(_KINDS)}")
    folder = Path(model).expanduser() if model else weights.packaged()
    wants_gpu = device not in ("auto", "cpu")
    if kind == "sentence-transformers" or (kind == "local" and (wants_gpu or _finds_gpu(device))):
        return sentence.SentenceEncoder(folder, device=_torch_device(device))
    if wants_gpu:
        raise ValueError(
            f"embedding.device is {device!r}: the onnx back end runs on the CPU; use auto or cpu"
        )
    return LeanEncoder(folder, threads=threads or _cores())


def _finds_gpu(device: str) -> bool:
    return device == "auto" and sentence.available() and sentence.has_gpu()


def _torch_device(device: str) -> str:
    if not sentence.available():
        raise ValueError("this back end needs torch and sentence-transformers: pip install 'nearhit[gpu]'")
    if device == "auto":
        return "cuda" if sentence.has_gpu() else "cpu"
    if device.startswith("cuda") and not sentence.has_gpu():
        raise ValueError(f"embedding.device is {device!r}: torch sees no GPU; use auto or cpu")
    return device


def _cores() -> int:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(_MOST_THREADS, usable)
