"""The batch contract (`contracts/BatchPayer.sol`): its gas, its events, its code.

Pure. What it paid is told by its own events and by the token's `Transfer` logs between them, never
by calldata: a leg of a token counts as paid when it says so and the token's log shows exactly that
movement out of the contract. A native leg has no log beside its event; the contract's code, which
is pinned by its hash, writes `ok` only for a call that moved the value.
"""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from eth_utils.crypto import keccak

from watchers.chain import BatchEvidence, BatchLeg, Movement
from watchers.chains.evm.params import EvmParams

if TYPE_CHECKING:
    from watchers.chains.evm.decode import TokenMove

CODE_HASH = (
    "0x913c5941ac3bb4534e9a5d0685eec6fcca1109df3721561028c65a0504894823"  # Keccak of its code
)
BATCH_TOPIC = "0x" + keccak(text="Batch(bytes32,address,uint256)").hex()
LEG_TOPIC = "0x" + keccak(text="Leg(bytes32,uint256,address,uint256,bool)").hex()
WITHDRAWN_TOPIC = "0x" + keccak(text="Withdrawn(address,uint256)").hex()
NATIVE_TOKEN = bytes(20)
AMOUNT_MAX = 2**96 - 1  # a leg is one word: 20 bytes of receiver, 12 of amount
LEGS_MAX = 100  # at most 9 million gas, below what one tx may have (EIP-7825: 2^24)

# Gas limits, from the contract: every leg may use its whole cap; its base cost is 2,600 for a cold
# account and for the coin 9,000 and 25,000 (a new account), its event and loop are below 4,000. The
# contract asks for 42,000 beside the cap before each leg.
BASE_GAS = 62_000  # 21,000, the batch id and the lock 27,000, the event, the ABI's head
RESERVE_GAS = 42_000
NATIVE_LEG_GAS_LIMIT = 30_000 + 36_600 + 4_000 + 600
TOKEN_LEG_GAS_LIMIT = 80_000 + 2_600 + 4_000 + 600

# Measured on anvil (tests/integration/contracts), to holders of which some are new: a new holder of
# a token costs 17,100 more either way, a new account costs 25,000 more in a batch only.
EXPECTED_BASE_GAS = 62_000
EXPECTED_NATIVE_LEG_GAS = 14_000
EXPECTED_TOKEN_LEG_GAS = 16_000
SINGLE_NATIVE_GAS = 21_000
SINGLE_TOKEN_GAS = 41_000

_DATA = re.compile(r"0x(?:[0-9a-f]{64})+", re.ASCII)
_CODE = re.compile(r"0x(?:[0-9a-f]{2})+", re.ASCII)


def gas_limit(*, is_native: bool, legs: int) -> int:
    """What a batch may use at most: no good leg ever fails for want of gas."""
    per_leg = NATIVE_LEG_GAS_LIMIT if is_native else TOKEN_LEG_GAS_LIMIT
    return BASE_GAS + RESERVE_GAS + legs * per_leg


def expected_gas(*, is_native: bool, legs: int | None) -> int:
    """What a payment, or a batch of so many, uses as a rule; it decides what is cheaper, and is
    never a limit."""
    if legs is None:
        return SINGLE_NATIVE_GAS if is_native else SINGLE_TOKEN_GAS
    per_leg = EXPECTED_NATIVE_LEG_GAS if is_native else EXPECTED_TOKEN_LEG_GAS
    return EXPECTED_BASE_GAS + legs * per_leg


def evidence(
    logs: Sequence[object],
    moves: Sequence["TokenMove"],
    *,
    sender_key: str,
    params: EvmParams,
) -> BatchEvidence | None:
    """What the network's batch contract did in a successful tx; None when it was not in it."""
    payer = params.batch_contract
    if payer is None:
        return None
    by_ordinal = {move.ordinal: move for move in moves if move.from_key == payer}
    moved: list[Movement] = []
    legs: list[BatchLeg] = []
    asset: str | None = None
    window: list[Movement] = []
    is_seen = False
    for ordinal, log in enumerate(logs):
        move = by_ordinal.get(ordinal)
        if move is not None and move.is_listed:
            window.append((move.asset, move.to_key, move.amount_minor))
        event = _event(log, payer)
        if event is None:
            continue
        is_seen = True
        topic, words = event
        if topic == BATCH_TOPIC:
            asset = _asset("0x" + words[0][-40:], params)
        elif topic == LEG_TOPIC:
            leg = _leg(words, asset, window, params)
            legs.append(leg)
            native = (leg.asset, leg.to_key, leg.amount_minor)
            if leg.is_paid and leg.asset == params.native_asset and native not in window:
                window.append(native)  # a log of the coin's ERC-20 face may show it already (D61)
        elif topic == WITHDRAWN_TOPIC and _asset("0x" + words[0][-40:], params) == (
            params.native_asset
        ):
            window.append((params.native_asset, sender_key, int(words[1], 16)))
        moved += window
        window = []
    moved += window
    if not is_seen and not moved:
        return None
    return BatchEvidence(payer_key=payer, legs=tuple(legs), moved=tuple(moved))


def owner_of(code: object, owner: object) -> str | None:
    """Whom the contract obeys, by node answers; None for any other code than the pinned one."""
    if not isinstance(code, str) or not isinstance(owner, str):
        return None
    if not _CODE.fullmatch(code.lower()) or not _DATA.fullmatch(owner.lower()):
        return None
    if "0x" + keccak(bytes.fromhex(code[2:])).hex() != CODE_HASH or len(owner) != 66:
        return None
    return "0x" + owner[-40:].lower()


def _event(log: object, payer: str) -> tuple[str, list[str]] | None:
    """(topic, the other words: indexed ones behind the batch id, then data) of our contract."""
    if not isinstance(log, Mapping) or str(log.get("address")).lower() != payer:
        return None
    topics, data = log.get("topics"), log.get("data")
    if not isinstance(topics, list) or not topics or not isinstance(data, str):
        return None
    if log.get("removed") not in (None, False) or not _DATA.fullmatch(data.lower()):
        return None
    topic = str(topics[0]).lower()
    indexed = [str(item).lower()[2:] for item in topics[1:]]
    if topic in (BATCH_TOPIC, LEG_TOPIC):
        indexed = indexed[1:]  # the batch id: (account, nonce) says already whose it is
    body = data.lower()[2:]
    return topic, [*indexed, *(body[at : at + 64] for at in range(0, len(body), 64))]


def _leg(
    words: Sequence[str], asset: str | None, window: Sequence[Movement], params: EvmParams
) -> BatchLeg:
    index, to_key, amount = int(words[0], 16), "0x" + words[1][-40:], int(words[2], 16)
    is_ok = int(words[3], 16) == 1
    if asset is None:  # a token that is no longer listed: nobody can say what it moved
        return BatchLeg(index=index, asset="", to_key=to_key, amount_minor=amount, is_paid=False)
    is_native = asset == params.native_asset
    is_shown = is_native or list(window) == [(asset, to_key, amount)]
    return BatchLeg(
        index=index, asset=asset, to_key=to_key, amount_minor=amount, is_paid=is_ok and is_shown
    )


def _asset(token: str, params: EvmParams) -> str | None:
    return params.native_asset if int(token, 16) == 0 else params.tokens.get(token)
