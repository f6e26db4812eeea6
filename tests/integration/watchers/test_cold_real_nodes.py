"""Cold wallets on real nodes: an offline node signs our file, another one mines what we made of it.

The offline node has no chain and no peer: all that it needs stands in the file. Nothing of ours
ever sees its keys.
"""

from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import pytest

from gateway.sandbox.nodes import Bitcoind, Litecoind, UtxoNode
from tests.support.cold import ALONE, TWO_OF_THREE, ColdPeople, plan_of
from tests.unit.watchers.chains.support import bitcoin_network
from watchers.chain import Coin, Outpoint
from watchers.chains.bitcoin import rawtx
from watchers.chains.bitcoin.cold_signed import assemble, read_signatures
from watchers.chains.bitcoin.descriptor import ColdDescriptor
from watchers.cold_spends import ColdCoin, ColdSignature

pytestmark = pytest.mark.node
PEOPLE = pytest.mark.parametrize("people", [ALONE, TWO_OF_THREE], ids=["alone", "two_of_three"])


@pytest.fixture
async def offline_bitcoind(
    node_programs: dict[str, Path], tmp_path: Path
) -> AsyncIterator[Bitcoind]:
    """A machine that signs: never connected to anything."""
    async with Bitcoind(node_programs["bitcoind"], tmp_path / "offline") as node:
        yield node


@pytest.fixture
async def offline_litecoind(
    node_programs: dict[str, Path], tmp_path: Path
) -> AsyncIterator[Litecoind]:
    """The same for Litecoin (0.21: PSBTs of its time)."""
    async with Litecoind(node_programs["litecoind"], tmp_path / "offline") as node:
        yield node


async def _coin(node: UtxoNode, wallet: ColdDescriptor, *, branch: int, index: int) -> ColdCoin:
    """One coin of 0.5 in a block."""
    place = wallet.derive(branch=branch, index=index)
    txid = await node.send(place.address, "0.5")
    await node.mine()
    raw = bytes.fromhex(await node.rpc("getrawtransaction", txid))
    reduced = rawtx.reduce(raw)
    vout = next(at for at, out in enumerate(reduced.outputs) if out[1] == place.key)
    coin = Coin(
        outpoint=Outpoint(txid=txid, vout=vout),
        amount_minor=50_000_000,
        key=place.key,
        path=place.path,
        previous_tx=raw,
    )
    return ColdCoin(coin=coin, branch=branch, index=index)


async def _refill(
    node: UtxoNode, offline: UtxoNode, people: ColdPeople, *, network: str, in_turn: bool
) -> None:
    params = bitcoin_network(network, "regtest")
    wallet = people.wallet(params)
    coins = [
        await _coin(node, wallet, branch=0, index=3),
        await _coin(node, wallet, branch=1, index=5),
    ]
    hot = await node.new_address()
    unsigned = plan_of(
        wallet, coins, params=params, to=hot, amount_minor=80_000_000, fee_minor=10_000
    )
    signatures: list[ColdSignature] = []
    file = unsigned.data
    for person in range(people.threshold):
        device = await people.device(offline, person)
        signed = await device.sign(file)
        signatures += read_signatures(unsigned.data, signed)
        file = signed if in_turn else unsigned.data
    progress = assemble(unsigned.data, signatures)
    assert progress.raw is not None
    assert await node.rpc("sendrawtransaction", progress.raw.hex()) == progress.txid
    await node.mine()
    paid = await node.rpc("gettxout", progress.txid, 0)
    assert paid["value"] == Decimal("0.8")
    assert paid["confirmations"] == 1


@PEOPLE
async def test_bitcoind_signs_our_file_offline(
    people: ColdPeople, bitcoind: Bitcoind, offline_bitcoind: Bitcoind
) -> None:
    await _refill(bitcoind, offline_bitcoind, people, network="btc", in_turn=False)


async def test_bitcoinds_wallets_sign_in_turn(
    bitcoind: Bitcoind, offline_bitcoind: Bitcoind
) -> None:
    await _refill(bitcoind, offline_bitcoind, TWO_OF_THREE, network="btc", in_turn=True)


@PEOPLE
async def test_litecoind_signs_our_file_offline(
    people: ColdPeople, litecoind: Litecoind, offline_litecoind: Litecoind
) -> None:
    await _refill(litecoind, offline_litecoind, people, network="ltc", in_turn=False)


@PEOPLE
async def test_bitcoind_derives_the_same_addresses(
    people: ColdPeople, offline_bitcoind: Bitcoind
) -> None:
    """The second reader of the descriptor; it is the very text that Core imports."""
    wallet = people.wallet(bitcoin_network("btc", "regtest"))
    for branch in (0, 1):
        text = people.text(suffix=f"/{branch}/*")
        theirs = await offline_bitcoind.rpc("deriveaddresses", text, [0, 9])
        ours = [wallet.derive(branch=branch, index=index).address for index in range(10)]
        assert ours == theirs


@PEOPLE
async def test_bitcoind_reads_origins_and_change_in_our_file(
    people: ColdPeople, bitcoind: Bitcoind, offline_bitcoind: Bitcoind
) -> None:
    params = bitcoin_network("btc", "regtest")
    wallet = people.wallet(params)
    coin = await _coin(bitcoind, wallet, branch=0, index=7)
    unsigned = plan_of(
        wallet,
        [coin],
        params=params,
        to=await bitcoind.new_address(),
        amount_minor=20_000_000,
        fee_minor=10_000,
    )
    device = await people.device(offline_bitcoind, 0)
    told = await device.decode(unsigned.data)
    (spent,), (hot, change) = told["inputs"], told["outputs"]
    assert spent["non_witness_utxo"]["txid"] == coin.coin.outpoint.txid
    assert spent["witness_utxo"]["amount"] == Decimal("0.5")
    paths = {item["master_fingerprint"]: item["path"] for item in spent["bip32_derivs"]}
    assert set(paths) == {people.fingerprint(person) for person in range(people.count)}
    assert all(path.endswith("/0/7") for path in paths.values())
    assert "bip32_derivs" not in hot
    assert all(item["path"].endswith("/1/0") for item in change["bip32_derivs"])
    assert told["fee"] == Decimal("0.0001")
    xpubs = {item["master_fingerprint"] for item in told["global_xpubs"]}
    assert xpubs == (set(paths) if people.count > 1 else set())
