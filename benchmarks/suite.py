"""Each way a call can go, beside its floor: `python -m benchmarks` (or `make bench`).

Load generator, upstream, proxy and every floor are processes of their own. Floor and proxy take turns in
short rounds, and a ratio is the median of the rounds' ratios: on a machine that others use as well absolute
figures drift, ratios hardly do.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import count, islice
from pathlib import Path
from statistics import median
from typing import Any

import click
import numpy as np

from benchmarks import traffic
from benchmarks.encoder import machine
from benchmarks.load import drive
from benchmarks.processes import READERS, Part, completion, started

RESULTS = Path(__file__).parent / "results" / "latest.json"
CALLERS = (1, 32)
REMEMBERED = 400
"""Questions that are stored before the hits are measured."""
QUESTIONS_EACH = 100
CALLER = "sk-benchmark"
EXACT = "200 HIT exact"

EXACT_SHARE = 0.40
THROUGHPUT_SHARE = 0.80
OVERHEAD_MS = 1.5
TELLING_SHARE = 0.03

PROXY = "nearhit"
DEAF = {
    "unmeasured": ("metrics", "history"),
    "untold": tuple(READERS),
}
"""The proxy again, with readers of what happened who hear nothing."""


@dataclass
class Sample:
    """One round of one process."""

    rate: float
    """Per second."""
    p50_ms: float
    p99_ms: float
    calls: int
    wrong: dict[str, int] = field(default_factory=dict)
    """Calls that did not go the way that was to be measured, by what became of them."""
    cpu_us: float = 0.0
    """Of the process, per call."""


@dataclass
class Case:
    name: str
    callers: int
    floors: tuple[str, ...]
    rounds: list[dict[str, Sample]] = field(default_factory=list)
    """By process: the floors and the proxy."""

    def median(self, of: Callable[[dict[str, Sample]], float]) -> float:
        return median(map(of, self.rounds))

    def share(self, floor: str) -> float:
        """Of the floor's rate."""
        return self.median(lambda samples: samples[PROXY].rate / samples[floor].rate)

    def added(self, floor: str) -> float:
        """CPU time that a call takes above the floor, as a share of the floor's."""
        return self.median(lambda samples: samples[PROXY].cpu_us / samples[floor].cpu_us - 1)

    @property
    def overhead_ms(self) -> float:
        """What the median call takes above its floors together."""
        return self.median(
            lambda samples: samples[PROXY].p50_ms - sum(samples[floor].p50_ms for floor in self.floors)
        )

    @property
    def wrong(self) -> Counter[str]:
        return sum((Counter(samples[PROXY].wrong) for samples in self.rounds), Counter())

    @property
    def calls(self) -> int:
        return sum(samples[PROXY].calls for samples in self.rounds)


@dataclass(frozen=True)
class Bar:
    name: str
    figure: float
    limit: float
    unit: str
    at_least: bool

    @property
    def met(self) -> bool:
        return self.figure >= self.limit if self.at_least else self.figure <= self.limit


@click.command()
@click.option("--seconds", default=1.0, show_default=True, help="Time for each process in each round.")
@click.option("--rounds", default=5, show_default=True, help="Turns that proxy and floors take.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@click.option("--out", default=RESULTS, type=click.Path(dir_okay=False, path_type=Path), help="Its file.")
def main(seconds: float, rounds: int, as_json: bool, out: Path) -> None:
    """Measure what nearhit costs, beside what it cannot fall below on this machine."""
    cases = measure(seconds, rounds)
    text = json.dumps(report(cases), indent=1)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text + "\n")
    click.echo(text if as_json else table(cases))


# Measuring


def measure(seconds: float, rounds: int) -> list[Case]:
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:

        def start(*arguments: str) -> Part:
            return stack.enter_context(started(Path(folder), *arguments))

        url = f"http://127.0.0.1:{start('upstream').port}"
        proxy = start(PROXY, url, folder)
        deaf = {name: start(PROXY, url, f"{folder}/{name}", *readers) for name, readers in DEAF.items()}
        bench = Bench(proxy, seconds)
        bench.floors = {
            "constant": bench.http(start("constant", str(len(completion()))), bench.known),
            "constant, uvloop": bench.http(start("constant", str(len(completion())), "uvloop"), bench.known),
            "bare": bench.http(start("bare", url), bench.fresh),
            "bare, streams": bench.http(start("bare", url), bench.streams),
            "encoder": bench.encoder(start("encoder")),
            **{name: bench.http(part, bench.known, EXACT) for name, part in deaf.items()},
        }
        bench.remember(proxy, *deaf.values())
        return [case for callers in CALLERS for case in bench.cases(callers, rounds)]


Measurement = Callable[[int], Sample]
"""Takes the number of callers."""


class Bench:
    def __init__(self, proxy: Part, seconds: float) -> None:
        self._proxy = proxy
        self._seconds = seconds
        self._topics = list(islice(traffic.topics(seed=1), REMEMBERED))
        self._new = traffic.topics(seed=2)
        self._again = (f"{way} {topic}?" for way in traffic.ASKED_AGAIN for topic in self._topics)
        self._asked = count()
        self.floors: dict[str, Measurement] = {}

    # The traffic

    def known(self) -> Iterator[bytes]:
        requests = [traffic.chat(f"{traffic.ASKED} {topic}?", CALLER) for topic in self._topics]
        while True:
            yield from requests

    def alike(self) -> Iterator[bytes]:
        return (traffic.chat(question, CALLER) for question in self._again)

    def fresh(self) -> Iterator[bytes]:
        return (traffic.chat(question, self._somebody()) for question in self._unheard())

    def streams(self) -> Iterator[bytes]:
        return (traffic.chat(question, self._somebody(), stream=True) for question in self._unheard())

    def passed(self) -> Iterator[bytes]:
        return (
            traffic.chat(question, CALLER, stream=True, path="/v1/unknown") for question in self._unheard()
        )

    def _unheard(self) -> Iterator[str]:
        return (f"{traffic.ASKED} {topic}?" for topic in self._new)

    def _somebody(self) -> str:
        """One of many callers, each with some questions: among thousands of one caller's, all by chance, some
        would be alike."""
        return f"sk-{next(self._asked) // QUESTIONS_EACH}"

    # The processes

    def http(self, part: Part, requests: Callable[[], Iterator[bytes]], expected: str = "200") -> Measurement:
        def take(callers: int) -> Sample:
            before = part.ask("CPU time")
            load = drive(part.port, requests(), callers, self._seconds)
            cpu_s = part.ask("CPU time") - before
            wrong = Counter(outcome for outcome in load.outcomes if outcome != expected)
            return sample(load.latencies, load.seconds, wrong, cpu_s)

        return take

    def encoder(self, part: Part) -> Measurement:
        def take(callers: int) -> Sample:
            # More than any CPU encodes in that time with so many callers.
            texts = list(islice(self._unheard(), int(self._seconds * 3000) + callers))
            job = {"texts": texts, "callers": callers}
            answer = part.ask({**job, "seconds": self._seconds})
            return sample(answer["latencies"], answer["seconds"], {})

        return take

    def remember(self, *proxies: Part) -> None:
        """Asks every question that is to be hit once, and lets go of those that were too much alike."""
        for proxy in proxies:
            requests = [traffic.chat(f"{traffic.ASKED} {topic}?", CALLER) for topic in self._topics]
            outcomes = drive(proxy.port, iter(requests), 1, float("inf")).outcomes
            stored = zip(self._topics, outcomes, strict=True)
            self._topics = [topic for topic, outcome in stored if outcome == "200 MISS"]

    # The cases

    def cases(self, callers: int, rounds: int) -> Iterator[Case]:
        yield self._case("exact hit", callers, rounds, self.known, EXACT, "constant", "constant, uvloop")
        if callers > 1:
            yield self._case("exact hit, told", callers, rounds, self.known, EXACT, *DEAF)
        yield self._case("semantic hit", callers, rounds, self.alike, "200 HIT semantic", "encoder")
        yield self._case("miss", callers, rounds, self.fresh, "200 MISS", "bare", "encoder")
        yield self._case(
            "streamed miss", callers, rounds, self.streams, "200 MISS", "bare, streams", "encoder"
        )
        yield self._case("passed stream", callers, rounds, self.passed, "200", "bare, streams")

    def _case(
        self, name: str, callers: int, rounds: int, requests: Callable[[], Iterator[bytes]], expected: str,
        *floors: str,
    ) -> Case:  # fmt: skip
        case = Case(name, callers, floors)
        turns = {
            **{floor: self.floors[floor] for floor in floors},
            PROXY: self.http(self._proxy, requests, expected),
        }
        for number in range(rounds):
            # Forwards and backwards, so that neither has always just been preceded by the other.
            order = list(turns) if number % 2 else list(reversed(turns))
            case.rounds.append({turn: turns[turn](callers) for turn in order})
        return case


def sample(
    latencies: Sequence[float], seconds: float, wrong: Mapping[str, int], cpu_s: float = 0.0
) -> Sample:
    if not latencies:
        raise RuntimeError("no call was answered: there was nothing left to ask")
    p50, p99 = np.percentile(latencies, [50, 99]) * 1000
    cpu_us = cpu_s / len(latencies) * 1e6
    return Sample(len(latencies) / seconds, float(p50), float(p99), len(latencies), dict(wrong), cpu_us)


# Telling


def bars(cases: Sequence[Case]) -> Iterator[Bar]:
    for case in cases:
        name = f"{case.name}, {case.callers} callers" if case.callers > 1 else f"{case.name}, 1 caller"
        if case.name == "exact hit":
            yield Bar(f"{name}: of the constant answer's rate", case.share("constant"), EXACT_SHARE, "", True)
        elif case.name == "exact hit, told":
            for floor, readers in (("unmeasured", "metrics and history"), ("untold", "all readers")):
                yield Bar(f"{name}: CPU time added by {readers}", case.added(floor), TELLING_SHARE, "", False)
        elif case.name in ("miss", "semantic hit") and case.callers == 1:
            above = " + ".join(case.floors)
            yield Bar(f"{name}: median above {above}", case.overhead_ms, OVERHEAD_MS, " ms", False)
        elif case.name in ("miss", "semantic hit"):
            yield Bar(f"{name}: of the encoder's rate", case.share("encoder"), THROUGHPUT_SHARE, "", True)


def report(cases: Sequence[Case]) -> dict[str, Any]:
    return {
        "machine": machine(),
        "cases": [
            {
                "case": case.name,
                "callers": case.callers,
                "calls": case.calls,
                "wrong": dict(case.wrong),
                "processes": {name: _row(case, name) for name in (PROXY, *case.floors)},
                "shares": {floor: round(case.share(floor), 3) for floor in case.floors},
                "overhead_ms": round(case.overhead_ms, 3),
            }
            for case in cases
        ],
        "bars": [
            {"bar": bar.name, "figure": round(bar.figure, 3), "limit": bar.limit, "met": bar.met}
            for bar in bars(cases)
        ],
    }


def _row(case: Case, process: str) -> dict[str, float]:
    return {
        "rate": round(case.median(lambda samples: samples[process].rate), 1),
        "p50_ms": round(case.median(lambda samples: samples[process].p50_ms), 3),
        "p99_ms": round(case.median(lambda samples: samples[process].p99_ms), 3),
        "cpu_us": round(case.median(lambda samples: samples[process].cpu_us), 1),
    }


def table(cases: Sequence[Case]) -> str:
    lines = [", ".join(f"{key} {value}" for key, value in machine().items()), ""]
    lines += [
        f"{'':16}{'callers':>8}  {'process':16}{'per s':>9}{'p50 ms':>10}{'p99 ms':>10}"
        f"{'CPU µs':>9}{'ratio':>9}"
    ]
    for case in cases:
        lines += ["", *_lines(case)]
    lines += ["", "Ratio: the proxy's rate to the floor's. Median of the rounds everywhere.", ""]
    lines += [
        f"{'met   ' if bar.met else 'MISSED'}  {bar.name}: {bar.figure:.2f}{bar.unit}"
        f" ({'at least' if bar.at_least else 'at most'} {bar.limit:.2f}{bar.unit})"
        for bar in bars(cases)
    ]
    return "\n".join(lines)


def _lines(case: Case) -> Iterator[str]:
    first = f"{case.name:16}{case.callers:8}"
    for process in (PROXY, *case.floors):
        row = _row(case, process)
        ratio = f"{case.share(process):9.2f}" if process != PROXY else ""
        times = f"{row['p50_ms']:10.2f}{row['p99_ms']:10.2f}{row['cpu_us'] or '':>9}"
        yield f"{first:24}  {process:16}{row['rate']:9.0f}{times}{ratio}"
        first = ""
    if case.wrong:
        told = ", ".join(f"{count} {outcome}" for outcome, count in case.wrong.items())
        yield f"{'':26}not as meant: {told} of {case.calls}"


if __name__ == "__main__":
    sys.exit(main())
