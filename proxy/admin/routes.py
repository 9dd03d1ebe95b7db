"""Every endpoint of the admin plane, in one table; the router and openapi.json are made from it."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from proxy.admin import explaining, feedback, inputs, purging, views
from proxy.admin.shown import VERSION, Json
from proxy.app import App

View = Callable[..., Awaitable[Any]]
"""Takes the `App`, the parts of the path, and the input if the route has one; gives the answer's JSON."""

API = "/api/v1"


@dataclass(frozen=True, slots=True)
class Route:
    method: str
    path: str
    view: View
    summary: str
    input: type[BaseModel] | None = None
    """Query parameters of a GET, JSON body of anything else."""


async def openapi(app: App) -> Json:
    paths: dict[str, Json] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "nearhit admin plane", "version": VERSION},
        "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
        "paths": paths,
    }


ROUTES = (
    Route("GET", "/healthz", views.healthz, "The process is alive"),
    Route("GET", "/readyz", views.readyz, "Calls can be served; the state of every part"),
    Route("GET", f"{API}/stats", views.stats, "Counts since the start, overall and by category"),
    Route("GET", f"{API}/stats/history", views.stats_history, "Counts over time, by category", inputs.Window),
    Route("GET", f"{API}/economics", views.economics, "By category: break-even, net gain, savings an hour"),
    Route("GET", f"{API}/categories", views.categories, "All categories in force"),
    Route("GET", f"{API}/categories/{{name}}", views.category, "One category: policy, usage, counts"),
    Route("GET", f"{API}/entries", views.entries, "Stored answers, newest first", inputs.Listing),
    Route("GET", f"{API}/entries/{{id}}", views.entry, "One stored answer with its body"),
    Route("DELETE", f"{API}/entries/{{id}}", purging.delete_entry, "Forget one stored answer"),
    Route("POST", f"{API}/purge", purging.purge, "Forget what matches all criteria", inputs.PurgeOrder),
    Route("POST", f"{API}/explain", explaining.explain, "What would happen to a query", inputs.Explained),
    Route("POST", f"{API}/feedback", feedback.feedback, "Say whether a hit was right", inputs.Feedback),
    Route("POST", f"{API}/reload", views.reload, "Take the category files as they are now"),
    Route("GET", f"{API}/load", views.load, "Pressure per upstream and model, and what it does to policies"),
    Route("POST", f"{API}/reread", views.reread, "Take in what others have put into the document store"),
    Route("GET", f"{API}/recent", views.recent, "The last calls, newest first", inputs.Recent),
    Route("GET", f"{API}/openapi.json", openapi, "This description"),
)


def _operation(route: Route) -> Json:
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"{(\w+)}", route.path)
    ]
    operation: Json = {
        "summary": route.summary,
        "responses": {"200": {"description": "OK", "content": {"application/json": {}}}},
    }
    if route.input is not None:
        schema = route.input.model_json_schema()
        if route.method == "GET":
            parameters += _in_query(schema)
        else:
            operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    if parameters:
        operation["parameters"] = parameters
    if route.path.startswith(API):
        operation["security"] = [{"token": []}]
    return operation


def _in_query(schema: Json) -> list[Json]:
    return [{"name": name, "in": "query", "schema": part} for name, part in schema["properties"].items()]
