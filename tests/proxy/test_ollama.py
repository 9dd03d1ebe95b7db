"""Ollama's own API: what separates two calls, and the way of an answer to a stream and back."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from streams import gathered
from world import World

from policies import storable
from proxy.dialects import ollama
from proxy.dialects.base import Usage
from proxy.ndjson import Splitter

CHAT, GENERATE = "/api/chat", "/api/generate"
texts = st.text(max_size=200) | st.lists(st.text(max_size=5), max_size=30).map(" ".join)
words = st.text(min_size=1, max_size=60)
call = st.fixed_dictionaries(
    {
        "function": st.fixed_dictionaries(
            {"name": words, "arguments": st.dictionaries(words, st.integers(), max_size=2)}
        )
    }
)
message = st.fixed_dictionaries(
    {"role": st.just("assistant"), "content": texts},
    optional={"thinking": words, "tool_calls": st.lists(call, min_size=1, max_size=2)},
)
ended = {"done": st.just(True), "done_reason": st.just("stop"), "eval_count": st.integers(0)}
head = {"model": words, "created_at": words}
chats = st.fixed_dictionaries({**head, "message": message, **ended})
generated = st.fixed_dictionaries(
    {**head, "response": texts, **ended},
    optional={"thinking": words, "context": st.lists(st.integers(), max_size=3)},
)
cuts = st.lists(st.integers(0, 5000), max_size=6)


@given(chats, cuts)
def test_a_chat_scattered_and_gathered_is_the_same(answer: dict[str, Any], at: list[int]) -> None:
    assert gathered(ollama.chat, b"".join(ollama.chat.scatter(answer, {})), at) == answer


@given(generated, cuts)
def test_a_text_scattered_and_gathered_is_the_same(answer: dict[str, Any], at: list[int]) -> None:
    assert gathered(ollama.generate, b"".join(ollama.generate.scatter(answer, {})), at) == answer


@given(st.binary(max_size=60), cuts)
def test_lines_under_any_chunking(data: bytes, at: list[int]) -> None:
    splitter, places = Splitter(), sorted({0, len(data), *(place % (len(data) + 1) for place in at)})
    lines = [line for a, b in itertools.pairwise(places) for line in splitter.feed(data[a:b])]
    assert all(line.endswith(b"\n") and line.count(b"\n") == 1 for line in lines)
    assert b"".join(lines) + splitter.rest() == data


PIECE = b'{"model":"m","message":{"role":"assistant","content":"hi"},"done":false}\n'
END = b'{"model":"m","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop"}\n'


@pytest.mark.parametrize(
    "stream",
    [
        b"",
        PIECE,
        PIECE + b'{"error":"no"}\n',
        PIECE + b'{"error":"no"}\n' + END,
        PIECE + b"{broken\n" + END,
        END + PIECE,
        END + END,
        b"[1]\n" + END,
    ],
)
def test_a_stream_that_did_not_end_as_it_should_is_no_answer(stream: bytes) -> None:
    assert gathered(ollama.chat, stream) is None


def test_pieces_grow() -> None:
    answer = gathered(ollama.chat, PIECE + PIECE + b"\n" + END)
    assert answer is not None
    assert answer["message"]["content"] == "hihi"


@pytest.mark.parametrize(
    ("whole", "why"),
    [
        ({"message": {"content": "hi"}, "done_reason": "stop"}, None),
        ({"message": {"content": "", "tool_calls": [{}]}, "done_reason": "stop"}, None),
        ({"response": "hi", "done_reason": "stop"}, None),
        ({"response": "hi", "done_reason": "length"}, "ended-early"),
        ({"response": "", "done_reason": "load"}, "empty"),
        ({"message": "hi", "done_reason": "stop"}, "incomplete"),
        ({"response": "hi", "done": False}, "incomplete"),
        ({"response": "hi", "done_reason": "stop", "error": "out of memory"}, "incomplete"),
    ],
)
def test_only_what_ended_whole_and_well_is_storable(whole: dict[str, Any], why: str | None) -> None:
    assert storable.objection(200, ollama.chat.ending({"done": True, **whole})) == why


def test_what_an_answer_says_is_its_text_and_its_calls() -> None:
    calling = {"message": {"content": "hi", "tool_calls": [{"function": {"name": "f"}}]}}
    assert ollama.chat.said(calling) == 'hi\n{"function": {"name": "f"}}'
    assert ollama.generate.said({"response": "hi"}) == "hi"


def test_tokens_are_counted() -> None:
    assert ollama.chat.usage({"prompt_eval_count": 3, "eval_count": 4}) == Usage(3, 4)


@pytest.mark.parametrize(
    ("dialect", "body", "opaque"),
    [
        (ollama.chat, {"messages": [{"role": "user", "content": "x"}]}, ""),
        (ollama.chat, {"messages": [{"role": "user", "content": "x", "images": ["A"]}]}, "media"),
        (ollama.chat, {"messages": [{"role": "tool", "content": "x"}]}, "last-turn"),
        (ollama.generate, {"prompt": "x"}, ""),
        (ollama.generate, {"prompt": "x", "images": ["A"]}, "media"),
        (ollama.generate, {"prompt": "x", "raw": True}, "verbatim"),
        (ollama.generate, {"prompt": "x", "context": [1]}, "verbatim"),
        (ollama.generate, {"prompt": "x", "suffix": "y"}, "verbatim"),
        (ollama.generate, {"prompt": "x", "template": "{{ .Prompt }}"}, "verbatim"),
        (ollama.generate, {"prompt": "x\ny"}, "lines"),
    ],
)
def test_what_is_fuzzy(dialect: Any, body: dict[str, Any], opaque: str) -> None:
    reading = dialect.read({"model": "m", **body})
    assert (reading.opaque, reading.text is None) == (opaque, bool(opaque))
    assert reading.stream
    assert reading.tied == (opaque == "media")


def asking(path: str, text: str) -> dict[str, Any]:
    asked = {"messages": [{"role": "user", "content": text}]} if path == CHAT else {"prompt": text}
    return {"model": "demo-chat", **asked}


@pytest.mark.parametrize("path", [CHAT, GENERATE])
async def test_it_streams_unless_told_not_to_and_each_is_replayed_as_the_other(
    world: World, path: str
) -> None:
    dialect = ollama.chat if path == CHAT else ollama.generate
    first = await world.send(path, asking(path, "how are you today my friend"))
    await world.settled()
    assert (first.cache, first.headers["Content-Type"]) == ("MISS", "application/x-ndjson")
    again = await world.send(path, {**asking(path, "how are you my friend"), "keep_alive": "5m"})
    assert (again.cache, again.headers["Content-Type"]) == ("HIT semantic", "application/x-ndjson")
    whole = await world.send(path, {**asking(path, "how are you my friend"), "stream": False})
    assert whole.cache == "HIT semantic"
    assert whole.json == gathered(dialect, first.body) == gathered(dialect, again.body)
    for change in ({"options": {"seed": 1}}, {"format": "json"}, {"think": True}):
        assert (await world.send(path, asking(path, "how are you my friend") | change)).cache == "MISS"


async def test_a_chat_of_another_dialect_is_another_question(world: World) -> None:
    await world.send(CHAT, asking(CHAT, "hello"))
    await world.settled()
    assert (await world.send("/v1/chat/completions", asking(CHAT, "hello"))).cache == "MISS"


async def test_errors_have_their_shape(world: World) -> None:
    broken = await world.post(CHAT, data=b"{", headers={"x-api-key": "one"})
    assert (broken.status, list(broken.json)) == (400, ["error"])
    assert isinstance(json.loads(broken.body)["error"], str)
    unknown = await world.send(CHAT, {**asking(CHAT, "x"), "model": "unknown-model"})
    assert (unknown.status, list(unknown.json)) == (404, ["error"])
