from anthropic import NotFoundError
from common import KEY, URL, check
from langchain_anthropic import ChatAnthropic


def chat(model):
    return ChatAnthropic(model=model, base_url=URL, api_key=KEY, max_tokens=500)


def ask(model, text):
    return chat(model).invoke(text).text


def stream(model, text):
    return "".join(chunk.text for chunk in chat(model).stream(text))


async def aask(model, text):
    return (await chat(model).ainvoke(text)).text


async def astream(model, text):
    return "".join([chunk.text async for chunk in chat(model).astream(text)])


check("sync", ask, stream, NotFoundError)
check("async", aask, astream, NotFoundError)
