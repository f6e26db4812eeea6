"""Files of a cold wallet: what goes out, and what of that which comes back is believed."""

from collections.abc import Callable

import pytest
from embit import psbt, transaction
from embit.transaction import SIGHASH

from tests.support.cold import ALONE, TWO_OF_THREE, ColdPeople, made_coin, plan_of
from tests.unit.watchers.chains.support import bitcoin_network
from watchers.chain import Unsigned
from watchers.chains.bitcoin import rawtx
from watchers.chains.bitcoin.cold_signed import assemble, read_signatures
from watchers.chains.errors import BadPlan
from watchers.errors import SignedFileRefused

PARAMS = bitcoin_network("btc", "regtest")
HOT = ALONE.wallet(PARAMS).derive(branch=0, index=19).address
PEOPLE = pytest.mark.parametrize("people", [ALONE, TWO_OF_THREE], ids=["alone", "two_of_three"])


def unsigned_of(people: ColdPeople, *, amount_minor: int = 120_000) -> Unsigned:
    """Two coins of 150,000 together, 1,000 of fee."""
    wallet = people.wallet(PARAMS)
    coins = [
        made_coin(wallet, branch=0, index=1, amount_minor=100_000),
        made_coin(wallet, branch=1, index=2, amount_minor=50_000),
    ]
    return plan_of(wallet, coins, params=PARAMS, to=HOT, amount_minor=amount_minor, fee_minor=1_000)


def signed_file(people: ColdPeople, plan: bytes) -> bytes:
    """One PSBT with as many signatures as are needed."""
    for person in range(people.threshold):
        plan = people.sign(plan, person)
    return plan


@PEOPLE
def test_the_file_has_all_that_an_offline_signer_needs(people: ColdPeople) -> None:
    unsigned = unsigned_of(people)
    container = psbt.PSBT.parse(unsigned.data)
    for scope in container.inputs:
        assert scope.verify()
        assert scope.witness_utxo.value == scope.non_witness_utxo.vout[scope.vout].value
        assert {value.fingerprint.hex() for value in scope.bip32_derivations.values()} == {
            people.fingerprint(person) for person in range(people.count)
        }
        assert (scope.witness_script is None) == (people.count == 1)
    hot, change = container.outputs
    assert not hot.bip32_derivations
    assert len(change.bip32_derivations) == people.count
    assert len(container.xpubs) == (0 if people.count == 1 else people.count)
    assert [out.value for out in container.tx.vout] == [120_000, 29_000]


@PEOPLE
def test_the_same_plan_is_the_same_file(people: ColdPeople) -> None:
    assert unsigned_of(people).data == unsigned_of(people).data


def test_a_plan_that_leaves_nothing_has_no_change() -> None:
    unsigned = unsigned_of(ALONE, amount_minor=149_000)
    assert len(psbt.PSBT.parse(unsigned.data).outputs) == 1
    assert unsigned.change_outputs == {}


def test_a_coin_of_another_wallet_is_no_plan() -> None:
    wallet = TWO_OF_THREE.wallet(PARAMS)
    coin = made_coin(ALONE.wallet(PARAMS), branch=0, index=0, amount_minor=100_000)
    with pytest.raises(BadPlan):
        plan_of(wallet, [coin], params=PARAMS, to=HOT, amount_minor=1_000, fee_minor=1_000)


@PEOPLE
def test_a_signed_file_becomes_the_plans_own_transaction(people: ColdPeople) -> None:
    unsigned = unsigned_of(people)
    found = read_signatures(unsigned.data, signed_file(people, unsigned.data))
    progress = assemble(unsigned.data, found)
    assert progress.raw is not None
    reduced = rawtx.reduce(progress.raw)
    assert reduced.txid == progress.txid
    assert [amount for amount, _ in reduced.outputs] == [120_000, 29_000]
    assert progress.waits_for == ()
    assert rawtx.virtual_size(progress.raw) <= unsigned.size_vb


@PEOPLE
def test_a_finished_transaction_is_as_good_as_the_psbt(people: ColdPeople) -> None:
    unsigned = unsigned_of(people)
    raw = assemble(
        unsigned.data, read_signatures(unsigned.data, signed_file(people, unsigned.data))
    ).raw
    assert raw is not None
    assert assemble(unsigned.data, read_signatures(unsigned.data, raw)).raw == raw


def test_signers_may_sign_beside_each_other_or_one_after_the_other() -> None:
    unsigned = unsigned_of(TWO_OF_THREE)
    beside = [
        read_signatures(unsigned.data, TWO_OF_THREE.sign(unsigned.data, person))
        for person in (0, 2)
    ]
    first = assemble(unsigned.data, beside[0])
    assert first.raw is None
    assert first.signed_by == (TWO_OF_THREE.fingerprint(0),)
    assert set(first.waits_for) == {TWO_OF_THREE.fingerprint(1), TWO_OF_THREE.fingerprint(2)}
    done = assemble(unsigned.data, [*beside[0], *beside[1]])
    after = TWO_OF_THREE.sign(TWO_OF_THREE.sign(unsigned.data, 0), 2)
    assert done.raw is not None
    assert done.raw == assemble(unsigned.data, read_signatures(unsigned.data, after)).raw


def test_three_signatures_make_the_transaction_of_two() -> None:
    unsigned = unsigned_of(TWO_OF_THREE)
    data = unsigned.data
    for person in range(3):
        data = TWO_OF_THREE.sign(data, person)
    raw = assemble(unsigned.data, read_signatures(unsigned.data, data)).raw
    assert raw is not None
    tx = transaction.Transaction.parse(raw)
    assert [len(vin.witness.items) for vin in tx.vin] == [4, 4]  # empty, two, the script


def test_who_signed_only_some_inputs_is_waited_for() -> None:
    unsigned = unsigned_of(TWO_OF_THREE)
    container = psbt.PSBT.parse(TWO_OF_THREE.sign(unsigned.data, 0))
    container.inputs[1].partial_sigs.clear()
    progress = assemble(unsigned.data, read_signatures(unsigned.data, container.serialize()))
    assert progress.signed_by == ()
    assert TWO_OF_THREE.fingerprint(0) in progress.waits_for


def _refused(unsigned: Unsigned, upload: bytes) -> str:
    with pytest.raises(SignedFileRefused) as caught:
        read_signatures(unsigned.data, upload)
    assert caught.value.reason
    assert caught.value.remedy
    return caught.value.code


def test_what_is_no_signed_file_is_refused_by_name() -> None:
    unsigned = unsigned_of(ALONE)
    signed = signed_file(ALONE, unsigned.data)
    assert _refused(unsigned, unsigned.data) == "no_signature"
    assert _refused(unsigned, b"\x02\xf8\x6b\x01") == "not_a_signed_file"  # an EVM tx
    assert _refused(unsigned, b"hello") == "not_a_signed_file"
    assert _refused(unsigned, signed + b"\x00") == "damaged"
    assert _refused(unsigned, b"\x00" * 1_000_001) == "too_large"


def test_a_file_cut_short_anywhere_is_refused() -> None:
    unsigned = unsigned_of(TWO_OF_THREE)
    signed = signed_file(TWO_OF_THREE, unsigned.data)
    for size in range(len(signed)):
        assert _refused(unsigned, signed[:size]) in {"truncated", "not_a_signed_file"}


def test_a_file_of_another_wallet_or_rebalance_is_refused() -> None:
    unsigned, other = unsigned_of(ALONE), unsigned_of(TWO_OF_THREE)
    assert _refused(unsigned, signed_file(TWO_OF_THREE, other.data)) == "other_transaction"
    dearer = unsigned_of(ALONE, amount_minor=120_001)  # the same coins, another amount
    assert _refused(unsigned, signed_file(ALONE, dearer.data)) == "not_the_plan"


def _without_sequence(container: psbt.PSBT) -> None:
    container.inputs[0].sequence = 0xFFFFFFFE


def _later(container: psbt.PSBT) -> None:
    container.locktime = 500


def _older(container: psbt.PSBT) -> None:
    container.tx_version = 1


def _stolen(container: psbt.PSBT) -> None:
    container.outputs[0].script_pubkey = container.outputs[1].script_pubkey


def _cheaper(container: psbt.PSBT) -> None:
    container.outputs[1].value -= 1


def _shorter(container: psbt.PSBT) -> None:
    del container.outputs[1]


@pytest.mark.parametrize("change", [_without_sequence, _later, _older, _stolen, _cheaper, _shorter])
def test_another_transaction_with_the_same_coins_is_refused(
    change: Callable[[psbt.PSBT], None],
) -> None:
    """Signed properly by the owners: it is still not what was planned."""
    unsigned = unsigned_of(ALONE)
    container = psbt.PSBT.parse(unsigned.data)
    change(container)
    signed = signed_file(ALONE, container.serialize())
    assert _refused(unsigned, signed) == "not_the_plan"


def test_a_signature_of_other_bytes_is_refused_inside_the_right_file() -> None:
    unsigned = unsigned_of(ALONE)
    other = psbt.PSBT.parse(signed_file(ALONE, unsigned_of(ALONE, amount_minor=1_000).data))
    container = psbt.PSBT.parse(unsigned.data)
    for scope, signed in zip(container.inputs, other.inputs, strict=True):
        scope.partial_sigs.update(signed.partial_sigs)
    assert _refused(unsigned, container.serialize()) == "bad_signature"


def test_another_sighash_is_refused() -> None:
    unsigned = unsigned_of(ALONE)
    container = psbt.PSBT.parse(unsigned.data)
    container.sign_with(ALONE.root(0), sighash=SIGHASH.NONE | SIGHASH.ANYONECANPAY)
    assert _refused(unsigned, container.serialize()) == "wrong_sighash"


def test_a_foreign_signer_is_refused() -> None:
    unsigned = unsigned_of(ALONE)
    container = psbt.PSBT.parse(signed_file(ALONE, unsigned.data))
    foreign = TWO_OF_THREE.root(1).derive("m/0").to_public().key
    scope = container.inputs[0]
    (_, signature), *_ = scope.partial_sigs.items()
    scope.partial_sigs[foreign] = signature
    assert _refused(unsigned, container.serialize()) == "foreign_key"


def test_a_script_that_is_not_the_wallets_is_refused() -> None:
    unsigned = unsigned_of(TWO_OF_THREE)
    raw = assemble(
        unsigned.data, read_signatures(unsigned.data, signed_file(TWO_OF_THREE, unsigned.data))
    ).raw
    assert raw is not None
    tx = transaction.Transaction.parse(raw)
    tx.vin[0].witness.items[-1] = b"\x51" + tx.vin[0].witness.items[-1][1:]  # 1 of 3
    assert _refused(unsigned, tx.serialize()) == "wrong_witness"
