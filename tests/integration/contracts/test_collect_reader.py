"""A collect built by the writer, signed by the vault, mined by anvil and read leg by leg (S22)."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from config.assets import load_assets
from config.chains import load_chains
from config.settings import AssetSettings, NetworkSettings, Settings
from gateway.sandbox.nodes import Anvil
from signer.protocol import Purpose
from tests.support import batch, evm
from tests.support.clock import SequentialIds
from tests.support.collecting import FACTORY
from tests.support.sign_requests import GAS, LANE, evm_request
from tests.support.vault import COLLECTOR, TOKEN, VaultKit, trusted_kit
from watchers import token_checks
from watchers.chain import (
    AccountPlan,
    AccountSend,
    AccountState,
    Chain,
    CollectLeg,
    CollectPlan,
    Delegation,
    DerivedAddress,
    Pay,
    Unsigned,
)
from watchers.chains.errors import BadPlan
from watchers.chains.evm import collect
from watchers.network import Network
from watchers.registry import build_agreed_chain

pytestmark = pytest.mark.node

ONE = 10**6
GWEI = 10**9
PATHS = ("m/44h/60h/1h/0/0", "m/44h/60h/1h/0/7", "m/44h/60h/2h/0/0")


@dataclass(kw_only=True)
class Desk:
    """A chain over anvil that knows the collector of a whole signer's keys."""

    node: Anvil
    chain: Chain
    kit: VaultKit
    network: Network
    asked: int = 0

    def own(self, path: str) -> DerivedAddress:
        """An own account as the watchers derive it."""
        address = self.kit.address("eth", path)
        return DerivedAddress(address=address, key=address.lower(), path=path, scheme="eoa")

    async def fund(self, paths: Sequence[str], amount: int = 5 * ONE) -> None:
        """Tokens for these accounts."""
        for path in paths:
            data = evm.call_data("mint(address,uint256)", self.own(path).address, amount)
            await self.node.transact(to=TOKEN, data=data)
            await self.node.mine()

    async def state(self, path: str) -> AccountState:
        """Of an account at the tip."""
        key = self.own(path).key
        tip = await self.chain.reader.tip()
        return (await self.chain.reader.account_states([key], block_hash=tip.hash))[key]

    async def held(self, path: str) -> int:
        """Base units of the token."""
        return await batch.balance(self.node, self.own(path).address, token=TOKEN)

    async def plan(
        self, amounts: dict[str, int], *, nonce: int | None = None, **changes: Any
    ) -> CollectPlan:
        """What to collect, with authorisations where they are needed."""
        legs = []
        for path, amount in amounts.items():
            state = await self.state(path)
            is_new = state.delegation is Delegation.NONE
            legs.append(
                CollectLeg(
                    deposit=self.own(path),
                    amount_minor=amount,
                    authorise_nonce=state.nonce if is_new else None,
                )
            )
        given = [leg for leg in legs if leg.authorise_nonce is not None]
        limit, _ = self.chain.writer.collect_gas(legs=len(legs), authorisations=len(given))
        fields: dict[str, Any] = {
            "sender": self.own(GAS),
            "nonce": (await self.state(GAS)).nonce if nonce is None else nonce,
            "asset": "eth:USDT",
            "legs": tuple(legs),
            "gas_limit": limit,
            "max_fee_per_gas": 10 * GWEI,
            "max_priority_fee_per_gas": 1,
        }
        return CollectPlan(**{**fields, **changes})

    async def sign(self, unsigned: Unsigned, purpose: Purpose, own_path: str | None = None) -> str:
        """The raw tx, by the vault."""
        self.asked += 1
        answer = self.kit.signed(
            evm_request(
                attempt_id=f"t-{self.asked}",
                payload=unsigned.data,
                purpose=purpose,
                input_paths=unsigned.input_paths,
                change_paths=unsigned.change_outputs,
                own_path=own_path,
                payments=(),
            )
        )
        return "0x" + answer.raw.hex()

    async def collect(self, plan: CollectPlan) -> AccountSend:
        """Build, sign, send and mine; what the reader says of it."""
        raw = await self.sign(self.chain.writer.build(plan), Purpose.COLLECT)
        await self.node.rpc("eth_sendRawTransaction", raw)
        await self.node.mine()
        block = await self.chain.reader.block((await self.chain.reader.tip()).hash)
        (send,) = block.sends
        return send


@asynccontextmanager
async def _desk(
    node: Anvil, folder: Path, *, token_name: str = "PlainToken"
) -> AsyncIterator[Desk]:
    kit = trusted_kit(folder)
    await batch.place(node, token_name, TOKEN)
    gas, hot = kit.address("eth", GAS), kit.address("eth", LANE)
    await node.set_balance(gas, 10**20)
    data = collect.deploy_data(hot_key=hot.lower(), sender_key=gas.lower())
    await node.transact(to=FACTORY, data="0x" + data.hex())
    await node.mine()
    settings = Settings(
        networks={"eth": NetworkSettings(chain="dev", collector=COLLECTOR)},
        assets={"eth:USDT": AssetSettings(contract=TOKEN)},
    )
    chains = load_chains(settings)
    assets = load_assets(settings, chains)
    chain = build_agreed_chain(
        chains["eth"],
        [node.url, node.url],
        assets.values(),
        quorum=2,
        timeout_seconds=10.0,
    )
    try:
        network = Network(
            spec=chains["eth"], assets=assets, ids=SequentialIds(), reversed_per_step_max=20
        )
        yield Desk(node=node, chain=chain, kit=kit, network=network)
    finally:
        await node.rpc("anvil_dropAllTransactions")
        await chain.close()
        kit.store.close()


def _took(desk: Desk, path: str, amount: int) -> tuple[str, tuple[str, str, int]]:
    return desk.own(path).key, ("eth:USDT", desk.own(LANE).key, amount)


def test_watchers_and_signer_derive_one_collector(tmp_path: Path) -> None:
    """Each by its own code from its own copy of the committed build."""
    kit = trusted_kit(tmp_path)
    hot, sender = (kit.address("eth", path).lower() for path in (LANE, GAS))
    assert collect.created_key(hot_key=hot, sender_key=sender) == COLLECTOR
    kit.store.close()


async def test_s22_what_the_house_collects_is_signed_mined_and_read_by_its_legs(
    anvil: Anvil, tmp_path: Path
) -> None:
    """Delegated by the first tx of three, none of the second; each leg is told by the token."""
    async with _desk(anvil, tmp_path) as desk:
        await desk.fund(PATHS)
        before = await desk.held(LANE)
        first = await desk.plan({path: (n + 1) * ONE for n, path in enumerate(PATHS)})
        assert [leg.authorise_nonce for leg in first.legs] == [0, 0, 0]

        send = await desk.collect(first)

        assert (send.sender_key, send.is_success) == (desk.own(GAS).key, True)
        assert send.transfers_out == ()
        assert send.collected == tuple(
            _took(desk, path, (n + 1) * ONE) for n, path in enumerate(PATHS)
        )
        for path in PATHS:
            state = AccountState(delegation=Delegation.OURS, nonce=1)
            assert await desk.state(path) == state
        later = await desk.plan(dict.fromkeys(PATHS, ONE))
        assert [leg.authorise_nonce for leg in later.legs] == [None, None, None]
        again = await desk.collect(later)
        assert again.collected == tuple(_took(desk, path, ONE) for path in PATHS)
        assert await desk.held(LANE) - before == 9 * ONE


async def test_the_gas_limit_holds_for_one_and_for_a_hundred(anvil: Anvil, tmp_path: Path) -> None:
    """A limit that is too low would undo the whole tx; what is expected is near what is used."""
    async with _desk(anvil, tmp_path) as desk:
        for count, account in ((1, 3), (100, 4)):
            paths = [f"m/44h/60h/{account}h/0/{number}" for number in range(count)]
            await desk.fund(paths)
            for given in (count, 0):
                plan = await desk.plan(dict.fromkeys(paths, ONE), max_fee_per_gas=2 * GWEI)
                send = await desk.collect(plan)
                assert len(send.collected or ()) == count
                _, expected = desk.chain.writer.collect_gas(legs=count, authorisations=given)
                block = await desk.node.rpc("eth_getBlockByNumber", "latest", False)
                used = int(block["gasUsed"], 16)
                assert abs(used - expected) < max(20_000, expected // 10)


async def test_d57_a_leg_that_failed_has_no_log_and_the_others_have(
    anvil: Anvil, tmp_path: Path
) -> None:
    """More than the account holds: that leg alone is not told of."""
    async with _desk(anvil, tmp_path) as desk:
        await desk.fund(PATHS)
        send = await desk.collect(await desk.plan({PATHS[0]: ONE, PATHS[1]: 9 * ONE}))
        assert send.is_success
        assert send.collected == (_took(desk, PATHS[0], ONE),)
        assert await desk.held(PATHS[1]) == 5 * ONE


async def test_d39_what_was_collected_in_the_block_of_a_deposit_is_no_shortfall(
    anvil: Anvil, tmp_path: Path
) -> None:
    """Balances of the account say 3 arrived, though 2 more left in the same block."""
    async with _desk(anvil, tmp_path) as desk:
        await desk.fund(PATHS[:1])
        raw = await desk.sign(
            desk.chain.writer.build(await desk.plan({PATHS[0]: 2 * ONE})), Purpose.COLLECT
        )
        own = desk.own(PATHS[0])
        data = evm.call_data("mint(address,uint256)", own.address, 3 * ONE)
        await anvil.transact(to=TOKEN, data=data)
        await anvil.rpc("eth_sendRawTransaction", raw)
        await anvil.mine()
        block = await desk.chain.reader.block((await desk.chain.reader.tip()).hash)
        assert {send.collected is None for send in block.sends} == {True, False}

        moved, _ = await token_checks.moved(
            desk.chain.reader, desk.network, block, desk.network.assets["eth:USDT"], [own.key]
        )

        assert moved == {own.key: 3 * ONE}


async def test_d48_a_delegation_to_the_collector_is_no_foreign_code(
    anvil: Anvil, tmp_path: Path
) -> None:
    """A contract, and an account that delegates to something else, still are."""
    async with _desk(anvil, tmp_path) as desk:
        await desk.fund(PATHS[:1])
        await desk.collect(await desk.plan({PATHS[0]: ONE}))
        other = "0x" + "ee" * 20
        await anvil.rpc("anvil_setCode", other, "0xef0100" + TOKEN[2:])
        keys = [desk.own(PATHS[0]).key, other, TOKEN.lower(), desk.own(PATHS[1]).key]
        tip = await desk.chain.reader.tip()
        coded = await desk.chain.reader.with_code(keys, block_hash=tip.hash)
        states = await desk.chain.reader.account_states(keys, block_hash=tip.hash)
        assert coded == {other, TOKEN.lower()}
        assert [states[key].delegation for key in keys] == [
            Delegation.OURS,
            Delegation.FOREIGN,
            Delegation.FOREIGN,
            Delegation.NONE,
        ]


async def test_s22_a_sweep_by_the_deposit_key_itself_is_mined(anvil: Anvil, tmp_path: Path) -> None:
    """Coin and token, also from an account that delegates to the collector."""
    async with _desk(anvil, tmp_path) as desk:
        await desk.fund(PATHS[:1])
        await desk.collect(await desk.plan({PATHS[0]: ONE}))
        await anvil.set_balance(desk.own(PATHS[0]).address, 10**18)
        for asset, amount in (("eth:USDT", 2 * ONE), ("eth:ETH", 10**17)):
            plan = AccountPlan(
                sender=desk.own(PATHS[0]),
                nonce=(await desk.state(PATHS[0])).nonce,
                payment=Pay(asset=asset, address=desk.own(LANE).address, amount_minor=amount),
                gas_limit=desk.chain.writer.gas_limit(asset),
                max_fee_per_gas=10 * GWEI,
                max_priority_fee_per_gas=1,
            )
            raw = await desk.sign(desk.chain.writer.build(plan), Purpose.SWEEP, LANE)
            await anvil.rpc("eth_sendRawTransaction", raw)
            await anvil.mine()
            block = await desk.chain.reader.block((await desk.chain.reader.tip()).hash)
            (send,) = block.sends
            assert send.transfers_out == ((asset, desk.own(LANE).key, amount),)
            assert send.collected is None


async def test_plans_that_cannot_be_collected_are_refused(anvil: Anvil, tmp_path: Path) -> None:
    async with _desk(anvil, tmp_path) as desk:
        plan = await desk.plan({PATHS[0]: ONE})
        leg = plan.legs[0]
        huge = CollectLeg(deposit=leg.deposit, amount_minor=2**96)
        late = CollectLeg(deposit=leg.deposit, amount_minor=1, authorise_nonce=2**64)
        cases: list[dict[str, Any]] = [
            {"asset": "eth:ETH"},
            {"asset": "eth:NONE"},
            {"legs": ()},
            {"legs": (leg, leg)},
            {"legs": (huge,)},
            {"legs": (late,)},
            {"nonce": -1},
            {"gas_limit": 0},
        ]
        for changes in cases:
            bad = await desk.plan({PATHS[0]: ONE}, **changes)
            with pytest.raises(BadPlan):
                desk.chain.writer.build(bad)
