import litellm
from common import KEY, URL, check

APIS = {"openai": URL + "/v1", "anthropic": URL}


def asking(api, model, text):
    messages = [{"role": "user", "content": text}]
    return {"model": f"{api}/{model}", "messages": messages, "api_base": APIS[api], "api_key": KEY}


def text_of(chunk):
    return chunk.choices[0].delta.content or ""


def ask(model, text):
    return litellm.completion(**asking("openai", model, text)).choices[0].message.content


def stream(model, text):
    return "".join(map(text_of, litellm.completion(**asking("openai", model, text), stream=True)))


async def aask(model, text):
    return (await litellm.acompletion(**asking("anthropic", model, text))).choices[0].message.content


async def astream(model, text):
    chunks = await litellm.acompletion(**asking("anthropic", model, text), stream=True)
    return "".join([text_of(chunk) async for chunk in chunks])


check("sync, openai/", ask, stream, litellm.NotFoundError)
check("async, anthropic/", aask, astream, litellm.NotFoundError)
