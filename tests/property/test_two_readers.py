"""What the watchers build is what the signer reads: one corpus through both parsers (HOUSE 9)."""

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from signer.schemes import bitcoin as signer_bitcoin
from signer.schemes import evm as signer_evm
from tests.support.simchain import ACCOUNT_PARAMS, sim_account, sim_utxo
from tests.support.vault import VaultKit, trusted_kit
from watchers.chain import AccountPlan, Chain, Coin, DerivedAddress, Outpoint, Pay, UtxoPlan

UTXO_WORLD, UTXO = sim_utxo()
_, ACCOUNT = sim_account()
COIN_MINOR = 10_000_000
AMOUNTS = st.lists(st.integers(1_000, 1_000_000), min_size=1, max_size=6)
WEI = st.integers(0, 2**64)


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VaultKit]:
    """One signer for all examples of this module."""
    made = trusted_kit(tmp_path_factory.mktemp("vault"))
    yield made
    made.store.close()


def _own(kit: VaultKit, chain: Chain, *, branch: int, index: int) -> DerivedAddress:
    network = kit.settings.networks[chain.network]
    xpub = kit.keyring.account_xpub(network, 0)
    return chain.codec.derive(xpub=xpub, account=0, chain=branch, index=index)


@pytest.mark.parametrize("chain", [UTXO, ACCOUNT], ids=["utxo", "account"])
def test_both_derive_the_same_addresses(kit: VaultKit, chain: Chain) -> None:
    for branch, index in ((0, 0), (0, 1), (1, 0), (1, 77), (0, 2**31 - 1)):
        own = _own(kit, chain, branch=branch, index=index)
        assert kit.address(chain.network, own.path).lower() == own.address.lower()


@pytest.fixture(scope="module")
def coins(kit: VaultKit) -> list[Coin]:
    """Three coins of the hot wallet, in blocks of the simulated chain."""
    made = []
    for index in range(3):
        own = _own(kit, UTXO, branch=0, index=index)
        txid = UTXO_WORLD.pay([(own.address, COIN_MINOR)])
        made.append(
            Coin(
                outpoint=Outpoint(txid=txid, vout=0),
                amount_minor=COIN_MINOR,
                key=own.key,
                path=own.path,
                previous_tx=UTXO_WORLD.pool[txid],
            )
        )
    UTXO_WORLD.mine()
    return made


@settings(max_examples=60, deadline=None)
@given(amounts=AMOUNTS, count=st.integers(1, 3), fee=st.integers(2_000, 50_000))
async def test_the_signer_reads_the_psbt_that_was_built(
    kit: VaultKit, coins: list[Coin], amounts: list[int], count: int, fee: int
) -> None:
    """Inputs, outputs, fee and size agree, and the signed tx would be accepted by a node."""
    change = _own(kit, UTXO, branch=1, index=0)
    targets = [_own(kit, UTXO, branch=0, index=100 + n) for n in range(len(amounts))]
    plan = UtxoPlan(
        coins=tuple(coins[:count]),
        payments=tuple(
            Pay(asset="btc:BTC", address=to.address, amount_minor=amount)
            for to, amount in zip(targets, amounts, strict=True)
        ),
        change=change,
        change_minor=count * COIN_MINOR - sum(amounts) - fee,
    )
    unsigned = UTXO.writer.build(plan)
    network = kit.settings.networks["btc"]
    read = signer_bitcoin.decode(
        unsigned.data, unsigned.input_paths, keyring=kit.keyring, network=network
    )
    assert [item.outpoint for item in read.inputs] == [
        f"{coin.outpoint.txid}:{coin.outpoint.vout}" for coin in plan.coins
    ]
    assert [(out.script.hex(), out.amount_minor) for out in read.outputs] == [
        *((to.key, amount) for to, amount in zip(targets, amounts, strict=True)),
        (change.key, plan.change_minor),
    ]
    assert read.fee_minor == unsigned.fee_minor == fee
    assert read.vsize <= unsigned.size_vb
    raw, txid = signer_bitcoin.sign(read, kit.keyring)
    judged, result = UTXO_WORLD.judge(raw)
    assert (judged, result.outcome.value) == (txid, "accepted")


@settings(max_examples=100, deadline=None)
@given(
    nonce=st.integers(0, 2**63 - 1),
    amount=st.integers(1, 2**128),
    priority=WEI,
    extra=WEI,
    asset=st.sampled_from(["eth:ETH", "eth:USDT"]),
)
def test_the_signer_reads_the_payload_that_was_built(
    kit: VaultKit, nonce: int, amount: int, priority: int, extra: int, asset: str
) -> None:
    sender = _own(kit, ACCOUNT, branch=0, index=0)
    to = _own(kit, ACCOUNT, branch=1, index=5)
    plan = AccountPlan(
        sender=sender,
        nonce=nonce,
        payment=Pay(asset=asset, address=to.address, amount_minor=amount),
        gas_limit=ACCOUNT.writer.gas_limit(asset),
        max_fee_per_gas=priority + extra,
        max_priority_fee_per_gas=priority,
    )
    unsigned = ACCOUNT.writer.build(plan)
    network = kit.settings.networks["eth"]
    read = signer_evm.decode(
        unsigned.data, unsigned.input_paths, keyring=kit.keyring, network=network
    )
    assert "0x" + read.sender_address.removeprefix("0x") == sender.key
    assert (read.nonce, read.gas_limit) == (nonce, plan.gas_limit)
    assert (read.max_fee_wei_per_gas, read.priority_fee_wei_per_gas) == (
        plan.max_fee_per_gas,
        priority,
    )
    assert "0x" + read.destination.hex() == to.key
    assert read.amount_minor == amount
    assert read.asset.rpartition(":")[2] == asset.rpartition(":")[2]
    assert read.fee_max_minor == unsigned.fee_minor
    assert network.chain_id == ACCOUNT_PARAMS.chain_id
