from common import KEY, URL, check
from pydantic_ai import Agent
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider


def agent(model):
    return Agent(OpenAIChatModel(model, provider=OpenAIProvider(base_url=URL + "/v1", api_key=KEY)))


def ask(model, text):
    return agent(model).run_sync(text).output


def stream(model, text):
    return "".join(agent(model).run_stream_sync(text).stream_text(delta=True))


async def aask(model, text):
    return (await agent(model).run(text)).output


async def astream(model, text):
    async with agent(model).run_stream(text) as running:
        return "".join([said async for said in running.stream_text(delta=True)])


check("sync", ask, stream, ModelHTTPError)
check("async", aask, astream, ModelHTTPError)
