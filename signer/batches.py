"""What an account tx pays, one order or several by the batch contract as the signer knows it.

The signer reads the calldata with its own code. It signs `pay` only to the contract that its own
settings pin by address and by the hash of its code, which must be the code that this module was
written for: `pay(bytes32 batchId, address token, bytes32[] legs)`, a leg being 20 bytes of receiver
and 12 of amount; a leg fails alone, a batch id is paid once, the owner is hot lane 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from signer.authorisation import AuthorisedOrder
from signer.errors import RefusalCode, Refused
from signer.paths import Role
from signer.protocol import SignRequest
from signer.schemes.address import evm_address

if TYPE_CHECKING:
    from signer.schemes.evm import EvmTx
    from signer.settings import NetworkSettings

PAY_SELECTOR = bytes.fromhex("fb10ba49")  # pay(bytes32,address,bytes32[])
LEGS_MAX = 100
WORD = 32
_HEAD_WORDS = 4  # batch id, token, where the legs begin, how many
_LEGS_AT = (96).to_bytes(WORD, "big")
OWNER_LANE = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Legs:
    """A decoded batch: its asset by our name, and (receiver, amount) of each leg in order."""

    batch_id: bytes
    asset: str
    legs: tuple[tuple[bytes, int], ...]


def decode_pay(data: bytes, value: int, network: "NetworkSettings") -> Legs:
    """The one call of the pinned contract; raises Refused (`forbidden_shape`)."""
    body = data[len(PAY_SELECTOR) :]
    words = [body[at : at + WORD] for at in range(0, len(body), WORD)]
    if not data.startswith(PAY_SELECTOR) or value != 0 or len(body) % WORD:
        raise _bad("a call of the batch contract that is no payment")
    if len(words) < _HEAD_WORDS or words[2] != _LEGS_AT or any(words[1][:12]):
        raise _bad("a batch that is not laid out canonically")
    count = int.from_bytes(words[3], "big")
    if not 1 <= count <= LEGS_MAX or count != len(words) - _HEAD_WORDS:
        raise _bad("a batch has 1 to 100 legs and nothing behind them")
    token = words[1][12:]
    asset = next(
        (item for item in network.assets.values() if (item.contract or bytes(20)) == token), None
    )
    if asset is None:
        raise _bad("a batch of a token that is not listed")
    legs = tuple((word[:20], int.from_bytes(word[20:], "big")) for word in words[_HEAD_WORDS:])
    own = {item.contract for item in network.assets.values()} | {network.batch_contract}
    if any(amount == 0 or not any(to) or to in own for to, amount in legs):
        raise _bad("a leg of nothing, to nowhere or to a contract that keeps it")
    return Legs(batch_id=words[0], asset=asset.asset, legs=legs)


def match_transfer(
    request: SignRequest, tx: "EvmTx", found: Sequence[AuthorisedOrder]
) -> list[object]:
    """One transfer, from a hot lane, of what was ordered; or a batch of such."""
    if tx.batch is not None:
        return _match_legs(request, tx, tx.batch, found)
    if len(found) != 1 or request.payments[0].output_index != 0 or request.change_paths:
        raise Refused(RefusalCode.PAYMENT_MISMATCH, "an account tx carries exactly one payment")
    if tx.sender.role is not Role.HOT:
        raise Refused(RefusalCode.BAD_PATH, "a withdrawal leaves from a hot lane")
    order = found[0].order
    target = evm_address(order.address)
    is_ordered = order.least_minor <= tx.amount_minor <= order.amount_minor
    if (tx.asset, tx.destination) != (order.asset, target) or not is_ordered:
        raise Refused(
            RefusalCode.PAYMENT_MISMATCH,
            f"the transfer is not what the client signed for {order.request_id}",
        )
    brand = request.payments[0].brand
    return [[brand, order.request_id, order.asset, target.hex(), tx.amount_minor]]


def _match_legs(
    request: SignRequest, tx: "EvmTx", batch: Legs, found: Sequence[AuthorisedOrder]
) -> list[object]:
    """Every leg is what one order says, and every order has one leg (S02, S03)."""
    indexes = [payment.output_index for payment in request.payments]
    if sorted(indexes) != list(range(len(batch.legs))) or request.change_paths:
        raise Refused(RefusalCode.PAYMENT_MISMATCH, "legs and payments are not one to one")
    if tx.sender.role is not Role.HOT or tx.sender.index != OWNER_LANE:
        raise Refused(RefusalCode.BAD_PATH, "a batch is sent by the contract's owner, hot lane 0")
    paid: list[object] = []
    for payment, item in zip(request.payments, found, strict=True):
        order = item.order
        to, amount = batch.legs[payment.output_index]
        is_ordered = order.least_minor <= amount <= order.amount_minor
        if (batch.asset, to) != (order.asset, evm_address(order.address)) or not is_ordered:
            raise Refused(
                RefusalCode.PAYMENT_MISMATCH,
                f"leg {payment.output_index} is not what the client signed for {order.request_id}",
            )
        paid.append([payment.brand, order.request_id, order.asset, to.hex(), amount])
    return [["batch", batch.batch_id.hex()], *sorted(paid, key=str)]


def _bad(reason: str) -> Refused:
    return Refused(RefusalCode.FORBIDDEN_SHAPE, reason)
