"""A killed proxy, a few times; `make bench-kill` does it fifty times."""

from __future__ import annotations

from pathlib import Path

import pytest
from blockbuster import BlockBuster

from benchmarks.kills import number_of, question, said, trial


@pytest.fixture(autouse=True)
def _reading_a_copy_may_block(nothing_blocks_the_loop: BlockBuster) -> None:
    nothing_blocks_the_loop.deactivate()


async def test_what_is_left_of_a_killed_proxy_is_whole_and_nothing_purged(tmp_path: Path) -> None:
    tally = await trial(tmp_path, kills=4, seed=5)
    assert tally.kills == 4
    assert tally.stored > 0
    assert tally.purges > 0
    assert tally.hits > 0
    assert (tally.failed_starts, tally.torn, tally.resurrected, tally.strays) == (0, 0, 0, 0)


def test_a_torn_answer_is_noticed() -> None:
    asked = question(7)
    whole = b'{"choices": [{"message": {"content": "%s"}}]}' % said(asked, 12).encode()
    assert number_of(whole, asked) == 12
    assert number_of(whole, question(8)) is None
    assert number_of(whole.replace(b"a", b"b"), asked) is None
    assert number_of(whole[:-9], asked) is None
