"""`nearhit serve`: sockets, signals, and the banner."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import resource
import shlex
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from importlib.metadata import version
from typing import Any

from aiohttp import web

from embeddings.base import EmbeddingError
from proxy import listening
from proxy.admin import admin_app
from proxy.app import App, open_app
from proxy.demo.upstream import MODELS, Behaviour, run_demo_upstream
from proxy.settings import Settings, mask
from storage.base import StorageError
from storage.vectors.graph import WITHOUT_GRAPH, graph_available

log = logging.getLogger("nearhit.serving")

GRACE_S = 10.0
"""Seconds that calls in flight have to finish at shutdown."""
BACKLOG = 1024
STDOUT = 1
FILES = 128
"""Open for other reasons than calls."""

QUESTION = "What is the capital of France?"
IN_OTHER_WORDS = "Which city is the capital of France?"


class CannotServe(Exception):
    """An address is in use, or the store or the model cannot be opened. `str()` is one line that says what to
    do."""


async def serve(settings: Settings) -> None:
    """Runs until SIGINT or SIGTERM. Raises `CannotServe` and `ConfigError`."""
    _allow_sockets(settings.limits.in_flight)
    with _until_told_to_stop(), _one_line():
        async with serving(settings) as banner:
            _say(banner)
            try:
                await asyncio.Event().wait()
            finally:
                log.info("stopping; calls in flight have %g s to finish", GRACE_S)


async def serve_demo(host: str, port: int, **behaviour: Any) -> None:
    """Runs only the demo upstream. Raises `CannotServe`."""
    with _until_told_to_stop(), _taken(host, port, "port"):
        async with run_demo_upstream(host, port, Behaviour(**behaviour)) as url:
            _say(f"demo upstream {url}    a simulator with no model behind it")
            await asyncio.Event().wait()


def _allow_sockets(in_flight: int) -> None:
    """As many open files as the system gives a process that asks. A call has a socket to its caller and one
    to its upstream; where there is none left, connections are closed as they come, the admin plane's too."""
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with suppress(ValueError, OSError):  # some systems call it unlimited and mean less
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, allowed))
    enough = (resource.getrlimit(resource.RLIMIT_NOFILE)[0] - FILES) // 2
    if 0 <= enough < in_flight:
        log.warning(
            "open files are limited to %d, enough for %d calls at once; raise that limit (ulimit -n,"
            " LimitNOFILE) or lower limits.in_flight, which is %d",
            allowed, enough, in_flight,
        )  # fmt: skip


def _say(text: str) -> None:
    """On standard output. That nobody reads it, or its disk is full, ends nothing."""
    with suppress(OSError):
        os.write(STDOUT, f"{text}\n".encode())


@contextmanager
def _one_line() -> Iterator[None]:
    try:
        yield
    except (StorageError, EmbeddingError, ValueError, FileNotFoundError) as error:
        raise CannotServe(" ".join(str(error).split())) from error


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[str]:
    """Runs both planes while the block lasts, and yields the banner. Closes in reverse order: first the data
    plane, which lets its calls finish, then the admin plane, then the parts, then the demo upstream."""
    async with AsyncExitStack() as stack:
        # Before the model is loaded, so that a port in use shows at once and early callers just wait.
        data = stack.enter_context(_listening(settings.listen.host, settings.listen.port, "listen.port"))
        admin = stack.enter_context(_listening(settings.admin.host, settings.admin.port, "admin.port"))
        settings, upstream_url = await _upstream(settings, stack)
        app = await stack.enter_async_context(open_app(settings, upstream_url))
        await stack.enter_async_context(_running(_admin_plane(app), admin))
        await stack.enter_async_context(_running(_data_plane(app), data))
        if not await asyncio.to_thread(graph_available):
            log.warning(WITHOUT_GRAPH)
        yield banner(settings, _url(data), _url(admin), upstream_url)


async def _upstream(settings: Settings, stack: AsyncExitStack) -> tuple[Settings, str]:
    """The upstream's URL. Without one, starts the demo upstream and lets anonymous callers share its answers,
    which need no protection."""
    if not settings.simulated:
        return settings, settings.upstream.url or ""
    url = await stack.enter_async_context(run_demo_upstream("127.0.0.1", 0))
    if "anonymous" not in settings.tenancy.model_fields_set:
        tenancy = settings.tenancy.model_copy(update={"anonymous": "share"})
        settings = settings.model_copy(update={"tenancy": tenancy})
    return settings, url


def _data_plane(app: App) -> web.BaseRunner:
    # aiohttp waits this long twice; the second time it no longer reads from callers.
    return web.ServerRunner(listening.server(app.data_plane.handle), shutdown_timeout=GRACE_S / 2)


def _admin_plane(app: App) -> web.BaseRunner:
    return web.AppRunner(admin_app(app), access_log=None, handler_cancellation=True, shutdown_timeout=1.0)


@asynccontextmanager
async def _running(runner: web.BaseRunner, listener: socket.socket) -> AsyncIterator[None]:
    await runner.setup()
    try:
        await web.SockSite(runner, listener, backlog=BACKLOG).start()
        yield
    finally:
        await runner.cleanup()


@contextmanager
def _listening(host: str, port: int, setting: str) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with _taken(host, port, setting):
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    with listener:
        yield listener


@contextmanager
def _taken(host: str, port: int, setting: str) -> Iterator[None]:
    """Turns errors of `bind` into advice."""
    try:
        yield
    except OSError as error:
        flag = f"--{setting.replace('.', '-')}"
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            advice = f"stop the program using it, or choose another with {flag}"
        else:
            advice = f"name an address of this machine with {flag.replace('port', 'host')}"
        why = str(error.strerror).partition(" (while")[0]
        raise CannotServe(f"cannot listen on {host} port {port} ({why}); {advice}") from None


@contextmanager
def _until_told_to_stop() -> Iterator[None]:
    """The first SIGINT or SIGTERM cancels the block, which then ends normally; a second one has its default
    effect and ends the process. SIGHUP ends nothing, even before the categories are watched."""
    loop, block = asyncio.get_running_loop(), asyncio.current_task()
    numbers, told = (signal.SIGINT, signal.SIGTERM), asyncio.Event()

    def stop() -> None:
        told.set()
        for number in numbers:
            loop.remove_signal_handler(number)
        if block is not None:
            block.cancel()

    loop.add_signal_handler(signal.SIGHUP, lambda: None)
    for number in numbers:
        loop.add_signal_handler(number, stop)
    try:
        yield
    except asyncio.CancelledError:
        if not told.is_set():
            raise
    finally:
        for number in (*numbers, signal.SIGHUP):
            loop.remove_signal_handler(number)


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


# What is printed


def banner(settings: Settings, data: str, admin: str, upstream: str) -> str:
    demo = settings.simulated
    lines = [
        f"nearhit {version('nearhit')}",
        "",
        f"  data plane   {data}    base URL for an SDK: {data}/v1",
        f"  admin plane  {admin}",
        *_upstreams(settings, upstream, demo),
        "",
        "Ask a question, then ask it again in other words, and look for X-Cache: HIT.",
        "",
        f"  {_curl(data, QUESTION, demo)}",
        "",
        f"  {_curl(data, IN_OTHER_WORDS, demo)}",
        "",
    ]
    return "\n".join(lines)


def _upstreams(settings: Settings, upstream: str, demo: bool) -> Iterator[str]:
    if not settings.upstreams:
        note = "    demo: a simulator with no model behind it" if demo else ""
        yield f"  upstream     {mask(upstream)}{note}"
    for each in settings.upstreams:
        yield f"  upstream     {mask(each.url)}    {each.name}: {', '.join(each.models)}"


def _curl(data: str, question: str, demo: bool) -> str:
    model = MODELS[0] if demo else "YOUR-MODEL"
    key = "demo" if demo else "$OPENAI_API_KEY"
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": question}]})
    return (
        f'curl -si {data}/v1/chat/completions -H "Authorization: Bearer {key}"'
        f" -H 'Content-Type: application/json' -d {shlex.quote(body)}"
    )
