"""Wire models of wallets: balances by books and chain, bands, and the event of a crossing."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from gateway.api.wire_base import AmountOut, MinorOut, Time, Wire, WireContext, rfc3339


class BandOut(Wire):
    """The band of a role and asset. Deposit wallets of all brands share one, and `status` is of
    all of them together; it is judged by what nobody waits for (`free`)."""

    min: AmountOut
    target: AmountOut
    max: AmountOut
    status: Literal["low", "ok", "high"]


class ChainBlockOut(Wire):
    """The block that `chain` is of, and where it comes from: our `coins` or `accounts` at the block
    that the watcher follows, or the newest `comparison` with the nodes."""

    height: int
    block_hash: str
    source: Literal["coins", "accounts", "comparison"]
    at: Time = Field(description="When it was written down.")
    age_seconds: int


class WalletOut(Wire):
    """One custody account. A brand sees the books of its own deposit wallets, else null."""

    wallet: str
    role: Literal["deposit", "hot", "warm", "cold", "gas"]
    network: str
    asset: str
    brand: str | None
    address: str | None = Field(
        default=None, description="Where to send a top-up; hot wallets, operator only."
    )
    ledger: str = Field(description="By the books, at the chain's full tier.")
    ledger_minor: MinorOut
    chain: str | None = Field(default=None, description="Null where only a node could tell now.")
    chain_minor: MinorOut | None = None
    chain_block: ChainBlockOut | None = None
    reserved: str | None = Field(
        default=None, description="Hot: what accepted withdrawals wait for."
    )
    reserved_minor: MinorOut | None = None
    outgoing: str | None = Field(
        default=None, description="In own transactions that the books do not hold yet."
    )
    outgoing_minor: MinorOut | None = None
    incoming: str | None = Field(
        default=None, description="In the same, to come from another own wallet."
    )
    incoming_minor: MinorOut | None = None
    free: str | None = Field(
        default=None, description="ledger - outgoing + incoming - reserved: the band's measure."
    )
    free_minor: MinorOut | None = None
    band: BandOut | None = None


def band_event(snapshot: Mapping[str, Any], *, context: WireContext) -> dict[str, Any]:
    """The object of `wallet.low`, `wallet.high`, `wallet.gas_low` and `wallet.inside`."""
    asset = snapshot["asset"]
    named = ("amount", "min", "target", "max")
    return {
        **snapshot,
        **{name: context.amount(int(snapshot[name]), asset) for name in named},
        **{f"{name}_minor": snapshot[name] for name in named},
        "state_at": rfc3339(snapshot["state_at"]),
        "livemode": context.livemode,
    }
