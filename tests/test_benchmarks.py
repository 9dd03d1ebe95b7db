"""The benchmark measures what it says: a short run of it, with no time asserted."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks import suite, traffic
from benchmarks.load import drive
from benchmarks.suite import Case, Sample, bars


class Answers(BaseHTTPRequestHandler):
    """Tells which question it got, with its length or in chunks."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["messages"][-1]["content"]
        self.send_response(200)
        self.send_header("X-Cache", "HIT")
        self.send_header("X-Cache-Tier", question)
        if self.path == "/chunks":
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for part in (b"b\r\ndata: 0\r\n\n\n\r\n", b"5\r\nhello\r\n", b"0\r\n\r\n"):
                self.wfile.write(part)
                self.wfile.flush()
        else:
            self.send_header("Content-Length", "70000")
            self.end_headers()
            self.wfile.write(b"0" * 70000)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def port() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("path", ["/length", "/chunks"])
def test_the_load_generator_tells_what_became_of_each_request(port: int, path: str) -> None:
    requests = [traffic.chat(word, "caller", path=path) for word in ("exact", "semantic", "exact")]
    load = drive(port, iter(requests), callers=2, seconds=60)
    assert sorted(load.outcomes) == ["200 HIT exact", "200 HIT exact", "200 HIT semantic"]
    assert len(load.latencies) == 3


def test_the_load_generator_stops_when_its_time_is_over(port: int) -> None:
    load = drive(port, (traffic.chat("exact", "caller") for _ in iter(int, 1)), callers=4, seconds=0.0)
    assert len(load.latencies) == 4


def test_questions_are_all_different_and_the_same_in_every_run() -> None:
    first = list(islice(traffic.topics(1), 2000))
    assert len(set(first)) == 2000
    assert first == list(islice(traffic.topics(1), 2000))
    assert not set(first) & set(islice(traffic.topics(2), 2000))


def test_figures_are_medians_of_what_each_round_says() -> None:
    rounds = [
        {"nearhit": Sample(100, 8, 9, 1), "bare": Sample(900, 1, 2, 1), "encoder": Sample(120, 6, 7, 1)},
        {"nearhit": Sample(50, 20, 9, 1), "bare": Sample(400, 2, 2, 1), "encoder": Sample(100, 17, 7, 1)},
        {"nearhit": Sample(90, 9, 9, 1), "bare": Sample(900, 1, 2, 1), "encoder": Sample(100, 4, 7, 1)},
    ]
    one, many = (Case("miss", callers, ("bare", "encoder"), rounds) for callers in (1, 32))
    assert [(bar.figure, bar.met) for bar in bars([one, many])] == [(1, True), (100 / 120, True)]


def test_what_readers_add_is_told_by_cpu_time() -> None:
    rounds = [
        {
            "nearhit": Sample(100.0, 1.0, 2.0, 10, {}, cpu_us=102.0),
            "unmeasured": Sample(100.0, 1.0, 2.0, 10, {}, cpu_us=100.0),
            "untold": Sample(100.0, 1.0, 2.0, 10, {}, cpu_us=80.0),
        }
    ]
    some, everybody = bars([Case("exact hit, told", 32, ("unmeasured", "untold"), rounds)])
    assert (round(some.figure, 3), some.met) == (0.02, True)
    assert (round(everybody.figure, 3), everybody.met) == (0.275, False)


@pytest.mark.timeout(400)
def test_one_short_run_gives_every_case_beside_its_floors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suite, "CALLERS", (2,))
    monkeypatch.setattr(suite, "REMEMBERED", 8)
    out = tmp_path / "results" / "latest.json"
    result = CliRunner().invoke(suite.main, ["--seconds", "0.05", "--rounds", "1", "--out", str(out)])
    assert result.exit_code == 0, result.output
    cases = {case["case"]: case for case in json.loads(out.read_text())["cases"]}
    assert list(cases) == [
        "exact hit", "exact hit, told", "semantic hit", "miss", "streamed miss", "passed stream"
    ]  # fmt: skip
    assert all(case["calls"] >= 2 for case in cases.values())
    assert not cases["exact hit"]["wrong"]
    assert not cases["exact hit, told"]["wrong"]
    assert all(row["cpu_us"] > 0 for row in cases["exact hit, told"]["processes"].values())
    assert not cases["passed stream"]["wrong"]
    assert all(row["rate"] > 0 for case in cases.values() for row in case["processes"].values())
    assert all(f"{name:16}" in result.output for name in cases)
