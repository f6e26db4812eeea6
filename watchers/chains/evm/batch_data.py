"""The calldata of our batch contract; what it did is read in `batch.py`, which loads no encoder."""

from collections.abc import Sequence

from eth_abi.abi import encode
from eth_utils.crypto import keccak

from watchers.chains.evm.batch import NATIVE_TOKEN

PAY_SELECTOR = keccak(text="pay(bytes32,address,bytes32[])")[:4]


def pay_data(batch_id: bytes, token: str | None, legs: Sequence[tuple[str, int]]) -> bytes:
    """Calldata of `pay`; `legs` are (receiver key, amount), amounts within AMOUNT_MAX."""
    words = [bytes.fromhex(key[2:]) + amount.to_bytes(12, "big") for key, amount in legs]
    arguments = encode(
        ["bytes32", "address", "bytes32[]"], [batch_id, token or NATIVE_TOKEN, words]
    )
    return PAY_SELECTOR + bytes(arguments)
