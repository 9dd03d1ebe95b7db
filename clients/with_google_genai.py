from common import KEY, URL, check
from google import genai
from google.genai.errors import ClientError

client = genai.Client(api_key=KEY, http_options={"base_url": URL})


def ask(model, text):
    return client.models.generate_content(model=model, contents=text).text


def stream(model, text):
    chunks = client.models.generate_content_stream(model=model, contents=text)
    return "".join(chunk.text or "" for chunk in chunks)


async def aask(model, text):
    async with genai.Client(api_key=KEY, http_options={"base_url": URL}).aio as client:
        return (await client.models.generate_content(model=model, contents=text)).text


async def astream(model, text):
    async with genai.Client(api_key=KEY, http_options={"base_url": URL}).aio as client:
        chunks = await client.models.generate_content_stream(model=model, contents=text)
        return "".join([chunk.text or "" async for chunk in chunks])


check("sync", ask, stream, ClientError)
check("async", aask, astream, ClientError)
