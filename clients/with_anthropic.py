from anthropic import Anthropic, AsyncAnthropic, NotFoundError
from common import KEY, URL, check

client = Anthropic(base_url=URL, api_key=KEY)


def asking(model, text):
    return {"model": model, "max_tokens": 500, "messages": [{"role": "user", "content": text}]}


def ask(model, text):
    return client.messages.create(**asking(model, text)).content[0].text


def stream(model, text):
    with client.messages.stream(**asking(model, text)) as events:
        return "".join(events.text_stream)


async def aask(model, text):
    async with AsyncAnthropic(base_url=URL, api_key=KEY) as client:
        return (await client.messages.create(**asking(model, text))).content[0].text


async def astream(model, text):
    async with (
        AsyncAnthropic(base_url=URL, api_key=KEY) as client,
        client.messages.stream(**asking(model, text)) as events,
    ):
        return "".join([said async for said in events.text_stream])


check("sync", ask, stream, NotFoundError)
check("async", aask, astream, NotFoundError)
