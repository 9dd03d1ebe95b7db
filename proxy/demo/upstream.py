"""The demo upstream: an API in OpenAI's, Anthropic's, Gemini's and Ollama's shapes with no model behind it.

For the first try without an API key, for tests, benchmarks and overload experiments. Every answer says that
it is simulated and carries `Server: nearhit-demo-upstream`. What it says follows from the question alone, but
for the running number of the call ("answer no. 7"), which tells a fresh answer from a remembered one.

A call can be steered by its headers:

    X-Demo-Latency: 0.5             seconds to the first token of this call
    X-Demo-Status: 500              answer with this error
    X-Demo-Hang: yes                say nothing at all; after-N-chunks: fall silent in mid-stream
    X-Demo-Break: after-N-chunks    drop the connection in mid-stream (JSON: in the middle of the body)
"""

from __future__ import annotations

import asyncio
import base64
import json
import random
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import cast

from aiohttp import web

from proxy.demo import gemini as demo_gemini
from proxy.demo.answers import (
    Body,
    Refusal,
    Reply,
    anthropic_error,
    chat_document,
    chat_events,
    check_fields,
    check_model,
    completion_document,
    completion_events,
    counted_tokens,
    dumps,
    embedded_texts,
    embedding_document,
    message_document,
    message_events,
    ollama_chat_document,
    ollama_chat_events,
    ollama_error,
    ollama_streams,
    ollama_text_document,
    ollama_text_events,
    openai_error,
    question_for_claude,
    question_in_input,
    question_in_messages,
    question_in_prompt,
    reply_to,
    response_document,
    response_events,
)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

SERVER = "nearhit-demo-upstream"
MODELS = ("demo-chat", "demo-chat-large", "demo-embedding")
BODY_LIMIT = 64 * 2**20
HANG_S = 3600.0


@dataclass(frozen=True, slots=True)
class Behaviour:
    latency_s: float = 0.0
    """Seconds to the first token."""
    tokens_per_s: float = 0.0
    """Rate of the tokens after it; 0: all at once."""
    capacity: int = 0
    """Calls served at once; 0: any number."""
    queue: int = 64
    """Calls that may wait for a place; the next one is answered 429."""
    error_rate: float = 0.0
    """Share of the calls that end in a 500."""
    seed: int = 0
    """Seed of the errors."""


@dataclass(frozen=True, slots=True)
class Steering:
    latency_s: float | None
    status: int | None
    hang_after: int | None
    """Chunks before silence; 0: no first byte."""
    break_after: int | None

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> Steering:
        latency, status = headers.get("X-Demo-Latency"), headers.get("X-Demo-Status")
        try:
            return cls(
                None if latency is None else float(latency),
                None if status is None else int(status),
                chunk_count(headers.get("X-Demo-Hang")),
                chunk_count(headers.get("X-Demo-Break")),
            )
        except ValueError as error:
            raise Refusal(400, f"X-Demo header: {error}") from None


def chunk_count(value: str | None) -> int | None:
    """3 for "after-3-chunks", 0 for anything else that is set."""
    if value is None:
        return None
    found = re.fullmatch(r"after-(\d+)-chunks?", value.strip())
    return int(found[1]) if found else 0


class Demo:
    """Counters and places of one demo upstream."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.calls = self.in_flight = self.queued = self.rejected = self.errors = 0
        self._random = random.Random(behaviour.seed)
        self._places = asyncio.Semaphore(behaviour.capacity) if behaviour.capacity else None

    @asynccontextmanager
    async def place(self) -> AsyncIterator[int]:
        """The number of the call, once it is being served."""
        await self._enter()
        self.calls += 1
        self.in_flight += 1
        try:
            yield self.calls
        finally:
            self.in_flight -= 1
            if self._places:
                self._places.release()

    async def _enter(self) -> None:
        if self._places is None:
            return
        if self._places.locked() and self.queued >= self.behaviour.queue:
            self.rejected += 1
            raise Refusal(
                429, "Simulated overload: all places and the queue are taken.", code="rate_limit_exceeded"
            )
        self.queued += 1
        try:
            await self._places.acquire()
        finally:
            self.queued -= 1

    async def first_token(self, steering: Steering) -> None:
        """Waits as a model would, or fails as one."""
        if steering.hang_after == 0:
            await asyncio.sleep(HANG_S)
        latency = self.behaviour.latency_s if steering.latency_s is None else steering.latency_s
        if latency > 0:
            await asyncio.sleep(latency)
        if steering.status is not None:
            self.errors += 1
            raise Refusal(steering.status, f"Simulated error {steering.status}, as X-Demo-Status asked.")
        if self.behaviour.error_rate and self._random.random() < self.behaviour.error_rate:
            self.errors += 1
            raise Refusal(500, "Simulated error.")

    async def tokens(self, count: int, since: float) -> None:
        """Waits until `count` tokens are due, `since` being the loop time of the first."""
        if self.behaviour.tokens_per_s > 0:
            due = since + count / self.behaviour.tokens_per_s
            await asyncio.sleep(max(0.0, due - asyncio.get_running_loop().time()))

    def stats(self) -> dict[str, int]:
        return {
            "calls": self.calls,
            "in_flight": self.in_flight,
            "queued": self.queued,
            "rejected": self.rejected,
            "errors": self.errors,
        }


def asks_for_stream(body: Body) -> bool:
    return bool(body.get("stream"))


def always(body: Body) -> bool:
    return True


def never(body: Body) -> bool:
    return False


def as_it_came(body: Body) -> Body:
    return body


@dataclass(frozen=True, slots=True)
class Endpoint:
    path: str
    question: Callable[[Body], str]
    """Checks what this endpoint needs of the body, and finds the text that the answer follows from."""
    document: Callable[[Reply], Body]
    events: Callable[[Reply], Iterator[bytes]] | None = None
    error: Callable[[Refusal], Body] = openai_error
    streams: Callable[[Body], bool] = asks_for_stream
    content_type: str = "text/event-stream; charset=utf-8"
    translated: Callable[[Body], Body] = as_it_came
    """The body, with what the path says, in the members that are read here."""


LINES = "application/x-ndjson"
ENDPOINTS = (
    Endpoint("/v1/chat/completions", question_in_messages, chat_document, chat_events),
    Endpoint("/v1/completions", question_in_prompt, completion_document, completion_events),
    Endpoint("/v1/embeddings", embedded_texts, embedding_document),
    Endpoint("/v1/responses", question_in_input, response_document, response_events),
    Endpoint("/v1/messages", question_for_claude, message_document, message_events, anthropic_error),
    Endpoint("/v1/messages/count_tokens", question_in_messages, counted_tokens, error=anthropic_error),
    Endpoint(
        "/api/chat", question_in_messages, ollama_chat_document, ollama_chat_events, ollama_error,
        ollama_streams, LINES,
    ),
    Endpoint(
        "/api/generate", question_in_prompt, ollama_text_document, ollama_text_events, ollama_error,
        ollama_streams, LINES,
    ),
)  # fmt: skip
AZURE = [
    replace(endpoint, path=f"/openai/deployments/{{model}}/{endpoint.path.removeprefix('/v1/')}")
    for endpoint in ENDPOINTS[:2]
]
_GEMINI = "/{version:v1|v1beta|v1alpha}/models/{model}:"
GEMINI = Endpoint(
    _GEMINI + "generateContent", question_in_messages, demo_gemini.document, demo_gemini.events,
    demo_gemini.error, never, translated=demo_gemini.as_chat,
)  # fmt: skip
GEMINI_STREAM = replace(
    GEMINI, path=_GEMINI + "streamGenerateContent", streams=always, content_type="text/event-stream"
)
GEMINI_ARRAY = replace(
    GEMINI_STREAM, events=demo_gemini.elements, content_type="application/json; charset=UTF-8"
)
DEMO = web.AppKey("demo", Demo)


def serve(endpoint: Endpoint) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        demo = request.app[DEMO]
        try:
            steering = Steering.of(request.headers)
            body, question = read_question(endpoint, await request.read(), request.match_info)
            async with demo.place() as number:
                await demo.first_token(steering)
                reply = reply_to(body, question, number, int(time.time()))
                if endpoint.events and endpoint.streams(body):
                    events = endpoint.events(reply)
                    return await send_events(request, steering, events, endpoint.content_type)
                if endpoint.events:
                    await demo.tokens(reply.completion_tokens, asyncio.get_running_loop().time())
                return await send_document(request, steering, endpoint.document(reply))
        except Refusal as refusal:
            return web.json_response(endpoint.error(refusal), status=refusal.status, headers=refusal.headers)

    return handle


async def stream_gemini(request: web.Request) -> web.StreamResponse:
    return await serve(GEMINI_STREAM if request.query.get("alt") == "sse" else GEMINI_ARRAY)(request)


def read_question(endpoint: Endpoint, raw: bytes, in_path: Mapping[str, str]) -> tuple[Body, str]:
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        raise Refusal(400, "We could not parse the JSON body of your request.") from None
    body = endpoint.translated({**body, **in_path} if isinstance(body, dict) else body)
    check_fields(body)
    # Half of a surrogate pair is legal in JSON and cannot be sent back.
    return body, endpoint.question(body).encode(errors="replace").decode()


async def send_document(request: web.Request, steering: Steering, document: Body) -> web.StreamResponse:
    payload = dumps(document)
    if steering.break_after is None:
        return web.Response(body=payload, content_type="application/json")
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    response.content_length = len(payload)
    await response.prepare(request)
    await response.write(payload[: len(payload) // 2])
    drop_connection(request)
    return response


async def send_events(
    request: web.Request, steering: Steering, events: Iterator[bytes], content_type: str
) -> web.StreamResponse:
    headers = {"Content-Type": content_type, "Cache-Control": "no-cache"}
    response = web.StreamResponse(headers=headers)
    await response.prepare(request)
    since = asyncio.get_running_loop().time()
    for count, event in enumerate(events):
        if count == steering.break_after:
            drop_connection(request)
            return response
        if count == steering.hang_after:
            await asyncio.sleep(HANG_S)
        await request.app[DEMO].tokens(count, since)
        await response.write(event)
    await response.write_eof()
    return response


def drop_connection(request: web.Request) -> None:
    """Closes after what was written, with no end of the body."""
    if request.transport is not None:
        request.transport.close()


async def echo(request: web.Request) -> web.Response:
    """What arrived, whatever the method; the status that X-Demo-Status asks for; two cookies."""
    body = await request.read()
    path, _, query = request.raw_path.partition("?")
    arrived = {
        "method": request.method,
        "path": path,
        "query": query,
        "headers": [[name, value] for name, value in request.headers.items()],
        "body": body.decode(errors="replace"),
        "body_base64": base64.b64encode(body).decode(),
    }
    response = web.json_response(arrived, status=int(request.headers.get("X-Demo-Status", 200)))
    response.headers.add("Set-Cookie", "first=1")
    response.headers.add("Set-Cookie", "second=2")
    return response


async def some_bytes(request: web.Request) -> web.Response:
    count = min(int(request.match_info["count"]), BODY_LIMIT)
    body = (bytes(range(256)) * (count // 256 + 1))[:count]
    return web.Response(body=body, content_type="application/octet-stream")


def model_object(name: str) -> Body:
    return {"id": name, "object": "model", "created": 1700000000, "owned_by": SERVER}


async def models(request: web.Request) -> web.Response:
    return web.json_response({"object": "list", "data": [model_object(name) for name in MODELS]})


async def model(request: web.Request) -> web.Response:
    try:
        check_model(request.match_info["name"])
    except Refusal as refusal:
        return web.json_response(openai_error(refusal), status=refusal.status)
    return web.json_response(model_object(request.match_info["name"]))


async def health(request: web.Request) -> web.Response:
    return web.json_response({"status": "ok", "simulated": True})


async def stats(request: web.Request) -> web.Response:
    return web.json_response(request.app[DEMO].stats())


async def metrics(request: web.Request) -> web.Response:
    """Load in the names that vLLM uses."""
    demo = request.app[DEMO]
    lines = []
    for name, value in (("running", demo.in_flight), ("waiting", demo.queued)):
        lines.append(f"# TYPE vllm:num_requests_{name} gauge")
        lines.append(f'vllm:num_requests_{name}{{model_name="{MODELS[0]}"}} {float(value)}')
    return web.Response(text="\n".join(lines) + "\n", headers={"Content-Type": "text/plain; version=0.0.4"})


async def sign(request: web.Request, response: web.StreamResponse) -> None:
    response.headers["Server"] = SERVER


def make_app(behaviour: Behaviour) -> web.Application:
    app = web.Application(client_max_size=BODY_LIMIT)
    app[DEMO] = Demo(behaviour)
    app.on_response_prepare.append(sign)
    for endpoint in (*ENDPOINTS, *AZURE, GEMINI):
        app.router.add_post(endpoint.path, serve(endpoint))
    app.router.add_post(GEMINI_STREAM.path, stream_gemini)
    app.router.add_get("/v1/models", models)
    app.router.add_get("/v1/models/{name}", model)
    app.router.add_get("/health", health)
    app.router.add_get("/metrics", metrics)
    app.router.add_get("/demo/stats", stats)
    app.router.add_get(r"/bytes/{count:\d+}", some_bytes)
    app.router.add_route("*", "/echo{rest:(/.*)?}", echo)
    return app


@asynccontextmanager
async def run_demo_upstream(host: str, port: int, behaviour: Behaviour | None = None) -> AsyncIterator[str]:
    """Serves until the block ends; yields the URL. Port 0: a free one. Raises OSError when it is taken."""
    runner = web.AppRunner(
        make_app(behaviour or Behaviour()), access_log=None, handler_cancellation=True, shutdown_timeout=1.0
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        bound = cast("tuple[str, int]", runner.addresses[0])[1]
        yield f"http://{f'[{host}]' if ':' in host else host}:{bound}"
    finally:
        await runner.cleanup()
