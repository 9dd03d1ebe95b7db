"""Category files through the admin plane."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from planes import API, Plane, loaded, plane_of
from world import MakeWorld
from yarl import URL


def files(folder: Path) -> dict[str, str]:
    """All under it."""
    return {str(path): path.read_text() for path in folder.rglob("*.y*ml*")}


TEXT = "name: strict\nthreshold: 0.5\nttl: 1h\n"


@pytest.fixture
async def plane(make_world: MakeWorld) -> AsyncIterator[Plane]:
    async with AsyncExitStack() as stack:
        plane = await stack.enter_async_context(plane_of(await make_world()))
        await loaded(plane)
        yield plane


async def test_a_mistake_is_told_with_its_line_and_nothing_is_written(plane: Plane, categories: Path) -> None:
    before = files(categories)
    told = await plane.post("/categories/strict/check", {"text": TEXT.replace("0.5", "high")})
    assert "strict.yaml:2" in told["problems"][0]["place"]
    assert (await plane.post("/categories/strict/check", {"text": TEXT}))["problems"] == []
    bad = {"text": TEXT.replace("0.5", "7")}
    assert (await plane.refused("PUT", f"{API}/categories/strict", json=bad))[0] == 422
    assert files(categories) == before


async def test_what_is_written_is_in_force(plane: Plane, categories: Path) -> None:
    (categories / "strict.yaml").chmod(0o640)
    for threshold in (0.5, 0.6):
        text = TEXT.replace("0.5", str(threshold))
        assert (await plane.call("PUT", f"{API}/categories/strict", json={"text": text})).status == 200
        assert (categories / "strict.yaml").read_text() == text
        assert (await plane.get(f"{API}/categories/strict"))["threshold"] == threshold
    assert (categories / "strict.yaml").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("name", ["..%2Fother", "%2Ftmp%2Fother", "Strict", ".strict", "strict%0A"])
async def test_no_name_leaves_the_folder(plane: Plane, categories: Path, name: str) -> None:
    before = files(categories.parent)
    url = URL(f"{plane.url}{API}/categories/{name}", encoded=True)
    async with plane.world.session.put(url, json={"text": TEXT}) as response:
        assert response.status in (400, 404)
    assert files(categories.parent) == before


async def test_a_category_is_not_renamed_nor_another_overwritten(plane: Plane, categories: Path) -> None:
    (categories / "lax.yaml").write_text("{name: loose, threshold: 0.5, ttl: 1h}")
    for name, text in {
        "other": TEXT.replace("strict", "unheard"),
        "lax": TEXT.replace("strict", "lax"),
    }.items():
        assert (await plane.refused("PUT", f"{API}/categories/{name}", json={"text": text}))[0] == 422
    assert "loose" in (categories / "lax.yaml").read_text()


async def test_another_sites_page_may_not_write(plane: Plane, categories: Path) -> None:
    before = files(categories)
    status, _ = await plane.refused(
        "PUT", f"{API}/categories/strict", json={"text": TEXT}, headers={"Origin": "https://evil.example"}
    )
    assert status == 403
    assert files(categories) == before


async def test_no_other_file_of_the_machine_is_read(plane: Plane, categories: Path) -> None:
    before = files(categories)
    text = TEXT + "examples_file: /etc/passwd\n"
    told = await plane.post("/categories/strict/check", {"text": text})
    assert "examples_file" in told["problems"][0]["message"]
    assert (await plane.refused("PUT", f"{API}/categories/strict", json={"text": text}))[0] == 422
    assert files(categories) == before


async def test_the_file_as_it_is(plane: Plane, categories: Path, make_world: MakeWorld) -> None:
    told = await plane.get(f"{API}/categories/strict/text")
    assert told == {"text": (categories / "strict.yaml").read_text(), "writable": True}
    assert (await plane.refused("GET", f"{API}/categories/nothing/text"))[0] == 404
    async with plane_of(await make_world(categories=None)) as packaged:
        told = await packaged.get(f"{API}/categories/code/text")
        assert told["text"].startswith("name: code")
        assert not told["writable"]
        assert (await packaged.refused("PUT", f"{API}/categories/code", json=told | {"text": "x"}))[0] in (
            400,
            422,
        )
