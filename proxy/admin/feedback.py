"""Feedback from people on cached answers."""

from __future__ import annotations

from proxy.admin import shown
from proxy.admin.inputs import Feedback
from proxy.admin.purging import delete_entry
from proxy.admin.shown import Json
from proxy.admin.views import known_entry
from proxy.app import App
from proxy.telemetry.report import Report


async def feedback(app: App, given: Feedback) -> Json:
    """Counts as an audit of the last hit on the entry. A wrong entry is deleted."""
    entry = known_entry(app, given.entry_id)
    hit = _last_hit(app, entry.id)
    category = hit.category if hit else entry.category
    # Without a recent hit the similarity is unknown; 1 makes the verdict count for every threshold.
    app.auditor.told(category, hit.similarity or 1.0 if hit else 1.0, given.verdict)
    removed = given.verdict == "wrong"
    told = await delete_entry(app, entry.id) if removed else {}
    estimate = shown.estimate(app.cache.rules.book.get(category), app.cache)
    return {"category": category, "removed": removed, **told, "audit": estimate}


def _last_hit(app: App, id: str) -> Report | None:
    calls = reversed(app.ledger.recent)
    hits = (call for call in calls if call.entry_id == id and call.outcome in ("HIT", "STALE", "SHADOW"))
    return next(hits, None)
