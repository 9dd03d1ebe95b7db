"""Log lines on standard error: one per call, and those of the other loggers under `nearhit`.

No line contains a query, an answer or a key, and of a tenant only its digest. A thread writes the lines, so
that a full pipe or a slow terminal holds up no call; if too many are waiting, further ones are dropped and
counted. They are formatted in the calling thread, because a formatting thread would take the GIL from calls
for milliseconds at a time.
"""

from __future__ import annotations

import json
import logging
import os
import re
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from operator import attrgetter
from time import gmtime, strftime
from typing import Any

from aiohttp.http_exceptions import HttpProcessingError

from proxy.settings import Log
from proxy.telemetry.report import Report

ROOT = "nearhit"
calls = logging.getLogger("nearhit.calls")

WAITING = 10_000
"""Most lines waiting to be written."""
AT_ONCE = 1000
"""Most lines in one write."""
WRITE_EVERY_S = 0.1
LAST_WORDS_S = 2.0
"""Time to write the remaining lines at the end."""
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
_PLAIN = re.compile(r"[\w./:@+*-]+", re.ASCII)
MOST_NAME = 80
"""Most characters of a model's name, which callers choose."""


class CallRecord(logging.LogRecord):
    """The record of a call. It skips what its line does not show: thread, process, line of code."""

    name, msg, args = calls.name, "call", None
    levelno, levelname = logging.INFO, logging.getLevelName(logging.INFO)
    exc_info = exc_text = stack_info = None

    def __init__(self, report: Report) -> None:
        self.report = report
        self.created = report.at + report.total_ms / 1000
        self.msecs = self.created % 1 * 1000


def log_call(report: Report) -> None:
    if calls.isEnabledFor(logging.INFO):
        calls.handle(CallRecord(report))


@contextmanager
def logging_to(descriptor: int, settings: Log) -> Iterator[Background]:
    """Writes the loggers under `nearhit`, and the warnings of all others, to a file descriptor."""
    handler = Background(descriptor, JsonLines() if settings.format == "json" else TextLines())
    ours, others = logging.getLogger(ROOT), logging.getLogger()
    level, propagate = ours.level, ours.propagate
    ours.setLevel(settings.level.upper())
    ours.propagate = False
    for logger in (ours, others):
        logger.addHandler(handler)
    try:
        yield handler
    finally:
        for logger in (ours, others):
            logger.removeHandler(handler)
        ours.setLevel(level)
        ours.propagate = propagate
        handler.close()


def dropped_lines() -> int:
    """Lines dropped by the handlers in use now."""
    handlers = logging.getLogger(ROOT).handlers
    return sum(each.dropped for each in handlers if isinstance(each, Background))


def _without_bytes(record: logging.LogRecord) -> bool:
    """Removes the bytes that aiohttp could not parse from its message, as they may contain a key."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, HttpProcessingError):
        record.exc_info = record.exc_text = None
        record.msg, record.args = "a request that is not HTTP: %s", (type(error).__name__,)
    return True


class Background(logging.Handler):
    def __init__(self, descriptor: int, formatter: logging.Formatter) -> None:
        super().__init__()
        self.setFormatter(formatter)
        self.addFilter(_without_bytes)
        self.dropped = 0
        self._descriptor = descriptor
        self._waiting: deque[str] = deque()
        self._ended = threading.Event()
        self._writer = threading.Thread(target=self._write_for_ever, name="log-writer", daemon=True)
        self._writer.start()

    def emit(self, record: logging.LogRecord) -> None:
        if len(self._waiting) < WAITING:
            self._waiting.append(self._line(record))
        else:
            self.dropped += 1

    def close(self) -> None:
        self._ended.set()
        self._writer.join(LAST_WORDS_S)
        super().close()

    def _write_for_ever(self) -> None:
        while not self._ended.wait(WRITE_EVERY_S):
            self._write()
        self._write()

    def _write(self) -> None:
        while self._waiting:
            lines = [self._waiting.popleft() for _ in range(min(AT_ONCE, len(self._waiting)))]
            self._put("".join(lines).encode("utf-8", "backslashreplace"))

    def _line(self, record: logging.LogRecord) -> str:
        try:
            return self.format(record) + "\n"
        except Exception as error:  # noqa: BLE001  logging must never fail the work that it is about
            return f"a log line could not be formatted: {type(error).__name__}\n"

    def _put(self, text: bytes) -> None:
        # Not through sys.stderr: a thread blocked there would hold a lock that Python needs at exit.
        try:
            while text:
                text = text[os.write(self._descriptor, text) :]
        except OSError:
            self.dropped += text.count(b"\n")


def refusal(reason: str) -> str:
    """The kind of a refusal, without what follows the colon: those are words of the query."""
    return reason.partition(":")[0]


def _name(name: str) -> str:
    return name if len(name) <= MOST_NAME else name[:MOST_NAME] + "…"


_WORDS = (
    "status", "outcome", "tier", "category", "path", "dialect", "model", "tenant", "stream", "by", "stored",
    "collapsed", "error", "upstream", "upstream_status", "degraded",
)  # fmt: skip
"""Fields whose values many calls share, so that their text is cached."""
_FIGURES = {
    "total_ms": 2, "confidence": 3, "similarity": 4, "threshold": 4, "pressure": 3, "embed_ms": 2,
    "load_ms": 2, "upstream_ms": 2, "saved_ms": 1, "tokens_in": 0, "tokens_out": 0,
}  # fmt: skip
"""Numbers, with their digits after the decimal point."""
_OTHERWISE = {"by": "classified_by"}
"""Fields with a name other than their attribute of the report."""
_words_of = attrgetter(*(_OTHERWISE.get(name, name) for name in _WORDS))
_figures_of = attrgetter(*_FIGURES)
_AS_TEXT = [f"{name}=%.{digits}f" for name, digits in _FIGURES.items()]
"""Formatting is three times as fast as rounding first."""


def call_fields(report: Report) -> dict[str, Any]:
    """The fields of a call's line, without those that are empty, zero or false."""
    figures = zip(_FIGURES.items(), _figures_of(report), strict=True)
    rounded = {name: round(value, digits or None) for (name, digits), value in figures if value}
    return {**_words(_words_of(report)), **_own(report), **rounded}


@lru_cache(1024)
def _words(values: tuple[Any, ...]) -> dict[str, Any]:
    said = (
        (name, _name(value) if name == "model" else value) for name, value in zip(_WORDS, values, strict=True)
    )
    return {name: value for name, value in said if value}


@lru_cache(1024)
def _words_as_text(values: tuple[Any, ...]) -> str:
    return " ".join(f"{name}={_quoted(value)}" for name, value in _words(values).items())


def _own(report: Report) -> dict[str, str]:
    """The text fields whose values differ from call to call."""
    own = {"reason": refusal(report.reason), "entry": report.entry_id}
    return {name: value for name, value in own.items() if value}


def _time(record: logging.LogRecord) -> str:
    return f"{_second(int(record.created))}.{int(record.msecs):03}Z"


@lru_cache(1)
def _second(at: int) -> str:
    return strftime("%Y-%m-%dT%H:%M:%S", gmtime(at))


class TextLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        head = f"{_time(record)} {record.levelname.lower():7} "
        report: Report | None = getattr(record, "report", None)
        if report is None:
            return head + f"{record.name}: " + _with_traceback(self, record, record.getMessage())
        own = [f"{name}={_quoted_text(value)}" for name, value in _own(report).items()]
        figures = [form % value for form, value in zip(_AS_TEXT, _figures_of(report), strict=True) if value]
        return head + " ".join([_words_as_text(_words_of(report)), *own, *figures])


class JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        report: Report | None = getattr(record, "report", None)
        if report is None:
            line["message"] = _with_traceback(self, record, record.getMessage())
        else:
            line |= call_fields(report)
        return _ENCODER.encode(line)


def _with_traceback(formatter: logging.Formatter, record: logging.LogRecord, message: str) -> str:
    return f"{message}\n{formatter.formatException(record.exc_info)}" if record.exc_info else message


def _quoted(value: Any) -> str:
    """The value, as JSON if a space or a control character would break the line."""
    if isinstance(value, str):
        return _quoted_text(value)
    return "true" if value is True else str(value)


@lru_cache(1024)
def _quoted_text(value: str) -> str:
    return value if _PLAIN.fullmatch(value) else json.dumps(value)
