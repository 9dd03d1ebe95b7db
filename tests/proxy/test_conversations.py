"""Conversations with the real `openai` package: what was said before decides whose answer it is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from world import World

Message = dict[str, Any]

FOLLOW_UP = "and now the same thing in python please"
REWORDED = "and now the same in python please"
"""Seven of eight words: near enough at the threshold of 0.8."""
TOOL: Message = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


@pytest.fixture
async def sdk(world: World) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=world.url + "/v1", api_key="one", max_retries=0) as client:
        yield client


@pytest.fixture(params=[False, True], ids=["json", "stream"])
def stream(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


class Talk:
    """Asks through the SDK and tells what the cache did: `HIT exact`, `MISS` ..."""

    def __init__(self, sdk: openai.AsyncOpenAI, world: World, stream: bool) -> None:
        self._sdk = sdk
        self._world = world
        self._stream = stream

    async def __call__(self, *messages: Message, **options: Any) -> str:
        return (await self.say(*messages, **options))[0]

    async def say(self, *messages: Message, **options: Any) -> tuple[str, str]:
        """With the text of the answer."""
        body: Any = {"model": "demo-chat", "messages": list(messages), "stream": self._stream, **options}
        raw = await self._sdk.chat.completions.with_raw_response.create(**body)
        text = await _text(raw.parse())
        await self._world.settled()
        return f"{raw.headers['x-cache']} {raw.headers.get('x-cache-tier', '')}".strip(), text


async def _text(answer: Any) -> str:
    if hasattr(answer, "choices"):
        return answer.choices[0].message.content or ""
    return "".join([c.choices[0].delta.content or "" async for c in answer if c.choices])


@pytest.fixture
def talk(sdk: openai.AsyncOpenAI, world: World, stream: bool) -> Talk:
    return Talk(sdk, world, stream)


def user(content: Any) -> Message:
    return {"role": "user", "content": content}


def assistant(content: str) -> Message:
    return {"role": "assistant", "content": content}


def system(content: str) -> Message:
    return {"role": "system", "content": content}


async def test_a_follow_up_depends_on_what_it_follows(talk: Talk) -> None:
    sorting = (user("sort a list of numbers in rust"), assistant("Use sort()."))
    reading = (user("read a file by lines in rust"), assistant("Use BufReader."))
    assert await talk(*sorting, user(FOLLOW_UP)) == "MISS"
    assert await talk(*reading, user(FOLLOW_UP)) == "MISS"
    assert await talk(user(FOLLOW_UP)) == "MISS"
    assert await talk(*sorting, user(FOLLOW_UP)) == "HIT exact"
    assert await talk(*reading, user(REWORDED)) == "HIT semantic"


async def test_each_history_gets_its_own_answer_back(talk: Talk) -> None:
    histories = [(user(f"tell me about {topic}"), assistant("Gladly.")) for topic in ("cats", "dogs", "owls")]
    first = [await talk.say(*history, user(FOLLOW_UP)) for history in histories]
    again = [await talk.say(*history, user(REWORDED)) for history in histories]
    assert [cache for cache, _ in first] == ["MISS"] * 3
    assert [cache for cache, _ in again] == ["HIT semantic"] * 3
    assert [text for _, text in again] == [text for _, text in first]
    assert len({text for _, text in first}) == 3


async def test_what_the_model_said_before_counts_too(talk: Talk) -> None:
    asked = user("which of the two would you take")
    assert await talk(asked, assistant("The first."), user("why is that so then")) == "MISS"
    assert await talk(asked, assistant("The second."), user("why is that so then")) == "MISS"


async def test_a_whole_conversation_repeats_turn_by_turn(talk: Talk) -> None:
    async def conversation() -> list[str]:
        history: list[Message] = []
        caches = []
        for question in ("how do i sort a list of names", FOLLOW_UP, "which of them is the faster one"):
            history.append(user(question))
            cache, text = await talk.say(*history)
            history.append(assistant(text))
            caches.append(cache)
        return caches

    assert await conversation() == ["MISS"] * 3
    assert await conversation() == ["HIT exact"] * 3


@pytest.mark.parametrize("role", ["system", "developer"])
async def test_other_instructions_are_another_conversation(talk: Talk, role: str) -> None:
    polite, terse = ({"role": role, "content": text} for text in ("Be polite.", "Be very terse."))
    assert await talk(polite, user(FOLLOW_UP)) == "MISS"
    assert await talk(terse, user(FOLLOW_UP)) == "MISS"
    assert await talk(terse, user(REWORDED)) == "HIT semantic"
    assert await talk(user(FOLLOW_UP)) == "MISS"


async def test_who_says_it_counts(talk: Talk) -> None:
    text = "Answer in French from now on."
    for role in ("system", "developer", "user", "assistant"):
        assert await talk({"role": role, "content": text}, user(FOLLOW_UP)) == "MISS"


async def test_instructions_changed_on_the_way(talk: Talk) -> None:
    turns = (user("tell me a story of the sea"), assistant("Once upon a time."))
    assert await talk(system("Rhyme."), *turns, user(FOLLOW_UP)) == "MISS"
    assert await talk(system("Rhyme."), *turns, system("Stop rhyming."), user(FOLLOW_UP)) == "MISS"


def with_tool_result(result: str, question: str = "what is the weather in oslo") -> tuple[Message, ...]:
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"oslo"}'}}
    return (
        user(question),
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": result},
    )


async def test_a_tool_result_matches_only_to_the_letter(talk: Talk) -> None:
    assert (
        await talk(*with_tool_result("it rains here all day today"), tools=[TOOL], tool_choice="none")
        == "MISS"
    )
    assert await talk(*with_tool_result("it rains here all day"), tools=[TOOL], tool_choice="none") == "MISS"
    same = with_tool_result("it rains here all day today")
    assert await talk(*same, tools=[TOOL], tool_choice="none") == "HIT exact"


async def test_a_question_after_tool_results_may_be_reworded_but_not_the_results(talk: Talk) -> None:
    rain, sun = (
        (*with_tool_result(text), assistant("I looked it up.")) for text in ("rain all day", "sun all day")
    )
    assert await talk(*rain, user(FOLLOW_UP)) == "MISS"
    assert await talk(*sun, user(FOLLOW_UP)) == "MISS"
    assert await talk(*rain, user(REWORDED)) == "HIT semantic"


async def test_other_tools_are_another_call(talk: Talk) -> None:
    other = {**TOOL, "function": {**TOOL["function"], "name": "tides"}}
    assert await talk(user(FOLLOW_UP), tools=[TOOL], tool_choice="none") == "MISS"
    assert await talk(user(FOLLOW_UP), tools=[other], tool_choice="none") == "MISS"
    assert await talk(user(FOLLOW_UP)) == "MISS"


def picture(name: str, text: str = "what can be seen in this picture here") -> Message:
    url = {"url": f"https://example.com/{name}.png"}
    return user([{"type": "text", "text": text}, {"type": "image_url", "image_url": url}])


async def test_an_image_matches_only_to_the_letter(talk: Talk) -> None:
    assert await talk(picture("cat")) == "MISS"
    assert await talk(picture("dog")) == "MISS"
    assert await talk(picture("cat", "what can be seen in this picture")) == "MISS"
    assert await talk(picture("cat")) == "HIT exact"


async def test_an_image_in_an_earlier_turn_keeps_the_last_one_to_the_letter(talk: Talk) -> None:
    turns = (picture("cat"), assistant("A cat."))
    assert await talk(*turns, user(FOLLOW_UP)) == "MISS"
    assert await talk(*turns, user(REWORDED)) == "MISS"
    assert await talk(*turns, user(FOLLOW_UP)) == "HIT exact"


async def test_text_in_parts_may_only_differ_in_the_last(talk: Talk) -> None:
    def in_parts(context: str, question: str) -> Message:
        return user([{"type": "text", "text": context}, {"type": "text", "text": question}])

    assert await talk(in_parts("The contract says: thirty days.", FOLLOW_UP)) == "MISS"
    assert await talk(in_parts("The contract says: sixty days.", FOLLOW_UP)) == "MISS"
    assert await talk(in_parts("The contract says: sixty days.", REWORDED)) == "HIT semantic"


async def test_a_begun_answer_matches_only_to_the_letter(talk: Talk) -> None:
    """A conversation that ends with the assistant's words asks for their continuation."""
    begun = (user(FOLLOW_UP), assistant("Certainly, here is the first"))
    assert await talk(user(FOLLOW_UP)) == "MISS"
    assert await talk(*begun) == "MISS"
    assert await talk(user(FOLLOW_UP), assistant("Certainly, here is the")) == "MISS"
    assert await talk(user(REWORDED), begun[1]) == "MISS"
    assert await talk(*begun) == "HIT exact"


async def test_names_of_speakers_count(talk: Talk) -> None:
    assert await talk({**user(FOLLOW_UP), "name": "anna"}) == "MISS"
    assert await talk({**user(FOLLOW_UP), "name": "bert"}) == "MISS"
    assert await talk({**user(REWORDED), "name": "bert"}) == "HIT semantic"


async def test_streamed_or_not_a_conversation_is_the_same(world: World, sdk: openai.AsyncOpenAI) -> None:
    turns = (user("sort a list of numbers in rust"), assistant("Use sort()."))
    whole, streamed = Talk(sdk, world, False), Talk(sdk, world, True)
    _, first = await streamed.say(*turns, user(FOLLOW_UP))
    assert await whole.say(*turns, user(REWORDED)) == ("HIT semantic", first)
    assert await streamed.say(*turns, user(FOLLOW_UP)) == ("HIT exact", first)
