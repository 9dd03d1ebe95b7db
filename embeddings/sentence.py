"""The sentence-transformers back end: float16 on a GPU; on the CPU, the reference for the lean back end."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from embeddings import weights
from embeddings.base import Matrix

_BATCH_TOKENS = {"cuda": 16384, "cpu": 1024}


def available() -> bool:
    return find_spec("torch") is not None and find_spec("sentence_transformers") is not None


def has_gpu() -> bool:
    """Imports torch, which takes seconds."""
    import torch

    return bool(torch.cuda.is_available())


class SentenceEncoder:
    """`Encoder` for a model folder. `device` is a name that torch knows, such as cuda, cuda:1 or cpu.

    On a GPU there are two workers, so that one prepares a batch while the other's is running. On the CPU
    there is one, as torch has its own threads. Raises FileNotFoundError or ValueError.
    """

    def __init__(self, folder: Path, *, device: str) -> None:
        from sentence_transformers import SentenceTransformer

        model = weights.read(folder)
        kind = device.partition(":")[0]
        self._device = device
        self._model = SentenceTransformer(str(folder), device=device, local_files_only=True).eval()
        if kind == "cuda":
            self._model = self._model.half()
        self.fingerprint = model.fingerprint
        self.tokenize = weights.tokenizer(model)
        self.max_tokens = int(self._model.max_seq_length or model.max_tokens)
        self.workers = 2 if kind == "cuda" else 1
        self.batch_tokens = _BATCH_TOKENS.get(kind, _BATCH_TOKENS["cpu"])
        self.dimensions = self.encode([self.tokenize("dimensions")]).shape[1]

    def encode(self, batch: Sequence[Sequence[int]]) -> Matrix:
        import torch

        lengths = np.array([len(tokens) for tokens in batch])
        ids = np.zeros((len(batch), int(lengths.max())), np.int64)
        for row, tokens in zip(ids, batch, strict=True):
            row[: len(tokens)] = tokens
        mask = (np.arange(ids.shape[1]) < lengths[:, None]).astype(np.int64)
        features = {"input_ids": ids, "attention_mask": mask}
        with torch.inference_mode():
            on_device = {name: torch.from_numpy(array).to(self._device) for name, array in features.items()}
            pooled = self._model(on_device)["sentence_embedding"].float().cpu().numpy()
        unit: Matrix = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
        return unit

    def close(self) -> None:
        """Nothing to do: the model is freed with its last reference."""
