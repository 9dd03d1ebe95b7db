"""README's commands, run as they stand there against a proxy that was started as it says."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
LONG = ("watch", "demo-upstream")
"""Commands that go on until Ctrl-C."""

_spec = importlib.util.spec_from_file_location("newcomer", ROOT / "tools" / "newcomer.py")
assert _spec is not None
assert _spec.loader is not None
newcomer: Any = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(newcomer)


def asked() -> list[str]:
    """The commands of `Look inside`, also as each continues, without what they are said to do."""
    found: list[str] = []
    for line in newcomer.commands(newcomer.section(README, "## Look inside")):
        command = re.split(r" {2,}", line)[0]
        if command.startswith("nearhit "):
            found.append(command)
        else:
            found.append(f"{found[-1]} {command}")
    return found


@dataclass
class Home:
    folder: Path
    ports: tuple[str, str]
    environ: dict[str, str]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """The tree as it is, started by README's first command in the environment of the tests."""
    folder, ports = tmp_path_factory.mktemp("newcomer"), newcomer.free_ports()
    for name in ("proxy", "policies", "embeddings", "storage", "tools"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Makefile", "pyproject.toml", "requirements.lock", "requirements-graph.lock"):
        shutil.copy(ROOT / name, folder / name)
    bin = Path(sys.executable).parent
    environ = newcomer.environment() | {
        "PYTHONPATH": str(folder),
        "PATH": f"{bin}:{os.environ['PATH']}",
        "NEARHIT_LISTEN__PORT": ports[0],
        "NEARHIT_ADMIN__PORT": ports[1],
    }
    start = newcomer.commands(newcomer.section(README, newcomer.SECTION))[0]
    assert start == "make run"
    start += f" VENV={bin.parent} -o {bin.parent}/run.stamp"
    with newcomer.running(start, folder, f"http://127.0.0.1:{ports[1]}", environ):
        yield Home(folder, ports, environ)


def test_the_same_question_in_other_words_is_a_hit(home: Home) -> None:
    told = newcomer.elsewhere(newcomer.section(README, newcomer.SECTION), home.ports)
    first, again = (newcomer.answer_to(each, home.folder) for each in newcomer.commands(told)[1:])
    assert "X-Cache: MISS" in first
    assert "X-Cache: HIT" in again
    assert "X-Cache-Tier: semantic" in again


def test_the_dashboard_is_where_it_says(home: Home) -> None:
    told = newcomer.elsewhere(newcomer.section(README, newcomer.SECTION), home.ports)
    (url,) = re.findall(r"The dashboard is at (http://[0-9.:]+[0-9])", told)
    assert newcomer.look_at_dashboard(url) > 1000


@pytest.mark.parametrize("command", asked())
def test_a_command_does_something(home: Home, command: str) -> None:
    """The files that it names are there."""
    call = {"t": 0.0, "query": "how do I undo the last commit in git"}
    pair = {"query": "what is our refund policy", "answer": "thirty days", "model": "demo-chat"}
    labelled = {"a": "how do I undo a commit", "b": "how can I undo a commit", "equivalent": True}
    (home.folder / "calls.jsonl").write_text(json.dumps(call) + "\n")
    (home.folder / "pairs.jsonl").write_text(json.dumps(pair) + "\n")
    (home.folder / "labelled.jsonl").write_text(json.dumps(labelled) + "\n")
    if command.startswith("nearhit import"):
        command += " --tenant anonymous"  # whose they are: nobody else is here
    process = subprocess.Popen(
        ["sh", "-c", f"exec {command}"], cwd=home.folder, env=home.environ, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        out, errors = process.communicate(timeout=3 if command.split()[1] in LONG else 100)
    except subprocess.TimeoutExpired:
        assert command.split()[1] in LONG
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=20)
    assert process.returncode == 0, errors
    assert out or command.split()[1] == "watch"


@pytest.mark.parametrize("code", re.findall(r"^```python\n(.*?)^```$", README, re.DOTALL | re.MULTILINE))
def test_a_client_of_its_example_gets_an_answer(
    home: Home, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.setenv(name, "demo")
    made: dict[str, Any] = {}
    exec(newcomer.elsewhere(code, home.ports), made)
    messages = [{"role": "user", "content": "How do I undo the last commit in git?"}]
    with made["client"] as client:
        if "OpenAI" in made:
            answer = client.chat.completions.create(model="demo-chat", messages=messages)
            assert answer.choices[0].message.content
        else:
            answer = client.messages.create(model="demo-chat", messages=messages, max_tokens=100)
            assert answer.content[0].text


def targets() -> list[str]:
    return sorted(set(re.findall(r"\bmake ([a-z-]+)", "\n".join(newcomer.commands(README)))))


@pytest.mark.parametrize("target", targets())
def test_make_would_do_it(target: str) -> None:
    done = subprocess.run(["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout
