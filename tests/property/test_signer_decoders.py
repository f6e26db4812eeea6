"""S20: whatever bytes arrive, the vault neither crashes nor signs anything but the exact order."""

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from embit.transaction import Transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from signer.errors import Refused
from signer.orders import SignedBody, amount_minor
from signer.protocol import ProtocolError, SignedTx, decode_sign_request, strict_loads
from signer.schemes import bitcoin, evm
from tests.support.sign_requests import (
    FOREIGN_SCRIPT,
    HOT,
    LANE,
    evm_payload,
    evm_request,
    utxo_request,
)
from tests.support.vault import FOREIGN_EVM, VaultKit, trusted_kit

HALF_ETHER = b"\x88" + (5 * 10**17).to_bytes(8, "big")  # RLP
MANY = settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VaultKit]:
    """One signer for all examples of this module."""
    folder: Path = tmp_path_factory.mktemp("vault")
    made = trusted_kit(folder)
    yield made
    made.store.close()


@st.composite
def mutations(draw: st.DrawFn) -> list[tuple[int, int, bytes]]:
    """A few edits: (position in thousandths, bytes removed, bytes put in)."""
    edit = st.tuples(st.integers(0, 1_000), st.integers(0, 8), st.binary(max_size=8))
    return draw(st.lists(edit, min_size=1, max_size=4))


def attempt(number: int, unsigned: bytes) -> str:
    """An attempt id of its own for each example."""
    return f"{number}-{hashlib.sha256(unsigned).hexdigest()}"


def edited(data: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    """The data after the edits."""
    for place, removed, put in edits:
        at = len(data) * place // 1_000
        data = data[:at] + put + data[at + removed :]
    return data


@MANY
@given(edits=mutations(), number=st.integers(0, 2**40))
def test_s20_mutated_psbt_is_refused_or_pays_exactly_the_order(
    kit: VaultKit, edits: list[tuple[int, int, bytes]], number: int
) -> None:
    """An edit of nSequence or locktime may still be the order; nothing else may be signed."""
    request = utxo_request(kit)
    unsigned = edited(request.unsigned, edits)
    answer = kit.sign(utxo_request(kit, attempt_id=attempt(number, unsigned), unsigned=unsigned))
    if isinstance(answer, SignedTx):
        tx = Transaction.parse(answer.raw)
        outputs = [(bytes(out.script_pubkey.data), out.value) for out in tx.vout]
        assert outputs[0] == (FOREIGN_SCRIPT, 50_000_000)
        assert len(outputs) == 2


@MANY
@given(edits=mutations(), number=st.integers(0, 2**40))
def test_s20_mutated_payload_is_refused_or_pays_exactly_the_order(
    kit: VaultKit, edits: list[tuple[int, int, bytes]], number: int
) -> None:
    unsigned = edited(evm_payload(), edits)
    answer = kit.sign(evm_request(attempt_id=attempt(number, unsigned), payload=unsigned))
    if isinstance(answer, SignedTx):
        assert (
            bytes.fromhex(FOREIGN_EVM[2:]) + b"\x88\x06\xf0\x5b\x59\xd3\xb2\x00\x00" in answer.raw
        )


@MANY
@given(data=st.binary(max_size=400))
def test_s20_any_bytes_are_refused_by_both_decoders(kit: VaultKit, data: bytes) -> None:
    networks = kit.settings.networks
    for unsigned in (data, b"psbt\xff" + data, b"psbt\xff\x01\x00" + data):
        with pytest.raises(Refused):
            bitcoin.decode(unsigned, (HOT,), keyring=kit.keyring, network=networks["btc"])
    for unsigned in (data, b"\x02" + data):
        with pytest.raises(Refused):
            evm.decode(unsigned, (LANE,), keyring=kit.keyring, network=networks["eth"])


@MANY
@given(data=st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode)))
def test_s20_any_body_is_refused(kit: VaultKit, data: bytes) -> None:
    for path in ("/v1/withdrawals", "/v1/withdrawal_batches"):
        with pytest.raises(Refused):
            SignedBody(data, path=path).order("r", created_seconds=1, settings=kit.settings)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)


@MANY
@given(message=st.dictionaries(st.text(max_size=12), JSON, max_size=12))
def test_s20_any_message_is_refused_by_name(message: dict[str, object]) -> None:
    with pytest.raises(ProtocolError):
        decode_sign_request(message)


@MANY
@given(data=st.binary(max_size=200))
def test_s20_any_frame_body_parses_or_is_refused(data: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        assert isinstance(strict_loads(data), dict)


@MANY
@given(amount=st.integers(0, 10**40), decimals=st.integers(0, 18))
def test_amount_text_means_exactly_its_minor_units(amount: int, decimals: int) -> None:
    digits = str(amount).rjust(decimals + 1, "0")
    text = f"{digits[:-decimals]}.{digits[-decimals:]}" if decimals else digits
    assert amount_minor(text, decimals=decimals, field="amount") == amount
    with pytest.raises(Refused):
        amount_minor(f"{text}{'' if decimals else '.'}0", decimals=decimals, field="amount")
