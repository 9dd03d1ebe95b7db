"""The page at `/`: what there is, for people who open the admin plane in a browser."""

from __future__ import annotations

from html import escape

from proxy.admin.routes import ROUTES, Route


def _row(route: Route) -> str:
    path = escape(route.path)
    plain = route.method == "GET" and "{" not in path
    where = f'<a href="{path}">{path}</a>' if plain else path
    return f"<tr><td>{route.method}<td>{where}<td>{escape(route.summary)}"


PAGE = f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>nearhit</title>
<style>
  body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 50rem; margin: 3rem auto; padding: 0 1rem }}
  td {{ padding: .1rem 1rem .1rem 0; vertical-align: top }}
</style>
<h1>nearhit</h1>
<p>The admin plane of a semantic cache for LLM APIs. Calls go to the data plane, on another port.
<table>
{chr(10).join(map(_row, ROUTES))}
<tr><td>GET<td><a href="/metrics">/metrics</a><td>Prometheus metrics
</table>
</html>
"""
