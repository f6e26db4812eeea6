"""What payouts would send a signer to collect tokens: legs, authorisations and the unsigned tx."""

from collections.abc import Sequence
from typing import Any

import rlp  # type: ignore[import-untyped]

from signer.protocol import Purpose, SignRequest
from tests.support import evm
from tests.support.sign_requests import GAS, evm_request
from tests.support.vault import COLLECTOR, TOKEN, VaultKit

DEPOSITS = ("m/44h/60h/1h/0/0", "m/44h/60h/1h/0/7", "m/44h/60h/2h/0/0")
OTHER = "m/44h/60h/1h/0/99"
CHAIN = 31_337


def legs_of(kit: VaultKit, paths: Sequence[str]) -> list[bytes]:
    """One token of each, two of the second, three of the third."""
    return [
        bytes.fromhex(kit.address("eth", path)[2:]) + (10**6 * (n + 1)).to_bytes(12, "big")
        for n, path in enumerate(paths)
    ]


def minimal(number: int) -> bytes:
    """As RLP has integers."""
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


def given(nonce: int, *, chain: int = CHAIN, target: str = COLLECTOR) -> list[bytes]:
    """An unsigned authorisation."""
    return [minimal(chain), bytes.fromhex(target[2:]), minimal(nonce)]


def payload(
    legs: Sequence[bytes], authorisations: Sequence[Any] | None = None, **changes: Any
) -> bytes:
    """An unsigned collect, of type 4 where it has a list of authorisations."""
    fields: dict[str, Any] = {
        "chain_id": CHAIN,
        "nonce": 0,
        "priority": 10**9,
        "max_fee": 20 * 10**9,
        "gas": 200_000,
        "to": bytes.fromhex(COLLECTOR[2:]),
        "value": 0,
        "data": bytes.fromhex(evm.call_data("collect(address,bytes32[])", TOKEN, list(legs))[2:]),
        "access": [],
    }
    values = list({**fields, **changes}.values())
    if authorisations is None:
        return b"\x02" + bytes(rlp.encode(values))
    return b"\x04" + bytes(rlp.encode([*values, list(authorisations)]))


def collect(
    unsigned: bytes, paths: Sequence[str], attempt_id: str = "c-1", **changes: Any
) -> SignRequest:
    """The question of a collect; `paths` of the legs, then of the authorisations."""
    fields: dict[str, Any] = {
        "purpose": Purpose.COLLECT,
        "input_paths": (GAS,),
        "payments": (),
        "change_paths": dict(enumerate(paths)),
    }
    return evm_request(attempt_id=attempt_id, payload=unsigned, **{**fields, **changes})
