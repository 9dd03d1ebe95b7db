"""The dashboard in a real browser, over a proxy that is used."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from array import array
from bisect import bisect_left
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from planes import Plane, loaded, plane_of
from world import MakeWorld

from policies.economics import Meter
from proxy.telemetry.history import EDGES_MS, NAMES

pytest.importorskip("playwright", reason="the dashboard's tests need playwright: pip install playwright")

from axe_core_python.async_playwright import Axe
from playwright.async_api import Browser, Page, async_playwright, expect

VIEWS = (
    "overview",
    "categories",
    "categories/default",
    "economics",
    "load",
    "decisions",
    "entries",
    "explain",
    "purge",
    "health",
)
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


def chromium() -> str:
    found = os.environ.get("NEARHIT_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if found is None and (why := os.environ.get("WITHOUT_CHROMIUM")):
        pytest.skip(f"no Chromium here: {why}")
    if found is None and os.environ.get("CI") == "true":
        pytest.fail("no Chromium here: apt-get install chromium")
    if found is None:
        pytest.skip("no Chromium here: apt-get install chromium, or name one with NEARHIT_CHROMIUM")
    return found


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    path = chromium()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=QUIET)
        yield browser
        await browser.close()


class Tab:
    """A page of the dashboard, and what the browser complained of."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self.complaints: list[str] = []
        page.on("console", lambda told: told.type == "error" and self.complaints.append(told.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    async def open(self, view: str) -> Tab:
        await self.page.goto(f"{self.url}/#/{view}")
        await expect(self.page.locator("h1")).to_be_visible()
        await expect(self.page.locator("#state")).to_have_text("live")
        return self

    async def text(self) -> str:
        return await self.page.inner_text("main")


@pytest.fixture
async def plane(make_world: MakeWorld) -> AsyncIterator[Plane]:
    async with AsyncExitStack() as stack:
        plane = await stack.enter_async_context(plane_of(await make_world()))
        await loaded(plane)
        yield plane


@pytest.fixture
async def used(plane: Plane) -> Plane:
    await plane.store("how do i boil an egg", "how do i wash a car")
    for text in ("how do i boil an egg", "how do i boil an egg please", "never mind", "who are you"):
        await plane.world.ask(text)
    await plane.world.settled()
    return plane


async def tab(browser: Browser, plane: Plane, **options: Any) -> Tab:
    page = await (await browser.new_context(**options)).new_page()
    page.set_default_timeout(10_000)
    return Tab(page, plane.url)


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_every_view_opens_without_complaint(browser: Browser, used: Plane, scheme: str) -> None:
    there = await tab(browser, used, color_scheme=scheme)
    for view in VIEWS:
        await there.open(view)
        await there.page.wait_for_timeout(300)
        assert await there.page.locator("[role=alert]").count() == 0, await there.text()
        assert "NaN" not in await there.text()
        assert "undefined" not in await there.text()
        found = await Axe().run(there.page)
        assert [f"{view}: {each['id']}: {each['nodes'][0]['html']}" for each in found["violations"]] == []
    assert there.complaints == []


async def test_with_nothing_yet_figures_are_not_zero_but_unknown(browser: Browser, plane: Plane) -> None:
    there = await tab(browser, plane)
    for view in VIEWS:
        await there.open(view)
        await there.page.wait_for_timeout(200)
        assert "NaN" not in await there.text()
        assert await there.page.locator("[role=alert]").count() == 0, await there.text()
    await there.open("overview")
    tile = there.page.locator("dl.tile", has_text="Hit rate")
    await expect(tile.locator("dd").first).to_have_text("–")
    assert there.complaints == []


async def test_hit_rate_and_wrong_rate_stand_together(browser: Browser, used: Plane) -> None:
    entry = (await used.get("/api/v1/entries?q=boil"))["entries"][0]["id"]
    await used.post("/feedback", {"entry_id": entry, "verdict": "right"})
    there = await (await tab(browser, used)).open("overview")
    await expect(there.page.locator("dl.tile", has_text="Hit rate").locator("dd").first).to_have_text(
        "40.0 %"
    )
    wrong = there.page.locator("dl.tile", has_text="Wrong hits").locator("dd")
    await expect(wrong.first).to_have_text("0.0 %")
    await expect(wrong.last).to_have_text("of 1 hits that were checked")


async def test_decisions_arrive_by_themselves(browser: Browser, used: Plane) -> None:
    there = await (await tab(browser, used)).open("decisions")
    rows = there.page.locator("tbody tr")
    await expect(rows).to_have_count(6)
    await used.world.ask("how do i wash a car")
    await expect(rows).to_have_count(7)
    await expect(rows.first).to_contain_text("HIT exact")
    await there.page.get_by_label("Outcome").select_option("HIT semantic")
    await expect(rows).to_have_count(1)
    await expect(rows.first).to_contain_text("how do i boil an egg please")


async def test_what_callers_write_is_text(browser: Browser, plane: Plane) -> None:
    words = "<img src=x onerror=\"document.title='taken'\"> how are you"
    await plane.store(words)
    there = await tab(browser, plane)
    for view in ("decisions", "entries"):
        await there.open(view)
        await expect(there.page.locator("td.text").first).to_have_text(words)
    assert "taken" not in await there.page.title()


async def test_explaining_a_question(browser: Browser, used: Plane) -> None:
    there = await (await tab(browser, used)).open("explain")
    await there.page.get_by_label("Question").fill("how do i boil an egg now")
    await there.page.get_by_role("button", name="Explain").click()
    await expect(there.page.get_by_role("heading", name="Decision")).to_be_visible()
    assert "how do i boil an egg" in await there.text()


async def test_a_wrong_answer_is_taken_out(browser: Browser, used: Plane) -> None:
    there = await (await tab(browser, used)).open("entries")
    there.page.on("dialog", lambda dialog: dialog.accept())
    await there.page.get_by_role("link", name="how do i boil an egg").click()
    await there.page.get_by_role("button", name="This was wrong").click()
    await expect(there.page.get_by_text("served no more")).to_be_visible()
    assert (await used.world.ask("how do i boil an egg")).cache == "MISS"


async def test_a_purge_is_looked_at_first(browser: Browser, used: Plane) -> None:
    there = await (await tab(browser, used)).open("purge")
    there.page.on("dialog", lambda dialog: dialog.accept())
    purge = there.page.get_by_role("button", name="Purge")
    await expect(purge).to_be_disabled()
    await there.page.get_by_label("Category").fill("default")
    await there.page.get_by_role("button", name="Look what fits").click()
    await expect(there.page.get_by_text("entries: ")).to_be_visible()
    await purge.click()
    await expect(there.page.get_by_text("are gone")).to_be_visible()
    assert (await used.get("/api/v1/stats"))["entries"] == 0


async def test_a_category_is_edited(browser: Browser, used: Plane, categories: Path) -> None:
    there = await (await tab(browser, used)).open("categories/default")
    area = there.page.get_by_label("default.yaml")
    await expect(area).to_have_value((categories / "default.yaml").read_text())
    await area.fill("{name: default, threshold: 7, ttl: 1h}")
    await there.page.get_by_role("button", name="Check").click()
    await expect(there.page.locator("li.error")).to_contain_text("threshold")
    await area.fill("{name: default, threshold: 0.93, ttl: 1h}")
    await there.page.get_by_role("button", name="Check").click()
    await expect(there.page.get_by_text("Nothing is wrong with it")).to_be_visible()
    await there.page.get_by_role("button", name="Save").click()
    await expect(there.page.get_by_text("in force.", exact=False).last).to_contain_text("Saved")
    assert used.world.app.cache.rules.book.get("default").threshold == 0.93
    assert "0.93" in (categories / "default.yaml").read_text()


async def test_the_token_is_asked_for(browser: Browser, make_world: MakeWorld) -> None:
    async with plane_of(await make_world(admin={"token": "s3cret"})) as plane:
        there = await tab(browser, plane)
        await there.page.goto(plane.url)
        await there.page.get_by_label("Admin token").fill("s3cret")
        await there.page.get_by_role("button", name="Open").click()
        await expect(there.page.locator("dl.tile", has_text="Hit rate")).to_be_visible()


async def test_hidden_texts_are_said_to_be_hidden(browser: Browser, make_world: MakeWorld) -> None:
    async with plane_of(await make_world(admin={"show_text": False})) as plane:
        await loaded(plane)
        await plane.store("how do i boil an egg")
        there = await (await tab(browser, plane)).open("decisions")
        await expect(there.page.locator("td.text").first).to_have_text("hidden by setting")
        await there.open("explain")
        await there.page.get_by_label("Question").fill("how do i boil an egg now")
        await there.page.get_by_role("button", name="Explain").click()
        await expect(there.page.locator("td.text").first).to_contain_text("hidden by setting")
        await there.open("purge")
        await there.page.get_by_label("Category").fill("default")
        await there.page.get_by_role("button", name="Look what fits").click()
        await expect(there.page.get_by_text("hidden by setting")).to_be_visible()
        await there.open("entries")
        await expect(there.page.get_by_label("Question")).to_be_disabled()
        await there.page.locator("td.text a").click()
        await expect(there.page.locator("pre")).to_have_text("hidden by setting")
        assert there.complaints == []
        assert "boil" not in await there.page.content()


async def test_on_a_phone_nothing_sticks_out(browser: Browser, used: Plane) -> None:
    there = await tab(browser, used, viewport={"width": 360, "height": 740})
    for view in VIEWS:
        await there.open(view)
        await there.page.wait_for_timeout(200)
        assert await there.page.evaluate("document.documentElement.scrollWidth") <= 360, view


DAYS = 31
CLOCK = 1_700_000_000
SHIFTS = """
    window.shifted = 0;
    new PerformanceObserver((list) => {
      for (const each of list.getEntries()) if (!each.hadRecentInput) window.shifted += each.value;
    }).observe({ type: "layout-shift", buffered: true });
"""


async def test_a_month_is_shown_whole_in_few_points(browser: Browser, plane: Plane) -> None:
    kept, asked = plane.world.app.history, 0
    for hour in range(DAYS * 24):
        at = CLOCK - hour * 3600.0
        for category, ms in (("default", 3.0), ("brief", 700.0)):
            kept.levels[-1].add(int(at), {category: sums(requests=10, exact=4, misses=6, other_ms=ms)})
        asked += 20 * (hour < 30 * 24)
    there = await tab(browser, plane, viewport={"width": 1280, "height": 860})
    await there.page.add_init_script(SHIFTS)
    sizes = dict[str, int]()

    async def note(response: Any) -> None:
        if "stats/history" in response.url:
            told = await response.json()
            assert len(told["buckets"]) <= 361
            sizes[response.url.partition("window=")[2]] = len(await response.body())

    there.page.on("response", note)
    await there.open("overview")
    await there.page.locator("select").select_option(label="last month")
    calls = there.page.locator("dl.tile", has_text="Calls").locator("dd").first
    await expect(calls).to_have_text(re.compile(r"\d\d,\d\d\d"))
    more = int((await calls.inner_text()).replace(",", "")) - asked
    assert more in (0, 20, 40)  # of the two hours of a point that began before the window
    took = there.page.locator("dl.tile", has_text="Others take").locator("dd")
    await expect(took).to_have_text(["≈ 5.0 ms", "95 % within 920 ms"])
    span = [await there.page.evaluate(MOMENT, at) for at in (CLOCK - 30 * 86400, CLOCK)]
    for chart in await there.page.get_by_role("img").all():
        assert (await chart.get_attribute("aria-label") or "").endswith(" to ".join(span))
    assert sizes["2592000s&total=true"] < 200_000
    assert await there.page.evaluate("window.shifted") < 0.01
    assert there.complaints == []


MOMENT = "(at) => new Date(at * 1000).toLocaleString('en-GB')"


def sums(other_ms: float, **counts: float) -> array[float]:
    row = array("d", bytes(8 * (len(NAMES) + 2 * (len(EDGES_MS) + 1))))
    for name, count in counts.items():
        row[NAMES.index(name)] = count
    row[len(NAMES) + len(EDGES_MS) + 1 + bisect_left(EDGES_MS, other_ms)] = counts["misses"]
    return row


@pytest.mark.parametrize("width", [1280, 390])
async def test_nothing_jumps_while_a_view_fills(browser: Browser, used: Plane, width: int) -> None:
    there = await tab(browser, used, viewport={"width": width, "height": 860})
    await there.page.add_init_script(SHIFTS)
    for view in VIEWS:
        await there.page.goto("about:blank")
        await there.open(view)
        await there.page.wait_for_timeout(700)
        assert await there.page.evaluate("window.shifted") < 0.01, view


async def test_another_view_takes_the_focus_to_its_heading(browser: Browser, used: Plane) -> None:
    there = await (await tab(browser, used)).open("overview")
    focused = "document.activeElement.tagName + ' ' + document.activeElement.textContent"
    assert (await there.page.evaluate(focused)).startswith("BODY")
    await there.page.get_by_role("link", name="Load", exact=True).focus()
    await there.page.keyboard.press("Enter")
    await expect(there.page.locator("h1")).to_have_text("Load")
    assert await there.page.evaluate(focused) == "H1 Load"
    await there.page.get_by_role("link", name="default").focus()
    await there.page.keyboard.press("Enter")
    await expect(there.page.locator("h1")).to_be_focused()
    await expect(there.page.locator("h1")).to_have_text("default")


async def test_new_figures_leave_focus_and_opened_details_alone(browser: Browser, used: Plane) -> None:
    there = await (await tab(browser, used)).open("load")
    await there.page.locator("summary").click()
    link = there.page.get_by_role("link", name="default")
    await link.focus()
    async with there.page.expect_response(lambda answer: answer.url.endswith("/load")):
        pass
    async with there.page.expect_response(lambda answer: answer.url.endswith("/load")):
        pass
    await expect(link).to_be_focused()
    await expect(there.page.locator("details[open]")).to_have_count(1)


async def test_the_line_before_an_upstream_is_seen(browser: Browser, make_world: MakeWorld) -> None:
    async with plane_of(await make_world(upstream={"limit": 1, "queue": 1})) as plane:
        await loaded(plane)
        slow = {"headers": {"X-Demo-Latency": "30"}}
        texts = ("who is it", "where may that be", "when did all this begin")
        calls = [asyncio.create_task(plane.world.ask(text, **slow)) for text in texts]
        there = await (await tab(browser, plane)).open("load")
        card = there.page.locator("section", has=there.page.get_by_role("heading", name="upstream"))
        await expect(card).to_contain_text("1 of 1")
        await expect(card.locator("dd").first).to_have_text("1")
        await expect(card).to_contain_text("1 full")
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)


async def test_what_is_borrowed_is_told_from_what_is_guaranteed(
    browser: Browser, make_world: MakeWorld, categories: Path
) -> None:
    (categories / "brief.yaml").write_text(
        "{name: brief, threshold: 0.8, ttl: 1h, quota: 20%, guards: [], match: {patterns: ['^brief']}}"
    )
    async with plane_of(await make_world(capacity={"entries": 10})) as plane:
        await loaded(plane)
        await plane.store("brief alpha", "brief beta two", "brief gamma three four")
        there = await (await tab(browser, plane)).open("categories")
        memory = there.page.locator("table").nth(1)
        await expect(memory.locator("caption")).to_have_text("Memory: 3 of 10 entries, by category")
        cells = memory.locator("tr", has_text="brief").locator("td")
        await expect(cells.nth(1)).to_have_text("3")
        await expect(cells.nth(2)).to_have_text("2")
        await expect(cells.nth(4)).to_have_text("100 %")
        await expect(cells.nth(5)).to_have_text("1")


async def test_economics_say_whether_looking_pays(browser: Browser, plane: Plane) -> None:
    meter = plane.world.app.economy._meters["default"] = Meter(plane.world.clock.now - 3600)
    for number in range(50):
        meter.looked(5.0, number % 5 == 0, plane.world.clock.now)
        meter.upstream.add(1000.0, plane.world.clock.now)
    there = await (await tab(browser, plane)).open("economics")
    cells = there.page.locator("tr", has_text="default").locator("td")
    await expect(cells.nth(5)).to_have_text("20.0 % pays")
    await expect(cells.nth(6)).to_have_text("0.5 %")
    await expect(cells.nth(7)).to_have_text("195 ms")
    await expect(there.page.locator("tr", has_text="brief").locator("td").nth(6)).to_have_text("–")


async def test_the_first_view_is_small_and_asks_nobody_else(browser: Browser, used: Plane) -> None:
    there = await tab(browser, used)
    sizes: dict[str, int] = {}

    async def note(response: Any) -> None:
        if "/api/" not in response.url:
            sizes[response.url] = len(await response.body())

    there.page.on("response", note)
    await there.open("overview")
    await there.page.wait_for_timeout(500)
    assert len(sizes) > 5
    assert all(url.startswith(used.url) for url in sizes)
    assert sum(sizes.values()) < 300_000


async def test_what_a_browser_may_do_is_said(plane: Plane) -> None:
    for path in ("/", "/dashboard/main.js", "/dashboard/style.css"):
        answer = await plane.call("GET", path)
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
    assert (await plane.call("GET", "/dashboard/../plane.py")).status == 404
    assert (await plane.call("GET", "/dashboard/")).status in (403, 404)


def test_the_charting_library_names_its_version() -> None:
    vendor = Path(__file__).parents[2] / "proxy" / "dashboard" / "vendor"
    assert "uPlot (v1.6.32)" in (vendor / "uplot-1.6.32.min.js").read_text()[:400]
    assert (vendor / "uplot-LICENSE.txt").read_text().startswith("The MIT License")
