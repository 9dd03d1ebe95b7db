"""Sends a question upstream only once among all replicas: the first one asks, the others wait for its
answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.flights import Flight
from proxy.messages import Question
from proxy.tasks import Tasks

if TYPE_CHECKING:
    from storage.replication.leases import Asked, Leases


class Sharing:
    def __init__(self, leases: Leases, tasks: Tasks) -> None:
        self._leases = leases
        self._tasks = tasks

    async def ask(self, question: Question) -> Asked:
        """As `Leases.ask`. After `mine`, the caller must call `keep` or `yield_up`."""
        return await self._leases.ask(question.exact)

    def keep(self, flight: Flight) -> None:
        """Holds the lease until the flight has ended and the others know its answer."""
        if flight.task is not None:
            work = self._leases.hold(flight.question.exact, flight.task, flight.entry_id)
            self._tasks.spawn(work, name=f"lease-{flight.entry_id}")

    def yield_up(self, question: Question) -> None:
        self._tasks.spawn(self._leases.release(question.exact), name="release-lease")
