"""Taking the category files when they change, and living through whatever they turn out to be."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from world import MakeWorld

from proxy import app as composition
from proxy import categories
from proxy.cache import Rules


class Folder:
    """What the watcher sees: another folder at every look while `changing`."""

    changing = False
    looks = 0
    state = 0

    def __call__(self, folder: Path | None) -> dict[Path, tuple[int, int]]:
        self.looks += 1
        self.state += self.changing
        return {Path("one.yaml"): (self.state, 0)}


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Folder:
    watched = Folder()
    monkeypatch.setattr(categories, "WATCH_EVERY_S", 0.005)
    for module in (composition, categories):
        monkeypatch.setattr(module, "stamps", watched)
    return watched


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


async def looked(folder: Folder, times: int = 10) -> None:
    enough = folder.looks + times
    await until(lambda: folder.looks >= enough)


async def test_a_folder_is_taken_once_it_has_settled(
    make_world: MakeWorld, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, reloads = (await make_world()).app, []

    async def reload() -> None:
        reloads.append(folder.state)

    monkeypatch.setattr(app.categories, "reload", reload)
    folder.changing = True
    await looked(folder)
    assert reloads == []
    folder.changing = False
    await looked(folder)
    assert reloads == [folder.state]


async def test_a_change_while_the_files_are_read_at_start_is_not_missed(
    make_world: MakeWorld, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    really, read = Rules.read, list[int]()

    async def slowly(*given: Any) -> Rules:
        rules = await really(*given)
        read.append(folder.state)
        folder.state += len(read) == 1  # somebody saves a file just after it was read
        return rules

    monkeypatch.setattr(Rules, "read", slowly)
    await make_world()
    await until(lambda: len(read) > 1)
    await looked(folder)
    assert read == [0, 1]


async def test_the_watcher_lives_through_any_failure(
    make_world: MakeWorld, folder: Folder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(*_: Any) -> None:
        raise RuntimeError("nobody thought of this")

    app = (await make_world()).app
    with monkeypatch.context() as broken:
        broken.setattr(Rules, "read", fail)
        folder.state += 1
        await until(lambda: app.categories.error)
    assert "nobody thought of this" in app.categories.error
    assert "nobody thought of this" in caplog.text
    folder.state += 1
    await until(lambda: not app.categories.error)


def test_a_file_that_cannot_be_looked_at_still_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.stat

    def stat(path: Path, **options: Any) -> Any:
        if path.name == "secret.yaml":
            raise PermissionError(path)
        return real(path, **options)

    for name in ("open.yaml", "secret.yaml"):
        (tmp_path / name).write_text(name)
    monkeypatch.setattr(Path, "stat", stat)
    stamps = categories.stamps(tmp_path)
    assert stamps.keys() == {tmp_path / "open.yaml", tmp_path / "secret.yaml"}
    assert stamps[tmp_path / "secret.yaml"] == ()


async def test_of_two_that_reload_the_later_reader_has_the_last_word(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = (await make_world()).app
    older, newer, slow = (
        app.cache.rules,
        Rules(app.cache.rules.book, app.cache.rules.classifier),
        asyncio.Event(),
    )
    found = iter([(older, slow.wait()), (newer, asyncio.sleep(0))])

    async def read(*_: Any) -> Rules:
        rules, takes = next(found)
        await takes
        return rules

    monkeypatch.setattr(Rules, "read", read)
    first, second = (asyncio.create_task(app.categories.reload()) for _ in range(2))
    await asyncio.sleep(0.05)
    slow.set()
    await asyncio.gather(first, second)
    assert app.cache.rules is newer
