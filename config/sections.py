"""Sections of the settings tree that need nothing but themselves, and the texts they are made of.

Owns the shape of assets, payouts, bands and the address pool in `cage.toml`; `config.settings` puts
the tree together and reads it.
"""

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

DecimalText = Annotated[
    str, StringConstraints(strict=True, pattern=r"^(0|[1-9][0-9]*)(\.[0-9]+)?$")
]
"""An amount in asset units as text; a TOML number would be a float or lose its scale."""

NetworkName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9]{1,15}$")]
BrandName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{1,31}$")]
AssetId = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9]{1,15}:[A-Z][A-Z0-9]{1,11}$")]


class Section(BaseModel):
    """Base of every section: immutable, unknown keys refused, secrets never in `repr`."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class TierSettings(Section):
    """Confirmations for amounts up to `up_to` (asset units; the last tier has none)."""

    up_to: DecimalText | None = None
    min: int = Field(ge=1)
    full: int = Field(ge=1)


class AssetSettings(Section):
    """What differs from the asset registry. Amounts are in asset units."""

    enabled: bool = True
    contract: str | None = Field(default=None, pattern=r"^0x[0-9a-fA-F]{40}$")
    decimals: int | None = Field(default=None, ge=0, le=30)
    minimum_deposit: DecimalText | None = None
    minimum_withdrawal: DecimalText | None = None
    tiers: tuple[TierSettings, ...] | None = None
    fee_on_transfer: bool | None = None
    rebasing: bool | None = None
    native_mirror: str | None = Field(default=None, pattern=r"^0x[0-9a-fA-F]{40}$")


class BatchSettings(Section):
    """How long a withdrawal of a class may wait for company, and how many share one tx."""

    window_seconds: int = Field(ge=0)
    max_payments: int = Field(default=100, ge=1, le=500)


class PayoutSettings(Section):
    """Batch windows by fee class, well inside the promises of CONTRACT 5."""

    urgent: BatchSettings = BatchSettings(window_seconds=5)
    normal: BatchSettings = BatchSettings(window_seconds=60)
    economy: BatchSettings = BatchSettings(window_seconds=900)
    poll_seconds: float = Field(default=1.0, gt=0)

    def batch(self, fee_class: str) -> BatchSettings:
        """The window and size of one fee class; KeyError for a name that is none."""
        return {"urgent": self.urgent, "normal": self.normal, "economy": self.economy}[fee_class]


class BandSettings(Section):
    """The band of one wallet, in asset units."""

    min: DecimalText
    target: DecimalText
    max: DecimalText


class WalletSettings(Section):
    """The bands of one asset by the role of the wallet, in asset units.

    `min`, `target`, `max` beside the asset are the hot wallet's, and so is the table `hot`: one of
    the two. `deposit` is all deposit wallets of the asset together.
    """

    min: DecimalText | None = None
    target: DecimalText | None = None
    max: DecimalText | None = None
    deposit: BandSettings | None = None
    hot: BandSettings | None = None
    warm: BandSettings | None = None
    cold: BandSettings | None = None
    gas: BandSettings | None = None

    @model_validator(mode="after")
    def _hot_is_said_once(self) -> Self:
        given = [text for text in (self.min, self.target, self.max) if text is not None]
        if given and len(given) != 3:
            raise ValueError("min, target and max belong together")
        if given and self.hot is not None:
            raise ValueError("the hot wallet's band stands here and in `hot`: keep one")
        return self

    def bands(self) -> dict[str, BandSettings]:
        """The bands by role."""
        found = {
            role: band
            for role in ("deposit", "hot", "warm", "cold", "gas")
            if (band := getattr(self, role)) is not None
        }
        if self.min is not None and self.target is not None and self.max is not None:
            found["hot"] = BandSettings(min=self.min, target=self.target, max=self.max)
        return found


class AddressPoolSettings(Section):
    """How many verified addresses to keep ready per brand and network."""

    low: int = Field(default=1500, ge=1)  # refilled from here; the alarm is at 1,000 (CONTRACT 8)
    high: int = Field(default=2500, ge=1)


class ColdSettings(Section):
    """The cold wallet of a network: nothing online holds its keys.

    `address` is where hot value goes; the signer pins the same text. UTXO networks give the output
    `descriptor` too (BIP 380, with its checksum), of which the first `addresses` of each branch are
    watched. `safe` instead of `address`: on account chains, a Safe, whose owners sign refills.
    """

    address: str = Field(min_length=1, max_length=128)
    safe: str | None = Field(default=None, pattern=r"^0x[0-9a-fA-F]{40}$")
    descriptor: str | None = Field(default=None, min_length=1, max_length=4096)
    addresses: int = Field(default=100, ge=1, le=10_000)

    @model_validator(mode="before")
    @classmethod
    def _safe_is_the_address(cls, raw: Any) -> Any:
        if not isinstance(raw, dict) or raw.get("safe") is None:
            return raw
        if raw.get("descriptor") is not None:
            raise ValueError("safe and descriptor are of different networks")
        if raw.get("address", raw["safe"]) != raw["safe"]:
            raise ValueError("with safe, address is left out or the same")
        return {**raw, "address": raw["safe"]}


class RebalanceSettings(Section):
    """Who agrees to a move between hot and cold of one asset, in asset units.

    Above `two_people_above` two people sign; without it, always. `automatic` lets an overflow up to
    that limit go to cold by itself. The signer has limits of its own.
    """

    two_people_above: DecimalText = "0"
    automatic: bool = False
    pause_seconds: int = Field(default=6 * 3600, ge=60)  # between two requests of the system
    valid_seconds: int = Field(default=24 * 3600, ge=600, le=30 * 86_400)
