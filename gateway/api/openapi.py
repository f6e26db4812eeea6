"""`/openapi.json`: OpenAPI 3.1 from the endpoints and models that validate (CONTRACT 3).

Pure: the same endpoints give the same document.
"""

from collections.abc import Sequence
from typing import Any

from aiohttp import web
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from gateway.api import reference_page
from gateway.api.dispatch import json_response
from gateway.api.endpoint import Endpoint, Idempotency
from gateway.api.wire_base import Problem
from gateway.api.wire_objects import Event
from gateway.api.wire_query import BrandQuery

_REF = "#/components/schemas/{model}"
_PROBLEM = {"$ref": "#/components/schemas/Problem"}
_SECURITY: list[dict[str, list[str]]] = [{"httpMessageSignature": []}]

EVENT_TYPES = (
    "deposit",
    "withdrawal",
    "address",
    "inflow",
    "wallet",
    "network",
    "node",
    "reconciliation",
)


def add_routes(app: web.Application, endpoints: Sequence[Endpoint], *, version: str) -> None:
    """Serve the document and the page made of it; they need no signature."""
    document = openapi(endpoints, version=version)
    reference_page.add_routes(app, document)

    async def show(_request: web.Request) -> web.Response:
        return json_response(document)

    app.router.add_get("/openapi.json", show)


def openapi(endpoints: Sequence[Endpoint], *, version: str) -> dict[str, Any]:
    """The document as plain data."""
    outs: set[type[BaseModel]] = {Problem, Event}
    ins: set[type[BaseModel]] = set()
    for item in endpoints:
        outs.add(item.answers)
        if item.alternative is not None:
            outs.add(item.alternative)
        if item.body is not None:
            ins.add(item.body)
    refs, definitions = models_json_schema(
        [(model, "serialization") for model in sorted(outs, key=_name)]
        + [(model, "validation") for model in sorted(ins, key=_name)],
        ref_template=_REF,
    )
    schemas = {key[0]: schema for key, schema in refs.items()}
    paths: dict[str, dict[str, Any]] = {}
    for item in endpoints:
        paths.setdefault(item.path, {})[item.method.lower()] = _operation(item, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Cage",
            "version": version,
            "description": "Payment rail of an online casino. Every call is signed (RFC 9421).",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": {**paths, **_operations_paths()},
        "webhooks": {f"{name}.*": _webhook(name, schemas) for name in EVENT_TYPES},
        "components": {
            "schemas": definitions["$defs"],
            "securitySchemes": {
                "httpMessageSignature": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "Signature",
                    "description": (
                        "RFC 9421 with Ed25519 over @method @authority @path @query, and"
                        " content-digest and idempotency-key where sent; parameters created,"
                        " nonce, keyid, alg. Signature-Input carries them."
                    ),
                }
            },
        },
    }


def _name(model: type[BaseModel]) -> str:
    return model.__name__


def _operation(item: Endpoint, schemas: dict[Any, Any]) -> dict[str, Any]:
    schema = schemas[item.answers]
    if item.alternative is not None:
        schema = {"oneOf": [schema, schemas[item.alternative]]}
    operation: dict[str, Any] = {
        "operationId": item.handler.__name__,
        "summary": item.summary,
        "tags": [item.path.split("/")[2]],
        "security": _SECURITY,
        "parameters": _parameters(item),
        "responses": {
            str(item.status): {
                "description": "Done.",
                "content": {"application/json": {"schema": schema}},
            },
            "default": {
                "description": "A problem (RFC 9457).",
                "content": {"application/problem+json": {"schema": _PROBLEM}},
            },
        },
    }
    if item.may_be_pending:
        operation["responses"]["202"] = {
            "description": "Not complete yet: fetch `Location`, or `link`, again.",
            "content": {"application/json": {"schema": schema}},
        }
    if item.scopes:
        operation["x-scopes"] = sorted(item.scopes)
    if item.client_scopes:
        operation["x-client-scopes"] = sorted(item.client_scopes)
    if item.body is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schemas[item.body]}},
        }
    return operation


def _parameters(item: Endpoint) -> list[dict[str, Any]]:
    names = [part[1:-1] for part in item.path.split("/") if part.startswith("{")]
    found: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in names
    ]
    query = {} if item.is_order else (item.query or BrandQuery).model_fields
    for name, field in query.items():
        parameter = {"name": field.alias or name, "in": "query", "schema": {"type": "string"}}
        if field.description:
            parameter["description"] = field.description
        found.append(parameter)
    if item.idempotency is not Idempotency.NONE:
        found.append(
            {
                "name": "Idempotency-Key",
                "in": "header",
                "required": item.idempotency is Idempotency.REQUIRED,
                "schema": {"type": "string", "minLength": 1, "maxLength": 255},
            }
        )
    return found


def _operations_paths() -> dict[str, Any]:
    """The unsigned calls."""

    def get(summary: str, content: str) -> dict[str, Any]:
        answer = {"description": summary, "content": {content: {"schema": {}}}}
        return {
            "get": {
                "summary": summary,
                "tags": ["operations"],
                "security": [],
                "responses": {"200": answer, "503": {"description": "Not ready."}},
            }
        }

    return {
        "/health/live": get("The process answers.", "application/json"),
        "/health/ready": get("Every network is served.", "application/json"),
        "/metrics": get("Prometheus metrics.", "text/plain"),
        "/openapi.json": get("This document.", "application/json"),
        "/docs": get("This document as a page.", "text/html"),
    }


def _webhook(name: str, schemas: dict[Any, Any]) -> dict[str, Any]:
    headers = ("webhook-id", "webhook-timestamp", "webhook-signature")
    return {
        "post": {
            "summary": f"An event of a {name}, signed as Standard Webhooks.",
            "parameters": [
                {"name": header, "in": "header", "required": True, "schema": {"type": "string"}}
                for header in headers
            ],
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": schemas[Event]}},
            },
            "responses": {"2XX": {"description": "Received; anything else is tried again."}},
        }
    }
