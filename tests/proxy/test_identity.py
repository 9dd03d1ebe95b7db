"""What separates two calls, and what does not."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from proxy import dialects
from proxy.dialects import openai_chat, openai_completions
from proxy.dialects.base import Reading
from proxy.errors import BadRequest
from proxy.messages import Ambiguous, Call, read_call, tenant_digest

BODY: dict[str, Any] = {
    "model": "m",
    "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "How are you?"}],
}


def call(body: Any = BODY, target: str = "/v1/chat/completions", **headers: str) -> Call:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    pairs = [(name.replace("_", "-"), value) for name, value in headers.items()]
    made = read_call(openai_chat, target, CIMultiDictProxy(CIMultiDict(pairs)), data, "t")
    assert made is not None
    return made


def changed(**changes: Any) -> dict[str, Any]:
    return copy.deepcopy(BODY) | changes


def with_text(text: str, earlier: str = "Be brief.") -> dict[str, Any]:
    return changed(messages=[{"role": "system", "content": earlier}, {"role": "user", "content": text}])


def same(a: Call, b: Call) -> bool:
    assert (a.exact("t") == b.exact("t")) <= (a.partition("t") == b.partition("t"))
    return a.exact("t") == b.exact("t")


def alike(a: Call, b: Call) -> bool:
    return a.partition("t") == b.partition("t")


def test_the_last_user_text_is_fuzzy_and_nothing_else() -> None:
    assert call().text == "How are you?"
    assert alike(call(), call(with_text("How do you do?")))
    assert not same(call(), call(with_text("How do you do?")))
    assert not alike(call(), call(with_text("How are you?", earlier="Be verbose.")))


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "n"}, {"temperature": 0.5}, {"n": 2}, {"seed": 1}, {"user": "x"}, {"tools": []},
        {"response_format": {"type": "json_object"}}, {"max_tokens": 5}, {"whatever": None},
        {"logprobs": True},
    ],
)  # fmt: skip
def test_every_other_member_is_identity(changes: dict[str, Any]) -> None:
    assert not alike(call(), call(changed(**changes)))


def test_streaming_is_not_identity() -> None:
    streamed = changed(stream=True, stream_options={"include_usage": True})
    assert same(call(), call(streamed))
    assert same(call(), call(changed(stream=False)))
    assert call(streamed).reading.stream


def test_who_says_the_last_text_is_identity() -> None:
    def named(name: str) -> Call:
        return call(changed(messages=[{"role": "user", "content": "How are you?", "name": name}]))

    assert alike(named("ada"), named("ada"))
    assert not alike(named("ada"), named("bob"))


def test_an_answer_that_the_upstream_keeps_as_sound_ties_what_follows_to_its_caller() -> None:
    spoken = {"role": "assistant", "content": None, "audio": {"id": "audio_1"}}
    made = call(changed(messages=[spoken, {"role": "user", "content": "Go on."}]))
    assert (made.text, made.reading.opaque, made.reading.tied) == (None, "media", True)


def test_a_deployment_of_azures_is_the_model_whatever_the_body_says() -> None:
    def deployed(name: str, model: str) -> Reading:
        dialect = dialects.of("POST", f"/openai/deployments/{name}/chat/completions")
        assert dialect is not None
        reading = dialect.read(changed(model=model))
        assert reading is not None
        return reading

    assert deployed("a%20b", "m").model == "a b"
    assert deployed("a", "m").identity == deployed("a", "m").identity != deployed("a", "n").identity
    assert dialects.of("POST", "/v1/chat/c%6Fmpletions") is dialects.of("POST", "/v1/chat/completions")
    assert dialects.of("POST", "/openai/deployments/%FF/chat/completions") is None


def test_order_and_spacing_are_not_identity() -> None:
    shuffled = json.dumps(dict(reversed(BODY.items())), indent=2).encode()
    assert same(call(), call(shuffled))
    assert same(call(with_text("ü")), call(json.dumps(with_text("ü"), ensure_ascii=False).encode()))


def test_tenants_paths_and_organisations_are_identity() -> None:
    one = call()
    assert one.exact("t") != one.exact("u")
    assert one.partition("t") != one.partition("u")
    assert not alike(one, call(target="/v1/chat/completions?api-version=2"))
    assert not alike(one, call(OpenAI_Organization="o"))
    assert not alike(one, call(X_Nearhit_Namespace="n"))
    assert not alike(call(x_portkey_provider="openai"), call(x_portkey_provider="anthropic"))


@pytest.mark.parametrize(
    "name",
    [
        "OpenAI-Beta", "anthropic-version", "X-Goog-FieldMask", "Groq-Model-Version", "x-litellm-tags",
        "x-pass-anthropic-beta", "x-portkey-provider", "x-portkey-azure-deployment-id",
        "x-portkey-aws-region", "x-portkey-strict-open-ai-compliance", "Helicone-Target-URL",
        "Helicone-OpenAI-Api-Base", "Helicone-Fallbacks", "Helicone-LLM-Security-Enabled",
        "cf-aig-byok-alias", "cf-aig-gateway-id",
        "X-Amzn-Bedrock-GuardrailIdentifier", "X-Amzn-Bedrock-GuardrailVersion", "X-Amzn-Bedrock-Trace",
        "x-bf-api-key", "x-bf-mcp-include-tools", "x-bf-prompt-id", "x-bf-eh-anthropic-beta",
    ],
)  # fmt: skip
def test_a_header_that_chooses_who_answers_or_how_is_identity(name: str) -> None:
    free, paid = (call(**{name: value}) for value in ("free", "paid"))
    assert not alike(free, paid)
    assert not alike(free, call())
    assert same(free, call(**{name.swapcase(): "free"}))
    assert same(free, call(**{"User-Agent": "x", name: "free"}))


def test_every_line_of_an_identity_header_counts() -> None:
    def asking(*betas: str) -> Call:
        headers = CIMultiDictProxy(CIMultiDict(("anthropic-beta", beta) for beta in betas))
        made = read_call(openai_chat, "/v1/chat/completions", headers, json.dumps(BODY).encode(), "t")
        assert made is not None
        return made

    assert same(asking("one", "two"), asking("one", "two"))
    assert not alike(asking("one", "two"), asking("one", "three"))


def test_identity_headers_may_come_in_any_order() -> None:
    pairs = {"x-litellm-tags": "free", "anthropic-version": "1", "openai-beta": "x"}
    assert same(call(**pairs), call(**dict(reversed(pairs.items()))))


@pytest.mark.parametrize(
    "name",
    [
        "traceparent", "baggage", "x-request-id", "x-stainless-retry-count", "X-Title", "HTTP-Referer",
        "x-session-id", "x-litellm-session-id", "x-litellm-trace-id", "x-litellm-timeout",
        "x-litellm-customer-id", "x-litellm-spend-logs-metadata", "x-litellm-num-retries",
        "x-portkey-trace-id", "x-portkey-span-id", "x-portkey-parent-span-id", "x-portkey-span-name",
        "x-portkey-metadata", "x-portkey-debug", "x-portkey-request-timeout", "x-portkey-sensitive-headers",
        "Helicone-Request-Id", "Helicone-User-Id", "Helicone-Session-Id", "Helicone-Property-Conversation",
        "Helicone-Prompt-Id", "Helicone-Model-Override", "Helicone-Retry-Num", "Helicone-RateLimit-Policy",
        "cf-aig-metadata", "cf-aig-event-id", "cf-aig-collect-log", "cf-aig-custom-cost",
        "cf-aig-request-timeout", "x-bf-session-id", "x-bf-dim-team", "x-bf-prom-team", "x-bf-maxim-trace-id",
        "x-bf-customer-id", "x-bf-eh-correlation-id", "X-Amzn-Bedrock-Request-Metadata", "X-Amzn-Trace-Id",
        "x-portkey-api-key", "x-bf-vk",
    ],
)  # fmt: skip
def test_a_header_for_logs_timing_or_credentials_is_not(name: str) -> None:
    """Credentials separate tenants, and their categories may be shared."""
    assert same(call(**{name: "one"}), call(**{name: "other"}))
    assert same(call(**{name: "one"}), call())


def test_numbers_keep_their_writing_apart() -> None:
    assert not alike(call(changed(temperature=1)), call(changed(temperature=1.0)))
    big = 2**70
    assert not alike(call(changed(seed=big)), call(changed(seed=big + 1)))


TEXT = {"type": "text", "text": "x"}
IMAGE: dict[str, Any] = {"type": "image_url", "image_url": {}}


@pytest.mark.parametrize(
    ("messages", "why"),
    [
        ([{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}], "last-turn"),
        ([{"role": "tool", "tool_call_id": "1", "content": "42"}], "last-turn"),
        ([{"role": "user", "content": [TEXT, IMAGE]}], "media"),
        ([{"role": "user", "content": [IMAGE, TEXT]}], "media"),
        ([{"role": "user", "content": [{"type": "input_audio"}]}, {"role": "user", "content": "x"}], "media"),
        ([{"role": "user", "content": " "}], "empty"),
        ([{"role": "user", "content": None}], "media"),
    ],
)  # fmt: skip
def test_what_may_only_match_to_the_letter(messages: list[Any], why: str) -> None:
    made = call(changed(messages=messages))
    assert made.text is None
    assert made.reading.opaque == why


def test_an_image_stays_part_of_the_identity() -> None:
    def with_image(url: str) -> Call:
        image = {"type": "image_url", "image_url": {"url": url}}
        return call(
            changed(messages=[{"role": "user", "content": [image, {"type": "text", "text": "What?"}]}])
        )

    assert not same(with_image("a"), with_image("b"))
    assert same(with_image("a"), with_image("a"))


def test_of_several_text_parts_only_the_last_is_fuzzy() -> None:
    def parts(*texts: str) -> Call:
        content = [{"type": "text", "text": text} for text in texts]
        return call(changed(messages=[{"role": "user", "content": content}]))

    assert parts("document", "question").text == "question"
    assert alike(parts("document", "question"), parts("document", "query"))
    assert not alike(parts("document", "question"), parts("other", "question"))


def test_a_text_that_looks_like_its_own_gap_is_no_gap() -> None:
    gap = changed(messages=[BODY["messages"][0], {"role": "user", "content": None}])
    assert not same(call(gap), call(with_text("\0")))


@pytest.mark.parametrize("body", [b"", b"{", b"nonsense", b'{"a": NaN}', b"\xff\xfe"])
def test_what_is_not_json_is_the_callers_mistake(body: bytes) -> None:
    with pytest.raises(BadRequest):
        call(body)


def test_doubled_members_are_ambiguous() -> None:
    with pytest.raises(Ambiguous):
        call(b'{"model": "a", "model": "b", "messages": [{"role": "user", "content": "x"}]}')


@pytest.mark.parametrize(
    "body", [[], "x", {}, {"model": "m"}, changed(messages=[]), changed(messages="x"), changed(model=1),
             changed(messages=["x"]), changed(stream="yes"), changed(stream_options="x")],
)  # fmt: skip
def test_what_the_api_would_refuse_is_left_to_the_api(body: Any) -> None:
    assert (
        read_call(openai_chat, "/", CIMultiDictProxy(CIMultiDict()), json.dumps(body).encode(), "t") is None
    )


def test_litellms_cache_object_is_a_control_and_goes_no_further() -> None:
    made = call(changed(cache={"no-store": True}))
    assert not made.controls.write
    assert b"no-store" not in made.body
    assert same(made, call())


def test_a_cache_member_of_another_meaning_stays_where_it_is() -> None:
    assert b'"v1"' in call(changed(cache="v1")).body
    assert not alike(call(changed(cache="v1")), call(changed(cache="v2")))


def test_a_tenants_digest_does_not_tell_its_key() -> None:
    assert "sk-secret" not in tenant_digest("Authorization: Bearer sk-secret")
    assert tenant_digest("a") != tenant_digest("b")


words = st.text(min_size=1, max_size=30).filter(lambda text: text.strip())


@given(words, words)
def test_two_texts_are_the_same_only_if_they_are(a: str, b: str) -> None:
    assert same(call(with_text(a)), call(with_text(b))) == (a == b)
    assert alike(call(with_text(a)), call(with_text(b)))


@given(st.lists(words, min_size=1, max_size=4), st.lists(words, min_size=1, max_size=4))
def test_earlier_turns_must_match_exactly(a: list[str], b: list[str]) -> None:
    def conversation(turns: list[str]) -> Call:
        earlier = [{"role": "assistant", "content": turn} for turn in turns]
        return call(changed(messages=[*earlier, {"role": "user", "content": "Go on."}]))

    assert alike(conversation(a), conversation(b)) == (a == b)


@pytest.mark.parametrize(
    ("changes", "barred"),
    [
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, ""),
        ({"tools": [{"type": "web_search"}]}, "hosted-tools"),
        ({"tools": [{"type": ["odd"]}]}, "hosted-tools"),
        ({"web_search_options": {"search_context_size": "low"}}, "hosted-tools"),
        ({"web_search_options": {}}, "hosted-tools"),
        ({"web_search_options": None}, ""),
        ({"search_parameters": {}}, "hosted-tools"),
        ({"enable_search": True}, "hosted-tools"),
        ({"enable_search": False}, ""),
        ({"plugins": [{"id": "web"}]}, "hosted-tools"),
        ({"plugins": []}, ""),
        ({"data_sources": [{"type": "azure_search"}]}, "hosted-tools"),
        ({"model": "openai/gpt-4o:online"}, "hosted-tools"),
        ({"model": "gpt-4o-mini-search-preview-2025-03-11"}, "hosted-tools"),
        ({"model": "gpt-5-search-api"}, "hosted-tools"),
        ({"model": "perplexity/sonar-pro"}, "hosted-tools"),
        ({"model": "groq/compound-mini"}, "hosted-tools"),
        ({"model": "my-research-model"}, ""),
        ({"model": "qwen-online-7b"}, ""),
    ],
)
def test_what_the_upstream_looks_up_while_it_answers_is_not_cached(changes: Any, barred: str) -> None:
    assert call(changed(**changes)).reading.barred == barred
    prompted = openai_completions.read({"model": "m", "prompt": "How are you?", **changes})
    assert prompted is not None
    assert prompted.barred == barred
