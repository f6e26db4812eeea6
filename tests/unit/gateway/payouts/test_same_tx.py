"""Whether signed bytes sign these unsigned bytes, on the signer's own signatures."""

from dataclasses import replace
from pathlib import Path

import pytest
import rlp  # type: ignore[import-untyped]

from gateway.payouts.same_tx import gas_fields, is_signature_of
from signer.protocol import SignedTx, SignRequest
from tests.support.collect_requests import DEPOSITS, collect, given, legs_of, payload
from tests.support.sign_requests import evm_payload, evm_request, utxo_request
from tests.support.vault import FOREIGN_EVM, trusted_kit


@pytest.fixture(params=["btc", "eth", "delegating"])
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[SignRequest, SignedTx, bytes]:
    """A question, its answer, and the unsigned bytes of another tx."""
    kit = trusted_kit(tmp_path)
    if request.param == "delegating":
        legs, paths = legs_of(kit, DEPOSITS), [*DEPOSITS, *DEPOSITS[:2]]
        asked = collect(payload(legs, [given(0), given(300)]), paths)
        other = payload(legs, [given(0), given(301)])
    elif request.param == "btc":
        asked, other = utxo_request(kit), utxo_request(kit, fee=2_000).unsigned
    else:
        asked, other = evm_request(), evm_payload(nonce=1)
    answer = kit.signed(asked)
    kit.store.close()
    return asked, answer, other


def test_a_signature_belongs_to_its_own_bytes_only(
    pair: tuple[SignRequest, SignedTx, bytes],
) -> None:
    asked, answer, other = pair

    assert is_signature_of(asked.unsigned, raw=answer.raw, txid=answer.txid)
    assert not is_signature_of(other, raw=answer.raw, txid=answer.txid)


def test_unreadable_bytes_are_no_signature(pair: tuple[SignRequest, SignedTx, bytes]) -> None:
    asked, answer, _ = pair
    broken = replace(answer, raw=answer.raw[:-40], txid="00" * 32)

    assert not is_signature_of(asked.unsigned, raw=broken.raw, txid=broken.txid)
    assert not is_signature_of(asked.unsigned, raw=b"", txid="")
    for cut in range(0, len(asked.unsigned) - 1, 7):
        data = asked.unsigned[:cut]
        is_whole_tx = data.startswith(b"psbt\xff") and cut >= 8 + 113  # only the tx counts
        assert is_whole_tx or not is_signature_of(data, raw=answer.raw, txid=answer.txid)
    assert not is_signature_of(b"psbt\xff\x01\x02", raw=answer.raw, txid=answer.txid)


def test_a_delegating_tx_is_signed_whole(tmp_path: Path) -> None:
    """No authorisation more or less, and none of another contract or number."""
    kit = trusted_kit(tmp_path)
    legs, paths = legs_of(kit, DEPOSITS), [*DEPOSITS, *DEPOSITS[:2]]
    answer = kit.signed(collect(payload(legs, [given(0), given(1)]), paths))
    kit.store.close()
    for other in (
        payload(legs, [given(0)]),
        payload(legs, [given(1), given(0)]),
        payload(legs, [given(0), given(1, target=FOREIGN_EVM)]),
        payload(legs, [given(0), given(1), given(2)]),
        payload(legs[:2], [given(0), given(1)]),
        payload(legs, [given(0), given(1)], nonce=1),
        payload(legs),
    ):
        assert not is_signature_of(other, raw=answer.raw, txid=answer.txid)


def test_gas_fields_are_those_of_the_payload() -> None:
    fields = [1, 7, 1_500_000_000, 50 * 10**9, 50_000, b"\x11" * 20, 1_000, b"", []]
    unsigned = b"\x02" + bytes(rlp.encode(fields))

    assert gas_fields(unsigned) == (50 * 10**9, 1_500_000_000, 50_000)
    assert gas_fields(payload([], [given(0)])) == (20 * 10**9, 10**9, 200_000)
    assert gas_fields(b"\x02" + bytes(rlp.encode([1, 0, 0, 0, 5, b"", 0]))) == (0, 0, 5)


@pytest.mark.parametrize(
    "broken", [b"", b"\x02", b"\x01\xc0", b"\x02\xc0", b"\x02\xc3\x01\x80\xb8"]
)
def test_gas_fields_of_something_else_are_refused(broken: bytes) -> None:
    with pytest.raises((ValueError, IndexError)):
        gas_fields(broken)
