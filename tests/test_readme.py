"""What the README promises is what there is."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from policies.loader import load_category
from proxy.admin.routes import API, ROUTES, Route
from proxy.cli.main import nearhit
from proxy.controls import REMOVED
from proxy.settings import settings_fields

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
SETTINGS = (ROOT / "docs" / "settings.md").read_text()
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def test_nothing_is_left_to_be_filled_in() -> None:
    assert "@@" not in README


def test_every_control_is_named() -> None:
    assert [name for name in sorted(REMOVED) if name.lower() not in README.lower()] == []


@pytest.mark.parametrize(
    "header",
    ["Cache-Status", "Age", "X-Cache", "X-Cache-Tier", "X-Cache-Category", "X-Cache-Bypass-Reason",
     "X-Cache-Entry-Id", "X-Cache-Similarity", "X-Cache-Threshold", "X-Cache-Pressure"],
)  # fmt: skip
def test_every_header_of_an_answer_is_named(header: str) -> None:
    assert header in README
    assert header in (ROOT / "proxy" / "telemetry" / "report.py").read_text()


def test_every_command_it_names_exists_and_every_command_is_named() -> None:
    named = set(re.findall(r"^ {4}nearhit ([a-z-]+)", README, re.MULTILINE))
    named |= set(re.findall(r"`nearhit ([a-z-]+)", README))
    known = set(nearhit.list_commands(click.Context(nearhit)))
    assert named <= known
    assert known - named <= {"serve"}  # what `make run` calls


@pytest.mark.parametrize("target", ["run", "test", "check", "bench", "clean"])
def test_the_make_targets_that_everybody_needs_are_named(target: str) -> None:
    assert f"    make {target}" in README


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_every_endpoint_of_the_admin_plane_is_named(route: Route) -> None:
    assert f"`{route.method} {route.path.removeprefix(f'{API}/')}`" in README


def test_the_settings_it_lists_have_the_defaults_it_tells() -> None:
    listed = dict(re.findall(r"^\| `([a-z.]+)` \| (.+?) \| .+ \|$", README, re.MULTILINE))
    told = re.findall(r"^\| `([a-z._]+)` \| `NEARHIT_\w+` \| (.+?) \| .+ \|$", SETTINGS, re.MULTILINE)
    assert len(listed) >= 15
    assert listed == {name: default for name, default in told if name in listed}


def test_every_make_target_it_names_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z-]+)\b(?! them| a | every)", README)) <= targets


def test_the_category_it_shows_is_one(tmp_path: Path) -> None:
    (shown,) = blocks("yaml")
    file = tmp_path / "code.yaml"
    file.write_text(shown)
    assert load_category(file).name == "code"


def test_settings_it_names_exist() -> None:
    known = {".".join(name) for name, _ in settings_fields()}
    named = set(
        re.findall(r"`((?:upstream|tenancy|limits|documents|admin|listen|capacity)\.[a-z_]+)", README)
    )
    assert named <= known


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text())
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []


def test_every_module_of_the_proxy_and_of_storage_is_on_the_map() -> None:
    shown = (ROOT / "docs/architecture.md").read_text()
    folders = ("proxy", "proxy/cli", "proxy/demo", "proxy/telemetry", "proxy/upstreams")
    modules = [path.name for folder in folders for path in (ROOT / folder).glob("[!_]*.py")]
    modules += [path.name for path in (ROOT / "storage").rglob("[!_]*.py")]
    assert [name for name in modules if not re.search(rf"(?<![\w/]){name}", shown)] == []


def test_every_module_of_the_guards_is_on_their_map() -> None:
    shown = (ROOT / "docs/guards.md").read_text()
    modules = [path.name for path in (ROOT / "policies/guards").glob("[!_]*.py")]
    assert [name for name in modules if not re.search(rf"(?<![\w/]){name}", shown)] == []
