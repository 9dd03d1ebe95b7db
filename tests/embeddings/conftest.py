from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"abcdefghijklmnopqrstuvwxyz"]
LAYERS, HEADS, DIMENSIONS, INNER, POSITIONS = 2, 3, 12, 20, 16


@pytest.fixture
def tiny_model(tmp_path: Path) -> Callable[..., Path]:
    """Writes a BERT of random weights in sentence-transformers layout; its words are single letters."""

    def write(pooling: str = "mean", **config: Any) -> Path:
        folder = tmp_path / "model"
        (folder / "1_Pooling").mkdir(parents=True, exist_ok=True)
        save_file(random_weights(), folder / "model.safetensors")
        _tokenizer().save(str(folder / "tokenizer.json"))
        _write(folder / "config.json", {**_CONFIG, **config})
        _write(folder / "sentence_bert_config.json", {"max_seq_length": 10})
        _write(folder / "modules.json", [_module(*each) for each in enumerate(_MODULES.items())])
        _write(folder / "1_Pooling" / "config.json", _pooling(pooling))
        return folder

    return write


_MODULES = {"Transformer": "", "Pooling": "1_Pooling", "Normalize": "2_Normalize"}
_CONFIG = {
    "model_type": "bert",
    "hidden_act": "gelu",
    "hidden_size": DIMENSIONS,
    "intermediate_size": INNER,
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": POSITIONS,
    "num_attention_heads": HEADS,
    "num_hidden_layers": LAYERS,
}


def random_weights() -> dict[str, np.ndarray]:
    random = np.random.default_rng(5)
    sizes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (len(WORDS), DIMENSIONS),
        "embeddings.position_embeddings.weight": (POSITIONS, DIMENSIONS),
        "embeddings.token_type_embeddings.weight": (2, DIMENSIONS),
        "embeddings.LayerNorm": (DIMENSIONS,),
    }
    for layer in range(LAYERS):
        at = f"encoder.layer.{layer}."
        for part in ("query", "key", "value"):
            sizes[f"{at}attention.self.{part}"] = (DIMENSIONS, DIMENSIONS)
        sizes[f"{at}attention.output.dense"] = (DIMENSIONS, DIMENSIONS)
        sizes[f"{at}attention.output.LayerNorm"] = (DIMENSIONS,)
        sizes[f"{at}intermediate.dense"] = (INNER, DIMENSIONS)
        sizes[f"{at}output.dense"] = (DIMENSIONS, INNER)
        sizes[f"{at}output.LayerNorm"] = (DIMENSIONS,)
    weights = {}
    for name, shape in sizes.items():
        if name.endswith(".weight"):
            weights[name] = random.normal(size=shape).astype(np.float32)
        else:
            weights[f"{name}.weight"] = random.normal(size=shape).astype(np.float32)
            weights[f"{name}.bias"] = random.normal(size=shape[:1]).astype(np.float32)
    return weights


def _module(index: int, item: tuple[str, str]) -> dict[str, Any]:
    kind, path = item
    return {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.models.{kind}"}


def _pooling(mode: str) -> dict[str, Any]:
    keys = {
        "cls": "pooling_mode_cls_token",
        "mean": "pooling_mode_mean_tokens",
        "max": "pooling_mode_max_tokens",
    }
    return {"word_embedding_dimension": DIMENSIONS, **{key: name == mode for name, key in keys.items()}}


def _tokenizer() -> Tokenizer:
    tokens = Tokenizer(WordPiece({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokens.pre_tokenizer = Whitespace()
    tokens.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[("[CLS]", WORDS.index("[CLS]")), ("[SEP]", WORDS.index("[SEP]"))],
    )
    # Packaged tokenizers carry such settings; the back ends must not obey them.
    tokens.enable_truncation(5)
    tokens.enable_padding(length=5)
    return tokens


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value))
