"""Every endpoint of the admin plane in one table, from which the router and openapi.json are built."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from proxy.admin import data_plane, editing, explaining, feedback, inputs, purging, views
from proxy.admin.shown import VERSION, Json
from proxy.app import App

View = Callable[..., Awaitable[Any]]
"""Takes the `App`, the variable parts of the path, and the input if there is one; returns the answer's
JSON."""

API = "/api/v1"


@dataclass(frozen=True, slots=True)
class Route:
    method: str
    path: str
    view: View
    summary: str
    input: type[BaseModel] | None = None
    """Query parameters of a GET, JSON body of anything else."""
    gives: tuple[str, ...] = ()
    """Required members of its answer."""


async def openapi(app: App) -> Json:
    paths: dict[str, Json] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "nearhit admin plane", "version": VERSION},
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {"Error": _ERROR},
        },
        "paths": paths,
    }


async def openapi_data(app: App) -> Json:
    return data_plane.described()


ROUTES = (
    Route("GET", "/healthz", views.healthz, "The process is alive", gives=("status",)),
    Route(
        "GET",
        "/readyz",
        views.readyz,
        "Calls can be served; the state of every part",
        gives=("status", "index", "documents", "degraded"),
    ),
    Route(
        "GET",
        f"{API}/stats",
        views.stats,
        "Counts since the start, overall and by category",
        gives=("overall", "categories"),
    ),
    Route(
        "GET",
        f"{API}/stats/history",
        views.stats_history,
        "Counts over time, by category",
        inputs.Window,
        ("at", "step", "buckets"),
    ),
    Route(
        "GET",
        f"{API}/economics",
        views.economics,
        "By category: break-even, net gain, savings per hour",
        gives=("prices", "categories"),
    ),
    Route("GET", f"{API}/categories", views.categories, "All categories in force", gives=("categories",)),
    Route(
        "GET",
        f"{API}/categories/{{name}}",
        views.category,
        "One category: policy, usage, counts",
        gives=("name",),
    ),
    Route(
        "GET",
        f"{API}/categories/{{name}}/text",
        editing.text,
        "The text of the category's file",
        gives=("text", "writable"),
    ),
    Route(
        "POST",
        f"{API}/categories/{{name}}/check",
        editing.check,
        "What a category file would do, without writing it",
        inputs.CategoryText,
        ("problems", "preview"),
    ),
    Route(
        "PUT",
        f"{API}/categories/{{name}}",
        editing.write,
        "Write a category file and put it into force",
        inputs.CategoryText,
        ("version", "categories"),
    ),
    Route(
        "GET",
        f"{API}/entries",
        views.entries,
        "Stored answers, newest first",
        inputs.Listing,
        ("matched", "entries"),
    ),
    Route(
        "GET",
        f"{API}/entries/{{id}}",
        views.entry,
        "One stored answer with its body",
        gives=("id", "body", "problem"),
    ),
    Route(
        "DELETE",
        f"{API}/entries/{{id}}",
        purging.delete_entry,
        "Delete one stored answer",
        gives=("purged", "durable"),
    ),
    Route(
        "POST",
        f"{API}/purge",
        purging.purge,
        "Delete the answers that match all criteria",
        inputs.PurgeOrder,
        ("matched", "categories"),
    ),
    Route(
        "POST",
        f"{API}/explain",
        explaining.explain,
        "What would happen to a query",
        inputs.Explained,
        ("outcome", "because", "category"),
    ),
    Route(
        "POST",
        f"{API}/feedback",
        feedback.feedback,
        "Say whether a hit was right",
        inputs.Feedback,
        ("category", "removed"),
    ),
    Route(
        "POST",
        f"{API}/reload",
        views.reload,
        "Reload the category files",
        gives=("version", "categories"),
    ),
    Route("GET", f"{API}/load", views.load, "Pressure per upstream and model, and its effect on policies"),
    Route(
        "POST",
        f"{API}/reread",
        views.reread,
        "Load what others have added to the document store",
        gives=("started",),
    ),
    Route("GET", f"{API}/recent", views.recent, "The latest calls, newest first", inputs.Recent, ("calls",)),
    Route("GET", f"{API}/openapi.json", openapi, "This description", gives=("openapi", "paths")),
    Route(
        "GET",
        f"{API}/openapi-data.json",
        openapi_data,
        "What the data plane caches",
        gives=("openapi", "paths"),
    ),
)


def _operation(route: Route) -> Json:
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in re.findall(r"{(\w+)}", route.path)
    ]
    operation: Json = {"summary": route.summary, "responses": _answers(route)}
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


def _answers(route: Route) -> dict[str, Json]:
    given: Json = {"type": "object", "required": list(route.gives)}
    answers = {"200": {"description": "Done", "content": {"application/json": {"schema": given}}}}
    for status, (description, applies) in _REFUSALS.items():
        if applies(route):
            answers[status] = {
                "description": description,
                "content": {"application/json": {"schema": _REFUSED}},
            }
    return answers


def _in_query(schema: Json) -> list[Json]:
    return [{"name": name, "in": "query", "schema": part} for name, part in schema["properties"].items()]


_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message"],
            "properties": {"message": {"type": "string"}},
        }
    },
}
_REFUSED = {"$ref": "#/components/schemas/Error"}
_REFUSALS: dict[str, tuple[str, Callable[[Route], bool]]] = {
    "400": ("The input is invalid; the message says why", lambda route: True),
    "401": ("The admin token is missing or wrong", lambda route: route.path.startswith(API)),
    "403": ("A request from another site's page", lambda route: route.path.startswith(API)),
    "404": ("Not found", lambda route: "{" in route.path or route.input is inputs.Feedback),
    "405": ("Wrong method; `Allow` lists the right ones", lambda route: True),
    "413": ("The body is too large", lambda route: route.method in ("POST", "PUT")),
    "422": ("Mistakes in the files on disk", lambda route: route.view in (views.reload, editing.write)),
    "503": ("Not possible now; see `Retry-After`", lambda route: True),
}
