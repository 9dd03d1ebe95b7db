"""Gemini's API: what separates two calls, and the ways of an answer to a stream and back."""

from __future__ import annotations

import copy
import functools
import itertools
import json
import operator
from collections.abc import Iterator
from typing import Any

import pytest
from gemini import ARRAY, ASKED, EVENTS, MODEL, REWORDED, WHOLE, asking, speaking, turn
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy
from streams import gathered

from policies import storable
from proxy import dialects
from proxy.dialects.base import Usage
from proxy.messages import Call, read_call

# Objects to streams and back

words = st.text(min_size=1, max_size=200) | st.lists(st.text(max_size=5), max_size=30).map(" ".join)
plain = words.map(lambda text: {"text": text})
thought = words.map(lambda text: {"text": text, "thought": True})
signed = words.map(lambda text: {"text": text, "thoughtSignature": "s"})
called = st.dictionaries(st.text(max_size=5), st.integers(), max_size=2).map(
    lambda given: {"functionCall": {"name": "f", "args": given}}
)
image = st.just({"inlineData": {"mimeType": "image/png", "data": "AAAA"}})


def apart(parts: list[Any]) -> bool:
    """No two texts of a kind in a row: in a stream nobody could tell them from one."""
    kinds = [frozenset(part) for part in parts]
    return not any(
        a == b and "text" in a and "thoughtSignature" not in a for a, b in itertools.pairwise(kinds)
    )


parts_of_answers = st.lists(plain | thought | signed | called | image, max_size=5).filter(apart)
candidates = st.lists(
    st.fixed_dictionaries(
        {"content": st.fixed_dictionaries({"role": st.just("model"), "parts": parts_of_answers})},
        optional={"safetyRatings": st.just([{"probability": "LOW"}]), "citationMetadata": st.just({})},
    ),
    min_size=1, max_size=3,
).map(lambda made: [{**each, "index": i, "finishReason": "STOP"} for i, each in enumerate(made)])  # fmt: skip
answers = st.fixed_dictionaries(
    {"candidates": candidates, "usageMetadata": st.just({"promptTokenCount": 3}), "modelVersion": words},
    optional={"responseId": words, "promptFeedback": st.just({})},
)
cuts = st.lists(st.integers(0, 5000), max_size=6)


def as_gathered(answer: dict[str, Any]) -> dict[str, Any]:
    """No parts at all are none that is told."""
    for candidate in answer["candidates"]:
        if not candidate["content"]["parts"]:
            del candidate["content"]["parts"]
    return answer


@pytest.mark.parametrize("target", [EVENTS, ARRAY])
@given(answer=answers, at=cuts)
def test_an_answer_scattered_and_gathered_is_the_same(
    target: str, answer: dict[str, Any], at: list[int]
) -> None:
    stream = b"".join(speaking(target).scatter(answer, {}))
    assert gathered(speaking(target), stream, at) == as_gathered(answer)


def events(*chunks: Any) -> bytes:
    return b"".join(b"data: " + json.dumps(chunk).encode() + b"\r\n\r\n" for chunk in chunks)


def array(*chunks: Any) -> bytes:
    return json.dumps(chunks).encode()


def chunk(*parts: Any, **more: Any) -> dict[str, Any]:
    return {"candidates": [{"content": {"role": "model", "parts": list(parts)}, **more}]}


END = {"finishReason": "STOP"}


@pytest.mark.parametrize("target", [EVENTS, ARRAY])
@pytest.mark.parametrize(
    "chunks",
    [
        [],
        [chunk({"text": "hi"})],
        [chunk({"text": "hi"}), {"error": {"code": 503}}],
        [chunk({"text": "hi"}, **END), {"error": {"code": 503}}],
        [chunk({"text": "one"}, **END), chunk({"text": "the other"}, index=1)],
        [chunk({"functionCall": {"name": "f", "willContinue": True}}, **END)],
        [
            chunk({"text": "hi"}, logprobsResult={"a": 1}),
            chunk({"text": "!"}, **END, logprobsResult={"a": 2}),
        ],
        [{"promptFeedback": {"blockReason": "SAFETY"}}],
        ["text"],
    ],
)
def test_a_stream_that_did_not_end_as_it_should_is_no_answer(target: str, chunks: list[Any]) -> None:
    stream = events(*chunks) if target == EVENTS else array(*chunks)
    assert gathered(speaking(target), stream) is None


@pytest.mark.parametrize(
    "stream",
    [
        b"", b"{broken", b'{"error": {"code": 400}}', b'[{"error": {}}]', b"[" * 5000,
        b'[{"candidates": [{"index": 1e999, "finishReason": "STOP"}]}]',
    ],
)  # fmt: skip
def test_what_is_no_array_is_no_answer(stream: bytes) -> None:
    assert gathered(speaking(ARRAY), stream) is None


@pytest.mark.parametrize("target", [EVENTS, ARRAY])
def test_pieces_grow_and_what_is_signed_stays_by_itself(target: str) -> None:
    chunks = [
        chunk({"text": "Let me", "thought": True}), chunk({"text": " think", "thought": True}),
        {**chunk({"text": "he"}), "usageMetadata": {"promptTokenCount": 1}},
        chunk({"text": "llo"}, safetyRatings=[1]),
        {**chunk({"text": "", "thoughtSignature": "s"}, **END), "usageMetadata": {"promptTokenCount": 2}},
    ]  # fmt: skip
    answer = gathered(speaking(target), events(*chunks) if target == EVENTS else array(*chunks))
    assert answer == {
        "candidates": [
            {
                "content": {
                    "role": "model",
                    "parts": [
                        {"text": "Let me think", "thought": True}, {"text": "hello"},
                        {"text": "", "thoughtSignature": "s"},
                    ],
                },
                "safetyRatings": [1],
                "finishReason": "STOP",
            }
        ],
        "usageMetadata": {"promptTokenCount": 2},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("candidates", "why"),
    [
        ([chunk({"text": "hi"}, **END)], None),
        ([chunk({"functionCall": {"name": "f"}}, **END)], None),
        ([chunk({"text": "hi"}, **END), chunk({"text": "ho"}, finishReason="SAFETY")], "ended-early"),
        ([chunk({"text": "hi"}, finishReason="MAX_TOKENS")], "ended-early"),
        ([chunk({"text": "hi"})], "ended-early"),
        ([chunk({"text": "hm", "thought": True}, **END)], "empty"),
        ([chunk(**END)], "empty"),
        ([chunk({"text": "hi"}, **END), chunk(**END)], "empty"),
        ([{"candidates": [{"content": "hi", **END}]}], "incomplete"),
        ([{"candidates": [{"content": {"parts": ["hi"]}, **END}]}], "incomplete"),
        ([], "incomplete"),
    ],
)
def test_only_what_ended_whole_and_well_is_storable(candidates: list[Any], why: str | None) -> None:
    answer = {"candidates": [each for one in candidates for each in one["candidates"]]}
    assert storable.objection(200, speaking(WHOLE).ending(answer)) == why


def test_an_answer_that_reports_an_error_is_not_storable() -> None:
    answer = chunk({"text": "hi"}, **END) | {"error": {"code": 500}}
    assert storable.objection(200, speaking(WHOLE).ending(answer)) == "incomplete"


def test_an_answer_that_was_blocked_is_not_storable() -> None:
    blocked = {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {}}
    assert storable.objection(200, speaking(WHOLE).ending(blocked)) == "incomplete"


def test_tokens_are_counted_with_thoughts() -> None:
    told = {"promptTokenCount": 3, "candidatesTokenCount": 4, "thoughtsTokenCount": 5, "totalTokenCount": 12}
    assert speaking(WHOLE).usage({"usageMetadata": told}) == Usage(3, 9)
    assert speaking(WHOLE).usage({"usageMetadata": {**told, "toolUsePromptTokenCount": 2}}) == Usage(5, 9)
    assert speaking(WHOLE).usage({"usageMetadata": {"promptTokenCount": "many"}}) == Usage()
    assert speaking(WHOLE).usage({}) == Usage()


@pytest.mark.parametrize(("status", "name"), [(429, "RESOURCE_EXHAUSTED"), (504, "DEADLINE_EXCEEDED")])
def test_our_errors_have_googles_names(status: int, name: str) -> None:
    assert json.loads(speaking(WHOLE).error(status, "code", "x"))["error"]["status"] == name


def test_every_chunk_says_of_which_answer_it_is() -> None:
    answer = chunk({"text": "word " * 100}, **END) | {"responseId": "r", "modelVersion": "m"}
    told = json.loads(b"".join(speaking(ARRAY).scatter(answer, {})))
    assert len(told) > 2
    assert {(each["responseId"], each["modelVersion"]) for each in told} == {("r", "m")}


def test_what_an_answer_says_is_without_its_thoughts() -> None:
    parts = [
        {"text": "hm", "thought": True},
        {"text": "yes"},
        {"functionCall": {"name": "f", "args": {"a": 1}}},
    ]
    assert speaking(WHOLE).said(chunk(*parts)) == 'yes\nf {"a": 1}'


# What separates two calls


def call(body: Any = None, target: str = WHOLE, **headers: str) -> Call:
    data = json.dumps(asking() if body is None else body).encode()
    brought = CIMultiDictProxy(
        CIMultiDict({name.replace("_", "-"): value for name, value in headers.items()})
    )
    made = read_call(speaking(target), target, brought, data, "t")
    assert made is not None
    return made


def same(a: Call, b: Call) -> bool:
    return a.exact("t") == b.exact("t")


def alike(a: Call, b: Call) -> bool:
    return a.partition("t") == b.partition("t")


@pytest.mark.parametrize(
    "target",
    [
        EVENTS, ARRAY, f"{ARRAY}?alt=json", f"{WHOLE}?alt=json", f"{WHOLE}?key=secret",
        f"{EVENTS}&key=secret", f"{WHOLE}?access_token=secret", WHOLE.replace(":", "%3A"),
        WHOLE.replace("demo", "%64emo"),
    ],
)  # fmt: skip
def test_the_way_of_sending_is_no_identity(target: str) -> None:
    assert same(call(), call(target=target))


@pytest.mark.parametrize(
    "target",
    [
        WHOLE.replace("demo-chat", "demo"), WHOLE.replace("v1beta", "v1"), WHOLE.replace("v1beta", "v1alpha"),
        f"{WHOLE}?fields=candidates", f"{WHOLE}?prettyPrint=false", f"{WHOLE}?other", f"{EVENTS}&quotaUser=a",
        WHOLE.replace("demo-chat", "demo-chat%3Fa=b"),
    ],
)  # fmt: skip
def test_everything_else_in_path_and_query_is(target: str) -> None:
    assert not alike(call(), call(target=target))


def test_a_mask_of_fields_is_identity() -> None:
    assert not alike(call(), call(x_goog_fieldmask="candidates.content"))
    assert same(call(), call(x_goog_api_client="genai/1.0"))


@pytest.mark.parametrize(
    "target",
    [
        f"{MODEL}:countTokens", f"{MODEL}:embedContent", MODEL, f"{WHOLE}?alt=sse", f"{WHOLE}?alt=proto",
        f"{EVENTS}&alt=json", f"{ARRAY}?$alt=proto", "/v1beta/tunedModels/a:generateContent",
        "/v1beta/models/a/b:generateContent", "/v1beta/models%2Fa:generateContent",
        "/v2/models/a:generateContent", "/v1/models/%FF:generateContent",
        f"/v1beta/models/{'a' * 513}:generateContent", "/v1beta/models/:generateContent",
    ],
)  # fmt: skip
def test_what_passes_through(target: str) -> None:
    assert dialects.of("POST", target) is None
    assert dialects.of("GET", WHOLE) is None


def test_the_last_text_is_fuzzy_and_nothing_else() -> None:
    before = [turn("user", {"text": "hello"}), turn("model", {"text": "hi"})]
    base = call(asking(ASKED, *before))
    assert base.text == ASKED
    assert alike(base, call(asking(REWORDED, *before)))
    assert not same(base, call(asking(REWORDED, *before)))
    assert not alike(base, call(asking(ASKED)))
    assert not alike(base, call(asking(ASKED, turn("user", {"text": "hallo"}), before[1])))
    two = [{"text": "a"}, {"text": "b"}]
    assert call({"contents": [turn("user", *two)]}).text == "b"
    assert not alike(call({"contents": [turn("user", *two)]}), call({"contents": [turn("user", two[1])]}))


@pytest.mark.parametrize(
    "more",
    [
        {"systemInstruction": {"parts": [{"text": "Be brief."}]}},
        {"generationConfig": {"candidateCount": 2}},
        {"generationConfig": {"temperature": 1}}, {"tools": [{"functionDeclarations": [{"name": "f"}]}]},
        {"toolConfig": {}}, {"safetySettings": []}, {"cachedContent": "cachedContents/1"}, {"labels": {}},
        {"stream": True}, {"model": "models/other"},
    ],
)  # fmt: skip
def test_every_other_member_is_identity(more: dict[str, Any]) -> None:
    assert not alike(call(), call(asking(**more)))


parts = st.sampled_from(
    [{"text": "a"}, {"text": "b"}, {"inlineData": {"data": "AA"}}, {"functionCall": {"args": {"a": 1}}}]
).map(copy.deepcopy)
turns = st.fixed_dictionaries(
    {"parts": st.lists(parts, min_size=1, max_size=3)},
    optional={"role": st.sampled_from(["user", "model"]), "new": st.just("a")},
)
members = st.fixed_dictionaries(
    {"contents": st.lists(turns, min_size=1, max_size=3)},
    optional={
        "systemInstruction": turns, "generationConfig": st.just({"temperature": 0.5, "stopSequences": ["a"]}),
        "tools": st.just([{"functionDeclarations": [{"name": "f"}]}]), "new": st.just({"a": [None, True]}),
    },
)  # fmt: skip


def leaves(value: Any, *at: Any) -> Iterator[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    if not isinstance(value, dict | list):
        yield at
    for key, each in inner:
        yield from leaves(each, *at, key)


def with_leaf(value: Any, at: tuple[Any, ...], new: Any) -> Any:
    changed = copy.deepcopy(value)
    holder = functools.reduce(operator.getitem, at[:-1], changed)
    holder[at[-1]] = new
    return changed


@given(members)
def test_whatever_is_changed_but_the_last_text_makes_another_question(body: dict[str, Any]) -> None:
    base, fuzzy = call(body), ("contents", len(body["contents"]) - 1, "parts")
    for at in leaves(body):
        other = call(with_leaf(body, at, "something else"))
        last = at[:3] == fuzzy and at[3] == len(body["contents"][-1]["parts"]) - 1
        assert alike(base, other) == (last and base.text is not None)
        assert not same(base, other)


@pytest.mark.parametrize(
    ("contents", "opaque"),
    [
        ([turn("user", {"text": "x"})], ""),
        ({"parts": {"text": "x"}}, ""),
        ([{"parts": [{"text": "x"}]}], ""),
        ([turn("model", {"text": "x"})], "last-turn"),
        ([turn("function", {"text": "x"})], "last-turn"),
        ([turn("user", {"text": " "})], "empty"),
        ([turn("user", {"text": "\ud800"})], "not-unicode"),
        ([turn("user")], "media"),
        ([turn("user", "x")], "media"),
        ([turn("user", {"text": 5})], "media"),
        ([turn("user", {"type": "text", "text": "x"})], "media"),
        ([turn("user", {"text": "x", "thought": True})], "media"),
        ([turn("user", {"inlineData": {}}, {"text": "x"})], "media"),
        ([turn("user", {"inline_data": {}}, {"text": "x"})], "media"),
        ([turn("user", {"fileData": {"fileUri": "u"}}, {"text": "x"})], "media"),
        ([turn("model", {"functionCall": {"name": "f"}}), turn("user", {"text": "x"})], "media"),
        ([turn("user", {"functionResponse": {"name": "f", "response": {}}})], "media"),
    ],
)
def test_what_is_fuzzy(contents: Any, opaque: str) -> None:
    reading = speaking(WHOLE).read({"contents": contents})
    assert (reading.opaque, reading.text is None) == (opaque, bool(opaque))
    assert reading.tied == (opaque == "media")


@pytest.mark.parametrize("contents", [None, [], "x", ["x"], [None], 5])
def test_what_is_no_call_is_left_to_the_upstream(contents: Any) -> None:
    assert speaking(WHOLE).read({"contents": contents}) is None


@pytest.mark.parametrize(
    ("tools", "barred"),
    [
        ([], ""), (None, ""), ([{"functionDeclarations": [{"name": "f"}]}], ""),
        ([{"function_declarations": []}], ""),
        ([{"computerUse": {"environment": "ENVIRONMENT_BROWSER"}}], ""),
        ([{"googleSearch": {}}], "hosted-tools"), ([{"google_search": {}}], "hosted-tools"),
        ({"codeExecution": {}}, "hosted-tools"),
        ([{"functionDeclarations": [], "urlContext": {}}], "hosted-tools"),
        (["odd"], "hosted-tools"),
    ],
)  # fmt: skip
def test_tools_that_run_at_the_upstream_bar(tools: Any, barred: str) -> None:
    assert speaking(WHOLE).read(asking(tools=tools)).barred == barred


@pytest.mark.parametrize(
    ("more", "tied"),
    [
        ({}, False), ({"cachedContent": "cachedContents/1"}, True),
        ({"cached_content": "cachedContents/1"}, True),
        ({"systemInstruction": {"parts": [{"text": "a"}]}}, False),
        ({"system_instruction": {"parts": {"text": "a"}}}, False),
        ({"system_instruction": {"parts": [{"fileData": {"fileUri": "u"}}]}}, True),
    ],
)  # fmt: skip
def test_what_the_upstream_keeps_for_a_caller_stays_with_that_caller(
    more: dict[str, Any], tied: bool
) -> None:
    assert speaking(WHOLE).read(asking(**more)).tied == tied
