"""Bases of every wire model: field types, amounts, ids and times as integrators see them."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from config.assets import AssetRegistry
from config.ids import public_id
from ledger.money import format_amount

AMOUNT_PATTERN = r"^(0|[1-9][0-9]*)(\.[0-9]+)?$"
PLAYER_PATTERN = r"^[A-Za-z0-9_~@+=:-][A-Za-z0-9._~@+=:-]{0,127}$"

_UTC_MOMENT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}\+00:00", re.ASCII
)

AmountOut = Annotated[
    str, Field(pattern=AMOUNT_PATTERN, description="Decimal string in asset units.")
]
MinorOut = Annotated[str, Field(pattern=r"^-?[0-9]+$", description="Integer in minor units.")]
Time = Annotated[
    str, Field(json_schema_extra={"format": "date-time"}, description="RFC 3339, UTC.")
]
PlayerId = Annotated[
    str,
    Field(
        pattern=PLAYER_PATTERN,
        description="The casino's own player id, 1 to 128 characters.",
        examples=["player-1"],
    ),
]
NetworkName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9]{1,15}$", examples=["btc"])]
AssetId = Annotated[
    str, Field(pattern=r"^[a-z][a-z0-9]{1,15}:[A-Z][A-Z0-9]{1,11}$", examples=["btc:BTC"])
]


class Body(BaseModel):
    """Base of request bodies: unknown fields refused (A32), no conversion of types (A12)."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Wire(BaseModel):
    """Base of answers."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Stated(Wire):
    """What every object has (CONTRACT 3)."""

    id: str
    version: int = Field(description="+1 per transition.")
    brand: str
    livemode: bool


class FieldProblem(Wire):
    """What is wrong with one field."""

    field: str
    code: str
    detail: str


class Problem(Wire):
    """RFC 9457 problem. A 5xx on a POST means unknown, never failed: ask by request_id."""

    type: str
    title: str
    status: int
    code: str = Field(description="Stable word for programs.")
    detail: str
    retryable: bool
    correlation_id: str
    errors: list[FieldProblem]


@dataclass(frozen=True, slots=True, kw_only=True)
class WireContext:
    """What rendering needs to know of the deployment."""

    assets: AssetRegistry
    livemode: bool

    def amount(self, minor: int, asset: str) -> str:
        """Minor units as a decimal string; an asset that is no longer configured shows minor."""
        spec = self.assets.get(asset)
        if spec is None:
            return str(minor)
        if minor < 0:
            return "-" + format_amount(-minor, decimals=spec.decimals)
        return format_amount(minor, decimals=spec.decimals)

    def id(self, kind: str, value: UUID | str) -> str:
        """The prefixed id of the wire."""
        uuid = value if isinstance(value, UUID) else UUID(value)
        return public_id(kind, uuid, livemode=self.livemode)


def rfc3339(moment: datetime | str) -> str:
    """An aware moment, or the ISO text of one, in UTC with `Z`."""
    if isinstance(moment, str) and _UTC_MOMENT.fullmatch(moment):
        return moment.removesuffix("+00:00") + "Z"  # as `isoformat` writes nearly all of them
    value = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    if value.tzinfo is None:
        raise ValueError("a moment without a zone")
    return value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def optional_time(moment: datetime | str | None) -> str | None:
    """`rfc3339` of a moment that may be missing."""
    return None if moment is None else rfc3339(moment)
