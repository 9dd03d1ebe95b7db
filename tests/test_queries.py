"""Every query of dashboard and alerts, against the metrics of a proxy that has been used."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, get_args

import promql_parser
import pytest
import yaml
from planes import Plane, loaded, plane_of
from prometheus_client.parser import text_string_to_metric_families
from redis_server import RedisServer
from sqlalchemy.engine import make_url
from world import MakeWorld

from proxy.telemetry.report import Outcome
from storage.documents.memory import MemoryDocuments
from storage.vectors.pgvector import PgVectors
from storage.vectors.remote import RemoteVectors

ROOT = Path(__file__).parents[1]
PROMETHEUS = ROOT / "deploy" / "prometheus"
DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "nearhit.json").read_text())
RULES = yaml.safe_load((PROMETHEUS / "alerts.yaml").read_text())["groups"][0]["rules"]
ADDED = {"instance", "job"}
"""Labels that Prometheus gives to all it scrapes."""
PRICED = "gpt-4o-mini"

Series = dict[str, dict[str, set[str]]]
"""By name of a series: its labels, and the values that each has."""


def queries() -> list[str]:
    """Grafana's variables replaced by what they stand for."""
    panels = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]
    shown = [re.sub(r"\$__(rate_interval|range)", "5m", each) for each in panels]
    shown = [re.sub(r"\$(instance|category)", ".*", each) for each in shown]
    return [*shown, *(rule["expr"] for rule in RULES)]


def nodes(query: str) -> list[Any]:
    found: list[Any] = []
    promql_parser.walk(promql_parser.parse(query), found.append)
    return found


def selectors(query: str) -> Iterator[Any]:
    for node in nodes(query):
        if isinstance(node, promql_parser.VectorSelector):
            yield node
        elif isinstance(node, promql_parser.MatrixSelector):
            yield node.vector_selector


def named(node: Any) -> set[str]:
    """Labels that an operator groups or joins by."""
    modifier = getattr(node, "modifier", None)
    if isinstance(node, promql_parser.AggregateExpr):
        return set(modifier.labels) if modifier else set()
    if isinstance(node, promql_parser.BinaryExpr) and modifier is not None:
        return set(modifier.matching.labels if modifier.matching else ()) | set(modifier.group_labels or ())
    return set()


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@asynccontextmanager
async def vectors_elsewhere() -> AsyncIterator[RemoteVectors]:
    vectors = RemoteVectors(PgVectors(make_url("postgresql://"), 8, ""), 8, MemoryDocuments().entries, 1.0)
    yield vectors
    await vectors.close()


@pytest.fixture
async def used(redis: RedisServer, make_world: MakeWorld, tmp_path: Path) -> AsyncIterator[Plane]:
    """Every kind of thing has happened to this one."""
    async with AsyncExitStack() as stack:
        target = (
            "{name: aimed, threshold: 0.8, ttl: 1h, target_wrong_rate: 1%, match: {patterns: ['^aimed']}}"
        )
        (tmp_path / "categories" / "aimed.yaml").write_text(target)
        world = await make_world(
            upstream={"limit": 2},
            log={"trace": tmp_path / "calls.jsonl"},
            documents={"url": redis.url},
            replication={"url": redis.url},
        )
        plane = await stack.enter_async_context(plane_of(world))
        await loaded(plane)
        await plane.store("how are you today my friend", model=PRICED)
        await world.ask("how are you today my friend", model=PRICED)
        hit = await world.ask("how are you today my friend please", model=PRICED)
        assert hit.cache == "HIT semantic"
        await plane.post("/feedback", {"entry_id": hit.headers["X-Cache-Entry-Id"], "verdict": "right"})
        await world.ask("what is the sum of 12 and the others here", model=PRICED)
        await world.settled()
        await world.ask("what is the sum of 13 and the others here", model=PRICED)
        await world.ask("never mind")
        for number in range(25):
            await world.ask(f"one{number} two{number} three{number}", model=PRICED)
        await world.ask("this one fails", headers={"X-Demo-Status": "503"})
        elsewhere = await stack.enter_async_context(vectors_elsewhere())
        told = elsewhere.stats() | {"recall": 0.99}  # what either place tells
        world.app.cache.entries.vectors.stats = lambda: told  # type: ignore[method-assign]
        world.embedder.broken = True
        await world.ask("nothing works")
        world.app.fleet.at("").admission.refused["full"] += 1  # type: ignore[union-attr]
        yield plane


@pytest.fixture
async def text(used: Plane) -> str:
    return (await used.call("GET", "/metrics")).body.decode()


@pytest.fixture
async def series(text: str) -> Series:
    found: Series = defaultdict(lambda: defaultdict(set))
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name].update({})
            for label, value in sample.labels.items():
                found[sample.name][label].add(value)
    found["up"].update({})
    return found


async def test_every_query_names_what_there_is(series: Series) -> None:
    for query in queries():
        for selector in selectors(query):
            assert selector.name in series, query
            matched = {matcher.name for matcher in selector.matchers.matchers}
            assert matched <= series[selector.name].keys() | ADDED, query
        labels = {label for each in selectors(query) for label in series[each.name]} | ADDED
        for node in nodes(query):
            assert named(node) <= labels, query


def test_queries_about_outcomes_name_outcomes() -> None:
    for query in queries():
        for selector in selectors(query):
            for matcher in selector.matchers.matchers:
                if matcher.name == "outcome":
                    assert set(matcher.value.split("|")) <= set(get_args(Outcome)), query


async def test_the_page_lists_every_metric_and_no_other(text: str) -> None:
    page = (ROOT / "docs" / "admin.md").read_text().partition("## Metrics")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`.*?) \|(.*?)\| ", page, re.MULTILINE)
    listed = {name: labels for names, labels in rows for name in re.findall(r"`(\w+)`", names)}
    families = {
        family.name + ("_total" if family.type == "counter" else ""): family
        for family in text_string_to_metric_families(text)
    }
    assert sorted(listed) == sorted(families)
    for name, family in families.items():
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        assert labels == set(listed[name].strip().split(", ")) - {""}, name


async def test_names_and_units_are_those_of_prometheus(text: str) -> None:
    for family in text_string_to_metric_families(text):
        assert re.fullmatch(r"(nearhit|process)_[a-z_]+", family.name)
        assert family.documentation
        assert not re.search(r"_(ms|minutes|hours|kib|mib|percent)(_|$)", family.name)
        if family.type == "histogram":
            assert family.name.endswith("_seconds")


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_says_how_bad_it_is_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["alert"].startswith("Nearhit")
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    assert rule["annotations"].keys() == {"summary", "description"}
    assert f"`{rule['alert']}`" in (ROOT / "docs" / "deployment.md").read_text()
    for page in re.findall(r"docs/\w+\.md", rule["annotations"]["description"]):
        assert (ROOT / page).exists()


def test_alerts_fire_when_they_should() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("no promtool here: it comes with Debian's package prometheus")
    for arguments in (["check", "rules", "alerts.yaml"], ["test", "rules", "alerts.test.yaml"]):
        done = subprocess.run(
            [promtool, *arguments], cwd=PROMETHEUS, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_panels_do_not_overlap_and_have_names() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"])
                 for y in range(place["y"], place["y"] + place["h"])}  # fmt: skip
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
