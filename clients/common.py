"""What every client is put through. Runs in the client's own environment, so it needs nothing but Python.

Each answer of the demo upstream is numbered, so the same text again came from memory.
"""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import Callable
from typing import Any

URL = os.environ["NEARHIT_URL"]
KEY = os.environ["NEARHIT_KEY"]
MODEL = "demo-chat"

Asking = Callable[[str, str], Any]
"""Takes a model and a text, and gives the answer's text, or something to await for it."""

QUESTIONS = (
    ("What is the capital of France?", "Which city is the capital of France?"),
    ("How do I undo the last commit in git?", "How can I undo my last git commit?"),
    ("How do I reverse a list in Python?", "How can I reverse a list in Python?"),
    ("How can I learn to play the guitar?", "How do I learn to play the guitar?"),
)
STORED_S = 0.3
"""An answer is stored once its caller has it."""

_left = list(QUESTIONS)


def check(how: str, ask: Asking, stream: Asking, error: type[BaseException], same_body: bool = True) -> None:
    """One line for each step: how, the step, and `ok` or what was wrong. `error`: what an unknown model
    makes the client raise. `same_body`: but for `stream`, both send the same, so one's answer is the
    other's."""
    asyncio.run(_check(how, ask, stream, error, same_body))


async def _check(how: str, ask: Asking, stream: Asking, error: type[BaseException], same_body: bool) -> None:
    for prefix, call, other in (("", ask, stream), ("stream ", stream, ask)):
        question, paraphrase = _left.pop(0)
        first = await _answer(call, MODEL, question)
        _tell(how, prefix + "miss", "simulated" in first.lower() or question in first, first)
        await asyncio.sleep(STORED_S)
        steps = [("exact", call, question), ("paraphrase", call, paraphrase), ("other form", other, question)]
        for step, again, text in steps if same_body else steps[:2]:
            said = await _answer(again, MODEL, text)
            _tell(how, prefix + step, said == first, said)
    try:
        _tell(how, "error", False, await _answer(ask, "unknown-model", "What is the capital of Italy?"))
    except error:
        _tell(how, "error", True, "")


async def _answer(call: Asking, model: str, text: str) -> str:
    said: str = await (
        call(model, text) if inspect.iscoroutinefunction(call) else asyncio.to_thread(call, model, text)
    )
    return said


def _tell(how: str, step: str, ok: bool, said: str) -> None:
    print(f"{how}\t{step}\t{'ok' if ok else repr(said[:80])}", flush=True)
