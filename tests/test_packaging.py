"""What stands around the program: locks, compose file, image, make."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from proxy.settings import settings_fields
from proxy.settings_sources import load_settings

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())


def locked(name: str) -> dict[str, str]:
    """Distribution to version."""
    lines = [line for line in (ROOT / name).read_text().splitlines() if line and not line.startswith("#")]
    assert all("==" in line for line in lines), lines
    return {canonicalize_name(line.split("==")[0]): line.split("==")[1] for line in lines}


@pytest.mark.parametrize(
    ("wanted", "files"),
    [
        (PROJECT["dependencies"], ["requirements.lock"]),
        (PROJECT["optional-dependencies"]["graph"], ["requirements-graph.lock"]),
        *(
            (PROJECT["optional-dependencies"][name], ["requirements-extras.lock"])
            for name in ("postgres", "redis", "encryption", "otel")
        ),
        (PROJECT["optional-dependencies"]["dev"], ["requirements.lock", "requirements-dev.lock"]),
    ],
)
def test_the_locks_hold_a_fitting_version_of_every_dependency(wanted, files):
    versions = {name: version for file in files for name, version in locked(file).items()}
    for requirement in map(Requirement, wanted):
        assert versions[canonicalize_name(requirement.name)] in requirement.specifier, requirement


def test_no_distribution_is_locked_twice():
    extras, tools = locked("requirements-extras.lock"), locked("requirements-dev.lock")
    assert not locked("requirements.lock").keys() & (extras.keys() | tools.keys())
    assert extras.items() <= tools.items()  # the tests run with what the image has


@pytest.mark.parametrize("name", ["proxy", "policies", "embeddings", "storage"])
def test_no_other_distribution_owns_our_names(name):
    assert set(packages_distributions().get(name, [])) <= {"nearhit"}


# ------------------------------------------------------------------------------------------------ containers


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_every_service_is_pinned_watched_bounded_and_not_root(name):
    service = COMPOSE["services"][name]
    assert re.search(r":v?\d+\.\d+", service["image"])
    assert service["healthcheck"]["test"][0] == "CMD"
    assert service["deploy"]["resources"]["limits"].keys() == {"cpus", "memory"}
    assert int(service["user"].split(":")[0]) > 0
    for volume in service["volumes"]:
        source = volume.split(":")[0]
        assert source in COMPOSE["volumes"] or (ROOT / source).exists()
    assert service.get("read_only") or service["cap_drop"] == ["ALL"]
    for port in service.get("ports", ()):
        assert port.startswith("127.0.0.1:")


def test_only_what_nearhit_uses_starts_by_itself():
    assert [name for name, each in COMPOSE["services"].items() if "profiles" not in each] == ["nearhit"]


def test_the_composed_proxy_is_given_settings_that_hold():
    environ = {key: str(value) for key, value in COMPOSE["services"]["nearhit"]["environment"].items()}
    known = {"NEARHIT_" + "__".join(name).upper() for name, _ in settings_fields()}
    assert environ.keys() <= known
    assert environ["NEARHIT_ADMIN__TOKEN"].startswith("${NEARHIT_ADMIN__TOKEN:?")
    given = {name: re.sub(r"^\$\{.*:-\}$", "", value) for name, value in environ.items()}
    given["NEARHIT_ADMIN__TOKEN"] = "t"
    assert load_settings(Path(os.devnull), given, {}).admin.host == "0.0.0.0"


def test_compose_takes_the_file_and_asks_for_a_token():
    command = compose_command()
    if command is None:
        pytest.skip("neither `docker compose` nor `docker-compose` is here")
    environ = {key: value for key, value in os.environ.items() if not key.startswith("NEARHIT_")}

    def config(*flags: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *flags, "config"],
            cwd=ROOT,
            env=environ | more,
            capture_output=True,
            text=True,
            timeout=60,
        )

    done = config(NEARHIT_ADMIN__TOKEN="t")
    assert done.returncode == 0, done.stderr
    assert "nearhit" in yaml.safe_load(done.stdout)["services"]
    profiles = {name for each in COMPOSE["services"].values() for name in each.get("profiles", ())}
    everything = config(*(f"--profile={name}" for name in profiles), NEARHIT_ADMIN__TOKEN="t")
    assert yaml.safe_load(everything.stdout)["services"].keys() == COMPOSE["services"].keys()
    refused = config()
    assert refused.returncode != 0
    assert "set it to a long random text" in refused.stderr


def compose_command() -> list[str] | None:
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]):
            asked = subprocess.run([*command, "version"], capture_output=True, timeout=60)
            if asked.returncode == 0:
                return command
    return None


IMAGES = ["Dockerfile", "deploy/Dockerfile.cuda"]


@pytest.mark.parametrize("name", IMAGES)
def test_the_image_is_portable_and_not_root_and_has_no_compiler(name):
    build, final = (ROOT / name).read_text().split("\nFROM ")[1:]
    assert re.match(r"python:\d+\.\d+\.\d+-slim", build)
    assert build.split()[0] == final.split()[0]
    assert "HNSWLIB_NO_NATIVE=1" in build
    assert "g++" in build
    assert "apt-get" not in final
    assert "\nUSER 10001:10001\n" in final  # a number: Kubernetes cannot tell that a name is not root
    assert "/healthz" in final
    assert "COPY --from=build" in final


def test_the_image_gets_what_it_copies():
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignored[0] == "*"
    kept = {line[1:] for line in ignored if line.startswith("!")}
    assert {"proxy", "policies", "embeddings", "storage", "pyproject.toml", "README.md", "LICENSE"} <= kept
    assert {"requirements.lock", "requirements-extras.lock", "requirements-graph.lock"} <= kept


# ------------------------------------------------------------------------------------------------------ make


@pytest.mark.parametrize(
    "target", ["run", "test", "check", "bench", "bench-encoder", "bench-search", "clean"]
)
def test_make_knows_its_targets(target):
    done = subprocess.run(["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("lack", "advice"),
    [
        ("sys.version_info = (3, 10)", "needs Python 3.11 or newer"),
        ("sys.modules['ensurepip'] = None", "install its venv package"),
    ],
)
def test_make_says_in_one_line_what_a_machine_lacks(tmp_path, lack, advice):
    ours = f'#!/bin/sh\nexec {sys.executable} -c "import sys; {lack}; exec(sys.argv[1])" "$2"\n'
    for name in ("python3", "python3.11", "python3.12", "python3.13"):
        (tmp_path / name).write_text(ours)
        (tmp_path / name).chmod(0o755)
    environ = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    command = ["make", f"VENV={tmp_path}/venv", f"{tmp_path}/venv/bin/python"]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    said = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    assert len(said) == 1
    assert advice in said[0]


def test_a_machine_without_a_compiler_is_told_what_it_gets_instead(tmp_path):
    for name in ("dirname", "sh"):
        (tmp_path / name).symlink_to(shutil.which(name) or "")
    done = subprocess.run(
        ["sh", "tools/install-graph.sh", "/no/python"],
        cwd=ROOT,
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0
    assert done.stdout.startswith("no C++ compiler: exact search")


def test_a_failed_build_of_the_graph_stops_nothing(tmp_path):
    compiler = tmp_path / "c++"
    python = tmp_path / "venv/bin/python"
    python.parent.mkdir(parents=True)
    for script in (compiler, python):
        script.write_text("#!/bin/sh\nexit 1\n")
        script.chmod(0o755)
    environ = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    command = ["sh", "tools/install-graph.sh", str(python)]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert "did not build" in done.stdout
    assert (tmp_path / "venv/hnswlib.log").exists()


def test_continuous_integration_calls_make_check():
    assert os.access(ROOT / ".ci/run", os.X_OK)
    assert (ROOT / ".ci/run").read_text().endswith("exec make check\n")
