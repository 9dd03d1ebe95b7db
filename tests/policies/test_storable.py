from __future__ import annotations

from policies.storable import Ending, objection


def test_an_answer_that_says_not_how_it_ended_is_not_stored() -> None:
    assert objection(200, Ending(whole=True, reasons=("stop",))) is None
    assert objection(200, Ending(whole=True)) == "ended-early"
