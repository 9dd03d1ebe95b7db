"""OpenAI's responses: what separates two calls, whose an answer is, and the way to a stream and back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from streams import events, gathered
from world import World

from policies import storable
from proxy.dialects import openai_responses as dialect
from proxy.dialects.base import Usage

PATH = "/v1/responses"
BODY: dict[str, Any] = {"model": "demo-chat", "input": "how are you today my friend"}
REWORDED = {**BODY, "input": "how are you my friend"}

texts = st.text(max_size=200) | st.lists(st.text(max_size=5), max_size=30).map(" ".join)
names = st.text(min_size=1, max_size=8)
cited = st.fixed_dictionaries({"type": st.just("url_citation"), "url": texts})
said = st.fixed_dictionaries(
    {
        "type": st.just("output_text"),
        "text": texts,
        "annotations": st.lists(cited, max_size=2),
        "logprobs": st.lists(st.fixed_dictionaries({"token": texts}), max_size=2),
    }
)
refused = st.fixed_dictionaries({"type": st.just("refusal"), "refusal": texts})
message_items = st.fixed_dictionaries(
    {
        "type": st.just("message"),
        "id": names,
        "status": st.just("completed"),
        "role": st.just("assistant"),
        "content": st.lists(said | refused, max_size=2),
    }
)
calls = st.fixed_dictionaries(
    {"type": st.just("function_call"), "call_id": names, "name": names, "arguments": texts},
    optional={"id": names, "status": st.just("completed")},
)
custom_calls = st.fixed_dictionaries(
    {"type": st.just("custom_tool_call"), "call_id": names, "name": names, "input": texts}
)
summaries = st.fixed_dictionaries({"type": st.just("summary_text"), "text": texts})
thoughts = st.fixed_dictionaries(
    {"type": st.just("reasoning"), "id": names, "summary": st.lists(summaries, max_size=2)},
    optional={"encrypted_content": texts},
)
others = st.fixed_dictionaries({"type": st.just("something_new"), "id": names, "content": st.none()})
items = st.one_of(message_items, calls, custom_calls, thoughts, others)
answers = st.fixed_dictionaries(
    {
        "id": names,
        "object": st.just("response"),
        "status": st.sampled_from(["completed", "incomplete"]),
        "output": st.lists(items, max_size=4),
        "usage": st.none() | st.just({"input_tokens": 3, "output_tokens": 4}),
    }
)


@given(answers, st.lists(st.integers(0, 5000), max_size=6))
def test_scattered_and_gathered_an_answer_is_the_same(answer: dict[str, Any], at: list[int]) -> None:
    assert gathered(dialect, b"".join(dialect.scatter(answer, {})), at) == answer


@given(answers)
def test_the_events_tell_the_whole_answer_step_by_step(answer: dict[str, Any]) -> None:
    told = events(b"".join(dialect.scatter(answer, {})))
    assert [event["sequence_number"] for event in told] == list(range(len(told)))
    done = [event["item"] for event in told if event["type"] == "response.output_item.done"]
    assert done == answer["output"]
    for kind, whole in (
        ("output_text", "text"),
        ("function_call_arguments", "arguments"),
        ("refusal", "refusal"),
    ):
        pieces = "".join(event["delta"] for event in told if event["type"] == f"response.{kind}.delta")
        assert pieces == "".join(event[whole] for event in told if event["type"] == f"response.{kind}.done")


def event(kind: str, **members: Any) -> bytes:
    return b"data: " + json.dumps({"type": f"response.{kind}", **members}).encode() + b"\n\n"


ITEM = {"type": "function_call", "name": "f", "arguments": "{}"}


def test_an_output_that_the_last_event_leaves_out_is_in_the_others() -> None:
    stream = event("output_item.done", output_index=1, item={**ITEM, "name": "g"})
    stream += event("output_item.done", output_index=0, item=ITEM)
    answer = gathered(dialect, stream + event("completed", response={"status": "completed"}))
    assert answer == {"status": "completed", "output": [ITEM, {**ITEM, "name": "g"}]}


@pytest.mark.parametrize(
    "stream",
    [
        b"",
        event("output_item.done", output_index=0, item=ITEM),
        b'data: {"type": "error", "message": "no"}\n\n'
        + event("completed", response={"status": "completed"}),
        event("completed", response="x"),
        event("completed"),
        b"data: {broken\n\n",
    ],
)
def test_a_stream_that_did_not_end_as_it_should_is_no_answer(stream: bytes) -> None:
    assert gathered(dialect, stream) is None


def response(*output: Any, status: str = "completed", **members: Any) -> dict[str, Any]:
    return {"status": status, "output": list(output), **members}


def message(part: Any, status: str = "completed") -> dict[str, Any]:
    return {"type": "message", "status": status, "content": [part]}


SAID = {"type": "output_text", "text": "hi"}


@pytest.mark.parametrize(
    ("whole", "why"),
    [
        (response(message(SAID)), None),
        (response(ITEM), None),
        (response({"type": "reasoning", "summary": [], "status": None}, message(SAID)), None),
        (response(message(SAID), status="incomplete"), "ended-early"),
        (response(message(SAID), status="queued"), "ended-early"),
        (response(message(SAID, status="incomplete")), "ended-early"),
        (response(message({"type": "refusal", "refusal": "No."}), ITEM), "refusal"),
        (response(), "empty"),
        (response({"type": "reasoning", "summary": []}), "empty"),
        (response(message(SAID), error={"code": "server_error"}), "incomplete"),
        (response(message("hi")), "incomplete"),
        (response({"type": "reasoning", "summary": ["hm"]}, message(SAID)), "incomplete"),
        ({"status": "completed"}, "incomplete"),
        ({"output": [message(SAID)]}, "incomplete"),
    ],
)  # fmt: skip
def test_only_what_ended_whole_and_well_is_storable(whole: dict[str, Any], why: str | None) -> None:
    assert storable.objection(200, dialect.ending(whole)) == why


def test_what_an_answer_says_is_its_text_and_its_calls() -> None:
    custom = {"type": "custom_tool_call", "name": "g", "input": "x"}
    assert dialect.said(response({"type": "reasoning"}, message(SAID), ITEM, custom)) == "hi\nf {}\ng x"


def test_a_text_with_the_probabilities_of_its_tokens_is_replayed_in_one_piece() -> None:
    told = {**SAID, "text": "word " * 100, "annotations": [], "logprobs": [{"token": "word"}]}
    events_ = events(b"".join(dialect.scatter(response(message(told)), {})))
    (delta,) = [each for each in events_ if each["type"] == "response.output_text.delta"]
    assert (delta["delta"], delta["logprobs"]) == (told["text"], told["logprobs"])


def test_tokens_are_counted() -> None:
    assert dialect.usage({"usage": {"input_tokens": 3, "output_tokens": 4}}) == Usage(3, 4)


# Identity


def reading(**changes: Any) -> Any:
    made = dialect.read({**BODY, **changes})
    assert made is not None
    return made


def turn(content: Any, role: str = "user", **members: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **members}


def test_a_text_alone_is_a_turn_of_the_user() -> None:
    assert reading().identity == reading(input=[turn("x")]).identity
    parts = reading(input=[turn([{"type": "input_text", "text": "x"}], type="message")])
    assert parts.text == "x"


@pytest.mark.parametrize(
    ("given_input", "opaque"),
    [
        ([turn("Be brief.", "developer"), turn("hi")], ""),
        ([turn("hi"), turn([{"type": "output_text", "text": "x"}], "assistant"), turn("hi")], ""),
        ([turn([{"type": "input_text", "text": "x"}, {"type": "input_image", "image_url": "u"}])], "media"),
        ([turn([{"type": "input_file", "file_id": "f"}]), turn("hi")], "media"),
        ([turn("hi"), ITEM, {"type": "function_call_output", "output": "1"}], "items"),
        ([ITEM, turn("hi")], "items"),
        ([{"type": "item_reference", "id": "x"}, turn("hi")], "items"),
        ([turn("hi"), turn("x", "assistant")], "last-turn"),
        ("", "empty"),
        ([], "no-input"),
        (None, "no-input"),
        (7, "no-input"),
    ],
)
def test_only_a_text_among_texts_is_fuzzy(given_input: Any, opaque: str) -> None:
    made = reading(input=given_input)
    assert (made.opaque, made.text is None) == (opaque, bool(opaque))


@pytest.mark.parametrize(
    ("changes", "tied"),
    [
        ({}, True),
        ({"store": True}, True),
        ({"store": False}, False),
        ({"store": False, "previous_response_id": "r"}, True),
        ({"store": False, "include": ["reasoning.encrypted_content"]}, True),
        ({"store": False, "prompt": {"id": "p"}}, True),
        ({"store": False, "input": [turn([{"type": "input_file", "file_id": "f"}])]}, True),
    ],
)
def test_what_the_upstream_keeps_for_its_caller_stays_the_callers(
    changes: dict[str, Any], tied: bool
) -> None:
    assert reading(**changes).tied == tied


@pytest.mark.parametrize(
    ("changes", "barred"),
    [
        ({"tools": [{"type": "function", "name": "f"}, {"type": "custom", "name": "g"}]}, ""),
        ({"tools": [{"type": "web_search"}]}, "hosted-tools"),
        ({"tools": [{"type": "mcp"}]}, "hosted-tools"),
        ({"background": True}, "background"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"background": False, "conversation": None}, ""),
    ],
)
def test_what_happens_at_the_upstream_is_not_cached(changes: dict[str, Any], barred: str) -> None:
    assert reading(**changes).barred == barred


# Over real sockets


async def test_a_paraphrase_hits_and_other_circumstances_do_not(world: World) -> None:
    first = await world.send(PATH, BODY)
    await world.settled()
    second = await world.send(PATH, REWORDED)
    assert (first.cache, second.cache, second.body) == ("MISS", "HIT semantic", first.body)
    for change in (
        {"instructions": "Be brief."}, {"previous_response_id": "r1"}, {"store": False}, {"store": True},
        {"reasoning": {"effort": "low"}}, {"text": {"format": {"type": "json_object"}}}, {"new": 1},
        {"prompt_cache_key": "k"}, {"safety_identifier": "u"}, {"truncation": "auto"},
    ):  # fmt: skip
        assert (await world.send(PATH, {**REWORDED, **change})).cache == "MISS"


async def test_answers_that_the_upstream_keeps_do_not_cross_tenants(world: World) -> None:
    asked = {**BODY, "input": "common question of all of us"}
    assert (await world.send(PATH, asked)).cache == "MISS"
    await world.settled()
    assert (await world.send(PATH, asked, key="two")).cache == "MISS"
    assert (await world.send(PATH, {**asked, "input": "common question of us"}, key="three")).cache == "MISS"
    assert (await world.send(PATH, asked)).cache == "HIT exact"

    free = {**asked, "store": False}
    assert (await world.send(PATH, free)).cache == "MISS"
    await world.settled()
    assert (await world.send(PATH, free, key="two")).cache == "HIT exact"


@pytest.mark.parametrize(
    "change", [{"background": True}, {"conversation": "c"}, {"tools": [{"type": "web_search"}]}]
)
async def test_what_is_barred_goes_up_every_time(world: World, change: dict[str, Any]) -> None:
    for _ in range(2):
        answer = await world.send(PATH, {**BODY, **change})
        await world.settled()
        assert answer.cache == "BYPASS"
    assert len(world.app.cache.entries) == 0
    refused = await world.send(PATH, {**BODY, **change}, **{"Cache-Control": "only-if-cached"})
    assert refused.status == 504


async def test_looking_one_up_passes_through(world: World) -> None:
    answer = await world.call("GET", PATH + "/resp_1")
    assert answer.status == 404
    assert "X-Cache" not in answer.headers
