"""Does what README tells somebody who has just found nearhit, in an empty clone, and says whether it came
out as told: the first start, a question, the same in other words as a hit, and the dashboard.

    python3 tools/newcomer.py

With `--venv` an environment that is there already is used, and with `--free-ports` other ports than README's.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urljoin
from urllib.request import urlopen

START_S = 900.0
SECTION = "## Thirty seconds"
PORTS = ("8080", "8081")
"""Data plane and admin plane, as README has them."""


class Untrue(Exception):
    """README says something else."""


def commands(text: str) -> list[str]:
    """The indented commands of a piece of README, continued lines joined."""
    found: list[str] = []
    for line in re.findall(r"^ {4}(.*)$", text, re.MULTILINE):
        if found and found[-1].endswith("\\"):
            found[-1] = found[-1][:-1] + line.strip()
        else:
            found.append(line.strip())
    return found


def section(readme: str, title: str) -> str:
    return readme.partition(title + "\n")[2].partition("\n## ")[0]


def clone(source: Path, folder: Path) -> str:
    """README of the clone."""
    subprocess.run(["git", "clone", "--quiet", str(source), str(folder)], check=True, timeout=120)
    return (folder / "README.md").read_text()


def free_ports() -> tuple[str, str]:
    with socket.socket() as one, socket.socket() as other:
        for each in (one, other):
            each.bind(("127.0.0.1", 0))
        return str(one.getsockname()[1]), str(other.getsockname()[1])


def elsewhere(text: str, ports: tuple[str, str]) -> str:
    for usual, ours in zip(PORTS, ports, strict=True):
        text = text.replace(f"127.0.0.1:{usual}", f"127.0.0.1:{ours}")
    return text


@contextmanager
def running(command: str, folder: Path, admin: str, environ: dict[str, str]) -> Iterator[None]:
    """For as long as the block lasts. Raises `Untrue` when it does not come up, or does not end."""
    with (folder / "newcomer.log").open("w+") as log:
        process = subprocess.Popen(
            ["sh", "-c", f"exec {command}"],
            cwd=folder,
            env=environ,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            _until_ready(process, admin, log.name)
            yield
        finally:
            os.killpg(process.pid, signal.SIGINT)
            if process.wait(30) not in (0, 130, -signal.SIGINT):
                raise Untrue(f"{command} ended with {process.returncode}: {Path(log.name).read_text()}")


def _until_ready(process: subprocess.Popen[bytes], admin: str, log: str) -> None:
    began = time.monotonic()
    while time.monotonic() < began + START_S and process.poll() is None:
        try:
            with urlopen(f"{admin}/readyz", timeout=5) as answer:
                if answer.status == 200:
                    return
        except (URLError, OSError):
            time.sleep(0.1)
    raise Untrue(f"it did not come up: {Path(log).read_text()}")


def answer_to(command: str, folder: Path) -> str:
    done = subprocess.run(["sh", "-c", command], cwd=folder, capture_output=True, text=True, timeout=60)
    if done.returncode:
        raise Untrue(f"{command}: {done.stderr}")
    return done.stdout


def look_at_dashboard(url: str) -> int:
    """Bytes of the page and all that it names."""
    page = _fetch(url)
    named = re.findall(r'(?:src|href)="([^"#:]+)"', page.decode())
    if not named or b"<title>" not in page:
        raise Untrue(f"there is no dashboard at {url}")
    return len(page) + sum(len(_fetch(urljoin(url + "/", each))) for each in named)


def _fetch(url: str) -> bytes:
    with urlopen(url, timeout=20) as answer:
        content: bytes = answer.read()
        return content


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("NEARHIT_", "MAKE"))}


def main() -> None:
    parser = argparse.ArgumentParser(description="Follow README in an empty clone.")
    parser.add_argument("--source", type=Path, default=Path(__file__).parents[1])
    parser.add_argument("--venv", type=Path)
    parser.add_argument("--free-ports", action="store_true")
    given = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory() as folder:
            follow(Path(folder) / "nearhit", given.source, given.venv, given.free_ports)
    except Untrue as error:
        sys.exit(f"README is not true: {error}")


def follow(folder: Path, source: Path, venv: Path | None, other_ports: bool) -> None:
    ports = free_ports() if other_ports else ("8080", "8081")
    told = elsewhere(section(clone(source, folder), SECTION), ports)
    start, *questions = commands(told)
    environ = environment()
    if other_ports:
        start += f' ARGS="--listen-port {ports[0]} --admin-port {ports[1]}"'
    if venv is not None:
        start += f" VENV={venv} -o {venv}/run.stamp"
        environ["PYTHONPATH"] = str(folder)
    began = time.monotonic()
    with running(start, folder, f"http://127.0.0.1:{ports[1]}", environ):
        print(f"{start}: up after {time.monotonic() - began:.0f} s")
        first, again = (answer_to(each, folder) for each in questions)
        if "X-Cache: MISS" not in first or "X-Cache: HIT" not in again:
            raise Untrue(f"the same in other words was no hit: {again}")
        print("the same question in other words: " + " ".join(re.findall(r"X-Cache.*(?<!\s)", again)))
        (dashboard,) = re.findall(r"The dashboard is at (http://[0-9.:]+[0-9])", told)
        print(f"the dashboard at {dashboard}: {look_at_dashboard(dashboard) // 1024} KiB")


if __name__ == "__main__":
    main()
