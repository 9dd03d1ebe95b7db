from __future__ import annotations

from storage.replication.outbox import Change, Outbox

STORED, GONE = Change("stored", "one epoch"), Change("gone", "one epoch")


def test_of_one_id_the_last_change_is_told_and_in_its_place() -> None:
    outbox = Outbox()
    outbox.put(STORED, ["a", "b"])
    outbox.put(GONE, ["a"])
    assert outbox.first(10) == (STORED, ["b"])
    assert outbox.done(STORED, ["b"]) == ["b"]
    assert outbox.first(10) == (GONE, ["a"])
    assert outbox.done(GONE, ["a"]) == ["a"]
    assert outbox.first(10) is None


def test_told_together_is_what_follows_each_other_with_one_change() -> None:
    outbox = Outbox()
    outbox.put(STORED, "abc")
    outbox.put(GONE, "d")
    outbox.put(STORED, "e")
    assert outbox.first(2) == (STORED, ["a", "b"])
    assert outbox.first(10) == (STORED, ["a", "b", "c"])


def test_what_changed_while_it_was_told_is_told_again() -> None:
    outbox = Outbox()
    outbox.put(STORED, "ab")
    outbox.put(GONE, "a")
    assert outbox.done(STORED, "ab") == ["b"]
    assert "a" in outbox
    assert len(outbox) == 1


def test_all_of_one_kind_are_taken_out() -> None:
    outbox = Outbox()
    outbox.put(STORED, "ab")
    outbox.put(GONE, "c")
    assert outbox.take("stored") == ["a", "b"]
    assert outbox.ids("gone") == ["c"]
    assert outbox.take("stored") == []
