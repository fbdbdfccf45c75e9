"""The page at `/` that shows the OpenAPI document: one file of HTML, nothing fetched from elsewhere.

Its links are relative, since a proxy may serve it below a path that is not known here.
"""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Request, Response, get

__all__ = ["PAGE_ROUTES"]

_DOCUMENT = "document"


@get("/", include_in_schema=False)
async def page() -> Response[str]:
    """The page."""
    return Response(content=PAGE, media_type="text/html")


@get("/openapi.json", include_in_schema=False)
async def document(request: Request[Any, Any, Any]) -> Response[Any]:
    """The OpenAPI document."""
    state = request.app.state
    if _DOCUMENT not in state:
        state[_DOCUMENT] = msgspec.json.encode(request.app.openapi_schema.to_schema())
    return Response(content=state[_DOCUMENT], media_type="application/json")


PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>DuxNet coordinator</title>
<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">
<style>
 body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}
 code,pre{font:14px/1.4 ui-monospace,monospace} summary{cursor:pointer;padding:.3rem 0}
 pre{background:#f4f4f4;padding:.6rem;overflow:auto} .m{display:inline-block;width:4.5rem;font-weight:600}
</style>
<h1>DuxNet coordinator</h1>
<p>The whole description, for programs: <a href="openapi.json">/openapi.json</a> (OpenAPI 3.1).
Try it: <a href="v1/nodes">nodes</a>, <a href="v1/coordinator">this coordinator</a>,
<a href="v1/events?since=0">events</a>, <a href="metrics">metrics</a>, <a href="healthz">health</a>.</p>
<div id="routes"><noscript>The list of routes needs JavaScript; the document does not.</noscript></div>
<script>
const add = (parent, tag, text) => {
  const e = document.createElement(tag); e.textContent = text; parent.append(e); return e
};
fetch("openapi.json").then(r => r.json()).then(doc => {
  const place = document.getElementById("routes");
  for (const [path, item] of Object.entries(doc.paths)) for (const [method, op] of Object.entries(item)) {
    if (!op.responses) continue;
    const d = add(place, "details", ""), s = add(d, "summary", "");
    const m = add(s, "span", method.toUpperCase()); m.className = "m";
    add(s, "code", path); add(s, "span", " — " + (op.summary || ""));
    if (op.description) add(d, "p", op.description);
    const asked = [...(item.parameters || []), ...(op.parameters || [])];
    for (const p of asked)
      add(d, "div", p.in + " " + p.name + (p.required ? " (required) " : " ") + (p.description || ""));
    const body = op.requestBody && Object.values(op.requestBody.content)[0];
    const named = body && body.schema && body.schema.$ref && doc.components.schemas[body.schema.$ref.split("/").pop()];
    if (named) { add(d, "p", "Body:"); add(d, "pre", JSON.stringify(named, null, 1)) }
  }
});
</script></html>
"""

PAGE_ROUTES = [page, document]
