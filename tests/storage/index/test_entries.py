"""What memory promises: bounded, fair to each category, and of one mind however it is asked."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from stored import DIMENSIONS, digest, make_entry, unit

from policies.eviction import over
from storage.base import Entry
from storage.index.entries import MOST_EVICTIONS, SAMPLE, Entries
from storage.vectors.memory import MemoryVectors

PARTITION = digest("partition")


def make_entries(capacity: int, capacity_bytes: int | None = None, **shares: float) -> Entries:
    return Entries(
        MemoryVectors(DIMENSIONS),
        capacity,
        capacity_bytes,
        worth=lambda entry, demand, now: demand * entry.cost_ms,
        guaranteed=lambda: shares,
        over=over,
        random=Random(0),
    )


def add(entries: Entries, id: str, **fields: object) -> list[str]:
    return [gone.id for gone in entries.add(make_entry(id, **fields), unit(id), 0.0)]


def ask(entries: Entries, id: str, **fields: Any) -> bool:
    """Whether it was a hit; a miss is stored."""
    if found := entries.by_exact(digest(id)):
        entries.touch(found, 0.0)
    else:
        entries.add(make_entry(id, **fields), None, 0.0)
    return found is not None


async def test_found_by_id_digest_and_nearness() -> None:
    entries = make_entries(10)
    add(entries, "a")
    add(entries, "b")
    found = entries.get("a")
    assert found is not None
    assert entries.by_exact(found.exact) is found
    assert (await entries.nearest(PARTITION, unit("a"), 1))[0][1] is found
    assert await entries.nearest(digest("other"), unit("a"), 5) == []


async def test_an_entry_without_vector_is_found_by_its_digest_only() -> None:
    entries = make_entries(10)
    entries.add(make_entry("a"), None, 0.0)
    assert entries.by_exact(digest("a")) is entries.get("a")
    assert await entries.nearest(PARTITION, unit("a"), 1) == []
    entries.remove("a")
    assert entries.by_exact(digest("a")) is None


async def test_the_same_digest_replaces_and_says_so() -> None:
    entries = make_entries(10)
    add(entries, "a")
    assert add(entries, "b", exact=digest("a")) == ["a"]
    assert entries.get("a") is None
    assert len(entries) == len(await entries.nearest(PARTITION, unit("a"), 5)) == 1


def test_the_same_id_replaces_without_a_document_to_delete() -> None:
    entries = make_entries(10)
    add(entries, "a")
    assert add(entries, "a", text="again", exact=digest("new")) == []
    assert entries.by_exact(digest("a")) is None
    assert len(entries) == 1


def test_what_was_asked_for_once_leaves_before_all_else_the_oldest_first() -> None:
    entries = make_entries(3)
    for id in "abcb":
        ask(entries, id, cost_ms=1.0 if id == "b" else 1e6)
    assert add(entries, "d") == ["a"]
    assert add(entries, "e") == ["c"]


def test_of_what_was_asked_for_again_the_least_worth_leaves() -> None:
    entries = make_entries(3)
    for id in "abcbcacaa":
        ask(entries, id, cost_ms=1.0 if id == "c" else 100.0)
    assert add(entries, "d") == ["c"]


async def test_hits_in_other_words_count_for_the_entry_that_was_hit() -> None:
    entries = make_entries(2)
    add(entries, "a")
    add(entries, "b")
    ((_, found),) = await entries.nearest(PARTITION, unit("a"), 1)
    entries.touch(found, 0.0)
    assert add(entries, "c") == ["b"]


def test_what_is_asked_for_again_after_it_left_is_on_trial_no_more() -> None:
    entries = make_entries(2)
    for id in "abca":
        assert not ask(entries, id)
    assert add(entries, "d") == ["c"]
    assert add(entries, "e") == ["d"]


def test_an_answer_that_is_renewed_stays_as_much_in_demand() -> None:
    entries = make_entries(2)
    for id in "aaab":
        ask(entries, id)
    assert add(entries, "renewed", exact=digest("a")) == ["a"]
    for id in "cdefgh":
        add(entries, id)
    assert entries.get("renewed") is not None


def test_of_what_was_loaded_the_oldest_leaves_though_it_comes_last() -> None:
    entries = make_entries(50)
    for age in range(50):
        entries.add(make_entry(str(age), created=1_000.0 - age), unit(age), 0.0, known=True)
    for age in range(49, 29, -1):
        assert add(entries, f"new-{age}") == [str(age)]


def test_questions_that_come_once_do_not_push_out_what_repeats() -> None:
    """Of 300 requests 200 come once, and 100 others are asked for once each: an LRU of 200 has few hits."""
    entries, random, hits = make_entries(200), Random(0), []
    for number in range(8_000):
        ask(entries, f"once-{number}")
        if number % 2 == 0:
            hits.append(ask(entries, f"popular-{random.randrange(100)}"))
    settled = hits[2_000:]
    assert sum(settled) > 0.97 * len(settled)


def test_hits_come_back_when_what_is_popular_changes() -> None:
    entries, random = make_entries(100), Random(0)

    def hit_rate(first: int, asks: int = 2_500) -> float:
        """A third of the traffic comes once, the rest is for 90 questions."""
        hits = 0
        for number in range(asks):
            if random.random() < 1 / 3:
                ask(entries, f"once-{first}-{number}")
            else:
                hits += ask(entries, str(first + random.randrange(90)))
        return hits / asks

    hit_rate(0)
    usual = hit_rate(0)
    for first in (1_000, 2_000, 3_000):
        hit_rate(first)
        assert hit_rate(first) > 0.97 * usual


def test_what_follows_one_after_the_other_finds_room() -> None:
    """A memory that forgets nothing is full of yesterday's questions: there this falls from 94 to 20 %."""
    entries, random, newest = make_entries(200), Random(0), 100

    def hit_rate(asks: int) -> float:
        nonlocal newest
        hits = 0
        for _ in range(asks):
            if random.random() < 0.05:
                newest += 1
                ask(entries, str(newest))
            else:
                hits += ask(entries, str(newest - random.randrange(100)))
        return hits / asks

    hit_rate(10_000)
    assert hit_rate(10_000) > 0.88


@pytest.mark.parametrize("capacity", [100, 3_000])
def test_an_insert_looks_at_no_more_than_a_sample_however_much_is_stored(capacity: int) -> None:
    valued = []

    def worth(entry: Entry, demand: float, now: float) -> float:
        valued.append(demand)
        return demand

    shares = {"code": 0.5}
    entries = Entries(MemoryVectors(DIMENSIONS), capacity, worth=worth, guaranteed=lambda: shares, over=over)
    for _ in range(2):
        for number in range(capacity):
            ask(entries, str(number), category="code" if number % 2 else "news")
    assert len(add(entries, "new")) == 1
    assert len(valued) == SAMPLE
    assert min(valued) > 1.0


def test_idle_share_is_borrowed_and_given_back() -> None:
    entries = make_entries(100, code=0.5)
    for number in range(100):
        assert add(entries, f"news-{number}", category="news") == []
    assert entries.usage()["categories"]["news"]["borrowed"] == 100
    for number in range(50):
        assert add(entries, f"code-{number}", category="code")[0].startswith("news")
    for number in range(50, 150):  # both are above their shares now, and what is least in demand gives
        ask(entries, f"code-{number}", category="code")
        ask(entries, f"code-{number}", category="code")
    assert entries.usage()["categories"].keys() == {"code"}
    for number in range(100):  # a share is kept however much others are in demand
        for _ in range(9):
            ask(entries, f"news-{number}", category="news")
    held = entries.usage()["categories"]
    assert (held["code"]["entries"], held["news"]["entries"]) == (50, 50)


def test_where_all_room_is_guaranteed_a_stranger_is_turned_away() -> None:
    entries = make_entries(2, code=1.0)
    add(entries, "a")
    add(entries, "b")
    assert add(entries, "c", category="news") == ["c"]
    assert entries.get("c") is None
    assert entries.get("a") is not None


def test_bytes_are_bounded_too() -> None:
    entries = make_entries(1_000, capacity_bytes=10_000)
    for number in range(50):
        add(entries, str(number), size=1_000)
        assert entries.usage()["bytes"] <= 10_000
    assert len(entries) == 9


def test_an_answer_that_cannot_fit_pushes_nobody_out() -> None:
    entries = make_entries(1_000, capacity_bytes=10_000)
    add(entries, "a", size=100)
    assert add(entries, "big", size=20_000) == ["big"]
    assert entries.get("a") is not None


def test_one_answer_pushes_out_a_bounded_number() -> None:
    entries = make_entries(10_000, capacity_bytes=1_000_000)
    for number in range(3_000):
        add(entries, str(number), size=200)
    left = add(entries, "big", size=900_000)
    assert left[-1] == "big"
    assert len(left) == MOST_EVICTIONS + 1


def test_a_change_of_shares_takes_effect_at_once() -> None:
    shares = {"code": 1.0}
    entries = Entries(
        MemoryVectors(DIMENSIONS),
        10,
        worth=lambda entry, demand, now: 0.0,
        guaranteed=lambda: shares,
        over=over,
    )
    for number in range(10):
        add(entries, f"code-{number}")
    shares["code"], shares["news"] = 0.0, 1.0
    assert add(entries, "news", category="news")[0].startswith("code")


def test_text_of_half_surrogates_is_counted() -> None:
    entries = make_entries(10)
    add(entries, "a", text="\ud800")
    assert len(entries) == 1


def test_the_sweep_sees_every_entry_in_small_steps() -> None:
    entries = make_entries(1_000)
    for number in range(100):
        add(entries, str(number), created=float(number % 10))
    gone: list[Entry] = []
    for _ in range(10):
        gone += entries.expired(now=100.0, lifetime=lambda entry: 95.0, limit=10)
    assert len(gone) == 50
    assert all(entry.created < 5 for entry in gone)
    assert len(entries) == 50
    assert entries.expired(100.0, lambda entry: 0.0, 1_000) != []
    assert len(entries) == 0
    assert entries.usage()["bytes"] == 0
    assert entries.expired(100.0, lambda entry: 0.0, 10) == []


def test_the_sweep_goes_on_where_it_was_when_others_have_taken_what_lay_there() -> None:
    entries = make_entries(10)
    for number in range(10):
        add(entries, str(number), created=0.0)
    assert len(entries.expired(100.0, lambda entry: 95.0, 1)) == 1
    for number in range(5):
        entries.remove(str(number))
    assert len(entries.expired(100.0, lambda entry: 95.0, 10)) == 4


async def test_a_vector_that_comes_later_counts_and_leaves_with_its_entry() -> None:
    entries = make_entries(10)
    entries.add(make_entry("a", fingerprint=""), None, 0.0)
    before, later = entries.usage()["bytes"], unit("a")
    entries.give_vector("a", "newer", later)
    found = (await entries.nearest(PARTITION, later, 1))[0][1]
    assert (found.id, found.fingerprint) == ("a", "newer")
    usage = entries.usage()
    assert usage["bytes"] == before + later.nbytes == usage["categories"][found.category]["bytes"]
    entries.remove("a")
    assert entries.usage()["bytes"] == 0


def test_as_many_bytes_as_there_is_room_for_are_kept() -> None:
    needed = make_entries(10)
    add(needed, "a")
    add(needed, "b")
    entries = make_entries(10, capacity_bytes=needed.usage()["bytes"])
    assert add(entries, "a") == add(entries, "b") == []
    assert len(entries) == 2


def test_touch_counts_and_select_selects() -> None:
    entries = make_entries(10)
    add(entries, "a")
    add(entries, "b")
    found = entries.get("a")
    assert found is not None
    entries.touch(found, 5.0)
    assert (found.hits, found.last_hit) == (1, 5.0)
    assert entries.select(lambda entry: entry.hits > 0) == [found]


def test_capacity_must_be_positive() -> None:
    with pytest.raises(ValueError, match="capacity"):
        make_entries(0)


CAPACITY = 12
SHARES = {"code": 0.5, "news": 0.25}
categories = st.sampled_from(["code", "news", "other"])
names = st.integers(0, 25).map(str)


class Memory(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.entries = make_entries(CAPACITY, 4_000, **SHARES)
        self.known: dict[str, Entry] = {}
        self.now = 0.0

    @rule(
        id=names, exact=names, category=categories, partition=st.sampled_from("pq"), size=st.integers(0, 900)
    )
    def add(self, id: str, exact: str, category: str, partition: str, size: int) -> None:
        entry = make_entry(
            id,
            exact=digest(exact),
            category=category,
            partition=digest(partition),
            size=size,
            created=self.now,
        )
        within = {name for name in SHARES if self.within_shares(name)}
        left = self.entries.add(entry, unit(id), self.now)
        self.known[id] = entry
        for gone in left:
            pushed_out = gone is not entry and gone.exact != entry.exact
            assert not (pushed_out and gone.category in within and gone.category != category)
            del self.known[gone.id]

    def within_shares(self, category: str) -> bool:
        used = self.entries.usage()["categories"][category]
        return used["entries"] <= SHARES[category] * CAPACITY and used["bytes"] <= SHARES[category] * 4_000

    @rule(id=names)
    def remove(self, id: str) -> None:
        assert self.entries.remove(id) is self.known.pop(id, None)

    @precondition(lambda self: self.known)
    @rule(data=st.data())
    def hit(self, data: st.DataObject) -> None:
        self.entries.touch(self.known[data.draw(st.sampled_from(sorted(self.known)))], self.now)

    @rule(limit=st.integers(0, 30), age=st.integers(1, 20))
    def sweep(self, limit: int, age: int) -> None:
        self.now += 1
        for gone in self.entries.expired(self.now, lambda entry: age, limit):
            assert self.now - gone.created > age
            del self.known[gone.id]

    @invariant()
    def of_one_mind(self) -> None:
        assert len(self.entries) == len(self.known) <= CAPACITY
        assert {entry.id for entry in self.entries.select(lambda entry: True)} == set(self.known)
        for id, entry in self.known.items():
            assert self.entries.get(id) is self.entries.by_exact(entry.exact) is entry
        for partition in "pq":
            found = self.entries.vectors.find(digest(partition), unit("query"), 50)
            inside = {id for id, entry in self.known.items() if entry.partition == digest(partition)}
            assert {entry.id for _, entry in found} == inside

    @invariant()
    def accounts_add_up(self) -> None:
        usage = self.entries.usage()
        assert usage["bytes"] <= 4_000
        assert usage["entries"] == sum(used["entries"] for used in usage["categories"].values())
        assert usage["bytes"] == sum(used["bytes"] for used in usage["categories"].values())


Memory.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestMemory = Memory.TestCase
