"""One question goes up once among all replicas: the first one asks, the others wait for the answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.flights import Flight, Question
from proxy.tasks import Tasks

if TYPE_CHECKING:
    from storage.replication import Asked, Replication


class Sharing:
    def __init__(self, replication: Replication, tasks: Tasks) -> None:
        self._replication = replication
        self._tasks = tasks

    async def ask(self, question: Question) -> Asked:
        """As `Replication.ask`; `keep` or `yield_up` is to follow on `mine`."""
        return await self._replication.ask(question.exact)

    def keep(self, flight: Flight) -> None:
        """For as long as the flight is under way, and until the others know its answer."""
        if flight.task is not None:
            work = self._replication.hold(flight.question.exact, flight.task, flight.entry_id)
            self._tasks.spawn(work, name=f"lease-{flight.entry_id}")

    def yield_up(self, question: Question) -> None:
        self._tasks.spawn(self._replication.release(question.exact), name="release-lease")
