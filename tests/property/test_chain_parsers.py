"""Laws of the parsers that read strangers' input: they answer or refuse, and never crash."""

import pytest
from embit import base58, bech32
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.simchain import ACCOUNT_PARAMS, UTXO_PARAMS
from watchers.chains.bitcoin import rawtx
from watchers.chains.bitcoin.address import BitcoinAddressCodec
from watchers.chains.evm.address import EvmAddressCodec
from watchers.chains.jsonrpc import parse_json
from watchers.errors import InvalidAddress, NodeUnavailable

UTXO, ACCOUNT = BitcoinAddressCodec(UTXO_PARAMS), EvmAddressCodec(ACCOUNT_PARAMS)
NEAR_MISSES = st.one_of(
    st.text(max_size=100),
    st.from_regex(r"(bcrt|bc|tb|ltc|rltc)1[02-9ac-hj-np-z]{0,80}", fullmatch=True),
    st.from_regex(r"0x[0-9a-fA-F]{38,42}", fullmatch=True),
    st.binary(max_size=40).map(lambda data: str(base58.encode_check(data))),
    st.text("123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz", max_size=60),
)


@settings(max_examples=500, deadline=None)
@given(text=NEAR_MISSES)
def test_a19_any_text_is_parsed_to_itself_or_refused(text: str) -> None:
    for codec in (UTXO, ACCOUNT):
        try:
            found = codec.parse(text)
        except InvalidAddress:
            continue
        assert found.address.lower() == text.lower()
        assert codec.parse(found.address) == found


@settings(max_examples=300, deadline=None)
@given(version=st.integers(0, 16), program=st.binary(min_size=2, max_size=40))
def test_a17_only_spendable_witness_programs_are_accepted(version: int, program: bytes) -> None:
    data = [version, *bech32.convertbits(program, 8, 5)]
    text = bech32.bech32_encode(1 if version == 0 else 2, "bcrt", data)
    is_spendable = (version == 0 and len(program) in (20, 32)) or (
        version == 1 and len(program) == 32
    )
    if is_spendable:
        assert UTXO.parse(text).key.endswith(program.hex())
    else:
        with pytest.raises(InvalidAddress):
            UTXO.parse(text)


@settings(max_examples=300, deadline=None)
@given(digest=st.binary(min_size=20, max_size=20), flips=st.sets(st.integers(2, 41), max_size=8))
def test_a14_a_changed_case_is_noticed(digest: bytes, flips: set[int]) -> None:
    if int.from_bytes(digest, "big") < 0x12:
        return  # precompiles are refused anyway
    good = ACCOUNT.parse("0x" + digest.hex()).address
    changed = "".join(c.swapcase() if i in flips else c for i, c in enumerate(good))
    is_plain = changed[2:] in (changed[2:].lower(), changed[2:].upper())
    if changed == good or is_plain:
        assert ACCOUNT.parse(changed).address == good
    else:
        with pytest.raises(InvalidAddress):
            ACCOUNT.parse(changed)


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=300))
def test_any_bytes_are_a_tx_or_refused(data: bytes) -> None:
    try:
        reduced = rawtx.reduce(data)
    except rawtx.BadRawTx:
        return
    assert rawtx.reduce(reduced.data) == reduced


@settings(max_examples=300, deadline=None)
@given(data=st.one_of(st.binary(max_size=200), st.text('[]{}",:\\01aE.-', max_size=80)))
def test_n09_any_bytes_are_json_or_refused(data: bytes | str) -> None:
    try:
        parse_json(data if isinstance(data, bytes) else data.encode())
    except NodeUnavailable:
        return
