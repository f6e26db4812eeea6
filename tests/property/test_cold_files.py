"""Signed files of cold wallets: no changed byte of what is signed is ever taken over."""

from embit import psbt
from hypothesis import given
from hypothesis import strategies as st

from tests.support.cold import ALONE, TWO_OF_THREE, made_coin, plan_of
from tests.unit.watchers.chains.support import bitcoin_network
from watchers.chains.bitcoin import rawtx
from watchers.chains.bitcoin.cold_signed import assemble, read_signatures
from watchers.errors import SignedFileRefused

PARAMS = bitcoin_network("btc", "regtest")
WALLET = TWO_OF_THREE.wallet(PARAMS)
UNSIGNED = plan_of(
    WALLET,
    [
        made_coin(WALLET, branch=0, index=1, amount_minor=100_000),
        made_coin(WALLET, branch=0, index=2, amount_minor=50_000),
    ],
    params=PARAMS,
    to=ALONE.wallet(PARAMS).derive(branch=0, index=19).address,
    amount_minor=120_000,
    fee_minor=1_000,
).data
SIGNED = TWO_OF_THREE.sign(TWO_OF_THREE.sign(UNSIGNED, 0), 1)
DONE = assemble(UNSIGNED, read_signatures(UNSIGNED, SIGNED))
RAW = DONE.raw or b""
TX = psbt.PSBT.parse(UNSIGNED).tx.serialize()
WITNESS_AT = len(TX) - 4 + 2  # behind the outputs; marker and flag stand before (BIP 144)


def _taken(upload: bytes) -> bytes | None:
    """The transaction that would be sent after this upload; None when it was refused."""
    try:
        return assemble(UNSIGNED, read_signatures(UNSIGNED, upload)).raw
    except SignedFileRefused:
        return None


def _flipped(data: bytes, at: int, mask: int) -> bytes:
    return data[:at] + bytes([data[at] ^ mask]) + data[at + 1 :]


@given(at=st.integers(0, len(RAW) - 1), mask=st.integers(1, 255))
def test_a_changed_byte_of_a_finished_transaction_changes_nothing_that_is_sent(
    at: int, mask: int
) -> None:
    """Every part but the witnesses is refused; a witness counts only with what verifies."""
    taken = _taken(_flipped(RAW, at, mask))
    assert taken is None or rawtx.reduce(taken).txid == DONE.txid
    if at < WITNESS_AT or at >= len(RAW) - 4:
        assert taken is None


@given(at=st.integers(0, len(SIGNED) - 1), mask=st.integers(1, 255))
def test_a_changed_byte_of_a_psbt_never_changes_the_transaction(at: int, mask: int) -> None:
    taken = _taken(_flipped(SIGNED, at, mask))
    assert taken in (None, RAW)


@given(noise=st.binary(max_size=400))
def test_noise_is_refused_and_never_a_crash(noise: bytes) -> None:
    assert _taken(noise) is None
    assert _taken(b"psbt\xff" + noise) is None
    assert _taken(b"\x02\x00\x00\x00" + noise) is None


@given(cut=st.integers(0, len(SIGNED) - 1), noise=st.binary(max_size=60))
def test_a_spliced_psbt_never_changes_the_transaction(cut: int, noise: bytes) -> None:
    assert _taken(SIGNED[:cut] + noise + SIGNED[cut:]) in (None, RAW)
