"""One network of the house around a simulated chain: real PostgreSQL, books, watcher and vault.

Only the node and its miners are simulated (they pass the conformance suite). The vault is the
signer's own code behind the wire's encoding; its keys are public test vectors and hold nothing.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from embit.psbt import PSBT
from embit.script import Script
from embit.transaction import Transaction, TransactionInput, TransactionOutput

from config.chains import Family
from config.database import Database, Uow
from config.registry import Registry, load_registry
from gateway import withdrawals_store
from gateway.leases import hold
from gateway.payouts import acceptance, network_fee, recovery_store
from gateway.payouts.acceptance import BalanceMode, Charge, Order
from gateway.payouts.context import Lane, Signer
from gateway.payouts.crash import Crash, no_crash
from gateway.payouts.lane import PayoutLane
from gateway.payouts.limits import LimitTerms
from gateway.payouts.pool_verifier import PoolVerifier
from gateway.payouts.recovery_store import GENESIS_HASH
from gateway.payouts.role import build_lane
from gateway.withdrawals_store import WithdrawalRow
from ledger import balances, reconcile
from ledger.money import parse_amount
from signer.schemes.bitcoin import decode as decode_utxo
from signer.schemes.bitcoin import sign as sign_utxo
from tests.support.auditor import audit
from tests.support.clock import ManualClock, SequentialIds
from tests.support.comparing import cycle
from tests.support.payout_parts import (
    DEPTH,
    SimulatedCrash,
    VaultSigner,
    crash_at,
    settings_of,
    simulated,
)
from tests.support.sign_requests import authorise, order_body
from tests.support.simchain import SimAccount, SimUtxo
from tests.support.vault import (
    FOREIGN_BTC,
    FOREIGN_EVM,
    HandClock,
    new_folder,
    open_kit,
    public_text,
    staff_key,
    trust_client,
)
from tests.support.worlds import SimAccountWorld, SimUtxoWorld, World
from watchers import addresses, fees, inflows, rates
from watchers.chain import Chain, Pay
from watchers.follower import Follower
from watchers.network import Network

__all__ = ["Payouts", "SimulatedCrash", "crash_at"]

BRANDS = {"acme": "client-1", "bravo": "client-2"}
FOREIGN = {
    "btc": FOREIGN_BTC,
    "ltc": "rltc1qw508d6qejxtdg4y5r3zarvary0c5xw7k693xs3",  # the same program
    "eth": FOREIGN_EVM,
}
CHANGE_ROWS = 10
DEPOSIT_ROWS = 3


@dataclass(kw_only=True)
class Payouts:
    """The house on one network. Build with `Payouts.start()`.

    `database` is the owner's (tests, watcher); lanes work under `role`, gateway_payouts.
    """

    network: str
    registry: Registry
    database: Database
    role: Database
    clock: ManualClock
    ids: SequentialIds
    world: World
    chain: Chain
    signer: VaultSigner
    follower: Follower
    is_compared: bool = True  # False where a test plants what the books cannot know
    numbers: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    @classmethod
    async def start(
        cls,
        network: str,
        *,
        database: Database,
        role: Database,
        clock: ManualClock,
        ids: SequentialIds,
        folder: Path,
        world: World | None = None,
        overrides: Mapping[str, Any] | None = None,
        change_rows: int = CHANGE_ROWS,
    ) -> "Payouts":
        """Brands, verified pool, fee sample and a followed chain; nothing in the books yet.

        Without `world` the chain is a simulated one. `overrides` are of the network's settings.
        """
        registry = load_registry(settings_of(network, **(overrides or {})))
        world = world or simulated(network)
        chain = world.chain
        kit = open_kit(new_folder(folder), HandClock(int(clock.now().timestamp())))
        staff = {name: public_text(staff_key(name)) for name in ("alice", "bob")}
        kit.statement("staff_add", {"staff": staff}, people=())
        for brand, keyid in BRANDS.items():
            trust_client(kit, keyid, brand=brand)
        spec = registry.chains[network]
        house = cls(
            network=network,
            registry=registry,
            database=database,
            role=role,
            clock=clock,
            ids=ids,
            world=world,
            chain=chain,
            signer=VaultSigner(kit),
            follower=Follower(
                chain=chain,
                network=Network(
                    spec=spec, assets=registry.assets, ids=ids, reversed_per_step_max=20
                ),
                database=database,
                clock=clock,
                holder="test",
                start_height=None,
            ),
        )
        await house._brands()
        await house._pool(change_rows)
        async with role.unit_of_work() as uow:  # what a first lane writes
            await recovery_store.move_place(
                uow, network, sequence=0, entry_hash=GENESIS_HASH, at=clock.now()
            )
        await house.sample_fees()
        await house.follow()
        return house

    async def _brands(self) -> None:
        async with self.database.unit_of_work() as uow:
            for brand, settings in self.registry.settings.brands.items():
                await uow.execute(
                    "INSERT INTO gateway.brands (id, account_index, balance_mode, created_at) "
                    "VALUES (:id, :index, 'shared', :at)",
                    {"id": brand, "index": settings.account_index, "at": self.clock.now()},
                )

    async def _pool(self, change_rows: int) -> None:
        """Hot and change addresses of the operator, as the watcher would write them."""
        own = ("hot", "gas") if self.is_account_based else ("hot", "change")
        lanes = range(self.registry.chains[self.network].hot_lanes)
        rows = [self._pool_row("hot", 0, 0, index) for index in lanes]
        rows += [self._pool_row(own[1], 0, 1, index) for index in range(change_rows)]
        rows += [self._pool_row("deposit", 1, 0, index) for index in range(DEPOSIT_ROWS)]
        async with self.database.unit_of_work() as uow:
            await addresses.add(uow, rows, at=self.clock.now())
        verifier = PoolVerifier(
            self.network,
            database=self.role,
            signer=self.signer,
            clock=self.clock,
            ids=self.ids,
        )
        verified = await verifier.verify_batch()
        if verified != len(rows):
            raise RuntimeError(f"{verified} of {len(rows)} pool rows agree")

    def _pool_row(self, role: str, account: int, branch: int, index: int) -> dict[str, Any]:
        path = f"{self.registry.chains[self.network].account_path(account)}/{branch}/{index}"
        address = self.signer.kit.address(self.network, path)
        return {
            "id": self.ids.new_id(),
            "network": self.network,
            "role": role,
            "brand": "acme" if role == "deposit" else None,
            "account": account,
            "branch": branch,
            "address_index": index,
            "path": path,
            "key": self.chain.codec.parse(address).key,
            "address": address,
            "scheme": "eoa" if self.is_account_based else "p2wpkh",
        }

    @property
    def is_account_based(self) -> bool:
        """EVM."""
        return self.registry.chains[self.network].family is Family.EVM

    @property
    def sim(self) -> SimUtxo | SimAccount:
        """The simulated chain; only where the house stands on one."""
        if not isinstance(self.world, SimUtxoWorld | SimAccountWorld):
            raise TypeError("the house stands on a real node")
        return self.world.sim

    @property
    def native(self) -> str:
        """The native asset."""
        return self.registry.chains[self.network].native_asset

    def minor(self, asset: str, text: str) -> int:
        """An amount in minor units."""
        return parse_amount(text, decimals=self.registry.assets[asset].decimals)

    async def sample_fees(self) -> None:
        """What the watcher does every minute."""
        quote = await self.chain.writer.fee_quote()
        async with self.database.unit_of_work() as uow:
            await fees.record(uow, network=self.network, quote=quote, at=self.clock.now())

    async def follow(self) -> None:
        """Follow the simulated tip to its end."""
        while True:
            position = await self.follower.take_lease()
            if position is None:
                raise RuntimeError("somebody else follows")
            if not await self.follower.follow(position):
                return

    async def mine(self, count: int = 1) -> None:
        """Mine what waits and follow; the cycle compares books and chain (L12)."""
        await self.world.mine(count)
        await self.follow()
        await cycle(self)

    async def fund(
        self, asset: str, amount: str, *, into: str = "capital", lane: int = 0, at: str = ""
    ) -> None:
        """Pay a hot lane, or our address `at`, from outside and book it: `capital`, or a brand's
        clearing."""
        async with self.database.unit_of_work() as uow:
            hot = await addresses.own_address(uow, network=self.network, role="hot", lane=lane)
        minor = self.minor(asset, amount)
        pay = Pay(asset=asset, address=at or hot.address, amount_minor=minor)
        [txid] = await self.world.pay([pay])
        await self.mine(DEPTH if not self.is_account_based else 4)
        async with self.database.unit_of_work() as uow:
            [row] = [r for r in await inflows.find(uow, network=self.network) if r.txid == txid]
            done = await inflows.assign(
                uow,
                inflow_id=row.id,
                target="capital" if into == "capital" else "clearing",
                brand=None if into == "capital" else into,
                ids=self.ids,
                at=self.clock.now(),
            )
        if done is None:
            raise RuntimeError(f"the inflow is {row.state}, not booked")

    async def deposit(self, player_id: str, amount: str) -> str:
        """A player's deposit in the native coin, final; the txid."""
        async with self.database.unit_of_work() as uow:
            row = await addresses.hand_out(
                uow,
                brand="acme",
                player_id=player_id,
                network=self.network,
                at=self.clock.now(),
            )
        minor = self.minor(self.native, amount)
        pay = Pay(asset=self.native, address=row.address, amount_minor=minor)
        [txid] = await self.world.pay([pay])
        await self.mine(DEPTH if not self.is_account_based else 4)
        return txid

    async def request(self, amount: str, **changes: Any) -> WithdrawalRow:
        """A client's signed withdrawal, accepted into the books."""
        number = next(self.numbers)
        brand = changes.pop("brand", "acme")
        asset = changes.pop("asset", self.native)
        valid_for = changes.pop("valid_for", timedelta(days=7))
        address = changes.pop("address", FOREIGN[self.network])
        body = order_body(
            request_id=f"r-{number}",
            asset=asset,
            amount=amount,
            address=address,
            **changes,
        )
        at = self.clock.now()
        signed = authorise(
            body, created=int(at.timestamp()), keyid=BRANDS[brand], nonce=f"nonce-{number}"
        )
        destination = self.chain.codec.parse(body["address"])
        order = Order(
            brand=brand,
            request_id=body["request_id"],
            player_id=body["player_id"],
            network=self.network,
            asset=asset,
            address=destination.address,
            address_key=destination.key,
            amount_minor=self.minor(asset, amount),
            pam_balance_minor=0,
            minimum_minor=1,
            fee_class=body["fee_class"],
            metadata={},
            valid_until=at + valid_for,
            promise_at=at + timedelta(minutes=15),
            key_id=BRANDS[brand],
            signed=signed,
        )
        async with self.database.unit_of_work() as uow:
            if body["fee_mode"] == "player":
                order = replace(order, charge=await self._charge(uow, order, body["max_fee"]))
            return await acceptance.accept(
                uow,
                order,
                balance_mode=BalanceMode.SHARED,
                terms=LimitTerms.of(self.registry),
                ids=self.ids,
                at=at,
            )

    async def _charge(self, uow: Uow, order: Order, max_fee: str) -> Charge:
        asset = self.registry.assets[order.asset]
        fee = await network_fee.estimate(
            uow,
            self.registry,
            asset=asset,
            key=order.address_key,
            fee_class=order.fee_class,
            at=self.clock.now(),
        )
        return Charge.of(fee, max_minor=self.minor(order.asset, max_fee))

    async def rate(self, asset: str, rate: str) -> None:
        """A rate of now, agreed by two people."""
        async with self.database.unit_of_work() as uow:
            await rates.record(
                uow,
                rate_id=self.ids.new_id(),
                asset=asset,
                rate=Decimal(rate),
                source="staff",
                as_of=self.clock.now(),
                entered_by="ada",
                approved_by="grace",
                reference=self.registry.policy.reference,
                at=self.clock.now(),
            )

    def lane(
        self,
        *,
        crash: Crash = no_crash,
        chain: Chain | None = None,
        signer: Signer | None = None,
    ) -> Lane:
        """A fresh process: new lease holder, empty memory."""
        return build_lane(
            self.network,
            self.registry,
            database=self.role,
            chain=chain or self.chain,
            signer=signer or self.signer,
            clock=self.clock,
            ids=self.ids,
            crash=crash,
        )

    async def cycle(self, lane: Lane | None = None, *, times: int = 1) -> Lane:
        """Run whole cycles of a lane; a dead holder's lease has passed by then."""
        lane = lane or self.lane()
        if lane.lease.is_held:
            await self._renew(lane)
        else:
            await self.expire_lease()
            await hold(self.role, lane.lease)
        loop = PayoutLane(lane)
        for _ in range(times):
            await loop.cycle()
        return lane

    async def _renew(self, lane: Lane) -> None:
        """What the role's own task does every few seconds while nobody else has it: a slow machine
        must not decide a test."""
        async with self.database.unit_of_work() as uow:
            await uow.execute(
                "UPDATE gateway.leases SET expires_at = clock_timestamp() + interval '1 minute' "
                "WHERE name = :name AND fence = :fence",
                {"name": lane.lease.name, "fence": lane.lease.fence},
            )

    async def expire_lease(self) -> None:
        """What waiting does after the holder died."""
        async with self.database.unit_of_work() as uow:
            await uow.execute("UPDATE gateway.leases SET expires_at = clock_timestamp()")

    async def row(self, withdrawal: WithdrawalRow) -> WithdrawalRow:
        """The row as it is now."""
        async with self.database.unit_of_work() as uow:
            found = await withdrawals_store.get(uow, withdrawal.id)
        if found is None:
            raise LookupError(str(withdrawal.id))
        return found

    async def states(self, *rows: WithdrawalRow) -> list[str]:
        """The states of withdrawals now."""
        return [(await self.row(row)).state for row in rows]

    async def history(self, row: WithdrawalRow) -> list[str]:
        """Every state a withdrawal had, in order."""
        async with self.database.unit_of_work() as uow:
            result = await uow.execute(
                "SELECT to_state FROM ledger.state_history WHERE object_id = :id ORDER BY version",
                {"id": row.id},
            )
            return list(result.scalars())

    async def alarms(self) -> list[str]:
        """Kinds of the open alarms."""
        async with self.database.unit_of_work() as uow:
            result = await uow.execute(
                "SELECT kind FROM gateway.alarms WHERE cleared_at IS NULL ORDER BY kind"
            )
            return list(result.scalars())

    async def steal_inputs_of(self, txid: str) -> str:
        """Spend the coins of a pooled tx of ours with the same keys, to elsewhere; the new txid."""
        raw, stolen = await self.theft_of(self.sim.pool.pop(txid))
        self.sim.pool[stolen] = raw
        return stolen

    async def theft_of(self, signed: bytes) -> tuple[bytes, str]:
        """(bytes, txid) of a tx with the coins of one of ours, by the same keys, to elsewhere."""
        self.is_compared = False  # a theft is a break
        tx = Transaction.parse(signed)
        async with self.database.unit_of_work() as uow:
            rows = await uow.execute(
                "SELECT path, raw AS previous_tx, txid, vout FROM chain.coins "
                "JOIN chain.previous_txs USING (network, txid) WHERE reserved_by IS NOT NULL "
                "ORDER BY txid, vout"
            )
            spent = {(item.txid.hex(), item.vout) for item in tx.vin}
            coins = [coin for coin in rows.all() if (coin.txid, coin.vout) in spent]
        theft = PSBT(
            Transaction(
                version=2,
                vin=[TransactionInput(item.txid, item.vout, sequence=0) for item in tx.vin],
                vout=[TransactionOutput(1_000, Script(bytes.fromhex("51")))],
                locktime=0,
            )
        )
        for scope, coin in zip(theft.inputs, coins, strict=True):
            previous = Transaction.parse(bytes(coin.previous_tx))
            scope.non_witness_utxo = previous
            scope.witness_utxo = previous.vout[coin.vout]
        network = self.signer.kit.settings.networks[self.network]
        return sign_utxo(
            decode_utxo(
                theft.serialize(),
                tuple(coin.path for coin in coins),
                keyring=self.signer.kit.keyring,
                network=network,
            ),
            self.signer.kit.keyring,
        )

    async def assert_at_rest(self) -> None:
        """The books balance, and nothing of a payout is left reserved, in flight or open."""
        async with self.database.unit_of_work() as uow:
            books = await balances.trial_balance(uow)
            held = await uow.execute(
                "SELECT count(*) FROM ledger.holds WHERE state IN ('open', 'captured')"
            )
            assert held.scalar_one() == 0
            breaks = await reconcile.check_books(uow)
        assert books.is_balanced
        assert breaks == []
        found = await audit(self.database.engine, at_rest=False)
        assert found == [], found

    def paid(self, row: WithdrawalRow, *, asset: str | None = None) -> int:
        """How often the active chain pays exactly this output to the row's address."""
        wanted = (asset or row.asset, row.address_key, row.output_minor)
        return sum(
            (item.asset, item.to_key, item.amount_minor) == wanted
            for name in self.sim.active
            for item in self.sim.blocks[name].effects.transfers
        )
