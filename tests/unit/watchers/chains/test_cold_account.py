"""A cold account's transaction: what goes out, and what of that which comes back is believed."""

import pytest
import rlp  # type: ignore[import-untyped]
from eth_account import Account
from hypothesis import given
from hypothesis import strategies as st

from tests.support.refills import COLD_ACCOUNT
from watchers.chains.evm.cold_signed import assemble, read_signatures, transaction_of
from watchers.errors import SignedFileRefused

KEY = COLD_ACCOUNT.address.lower()
RECEIVER = "0x" + "11" * 20
FIELDS = [31337, 7, 10**9, 30 * 10**9, 50_000, bytes.fromhex("11" * 20), 10**18, b"", []]
UNSIGNED = b"\x02" + rlp.encode(FIELDS)
SIGNED = bytes(COLD_ACCOUNT.sign_transaction(dict(transaction_of(UNSIGNED))).raw_transaction)


def _code(upload: bytes) -> str:
    with pytest.raises(SignedFileRefused) as caught:
        read_signatures(UNSIGNED, upload, sender_key=KEY)
    assert caught.value.remedy
    return caught.value.code


def test_what_goes_out_is_what_other_tools_sign() -> None:
    assert transaction_of(UNSIGNED) == {
        "type": 2, "chainId": hex(31337), "nonce": "0x7", "maxPriorityFeePerGas": hex(10**9),
        "maxFeePerGas": hex(30 * 10**9), "gas": hex(50_000), "to": RECEIVER,
        "value": hex(10**18), "data": "0x",
    }  # fmt: skip
    assert Account.recover_transaction(SIGNED).lower() == KEY


def test_the_signature_makes_the_very_transaction_that_was_signed() -> None:
    found = read_signatures(UNSIGNED, SIGNED, sender_key=KEY)
    progress = assemble(UNSIGNED, found, sender_key=KEY)
    assert progress.raw == SIGNED
    assert progress.signed_by == (KEY,)
    before = assemble(UNSIGNED, (), sender_key=KEY)
    assert (before.raw, before.txid, before.waits_for) == (None, None, (KEY,))


@pytest.mark.parametrize(
    ("place", "value", "code"),
    [
        (0, 1, "other_transaction"),  # another network
        (1, 8, "other_transaction"),
        (3, 1, "not_the_plan"),
        (5, bytes.fromhex("22" * 20), "not_the_plan"),
        (6, 10**18 + 1, "not_the_plan"),
        (7, b"\x01", "not_the_plan"),
    ],
)
def test_another_transaction_is_refused_by_its_field(place: int, value: object, code: str) -> None:
    """Signed properly by the owner: it is still not what was planned."""
    fields = [*FIELDS[:place], value, *FIELDS[place + 1 :]]
    named = transaction_of(b"\x02" + rlp.encode(fields))
    signed = COLD_ACCOUNT.sign_transaction(dict(named)).raw_transaction
    assert _code(bytes(signed)) == code


def test_what_is_no_signed_transaction_is_refused() -> None:
    assert _code(UNSIGNED) == "no_signature"
    assert _code(b"psbt\xff") == "not_a_signed_file"
    assert _code(SIGNED[:-1]) == "truncated"
    assert _code(SIGNED + b"\x00") == "truncated"


def test_somebody_elses_signature_is_refused() -> None:
    other = Account.from_key("0x" + "42" * 32)
    signed = other.sign_transaction(dict(transaction_of(UNSIGNED))).raw_transaction
    assert _code(bytes(signed)) == "foreign_key"


def test_a_high_s_is_refused() -> None:
    """EIP-2: nodes would refuse it, and it would be a second txid."""
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    *fields, parity, r, s = rlp.decode(SIGNED[1:])
    flipped = order - int.from_bytes(s, "big")
    other = b"" if parity else b"\x01"
    assert _code(b"\x02" + rlp.encode([*fields, other, r, flipped])) == "bad_signature"


@given(at=st.integers(0, len(SIGNED) - 1), mask=st.integers(1, 255))
def test_a_changed_byte_is_refused_or_changes_nothing(at: int, mask: int) -> None:
    upload = SIGNED[:at] + bytes([SIGNED[at] ^ mask]) + SIGNED[at + 1 :]
    try:
        found = read_signatures(UNSIGNED, upload, sender_key=KEY)
    except SignedFileRefused:
        return
    assert assemble(UNSIGNED, found, sender_key=KEY).raw == SIGNED


@given(noise=st.binary(max_size=300))
def test_noise_is_refused_and_never_a_crash(noise: bytes) -> None:
    for upload in (noise, b"\x02" + noise):
        with pytest.raises(SignedFileRefused):
            read_signatures(UNSIGNED, upload, sender_key=KEY)
