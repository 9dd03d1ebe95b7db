"""The command as people run it: a real process, its output, its exit status."""

from __future__ import annotations

import io
import json
import os
import re
import resource
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from rich.console import Console

from proxy.cli import running
from proxy.cli.main import _ELSEWHERE, nearhit, run
from proxy.serving import IN_OTHER_WORDS, QUESTION

START_S = 60.0
ROOT = Path(__file__).parents[2]
URL = re.compile(r"https?://\S+")


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "proxy", *arguments]


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("NEARHIT_")}
    return {**kept, "PYTHONPATH": str(ROOT), **more}


@dataclass
class Served:
    process: subprocess.Popen[str]
    data: str
    admin: str
    banner: str
    log: Path

    def ask(self, text: str, **headers: str) -> httpx.Response:
        body = {"model": "demo-chat", "messages": [{"role": "user", "content": text}]}
        headers = {"Authorization": "Bearer demo", **headers}
        return httpx.post(f"{self.data}/v1/chat/completions", json=body, headers=headers, timeout=20)

    def get(self, path: str) -> Any:
        return httpx.get(self.admin + path, timeout=20).json()

    def stop(self, number: int = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.process.wait(20)

    def until(self, holds: Callable[[], Any]) -> None:
        for _ in range(200):
            if holds():
                return
            time.sleep(0.05)
        raise AssertionError(self.log.read_text())


Serve = Callable[..., Served]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Starts `nearhit serve` on free ports in an own directory, and waits until it says that it is up."""
    running: list[subprocess.Popen[str]] = []

    def start(*arguments: str, **env: str) -> Served:
        log = tmp_path / f"log-{len(running)}"
        with log.open("w") as errors:
            process = subprocess.Popen(
                command("serve", "--port", "0", "--admin-port", "0", *arguments),
                cwd=tmp_path, env=environment(**env), stdout=subprocess.PIPE, stderr=errors, text=True,
            )  # fmt: skip
        running.append(process)
        banner = _banner(process, log)
        data, _, admin = URL.findall(banner)[:3]
        return Served(process, data, admin, banner, log)

    yield start
    for process in running:
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()


def _banner(process: subprocess.Popen[str], log: Path) -> str:
    assert process.stdout
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.count("curl") and "other" not in line and sum("curl" in each for each in lines) == 2:
            return "".join(lines)
    raise AssertionError(f"ended with {process.wait()}: {log.read_text()}")


# Serving


def test_a_paraphrase_of_the_banner_hits_and_ctrl_c_ends_it_cleanly(serve: Serve) -> None:
    served = serve()
    assert "demo: a simulator" in served.banner
    assert QUESTION in served.banner
    first, second = served.ask(QUESTION), served.ask(IN_OTHER_WORDS)
    assert (first.headers["X-Cache"], second.headers["X-Cache"]) == ("MISS", "HIT")
    assert second.content == first.content
    assert served.stop() == 0
    log = served.log.read_text()
    assert "outcome=HIT tier=semantic" in log
    assert "capital" not in log
    assert "Traceback" not in log


def test_the_printed_curl_lines_are_what_they_say(serve: Serve, tmp_path: Path) -> None:
    served = serve()
    lines = [line for line in served.banner.splitlines() if line.strip().startswith("curl")]
    answers = [
        subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True).stdout
        for line in lines
    ]
    assert ["X-Cache: HIT" in answer for answer in answers] == [False, True]


def test_what_was_stored_is_there_after_a_restart(serve: Serve) -> None:
    served = serve()
    answer = served.ask(QUESTION)
    assert served.stop(signal.SIGTERM) == 0
    again = serve()
    again.until(lambda: again.get("/readyz")["index"]["done"])
    assert again.get("/readyz")["index"]["loaded"] == 1
    for question, tier in ((QUESTION, "exact"), (IN_OTHER_WORDS, "semantic")):
        hit = again.ask(question)
        assert (hit.headers["X-Cache-Tier"], hit.content) == (tier, answer.content)


def test_a_call_in_flight_is_answered_before_it_ends(serve: Serve) -> None:
    served = serve()
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(served.ask, "slow", **{"X-Demo-Latency": "1.5"})
        served.until(lambda: served.get("/api/v1/stats")["in_flight"] == 1)
        assert served.stop() == 0
        assert call.result().status_code == 200


def test_callers_without_a_name_share_only_where_there_is_nothing_to_protect(serve: Serve) -> None:
    demo = serve()
    assert [demo.ask(QUESTION, Authorization="").headers["X-Cache"] for _ in range(2)] == ["MISS", "HIT"]
    told = serve(NEARHIT_TENANCY__ANONYMOUS="bypass", NEARHIT_DOCUMENTS__URL="memory")
    body = {"model": "demo-chat", "messages": [{"role": "user", "content": QUESTION}]}
    answer = httpx.post(f"{told.data}/v1/chat/completions", json=body, timeout=20)
    assert answer.headers["X-Cache-Bypass-Reason"] == "anonymous"
    upstream = URL.findall(told.banner)[3]
    real = serve("--upstream", upstream, "--documents", "memory")
    assert "demo:" not in real.banner
    answer = httpx.post(f"{real.data}/v1/chat/completions", json=body, timeout=20)
    assert answer.headers["X-Cache-Bypass-Reason"] == "anonymous"


@pytest.mark.parametrize("flag", ["--listen-port", "--admin-port"])
def test_a_port_that_is_taken_is_one_line_and_exit_1(tmp_path: Path, flag: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        other = "--admin-port" if flag == "--listen-port" else "--port"
        ended = subprocess.run(
            command("serve", flag, port, other, "0"),
            cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=START_S,
        )  # fmt: skip
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    assert port in ended.stderr
    assert flag in ended.stderr
    assert not (tmp_path / "data").exists()


def test_a_store_that_cannot_be_opened_is_one_line_and_exit_1(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    url = f"sqlite+aiosqlite:///{tmp_path}/file/nearhit.db"
    ended = subprocess.run(
        command("serve", "--port", "0", "--admin-port", "0", "--documents", url),
        cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=START_S,
    )  # fmt: skip
    assert ended.returncode == 1
    assert ended.stderr.startswith("nearhit: documents.url cannot be opened; let this user")
    assert ended.stderr.count("\n") == 1


def test_a_host_that_is_none_of_this_machine_is_one_line_and_exit_1(tmp_path: Path) -> None:
    ended = subprocess.run(
        command("serve", "--host", "192.0.2.1", "--port", "0", "--admin-port", "0"),
        cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=START_S,
    )  # fmt: skip
    assert ended.returncode == 1
    assert ended.stderr.endswith("; name an address of this machine with --listen-host\n")
    assert ended.stderr.count("192.0.2.1") == 1


Unseen = Callable[..., tuple[subprocess.Popen[bytes], int]]


@pytest.fixture
def unseen(tmp_path: Path) -> Iterator[Unseen]:
    """Starts `nearhit serve` with these redirections, behind other orders of the shell; yields it and the
    admin plane's port once that is bound."""
    running: list[subprocess.Popen[bytes]] = []

    def start(redirections: str, *arguments: str, before: str = ":") -> tuple[subprocess.Popen[bytes], int]:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        order = shlex.join(command("serve", "--port", "0", "--admin-port", str(port), *arguments))
        process = subprocess.Popen(
            ["sh", "-c", f"{before}; exec {order} {redirections}"], cwd=tmp_path, env=environment()
        )
        running.append(process)
        until = time.monotonic() + START_S
        while not _listens(port):
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.05)
        return process, port

    yield start
    for process in running:
        process.kill()
        process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as asking:
        return asking.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize("redirections", ["<&- >&- 2>&-", ">/dev/full"])
def test_output_that_goes_nowhere_ends_nothing(unseen: Unseen, redirections: str) -> None:
    process, port = unseen(redirections)
    assert httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=START_S).status_code == 200
    for stream in (0, 1, 2):
        assert os.readlink(f"/proc/{process.pid}/fd/{stream}").startswith(("/", "pipe:"))
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0


@pytest.mark.parametrize(("most", "told"), [(300, True), (4096, False)])
def test_as_many_files_may_be_open_as_the_system_allows(
    unseen: Unseen, tmp_path: Path, most: int, told: bool
) -> None:
    process, port = unseen("2>log", before=f"ulimit -Sn 200; ulimit -Hn {most}")
    assert httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=START_S).status_code == 200
    assert resource.prlimit(process.pid, resource.RLIMIT_NOFILE) == (most, most)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    assert ("limits.in_flight" in (tmp_path / "log").read_text()) is told


def test_signals_while_it_starts(unseen: Unseen, tmp_path: Path) -> None:
    (tmp_path / "categories").mkdir()
    (tmp_path / "examples.txt").write_text("".join(f"a long enough example {i}\n" for i in range(50_000)))
    (tmp_path / "categories" / "many.yaml").write_text(
        "name: many\nthreshold: 0.9\nttl: 1h\nexamples_file: ../examples.txt\n"
    )
    process, _ = unseen("", "--categories", "categories")
    process.send_signal(signal.SIGHUP)
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0


# Categories that change under it


def test_a_second_proxy_on_one_sqlite_file_is_refused_until_the_first_ends(
    serve: Serve, tmp_path: Path
) -> None:
    first = serve()

    def second(*flags: str) -> subprocess.CompletedProcess[str]:
        order = command("serve", "--port", "0", "--admin-port", "0", *flags)
        return subprocess.run(
            order, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=START_S
        )

    refused = second()
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert "another proxy serves from" in refused.stderr
    beside = command("export", "answers.jsonl")
    assert subprocess.run(beside, cwd=tmp_path, env=environment(), timeout=START_S).returncode == 0
    (tmp_path / "link.db").symlink_to("data/nearhit.db")
    assert second("--documents", "sqlite+aiosqlite:///link.db").returncode == 1
    first.process.kill()
    first.process.wait(20)
    serve()


STRICT = "name: default\nthreshold: 0.99\nttl: 1h\n"


@pytest.mark.parametrize("told", ["signal", "watch", "api"])
def test_changed_categories_are_taken_and_broken_ones_are_not(
    serve: Serve, tmp_path: Path, told: str
) -> None:
    file = tmp_path / "categories" / "default.yaml"
    file.parent.mkdir(exist_ok=True)
    for other in file.parent.glob("*.yaml"):
        other.unlink()
    file.write_text(STRICT)
    served = serve("--categories", str(file.parent))

    def threshold() -> Any:
        return served.get("/api/v1/categories/default")["threshold"]

    def tell() -> None:
        if told == "signal":
            served.process.send_signal(signal.SIGHUP)
        elif told == "api":
            httpx.post(served.admin + "/api/v1/reload")

    assert threshold() == 0.99
    file.write_text(STRICT.replace("0.99", "0.5"))
    tell()
    served.until(lambda: threshold() == 0.5)
    file.write_text(STRICT.replace("0.99", "very"))
    tell()
    served.until(lambda: served.get("/readyz")["categories"]["reload_error"])
    ready = served.get("/readyz")
    assert f"{file}:2" in ready["categories"]["reload_error"]
    assert any(f"{file}:2" in line for line in ready["degraded"])
    assert threshold() == 0.5
    if told != "api":
        served.until(lambda: f"{file}:2" in served.log.read_text())
    file.write_text(STRICT.replace("0.99", "0.6"))
    tell()
    served.until(lambda: threshold() == 0.6)
    assert served.get("/readyz")["categories"]["reload_error"] == ""


def test_links_that_come_go_and_turn_are_seen(serve: Serve, tmp_path: Path) -> None:
    sides = [tmp_path / "one", tmp_path / "two"]
    for side, threshold in zip(sides, ("0.99", "0.98"), strict=True):
        side.mkdir()
        (side / "default.yaml").write_text(STRICT.replace("0.99", threshold))
        os.utime(side / "default.yaml", (1, 1))
    folder, turned = tmp_path / "linked", tmp_path / "turned"
    folder.symlink_to(sides[0])
    turned.symlink_to(sides[1])
    served = serve("--categories", str(folder))
    turned.replace(folder)
    served.until(lambda: served.get("/api/v1/categories/default")["threshold"] == 0.98)
    astray = folder / "astray.yaml"
    astray.symlink_to(tmp_path / "nowhere")
    served.until(lambda: str(astray) in served.get("/readyz")["categories"]["reload_error"])
    astray.unlink()
    served.until(lambda: not served.get("/readyz")["categories"]["reload_error"])


# Commands that need no server


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("NEARHIT_"):
            monkeypatch.delenv(name)
    return tmp_path


Captured = pytest.CaptureFixture[str]


def test_help_is_quick_and_lists_every_command(here: Path) -> None:
    heavy = {"numpy", "onnxruntime", "aiohttp", "tokenizers", "sqlalchemy", "httpx", "rich"}
    script = (
        "import sys; from proxy.cli.main import run; code = run(['--help']);"
        f"sys.exit(f'imported {{modules}}' if (modules := {heavy} & set(sys.modules)) else code)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], env=environment(), capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    for name in ("serve", "check", "explain", "stats", "purge", "demo-upstream", "simulate"):
        assert f"\n  {name} " in ended.stdout


@pytest.mark.parametrize("name", sorted({*nearhit.commands, *_ELSEWHERE}))
def test_every_command_has_help(here: Path, capsys: Captured, name: str) -> None:
    assert run([name, "--help"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"Usage: nearhit {name}")


@pytest.mark.parametrize(
    "arguments",
    [
        ["nothing"],
        ["serve", "--nothing"],
        ["explain"],
        ["purge"],
        ["purge", "--threshold", "high", "--like", "x"],
        ["demo-upstream", "--error-rate", "2"],
        ["demo-upstream", "--capacity", "-1"],
        ["demo-upstream", "--port", "70000"],
    ],
)
def test_wrong_usage_is_one_line_and_exit_2(here: Path, capsys: Captured, arguments: list[str]) -> None:
    assert run(arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert "--help" in captured.err
    assert captured.out == ""


@pytest.mark.parametrize("name", ["serve", "check", "stats", "purge --everything", "explain x"])
def test_bad_settings_name_file_and_line_and_exit_2(here: Path, capsys: Captured, name: str) -> None:
    (here / "nearhit.yaml").write_text("listen:\n  prot: 1\nadmin:\n  port: many\n")
    assert run(name.split()) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(" ")[0] for line in lines] == ["nearhit.yaml:2:", "nearhit.yaml:4:"]
    assert "did you mean 'port'" in lines[0]


def test_a_bad_flag_is_named_as_it_is_written(here: Path, capsys: Captured) -> None:
    assert run(["check", "--port", "70000", "--upstream", "nowhere"]) == 2
    lines = sorted(capsys.readouterr().err.splitlines())
    assert [line.partition(":")[0] for line in lines] == ["--listen-port", "--upstream-url"]
    assert run(["serve", "--listen-port", "http"]) == 2


def test_bad_prices_name_file_and_line_and_exit_2(
    here: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "prices.yaml").write_text("as_of: 2026-01-01\nprices:\n  - {models: [x], input: -1, output: 2}\n")
    monkeypatch.setenv("NEARHIT_PRICES", "prices.yaml")
    for name in ("serve", "check"):
        assert run([name]) == 2
        err = capsys.readouterr().err
        assert err.count("\n") == 1
        assert err.startswith("prices.yaml:3: prices.0.input")


def test_bad_categories_name_file_and_line_and_exit_2(here: Path, capsys: Captured) -> None:
    (here / "c").mkdir()
    (here / "c" / "a.yaml").write_text("name: a\nthreshold: 2\nttl: soon\n")
    for name in ("check", "serve"):
        assert run([name, "--categories", "c", "--port", "0", "--admin-port", "0"]) == 2
        assert [line.partition(" ")[0] for line in capsys.readouterr().err.splitlines()] == [
            "c/a.yaml:2:",
            "c/a.yaml:3:",
        ]


def test_check_prints_what_holds_and_masks_secrets(
    here: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEARHIT_ADMIN__TOKEN", "hunter2")
    assert run(["check", "--port", "9000"]) == 0
    out = capsys.readouterr().out
    assert "port: 9000" in out
    assert "token: '***'" in out
    assert "general_knowledge" in out
    assert " ttl   2592000 s " in out
    assert run(["check", "--json"]) == 0
    shown = json.loads(both := capsys.readouterr().out)
    assert shown["settings"]["admin"]["token"] == "***"
    assert shown["categories"]["default"]["cacheable"] is True
    assert "hunter2" not in out + both


def test_check_writes_nothing(here: Path) -> None:
    assert run(["check"]) == 0
    assert list(here.iterdir()) == []


@pytest.mark.parametrize("name", ["stats", "explain x", "purge --everything"])
def test_no_server_is_one_line_and_exit_1(here: Path, capsys: Captured, name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    assert run([*name.split(), "--admin-port", port]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "start nearhit serve" in err


# Commands that ask a running proxy


def test_the_commands_ask_the_running_proxy(
    serve: Serve, here: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = serve(NEARHIT_ADMIN__TOKEN="s3cret")

    def ask(*arguments: str, code: int = 0) -> str:
        assert run([*arguments, "--url", served.admin]) == code
        captured = capsys.readouterr()
        return captured.err if code else captured.out

    assert "NEARHIT_ADMIN__TOKEN" in ask("stats", code=1)
    monkeypatch.setenv("NEARHIT_ADMIN__TOKEN", "s3cret")
    served.ask(QUESTION)
    served.ask(QUESTION)
    lines = ask("stats").splitlines()
    narrow = Console(width=80, file=io.StringIO())
    with narrow.capture() as shown:
        narrow.print(running._table(json.loads(ask("stats", "--json"))))
    assert "…" not in shown.get() + "".join(lines)
    assert any(re.match(r"\s*general_knowledge +2 +50% +- +50% +0% +0% +0% +1 +\d", line) for line in lines)
    pays = r"\s*general_knowledge +- +- +- +- +- +- +on +fewer than"
    assert any(re.match(pays, line) for line in lines)
    assert json.loads(ask("stats", "--json"))["overall"]["exact"] == 1
    assert ask("explain", IN_OTHER_WORDS).startswith("HIT: similarity 0.9")
    assert json.loads(ask("explain", "--json", "zebra"))["outcome"] == "MISS"
    assert "no category" in ask("explain", "x", "--category", "nothing", code=2)
    assert ask("purge", "--like", QUESTION).startswith("1 entries match (general_knowledge 1)")
    assert json.loads(ask("purge", "--everything", "--json"))["matched"] == 1
    assert ask("purge", "--category", "code", "--yes").startswith("0 entries purged")
    assert "did you mean 'weather'?" in ask("purge", "--category", "wether", "--yes", code=2)
    assert ask("purge", "--older-than", "soon", code=2).count("\n") == 1
    assert ask("purge", "--everything", "--yes").startswith("1 entries purged")
    assert json.loads(ask("stats", "--json"))["entries"] == 0


def test_the_demo_upstream_behaves_as_told(tmp_path: Path) -> None:
    process = subprocess.Popen(
        command("demo-upstream", "--port", "0", "--error-rate", "1"),
        cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        assert process.stdout
        (url,) = URL.findall(process.stdout.readline())
        body = {"model": "demo-chat", "messages": [{"role": "user", "content": "hi"}]}
        assert httpx.post(f"{url}/v1/chat/completions", json=body, timeout=20).status_code == 500
        port = url.rpartition(":")[2]
        taken = subprocess.run(
            command("demo-upstream", "--port", port),
            cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=START_S,
        )  # fmt: skip
        assert (taken.returncode, taken.stderr.count("\n"), "--port" in taken.stderr) == (1, 1, True)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
