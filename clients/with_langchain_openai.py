from common import KEY, URL, check
from langchain_openai import ChatOpenAI
from openai import NotFoundError


def chat(model):
    return ChatOpenAI(model=model, base_url=URL + "/v1", api_key=KEY)


def ask(model, text):
    return chat(model).invoke(text).content


def stream(model, text):
    return "".join(chunk.content for chunk in chat(model).stream(text))


async def aask(model, text):
    return (await chat(model).ainvoke(text)).content


async def astream(model, text):
    return "".join([chunk.content async for chunk in chat(model).astream(text)])


check("sync", ask, stream, NotFoundError)
check("async", aask, astream, NotFoundError)
