"""What the vault signs on UTXO chains, and everything near it that it must not."""

from dataclasses import replace

import pytest
from embit.psbt import PSBT
from embit.script import Script
from embit.transaction import Transaction, TransactionInput, TransactionOutput

from signer.protocol import Purpose, Refusal
from tests.support import sign_requests
from tests.support.second_reader import read_p2wpkh
from tests.support.sign_requests import CHANGE, FOREIGN_SCRIPT, HOT, psbt_of, utxo_request
from tests.support.vault import VaultKit


def test_signed_tx_pays_exactly_the_order_and_another_library_verifies_it(kit: VaultKit) -> None:
    """bitcoinlib, a second implementation, parses the raw bytes and checks the signature."""
    answer = kit.signed(utxo_request(kit))
    read = read_p2wpkh(answer.raw, [100_000_000])
    assert read.txid == answer.txid
    assert read.is_verified
    assert read.outputs == [(FOREIGN_SCRIPT, 50_000_000), (kit.script(CHANGE), 49_999_000)]


def test_same_request_gets_the_same_answer_also_after_a_restart(kit: VaultKit) -> None:
    first = kit.signed(utxo_request(kit))
    again = kit.reopen()
    assert again.signed(utxo_request(again, worker_epoch=7)) == first
    again.store.close()


def test_same_attempt_with_other_bytes_is_refused(kit: VaultKit) -> None:
    kit.signed(utxo_request(kit))
    assert kit.refused(utxo_request(kit, fee=2_000)) == "attempt_mismatch"


def test_refused_attempt_stays_refused(kit: VaultKit) -> None:
    """Payouts frees the coins after a refusal, so the answer may never turn."""
    request = utxo_request(
        kit, payments=(sign_requests.payment(claim=sign_requests.authorise(b"{}")),)
    )
    assert kit.refused(request) == "bad_order"
    stored = kit.vault.lookup("a-1")
    assert isinstance(stored, Refusal)
    assert kit.refused(request) == "bad_order"


def test_s02_other_address_than_signed_is_refused_and_alarmed(kit: VaultKit) -> None:
    """A row altered in the database: the bytes pay another script than the client said."""
    coin = sign_requests.previous_tx(kit.script(HOT), 100_000_000)
    thief = bytes.fromhex("0014") + b"\x66" * 20
    psbt = psbt_of([coin], [(thief, 50_000_000), (kit.script(CHANGE), 49_999_000)])
    assert kit.refused(utxo_request(kit, unsigned=psbt.serialize())) == "payment_mismatch"
    assert '"level": "warning"' in kit.log.getvalue()
    assert any("payment_mismatch" in body for _, body, _ in kit.store.log_rows())


@pytest.mark.parametrize("amount", [49_999_999, 50_000_001])
def test_s02_other_amount_than_signed_is_refused(kit: VaultKit, amount: int) -> None:
    coin = sign_requests.previous_tx(kit.script(HOT), 100_000_000)
    rest = 100_000_000 - amount - 1_000
    psbt = psbt_of([coin], [(FOREIGN_SCRIPT, amount), (kit.script(CHANGE), rest)])
    assert kit.refused(utxo_request(kit, unsigned=psbt.serialize())) == "payment_mismatch"


def test_s03_extra_output_is_refused(kit: VaultKit) -> None:
    coin = sign_requests.previous_tx(kit.script(HOT), 100_000_000)
    outputs = [(FOREIGN_SCRIPT, 50_000_000), (kit.script(CHANGE), 49_000_000), (b"\x51", 999_000)]
    request = utxo_request(kit, unsigned=psbt_of([coin], outputs).serialize())
    assert kit.refused(request) == "foreign_output"


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("m/84h/1h/0h/1/1", "foreign_output"),
        (HOT, "foreign_output"),
        ("m/84h/0h/0h/1/0", "bad_path"),
        ("m/84h/1h/0h/2/0", "bad_path"),
        ("m/84h/1h/1h/1/0", "bad_path"),
    ],
)
def test_s03_change_that_is_not_of_its_claimed_path_is_refused(
    kit: VaultKit, path: str, code: str
) -> None:
    assert kit.refused(utxo_request(kit, change_paths={1: path})) == code


def test_s03_change_back_to_a_hot_receive_path_is_refused(kit: VaultKit) -> None:
    coin = sign_requests.previous_tx(kit.script(HOT), 100_000_000)
    psbt = psbt_of([coin], [(FOREIGN_SCRIPT, 50_000_000), (kit.script(HOT), 49_999_000)])
    request = utxo_request(kit, unsigned=psbt.serialize(), change_paths={1: HOT})
    assert kit.refused(request) == "foreign_output"


def test_s04_fee_over_the_absolute_cap_is_refused(kit: VaultKit) -> None:
    assert kit.refused(utxo_request(kit, fee=100_001)) == "fee_too_high"


def test_s04_fee_over_the_rate_cap_is_refused(kit: VaultKit) -> None:
    """A tx of one input and two outputs is about 141 vB; 200 sat/vB allow about 28,200 sat."""
    assert kit.refused(utxo_request(kit, fee=28_401)) == "fee_too_high"
    kit.signed(utxo_request(kit, attempt_id="a-2", fee=28_000))


def test_s04_input_without_its_previous_tx_is_refused(kit: VaultKit) -> None:
    psbt = PSBT.parse(utxo_request(kit).unsigned)
    psbt.inputs[0].non_witness_utxo = None
    assert kit.refused(utxo_request(kit, unsigned=psbt.serialize())) == "unproven_input"


def test_s04_input_whose_previous_tx_is_another_is_refused(kit: VaultKit) -> None:
    """CVE-2020-14199: an amount that is not the one of the spent output."""
    psbt = PSBT.parse(utxo_request(kit).unsigned)
    psbt.inputs[0].non_witness_utxo = sign_requests.previous_tx(
        kit.script(HOT), 200_000_000, salt=1
    )
    assert kit.refused(utxo_request(kit, unsigned=psbt.serialize())) == "unproven_input"


def test_s04_witness_utxo_that_differs_is_refused(kit: VaultKit) -> None:
    psbt = PSBT.parse(utxo_request(kit).unsigned)
    psbt.inputs[0].witness_utxo = TransactionOutput(99_000_000, Script(kit.script(HOT)))
    assert kit.refused(utxo_request(kit, unsigned=psbt.serialize())) == "unproven_input"


def test_s11_sighash_other_than_all_is_refused(kit: VaultKit) -> None:
    psbt = PSBT.parse(utxo_request(kit).unsigned)
    psbt.inputs[0].sighash_type = 0x83
    assert kit.refused(utxo_request(kit, unsigned=psbt.serialize())) == "forbidden_shape"


def test_s11_input_of_another_key_is_refused(kit: VaultKit) -> None:
    request = utxo_request(kit, input_paths=("m/84h/1h/0h/0/1",))
    assert kit.refused(request) == "foreign_input"


def test_input_count_and_path_count_must_agree(kit: VaultKit) -> None:
    assert kit.refused(utxo_request(kit, input_paths=())) == "foreign_input"


def test_one_coin_twice_is_refused(kit: VaultKit) -> None:
    coin = sign_requests.previous_tx(kit.script(HOT), 100_000_000)
    outputs = [(FOREIGN_SCRIPT, 50_000_000), (kit.script(CHANGE), 149_999_000)]
    psbt = psbt_of([coin, coin], outputs)
    request = utxo_request(kit, unsigned=psbt.serialize(), input_paths=(HOT, HOT))
    assert kit.refused(request) == "undecodable"


def test_outputs_above_inputs_are_refused(kit: VaultKit) -> None:
    assert kit.refused(utxo_request(kit, fee=-1)) == "undecodable"


def test_psbt_whose_scope_overrides_the_global_tx_is_refused(kit: VaultKit) -> None:
    """A PSBT v2 field in a v0 scope would make the parser spend another coin than the bytes say."""
    psbt = PSBT.parse(utxo_request(kit).unsigned)
    psbt.inputs[0].unknown[b"\x0f"] = (0).to_bytes(4, "little")
    assert kit.refused(utxo_request(kit, unsigned=psbt.serialize())) == "undecodable"


def test_bytes_after_the_psbt_are_refused(kit: VaultKit) -> None:
    request = utxo_request(kit)
    assert kit.refused(replace(request, unsigned=request.unsigned + b"\0")) == "undecodable"


def test_deposit_coins_may_be_spent(kit: VaultKit) -> None:
    path = "m/84h/1h/3h/0/12"
    coin = sign_requests.previous_tx(kit.script(path), 100_000_000)
    psbt = psbt_of([coin], [(FOREIGN_SCRIPT, 50_000_000), (kit.script(CHANGE), 49_999_000)])
    kit.signed(utxo_request(kit, unsigned=psbt.serialize(), input_paths=(path,)))


def test_batch_of_many_payments_is_signed(kit: VaultKit) -> None:
    coin = sign_requests.previous_tx(kit.script(HOT), 100_000_000)
    outputs = [(FOREIGN_SCRIPT, 1_000_000 + i) for i in range(20)]
    rest = 100_000_000 - sum(amount for _, amount in outputs) - 5_000
    payments = tuple(
        sign_requests.payment(i, request_id=f"r-{i}", amount=f"0.{1_000_000 + i:08d}")
        for i in range(20)
    )
    psbt = psbt_of([coin], [*outputs, (kit.script(CHANGE), rest)])
    request = utxo_request(
        kit, unsigned=psbt.serialize(), payments=payments, change_paths={20: CHANGE}
    )
    kit.signed(request)


def test_two_payments_of_one_output_are_refused(kit: VaultKit) -> None:
    payments = (sign_requests.payment(), sign_requests.payment(request_id="r-2"))
    assert kit.refused(utxo_request(kit, payments=payments)) == "payment_mismatch"


def test_ltc_is_signed_with_its_own_addresses(kit: VaultKit) -> None:
    address = kit.address("ltc", "m/84h/1h/7h/0/0")
    assert address.startswith("rltc1q")
    coin = sign_requests.previous_tx(kit.script(HOT, "ltc"), 100_000_000)
    script = kit.script("m/84h/1h/7h/0/0", "ltc")
    psbt = psbt_of([coin], [(script, 50_000_000), (kit.script(CHANGE), 49_999_000)])
    payments = (sign_requests.payment(asset="ltc:LTC", address=address),)
    kit.signed(utxo_request(kit, network="ltc", unsigned=psbt.serialize(), payments=payments))


def test_s11_order_for_another_network_is_refused(kit: VaultKit) -> None:
    assert kit.refused(utxo_request(kit, network="ltc")) == "payment_mismatch"
    assert kit.refused(utxo_request(kit, attempt_id="a-2", network="doge")) == "unknown_network"


def test_s23_older_worker_epoch_is_refused_and_newer_goes_on(kit: VaultKit) -> None:
    kit.signed(utxo_request(kit, worker_epoch=5))
    assert kit.refused(utxo_request(kit, worker_epoch=4)) == "stale_epoch"
    kit.signed(utxo_request(kit, worker_epoch=6))


def test_cpfp_spends_an_own_tx_to_an_own_path_only(kit: VaultKit) -> None:
    parent = Transaction.parse(kit.signed(utxo_request(kit)).raw)
    psbt = PSBT(
        Transaction(
            version=2,
            vin=[TransactionInput(parent.txid(), 1)],
            vout=[TransactionOutput(49_980_000, Script(kit.script(CHANGE)))],
            locktime=0,
        )
    )
    psbt.inputs[0].non_witness_utxo = parent
    request = utxo_request(
        kit,
        attempt_id="c-1",
        purpose=Purpose.CPFP,
        unsigned=psbt.serialize(),
        input_paths=(CHANGE,),
        change_paths={0: CHANGE},
        payments=(),
        own_path=CHANGE,
    )
    kit.signed(request)
    foreign = replace(request, attempt_id="c-2", change_paths={0: "m/84h/1h/1h/0/0"}, own_path=None)
    assert kit.refused(foreign) == "foreign_output"


def test_cpfp_without_an_own_parent_is_refused(kit: VaultKit) -> None:
    coin = sign_requests.previous_tx(kit.script(CHANGE), 100_000_000)
    psbt = psbt_of([coin], [(kit.script(CHANGE), 99_990_000)])
    request = utxo_request(
        kit,
        purpose=Purpose.CPFP,
        unsigned=psbt.serialize(),
        input_paths=(CHANGE,),
        change_paths={0: CHANGE},
        payments=(),
    )
    assert kit.refused(request) == "not_own_parent"


def test_gas_top_up_is_not_for_utxo_networks(kit: VaultKit) -> None:
    request = utxo_request(kit, purpose=Purpose.GAS_TOP_UP, payments=())
    assert kit.refused(request) == "forbidden_shape"


def test_input_with_a_script_of_another_kind_is_refused(kit: VaultKit) -> None:
    psbt = PSBT.parse(utxo_request(kit).unsigned)
    psbt.inputs[0].redeem_script = Script(b"\x51")
    assert kit.refused(utxo_request(kit, unsigned=psbt.serialize())) == "forbidden_shape"


def test_output_number_that_the_previous_tx_lacks_is_refused(kit: VaultKit) -> None:
    coin = sign_requests.previous_tx(kit.script(HOT), 100_000_000)
    psbt = psbt_of([coin], [(FOREIGN_SCRIPT, 50_000_000), (kit.script(CHANGE), 49_999_000)])
    tx = psbt.tx
    tx.vin[0].vout = 7
    other = PSBT(tx)
    other.inputs[0].non_witness_utxo = coin
    assert kit.refused(utxo_request(kit, unsigned=other.serialize())) == "unproven_input"


def test_tx_of_another_version_or_without_outputs_is_refused(kit: VaultKit) -> None:
    coin = sign_requests.previous_tx(kit.script(HOT), 100_000_000)
    tx = Transaction(version=1, vin=[TransactionInput(coin.txid(), 1)], vout=[], locktime=0)
    for number, version in enumerate((1, 2, 3)):
        tx.version = version
        psbt = PSBT(tx)
        psbt.inputs[0].non_witness_utxo = coin
        request = utxo_request(kit, attempt_id=f"v-{number}", unsigned=psbt.serialize())
        assert kit.refused(request) == "undecodable"


@pytest.mark.parametrize("attempt_id", ["", "x" * 129])
def test_attempt_without_a_usable_id_is_refused_and_not_remembered(
    kit: VaultKit, attempt_id: str
) -> None:
    assert kit.refused(utxo_request(kit, attempt_id=attempt_id)) == "attempt_mismatch"
    assert kit.vault.lookup(attempt_id) is None


def test_head_moves_with_every_record(kit: VaultKit) -> None:
    before = kit.vault.head()
    answer = kit.signed(utxo_request(kit))
    after = kit.vault.head()
    assert (before.fingerprint, before.sequence) == ("5436d724", 2)
    assert after.sequence == answer.log_sequence == 3
    assert after.entry_hash != before.entry_hash


def test_cpfp_whose_own_path_is_no_output_is_refused(kit: VaultKit) -> None:
    coin = sign_requests.previous_tx(kit.script(CHANGE), 100_000_000)
    psbt = psbt_of([coin], [(kit.script(CHANGE), 99_990_000)])
    request = utxo_request(
        kit,
        purpose=Purpose.CPFP,
        unsigned=psbt.serialize(),
        input_paths=(CHANGE,),
        change_paths={0: CHANGE},
        payments=(),
        own_path=HOT,
    )
    assert kit.refused(request) == "foreign_output"


def test_cpfp_may_not_spend_what_a_signed_payout_spends(kit: VaultKit) -> None:
    """That would abort the payout, which takes two people (CONTRACT 8)."""
    first = kit.signed(utxo_request(kit))
    parent = Transaction.parse(first.raw)
    coins = [TransactionInput(parent.txid(), 1)]
    spend = PSBT(
        Transaction(
            version=2,
            vin=[*coins, parent.vin[0]],
            vout=[TransactionOutput(149_970_000, Script(kit.script(CHANGE)))],
            locktime=0,
        )
    )
    spend.inputs[0].non_witness_utxo = parent
    spend.inputs[1].non_witness_utxo = (
        PSBT.parse(utxo_request(kit).unsigned).inputs[0].non_witness_utxo
    )
    request = utxo_request(
        kit,
        attempt_id="abort",
        purpose=Purpose.CPFP,
        unsigned=spend.serialize(),
        input_paths=(CHANGE, utxo_request(kit).input_paths[0]),
        change_paths={0: CHANGE},
        payments=(),
        own_path=CHANGE,
    )
    assert kit.refused(request) == "not_exclusive"


def test_s23_a_refused_request_fences_no_worker_out(kit: VaultKit) -> None:
    junk = utxo_request(kit, attempt_id="junk", worker_epoch=2**62, payments=())
    kit.refused(junk)
    kit.signed(utxo_request(kit, worker_epoch=1))


@pytest.mark.parametrize(("locktime", "sequence"), [(499_999_999, 0xFFFFFFFD), (0, 1)])
def test_a_tx_that_no_node_takes_yet_is_refused(
    kit: VaultKit, locktime: int, sequence: int
) -> None:
    psbt = PSBT.parse(utxo_request(kit).unsigned)
    tx = psbt.tx
    tx.locktime = locktime
    tx.vin[0].sequence = sequence
    late = PSBT(tx)
    for index, scope in enumerate(psbt.inputs):
        late.inputs[index].non_witness_utxo = scope.non_witness_utxo
    assert kit.refused(utxo_request(kit, unsigned=late.serialize())) == "forbidden_shape"
