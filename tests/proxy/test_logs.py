from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Literal

import pytest

from proxy.settings import Log
from proxy.telemetry import logs
from proxy.telemetry.logs import Background, call_fields, log_call, logging_to
from proxy.telemetry.report import Report

ROOT = Path(__file__).parents[2]


def a_report() -> Report:
    return Report(
        at=0.0, path="/v1/chat/completions", dialect="openai-chat", model='a "strange"\nmodel', tenant="0123",
        query="secret question", matched="secret answer", outcome="MISS", reason="numbers: secret / 6",
        category="code", similarity=0.91234567, threshold=0.9, status=200, total_ms=12.3456, stored=True,
    )  # fmt: skip


@contextmanager
def lines_of(
    file: Path, format: Literal["text", "json"], level: Literal["info", "warning"] = "info"
) -> Iterator[Log]:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT)
    with logging_to(descriptor, settings := Log(format=format, level=level)):
        yield settings
    os.close(descriptor)


def test_a_json_line_per_call(tmp_path: Path) -> None:
    with lines_of(tmp_path / "log", "json"):
        log_call(a_report())
    (line,) = (tmp_path / "log").read_text().splitlines()
    read = json.loads(line)
    assert (read["level"], read["outcome"], read["category"], read["reason"]) == (
        "info",
        "MISS",
        "code",
        "numbers",
    )
    assert (read["total_ms"], read["similarity"], read["stored"]) == (12.35, 0.9123, True)
    assert "tier" not in read


def test_a_text_line_stays_one_line_whatever_the_caller_sent(tmp_path: Path) -> None:
    with lines_of(tmp_path / "log", "text"):
        log_call(a_report())
    (line,) = (tmp_path / "log").read_text().splitlines()
    assert 'model="a \\"strange\\"\\nmodel"' in line
    assert "status=200 outcome=MISS category=code " in line
    assert " reason=numbers total_ms=12.35 similarity=0.9123 threshold=0.9000" in line


@pytest.mark.parametrize("format", ["text", "json"])
def test_no_line_holds_what_was_asked(tmp_path: Path, format: Literal["text", "json"]) -> None:
    with lines_of(tmp_path / "log", format):
        log_call(a_report())
    assert "secret" not in (tmp_path / "log").read_text()


def test_the_level_leaves_calls_out(tmp_path: Path) -> None:
    with lines_of(tmp_path / "log", "text", "warning"):
        log_call(a_report())
        logging.getLogger("nearhit.app").warning("this %s", "stays")
    assert (tmp_path / "log").read_text().endswith("nearhit.app: this stays\n")
    assert (tmp_path / "log").read_text().count("\n") == 1


def test_errors_keep_their_traceback(tmp_path: Path) -> None:
    with lines_of(tmp_path / "log", "json"):
        try:
            raise ValueError("why")
        except ValueError:
            logging.getLogger("nearhit.app").exception("it failed")
    (line,) = (tmp_path / "log").read_text().splitlines()
    assert "ValueError: why" in json.loads(line)["message"]


def test_nobody_waits_for_a_pipe_that_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "WAITING", 50)
    monkeypatch.setattr(logs, "LAST_WORDS_S", 0.2)
    reader, writer = os.pipe()
    with logging_to(writer, Log()) as handler:
        for _ in range(3000):
            log_call(a_report())
            if handler.dropped:
                break
            time.sleep(0.001)
        log_call(a_report())
    assert handler.dropped
    os.close(reader)  # lets the writer end with an error
    _ended("log-writer")
    os.close(writer)


def _ended(name: str) -> None:
    for thread in threading.enumerate():
        if thread.name == name:
            thread.join(5)
            assert not thread.is_alive()


def test_a_line_that_cannot_be_made_does_not_end_the_writer(tmp_path: Path) -> None:
    with lines_of(tmp_path / "log", "text"):
        logging.getLogger("nearhit.app").info("%d", "no number")
        logging.getLogger("nearhit.app").info("after")
    first, second = (tmp_path / "log").read_text().splitlines()
    assert "TypeError" in first
    assert second.endswith("after")


def test_logging_ends_as_it_began(tmp_path: Path) -> None:
    ours = logging.getLogger("nearhit")
    before = (ours.level, ours.propagate, list(ours.handlers), list(logging.getLogger().handlers))
    with lines_of(tmp_path / "log", "text"):
        assert any(isinstance(handler, Background) for handler in ours.handlers)
    assert (ours.level, ours.propagate, list(ours.handlers), list(logging.getLogger().handlers)) == before


def test_every_field_stands_in_the_docs() -> None:
    report = Report(
        **{each.name: 1 if "float" in each.type or each.type == "int" else "x" for each in fields(Report)}
    )
    text = (ROOT / "docs" / "admin.md").read_text()
    assert [name for name in call_fields(report) if f"`{name}`" not in text] == []
    assert len(call_fields(report)) == len(logs._WORDS) + len(logs._FIGURES) + 2
