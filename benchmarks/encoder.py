"""What the encoders cost and how well they agree: `python -m benchmarks.encoder` (or `make bench-encoder`).

For every back end and device of this machine:

    one thread      latency of one batch of equal texts, p50 and p99 in milliseconds, and texts per second
    all workers     texts per second through the `Embedder`, with 1 and 32 callers who wait for their vectors
    agreement       cosine with sentence-transformers in float32 on real questions, mean and worst

The questions are those of `categories_dev` in NEARHIT_DATA or ../shared/data; without the data, or without
sentence-transformers, agreement is left out with a line that says so.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import platform
import random
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import numpy as np

from embeddings import sentence
from embeddings.base import Encoder, Matrix
from embeddings.batcher import Batcher
from embeddings.opening import open_encoder

QUESTION = "How do I turn a list of whole numbers into one string?"
SIZES = (1, 2, 4, 8, 16, 32, 64)
SIZES_ON_GPU = (*SIZES, 128, 256)
CALLERS = (1, 32)
AGREEMENT_BATCH = 8


@dataclass
class Point:
    tokens: int
    batch: int
    p50_ms: float
    p99_ms: float
    texts_per_s: float


@dataclass
class BackEnd:
    name: str
    device: str
    load_s: float
    points: list[Point] = field(default_factory=list)
    through_embedder: dict[int, float] = field(default_factory=dict)
    """Callers to texts per second."""
    agreement: dict[str, float] | None = None


@click.command()
@click.option("--seconds", default=1.0, show_default=True, help="Time for each point.")
@click.option("--questions", default=2000, show_default=True, help="Questions for the agreement.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write the JSON here as well.")
def main(seconds: float, questions: int, as_json: bool, out: Path | None) -> None:
    """Measure each encoder that this machine can run."""
    texts = read_questions(questions)
    report: dict[str, Any] = {"machine": machine(), "questions": len(texts), "back_ends": []}
    reference: Matrix | None = None
    for name, device in choices():
        started = time.perf_counter()
        encoder = open_encoder(name, device=device)
        result = BackEnd(name, device, time.perf_counter() - started)
        vectors = encode_all(encoder, texts)
        # The first choice is float32 by sentence-transformers where that is installed.
        if name == "sentence-transformers" and reference is None:
            reference = vectors
        result.agreement = agreement(vectors, reference)
        result.points = list(measure(encoder, SIZES if device == "cpu" else SIZES_ON_GPU, seconds))
        result.through_embedder = asyncio.run(through_embedder(encoder, seconds))
        report["back_ends"].append(asdict(result))
    text = json.dumps(report, indent=1)
    if out:
        out.write_text(text + "\n")
    click.echo(text if as_json else table(report))


def choices() -> list[tuple[str, str]]:
    reference = [("sentence-transformers", "cpu")] if sentence.available() else []
    gpu = [("sentence-transformers", "cuda")] if reference and sentence.has_gpu() else []
    return [*reference, *gpu, ("onnx", "cpu")]


def read_questions(count: int) -> list[str]:
    path = Path(os.environ.get("NEARHIT_DATA", "../shared/data")) / "categories_dev.jsonl.gz"
    if not path.is_file():
        click.echo(f"{path} is missing: agreement is not measured", err=True)
        return []
    with gzip.open(path, "rt") as lines:
        texts = sorted({json.loads(line)["query"] for line in lines})
    return random.Random(7).sample(texts, min(count, len(texts)))


def encode_all(encoder: Encoder, texts: Sequence[str]) -> Matrix:
    """In mixed batches, so that a dependence on the batch would show."""
    tokens = [encoder.tokenize(text)[: encoder.max_tokens] for text in texts]
    starts = range(0, len(tokens), AGREEMENT_BATCH)
    rows = [encoder.encode(tokens[start : start + AGREEMENT_BATCH]) for start in starts]
    return np.concatenate(rows) if rows else np.empty((0, encoder.dimensions), np.float32)


def agreement(vectors: Matrix, reference: Matrix | None) -> dict[str, float] | None:
    if reference is None or not len(vectors):
        return None
    cosines = np.einsum("ij,ij->i", vectors.astype(np.float64), reference.astype(np.float64))
    return {"mean": float(cosines.mean()), "worst": float(cosines.min())}


def measure(encoder: Encoder, sizes: Sequence[int], seconds: float) -> Iterator[Point]:
    short = encoder.tokenize(QUESTION)
    long = (list(short[1:-1]) * encoder.max_tokens)[: encoder.max_tokens]
    for tokens in (short, long):
        for size in sizes:
            times = np.array(timings(encoder, [tokens] * size, seconds))
            p50, p99 = np.percentile(times, [50, 99])
            yield Point(len(tokens), size, p50 * 1e3, p99 * 1e3, float(size * len(times) / times.sum()))


def timings(
    encoder: Encoder, batch: Sequence[Sequence[int]], seconds: float, at_least: int = 3
) -> list[float]:
    encoder.encode(batch)
    times: list[float] = []
    while len(times) < at_least or sum(times) < seconds:
        started = time.perf_counter()
        encoder.encode(batch)
        times.append(time.perf_counter() - started)
    return times


async def through_embedder(encoder: Encoder, seconds: float) -> dict[int, float]:
    """Closes the encoder."""
    embedder = Batcher(encoder)
    rates = {callers: await rate(embedder, callers, seconds) for callers in CALLERS}
    await embedder.close()
    return rates


async def rate(embedder: Batcher, callers: int, seconds: float) -> float:
    started = time.perf_counter()

    async def ask() -> int:
        done = 0
        while time.perf_counter() < started + seconds:
            await embedder.embed(QUESTION)
            done += 1
        return done

    done = await asyncio.gather(*(ask() for _ in range(callers)))
    return sum(done) / (time.perf_counter() - started)


def machine() -> dict[str, Any]:
    import onnxruntime

    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "gpu": gpu_name(),
        "python": platform.python_version(),
        "onnxruntime": onnxruntime.__version__,
    }


def cpu_name() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    fields = dict(line.partition("\t: ")[::2] for line in map(squeeze, lines))
    wide = [
        flag for flag in fields.get("flags", "").split() if flag.startswith(("avx512_vnni", "amx_", "avx2"))
    ]
    return " ".join([fields.get("model name", platform.processor() or "unknown"), *wide])


def squeeze(line: str) -> str:
    name, _, value = line.partition(":")
    return f"{name.strip()}\t: {value.strip()}"


def gpu_name() -> str | None:
    if not (sentence.available() and sentence.has_gpu()):
        return None
    import torch

    return str(torch.cuda.get_device_name())


def table(report: dict[str, Any]) -> str:
    lines = [", ".join(f"{key} {value}" for key, value in report["machine"].items())]
    for result in report["back_ends"]:
        lines += ["", f"{result['name']} on {result['device']}, loaded in {result['load_s']:.1f} s"]
        lines += [f"{'tokens':>8}{'batch':>8}{'p50 ms':>10}{'p99 ms':>10}{'texts/s':>10}"]
        lines += [
            f"{point['tokens']:8}{point['batch']:8}{point['p50_ms']:10.2f}"
            f"{point['p99_ms']:10.2f}{point['texts_per_s']:10.0f}"
            for point in result["points"]
        ]
        lines += [f"{n} callers: {rate:.0f} texts/s" for n, rate in result["through_embedder"].items()]
        agreed = result["agreement"]
        figures = f"mean {agreed['mean']:.7f}, worst {agreed['worst']:.7f}" if agreed else "not measured"
        lines += [
            f"cosine with sentence-transformers in float32: {figures} ({report['questions']} questions)"
        ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
