"""Continuous integration goes on without the tools that it cannot install, and says which."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOOLS = ("chromium", "promtool", "docker-compose", "helm")


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A checkout on a machine that has none of the tools; `make` tells what it was called with."""
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "run", tmp_path / ".ci" / "run")
    commands = tmp_path / "bin"
    commands.mkdir()
    for name in ("bash", "dirname", "timeout", "mkdir"):
        (commands / name).symlink_to(shutil.which(name) or name)
    put(commands, "make", 'echo "make $* CI=$CI WITHOUT_CHROMIUM=${WITHOUT_CHROMIUM-}"')
    return tmp_path


def put(commands: Path, name: str, script: str) -> None:
    (commands / name).write_text(f"#!{commands}/bash\n{script}\n")
    (commands / name).chmod(0o755)


def run(bare: Path) -> subprocess.CompletedProcess[str]:
    environ = {"PATH": str(bare / "bin"), "HOME": str(bare)}
    command = [shutil.which("bash") or "bash", str(bare / ".ci" / "run")]
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("apt", ["exit 100", None])
def test_what_cannot_be_installed_is_said_and_the_checks_run(bare: Path, apt: str | None) -> None:
    if apt is not None:
        put(bare / "bin", "apt-get", apt)
    done = run(bare)
    assert (done.returncode, done.stdout) == (
        0, "make check CI=true WITHOUT_CHROMIUM=apt-get install chromium failed\n",
    )  # fmt: skip
    assert [line.split()[0] for line in done.stderr.splitlines()] == list(TOOLS)


def test_the_package_index_is_asked_once(bare: Path) -> None:
    put(bare / "bin", "apt-get", f'echo "$1" >>{bare}/asked; exit 100')
    assert run(bare).returncode == 0
    assert (bare / "asked").read_text() == "update\n"


def test_what_is_there_is_not_installed(bare: Path) -> None:
    for name in TOOLS:
        put(bare / "bin", name, "exit 0")
    put(bare / "bin", "apt-get", f"touch {bare}/asked")
    done = run(bare)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "make check CI=true WITHOUT_CHROMIUM=\n"
    assert not (bare / "asked").exists()


def test_a_red_build_stays_red(bare: Path) -> None:
    put(bare / "bin", "make", "exit 2")
    assert run(bare).returncode == 2


def test_it_can_be_run() -> None:
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
