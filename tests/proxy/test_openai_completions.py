"""OpenAI's text completions: what separates two calls, and the way of an answer to a stream and back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from streams import events, gathered
from world import World

from policies import storable
from proxy.dialects import openai_completions as dialect
from proxy.dialects.base import Usage

PATH = "/v1/completions"
BODY: dict[str, Any] = {"model": "demo-chat", "prompt": "how are you today my friend"}
REWORDED = {**BODY, "prompt": "how are you my friend"}
WITH_USAGE = {"stream": True, "stream_options": {"include_usage": True}}
USAGE = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}

texts = st.text(max_size=200) | st.lists(st.text(max_size=5), max_size=30).map(" ".join)
tokens = st.lists(st.text(max_size=5), max_size=4)
logprobs = st.none() | st.fixed_dictionaries(
    {
        "tokens": tokens,
        "token_logprobs": st.lists(st.none() | st.floats(-9, 0), max_size=4),
        "top_logprobs": st.lists(
            st.dictionaries(st.sampled_from(["index", "a"]), st.floats(-9, 0)), max_size=4
        ),
        "text_offset": st.lists(st.integers(0), max_size=4),
    }
)
choices = st.lists(
    st.fixed_dictionaries(
        {
            "text": texts,
            "logprobs": logprobs,
            "finish_reason": st.sampled_from(["stop", "length"]),
        }
    ),
    min_size=1,
    max_size=3,
).map(lambda each: [{"index": index, **choice} for index, choice in enumerate(each)])
answers = st.fixed_dictionaries(
    {"id": st.text(), "object": st.just("text_completion"), "created": st.integers(0), "model": st.text(),
     "choices": choices, "usage": st.just(USAGE)}
)  # fmt: skip


@given(answers, st.lists(st.integers(0, 5000), max_size=6))
def test_scattered_and_gathered_an_answer_is_the_same(answer: dict[str, Any], at: list[int]) -> None:
    assert gathered(dialect, b"".join(dialect.scatter(answer, WITH_USAGE)), at) == answer


@given(answers)
def test_usage_is_told_only_to_those_who_ask(answer: dict[str, Any]) -> None:
    plain, asked = (b"".join(dialect.scatter(answer, body)) for body in ({"stream": True}, WITH_USAGE))
    assert not any("usage" in chunk for chunk in events(plain))
    assert events(asked)[-1]["usage"] == USAGE
    filter = dialect.enrichment.filter()
    assert filter.feed(asked) + filter.rest() == plain


def test_pieces_with_their_tokens_grow_together() -> None:
    def chunk(text: str, finish: str | None = None) -> bytes:
        told = {"tokens": [text], "token_logprobs": [-1.0], "top_logprobs": None} if text else None
        choice = {"index": 0, "text": text, "logprobs": told, "finish_reason": finish}
        return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"

    tail = b"data: " + json.dumps({"choices": [], "usage": USAGE}).encode() + b"\n\ndata: [DONE]\n\n"
    answer = gathered(dialect, chunk("a ") + chunk("b") + chunk("", "stop") + tail)
    assert answer is not None
    told = {"tokens": ["a ", "b"], "token_logprobs": [-1.0, -1.0], "top_logprobs": []}
    assert answer["choices"] == [{"index": 0, "text": "a b", "logprobs": told, "finish_reason": "stop"}]


@pytest.mark.parametrize(
    ("choice", "why"),
    [
        ({"text": "a", "finish_reason": "stop"}, None),
        ({"text": "a", "finish_reason": "length"}, "ended-early"),
        ({"text": "", "finish_reason": "stop"}, "empty"),
        ({"text": None, "finish_reason": "stop"}, "incomplete"),
        ("a", "incomplete"),
        ({"text": "a", "finish_reason": "stop", "error": {"code": 502}}, "incomplete"),
    ],
)
def test_only_what_ended_whole_and_well_is_storable(choice: Any, why: str | None) -> None:
    assert storable.objection(200, dialect.ending({"choices": [choice]})) == why


def test_one_empty_choice_of_several_is_enough() -> None:
    choices = [{"text": text, "finish_reason": "stop"} for text in ("a", "")]
    assert storable.objection(200, dialect.ending({"choices": choices})) == "empty"


def test_what_reports_an_error_is_not_storable() -> None:
    whole = {"choices": [{"text": "a", "finish_reason": "stop"}], "error": {"code": 502}}
    assert storable.objection(200, dialect.ending(whole)) == "incomplete"


def test_tokens_are_counted() -> None:
    assert dialect.usage({"usage": USAGE}) == Usage(3, 4)


@pytest.mark.parametrize(
    ("changes", "opaque"),
    [
        ({}, ""),
        ({"prompt": "Is it?\n"}, ""),
        ({"prompt": ["a"]}, "several-prompts"),
        ({"prompt": [1, 2]}, "several-prompts"),
        ({"prompt": "Q: a\nA:"}, "lines"),
        ({"prompt": " "}, "empty"),
        ({"prompt": "\ud800"}, "not-unicode"),
        ({"suffix": "}"}, "verbatim"),
        ({"echo": True}, "verbatim"),
    ],
)
def test_a_prompt_is_fuzzy_only_if_it_is_one_line(changes: dict[str, Any], opaque: str) -> None:
    reading = dialect.read({**BODY, **changes})
    assert reading is not None
    assert (reading.opaque, reading.text is None) == (opaque, bool(opaque))


@pytest.mark.parametrize("body", [{"model": "m"}, {"prompt": "x"}, {**BODY, "stream": 1}])
def test_what_this_api_would_not_answer(body: dict[str, Any]) -> None:
    assert dialect.read(body) is None


async def test_a_paraphrase_hits_and_other_circumstances_do_not(world: World) -> None:
    first = await world.send(PATH, BODY)
    await world.settled()
    second = await world.send(PATH, REWORDED)
    assert (first.cache, second.cache, second.body) == ("MISS", "HIT semantic", first.body)
    for change in ({"suffix": "x"}, {"echo": True}, {"best_of": 2}, {"n": 2}, {"max_tokens": 99}, {"new": 1}):
        assert (await world.send(PATH, {**REWORDED, **change})).cache == "MISS"


@pytest.mark.parametrize("prompt", [["a", "b"], [1, 2, 3], [[1, 2], [3]]])
async def test_lists_of_prompts_match_to_the_letter(world: World, prompt: Any) -> None:
    for expected in ("MISS", "HIT exact"):
        assert (await world.send(PATH, {**BODY, "prompt": prompt})).cache == expected
        await world.settled()
    assert (await world.send(PATH, {**BODY, "prompt": [*prompt, prompt[0]]})).cache == "MISS"
