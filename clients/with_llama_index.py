from common import KEY, URL, check
from llama_index.llms.openai_like import OpenAILike
from openai import NotFoundError


def chat(model):
    return OpenAILike(model=model, api_base=URL + "/v1", api_key=KEY, is_chat_model=True)


def ask(model, text):
    return chat(model).complete(text).text


def stream(model, text):
    return "".join(chunk.delta for chunk in chat(model).stream_complete(text))


async def aask(model, text):
    return (await chat(model).acomplete(text)).text


async def astream(model, text):
    return "".join([chunk.delta async for chunk in await chat(model).astream_complete(text)])


check("sync", ask, stream, NotFoundError)
check("async", aask, astream, NotFoundError)
