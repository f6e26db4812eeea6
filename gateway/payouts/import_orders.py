"""What one signature of lost books says, read from its bytes and held against a withdrawal.

The tx and the client's order must say the same, and so must the row that stands for it in the
books: whatever differs is a person's case (`NotImported`). It writes nothing.
"""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from config.database import Uow
from gateway.payouts import raw_tx, signed_orders
from gateway.payouts.account_funds import batch_id
from gateway.payouts.context import Lane
from gateway.payouts.raw_tx import UnreadableTx
from gateway.payouts.signed_orders import SignedOrder, UnreadableOrder
from gateway.withdrawals_store import WithdrawalRow
from ledger.errors import AmountError
from ledger.money import parse_amount, parse_balance
from signer.protocol import LogEntry, Payment, SignedTx, SignRequest
from watchers import addresses, coins, nonces
from watchers.chain import Destination
from watchers.errors import InvalidAddress
from watchers.outgoing import ChangeOutput

COINS_NAMED = 10  # inputs in the reason of a case


class NotImported(Exception):
    """Why one signature is a person's case; its unit of work is undone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """What the signer remembers of one attempt."""

    id: UUID
    entry: LogEntry
    question: SignRequest
    answer: SignedTx


@dataclass(frozen=True, slots=True, kw_only=True)
class Ordered:
    """An order with its amounts in minor units. `paid_minor`: what the tx pays for it; with the
    player's fee, what was charged is what the tx does not pay."""

    order: SignedOrder
    destination: Destination
    amount_minor: int
    pam_balance_minor: int
    max_fee_minor: int | None
    paid_minor: int

    @property
    def charged_minor(self) -> int | None:
        """What the player pays of it; None where the brand pays."""
        return self.amount_minor - self.paid_minor if self.order.fee_mode == "player" else None


def ordered(lane: Lane, signature: Signature, payment: Payment) -> Ordered:
    """The order behind a payment of the tx; raises NotImported."""
    try:
        order = signed_orders.read(payment)
        spec = lane.registry.assets[order.asset]
        destination = lane.chain.codec.parse(order.address)
        max_fee = None
        if order.fee_mode == "player":
            max_fee = parse_balance(str(order.max_fee), decimals=spec.decimals)
        found = Ordered(
            order=order,
            destination=destination,
            amount_minor=parse_amount(order.amount, decimals=spec.decimals),
            pam_balance_minor=parse_balance(order.pam_balance, decimals=spec.decimals),
            max_fee_minor=max_fee,
            paid_minor=_paid(lane, signature, payment, order.asset, destination.key),
        )
    except (UnreadableOrder, UnreadableTx, KeyError, InvalidAddress, AmountError) as error:
        raise NotImported(f"{payment.request_id}: the order cannot be read: {error}") from error
    if not 0 < found.paid_minor <= found.amount_minor:
        raise NotImported(f"{payment.request_id}: the tx does not pay what was ordered")
    return found


def agree(lane: Lane, row: WithdrawalRow, found: Ordered) -> None:
    """Raises NotImported unless the row of the books is this very order."""
    order = found.order
    said = (lane.network, order.player_id, order.asset, found.destination.key, found.amount_minor)
    stands = (row.network, row.player_id, row.asset, row.address_key, row.amount_minor)
    if row.kind != "withdrawal" or said != stands or row.fee_mode != order.fee_mode:
        raise NotImported(f"{row.request_id}: the books have another order under this id")
    if row.output_minor != found.paid_minor:
        raise NotImported(f"{row.request_id}: the books pay {row.output_minor} for it")


async def own_parts(lane: Lane, uow: Uow, signature: Signature) -> dict[str, Any]:
    """What of the tx is ours, as a draft says it: inputs and change, or sender, nonce and payer.

    Raises NotImported, UnreadableTx.
    """
    question = signature.question
    paths = [*question.input_paths, *question.change_paths.values()]
    own = await addresses.by_paths(uow, network=lane.network, paths=paths)
    if lane.is_account_based:
        [path] = question.input_paths
        if path not in own:
            raise NotImported(f"no address of ours at {path}")
        return {
            "sender_key": own[path].key,
            "nonce": raw_tx.account_nonce(question.unsigned),
            "payer_key": await _payer(lane, uow, signature) if question.payments else None,
        }
    parts = raw_tx.utxo_parts(question.unsigned)
    missing = [path for path in question.change_paths.values() if path not in own]
    if missing:
        raise NotImported(f"no address of ours at {missing[0]} yet")
    change = tuple(
        ChangeOutput(vout=vout, address_id=own[path].id, amount_minor=parts.amounts[vout])
        for vout, path in question.change_paths.items()
    )
    return {"inputs": parts.inputs, "change": change}


def asset_of(lane: Lane, token: str | None) -> str:
    """The asset of a token's contract; None: the native coin. Raises NotImported."""
    for asset in lane.registry.assets_of(lane.network):
        if (asset.contract or "").lower() == (token or ""):
            return asset.id
    raise NotImported(f"{token} is not listed")


async def keep_off(lane: Lane, uow: Uow, attempt_id: UUID, question: SignRequest) -> str:
    """Give a signature that is not imported its nonce or coins for ever; a later import has its id.

    Its coins are kept from everybody, those too that a block brings later. Returns what to add to
    the reason; raises UnreadableTx.
    """
    if not lane.is_account_based:
        parts = raw_tx.utxo_parts(question.unsigned)
        await coins.keep(uow, network=lane.network, attempt_id=attempt_id, outpoints=parts.inputs)
        named = ", ".join(f"{coin.txid}:{coin.vout}" for coin in parts.inputs[:COINS_NAMED])
        return f"; its coins are kept for it: {named}"
    paths = question.input_paths
    own = await addresses.by_paths(uow, network=lane.network, paths=paths)
    nonce = raw_tx.account_nonce(question.unsigned)
    if not all(path in own for path in paths):
        return f"; its nonce {nonce} is not kept: no address of ours at {', '.join(paths)}"
    for path in paths:
        await nonces.claim(
            uow,
            network=lane.network,
            sender_key=own[path].key,
            nonce=nonce,
            attempt_id=attempt_id,
        )
    return f"; its nonce {nonce} is kept for it"


async def _payer(lane: Lane, uow: Uow, signature: Signature) -> str | None:
    """The batch contract where it pays; settlement then goes by its legs, not by the sender."""
    question = signature.question
    found = raw_tx.account_pays(question.unsigned, batch_contract=lane.spec.batch_contract)
    indexes = sorted(payment.output_index for payment in question.payments)
    if indexes != list(range(len(found.legs))):
        raise NotImported("its payments and its orders are not one to one")
    if found.batch_id is None:
        return None
    if found.batch_id != batch_id(UUID(signature.entry.family)):
        raise NotImported("a batch under the id of another family")
    contract = await addresses.batch_contract(uow, network=lane.network)
    if contract is None or contract.key != lane.spec.batch_contract:
        raise NotImported("the batch contract is not among our addresses yet")
    return contract.key


def _paid(lane: Lane, signature: Signature, payment: Payment, asset: str, key: str) -> int:
    """What the tx pays for it, minor units; raises UnreadableTx, NotImported."""
    unsigned, index = signature.question.unsigned, payment.output_index
    try:
        if not lane.is_account_based:
            return raw_tx.utxo_parts(unsigned).amounts[index]
        found = raw_tx.account_pays(unsigned, batch_contract=lane.spec.batch_contract)
        to, amount = found.legs[index]
    except IndexError as error:
        raise UnreadableTx("no such output") from error
    contract = lane.registry.assets[asset].contract
    if to != key or found.token != (None if contract is None else contract.lower()):
        raise NotImported(f"{payment.request_id}: the tx pays somebody else, or another asset")
    return amount
