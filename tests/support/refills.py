"""A payout house with a cold wallet, and its people: they ask, sign outside and bring files."""

import json
from dataclasses import dataclass, replace
from typing import Any, Final

from eth_account import Account

from config.rebalance_policy import RebalancePolicy
from config.settings import ColdSettings
from gateway.payouts import rebalances, rebalances_store, refills_store
from gateway.payouts.approvals import Staff
from gateway.payouts.rebalances import Direction, Trigger, Wish
from gateway.payouts.rebalances_store import RebalanceRow
from ledger import accounts, balances
from tests.support.bumps import network_of
from tests.support.cold import ColdPeople
from tests.support.payouts import Payouts
from tests.support.people import PEOPLE, employ
from tests.support.sign_requests import approval
from tests.support.vault import staff_key
from watchers import addresses, cold, outgoing, registry
from watchers.addresses import AddressRole
from watchers.cold_spends import ColdProgress
from watchers.outgoing import OutgoingRow
from watchers.registry import bitcoin_params

POLICY = RebalancePolicy(
    two_people_above_minor=0, is_automatic=False, pause_seconds=60, valid_seconds=86_400
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RefillHouse:
    """A house whose cold wallet is watched, and what is asked of it."""

    house: Payouts

    async def asked(
        self, amount: str, *, asset: str | None = None, people: tuple[str, ...] = PEOPLE
    ) -> RebalanceRow:
        """A refill that these people signed, as the API takes it."""
        house, asset = self.house, asset or self.house.native
        async with house.database.unit_of_work() as uow:
            hot = await addresses.own_address(uow, network=house.network, role="hot")
            wish = Wish(
                network=house.network,
                asset=asset,
                direction=Direction.COLD_TO_HOT,
                amount_minor=house.minor(asset, amount),
                address=hot.address,
                address_key=hot.key,
                reason="payouts wait",
                forecast=None,
                requested_by=PEOPLE[0],
            )
            row = await rebalances.propose(
                uow, wish, policy=POLICY, ids=house.ids, at=house.clock.now()
            )
            assert row is not None
        return await self.agree(row, people)

    async def agree(self, row: RebalanceRow, people: tuple[str, ...] = PEOPLE) -> RebalanceRow:
        """These people sign it, as the API takes it."""
        house = self.house
        async with house.database.unit_of_work() as uow:
            for person in people:
                row = await rebalances.approve(
                    uow, row, rebalances.words_of(row), self._staff(person, row),
                    policy=POLICY, ids=house.ids, at=house.clock.now(),
                )  # fmt: skip
        return row

    def _staff(self, person: str, row: RebalanceRow) -> Staff:
        body = {"rebalance_id": str(row.id)}
        claim = approval(
            person,
            body,
            action="approve",
            key=staff_key(person),
            target=f"/v1/rebalances/{row.id}/approve",
            created=int(self.house.clock.now().timestamp()),
        )
        assert json.loads(claim.body) == body
        return Staff(key_id=f"{person}-key", person=person, signed=claim)

    async def now(self, row: RebalanceRow) -> RebalanceRow:
        """The row as it is now."""
        async with self.house.database.unit_of_work() as uow:
            found = await rebalances_store.get(uow, row.id)
        assert found is not None
        return found

    async def tx(self, row: RebalanceRow) -> OutgoingRow:
        """What is signed, or was."""
        found = await self.now(row)
        assert found.attempt_id is not None
        async with self.house.database.unit_of_work() as uow:
            tx = await outgoing.get(uow, found.attempt_id)
        assert tx is not None
        return tx

    async def upload(self, row: RebalanceRow, file: bytes) -> ColdProgress:
        """What the API does with a signed file."""
        house, spec = self.house, self.house.registry.chains[self.house.network]
        tx = await self.tx(row)
        found = registry.cold_signatures(
            spec, unsigned=tx.unsigned, upload=file, sender_key=tx.sender_key
        )
        async with house.database.unit_of_work() as uow:
            locked = await rebalances_store.get(uow, row.id, lock=True)
            assert locked is not None
            await refills_store.add(
                uow, rebalance_id=row.id, attempt_id=tx.id, signatures=found,
                person=PEOPLE[0], at=house.clock.now(),
            )  # fmt: skip
            every = await refills_store.of_attempt(uow, tx.id)
            progress = registry.cold_progress(
                spec, unsigned=tx.unsigned, signatures=every, sender_key=tx.sender_key
            )
            if progress.raw is not None:
                await rebalances.move(
                    uow, locked, Trigger.SIGN, {}, ids=house.ids, at=house.clock.now()
                )
        return progress

    async def custody(self, asset: str | None = None) -> dict[str, int]:
        """What the books say, by wallet."""
        house, asset = self.house, asset or self.house.native
        async with house.database.unit_of_work() as uow:
            return {
                name: await balances.balance(uow, accounts.custody(house.network, name, asset))
                for name in ("hot", "cold")
            }

    async def cold_addresses(self) -> tuple[addresses.AddressRow, ...]:
        """Every watched address of the wallet."""
        async with self.house.database.unit_of_work() as uow:
            return await addresses.by_role(
                uow, network=self.house.network, roles=(AddressRole.COLD,)
            )

    async def events(self) -> list[Any]:
        """Types of the events about rebalances, in order."""
        async with self.house.database.unit_of_work() as uow:
            found = await uow.execute(
                "SELECT type FROM ledger.events WHERE object_kind = 'rebalance' ORDER BY position"
            )
            return list(found.scalars())


@dataclass(frozen=True, slots=True, kw_only=True)
class ColdHouse(RefillHouse):
    """With a wallet of coins; `people` have its keys, elsewhere."""

    people: ColdPeople

    @classmethod
    async def of(cls, house: Payouts, people: ColdPeople, *, coins: int = 2) -> "ColdHouse":
        """Capital, a hot wallet of 2, and so many cold coins of 1."""
        spec = house.registry.chains[house.network]
        wallet = people.wallet(bitcoin_params(spec))
        first = wallet.derive(branch=0, index=0).address
        settings = ColdSettings(address=first, descriptor=people.text(), addresses=10)
        await watched(house, settings)
        await house.fund(house.native, "2")
        for index in range(coins):
            await house.fund(house.native, "1", at=wallet.derive(branch=0, index=index).address)
        return cls(house=house, people=people)

    async def sign(self, row: RebalanceRow) -> ColdProgress:
        """As many people as it takes sign on their devices; the last file comes back."""
        file = (await self.tx(row)).unsigned
        for person in range(self.people.threshold):
            file = self.people.sign(file, person)
        return await self.upload(row, file)


COLD_ACCOUNT: Final = Account.from_key(  # of the documentation of web3.js; never of any value
    "0x4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountHouse(RefillHouse):
    """With a cold account, whose owner signs with a tool of their own (eth-account)."""

    @classmethod
    async def of(cls, house: Payouts) -> "AccountHouse":
        """Capital; hot and cold have 2 coins each, cold 100 tokens beside."""
        await watched(house, ColdSettings(address=COLD_ACCOUNT.address))
        await house.fund(house.native, "2")
        await house.fund(house.native, "2", at=COLD_ACCOUNT.address)
        await house.fund("eth:USDT", "100", at=COLD_ACCOUNT.address)
        return cls(house=house)

    async def moved_to(self, address: str, *, amount: str) -> None:
        """Another cold account is named and gets so much; the old one is still watched."""
        await _named(self.house, ColdSettings(address=address))
        await self.house.fund(self.house.native, amount, at=address)

    async def signed(self, row: RebalanceRow) -> bytes:
        """The raw transaction, from what the API gives to people."""
        spec = self.house.registry.chains[self.house.network]
        named = registry.cold_transaction(spec, (await self.tx(row)).unsigned)
        return bytes(COLD_ACCOUNT.sign_transaction(dict(named or {})).raw_transaction)

    async def sign(self, row: RebalanceRow) -> ColdProgress:
        """The owner signs and brings it back."""
        return await self.upload(row, await self.signed(row))


async def watched(house: Payouts, settings: ColdSettings) -> None:
    """The cold wallet is configured and watched; two people work here."""
    await _named(house, settings)
    await employ(house)


async def _named(house: Payouts, settings: ColdSettings) -> None:
    """It is configured and watched."""
    policies = {asset.id: POLICY for asset in house.registry.assets_of(house.network)}
    house.registry = replace(
        house.registry,
        settings=house.registry.settings.model_copy(update={"cold": {house.network: settings}}),
        policy=replace(house.registry.policy, rebalances=policies),
    )
    await cold.register(house.database, network_of(house), settings, clock=house.clock)
