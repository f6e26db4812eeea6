"""What only real programs can show: foreign nodes, false tokens, Litecoin's MWEB."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from embit.transaction import Transaction

from gateway.sandbox.nodes import Anvil, UtxoNode, free_port
from tests.conformance.conftest import chain_of, registry
from tests.conformance.support import to_key
from tests.support import evm
from tests.support.worlds import Wallet
from watchers.chain import Block, Chain, Outpoint, SendOutcome, TxPlace
from watchers.errors import InvalidAddress, WrongNetwork
from watchers.registry import build_chain

pytestmark = [pytest.mark.asyncio, pytest.mark.node]

MWEB_HEIGHT = 432  # regtest activation (CHAINS B3)


@pytest.mark.parametrize("backend", ["bitcoind", "litecoind"])
async def test_d62_n02_a_node_of_another_coin_is_refused(
    backend: str, request: pytest.FixtureRequest
) -> None:
    """bitcoind for Litecoin, litecoind for Bitcoin: the genesis block tells."""
    process: UtxoNode = request.getfixturevalue(f"{backend}_process")
    await _assert_refused(process.url, {"bitcoind": "ltc", "litecoind": "btc"}[backend])


async def test_d62_n02_a_node_with_another_chain_id_is_refused(
    node_programs: dict[str, Path], tmp_path: Path
) -> None:
    async with Anvil(node_programs["anvil"], tmp_path, chain_id=1337) as node:
        await _assert_refused(node.url, "eth")


async def _assert_refused(url: str, network: str) -> None:
    chain = chain_of(network, url)
    try:
        with pytest.raises(WrongNetwork):
            await chain.reader.check_identity()
        with pytest.raises(WrongNetwork):
            await chain.reader.tip()
    finally:
        await chain.close()


@pytest.fixture
async def eth(anvil: Anvil) -> AsyncIterator[tuple[Chain, str]]:
    """The chain under test, and its listed token with a rich first account."""
    token = await evm.deploy(anvil, "UsdtLike")
    await evm.mint(anvil, token, (await anvil.accounts())[0], 10**12)
    chain = chain_of("eth", anvil.url, token=token)
    yield chain, token
    await chain.close()


async def _mined(anvil: Anvil, chain: Chain) -> Block:
    await anvil.mine()
    return await chain.reader.block((await chain.reader.tip()).hash)


async def test_d33_value_refused_by_its_receiver_is_no_transfer(
    anvil: Anvil, eth: tuple[Chain, str]
) -> None:
    chain, _ = eth
    reverter = await evm.deploy(anvil, "Reverter")
    sender = (await anvil.accounts())[0]
    call = {"from": sender, "to": reverter, "value": hex(10**18), "gas": hex(60_000)}
    txid = await anvil.rpc("eth_sendTransaction", call)
    block = await _mined(anvil, chain)
    assert block.transfers == ()
    [send] = block.sends
    assert (send.txid, send.is_success, send.transfers_out) == (txid, False, ())


async def test_d35_a_token_that_returns_false_moves_nothing(
    anvil: Anvil, eth: tuple[Chain, str]
) -> None:
    chain, _ = eth
    false_token = await evm.deploy(anvil, "FalseToken")
    target = Wallet.of(chain).address(0)
    await evm.transfer(anvil, false_token, target.address, 5)
    block = await _mined(anvil, chain)
    assert block.sends[0].is_success
    assert block.transfers == ()


async def test_d36_a_token_that_calls_itself_usdt_is_another_asset(
    anvil: Anvil, eth: tuple[Chain, str]
) -> None:
    chain, _ = eth
    fake = await evm.deploy(anvil, "FakeToken")
    target = Wallet.of(chain).address(0)
    txid = await evm.transfer(anvil, fake, target.address, 5_000_000)
    receipt_block = await _mined(anvil, chain)
    receipt = await anvil.rpc("eth_getTransactionReceipt", txid)
    assert len(receipt["logs"]) == 1
    assert [item.asset for item in receipt_block.transfers] == [f"eth:{fake.lower()}"]


async def test_d44_five_token_transfers_in_one_tx_are_five(
    anvil: Anvil, eth: tuple[Chain, str]
) -> None:
    chain, token = eth
    target = Wallet.of(chain).address(0)
    data = evm.call_data("transferMany(address[],uint256[])", [target.address] * 5, [1, 2, 3, 4, 5])
    await anvil.transact(to=token, data=data)
    found = to_key(await _mined(anvil, chain), target.key)
    assert [(item.position, item.amount_minor) for item in found] == [
        (f"log:{n}", n + 1) for n in range(5)
    ]
    assert {item.asset for item in found} == {"eth:USDT"}


class LitecoindWithMweb(UtxoNode):
    """MWEB activates at block 432, which must hold a peg-in."""

    name = "litecoind"


async def test_d32_mweb_is_survived_and_a_pegout_arrives_as_an_output(
    node_programs: dict[str, Path], tmp_path: Path
) -> None:
    """Peg in, pay out of MWEB to a plain address, and read everything in between."""
    async with LitecoindWithMweb(node_programs["litecoind"], tmp_path) as node:
        await node.mine(MWEB_HEIGHT - 1)
        chain = chain_of("ltc", node.url)
        try:
            await _peg_in_and_out(node, chain)
        finally:
            await chain.close()


async def _peg_in_and_out(node: UtxoNode, chain: Chain) -> None:
    mweb_address = await node.rpc("getnewaddress", "", "mweb")
    with pytest.raises(InvalidAddress, match="MWEB"):
        chain.codec.parse(mweb_address)
    await node.send(mweb_address, "10")
    [activation] = await node.mine()
    block = await chain.reader.block(activation)
    assert block.ref.height == MWEB_HEIGHT
    assert set(block.raw_txs) == set(block.txids)
    await node.mine(2)

    coins = await node.rpc("listunspent")
    plain = [coin for coin in coins if not coin.get("address", "").startswith("tmweb")]
    outpoints = [{"txid": coin["txid"], "vout": coin["vout"]} for coin in plain]
    await node.rpc("lockunspent", False, outpoints)  # so that the wallet pays out of MWEB
    target = Wallet.of(chain).address(0)
    pegout = await node.send(target.address, "3")
    assert [tx.transfers for tx in await chain.reader.mempool() if tx.txid == pegout] == [()]
    [mined] = await node.mine()
    block = await chain.reader.block(mined)
    [transfer] = to_key(block, target.key)
    assert transfer.amount_minor == 3 * 10**8
    assert transfer.txid == block.txids[-1] != pegout
    assert (await chain.reader.tx_status(pegout)).place is TxPlace.UNKNOWN
    assert Transaction.parse(block.raw_txs[transfer.txid]).txid().hex() == transfer.txid
    outpoint = Outpoint(txid=transfer.txid, vout=int(transfer.position.removeprefix("out:")))
    held = await chain.reader.open_coins([outpoint], block_hash=mined)
    assert held == {outpoint: 3 * 10**8}


async def test_every_test_network_of_the_registry_has_a_backend() -> None:
    assert set(registry()) == {"btc", "ltc", "eth"}


async def test_reads_and_broadcasts_go_on_when_the_first_node_is_down(anvil: Anvil) -> None:
    """Ordered fail-over on real sockets: nobody listens on the first URL."""
    dead = f"http://127.0.0.1:{free_port()}"
    chain = build_chain(registry()["eth"], [dead, anvil.url], [], timeout_seconds=5.0)
    try:
        await chain.reader.check_identity()
        assert (await chain.reader.tip()).height == await anvil.height()
        result = await chain.writer.send(b"\x02\x00")
        assert result.outcome is SendOutcome.INVALID
    finally:
        await chain.close()
