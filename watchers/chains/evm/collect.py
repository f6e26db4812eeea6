"""The collector (`contracts/Collector.sol`): its address, its gas, its call, what it moved.

Pure. Its address follows from its creation code, the hot account and the gas account (EIP-1014), so
that code at that address is this code. What a collect moved is told by the token's own `Transfer`
logs, never by calldata: the contract says nothing, and a leg that failed has no log.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from eth_utils.crypto import keccak

from watchers.batches import Collected
from watchers.chains.errors import BadPlan
from watchers.chains.evm.params import EvmParams
from watchers.plans import Delegation

if TYPE_CHECKING:
    from watchers.chains.evm.decode import TokenMove

FACTORY = "0x4e59b44847b379578588920ca78fbf26c0b4956c"
"""Arachnid's deterministic deployment proxy: what is created is bound by CREATE2, not by it."""
SALT = bytes(32)
CREATION_HASH = "0x6f54cffa0c423c48ee36394ef3b790309c4292a68651930e85ce5d931e725dfc"
COLLECT_SELECTOR = keccak(text="collect(address,bytes32[])")[:4]
DELEGATION_PREFIX = "0xef0100"  # before the address that an account delegates to (EIP-7702)
LEGS_MAX = 100
AMOUNT_MAX = 2**96 - 1  # a leg is one word: 20 bytes of account, 12 of amount
WORD = 32

# Gas limits. The contract asks for its reserve before each leg, so that a leg which needs more than
# usual undoes the whole tx and never starves the others; then it goes again with fewer.
BASE_GAS = 40_000
RESERVE_GAS = 94_000
LEG_GAS_LIMIT = 40_000
AUTHORISATION_GAS = 25_000  # EIP-7702: charged before anything runs

# Measured on anvil (tests/integration/contracts/test_collecting_gas.py), refunds taken off.
EXPECTED_BASE_GAS = 30_000
EXPECTED_LEG_GAS = 11_700
EXPECTED_AUTHORISATION_GAS = 18_000


def gas_limit(*, legs: int, authorisations: int) -> int:
    """Of a collect; a token that takes more per leg than the limit undoes it whole."""
    fixed = BASE_GAS + RESERVE_GAS
    return fixed + legs * LEG_GAS_LIMIT + authorisations * AUTHORISATION_GAS


def expected_gas(*, legs: int, authorisations: int) -> int:
    """What a collect uses as a rule; it decides what is cheaper, and is never a limit."""
    given = authorisations * EXPECTED_AUTHORISATION_GAS
    return EXPECTED_BASE_GAS + legs * EXPECTED_LEG_GAS + given


def creation_data(*, hot_key: str, sender_key: str) -> bytes:
    """The creation code of the collector of these two accounts."""
    keys = (hot_key, sender_key)
    return _creation_code() + b"".join(bytes.fromhex(key[2:]).rjust(WORD, b"\x00") for key in keys)


def deploy_data(*, hot_key: str, sender_key: str) -> bytes:
    """What anybody sends to the factory to create it."""
    return SALT + creation_data(hot_key=hot_key, sender_key=sender_key)


def created_key(*, hot_key: str, sender_key: str) -> str:
    """Where it stands, or will (EIP-1014)."""
    code_hash = keccak(creation_data(hot_key=hot_key, sender_key=sender_key))
    place = keccak(b"\xff" + bytes.fromhex(FACTORY[2:]) + SALT + code_hash)
    return "0x" + place[-20:].hex()


def collect_data(token: str, legs: Sequence[tuple[str, int]]) -> bytes:
    """Calldata of `collect`; `legs` are (deposit key, amount). BadPlan for what it cannot hold."""
    if not 1 <= len(legs) <= LEGS_MAX or len({key for key, _ in legs}) != len(legs):
        raise BadPlan("a collect has 1 to 100 legs, each of another address")
    if any(not 0 < amount <= AMOUNT_MAX for _, amount in legs):
        raise BadPlan("amount out of range")
    words = [
        bytes.fromhex(token[2:]).rjust(WORD, b"\x00"),
        (2 * WORD).to_bytes(WORD, "big"),
        len(legs).to_bytes(WORD, "big"),
        *(bytes.fromhex(key[2:]) + amount.to_bytes(12, "big") for key, amount in legs),
    ]
    return COLLECT_SELECTOR + b"".join(words)


def collected(
    moves: Sequence["TokenMove"], *, to_key: str | None, params: EvmParams
) -> tuple[Collected, ...] | None:
    """What moved of listed tokens in a tx to the collector; None of any other tx."""
    if params.collector is None or to_key != params.collector:
        return None
    return tuple(
        (move.from_key, (move.asset, move.to_key, move.amount_minor))
        for move in moves
        if move.is_listed
    )


def delegation_of(code: str, params: EvmParams) -> Delegation:
    """What an account's code says, lower-case 0x hex as the node gave it."""
    if code == "0x":
        return Delegation.NONE
    is_ours = params.collector is not None and code == DELEGATION_PREFIX + params.collector[2:]
    return Delegation.OURS if is_ours else Delegation.FOREIGN


@cache
def _creation_code() -> bytes:
    """Raises BadPlan for a file that is not the pinned one."""
    text = Path(__file__).with_name("collector.hex").read_text("ascii")
    code = bytes.fromhex("".join(text.split()))
    if "0x" + keccak(code).hex() != CREATION_HASH:
        raise BadPlan("collector.hex is not the pinned creation code")
    return code
