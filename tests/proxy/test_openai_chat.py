"""Answers survive the way from object to stream and back."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
import streams
from hypothesis import given
from hypothesis import strategies as st

from policies import storable
from proxy.dialects import openai_chat
from proxy.dialects.base import dump
from proxy.sse import Splitter, payload

texts = st.text(max_size=200)
calls = st.lists(
    st.fixed_dictionaries(
        {
            "id": st.text(min_size=1, max_size=8),
            "type": st.just("function"),
            "function": st.fixed_dictionaries({"name": st.text(min_size=1, max_size=8), "arguments": texts}),
        }
    ),
    min_size=1,
    max_size=3,
)
messages = st.fixed_dictionaries(
    {"role": st.just("assistant"), "content": st.none() | st.text(min_size=1, max_size=200)},
    optional={"tool_calls": calls, "refusal": st.text(min_size=1), "reasoning_content": st.text(min_size=1)},
)
choices = st.lists(
    st.fixed_dictionaries(
        {"message": messages, "finish_reason": st.sampled_from(["stop", "length"]), "logprobs": st.none()}
    ),
    min_size=1,
    max_size=3,
).map(lambda each: [{"index": index, **choice} for index, choice in enumerate(each)])
usages = st.just({"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7})
answers = st.fixed_dictionaries(
    {
        "id": st.text(), "object": st.just("chat.completion"), "created": st.integers(0), "model": st.text(),
        "choices": choices, "usage": usages,
    }
)  # fmt: skip

WITH_USAGE = {"stream": True, "stream_options": {"include_usage": True}}


def gathered(stream: bytes) -> dict[str, Any] | None:
    return streams.gathered(openai_chat, stream)


def data(stream: bytes) -> list[Any]:
    found = [payload(event) for event in Splitter().feed(stream)]
    return [json.loads(each) for each in found if each not in (None, b"[DONE]")]


@given(answers)
def test_scattered_and_gathered_an_answer_is_the_same(answer: dict[str, Any]) -> None:
    assert gathered(b"".join(openai_chat.scatter(answer, WITH_USAGE))) == answer


@given(answers)
def test_usage_is_told_only_to_those_who_ask(answer: dict[str, Any]) -> None:
    silent = data(b"".join(openai_chat.scatter(answer, {"stream": True})))
    asked = data(b"".join(openai_chat.scatter(answer, WITH_USAGE)))
    assert not any("usage" in chunk for chunk in silent)
    assert [chunk["usage"] for chunk in asked] == [None] * (len(asked) - 1) + [answer["usage"]]
    assert asked[-1]["choices"] == []


@given(answers, st.lists(st.integers(0, 5000), max_size=6))
def test_the_filter_makes_an_enriched_stream_as_if_it_had_not_been(
    answer: dict[str, Any], at: list[int]
) -> None:
    asked = b"".join(openai_chat.scatter(answer, WITH_USAGE))
    plain = b"".join(openai_chat.scatter(answer, {"stream": True}))
    places = [0, *sorted({place % (len(asked) + 1) for place in at}), len(asked)]
    filter = openai_chat.enrichment.filter()
    kept = [filter.feed(asked[a:b]) for a, b in itertools.pairwise(places)]
    assert b"".join(kept) + filter.rest() == plain


def test_text_that_speaks_of_usage_is_left_alone() -> None:
    chunk = {"choices": [{"index": 0, "delta": {"content": ',"usage":null'}}]}
    event = b"data: " + json.dumps(chunk).encode() + b"\n\n"
    assert openai_chat.enrichment.filter().feed(event) == event


def test_enriching_asks_for_usage_once() -> None:
    assert openai_chat.enrichment.enrich({"model": "m"}) is None
    assert openai_chat.enrichment.enrich({"stream": True, "stream_options": {"include_usage": True}}) is None
    refused = {"stream": True, "stream_options": {"include_usage": False}}
    assert openai_chat.enrichment.enrich(refused) == {
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    richer = openai_chat.enrichment.enrich({"stream": True, "stream_options": {"x": 1}})
    assert richer == {"stream": True, "stream_options": {"x": 1, "include_usage": True}}


def test_an_error_that_names_what_was_added_is_told_from_others() -> None:
    for named in (b'{"error": "unknown member stream_options"}', b'{"error": "include_usage?"}'):
        assert openai_chat.enrichment.is_rejection(named)
    assert not openai_chat.enrichment.is_rejection(b'{"error": "unknown model"}')


OPENING = b'data: {"id":"1","choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}\n\n'
PIECE = b'data: {"id":"1","choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n'
FINISH = b'data: {"id":"1","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"total_tokens":3}}\n\n'
DONE = b"data: [DONE]\n\n"


@pytest.mark.parametrize(
    "stream",
    [
        b"",
        OPENING + PIECE + FINISH + USAGE,  # no [DONE]
        OPENING + PIECE + FINISH + DONE,  # no usage
        OPENING + b'data: {"error": {"message": "overloaded"}}\n\n' + DONE,
        OPENING + PIECE + FINISH + b'data: {"error": "no", "choices": []}\n\n' + USAGE + DONE,
        OPENING + b"data: {broken\n\n" + DONE,
        OPENING + b'data: {"choices": [{"delta": {}}]}\n\n' + DONE,  # a choice without its index
        OPENING + b'data: ["no object"]\n\n' + DONE,
        DONE,
    ],
)
def test_a_stream_that_did_not_end_as_it_should_is_no_answer(stream: bytes) -> None:
    assert gathered(stream) is None


def test_comments_and_repeated_names_do_no_harm() -> None:
    again = PIECE.replace(b'"content"', b'"role":"assistant","content"')
    answer = gathered(OPENING + b": keep-alive\n\n" + again + again + FINISH + USAGE + DONE)
    assert answer is not None
    assert answer["choices"][0]["message"] == {"role": "assistant", "content": "hihi"}


def test_logprobs_and_tool_calls_grow_piece_by_piece() -> None:
    def chunk(**choice: Any) -> bytes:
        return b"data: " + json.dumps({"choices": [{"index": 0, **choice}]}).encode() + b"\n\n"

    call = {"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": ""}}
    answer = gathered(
        chunk(delta={"role": "assistant"}, logprobs={"content": [{"token": "a"}]})
        + chunk(delta={"tool_calls": [call]}, logprobs={"content": [{"token": "b"}]})
        + chunk(delta={"tool_calls": [{"index": 0, "function": {"arguments": '{"x"'}}]})
        + chunk(delta={"tool_calls": [{"index": 0, "function": {"arguments": ":1}"}}]})
        + chunk(delta={}, finish_reason="tool_calls")
        + USAGE
        + DONE
    )
    assert answer is not None
    (choice,) = answer["choices"]
    assert choice["logprobs"] == {"content": [{"token": "a"}, {"token": "b"}]}
    assert choice["message"]["tool_calls"][0]["function"] == {"name": "f", "arguments": '{"x":1}'}


def answer(message: dict[str, Any], finish: str = "stop") -> dict[str, Any]:
    return {"choices": [{"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}]}


@pytest.mark.parametrize(
    ("whole", "why"),
    [
        (answer({"content": "hi"}), None),
        (answer({"content": None, "tool_calls": [{}]}, "tool_calls"), None),
        (answer({"content": "hi"}, "length"), "ended-early"),
        (answer({"content": "hi"}, "content_filter"), "ended-early"),
        (answer({"content": "hi"}, None), "ended-early"),  # type: ignore[arg-type]
        (answer({"content": ""}), "empty"),
        (answer({"content": None, "refusal": "No."}), "empty"),
        (answer({"content": "x", "refusal": "No."}), "refusal"),
        ({"choices": []}, "incomplete"),
        ({"error": {"message": "in a 200"}}, "incomplete"),
        ({"choices": [{"finish_reason": "stop"}]}, "incomplete"),
        (answer({"content": "half of"}) | {"error": {"message": "in a 200"}}, "incomplete"),
        (answer({"content": "hi"}) | {"error": None}, None),
        ({"choices": [{**answer({"content": "half"})["choices"][0], "error": {"code": 502}}]}, "incomplete"),
        ({"choices": [*answer({"content": "a"})["choices"], *answer({"content": "b"}, "length")["choices"]]},
         "ended-early"),
        ({"choices": [*answer({"content": "a"})["choices"], *answer({"content": ""})["choices"]]}, "empty"),
        ({"choices": [*answer({"content": "a"})["choices"],
                      *answer({"content": "b", "refusal": "No."})["choices"]]}, "refusal"),
    ],
)  # fmt: skip
def test_only_what_ended_whole_and_well_is_storable(whole: dict[str, Any], why: str | None) -> None:
    assert storable.objection(200, openai_chat.ending(whole)) == why


def test_no_other_status_is_storable() -> None:
    good = openai_chat.ending(answer({"content": "hi"}))
    assert storable.objection(201, good) == "status"
    assert storable.objection(500, good) == "status"


def streamed(*deltas: Any) -> bytes:
    chunks = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    return (
        b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks) + FINISH + USAGE + DONE
    )


def test_what_a_server_repeats_does_not_grow_and_is_not_lost() -> None:
    one = {"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": "{"}}]}
    two = {"tool_calls": [{"index": 0, "id": "", "function": {"name": "", "arguments": "}"}}]}
    answer = gathered(streamed({"provider": "azure"} | one, {"provider": "azure"} | two))
    assert answer is not None
    message = answer["choices"][0]["message"]
    assert message["tool_calls"] == [{"id": "c", "function": {"name": "f", "arguments": "{}"}}]
    assert message["provider"] == "azure"


def test_a_null_says_nothing_new_and_padding_is_no_part_of_an_answer() -> None:
    null = b'data: {"id":null,"choices":[{"index":0,"delta":{"content":null},"finish_reason":null}]}\n\n'
    padded = PIECE.replace(b'"id":"1",', b'"id":"1","obfuscation":"xx",')
    answer = gathered(OPENING + padded + FINISH + null + USAGE + DONE)
    assert answer is not None
    assert (answer["id"], "obfuscation" in answer) == ("1", False)
    (choice,) = answer["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("hi", "stop")


def test_replayed_calls_have_their_index() -> None:
    calling = answer({"content": None, "tool_calls": [{"id": "a"}, {"id": "b"}]}, "tool_calls")
    told = data(b"".join(openai_chat.scatter(calling, {"stream": True})))
    calls = [call for chunk in told for call in chunk["choices"][0]["delta"].get("tool_calls", ())]
    assert calls == [{"index": 0, "id": "a"}, {"index": 1, "id": "b"}]


def test_calls_are_in_the_order_of_their_index() -> None:
    deltas = ({"tool_calls": [{"index": n, "id": str(n), "function": {"arguments": "{}"}}]} for n in (1, 0))
    answer = gathered(streamed(*deltas))
    assert answer is not None
    assert [call["id"] for call in answer["choices"][0]["message"]["tool_calls"]] == ["0", "1"]


def test_two_calls_under_one_index_are_not_stored_as_one() -> None:
    calls = ({"tool_calls": [{"index": 0, "id": id, "function": {"arguments": "{}"}}]} for id in ("a", "b"))
    assert gathered(streamed(*calls)) is None


def test_a_character_cut_in_two_is_whole_again() -> None:
    answer = gathered(streamed({"content": "\ud83d"}, {"content": "\ude00"}))
    assert answer is not None
    assert json.loads(dump(answer))["choices"][0]["message"]["content"] == "😀"
    dump(answer).decode()


def test_members_of_the_whole_answer_are_streamed_once() -> None:
    long = answer({"content": "word " * 500}) | {"id": "1", "search_results": ["x" * 1000]}
    events = data(b"".join(openai_chat.scatter(long, {"stream": True})))
    assert sum("search_results" in event for event in events) == 1
    assert all(event["id"] == "1" for event in events)
    assert len(events) < 250


def test_what_an_answer_says_is_its_text_and_its_calls() -> None:
    call = {"name": "f", "arguments": '{"a": 1}'}
    calling = answer({"content": "hi", "tool_calls": [{"function": call}], "function_call": call})
    assert openai_chat.said(calling) == 'hi\nf {"a": 1}\nf {"a": 1}'


def test_an_answer_that_could_not_be_streamed_is_not_stored() -> None:
    odd = answer({"content": None, "tool_calls": ["x"]}, "tool_calls")
    assert storable.objection(200, openai_chat.ending(odd)) == "incomplete"
