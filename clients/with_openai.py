from common import KEY, URL, check
from openai import AsyncOpenAI, NotFoundError, OpenAI

client = OpenAI(base_url=URL + "/v1", api_key=KEY)


def asking(model, text):
    return {"model": model, "messages": [{"role": "user", "content": text}]}


def ask(model, text):
    return client.chat.completions.create(**asking(model, text)).choices[0].message.content


def stream(model, text):
    chunks = client.chat.completions.create(**asking(model, text), stream=True)
    return "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)


async def aask(model, text):
    async with AsyncOpenAI(base_url=URL + "/v1", api_key=KEY) as client:
        return (await client.chat.completions.create(**asking(model, text))).choices[0].message.content


async def astream(model, text):
    async with AsyncOpenAI(base_url=URL + "/v1", api_key=KEY) as client:
        chunks = await client.chat.completions.create(**asking(model, text), stream=True)
        return "".join([choice.delta.content or "" async for chunk in chunks for choice in chunk.choices])


check("sync", ask, stream, NotFoundError)
check("async", aask, astream, NotFoundError)
