"""Anthropic's messages: what separates two calls, and that answers survive the way to a stream and back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from streams import events, gathered
from world import World

from policies import storable
from proxy.dialects import anthropic_messages as dialect
from proxy.dialects.base import Usage

PATH = "/v1/messages"
BODY: dict[str, Any] = {
    "model": "demo-chat",
    "max_tokens": 500,
    "system": [{"type": "text", "text": "Be brief."}],
    "messages": [{"role": "user", "content": "how are you today my friend"}],
}
REWORDED = {**BODY, "messages": [{"role": "user", "content": "how are you my friend"}]}
MARK = {"cache_control": {"type": "ephemeral"}}

texts = st.text(max_size=200) | st.lists(st.text(max_size=5), max_size=30).map(" ".join)
names = st.text(min_size=1, max_size=8)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)
blocks = st.one_of(
    st.fixed_dictionaries({"type": st.just("text"), "text": texts}),
    st.fixed_dictionaries(
        {
            "type": st.just("text"),
            "text": texts,
            "citations": st.lists(st.fixed_dictionaries({"cited_text": texts}), max_size=2),
        }
    ),
    st.fixed_dictionaries({"type": st.just("thinking"), "thinking": texts, "signature": names}),
    st.fixed_dictionaries({"type": st.just("redacted_thinking"), "data": texts}),
    st.fixed_dictionaries(
        {
            "type": st.just("tool_use"),
            "id": names,
            "name": names,
            "input": st.dictionaries(names, values, max_size=3),
        }
    ),
)
usages = st.fixed_dictionaries(
    {"input_tokens": st.integers(0), "output_tokens": st.integers(0)},
    optional={"cache_read_input_tokens": st.integers(0), "service_tier": st.just("standard")},
)
answers = st.fixed_dictionaries(
    {
        "id": names, "type": st.just("message"), "role": st.just("assistant"), "model": names,
        "content": st.lists(blocks, max_size=4), "stop_reason": st.sampled_from(["end_turn", "tool_use"]),
        "stop_sequence": st.none() | names, "usage": usages,
    }
)  # fmt: skip


cuts = st.lists(st.integers(0, 5000), max_size=6)


@given(answers, cuts)
def test_scattered_and_gathered_an_answer_is_the_same(answer: dict[str, Any], at: list[int]) -> None:
    assert gathered(dialect, b"".join(dialect.scatter(answer, {})), at) == answer


def event(**members: Any) -> bytes:
    return f"event: {members['type']}\ndata: {json.dumps(members)}\n\n".encode()


START = event(
    type="message_start",
    message={"type": "message", "content": [], "stop_reason": None, "usage": {"input_tokens": 3}},
)
TEXT = event(type="content_block_start", index=0, content_block={"type": "text", "text": ""}) + event(
    type="content_block_delta", index=0, delta={"type": "text_delta", "text": "hi"}
)
TOOL = event(type="content_block_start", index=0, content_block={"type": "tool_use", "input": {}}) + event(
    type="content_block_delta", index=0, delta={"type": "input_json_delta", "partial_json": '{"a"'}
)
CLOSE = event(type="content_block_stop", index=0)
END = event(type="message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 2})
STOP = event(type="message_stop")


@pytest.mark.parametrize(
    "stream",
    [
        b"",
        START + TEXT + CLOSE + END,  # no message_stop
        START + event(type="error", error={"type": "overloaded_error"}) + STOP,
        START + TEXT + CLOSE + event(type="something_new") + END + STOP,
        START + TOOL + CLOSE + END + STOP,  # half a tool's input
        START + TOOL + END + STOP,
        START + TEXT + CLOSE + END + STOP + event(type="ping"),
        TEXT + CLOSE + STOP,
        START + event(type="content_block_start", index="x", content_block={}) + END + STOP,
        START + b"data: [1]\n\n" + STOP,
        START
        + TEXT
        + event(type="content_block_delta", index=0, delta={"type": "new_delta"})
        + CLOSE
        + END
        + STOP,
    ],
)
def test_a_stream_that_did_not_end_as_it_should_is_no_answer(stream: bytes) -> None:
    assert gathered(dialect, stream) is None


def test_usage_at_the_end_counts_and_what_it_leaves_out_stays() -> None:
    end = event(
        type="message_delta",
        delta={"stop_reason": "end_turn"},
        usage={"output_tokens": 2, "input_tokens": None, "server_tool_use": None},
    )
    answer = gathered(dialect, START + TEXT + event(type="ping") + CLOSE + end + STOP)
    assert answer is not None
    assert answer["usage"] == {"input_tokens": 3, "output_tokens": 2, "server_tool_use": None}
    assert answer["stop_reason"] == "end_turn"
    assert answer["content"] == [{"type": "text", "text": "hi"}]


def message(*content: dict[str, Any], stop: str | None = "end_turn") -> dict[str, Any]:
    return {"type": "message", "content": list(content), "stop_reason": stop, "usage": {}}


SAID = {"type": "text", "text": "hi"}


@pytest.mark.parametrize(
    ("whole", "why"),
    [
        (message(SAID), None),
        (message(SAID, stop="stop_sequence"), None),
        (message({"type": "tool_use", "name": "f", "input": {}}, stop="tool_use"), None),
        (message(SAID, stop="max_tokens"), "ended-early"),
        (message(SAID, stop="refusal"), "ended-early"),
        (message(SAID, stop="pause_turn"), "ended-early"),
        (message(SAID, stop="model_context_window_exceeded"), "ended-early"),
        (message(SAID, stop=None), "ended-early"),
        (message(), "empty"),
        (message({"type": "thinking", "thinking": "hm"}), "empty"),
        ({"type": "error", "error": {}}, "incomplete"),
        (message(SAID) | {"error": {"type": "overloaded_error"}}, "incomplete"),
        ({"type": "message", "content": "hi", "usage": {}}, "incomplete"),
        ({"type": "message", "content": [SAID], "stop_reason": "end_turn"}, "incomplete"),
    ],
)
def test_only_what_ended_whole_and_well_is_storable(whole: dict[str, Any], why: str | None) -> None:
    assert storable.objection(200, dialect.ending(whole)) == why


def test_tokens_that_were_read_from_the_upstreams_cache_are_read_too() -> None:
    told = {"input_tokens": 1, "cache_read_input_tokens": 10, "cache_creation_input_tokens": 100}
    assert dialect.usage({"usage": {**told, "output_tokens": 5}}) == Usage(111, 5)


def test_what_an_answer_says_is_its_text_and_its_calls() -> None:
    use = {"type": "tool_use", "name": "f", "input": {"b": 1, "a": 2}}
    assert (
        dialect.said(message({"type": "thinking", "thinking": "hm"}, SAID, use)) == 'hi\nf {"a": 2, "b": 1}'
    )


def test_what_is_known_only_at_the_end_is_told_at_the_end() -> None:
    answer = message(SAID) | {"stop_sequence": None, "stop_details": {"x": 1}, "usage": {"output_tokens": 9}}
    first, *_, last, _ = events(b"".join(dialect.scatter(answer, {})))
    assert first["message"]["usage"] == {"output_tokens": 1}
    assert {first["message"][name] for name in ("stop_reason", "stop_sequence", "stop_details")} == {None}
    assert (last["delta"]["stop_details"], last["usage"]) == ({"x": 1}, {"output_tokens": 9})


@pytest.mark.parametrize(
    ("status", "kind"),
    [(413, "request_too_large"), (429, "rate_limit_error"), (502, "api_error"), (529, "overloaded_error")],
)
def test_our_errors_are_of_anthropics_kinds(status: int, kind: str) -> None:
    assert json.loads(dialect.error(status, "code", "x"))["error"]["type"] == kind


# Identity


def reading(**changes: Any) -> Any:
    made = dialect.read({**BODY, **changes})
    assert made is not None
    return made


def asking(*content: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": list(content)}]}


def test_markers_for_the_upstreams_cache_are_no_identity() -> None:
    tool = {"name": "f", "input_schema": {"properties": {"cache_control": {"type": "string"}}}}
    result = {"type": "tool_result", "tool_use_id": "t", "content": [SAID]}
    used = {"type": "tool_use", "id": "t", "name": "f", "input": {"cache_control": {"x": 1}}}
    turns = [{"role": "assistant", "content": [used]}, {"role": "user", "content": [result]}]
    plain = reading(tools=[tool], messages=turns)
    marked = reading(
        system=[{"type": "text", "text": "Be brief.", **MARK}],
        tools=[{**tool, **MARK}],
        messages=[turns[0], {"role": "user", "content": [{**result, "content": [{**SAID, **MARK}], **MARK}]}],
        **MARK,
    )
    assert marked.identity == plain.identity
    other = reading(
        tools=[tool], messages=[{"role": "assistant", "content": [{**used, "input": {}}]}, turns[1]]
    )
    assert other.identity != plain.identity
    assert reading(cache_control="no marker").identity != reading().identity


def test_the_last_text_is_fuzzy_and_earlier_blocks_are_not() -> None:
    assert reading(**asking(SAID, {"type": "text", "text": "b", **MARK})).text == "b"
    assert reading(**asking(SAID, {"type": "text", "text": "b"})).identity["messages"] == [
        {"role": "user", "content": [SAID, {"type": "text", "text": None}]}
    ]


@pytest.mark.parametrize(
    "content",
    [
        [SAID, {"type": "image", "source": {}}],
        [{"type": "document", "source": {}}, SAID],
        [{"type": "tool_result", "tool_use_id": "t", "content": "x"}],
        [{"type": "tool_result", "tool_use_id": "t", "content": "x"}, SAID],
    ],
)
def test_what_is_more_than_text_matches_to_the_letter_only(content: list[dict[str, Any]]) -> None:
    assert reading(**asking(*content)).text is None
    earlier = [{"role": "user", "content": content}, {"role": "assistant", "content": "ok"}]
    assert reading(messages=[*earlier, {"role": "user", "content": "go on"}]).text is None


def test_a_turn_that_is_begun_for_the_model_matches_to_the_letter_only() -> None:
    assert reading(messages=[*BODY["messages"], {"role": "assistant", "content": "{"}]).opaque == "last-turn"


@pytest.mark.parametrize(
    ("changes", "barred"),
    [
        ({"tools": [{"name": "f", "input_schema": {}}, {"type": "custom", "name": "g"}]}, ""),
        ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, ""),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "hosted-tools"),
        ({"tools": [{"type": "code_execution_20250825", "name": "code"}]}, "hosted-tools"),
        ({"mcp_servers": [{"url": "https://example.com"}]}, "hosted-tools"),
        ({"container": "c"}, "hosted-tools"),
        ({"tools": "x"}, ""),
    ],
)
def test_tools_that_run_at_the_upstream(changes: dict[str, Any], barred: str) -> None:
    assert reading(**changes).barred == barred


# Over real sockets


async def test_a_paraphrase_hits_and_other_circumstances_do_not(world: World) -> None:
    first = await world.send(PATH, BODY)
    await world.settled()
    assert first.cache == "MISS"
    second = await world.send(PATH, REWORDED)
    assert (second.cache, second.body) == ("HIT semantic", first.body)
    for change in (
        {"system": "Be verbose."}, {"max_tokens": 501}, {"metadata": {"user_id": "x"}}, {"temperature": 0},
        {"thinking": {"type": "enabled", "budget_tokens": 1024}}, {"tool_choice": {"type": "auto"}},
        {"whatever": 1},
    ):  # fmt: skip
        assert (await world.send(PATH, {**REWORDED, **change})).cache == "MISS"
    assert (await world.send(PATH, REWORDED, **{"anthropic-version": "2023-06-01"})).cache == "MISS"
    assert (await world.send(PATH, REWORDED, **{"anthropic-beta": "x"})).cache == "MISS"
    assert (await world.send(PATH + "?beta=true", REWORDED)).cache == "MISS"


async def test_keys_separate_tenants(world: World) -> None:
    await world.send(PATH, BODY)
    await world.settled()
    assert (await world.send(PATH, BODY, key="two")).cache == "MISS"
    assert (await world.send(PATH, BODY, Authorization="Bearer one")).cache == "MISS"
    await world.settled()
    assert (await world.send(PATH, BODY)).cache == "HIT exact"


async def test_a_call_without_a_key_shares_nothing(make_world: Any) -> None:
    world = await make_world(tenancy={"anonymous": "bypass"})
    for _ in range(2):
        answer = await world.post(PATH, json=BODY)
        assert answer.headers["X-Cache-Bypass-Reason"] == "anonymous"


async def test_hosted_tools_go_up_every_time(world: World) -> None:
    body = {**BODY, "tools": [{"type": "web_search_20250305", "name": "web_search"}]}
    for _ in range(2):
        answer = await world.send(PATH, body)
        await world.settled()
        assert (answer.cache, answer.headers["X-Cache-Bypass-Reason"]) == ("BYPASS", "hosted-tools")


async def test_a_chat_answer_never_serves_a_message(world: World) -> None:
    chat = {"model": "demo-chat", "max_tokens": 500, "messages": BODY["messages"]}
    assert (await world.send("/v1/chat/completions", chat)).cache == "MISS"
    await world.settled()
    assert (await world.send(PATH, chat)).cache == "MISS"
    assert (await world.send(PATH, {**chat, "messages": REWORDED["messages"]})).json["type"] == "message"


async def test_counting_tokens_passes_through(world: World) -> None:
    answer = await world.send(PATH + "/count_tokens", BODY)
    assert answer.json == {"input_tokens": 6}
    assert "X-Cache" not in answer.headers


async def test_our_own_errors_have_anthropics_shape(world: World) -> None:
    broken = await world.post(PATH, data=b"{", headers={"x-api-key": "one"})
    assert (broken.status, broken.json["type"]) == (400, "error")
    assert broken.json["error"]["type"] == "invalid_request_error"
    assert json.loads(dialect.error(401, "unauthenticated", "x"))["error"]["type"] == "authentication_error"
    missed = await world.send(PATH, BODY, **{"Cache-Control": "only-if-cached"})
    assert (missed.status, missed.json["error"]["type"]) == (504, "timeout_error")
