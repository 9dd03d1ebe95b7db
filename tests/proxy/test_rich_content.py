"""What is more than a text: never dropped from what must match, kept on the way to a stream and back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from streams import gathered
from world import World

from proxy.dialects import openai_chat

texts = st.text(max_size=60)
words = st.text(min_size=1, max_size=60)
token = st.fixed_dictionaries(
    {
        "token": texts,
        "logprob": st.floats(-9, 0),
        "bytes": st.none() | st.lists(st.integers(0, 255), max_size=3),
        "top_logprobs": st.lists(
            st.fixed_dictionaries({"token": texts, "logprob": st.floats(-9, 0)}), max_size=2
        ),
    }
)
citation = st.fixed_dictionaries(
    {
        "type": st.just("url_citation"),
        "url_citation": st.fixed_dictionaries({"url": texts, "start_index": st.integers(0, 9)}),
    }
)
audio = st.fixed_dictionaries(
    {"id": words, "data": words, "transcript": texts, "expires_at": st.integers(1, 2**40)}
)
thought = st.fixed_dictionaries({"type": st.just("reasoning.text"), "text": texts, "signature": texts})
call = st.fixed_dictionaries({"name": words, "arguments": texts})
message = st.fixed_dictionaries(
    {"role": st.just("assistant"), "content": st.none() | words},
    optional={
        "refusal": words,
        "reasoning_content": words,
        "reasoning": words,
        "reasoning_details": st.lists(thought, min_size=1, max_size=2),
        "annotations": st.lists(citation, max_size=2),
        "audio": audio,
        "function_call": call,
        "provider_specific": st.dictionaries(st.sampled_from(["a", "b"]), st.integers() | words, min_size=1),
    },
)
told = st.none() | st.fixed_dictionaries(
    {"content": st.none() | st.lists(token, max_size=3), "refusal": st.none() | st.lists(token, max_size=2)}
)
choices = st.lists(
    st.fixed_dictionaries({"message": message, "finish_reason": st.just("stop"), "logprobs": told}),
    min_size=1,
    max_size=3,
).map(lambda each: [{"index": index, **choice} for index, choice in enumerate(each)])
WITH_USAGE = {"stream": True, "stream_options": {"include_usage": True}}


@given(choices, st.lists(st.integers(0, 9999), max_size=5))
def test_a_chat_answer_keeps_everything(choices: list[dict[str, Any]], at: list[int]) -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "completion_tokens_details": {"audio_tokens": 1}}
    answer = {"id": "1", "object": "chat.completion", "choices": choices, "usage": usage, "citations": ["u"]}
    assert gathered(openai_chat, b"".join(openai_chat.scatter(answer, WITH_USAGE)), at) == answer


IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
SOUND = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}
FILE = {"type": "file", "file": {"file_id": "file-1"}}
PICTURE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
PAPER = {"type": "document", "source": {"type": "file", "file_id": "file_1"}}
DRAWN = {"type": "input_image", "image_url": "data:image/png;base64,AAAA"}
FILED = {"type": "input_file", "file_id": "file-1"}
ASKED = ["what is it that you see here", "what is it that you see"]


def bodies(path: str, part: dict[str, Any], text: str) -> dict[str, Any]:
    kind = "input_text" if path == "/v1/responses" else "text"
    turns = [{"role": "user", "content": [{"type": kind, "text": text}, part]}]
    member = "input" if path == "/v1/responses" else "messages"
    return {"model": "demo-chat", "max_tokens": 500, member: turns}


def changes(value: Any) -> Iterator[Any]:
    """The value with each of its innermost texts changed."""
    if isinstance(value, str):
        yield value + "B"
    else:
        for key, inner in value.items():
            yield from ({**value, key: other} for other in changes(inner) if key != "type")


@pytest.mark.parametrize(
    ("path", "part"),
    [
        ("/v1/chat/completions", IMAGE), ("/v1/chat/completions", SOUND), ("/v1/chat/completions", FILE),
        ("/v1/messages", PICTURE), ("/v1/messages", PAPER),
        ("/v1/responses", DRAWN), ("/v1/responses", FILED),
    ],
)  # fmt: skip
async def test_what_is_shown_or_played_matches_to_the_letter(
    world: World, path: str, part: dict[str, Any]
) -> None:
    caches = []
    for text in (ASKED[0], ASKED[0], ASKED[1]):
        caches.append((await world.send(path, bodies(path, part, text))).cache)
        await world.settled()
    assert caches == ["MISS", "HIT exact", "MISS"]
    for other in changes(part):
        assert (await world.send(path, bodies(path, other, ASKED[0]))).cache == "MISS"
    assert world.embedder.asked == []


@pytest.mark.parametrize("part", [IMAGE, FILE])
async def test_a_file_that_the_upstream_keeps_does_not_cross_tenants(
    world: World, part: dict[str, Any]
) -> None:
    asked = bodies("/v1/chat/completions", part, "common question about this")
    control = {"X-Nearhit-Category": "common"}
    await world.send("/v1/chat/completions", asked, **control)
    await world.settled()
    assert (await world.send("/v1/chat/completions", asked, key="two", **control)).cache == "MISS"


SHAPES = [
    {
        "type": "json_schema",
        "json_schema": {"name": "n", "schema": {"type": "object", "properties": {key: {}}}},
    }
    for key in "ab"
]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"response_format": SHAPES[0]}, {"response_format": SHAPES[1]}),
        ({"logprobs": True}, {"logprobs": True, "top_logprobs": 2}),
        ({"n": 2}, {"n": 3}),
        ({"modalities": ["text"]}, {"modalities": ["text", "audio"]}),
        ({"audio": {"voice": "alloy"}}, {"audio": {"voice": "ash"}}),
        ({"reasoning_effort": "low"}, {"reasoning_effort": "high"}),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]},
         {"tools": [{"type": "function", "function": {"name": "g"}}]}),
    ],
)  # fmt: skip
async def test_what_shapes_the_answer_must_be_the_same(
    world: World, one: dict[str, Any], other: dict[str, Any]
) -> None:
    first = await world.ask(**one)
    await world.settled()
    for shape, expected in ((one, "HIT semantic"), (other, "MISS"), ({}, "MISS")):
        again = await world.ask("how are you my friend", **shape)
        assert again.cache == expected
        if expected != "MISS":
            assert again.body == first.body
