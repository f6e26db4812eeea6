"""Which scripts tell that they pay the key of an issued P2WPKH address."""

import pytest
from embit import ec, hashes
from hypothesis import given
from hypothesis import strategies as st

from config.chains import Family
from watchers.chains.bitcoin.siblings import FIELD, issued_key
from watchers.registry import issued_keys

# The generator of secp256k1 (SEC 2), whose hash is in the example addresses of BIP 173.
X = "79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"
Y = "483ada7726a3c4655da4fbfc0e1108a8fd17b448a68554199c47d08ffb10d4b8"
ISSUED = "0014751e76e8199196d454941c45d1b3a323f1433bd6"
P2PKH = "76a914751e76e8199196d454941c45d1b3a323f1433bd688ac"
NEGATED_Y = f"{FIELD - int(Y, 16):064x}"


@pytest.mark.parametrize("script", [P2PKH, f"2102{X}ac", f"4104{X}{Y}ac"])
def test_d26_p2pkh_and_p2pk_tell_the_issued_script(script: str) -> None:
    assert issued_key(script) == ISSUED
    block = [ISSUED, script, "5120" + X, script, "6a"]
    assert issued_keys(Family.BITCOIN, block) == {script: ISSUED}
    assert issued_keys(Family.EVM, block) == {}


@pytest.mark.parametrize(
    "script",
    [
        ISSUED,  # the address itself is no sibling of itself
        "",
        "6a",
        f"2103{X}ac",  # the other point of this x is another key
        f"4104{X}{NEGATED_Y}ac",
        f"4104{X}{Y[:-1]}9ac",  # on no curve: nobody can spend it
        f"4104{X}{'f' * 64}ac",  # y is no number of the field
        f"4106{X}{Y}ac",  # hybrid keys are not relayed when spent
        f"2102{X}ad",  # OP_CHECKSIGVERIFY leaves nothing on the stack
        P2PKH[:-2],
        P2PKH + "00",
        P2PKH.replace("88ac", "87ac"),
        "a914" + ISSUED[4:] + "87",
        "0020" + X,
        "5120" + X,
    ],
)
def test_d26_any_other_script_is_not_taken_for_ours(script: str) -> None:
    assert issued_key(script) != ISSUED


@given(st.integers(min_value=1, max_value=2**128))
def test_d26_every_form_of_a_key_leads_to_its_issued_script(number: int) -> None:
    key = ec.PrivateKey(number.to_bytes(32, "big")).get_public_key()
    short = key.sec()
    key.compressed = False
    long = key.sec()
    digest = hashes.hash160(short).hex()
    for script in (f"76a914{digest}88ac", f"21{short.hex()}ac", f"41{long.hex()}ac"):
        assert issued_key(script) == "0014" + digest


@given(st.binary(max_size=80))
def test_d26_no_bytes_break_the_reader_of_scripts(script: bytes) -> None:
    found = issued_key(script.hex())
    assert found is None or (found.startswith("0014") and len(found) == 44)
    assert issued_keys(Family.BITCOIN, [script.hex()]).get(script.hex()) == found
