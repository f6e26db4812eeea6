"""`/docs`: the API's reference as one page, from the document that `/openapi.json` serves.

Rendered here, without a script, a font or a host of anybody else: the page may be opened beside
production under `default-src 'none'`. Pure but for the routes; every text is escaped.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from aiohttp import web

Json = Mapping[str, Any]
POLICY = (
    "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
METHODS = ("get", "post", "put", "patch", "delete")
_CODE = re.compile(r"`([^`]+)`")
_REF = "#/components/schemas/"

STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #57606a; --line: #d0d7de; --page: #fff;
  --tint: #f6f8fa; --link: #0550ae; --get: #0a5c36; --post: #0550ae; --put: #7a4100;
  --patch: #7a4100; --delete: #a40e26; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --soft: #9ea7b3; --line: #3d444d;
  --page: #0d1117; --tint: #161b22; --link: #79c0ff; --get: #56d364; --post: #79c0ff;
  --put: #e3b341; --patch: #e3b341; --delete: #ff7b72; } }
* { box-sizing: border-box; }
html { scroll-padding-top: 1rem; }
body { margin: 0; background: var(--page); color: var(--ink); font: 1rem/1.5 system-ui, sans-serif;
  display: grid; grid-template-columns: 15rem minmax(0, 1fr); }
nav { padding: 1.5rem 1rem; border-right: 1px solid var(--line); position: sticky; top: 0;
  height: 100vh; overflow-y: auto; }
nav ul { list-style: none; margin: 0; padding: 0; }
nav a { display: block; padding: .25rem .5rem; border-radius: .25rem; text-decoration: none; }
nav a:hover { background: var(--tint); }
main { padding: 1.5rem clamp(1rem, 4vw, 3rem) 4rem; max-width: 72rem; }
a { color: var(--link); }
a:focus-visible, summary:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; }
h1 { margin-top: 0; } h2 { margin-top: 3rem; border-bottom: 1px solid var(--line); }
code { font-family: ui-monospace, monospace; font-size: .9em; overflow-wrap: anywhere; }
article { border: 1px solid var(--line); border-radius: .5rem; margin: 1rem 0; padding: 0 1rem; }
article h3 { font-size: 1rem; margin: 1rem 0 .25rem; }
.method { display: inline-block; min-width: 4.5rem; font-weight: 700; }
.get { color: var(--get); } .post { color: var(--post); } .put { color: var(--put); }
.patch { color: var(--patch); } .delete { color: var(--delete); }
.soft { color: var(--soft); font-size: .9rem; }
details { margin: .5rem 0 1rem; } summary { cursor: pointer; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th, td { text-align: left; vertical-align: top; padding: .35rem .75rem .35rem 0;
  border-bottom: 1px solid var(--line); }
.skip { position: absolute; left: -999rem; } .skip:focus { left: 1rem; top: 1rem; }
@media (max-width: 48rem) { body { display: block; } nav { position: static; height: auto;
  border-right: 0; border-bottom: 1px solid var(--line); } nav ul { columns: 2; } }
@media print { nav { display: none; } body { display: block; } details { display: block; } }
"""


def add_routes(app: web.Application, document: Json) -> None:
    """Serve the page and its style; neither needs a signature."""
    page = render(document).encode("utf-8")
    style = STYLE.lstrip().encode("utf-8")

    async def show(_request: web.Request) -> web.Response:
        return web.Response(body=page, content_type="text/html", charset="utf-8", headers=HEADERS)

    async def show_style(_request: web.Request) -> web.Response:
        return web.Response(body=style, content_type="text/css", charset="utf-8", headers=HEADERS)

    app.router.add_get("/docs", show)
    app.router.add_get("/docs.css", show_style)


def render(document: Json) -> str:
    """The whole page of an OpenAPI 3.1 document."""
    info = document["info"]
    by_tag: dict[str, list[tuple[str, str, Json]]] = {}
    for path, operations in document["paths"].items():
        for method in METHODS:
            if method in operations:
                tag = operations[method]["tags"][0]
                by_tag.setdefault(tag, []).append((method, path, operations[method]))
    names = [*by_tag, "webhooks", "models"]
    menu = "".join(f'<li><a href="#{_id(name)}">{_text(name)}</a></li>' for name in names)
    sections = "".join(_section(tag, found) for tag, found in by_tag.items())
    title = f"{_text(info['title'])} API {_text(info['version'])}"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{title}</title><link rel="stylesheet" href="/docs.css"></head><body>'
        '<a class="skip" href="#content">To the content</a>'
        f'<nav aria-label="Resources"><ul>{menu}</ul></nav><main id="content"><h1>{title}</h1>'
        f"<p>{_prose(info['description'])} The same as a document for programs:"
        ' <a href="/openapi.json">/openapi.json</a>.</p>'
        f"{_signing(document)}{sections}{_webhooks(document['webhooks'])}"
        f"{_models(document['components']['schemas'])}</main></body></html>"
    )


def _signing(document: Json) -> str:
    scheme = document["components"]["securitySchemes"]["httpMessageSignature"]
    return (
        f"<p>Signature: {_text(scheme['description'])} Samples in Python, Node, PHP, Go and Java:"
        " <code>docs/integration/samples</code>.</p>"
    )


def _section(tag: str, operations: Sequence[tuple[str, str, Json]]) -> str:
    articles = "".join(_operation(method, path, found) for method, path, found in operations)
    return _titled(tag, articles)


def _titled(name: str, content: str) -> str:
    anchor = _id(name)
    return (
        f'<section aria-labelledby="{anchor}"><h2 id="{anchor}">{_text(name)}</h2>'
        f"{content}</section>"
    )


def _operation(method: str, path: str, operation: Json) -> str:
    name = operation.get("operationId", f"{method}-{path}")
    scopes = ", ".join(f"<code>{_text(scope)}</code>" for scope in operation.get("x-scopes", ()))
    every = ", ".join(
        f"<code>{_text(scope)}</code>" for scope in operation.get("x-client-scopes", ())
    )
    notes = []
    if not operation.get("security", True):
        notes.append("No signature.")
    if scopes:
        notes.append(f"One of the scopes {scopes}.")
    if every:
        notes.append(f"A client key needs all of {every}.")
    told = f'<p class="soft">{" ".join(notes)}</p>' if notes else ""
    parts = [_parameters(operation.get("parameters", ()))]
    body = operation.get("requestBody")
    if body is not None:
        parts.append(f"<p>Body: {_content(body['content'])}</p>")
    for status, answer in operation["responses"].items():
        parts.append(_answer(status, answer))
    return (
        f'<article id="{_id(name)}"><h3><span class="method {method}">{method.upper()}</span>'
        f" <code>{_text(path)}</code></h3><p>{_prose(operation['summary'])}</p>{told}"
        f"<details><summary>Parameters and answers</summary>{''.join(parts)}</details></article>"
    )


def _parameters(parameters: Iterable[Json]) -> str:
    rows = [
        (
            f"<code>{_text(item['name'])}</code>",
            _text(item["in"]) + (", required" if item.get("required") else ""),
            _kind(item["schema"]),
            _prose(item.get("description", "")),
        )
        for item in parameters
    ]
    return _table(("Parameter", "Where", "Type", ""), rows) if rows else ""


def _answer(status: str, answer: Json) -> str:
    content = _content(answer.get("content", {}))
    return f"<p><code>{_text(status)}</code> {_prose(answer['description'])} {content}</p>"


def _content(content: Json) -> str:
    return " ".join(
        f"{_kind(found['schema'])} <span class=soft>({_text(kind)})</span>"
        for kind, found in content.items()
    )


def _webhooks(webhooks: Json) -> str:
    articles = "".join(
        f"<article><h3><code>{_text(name)}</code></h3><p>{_prose(found['post']['summary'])}</p>"
        f"<p>Body: {_content(found['post']['requestBody']['content'])}</p></article>"
        for name, found in webhooks.items()
    )
    return (
        f'<section aria-labelledby="webhooks"><h2 id="webhooks">webhooks</h2>{articles}</section>'
    )


def _models(schemas: Json) -> str:
    articles = "".join(_model(name, schema) for name, schema in sorted(schemas.items()))
    return _titled("models", articles)


def _model(name: str, schema: Json) -> str:
    required = set(schema.get("required", ()))
    rows = [
        (
            f"<code>{_text(field)}</code>" + ("" if field in required else " <i>optional</i>"),
            _kind(found),
            _prose(found.get("description", "")),
        )
        for field, found in schema.get("properties", {}).items()
    ]
    fields = _table(("Field", "Type", ""), rows) if rows else f"<p>{_kind(schema)}</p>"
    return (
        f'<article id="{_id("model-" + name)}"><h3>{_text(name)}</h3>'
        f"<p>{_prose(schema.get('description', ''))}</p>{fields}</article>"
    )


def _kind(schema: Json) -> str:
    """The type of a schema in a few words; models are links."""
    if "$ref" in schema:
        name = str(schema["$ref"]).removeprefix(_REF)
        return f'<a href="#{_id("model-" + name)}">{_text(name)}</a>'
    for word in ("anyOf", "oneOf", "allOf"):
        if word in schema:
            return " or ".join(_kind(item) for item in schema[word])
    if "const" in schema:
        return f"<code>{_text(schema['const'])}</code>"
    if "enum" in schema:
        return " or ".join(f"<code>{_text(value)}</code>" for value in schema["enum"])
    kind = str(schema.get("type", "any"))
    if kind == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    if isinstance(schema.get("additionalProperties"), dict):
        return f"object of {_kind(schema['additionalProperties'])}"
    pattern = f" <code>{_text(schema['pattern'])}</code>" if "pattern" in schema else ""
    return _text(schema.get("format", kind)) + pattern


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    top = "".join(f'<th scope="col">{_text(cell)}</th>' for cell in head)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return (
        f'<div class="wide" tabindex="0"><table><thead><tr>{top}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _id(name: str) -> str:
    """An anchor: letters, digits and dashes only."""
    return "".join(char if char.isascii() and char.isalnum() else "-" for char in name)


def _prose(value: object) -> str:
    """A sentence; what stands between backticks is code."""
    return _CODE.sub(r"<code>\1</code>", escape(str(value)))


def _text(value: object) -> str:
    return escape(str(value))
