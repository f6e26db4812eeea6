"""What the vault signs is accepted by real nodes, and confirms."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from embit.psbt import PSBT
from embit.script import Script
from embit.transaction import Transaction, TransactionInput, TransactionOutput

from gateway.sandbox.nodes import Anvil, Bitcoind, Litecoind, UtxoNode
from signer.schemes.address import bitcoin_script
from tests.support.sign_requests import (
    CHANGE,
    HOT,
    LANE,
    evm_payload,
    evm_request,
    payment,
    utxo_request,
)
from tests.support.vault import FOREIGN_EVM, VaultKit, trusted_kit

pytestmark = pytest.mark.node
DEPOSIT = "m/84h/1h/4h/0/2"


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[VaultKit]:
    """A signer that trusts one client of brand `acme`."""
    made = trusted_kit(tmp_path)
    yield made
    made.store.close()


async def _coin(kit: VaultKit, node: UtxoNode, network: str, path: str) -> tuple[Transaction, int]:
    """A real tx that pays 1 coin to an own path, and the output's index."""
    txid = await node.send(kit.address(network, path), "1")
    await node.mine()
    tx = Transaction.parse(bytes.fromhex(await node.rpc("getrawtransaction", txid)))
    script = kit.script(path, network)
    return tx, next(i for i, out in enumerate(tx.vout) if bytes(out.script_pubkey.data) == script)


async def _pay(kit: VaultKit, node: UtxoNode, network: str, asset: str) -> None:
    """Spends a hot and a deposit coin to a fresh address of the node; then it confirms."""
    paths = (HOT, DEPOSIT)
    coins = [await _coin(kit, node, network, path) for path in paths]
    address = await node.new_address()
    script = bitcoin_script(address, kit.settings.networks[network])
    psbt = PSBT(
        Transaction(
            version=2,
            vin=[TransactionInput(tx.txid(), index) for tx, index in coins],
            vout=[
                TransactionOutput(150_000_000, Script(script)),
                TransactionOutput(49_990_000, Script(kit.script(CHANGE, network))),
            ],
            locktime=0,
        )
    )
    for scope, (tx, _) in zip(psbt.inputs, coins, strict=True):
        scope.non_witness_utxo = tx
    answer = kit.signed(
        utxo_request(
            kit,
            network=network,
            unsigned=psbt.serialize(),
            input_paths=paths,
            payments=(payment(asset=asset, address=address, amount="1.5"),),
        )
    )
    assert await node.rpc("sendrawtransaction", answer.raw.hex()) == answer.txid
    await node.mine()
    assert (await node.rpc("gettxout", answer.txid, 0))["confirmations"] == 1


async def test_bitcoind_confirms_a_signed_withdrawal(kit: VaultKit, bitcoind: Bitcoind) -> None:
    await _pay(kit, bitcoind, "btc", "btc:BTC")


async def test_litecoind_confirms_a_signed_withdrawal(kit: VaultKit, litecoind: Litecoind) -> None:
    await _pay(kit, litecoind, "ltc", "ltc:LTC")


async def test_anvil_confirms_a_signed_withdrawal(kit: VaultKit, anvil: Anvil) -> None:
    lane = kit.address("eth", LANE)
    await anvil.set_balance(lane, 10**18)
    await anvil.rpc("anvil_setNextBlockBaseFeePerGas", hex(10**9))  # other tests made it dear
    await anvil.mine()
    nonce = int(await anvil.rpc("eth_getTransactionCount", lane, "latest"), 16)
    before = int(await anvil.rpc("eth_getBalance", FOREIGN_EVM, "latest"), 16)
    order = payment(asset="eth:ETH", address=FOREIGN_EVM)
    answer = kit.signed(evm_request(payload=evm_payload(nonce=nonce), payments=(order,)))
    assert await anvil.rpc("eth_sendRawTransaction", "0x" + answer.raw.hex()) == answer.txid
    await anvil.mine()
    receipt = await anvil.rpc("eth_getTransactionReceipt", answer.txid)
    assert receipt["status"] == "0x1"
    after = int(await anvil.rpc("eth_getBalance", FOREIGN_EVM, "latest"), 16)
    assert after - before == 5 * 10**17
