"""`nearhit export`, `import` and `rebuild`, as their user runs them: on real files, beside a real proxy."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from storage.base import Document

ROOT = Path(__file__).parents[2]
CATEGORY = "{{name: {name}, threshold: 0.8, ttl: 1h, scope: {scope}, match: {{patterns: ['^{name}']}}}}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A user's folder: a few categories, and one store."""
    (tmp_path / "categories").mkdir()
    for name, scope in (("default", "tenant"), ("common", "shared")):
        (tmp_path / "categories" / f"{name}.yaml").write_text(CATEGORY.format(name=name, scope=scope))
    (tmp_path / "categories" / "never.yaml").write_text(
        "{name: never, threshold: 0.8, ttl: 1h, cacheable: false, match: {patterns: ['^never']}}"
    )
    (tmp_path / "nearhit.yaml").write_text(
        "categories: categories\ndocuments: {url: 'sqlite+aiosqlite:///x.db'}\n"
        "listen: {port: 0}\nadmin: {port: 0}\n"
    )
    return tmp_path


def start(folder: Path, *arguments: str, **environ: str) -> subprocess.Popen[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("NEARHIT_")}
    return subprocess.Popen(
        [sys.executable, "-m", "proxy", *arguments],
        cwd=folder, env={**kept, "PYTHONPATH": str(ROOT), **environ}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def run(folder: Path, *arguments: str, status: int = 0, **environ: str) -> tuple[str, str]:
    process = start(folder, *arguments, **environ)
    out, err = process.communicate(timeout=60)
    assert process.returncode == status, (out, err)
    return out, err


def json_of(folder: Path, *arguments: str, **environ: str) -> Any:
    return json.loads(run(folder, *arguments, "--json", **environ)[0])


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def pair(query: str, answer: str = "curated", **more: Any) -> dict[str, Any]:
    return {"query": query, "answer": answer, "model": "demo-chat", **more}


def entry(**changes: Any) -> dict[str, Any]:
    """One as `nearhit export` writes it, without a vector."""
    told = {"id": "1", "category": "default", "text": "a", "model": "m", "dialect": "openai-chat"}
    digests = dict.fromkeys(("exact", "partition"), "00" * 16)
    return {**told, **digests, "fingerprint": "", "tenant": "shared", "created": 0, "body": "{}", **changes}


def lines(path: Path) -> list[dict[str, Any]]:
    text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return [json.loads(line) for line in text.splitlines()]


class Running:
    def __init__(self, folder: Path) -> None:
        self.process = start(folder, "serve")
        assert self.process.stdout is not None
        said = ""
        while "curl" not in said:
            line = self.process.stdout.readline()
            assert line, self.process.communicate()
            said += line
        urls = [word.strip(".,;") for word in said.split() if word.startswith("http://")]
        self.data, self.admin = urls[0], next(url for url in urls if self._is_admin(url))
        while not httpx.get(f"{self.admin}/readyz").json()["index"]["done"]:
            time.sleep(0.05)

    @staticmethod
    def _is_admin(url: str) -> bool:
        return httpx.get(f"{url.rstrip('/')}/healthz").status_code == 200

    def ask(self, text: str, key: str = "one", **body: Any) -> tuple[str, str]:
        """How it was answered, and what was."""
        answer = httpx.post(
            f"{self.data.rstrip('/')}/v1/chat/completions",
            json={"model": "demo-chat", "messages": [{"role": "user", "content": text}], **body},
            headers={"Authorization": f"Bearer {key}"},
            timeout=30,
        )
        found = f"{answer.headers['X-Cache']} {answer.headers.get('X-Cache-Tier', '')}".strip()
        return found, answer.json()["choices"][0]["message"]["content"]


@pytest.fixture
def running(folder: Path) -> Iterator[Any]:
    proxies: list[Running] = []

    def run_one() -> Running:
        proxies.append(Running(folder))
        return proxies[-1]

    yield run_one
    for proxy in proxies:
        proxy.process.send_signal(signal.SIGTERM)
        proxy.process.communicate(timeout=30)


def test_curated_pairs_are_hits_for_whom_they_are_meant_and_nobody_else(folder: Path, running: Any) -> None:
    file = write(
        folder / "pairs.jsonl",
        pair("common question: how do I reverse a list in Python?", "Use reversed."),
        pair("how do I reset my password at your shop?", "Press the red button."),
        pair("how long is the river Rhine?", "1,233 km", request={"temperature": 0}, system="Be brief."),
        pair("never to be kept"),
    )
    done = json_of(folder, "import", str(file), "--authorization", "KEY", KEY="Bearer one")
    assert (done["pairs"], done["refused"]) == (3, {"category never is not cached": 1})
    proxy = running()
    assert proxy.ask("common question: how can I reverse a list in Python?", "two") == (
        "HIT semantic",
        "Use reversed.",
    )
    assert proxy.ask("how do I reset my password at your shop?") == ("HIT exact", "Press the red button.")
    assert proxy.ask("how do I reset my password at your shop?", "two")[0] == "MISS"
    assert proxy.ask("how long is the river Rhine?")[0] == "MISS"
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "how long is the river Rhine?"},
    ]
    assert proxy.ask("", messages=messages, temperature=0) == ("HIT exact", "1,233 km")
    shown = httpx.get(f"{proxy.admin.rstrip('/')}/api/v1/entries").json()["entries"]
    assert {entry["provenance"] for entry in shown} == {"imported", "simulated"}


def test_a_pair_that_is_not_shared_and_is_nobodys_is_left_out(folder: Path) -> None:
    file = write(folder / "pairs.jsonl", pair("how do I reset my password?"))
    out, err = run(folder, "import", str(file), status=1)
    assert "1 left out: category default is not shared, and no tenant is named" in out
    assert (err.count("\n"), "--tenant" in err) == (1, True)
    for tenant in ("shared", "x" * 32):
        run(folder, "import", str(file), "--tenant", tenant, status=2)
        write(file, pair("how do I reset my password?", tenant=tenant))
        run(folder, "import", str(file), status=2)


def test_a_running_proxy_takes_in_what_is_imported(folder: Path, running: Any) -> None:
    proxy = running()
    question = "common question: which day is the market open?"
    assert proxy.ask(question)[0] == "MISS"
    time.sleep(0.3)
    file = write(folder / "pairs.jsonl", pair(question, "On Friday."))
    port = proxy.admin.rstrip("/").rsplit(":", 1)[1]
    done = json_of(folder, "import", str(file), NEARHIT_ADMIN__PORT=port)
    assert done["running_proxy"] == "the running proxy is reading them now"
    until = time.monotonic() + 20
    while proxy.ask(question, "two")[1] != "On Friday.":
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.parametrize("name", ["out.jsonl", "out.jsonl.gz"])
def test_what_is_exported_beside_a_running_proxy_is_the_same_in_another_store(
    folder: Path, running: Any, name: str
) -> None:
    proxy = running()
    answers = {f"common question number {n} of all": "" for n in ("one", "seven", "twenty")}
    for question in answers:
        answers[question] = proxy.ask(question)[1]
    time.sleep(0.3)
    assert json_of(folder, "export", name) == {"exported": 3}
    proxy.process.send_signal(signal.SIGTERM)
    proxy.process.wait(30)
    (folder / "x.db").unlink()
    assert json_of(folder, "import", name)["entries"] == 3
    first = lines(folder / name)
    (folder / name).unlink()
    assert json_of(folder, "export", name) == {"exported": 3}
    assert sorted(lines(folder / name), key=lambda row: row["id"]) == sorted(first, key=lambda row: row["id"])
    again = running()
    for question, answer in answers.items():
        assert again.ask(question, "two") == ("HIT exact", answer)


def test_an_interrupted_import_goes_on_where_it_ended(folder: Path) -> None:
    count = 800
    file = write(folder / "pairs.jsonl", *(pair(f"common question {n} of many") for n in range(count)))
    mark = folder / "pairs.jsonl.importing"
    process = start(folder, "import", str(file))
    until = time.monotonic() + 60
    while not mark.exists():
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.002)
    process.kill()
    process.communicate()
    done = json_of(folder, "import", str(file))
    assert 0 < done["resumed_after"] < count
    assert done["resumed_after"] + done["pairs"] == count
    assert not mark.exists()
    assert json_of(folder, "export", "out.jsonl") == {"exported": count}


def test_an_export_that_cannot_be_written_says_what_to_do(folder: Path) -> None:
    run(folder, "import", str(write(folder / "pairs.jsonl", pair("common question"))))
    _, err = run(folder, "export", "nowhere/out.jsonl", status=1)
    assert err.count("\n") == 1
    assert "nowhere/out.jsonl (No such file or directory); choose an existing folder" in err


def test_an_interrupted_export_goes_on_where_it_ended(folder: Path) -> None:
    file = write(folder / "pairs.jsonl", *(pair(f"common question {n} of many") for n in range(300)))
    run(folder, "import", str(file))
    run(folder, "export", "whole.jsonl")
    whole = (folder / "whole.jsonl").read_text()
    (folder / "out.jsonl.partial").write_text(whole[: len(whole) // 2])
    assert json_of(folder, "export", "out.jsonl") == {"exported": 300}
    assert (folder / "out.jsonl").read_text() == whole
    assert stat.S_IMODE((folder / "whole.jsonl").stat().st_mode) == 0o600
    assert not (folder / "out.jsonl.partial").exists()


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"query": "a", "answer": "b"}, "model"),
        (pair("a", tenent="x"), "tenent"),
        (pair("a", category="cod"), "'cod' does not exist"),
        ({"partition": "00" * 16, "exact": "00" * 16, "body": 1}, "body"),
        (entry(exact="00"), "exact, partition"),
        (entry(id=""), "id"),
        (entry(id="x\r\nX-Cache: HIT"), "id"),
        (entry(id="x" * 65), "id"),
        (entry(category="default\r\nX-Cache: HIT"), "category"),
        (entry(category='code",tier="exact'), "category"),
    ],
)
def test_a_bad_line_is_named(folder: Path, row: dict[str, Any], words: str) -> None:
    file = write(folder / "pairs.jsonl", pair("common question"), row)
    _, err = run(folder, "import", str(file), status=2)
    assert "pairs.jsonl:2" in err
    assert words in err
    assert len(err.splitlines()) == 1


def test_rebuild_embeds_what_another_model_embedded_and_deletes_what_is_expired(
    folder: Path, running: Any
) -> None:
    questions = [
        f"common question: how do I {what} in Python?" for what in ("reverse a list", "sleep", "exit")
    ]
    run(folder, "import", str(write(folder / "pairs.jsonl", *map(pair, questions))))
    foreign = "UPDATE nearhit_documents SET fingerprint = 'other', vector = zeroblob(400) WHERE text = ?"
    sql(folder, foreign, questions[0])
    sql(folder, "UPDATE nearhit_documents SET created = 1 WHERE text = ?", questions[1])
    done = json_of(folder, "rebuild")
    assert {name: done[name] for name in ("entries", "embedded", "expired", "unreadable")} == {
        "entries": 2, "embedded": 1, "expired": 1, "unreadable": 0,
    }  # fmt: skip
    assert json_of(folder, "rebuild")["embedded"] == 0
    assert running().ask("common question: how can I reverse a list in Python?")[0] == "HIT semantic"


def test_rebuild_seals_anew_with_the_first_key(folder: Path) -> None:
    old, new = (base64.b64encode(bytes([number]) * 32).decode() for number in (1, 2))
    file = write(folder / "pairs.jsonl", pair("common question: how do I sleep?", "with an alarm"))
    run(folder, "import", str(file), NEARHIT_DOCUMENTS__KEYS=old)
    out, _ = run(folder, "rebuild", NEARHIT_DOCUMENTS__KEYS=f"{new},{old}")
    assert "1 re-encrypted" in out
    assert json_of(folder, "rebuild", NEARHIT_DOCUMENTS__KEYS=new)["resealed"] == 0
    run(folder, "export", "out.jsonl", NEARHIT_DOCUMENTS__KEYS=new)
    assert "with an alarm" in (folder / "out.jsonl").read_text()


def sql(folder: Path, statement: str, *values: str) -> None:
    with closing(sqlite3.connect(folder / "x.db")) as connection, connection:
        assert connection.execute(statement, values).rowcount == 1


def test_what_cannot_be_done_is_said_in_one_line(folder: Path) -> None:
    for command in (["export", "out.jsonl"], ["rebuild"]):
        _, err = run(folder, *command, status=1)
        assert "x.db does not exist" in err
        assert len(err.splitlines()) == 1
    _, err = run(folder, "export", "out.jsonl", "--documents", "memory", status=1)
    assert "memory" in err
    run(folder, "import", "none.jsonl", status=2)
    file, no_gpu = write(folder / "pairs.jsonl", pair("common question")), {"NEARHIT_EMBEDDING__KIND": "onnx"}
    _, err = run(folder, "import", str(file), status=1, **no_gpu, NEARHIT_EMBEDDING__DEVICE="cuda")
    assert "use auto or cpu" in err
    assert len(err.splitlines()) == 1


async def test_reading_again_takes_the_newer_of_two_with_one_digest(world: Any) -> None:
    await world.ask("common question of all")
    await world.settled()
    await world.app.cache.documents.flush()
    old = world.app.cache.entries.select(lambda entry: True)[0]
    store = world.app.cache.documents._documents
    ((entry, vector),) = [pair async for batch in store.scan() for pair in batch]
    newer = replace(entry, id="newer", created=entry.created + 1, provenance="imported")
    await store.save([Document(newer, vector, b"{}")])
    assert world.app.warm_up.reread()
    assert not world.app.warm_up.reread()
    while not world.app.warm_up.done:
        await asyncio.sleep(0.01)
    assert world.app.cache.entries.get(old.id) is None
    assert world.app.cache.entries.by_exact(entry.exact).id == "newer"
    assert await world.app.cache.documents.load("newer") == b"{}"
