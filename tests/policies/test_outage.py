from __future__ import annotations

from policies.outage import PATIENCE_S, STRIKES, UNANSWERED, Outage


def down() -> Outage:
    outage = Outage()
    for _ in range(STRIKES):
        outage.failed()
    return outage


def test_it_takes_failures_with_no_answer_in_between() -> None:
    outage = Outage()
    for _ in range(10):
        outage.failed()
        outage.failed()
        outage.answered()
    assert not outage.down
    assert down().down


def test_one_answer_ends_it() -> None:
    outage = down()
    outage.answered()
    assert not outage.down


def test_probes_are_few_and_fewer_while_none_is_answered() -> None:
    outage = down()
    sent = [now for now in range(60) if outage.probe(now)]
    assert sent[:UNANSWERED] == [0, 1, 2, 3]
    assert sent[UNANSWERED] == 3 + PATIENCE_S
    outage.probed()
    assert len(sent) == UNANSWERED + 3


def test_probes_that_fail_at_once_go_on_every_second() -> None:
    outage = down()
    sent = 0
    for now in range(20):
        if outage.probe(now):
            sent += 1
            outage.probed()
    assert sent == 20
