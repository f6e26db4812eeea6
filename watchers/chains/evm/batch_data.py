"""The calldata of our batch contract; what it did is read in `batch.py`, which loads no encoder.

`batch_payer.hex` is the creation code of `contracts/build/BatchPayer.json`, pinned by its hash.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import rlp  # type: ignore[import-untyped]
from eth_abi.abi import encode
from eth_utils.crypto import keccak

from watchers.chains.errors import BadPlan
from watchers.chains.evm.batch import NATIVE_TOKEN

CREATION_HASH = "0xceba331ba14bad36355801ca74b2665678c6ee235fd1054c5f675b580c4ad57a"
WITHDRAW_SELECTOR = keccak(text="withdraw(address,uint256)")[:4]
PAY_SELECTOR = keccak(text="pay(bytes32,address,bytes32[])")[:4]


def pay_data(batch_id: bytes, token: str | None, legs: Sequence[tuple[str, int]]) -> bytes:
    """Calldata of `pay`; `legs` are (receiver key, amount), amounts within AMOUNT_MAX."""
    words = [bytes.fromhex(key[2:]) + amount.to_bytes(12, "big") for key, amount in legs]
    arguments = encode(
        ["bytes32", "address", "bytes32[]"], [batch_id, token or NATIVE_TOKEN, words]
    )
    return PAY_SELECTOR + bytes(arguments)


def withdraw_data(token: str | None, amount: int) -> bytes:
    """Calldata of `withdraw`, which pays the owner; `token` None is the coin."""
    arguments = encode(["address", "uint256"], [token or NATIVE_TOKEN, amount])
    return WITHDRAW_SELECTOR + bytes(arguments)


def creation_data(owner: str) -> bytes:
    """The creation code of the contract for its owner's key."""
    return _creation_code() + bytes(encode(["address"], [owner]))


def created_key(creator: str, nonce: int) -> str:
    """The key of what an account creates by this nonce (CREATE, Yellow Paper section 7)."""
    return "0x" + keccak(rlp.encode([bytes.fromhex(creator[2:]), nonce]))[-20:].hex()


@cache
def _creation_code() -> bytes:
    """Raises BadPlan for a file that is not the pinned one."""
    text = Path(__file__).with_name("batch_payer.hex").read_text("ascii")
    code = bytes.fromhex("".join(text.split()))
    if "0x" + keccak(code).hex() != CREATION_HASH:
        raise BadPlan("batch_payer.hex is not the pinned creation code")
    return code
