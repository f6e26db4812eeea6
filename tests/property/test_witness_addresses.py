"""The codec's own reading of Bech32 agrees with embit's on every text (docs/adr/0028)."""

from embit import bech32
from hypothesis import example, given, settings
from hypothesis import strategies as st

from watchers.chains.bitcoin import segwit

DIGITS = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
PUBLIC = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"  # a public vector of BIP 173
SIZES = [st.binary(min_size=size, max_size=size) for size in (20, 32)]
WRITTEN = st.builds(
    lambda hrp, version, program, encoding, more: str(
        bech32.bech32_encode(encoding, hrp, [version, *bech32.convertbits(program, 8, 5), *more])
    ),
    st.sampled_from(["bcrt", "rltc", "bc", "tb"]),
    st.sampled_from([0, 0, 0, 1, 1, 1, 2, 16, 17, 31]),
    st.one_of(*SIZES, st.binary(max_size=42)),
    st.sampled_from([1, 2]),
    st.sampled_from([[], [], [0], [1], [0, 0]]),
)
EDITS = st.lists(
    st.tuples(st.integers(0, 100), st.integers(0, 2), st.text(DIGITS + "1bio", max_size=2)),
    max_size=2,
)


@settings(max_examples=2_000, deadline=None)
@given(text=WRITTEN, edits=EDITS)
@example(text=PUBLIC, edits=[])
@example(text="bcrt1", edits=[])
@example(text="bcrt1" + "q" * 90, edits=[])
def test_a17_a_witness_address_is_what_embit_reads(
    text: str, edits: list[tuple[int, int, str]]
) -> None:
    for place, over, new in edits:
        at = place % (len(text) + 1)
        text = text[:at] + new + text[at + over :]
    for hrp in ("bcrt", "rltc", "bc"):
        version, program = bech32.decode(hrp, text)
        expected = None if version is None else (version, bytes(program))
        assert segwit.decode(hrp, text) == expected, text
