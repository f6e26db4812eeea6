"""Unsigned PSBTs: proofs of the inputs, order of outputs, sizes, and plans that are refused."""

import dataclasses

import pytest
from embit import psbt

from tests.support.simchain import SimUtxo, sim_utxo
from tests.support.worlds import Wallet
from watchers.chain import Coin, Outpoint, Pay, UtxoPlan
from watchers.chains.bitcoin import build
from watchers.chains.errors import BadPlan
from watchers.errors import InvalidAddress, NothingToReserve

ASSET = "btc:BTC"


@pytest.fixture
def world() -> SimUtxo:
    return sim_utxo()[0]


@pytest.fixture
def plan(world: SimUtxo) -> UtxoPlan:
    """One coin of 100,000 to one payment of 60,000 and change of 39,000."""
    wallet = Wallet.of(sim_utxo()[1])
    own = wallet.address(0)
    txid = world.pay([(own.address, 100_000)])
    coin = Coin(
        outpoint=Outpoint(txid=txid, vout=0),
        amount_minor=100_000,
        key=own.key,
        path=own.path,
        previous_tx=world.pool[txid],
    )
    return UtxoPlan(
        coins=(coin,),
        payments=(Pay(asset=ASSET, address=wallet.address(9).address, amount_minor=60_000),),
        change=wallet.address(0, chain=1),
        change_minor=39_000,
    )


def test_psbt_carries_the_whole_previous_tx_and_signals_replacement(
    world: SimUtxo, plan: UtxoPlan
) -> None:
    unsigned = build.build(plan, codec=world.codec, asset=ASSET)
    container = psbt.PSBT.parse(unsigned.data)
    assert container.version in (None, 0)
    assert container.inputs[0].non_witness_utxo.serialize() == plan.coins[0].previous_tx
    assert container.inputs[0].verify()
    assert container.tx.vin[0].sequence == 0xFFFFFFFD
    assert [out.value for out in container.tx.vout] == [60_000, 39_000]
    assert unsigned.fee_minor == 1_000
    assert unsigned.payment_outputs == (0,)
    assert plan.change is not None
    assert unsigned.change_outputs == {1: plan.change.path}


def _changed(plan: UtxoPlan, **changes: object) -> UtxoPlan:
    return dataclasses.replace(plan, **changes)  # type: ignore[arg-type]


def test_plans_that_contradict_themselves_are_refused(world: SimUtxo, plan: UtxoPlan) -> None:
    [coin], [payment] = plan.coins, plan.payments
    wrong = [
        _changed(plan, coins=(coin, coin)),
        _changed(plan, payments=(dataclasses.replace(payment, asset="ltc:LTC"),)),
        _changed(plan, payments=(dataclasses.replace(payment, amount_minor=0),)),
        _changed(plan, change=None),
        _changed(plan, change_minor=0),
        _changed(plan, change_minor=-1),
        _changed(plan, payments=(), change=None, change_minor=0),
        _changed(plan, coins=(dataclasses.replace(coin, amount_minor=100_001),)),
        _changed(plan, coins=(dataclasses.replace(coin, key="0014" + "00" * 20),)),
        _changed(plan, coins=(dataclasses.replace(coin, previous_tx=b""),)),
        _changed(
            plan,
            coins=(dataclasses.replace(coin, outpoint=Outpoint(txid="11" * 32, vout=0)),),
        ),
        _changed(
            plan,
            coins=(dataclasses.replace(coin, outpoint=Outpoint(txid=coin.outpoint.txid, vout=9)),),
        ),
    ]
    for item in wrong:
        with pytest.raises(BadPlan):
            build.build(item, codec=world.codec, asset=ASSET)


def test_coins_that_do_not_cover_the_outputs_are_refused(world: SimUtxo, plan: UtxoPlan) -> None:
    for item in (_changed(plan, change_minor=40_001), _changed(plan, coins=())):
        with pytest.raises(NothingToReserve):
            build.build(item, codec=world.codec, asset=ASSET)


def test_a15_an_address_of_another_network_never_reaches_a_tx(
    world: SimUtxo, plan: UtxoPlan
) -> None:
    foreign = Pay(
        asset=ASSET, address="bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4", amount_minor=1_000
    )
    with pytest.raises(InvalidAddress):
        build.build(_changed(plan, payments=(foreign,)), codec=world.codec, asset=ASSET)


@pytest.mark.parametrize(
    ("inputs", "outputs", "size"),
    [
        (1, ["0014" + "00" * 20], 110),
        (1, ["0014" + "00" * 20] * 2, 141),  # the well-known size of a payment with change
        (2, ["0014" + "00" * 20] * 2, 209),
        (1, ["5120" + "00" * 32, "0014" + "00" * 20], 153),
        (1, ["0014" + "00" * 20] * 253, 7924),
    ],
)
def test_sizes_are_those_of_signed_txs(inputs: int, outputs: list[str], size: int) -> None:
    assert build.size_vb(inputs=inputs, outputs=outputs) == size
