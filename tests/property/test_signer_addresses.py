"""The signer's own reading of Bech32 agrees with embit's on every text (docs/adr/0028)."""

import pytest
from embit import bech32
from hypothesis import example, given, settings
from hypothesis import strategies as st

from signer.errors import Refused
from signer.schemes.address import bitcoin_script
from signer.settings import NetworkSettings, load_settings
from tests.support.vault import FOREIGN_BTC, new_folder

CHARACTERS = "qpzry9x8gf2tvdw0s3jn54khce6mua7l1bioQPZR \n\u0130é"
SIZES = [st.binary(min_size=size, max_size=size) for size in (20, 32)]
WRITTEN = st.builds(
    lambda hrp, version, program, encoding, more: write(hrp, version, program, encoding, more),
    st.sampled_from(["bcrt", "bcrt", "rltc", "bc", "bcrt1"]),
    st.sampled_from([0, 0, 0, 1, 1, 1, 2, 16, 17]),
    st.one_of(*SIZES, st.binary(max_size=41)),
    st.sampled_from([1, 2]),
    st.sampled_from([[], [], [0], [1], [0, 0]]),
)
EDITS = st.lists(
    st.tuples(st.integers(0, 100), st.integers(0, 2), st.text(CHARACTERS, max_size=2)), max_size=2
)
SWAPPED = FOREIGN_BTC[:9] + FOREIGN_BTC[9:].upper()  # both cases in one text


def write(hrp: str, version: int, program: bytes, encoding: int, more: list[int]) -> str:
    """An address by embit, with groups of five bits that belong to no byte."""
    data = [version, *bech32.convertbits(program, 8, 5), *more]
    return str(bech32.bech32_encode(encoding, hrp, data))


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, NetworkSettings]:
    """The networks of the test signer."""
    return dict(load_settings(new_folder(tmp_path_factory.mktemp("s")), own_uid=0).networks)


def by_embit(text: str, hrp: str) -> bytes | None:
    """The script that embit's decoder comes to, of the versions that the signer pays."""
    version, program = bech32.decode(hrp, text)
    if version == 0:
        return bytes([0, len(program), *program])
    if version == 1 and len(program) == 32:
        return bytes([0x51, 32, *program])
    return None


@settings(max_examples=2_000, deadline=None)
@given(text=WRITTEN, edits=EDITS, is_upper=st.booleans())
@example(text=FOREIGN_BTC, edits=[], is_upper=True)
@example(text=SWAPPED, edits=[], is_upper=False)
def test_s02_a_witness_address_is_what_embit_reads(
    networks: dict[str, NetworkSettings],
    text: str,
    edits: list[tuple[int, int, str]],
    is_upper: bool,
) -> None:
    text = text.upper() if is_upper else text
    for place, over, new in edits:
        at = place % (len(text) + 1)
        text = text[:at] + new + text[at + over :]
    for name in ("btc", "ltc"):
        network = networks[name]
        if not text.lower().startswith(f"{network.hrp}1"):
            continue  # Base58, or of another network
        try:
            found: bytes | None = bitcoin_script(text, network)
        except Refused:
            found = None
        assert found == (by_embit(text, network.hrp) if text.isascii() else None), text
