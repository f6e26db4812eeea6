"""The aiohttp application: middleware order, routes, slow connections.

Owns what every answer has in common: a correlation id, problem+json for every error (RFC 9457, no
internals in a 5xx), one JSON log line. It must not know any resource.
"""

import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from http import HTTPStatus

from aiohttp import web

from config.clock import Clock
from config.database import is_away
from config.logs import get_logger
from gateway.api.dispatch import CALLER, CORRELATION, encode, serve
from gateway.api.endpoint import BODY_BYTES_MAX, Endpoint, Services
from gateway.api.wire_base import FieldProblem, Problem
from gateway.errors import Malformed, NotFound, Refusal, TooLarge, Unavailable

log = get_logger("gateway.api")

SERVICES = web.AppKey("services", Services)
CORRELATION_HEADER = "X-Request-Id"
IDLE_SECONDS_MAX = 10.0  # A25: a connection without a whole request head is closed (limit 15 s)
REAP_SECONDS = 1.0
HEADER_BYTES_MAX = 16 * 1024

# Segments of plain characters only: no empty one, no dots alone, no escapes that could hide either
# (A28). `%3A %40 %2B %3D %7E` are what clients may write for `: @ + = ~` in a player id.
_PATH = re.compile(r"(/(?!\.{1,2}(/|$))([A-Za-z0-9._~:@+=-]|%(3A|40|2B|3D|7E))+)+", re.I | re.A)
_ROOT_PATHS = ("/",)


class Activity:
    """Which connections are being served, and when each finished its last request."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._busy: set[object] = set()
        self._idle_since: dict[object, float] = {}

    def begin(self, connection: object) -> None:
        """A whole request head is there."""
        self._busy.add(connection)

    def finish(self, connection: object) -> None:
        """Its answer is made: the idle time begins anew."""
        self._busy.discard(connection)
        self._idle_since[connection] = self._clock.monotonic_seconds()

    def idle(self, connections: Iterable[object]) -> list[object]:
        """Those without a whole request for too long; what is closed is forgotten."""
        now_seconds = self._clock.monotonic_seconds()
        self._idle_since = {
            connection: self._idle_since.get(connection, now_seconds)
            for connection in connections
            if connection not in self._busy
        }
        return [
            connection
            for connection, since_seconds in self._idle_since.items()
            if now_seconds - since_seconds > IDLE_SECONDS_MAX
        ]


ACTIVITY = web.AppKey("activity", Activity)

HttpHandler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def build_app(services: Services, endpoints: Sequence[Endpoint]) -> web.Application:
    """The application over these endpoints; unsigned routes are added by their modules."""
    app = web.Application(
        middlewares=[_tell, _guard_path],
        client_max_size=BODY_BYTES_MAX,
    )
    app[SERVICES] = services
    app[ACTIVITY] = Activity(services.clock)
    for endpoint in endpoints:
        app.router.add_route(endpoint.method, endpoint.path, serve(endpoint, services))
    return app


def problem(
    *,
    status: int,
    code: str,
    detail: str,
    correlation_id: str,
    retryable: bool = False,
    errors: Sequence[FieldProblem] = (),
) -> Problem:
    """The body of an error (RFC 9457)."""
    return Problem(
        type=f"urn:cage:problem:{code}",
        title=HTTPStatus(status).phrase,
        status=status,
        code=code,
        detail=detail,
        retryable=retryable,
        correlation_id=correlation_id,
        errors=list(errors),
    )


@web.middleware
async def _tell(request: web.Request, handler: HttpHandler) -> web.StreamResponse:
    """Outermost: every request gets an id, an answer and a log line. Supervises the handlers."""
    services = request.app[SERVICES]
    correlation_id = services.ids.new_id().hex
    request[CORRELATION] = correlation_id
    started_seconds = services.clock.monotonic_seconds()
    activity = request.app[ACTIVITY]
    activity.begin(request.protocol)
    try:
        response = await handler(request)
    except Refusal as refusal:
        response = _refused(refusal, correlation_id)
    except web.HTTPException as error:
        response = _http_error(error, correlation_id)
    except Exception as error:  # the supervisor of a request: nothing internal leaves (A44)
        response = _on_error(error, correlation_id)
    finally:
        activity.finish(request.protocol)
    response.headers[CORRELATION_HEADER] = correlation_id
    seconds = services.clock.monotonic_seconds() - started_seconds
    route = request.match_info.route.resource
    name = route.canonical if route is not None else "unmatched"
    services.metrics.requests.labels(request.method[:8], name, str(response.status)).inc()
    services.metrics.duration_seconds.labels(name).observe(seconds)
    caller = request.get(CALLER)
    log.info(
        "http.request",
        correlation_id=correlation_id,
        method=request.method[:8],
        path=request.raw_path.partition("?")[0][:256],
        route=name,
        status=response.status,
        milliseconds=round(seconds * 1000),
        key_id=caller.key_id if caller else None,
        brand=caller.brand if caller else None,
    )
    return response


@web.middleware
async def _guard_path(request: web.Request, handler: HttpHandler) -> web.StreamResponse:
    """Only paths that mean one thing to every parser reach a route (A28)."""
    path = request.raw_path.partition("?")[0]
    if path not in _ROOT_PATHS and not _PATH.fullmatch(path):
        raise NotFound
    return await handler(request)


def _refused(refusal: Refusal, correlation_id: str) -> web.Response:
    body = problem(
        status=refusal.status,
        code=refusal.code,
        detail=refusal.detail,
        retryable=refusal.is_retryable,
        correlation_id=correlation_id,
        errors=[
            FieldProblem(field=item.field, code=item.code, detail=item.detail)
            for item in refusal.errors
        ],
    )
    response = _problem_response(body)
    if refusal.retry_after_seconds is not None:
        response.headers["Retry-After"] = str(refusal.retry_after_seconds)
    if refusal.status == HTTPStatus.REQUEST_TIMEOUT:
        response.force_close()
    return response


def _http_error(error: web.HTTPException, correlation_id: str) -> web.Response:
    """aiohttp's own refusals in our form."""
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return _refused(TooLarge("body_too_large", "The body is over its limit."), correlation_id)
    if isinstance(error, web.HTTPNotFound):
        return _refused(NotFound(), correlation_id)
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        body = problem(
            status=405,
            code="method_not_allowed",
            detail="This resource does not know the method.",
            correlation_id=correlation_id,
        )
        response = _problem_response(body)
        response.headers["Allow"] = allowed
        return response
    return _refused(Malformed("bad_request", "The request cannot be read."), correlation_id)


def _on_error(error: Exception, correlation_id: str) -> web.Response:
    name = type(error).__name__
    if is_away(error):
        log.error("api.database_failed", correlation_id=correlation_id, error=name)
        return _failed(correlation_id, error=Unavailable("unavailable", "Ask again."))
    log.error("api.failed", correlation_id=correlation_id, error=name, exc_info=error)
    return _failed(correlation_id, error=None)


def _failed(correlation_id: str, *, error: Unavailable | None) -> web.Response:
    """A 5xx: unknown, never failed (CONTRACT 3)."""
    body = problem(
        status=503 if error else 500,
        code=error.code if error else "internal",
        detail="The outcome is unknown. Ask for the object before you try again.",
        retryable=True,
        correlation_id=correlation_id,
    )
    response = _problem_response(body)
    if error is not None:
        response.headers["Retry-After"] = "1"
    return response


def _problem_response(body: Problem) -> web.Response:
    return web.Response(
        body=encode(body),
        status=body.status,
        content_type="application/problem+json",
        headers={"Cache-Control": "no-store"},
    )


class SlowConnections:
    """Closes connections that hold a socket without a whole request (A25, Slowloris).

    aiohttp 3.14 has no time limit for a request head: half of one stays open for ever.
    """

    def __init__(self, server: web.Server, *, activity: Activity, clock: Clock) -> None:
        self._server = server
        self._activity = activity
        self._clock = clock

    async def run(self) -> None:
        """Look once a second, for ever."""
        while True:
            idle = set(self._activity.idle(self._server.connections))
            for connection in self._server.connections:
                if connection in idle:
                    connection.force_close()
            await self._clock.sleep(REAP_SECONDS)
