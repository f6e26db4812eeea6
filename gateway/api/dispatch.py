"""From an HTTP request to a handler and back: the order in which every call is checked.

Size and time of the body, signature, rate, scope, query, body, then one unit of work with nonce,
idempotency and everything the handler does. Owns that order; the rules themselves are elsewhere.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from aiohttp import web
from pydantic import BaseModel, ValidationError
from sqlalchemy.exc import DBAPIError

from config.database import ALL_BRANDS, Uow, is_lock_timeout
from config.ids import uuid_of
from gateway import audit, clients_store, idempotency
from gateway.api.endpoint import (
    BODY_BYTES_MAX,
    Answer,
    Call,
    Endpoint,
    Idempotency,
    Services,
    Ticket,
)
from gateway.api.strict_json import parse_body
from gateway.api.wire_base import Body
from gateway.api.wire_query import BrandQuery
from gateway.auth import Principal, PrincipalKind, RawRequest, SignedCall
from gateway.errors import (
    FieldError,
    Forbidden,
    InProgress,
    Invalid,
    Malformed,
    NonceUsed,
    NotFound,
    Refusal,
    TooMany,
    Unavailable,
)
from ledger import lifecycle
from signer.protocol import Authorisation

ORDER_HEADER_CHARACTERS_MAX = 4_096  # the signer reads no longer header of an order
BODY_SECONDS_MAX = 10.0  # A25: a body that dribbles in is closed within 15 s
CALLER = web.RequestKey("caller", Principal)
"""Who called, for the log line."""
CORRELATION = web.RequestKey("correlation", str)
"""The id of the request, made before anything is read of it."""

HttpHandler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class SlowBody(Refusal):
    """The body did not arrive in time; the connection is closed."""

    status = 408
    is_retryable = True


def serve(endpoint: Endpoint, services: Services) -> HttpHandler:
    """The aiohttp handler of one endpoint."""

    async def handle(request: web.Request) -> web.StreamResponse:
        raw = await read_request(request, bytes_max=endpoint.body_bytes_max)
        caller = await services.authenticator.verify(raw)
        principal = caller.principal
        request[CALLER] = principal
        wait_seconds = services.limiter.wait_seconds(principal.key_id)
        if wait_seconds:
            raise TooMany("rate_limited", "Too many calls.", retry_after_seconds=wait_seconds)
        _check_scope(endpoint, caller)
        if endpoint.is_order:
            _check_order(caller.signed)
        key = idempotency.check_key(
            caller.idempotency_key, is_required=endpoint.idempotency is Idempotency.REQUIRED
        )
        query = _query(endpoint, request)
        raw_body, body = _body(endpoint, raw.body)
        prepared = await endpoint.prepare(services, body) if endpoint.prepare else None
        brand = _brand(caller, query, services)
        if endpoint.together is not None and key is not None:
            ticket = Ticket(
                services=services,
                caller=caller,
                brand=brand,
                body=body,
                raw_body=raw_body,
                prepared=prepared,
                key=key,
            )
            answer = await endpoint.together(ticket)
            if answer is not None:
                return json_response(answer, status=endpoint.status)

        async def work(uow: Uow) -> web.Response | Answer:
            call = Call(
                services=services,
                uow=uow,
                caller=caller,
                brand=brand,
                path=dict(request.match_info),
                query=query,
                body=body,
                raw_body=raw_body,
                prepared=prepared,
                at=services.clock.now(),
            )
            return await _run(endpoint, call, key)

        try:
            session = {"cage.correlation": request.get(CORRELATION, "")}
            found = await services.database.run(work, brand=brand, session=session)
            if isinstance(found, web.Response):
                return found
            later = None if found.later is None else await found.later()
            return _response(endpoint, later or found)
        except DBAPIError as error:
            if not is_lock_timeout(error):
                raise
            if key is not None:
                raise InProgress("idempotency_in_progress", "The first call is running.") from error
            raise Unavailable("busy", "Another call holds this resource; try again.") from error

    return handle


async def read_request(request: web.Request, *, bytes_max: int = BODY_BYTES_MAX) -> RawRequest:
    """The request as received. Raises SlowBody, Malformed, and aiohttp's 413."""
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise Malformed("content_encoding", "Compressed bodies are not read.")
    try:
        if bytes_max != request.client_max_size:
            request = request.clone(client_max_size=bytes_max)
        async with asyncio.timeout(BODY_SECONDS_MAX):
            body = await request.read()
    except TimeoutError as error:
        raise SlowBody("slow_body", "The body did not arrive in time.") from error
    path, mark, query = request.raw_path.partition("?")
    return RawRequest(
        method=request.method,
        authority=(request.headers.get("Host") or "").lower(),
        path=path,
        query="?" + query if mark else "?",
        header_lines=tuple(
            (name.decode("latin-1"), value.decode("latin-1")) for name, value in request.raw_headers
        ),
        body=body,
        peer=_peer(request),
    )


def json_response(
    value: Any, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """JSON bytes with the headers of every answer."""
    body = value if isinstance(value, bytes) else encode(value)
    return web.Response(
        body=body,
        status=status,
        content_type="application/json",
        headers={"Cache-Control": "no-store", **(headers or {})},
    )


def encode(value: Any) -> bytes:
    """A model or plain data as JSON bytes."""
    if isinstance(value, BaseModel):
        return value.model_dump_json().encode("utf-8")
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8")


def print_of(caller: SignedCall, raw_body: Mapping[str, Any]) -> bytes:
    """What the Idempotency-Key of a call stands for."""
    signed = caller.signed
    return idempotency.fingerprint(
        method=signed.method, path=signed.path, query=signed.query, body=raw_body
    )


async def _run(endpoint: Endpoint, call: Call, key: str | None) -> web.Response | Answer:
    """Inside the unit of work: nonce, key, handler, stored answer. A read gives its answer."""
    if not endpoint.is_write:
        return _answer(await endpoint.handler(call))
    await _use_nonce(call)
    await lifecycle.set_actor(call.uow, call.principal.person or call.principal.key_id)
    if key is None:
        answer = _answer(await endpoint.handler(call))
        await _audit(endpoint, call, answer)
        return _response(endpoint, answer)
    scope = idempotency.scope_of(key_id=call.principal.key_id, brand=call.principal.brand)
    print_ = print_of(call.caller, call.raw_body)
    stored = await idempotency.begin(call.uow, scope=scope, key=key, print_=print_, at=call.at)
    if stored is not None:
        return _replayed(stored.status, stored.body)
    answer = _answer(await endpoint.handler(call))
    response = _response(endpoint, answer)
    kept = encode(answer.stored) if answer.stored is not None else _bytes(response)
    await idempotency.finish(
        call.uow,
        scope=scope,
        key=key,
        answer=idempotency.StoredAnswer(status=response.status, body=kept),
    )
    await _audit(endpoint, call, answer)
    return response


async def _audit(endpoint: Endpoint, call: Call, answer: Answer) -> None:
    """The row of a call that was carried out, in the unit of work of what it did."""
    if not endpoint.is_audited(call.principal):
        return
    ids = [uuid_of(value) for value in call.path.values()]
    of_object = getattr(answer.body, "brand", None)  # so that a brand sees what staff did for it
    is_brand = of_object in call.services.registry.settings.brands
    await audit.record(
        call.uow,
        audit.Operation(
            action=f"{endpoint.method} {endpoint.path}",
            subject=call.caller.signed.path,
            brand=call.one_brand or (of_object if is_brand else None),
            object_ids=tuple(item for item in ids if item is not None),
            request=call.raw_body,
            body=call.caller.signed.body,
            status=answer.status or endpoint.status,
            at=call.at,
        ),
    )


async def _use_nonce(call: Call) -> None:
    is_new = await clients_store.use_nonce(
        call.uow,
        key_id=call.principal.key_id,
        nonce=call.caller.nonce,
        expires_at=call.caller.nonce_expires_at,
    )
    if not is_new:
        raise NonceUsed


def _answer(value: BaseModel | Answer) -> Answer:
    return value if isinstance(value, Answer) else Answer(body=value)


def _response(endpoint: Endpoint, answer: Answer) -> web.Response:
    headers = {"Idempotent-Replayed": "true"} if answer.is_replayed else answer.headers
    body = answer.raw or (b"" if answer.body is None else encode(answer.body))
    return json_response(body, status=answer.status or endpoint.status, headers=headers)


def _replayed(status: int, body: bytes) -> web.Response:
    return json_response(body, status=status, headers={"Idempotent-Replayed": "true"})


def _bytes(response: web.Response) -> bytes:
    return response.body if isinstance(response.body, bytes) else b""


def _check_scope(endpoint: Endpoint, caller: SignedCall) -> None:
    principal = caller.principal
    if principal.kind not in endpoint.kinds:
        raise Forbidden("wrong_principal", "This kind of key may not make this call.")
    if endpoint.scopes and not endpoint.scopes & principal.scopes:
        names = ", ".join(sorted(endpoint.scopes))
        raise Forbidden("missing_scope", f"The key needs one of: {names}.")
    if principal.kind is PrincipalKind.CLIENT and endpoint.client_scopes - principal.scopes:
        names = ", ".join(sorted(endpoint.client_scopes))
        raise Forbidden("missing_scope", f"The key needs all of: {names}.")
    is_staff = principal.kind is PrincipalKind.STAFF
    if is_staff and endpoint.roles and not endpoint.roles & principal.roles:
        names = ", ".join(sorted(endpoint.roles))
        raise Forbidden("missing_role", f"The person needs one of: {names}.")


def _check_order(signed: Authorisation) -> None:
    """Refuse what the signer would refuse of the route: it could be accepted and never be paid."""
    if signed.query != "?":
        raise Invalid(
            "query_not_allowed",
            "An order takes no query: the key names the brand. Sign and send the path alone.",
        )
    for name, text in (
        *signed.headers.items(),
        ("signature-input", signed.signature_input),
        ("signature", signed.signature),
    ):
        if len(text) > ORDER_HEADER_CHARACTERS_MAX:
            raise Invalid(
                "header_too_long",
                f"The header {name} of an order has at most {ORDER_HEADER_CHARACTERS_MAX}"
                " characters: send one signature with the parameters of the contract.",
            )


def _brand(caller: SignedCall, query: BrandQuery, services: Services) -> str:
    """What the unit of work sees: a client its own brand, others the one they named, or all."""
    own, asked = caller.principal.brand, query.brand
    if own is None and asked is None:
        return ALL_BRANDS
    if own is None and asked in services.registry.settings.brands:
        return str(asked)
    if own is None or asked not in (None, own):
        raise NotFound
    return own


def _query(endpoint: Endpoint, request: web.Request) -> BrandQuery:
    names = [name for name, _ in request.query.items()]  # keys() has each once
    if len(set(names)) != len(names):
        raise Invalid("invalid_query", "A parameter stands twice.")
    model = endpoint.query or BrandQuery
    query = _validated(model, dict(request.query), code="invalid_query")
    if not isinstance(query, BrandQuery):
        raise TypeError(f"{endpoint.path}: its query model is not a BrandQuery")
    return query


def _body(endpoint: Endpoint, data: bytes) -> tuple[dict[str, Any], Body | None]:
    if endpoint.body is None:
        # Calls without a body model take none, or an empty object.
        if data and parse_body(data):
            raise Invalid("invalid_request", "This call takes no body.")
        return {}, None
    raw = parse_body(data) if data else {}
    return raw, _validated(endpoint.body, raw, code="invalid_request")


def _validated(model: type[Body], value: Mapping[str, Any], *, code: str) -> Body:
    try:
        return model.model_validate(value, strict=True)
    except ValidationError as error:
        fields = _field_errors(error.errors(include_input=False, include_url=False))
        raise Invalid(code, "One or more fields are not acceptable.", errors=fields) from None


_CODES = {"missing": "required", "extra_forbidden": "unknown_field"}


def _field_errors(errors: Sequence[Any]) -> list[FieldError]:
    return [
        FieldError(
            field=_path(error["loc"]),
            code=_CODES.get(error["type"], "invalid"),
            detail=str(error["msg"])[:200],
        )
        for error in errors[:20]
    ]


def _path(location: Sequence[int | str]) -> str:
    """`items[3].asset`; a name that the caller made up is cut and made printable."""
    text = ""
    for part in location:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            name = "".join(c if c.isprintable() else "?" for c in part)[:64]
            text += f".{name}" if text else name
    return text


def _peer(request: web.Request) -> str:
    """The socket's own peer: forwarding headers are never believed (A27)."""
    transport = request.transport
    name = transport.get_extra_info("peername") if transport is not None else None
    return str(name[0]) if isinstance(name, tuple) and name else ""
