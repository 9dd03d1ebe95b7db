"""Generated calls of every dialect, through nearhit and straight to the upstream: a miss is the upstream's
answer byte for byte, and a hit says what the miss said, in the form that is asked for."""

from __future__ import annotations

import json
import re
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from streams import gathered
from world import Answer, World

from proxy import dialects
from proxy.dialects import openai_chat, openai_completions
from proxy.upstreams.upstream import HOP_BY_HOP

EXAMPLES = 125
"""Of each come four calls through nearhit and two straight to the upstream."""

texts = st.text(max_size=60)
names = st.sampled_from(["f", "weather"])
models = st.sampled_from([*["demo-chat"] * 9, "unknown-model"])
values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-9, 9) | texts,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)
schema = st.fixed_dictionaries(
    {"type": st.just("object"), "properties": st.just({"a": {"type": "string"}, "b": {"type": "integer"}})}
)
extras = st.dictionaries(st.sampled_from(["user", "seed", "metadata", "new_member"]), values, max_size=2)


def turns(text_part: str, image: dict[str, Any]) -> Any:
    part = st.fixed_dictionaries({"type": st.just(text_part), "text": texts})
    content = texts | st.lists(part | st.just(image), min_size=1, max_size=3)
    turn = st.fixed_dictionaries({"role": st.sampled_from(["user", "user", "assistant"]), "content": content})
    return st.lists(turn, min_size=1, max_size=3)


def body(needed: dict[str, Any], optional: dict[str, Any]) -> Any:
    made = st.fixed_dictionaries({"model": models, **needed}, optional=optional)
    return st.tuples(extras, made).map(lambda both: {**both[0], **both[1]})


limits = st.sampled_from([500, 500, 500, 3, 0])
chat_tool = st.fixed_dictionaries({"name": names, "parameters": schema}).map(
    lambda function: {"type": "function", "function": function}
)
chats = body(
    {"messages": turns("text", {"type": "image_url", "image_url": {"url": "u"}})},
    {
        "n": st.integers(1, 3), "max_tokens": limits, "tools": st.lists(chat_tool, max_size=2),
        "tool_choice": st.sampled_from(["auto", "required", {"type": "function", "function": {"name": "f"}}]),
        "response_format": st.sampled_from([{"type": "text"}, {"type": "json_object"}]),
        "stream_options": st.sampled_from([None, {}, {"include_usage": True}, {"include_usage": False}]),
        "logprobs": st.booleans(), "temperature": st.floats(0, 2),
    },
)  # fmt: skip
completions = body(
    {"prompt": texts | texts | st.lists(texts, max_size=2) | st.lists(st.integers(0, 9), max_size=3)},
    {
        "n": st.integers(1, 3), "max_tokens": limits, "suffix": texts, "echo": st.booleans(),
        "stream_options": st.sampled_from([None, {"include_usage": True}]), "logprobs": st.integers(0, 2),
    },
)  # fmt: skip
response_tool = st.fixed_dictionaries({"type": st.just("function"), "name": names, "parameters": schema})
responses = body(
    {"input": texts | turns("input_text", {"type": "input_image", "image_url": "u"})},
    {
        "instructions": texts, "max_output_tokens": limits, "tools": st.lists(response_tool, max_size=2),
        "tool_choice": st.sampled_from(["auto", "required", {"type": "function", "name": "f"}]),
        "store": st.booleans(), "previous_response_id": st.none() | texts, "background": st.booleans(),
        "text": st.sampled_from([{"format": {"type": "text"}}, {"format": {"type": "json_schema"}}]),
    },
)  # fmt: skip
anthropic_tool = st.fixed_dictionaries({"name": names, "input_schema": schema})
messages = body(
    {"messages": turns("text", {"type": "image", "source": {"type": "url"}}), "max_tokens": limits},
    {
        "system": texts, "tools": st.lists(anthropic_tool, max_size=2),
        "tool_choice": st.sampled_from([{"type": "auto"}, {"type": "any"}, {"type": "tool", "name": "f"}]),
        "thinking": st.sampled_from([{"type": "disabled"}, {"type": "enabled", "budget_tokens": 1024}]),
    },
)  # fmt: skip
turns_with_images = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant"]), "content": texts},
                          optional={"images": st.just(["AAAA"])}), min_size=1, max_size=3,
)  # fmt: skip
options = st.fixed_dictionaries(
    {}, optional={"num_predict": st.sampled_from([500, 3]), "temperature": values}
)
ollama_chats = body(
    {"messages": turns_with_images},
    {"options": options, "tools": st.lists(chat_tool, max_size=2), "tool_choice": st.just("required")},
)
ollama_texts = body(
    {"prompt": texts},
    {"options": options, "system": texts, "raw": st.booleans(), "keep_alive": st.just("5m")},
)
parts = st.lists(
    st.fixed_dictionaries({"text": texts}) | st.just({"inlineData": {"mimeType": "image/png", "data": "AA"}}),
    min_size=1,
    max_size=3,
)
contents = st.fixed_dictionaries(
    {"parts": parts}, optional={"role": st.sampled_from(["user", "user", "model"])}
)
declared = st.fixed_dictionaries({"name": names, "parameters": schema})
gemini_tool = st.sampled_from([{"googleSearch": {}}, {"code_execution": {}}]) | st.fixed_dictionaries(
    {"functionDeclarations": st.lists(declared, max_size=2)}
)
gemini_settings = st.fixed_dictionaries(
    {},
    optional={
        "candidateCount": st.integers(1, 3), "maxOutputTokens": limits, "temperature": st.floats(0, 2),
        "thinkingConfig": st.fixed_dictionaries({"includeThoughts": st.booleans()}),
        "responseMimeType": st.sampled_from(["text/plain", "application/json"]),
    },
)  # fmt: skip
geminis = body(
    {"contents": st.lists(contents, min_size=1, max_size=3)},
    {
        "systemInstruction": st.fixed_dictionaries({"parts": parts}), "generationConfig": gemini_settings,
        "tools": st.lists(gemini_tool, max_size=2), "cachedContent": st.none() | st.just("cachedContents/1"),
        "toolConfig": st.fixed_dictionaries(
            {"functionCallingConfig": st.fixed_dictionaries({"mode": st.sampled_from(["ANY", "AUTO"])})}
        ),
        "safetySettings": st.lists(values, max_size=2),
    },
)  # fmt: skip
CASES = {
    "/v1/chat/completions": chats,
    "/v1/completions": completions,
    "/v1/responses": responses,
    "/v1/messages": messages,
    "/api/chat": ollama_chats,
    "/api/generate": ollama_texts,
    "/v1beta/models": geminis,
    "/v1/models": geminis,
}
FORMS = {"/v1beta/models": "?alt=sse", "/v1/models": ""}
"""Of streams, where the path names model and way of sending."""
_NUMBER = re.compile(rb"\d+")
_ALSO = {"date", "content-length", "cache-status", "age"}
_namespaces = count()


def unnumbered(body: bytes) -> bytes:
    """Without what tells two calls of the demo upstream apart."""
    return _NUMBER.sub(b"0", body)


def told(headers: Any) -> dict[str, str]:
    lower = {name.lower(): value for name, value in headers.items()}
    ours = {name for name in lower if name.startswith("x-cache")}
    return {name: value for name, value in lower.items() if name not in HOP_BY_HOP | _ALSO | ours}


async def straight(world: World, path: str, asked: dict[str, Any]) -> Answer:
    url = world.upstream_url + path
    headers = {"x-api-key": "one", "Content-Type": "application/json"}
    async with world.session.post(url, data=json.dumps(asked).encode(), headers=headers) as response:
        return Answer(response.status, response.headers, await response.read())


def addressed(path: str, asked: dict[str, Any], stream: bool) -> tuple[str, dict[str, Any]]:
    """Where to send it and what, for an answer in that form."""
    if path not in FORMS:
        return path, {**asked, "stream": stream}
    verb = f":streamGenerateContent{FORMS[path]}" if stream else ":generateContent"
    return f"{path}/{asked['model']}{verb}", {k: v for k, v in asked.items() if k != "model"}


async def misses_and_hits(world: World, path: str, asked: dict[str, Any], stream: bool) -> None:
    target, body = addressed(path, asked, stream)
    dialect = dialects.of("POST", target)
    namespace = {"X-Nearhit-Namespace": f"n{next(_namespaces)}"}
    miss, direct = await world.send(target, body, **namespace), await straight(world, target, body)
    await world.settled()
    assert miss.status == direct.status < 500
    assert unnumbered(miss.body) == unnumbered(direct.body)
    assert told(miss.headers) == told(direct.headers)
    assert miss.headers["X-Cache"] in ("MISS", "BYPASS")

    hit = await world.send(target, body, **namespace)
    if hit.headers["X-Cache"] != "HIT":
        return
    assert said(dialect, hit.body, stream) == said(dialect, miss.body, stream)
    target, body = addressed(path, asked, not stream)
    other = await world.send(target, body, **namespace)
    assert other.cache == "HIT exact"
    assert said(dialects.of("POST", target), other.body, not stream) == said(dialect, miss.body, stream)


def said(dialect: Any, body: bytes, stream: bool) -> Any:
    """The answer as one object, without the usage, which is in a stream only for those who ask."""
    if not stream:
        answer = json.loads(body)
    elif dialect in (openai_chat, openai_completions) and b'"choices":[]' not in body:
        told_usage = b'data: {"choices":[],"usage":{}}\n\ndata: [DONE]'
        answer = gathered(dialect, body.replace(b"data: [DONE]", told_usage))
    else:
        answer = gathered(dialect, body)
    assert answer is not None
    if dialect in (openai_chat, openai_completions):
        answer.pop("usage")
    for choice in answer.get("choices", ()):
        # Only the document says that there was no refusal.
        if choice.get("message", {}).get("refusal", "") is None:
            del choice["message"]["refusal"]
    return answer


@pytest.mark.parametrize("path", CASES)
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), stream=st.booleans())
async def test_nearhit_makes_no_difference(
    world: World, path: str, data: st.DataObject, stream: bool
) -> None:
    await misses_and_hits(world, path, data.draw(CASES[path]), stream)


ODD = (
    "messages", "input", "prompt", "system", "tools", "tool_choice", "options", "container", "store", "text",
    "conversation", "background", "include", "images", "echo", "thinking", "stream", "max_tokens",
    "plugins", "cache_control", "dimensions", "contents", "systemInstruction", "generation_config",
)  # fmt: skip
VALID = {"/v1/embeddings": {"model": "demo-chat", "input": "x"}} | {
    path: {"model": "demo-chat", "max_tokens": 500, "messages": [{"role": "user", "content": "x"}],
           "prompt": "x", "contents": [{"parts": [{"text": "x"}]}],
           **({"input": "x"} if path == "/v1/responses" else {})}
    for path in CASES
}  # fmt: skip
shaped = st.recursive(
    values,
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(
                ["type", "role", "content", "text", "name", "function", "images", "parts", "cache_control"]
            ),
            inner | st.sampled_from(["user", "text", "tool_result", "message", "function"]),
            max_size=4,
        )
    ),
    max_leaves=8,
)


@pytest.mark.parametrize("path", VALID)
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(odd=st.dictionaries(st.sampled_from(ODD), shaped | st.lists(shaped, max_size=2), max_size=3))
async def test_whatever_the_members_the_upstream_judges_them(
    world: World, path: str, odd: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    target, asked = addressed(path, VALID[path], stream=bool(odd.get("stream")))[0], VALID[path] | odd
    through, direct = await world.send(target, asked), await straight(world, target, asked)
    assert through.status == direct.status
    again = await world.send(target, asked)
    assert again.status == direct.status
    await world.settled()
    assert not [record for record in caplog.records if record.exc_info and record.name.startswith("nearhit")]
