"""What an endpoint is: its route, who may call it, its models; and what a handler receives.

The same declaration routes, authorises, validates and documents, so that `/openapi.json` cannot
differ from what is enforced. It holds no state: `endpoint()` only marks functions, and `app.py`
names the modules whose marked functions it serves.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from types import ModuleType
from typing import Any

from pydantic import BaseModel

from config.clock import Clock
from config.database import ALL_BRANDS, Database, Uow
from config.ids import Ids, parse_public_id
from config.registry import Registry
from gateway.api.metrics import ApiMetrics
from gateway.api.rate_limit import RateLimiter, Slots
from gateway.api.wire_base import Body, WireContext
from gateway.auth import Authenticator, Principal, PrincipalKind, SignedCall
from gateway.errors import NotFound, invalid_field
from gateway.gathering import Gathering
from gateway.webhooks.secrets import SealingKey
from watchers.chain import AddressCodec

BODY_BYTES_MAX = 64 * 1024  # CONTRACT 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What handlers may use; built once by the composition root."""

    database: Database
    registry: Registry
    codecs: Mapping[str, AddressCodec]
    clock: Clock
    ids: Ids
    authenticator: Authenticator
    limiter: RateLimiter
    sealing_key: SealingKey
    metrics: ApiMetrics
    batches: Slots
    orders: "Gathering[Ticket, Any]"

    @property
    def wire(self) -> WireContext:
        """How values are rendered in this deployment."""
        return WireContext(assets=self.registry.assets, livemode=self.registry.settings.livemode)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """One verified call that has no unit of work yet. `key`: its Idempotency-Key."""

    services: Services
    caller: SignedCall
    brand: str
    body: Any
    raw_body: Mapping[str, Any]
    prepared: Any
    key: str | None

    def call(self, uow: Uow, *, at: datetime) -> "Call":
        """The call inside a unit of work; nothing of its path or query counts."""
        return Call(
            services=self.services,
            uow=uow,
            caller=self.caller,
            brand=self.brand,
            path={},
            query=None,
            body=self.body,
            raw_body=self.raw_body,
            prepared=self.prepared,
            at=at,
        )


class Idempotency(StrEnum):
    """Whether a call takes an `Idempotency-Key`."""

    REQUIRED = "required"
    """It moves money: 400 without (A05)."""
    OPTIONAL = "optional"
    """Where sent, the first answer is stored and repeated."""
    NONE = "none"
    """A read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One verified call inside its unit of work."""

    services: Services
    uow: Uow
    caller: SignedCall
    brand: str
    """The brand that this call sees: one, or `*` for a caller of all brands that named none."""
    path: Mapping[str, str]
    query: Any
    body: Any
    raw_body: Mapping[str, Any]
    prepared: Any
    at: datetime

    @property
    def principal(self) -> Principal:
        """Who calls."""
        return self.caller.principal

    @property
    def one_brand(self) -> str | None:
        """The brand to narrow to, or None for all."""
        return None if self.brand == ALL_BRANDS else self.brand

    def ticket(self, *, key: str | None) -> Ticket:
        """The call for another unit of work than its own."""
        return Ticket(
            services=self.services,
            caller=self.caller,
            brand=self.brand,
            body=self.body,
            raw_body=self.raw_body,
            prepared=self.prepared,
            key=key,
        )

    def require_brand(self) -> str:
        """The one brand of a call that writes; raises Invalid when none was named."""
        if self.brand == ALL_BRANDS:
            raise invalid_field("brand", "brand_required", "Name one brand: ?brand=NAME.")
        return self.brand

    def object_id(self, kind: str, name: str = "id") -> Any:
        """The UUID behind an id of the path; NotFound when it is none of this kind and mode."""
        livemode = self.services.registry.settings.livemode
        found = parse_public_id(kind, self.path[name], livemode=livemode)
        if found is None:
            raise NotFound
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a handler answers. `stored` replaces the model where the stored answer must differ
    (a secret that is shown once)."""

    body: BaseModel | None
    raw: bytes | None = None
    """JSON that is already text."""
    status: int | None = None
    stored: BaseModel | None = None
    is_replayed: bool = False
    headers: Mapping[str, str] | None = None
    later: "Callable[[], Awaitable[Answer]] | None" = None
    """Of a read that has to wait: awaited once the unit of work is committed and closed; what it
    answers takes this answer's place. Units of work that it needs are its own, and short."""


Handler = Callable[[Call], Awaitable[BaseModel | Answer]]
Together = Callable[[Ticket], Awaitable[bytes | None]]
Prepare = Callable[[Services, Any], Awaitable[Any]]
ALL_KINDS = frozenset(PrincipalKind)
NOT_CLIENTS = frozenset({PrincipalKind.OPERATOR, PrincipalKind.STAFF})


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One operation of the API. Any scope of `scopes` suffices; `admin` is in none by itself."""

    method: str
    path: str
    summary: str
    handler: Handler
    answers: type[BaseModel]
    status: int = 200
    scopes: frozenset[str] = frozenset()
    client_scopes: frozenset[str] = frozenset()
    """A client key needs every one of these besides."""
    kinds: frozenset[PrincipalKind] = ALL_KINDS
    roles: frozenset[str] = frozenset()
    """A staff key needs one of these roles where any are given."""
    body: type[Body] | None = None
    query: type[Body] | None = None
    idempotency: Idempotency = Idempotency.NONE
    prepare: Prepare | None = None
    """Runs before the unit of work opens: checks that need another view of the database."""
    alternative: type[BaseModel] | None = None
    """Another model that the same status may carry."""
    may_be_pending: bool = False
    """A read may answer 202 with the same model and a link, instead of 200."""
    body_bytes_max: int = BODY_BYTES_MAX
    is_order: bool = False
    """The signer reads the stored request again: what its parser refuses is refused at once."""

    together: Together | None = None
    """Runs a call with a key in one unit of work with others; None: it runs by itself."""

    is_routine: bool = False
    """Programs make it all day, and its own rows tell of it: only a person's call is audited."""

    is_dry: bool = False
    """A POST that stores nothing, not even its nonce: asked again, it is answered again."""

    def is_audited(self, principal: Principal) -> bool:
        """Whether a call that was carried out leaves a row in the audit log."""
        return not self.is_routine or principal.kind is PrincipalKind.STAFF

    @property
    def is_write(self) -> bool:
        """Whether it changes state; then its nonce is stored."""
        return self.method != "GET" and not self.is_dry


_MARK = "__endpoint__"


def endpoint(method: str, path: str, summary: str, **details: Any) -> Callable[[Handler], Handler]:
    """Mark a handler as one operation; `details` are fields of Endpoint."""

    def mark(handler: Handler) -> Handler:
        setattr(
            handler,
            _MARK,
            Endpoint(method=method, path=path, summary=summary, handler=handler, **details),
        )
        return handler

    return mark


def collect(modules: Iterable[ModuleType]) -> tuple[Endpoint, ...]:
    """The endpoints of these modules, in the order of definition."""
    found = [
        getattr(value, _MARK)
        for module in modules
        for value in vars(module).values()
        if hasattr(value, _MARK) and value.__module__ == module.__name__
    ]
    return tuple(found)
