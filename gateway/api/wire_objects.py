"""Wire models of the objects that have a lifecycle: deposits, withdrawals, inflows; and the event.

Each is built from the neutral snapshot of an event or from the same fields of a row.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from gateway.api.wire_base import (
    AmountOut,
    FieldProblem,
    MinorOut,
    Stated,
    Time,
    Wire,
    WireContext,
    optional_time,
    rfc3339,
)


class Deposit(Stated):
    """One transfer to a player's address (CONTRACT 4)."""

    player_id: str
    network: str
    asset: str
    amount: AmountOut
    amount_minor: MinorOut
    address: str
    txid: str
    position: str = Field(description="Place in the tx: `out:3`, `log:2`, `value`.")
    cycle: int
    state: str
    substatus: str | None
    sweep_state: str
    late: bool = Field(description="Paid to an address that the player had rotated away.")
    block_hash: str | None
    height: int | None
    created_at: Time
    updated_at: Time


class EtaOut(Wire):
    """How long a step will take: a guess from the network's own block history."""

    blocks: int = Field(description="Blocks that are missing.")
    p50_seconds: int = Field(description="As likely earlier as later.")
    p90_seconds: int = Field(description="Nine of ten are earlier.")


class DepositEtaOut(Wire):
    """Null: done, or it does not come by itself (under a full cap only `final` does)."""

    provisional: EtaOut | None
    final: EtaOut | None


class DepositDetail(Deposit):
    """One deposit with what cannot be said in an event."""

    min_confirmations: int = Field(description="Until `provisional`.")
    full_confirmations: int = Field(description="Until `final`.")
    policy_version: int = Field(description="The policy that it was judged by; 0: configuration.")
    eta: DepositEtaOut | None = Field(description="Null before the network was ever followed.")


class Withdrawal(Stated):
    """One payout (CONTRACT 5)."""

    request_id: str
    kind: str = Field(description="`withdrawal`, or `refund`: a deposit is sent back.")
    deposit_id: str | None = Field(description="Of a refund: the deposit.")
    player_id: str
    network: str
    asset: str
    amount: AmountOut
    amount_minor: MinorOut
    address: str
    fee_class: str
    fee_mode: str
    max_fee: AmountOut | None = Field(description="The most that the player pays, as ordered.")
    max_fee_minor: MinorOut | None
    fee_charged: AmountOut | None = Field(
        description="What the player pays of the amount, fixed at acceptance; null: nothing."
    )
    fee_charged_minor: MinorOut | None
    amount_out: AmountOut = Field(description="What the transaction pays: amount - fee_charged.")
    amount_out_minor: MinorOut
    metadata: dict[str, str]
    state: str
    code: str | None = Field(description="Why it was rejected, is on hold, or waits.")
    txid: str | None
    valid_until: Time
    promise_at: Time = Field(description="Until when it should be `sent`.")
    created_at: Time
    updated_at: Time


class ItemProblem(Wire):
    """Why an item of a batch made no withdrawal: nothing of it was stored."""

    request_id: str
    type: str
    title: str
    status: int
    code: str = Field(description="Stable word for programs.")
    detail: str
    retryable: bool = Field(description="The same item may be sent again, in another batch.")
    errors: list[FieldProblem]


class WithdrawalBatch(Wire):
    """The results of a batch, in the order of its items."""

    items: list[Withdrawal | ItemProblem]


class Inflow(Stated):
    """Coins that reached an own address and belong to nobody yet (CONTRACT 1)."""

    network: str
    asset: str
    amount: AmountOut
    amount_minor: MinorOut
    address: str
    role: str
    kind: str = Field(
        description="`payment`, or `other_script`: another script of the key of `address`, which "
        "no payout can spend yet."
    )
    txid: str
    position: str
    state: str
    assigned_to: str | None = Field(description="`capital`, or `clearing:BRAND`.")
    block_hash: str | None
    height: int | None
    created_at: Time
    updated_at: Time


class AttestationOut(Wire):
    """The signer's own word for whose an address is (docs/integration/address-attestation.md)."""

    statement: str = Field(description="The canonical text `cage-address/1`.")
    signature: str = Field(description="Base64, over the UTF-8 bytes of `statement`.")
    key_id: str = Field(description="Names the public key that you pinned.")
    algorithm: str = Field(description="`ed25519`.")


class Address(Stated):
    """A player's deposit address, as events show it."""

    player_id: str
    network: str
    address: str
    scheme: str
    attestation: AttestationOut | None = Field(
        description="The signer's statement; null until `address.attested`."
    )
    created_at: Time
    retired_at: Time | None


class Event(Wire):
    """One numbered fact (CONTRACT 6); `object` is the full snapshot at that version."""

    id: str
    seq: int
    type: str
    created_at: Time
    brand: str
    object: dict[str, Any]
    object_version: int
    previous_state: str | None


def deposit(snapshot: Mapping[str, Any], *, context: WireContext) -> Deposit:
    """A deposit from its neutral fields."""
    amount = int(snapshot["amount"])
    return Deposit(
        id=context.id("deposit", snapshot["id"]),
        version=snapshot["version"],
        brand=snapshot["brand"],
        livemode=context.livemode,
        player_id=snapshot["player_id"],
        network=snapshot["network"],
        asset=snapshot["asset"],
        amount=context.amount(amount, snapshot["asset"]),
        amount_minor=str(amount),
        address=snapshot["address"],
        txid=snapshot["txid"],
        position=snapshot["position"],
        cycle=snapshot["cycle"],
        state=snapshot["state"],
        substatus=snapshot.get("substatus"),
        sweep_state=snapshot.get("sweep_state", "none"),
        late=snapshot.get("is_late", False),
        block_hash=snapshot.get("block_hash"),
        height=snapshot.get("height"),
        created_at=rfc3339(snapshot["first_seen_at"]),
        updated_at=rfc3339(snapshot["state_at"]),
    )


def withdrawal(snapshot: Mapping[str, Any], *, context: WireContext) -> Withdrawal:
    """A withdrawal from its neutral fields (`payouts.withdrawals.withdrawal_snapshot`)."""
    amount, asset = int(snapshot["amount"]), snapshot["asset"]
    # Events of an earlier version have neither.
    max_fee, charged = snapshot.get("max_fee"), snapshot.get("fee_charged")
    output = amount - int(charged or 0)
    deposit_id = snapshot.get("deposit_id")
    return Withdrawal(
        id=context.id("withdrawal", snapshot["id"]),
        version=snapshot["version"],
        brand=snapshot["brand"],
        livemode=context.livemode,
        request_id=snapshot["request_id"],
        kind=snapshot.get("kind", "withdrawal"),
        deposit_id=None if deposit_id is None else context.id("deposit", deposit_id),
        player_id=snapshot["player_id"],
        network=snapshot["network"],
        asset=asset,
        amount=context.amount(amount, asset),
        amount_minor=str(amount),
        address=snapshot["address"],
        fee_class=snapshot["fee_class"],
        fee_mode=snapshot["fee_mode"],
        max_fee=None if max_fee is None else context.amount(int(max_fee), asset),
        max_fee_minor=max_fee,
        fee_charged=None if charged is None else context.amount(int(charged), asset),
        fee_charged_minor=charged,
        amount_out=context.amount(output, asset),
        amount_out_minor=str(output),
        metadata=snapshot["metadata"],
        state=snapshot["state"],
        code=snapshot["code"],
        txid=snapshot["txid"],
        valid_until=rfc3339(snapshot["valid_until"]),
        promise_at=rfc3339(snapshot["promise_at"]),
        created_at=rfc3339(snapshot["accepted_at"]),
        updated_at=rfc3339(snapshot["state_at"]),
    )


def address(snapshot: Mapping[str, Any], *, context: WireContext) -> Address:
    """A handed-out address from its neutral fields."""
    found = snapshot["attestation"]
    return Address(
        id=context.id("address", snapshot["id"]),
        version=snapshot["version"],
        brand=snapshot["brand"],
        livemode=context.livemode,
        player_id=snapshot["player_id"],
        network=snapshot["network"],
        address=snapshot["address"],
        scheme=snapshot["scheme"],
        attestation=None if found is None else AttestationOut(**found),
        created_at=rfc3339(snapshot["issued_at"]),
        retired_at=optional_time(snapshot["retired_at"]),
    )


def inflow(snapshot: Mapping[str, Any], *, context: WireContext) -> Inflow:
    """An inflow from its neutral fields; it belongs to the operator until it is assigned."""
    amount = int(snapshot["amount"])
    target = snapshot.get("assigned_to")
    if target == "clearing":
        target = f"clearing:{snapshot['assigned_brand']}"
    return Inflow(
        id=context.id("inflow", snapshot["id"]),
        version=snapshot["version"],
        brand=snapshot.get("brand") or "operator",
        livemode=context.livemode,
        network=snapshot["network"],
        asset=snapshot["asset"],
        amount=context.amount(amount, snapshot["asset"]),
        amount_minor=str(amount),
        address=snapshot["address"],
        role=snapshot["role"],
        kind=snapshot.get("kind", "payment"),  # an event of an older version has none
        txid=snapshot["txid"],
        position=snapshot["position"],
        state=snapshot["state"],
        assigned_to=target,
        block_hash=snapshot.get("block_hash"),
        height=snapshot.get("height"),
        created_at=rfc3339(snapshot["first_seen_at"]),
        updated_at=optional_time(snapshot.get("state_at")) or rfc3339(snapshot["first_seen_at"]),
    )
