"""Gas of the ways to collect a token, measured on a dev node (docs/adr): for tests and the ADR."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from eth_abi.abi import encode

from gateway.sandbox.nodes import Anvil
from tests.support import batch, collecting, evm
from tests.support.collecting import Desk, account, authorise, leg, send

ONE = 10**6
BIG = 25_000_000  # a block's gas in these tests: 100 of each in one tx


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """Gas of a round of so many deposits, all txs of it."""

    way: str
    count: int
    first: int
    later: int

    @property
    def each(self) -> tuple[int, int]:
        """Per deposit, rounded up."""
        return -(-self.first // self.count), -(-self.later // self.count)


async def two_txs(desk: Desk, token: str, count: int, salt: str) -> Used:
    """(a) A top-up from the gas account, and the deposit address's own transfer."""
    made = [account(f"two {salt}{number}") for number in range(count)]
    rounds = []
    for _ in range(2):
        gas = 0
        for item in made:
            await evm.mint(desk.node, token, item.address, ONE)
        for item in made:
            top_up = await send(
                desk.node,
                desk.sender,
                item.address,
                chain_id=desk.chain_id,
                value=70_000 * collecting.MAX_FEE,
                gas=50_000,
            )
            moved = await send(
                desk.node,
                item,
                token,
                chain_id=desk.chain_id,
                data=evm.call_data("transfer(address,uint256)", desk.hot, ONE),
                gas=70_000,
            )
            assert (top_up["status"], moved["status"]) == ("0x1", "0x1")
            gas += _gas(top_up) + _gas(moved)
        rounds.append(gas)
    return Used(way="two txs", count=count, first=rounds[0], later=rounds[1])


async def delegation(desk: Desk, token: str, count: int, salt: str) -> Used:
    """(b) The collector: authorisations in the first tx, none in the next."""
    made = [account(f"seven {salt}{number}") for number in range(count)]
    legs = [leg(item.address, ONE) for item in made]
    rounds = []
    for number in range(2):
        for item in made:
            await evm.mint(desk.node, token, item.address, ONE)
        given = [authorise(desk, item, 0) for item in made] if number == 0 else []
        receipt = await collecting.collect(desk, token, legs, authorisations=given, gas=BIG)
        assert len(receipt["logs"]) == count
        rounds.append(_gas(receipt))
    return Used(way="EIP-7702", count=count, first=rounds[0], later=rounds[1])


async def forwarder(desk: Desk, token: str, count: int, salt: str) -> Used:
    """(c) A counterfactual proxy per address, made when it is first collected from."""
    data = "collect(address,uint256[],bytes32[])"
    factory = await _deploy(desk.node, "ForwarderFactory", desk.hot)
    salts = _salts(count, salt)
    made = [
        "0x" + (await _view(desk.node, factory, "addressOf(bytes32)", item))[-40:] for item in salts
    ]
    rounds = []
    for _ in range(2):
        for address in made:
            await evm.mint(desk.node, token, address, ONE)
        receipt = await batch.call(
            desk.node, factory, evm.call_data(data, token, [ONE] * count, salts), gas=BIG
        )
        assert len(receipt["logs"]) == count
        rounds.append(_gas(receipt))
    return Used(way="CREATE2 proxy", count=count, first=rounds[0], later=rounds[1])


async def passing(desk: Desk, token: str, count: int, salt: str) -> Used:
    """(c') A contract that is gone again in the tx that made it."""
    factory = await _deploy(desk.node, "PassingFactory", desk.hot)
    salts = _salts(count, salt)
    view = "addressOf(address,bytes32)"
    made = ["0x" + (await _view(desk.node, factory, view, token, item))[-40:] for item in salts]
    rounds = []
    for _ in range(2):
        for address in made:
            await evm.mint(desk.node, token, address, ONE)
        receipt = await batch.call(
            desk.node, factory, evm.call_data("collect(address,bytes32[])", token, salts), gas=BIG
        )
        assert len(receipt["logs"]) == count
        rounds.append(_gas(receipt))
    return Used(way="CREATE2, gone again", count=count, first=rounds[0], later=rounds[1])


WAYS = (two_txs, delegation, forwarder, passing)


async def open_token(desk: Desk) -> str:
    """A token that the hot account holds some of, as it does after its first day."""
    token = await evm.deploy(desk.node, "UsdtLike")
    await evm.mint(desk.node, token, desk.hot, ONE)
    return token


def _gas(receipt: dict[str, Any]) -> int:
    return int(receipt["gasUsed"], 16)


def _salts(count: int, salt: str) -> Sequence[bytes]:
    return [f"{salt}{number}".encode().rjust(32, b"\x00") for number in range(count)]


async def _deploy(node: Anvil, name: str, hot: str) -> str:
    data = evm.load_build(name).bytecode + encode(["address"], [hot]).hex()
    txid = await node.transact(to=None, data=data)
    await node.mine()
    address: str = (await node.rpc("eth_getTransactionReceipt", txid))["contractAddress"]
    return address


async def _view(node: Anvil, to: str, signature: str, *values: object) -> str:
    call = {"to": to, "data": evm.call_data(signature, *values)}
    answer: str = await node.rpc("eth_call", call, "latest")
    return answer
