import instructor
from common import KEY, URL, check
from instructor.core import InstructorRetryException
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel


class Answer(BaseModel):
    text: str = ""


client = instructor.from_openai(OpenAI(base_url=URL + "/v1", api_key=KEY))


def asking(model, text):
    return {"model": model, "messages": [{"role": "user", "content": text}], "response_model": Answer}


def ask(model, text):
    return client.chat.completions.create(**asking(model, text)).text


def stream(model, text):
    return list(client.chat.completions.create_partial(**asking(model, text)))[-1].text


async def aask(model, text):
    async with AsyncOpenAI(base_url=URL + "/v1", api_key=KEY) as inner:
        return (await instructor.from_openai(inner).chat.completions.create(**asking(model, text))).text


async def astream(model, text):
    async with AsyncOpenAI(base_url=URL + "/v1", api_key=KEY) as inner:
        parts = instructor.from_openai(inner).chat.completions.create_partial(**asking(model, text))
        return [part async for part in parts][-1].text


# What it fills in piece by piece has a schema of its own.
check("sync", ask, stream, InstructorRetryException, same_body=False)
check("async", aask, astream, InstructorRetryException, same_body=False)
