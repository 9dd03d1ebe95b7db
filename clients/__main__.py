"""Puts every client through the same steps, each against a proxy of its own, and prints what came of it.

    python -m clients [--write] [NAME ...]

A client's packages go into a virtual environment of their own under `.venv-clients`, in the versions that are
named here: they are part of the result. Whether an answer came from memory is asked of the proxy.
"""

from __future__ import annotations

import json
import os
import platform
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

HERE = Path(__file__).parent
ENVIRONMENTS = HERE.parent / ".venv-clients"
PAGE = HERE.parent / "docs" / "clients.md"
MARK = "<!-- made by make clients ARGS=--write -->\n"

KEY = f"sk-{secrets.token_hex(16)}"
"""LiteLLM's proxy does not start without one that is hard to guess."""
STARTED_S = 300.0
"""LiteLLM's proxy takes its time on a busy machine."""
STEPS_S = 300.0

FORMS = ("", "stream ")
SEEN = {"miss": "MISS", "exact": "HIT exact", "paraphrase": "HIT semantic", "other form": "HIT exact"}
EXPECTED = {"error": "MISS", **{form + step: seen for form in FORMS for step, seen in SEEN.items()}}
"""What the proxy should say of each step."""


@dataclass(frozen=True)
class Client:
    name: str
    packages: dict[str, str]
    """With their versions; of the Python index, or of npm's if the script is JavaScript."""
    script: str
    proxy: str = ""
    """Where LiteLLM's proxy stands: `before` nearhit or `behind` it."""


LITELLM = {"litellm[proxy]": "1.106.2"}
CLIENTS = (
    Client("curl", {}, "with_curl.sh"),
    Client("openai", {"openai": "3.52.0"}, "with_openai.py"),
    Client("anthropic", {"anthropic": "2.11.0"}, "with_anthropic.py"),
    Client("google-genai", {"google-genai": "3.4.0"}, "with_google_genai.py"),
    Client("langchain-openai", {"langchain-openai": "1.7.3"}, "with_langchain_openai.py"),
    Client("langchain-anthropic", {"langchain-anthropic": "1.7.7"}, "with_langchain_anthropic.py"),
    Client("llama-index", {"llama-index-llms-openai-like": "0.8.1"}, "with_llama_index.py"),
    Client("instructor", {"instructor": "1.17.0"}, "with_instructor.py"),
    Client("pydantic-ai", {"pydantic-ai-slim[openai]": "2.68.0"}, "with_pydantic_ai.py"),
    Client("litellm", LITELLM, "with_litellm.py"),
    Client("openai, LiteLLM's proxy before nearhit", LITELLM, "with_openai.py", proxy="before"),
    Client("openai, LiteLLM's proxy behind nearhit", LITELLM, "with_openai.py", proxy="behind"),
    Client(
        "Vercel AI SDK",
        {
            "ai": "6.0.326",
            "@ai-sdk/openai-compatible": "2.0.87",
            "@ai-sdk/anthropic": "3.0.138",
            "@ai-sdk/google": "3.0.141",
        },
        "with_vercel.mjs",
    ),
)


@dataclass
class Result:
    client: Client
    versions: str
    steps: dict[str, dict[str, str]]
    """How it asked, the step, and `ok` or what was wrong."""
    problem: str = ""

    @property
    def passed(self) -> bool:
        told = [what for steps in self.steps.values() for what in steps.values()]
        return not self.problem and bool(told) and all(what == "ok" for what in told)


def main() -> int:
    parser = ArgumentParser(prog="make clients", description="Real clients through the real proxy.")
    parser.add_argument("name", nargs="*", help="only clients whose name contains one of these")
    parser.add_argument("--write", action="store_true", help=f"put the table into {PAGE.name}")
    given = parser.parse_args()
    chosen = [c for c in CLIENTS if not given.name or any(name in c.name for name in given.name)]
    results = []
    for client in chosen:
        results.append(result := tried(client))
        print(row(result), flush=True)
    if given.write:
        write(results)
    return 0 if all(result.passed for result in results) else 1


def tried(client: Client) -> Result:
    try:
        home = environment(client)
        result = Result(client, versions(client, home), {})
    except (OSError, subprocess.SubprocessError) as error:
        return Result(client, "", {}, f"not run: {error}")
    try:
        with TemporaryDirectory() as folder, stage(client, home, Path(folder)) as (url, admin):
            put_through(result, home, url, admin)
    except (OSError, subprocess.SubprocessError, RuntimeError) as error:
        result.problem = str(error)
    return result


# The environment of a client


def environment(client: Client) -> Path:
    """Made the first time."""
    javascript = client.script.endswith(".mjs")
    wanted = [name + ("@" if javascript else "==") + version for name, version in client.packages.items()]
    home = ENVIRONMENTS / (re.sub(r"[^\w.]+", "-", wanted[0]) if wanted else "none")
    if (home / "made").exists() or not wanted:
        return home
    home.mkdir(parents=True, exist_ok=True)
    print(f"installing {', '.join(wanted)} ...", file=sys.stderr, flush=True)
    if javascript:
        run("npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(home), *wanted)
    else:
        run(sys.executable, "-m", "venv", str(home))
        run(str(home / "bin" / "pip"), "install", "-q", "--disable-pip-version-check", *wanted)
    (home / "made").touch()
    return home


def versions(client: Client, home: Path) -> str:
    if client.script.endswith(".mjs"):
        files = {name: home / "node_modules" / name / "package.json" for name in client.packages}
        return ", ".join(f"{name} {json.loads(file.read_text())['version']}" for name, file in files.items())
    if not client.packages:
        return run("curl", "--version").split(" (")[0]
    names = [re.sub(r"\[.*", "", name) for name in client.packages] + ["openai"] * bool(client.proxy)
    asked = (
        "import importlib.metadata as m, sys; print(', '.join(f'{n} {m.version(n)}' for n in sys.argv[1:]))"
    )
    return run(str(home / "bin" / "python"), "-c", asked, *names).strip()


def stripped() -> dict[str, str]:
    """The environment without what leads to our own modules."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise subprocess.SubprocessError(f"{command[0]} failed: {done.stderr.strip()[-300:]}")
    return done.stdout


# Who stands where


@contextmanager
def stage(client: Client, home: Path, folder: Path) -> Iterator[tuple[str, str]]:
    """Yields the URL for the client and that of nearhit's admin plane."""
    with ExitStack() as stack:
        upstream = ""
        if client.proxy == "behind":
            demo = stack.enter_context(nearhit("demo-upstream", "--port", "0"))[0]
            upstream = stack.enter_context(litellm(home, folder, demo))
        options = ["--upstream-url", upstream] if upstream else []
        ports = ("--listen-port", "0", "--admin-port", "0")
        url, admin = stack.enter_context(nearhit("serve", *ports, *options))
        wait_for(f"{admin}/readyz")
        if client.proxy == "before":
            url = stack.enter_context(litellm(home, folder, url))
        yield url, admin


@contextmanager
def nearhit(*arguments: str) -> Iterator[tuple[str, ...]]:
    """Yields the URLs that it prints."""
    environ = {**os.environ, "NEARHIT_DOCUMENTS__URL": "memory", "NEARHIT_LOG__LEVEL": "error"}
    with started([sys.executable, "-m", "proxy", *arguments], environ) as process:
        assert process.stdout is not None
        found: list[str] = []
        for line in process.stdout:
            found += re.findall(r"(?:data plane|admin plane|demo upstream) +(http://[\w.]+:\d+)", line)
            if len(found) == (2 if arguments[0] == "serve" else 1):
                yield tuple(found)
                return
    raise RuntimeError("nearhit did not start")


@contextmanager
def litellm(home: Path, folder: Path, base: str) -> Iterator[str]:
    upstream = {"api_base": f"{base}/v1", "api_key": KEY}
    models = [
        {"model_name": name, "litellm_params": {"model": f"openai/{name}", **upstream}}
        for name in ("demo-chat", "unknown-model")
    ]
    settings = {
        "model_list": models,
        "general_settings": {"master_key": KEY},
        "router_settings": {
            "disable_cooldowns": True
        },  # it would answer the next call for an unknown model itself
    }
    (folder / "litellm.yaml").write_text(json.dumps(settings))
    port = str(free_port())
    command = [str(home / "bin" / "litellm"), "--config", str(folder / "litellm.yaml"), "--port", port]
    environ = {**stripped(), "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    with started([*command, "--host", "127.0.0.1"], environ, subprocess.DEVNULL):
        wait_for(f"http://127.0.0.1:{port}/health/liveliness")
        yield f"http://127.0.0.1:{port}"


@contextmanager
def started(
    command: Sequence[str], environ: dict[str, str], quiet: bool = False
) -> Iterator[subprocess.Popen[str]]:
    out = subprocess.DEVNULL if quiet else subprocess.PIPE
    process = subprocess.Popen(command, env=environ, stdout=out, stderr=subprocess.DEVNULL, text=True)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(30)


def wait_for(url: str) -> None:
    until = time.monotonic() + STARTED_S
    while time.monotonic() < until:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError(f"{url} does not answer")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


# The steps


def put_through(result: Result, home: Path, url: str, admin: str) -> None:
    done = subprocess.run(
        command_of(result.client, home), env={**stripped(), "NEARHIT_URL": url, "NEARHIT_KEY": KEY},
        capture_output=True, text=True, timeout=STEPS_S, check=False,
    )  # fmt: skip
    told = [line.split("\t") for line in done.stdout.splitlines() if line.count("\t") == 2]
    seen = outcomes(admin)
    if done.returncode or not told:
        result.problem = " ".join(done.stderr.split())[-300:] or "it told nothing"
    elif len(seen) != len(told):
        result.problem = f"{len(seen)} calls came of {len(told)} steps: {', '.join(seen)}"
    for (how, step, what), outcome in zip(told, seen, strict=False):
        as_told = what != "ok" or outcome == EXPECTED[step]
        result.steps.setdefault(how, {})[step] = what if as_told else outcome


def command_of(client: Client, home: Path) -> list[str]:
    script = HERE / client.script
    if script.suffix == ".mjs":  # it looks for its packages beside itself
        return ["node", str(shutil.copy(script, home))]
    if script.suffix == ".sh":
        return ["sh", str(script)]
    return [str(home / "bin" / "python"), str(script)]


def outcomes(admin: str) -> list[str]:
    """Of all calls, in their order."""
    with urllib.request.urlopen(f"{admin}/api/v1/recent?limit=1000", timeout=10) as response:
        calls = json.load(response)["calls"]
    return [" ".join(filter(None, (call["outcome"], call["tier"]))) for call in reversed(calls)]


# What came of it


def row(result: Result) -> str:
    steps = "; ".join(f"{how}: {tally(steps)}" for how, steps in result.steps.items()) or "none"
    ending = "passed" if result.passed else result.problem or "failed"
    return f"| {result.client.name} | {result.versions} | {steps} | {ending} |"


def tally(steps: dict[str, str]) -> str:
    wrong = [f"{step} was {what}" for step, what in steps.items() if what != "ok"]
    return f"{len(steps) - len(wrong)} of {len(steps)}" + "".join(f", {each}" for each in wrong)


def write(results: Sequence[Result]) -> None:
    kept = PAGE.read_text().partition(MARK)[0]
    made = f"{datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}"
    rows = ["| client | versions | steps passed | |", "|---|---|---|---|", *map(row, results)]
    PAGE.write_text(kept + MARK + f"\n{made}\n\n" + "\n".join(rows) + "\n")


if __name__ == "__main__":
    sys.exit(main())
