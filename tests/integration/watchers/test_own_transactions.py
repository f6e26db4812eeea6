"""Our own transactions, coins and nonces: reserved once, observed by effect, never a deposit."""

import asyncio
from uuid import UUID

import pytest

from ledger import journal
from ledger.accounts import clearing, custody
from ledger.journal import ChainEffect, Posting, credit, debit
from tests.integration.watchers.conftest import AccountBench, UtxoBench
from tests.support.watching import Watch
from tests.support.worlds import Wallet
from watchers import addresses, coins, nonces, outgoing
from watchers.chain import AccountPlan, Outpoint, Pay, UtxoPlan
from watchers.errors import AttemptConflict, CoinTaken, PoolEmpty
from watchers.outgoing import ChangeOutput, OutgoingDraft, OutgoingRow, PlannedPayment

pytestmark = pytest.mark.postgres

HALF = 50_000_000
FEE = 2_000
OUTSIDE = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"  # BIP 173's example key
ETHER = 10**18
GWEI = 10**9


class UtxoPayouts:
    """Plays the payout role on the UTXO chain, with its database role."""

    def __init__(self, bench: UtxoBench) -> None:
        self.watch = bench.watch
        self.sim = bench.sim
        self.wallets = {
            account: Wallet(
                bench.watch.chain, account_path=f"m/84h/1h/{account}h", version="regtest"
            )
            for account in (0, 1, 2)
        }

    async def spendable(self) -> list[coins.CoinRow]:
        async with self.watch.as_payouts.unit_of_work() as uow:
            return await coins.spendable(uow, network="btc", limit=100)

    async def pay(self, address: str, amount: int) -> OutgoingRow:
        """Plan, sign and send one payment out of the largest spendable coin."""
        watch, at = self.watch, self.watch.clock.now()
        attempt_id = watch.ids.new_id()
        async with watch.as_payouts.unit_of_work() as uow:
            (coin, *_) = await coins.spendable(uow, network="btc", limit=1)
            change = await addresses.own_address(uow, network="btc", role="change")
            change_minor = coin.amount_minor - amount - FEE
            unsigned = watch.chain.writer.build(
                UtxoPlan(
                    coins=(coin.coin(),),
                    payments=(Pay(asset="btc:BTC", address=address, amount_minor=amount),),
                    change=change.derived(),
                    change_minor=change_minor,
                )
            )
            (vout,) = unsigned.change_outputs
            key = watch.chain.codec.parse(address).key
            await outgoing.record(
                uow,
                OutgoingDraft(
                    id=attempt_id,
                    network="btc",
                    purpose="withdrawal",
                    family_id=attempt_id,
                    unsigned=unsigned.data,
                    payments=(
                        PlannedPayment(
                            asset="btc:BTC", address=address, key=key, amount_minor=amount
                        ),
                    ),
                    fee_cap_minor=unsigned.fee_minor,
                    inputs=(coin.outpoint,),
                    change=(
                        ChangeOutput(vout=vout, address_id=change.id, amount_minor=change_minor),
                    ),
                ),
                at=at,
            )
            await coins.reserve(uow, attempt_id=attempt_id, outpoints=[coin.outpoint])
        account = int(coin.path.split("/")[3].removesuffix("h"))
        raw = self.wallets[account].sign(unsigned)
        txid, _ = self.sim.judge(raw)
        async with watch.as_payouts.unit_of_work() as uow:
            await outgoing.mark_signed(uow, attempt_id=attempt_id, raw=raw, txid=txid, at=at)
            await outgoing.mark_broadcast(uow, attempt_id=attempt_id, at=at)
        await watch.chain.writer.send(raw)
        return await self.get(attempt_id)

    async def get(self, attempt_id: UUID) -> OutgoingRow:
        async with self.watch.as_payouts.unit_of_work() as uow:
            row = await outgoing.get(uow, attempt_id)
        assert row
        return row


async def funded(bench: UtxoBench) -> UtxoPayouts:
    """anna deposited 0.5 coins, final; they may be spent."""
    anna = await bench.watch.address("anna")
    bench.sim.pay([(anna.address, HALF)])
    bench.sim.mine(3)
    await bench.watch.follow()
    return UtxoPayouts(bench)


async def settle(watch: Watch, row: OutgoingRow) -> None:
    """Takes payment and fee out of clearing: what the payouts' settlement does, in short."""
    assert row.block_hash is not None
    assert row.height is not None
    assert row.fee_minor is not None
    amount = row.payments[0].amount_minor
    posting = Posting(
        reference=f"settle:{row.id}",
        kind="withdrawal_settled",
        entries=(
            debit(clearing("acme", "btc:BTC"), amount + row.fee_minor),
            credit(custody("btc", "hot", "btc:BTC"), amount + row.fee_minor),
        ),
        effect=ChainEffect(network="btc", block_hash=row.block_hash, height=row.height),
    )
    async with watch.as_payouts.unit_of_work() as uow:
        await journal.post(uow, posting, posting_id=watch.ids.new_id(), at=watch.clock.now())
        await outgoing.mark_settled(uow, attempt_id=row.id, block_hash=row.block_hash)


async def test_d17_our_payout_to_a_players_address_is_paid_once_and_credited_once(
    utxo: UtxoBench,
) -> None:
    payouts = await funded(utxo)
    ben = await utxo.watch.address("ben")
    sent = await payouts.pay(ben.address, HALF // 5)
    utxo.sim.mine(3)
    await utxo.watch.follow()

    paid = await payouts.get(sent.id)
    assert (paid.state, paid.is_paid_as_planned, paid.fee_minor) == ("final", True, FEE)
    first, second = await utxo.watch.deposits()
    assert (first.player_id, first.is_internal, first.state) == ("ben", True, "final")
    assert (second.player_id, second.is_internal) == ("anna", False)
    await utxo.watch.audit()
    await settle(utxo.watch, paid)
    await utxo.watch.audit()


async def test_d18_our_change_is_neither_a_deposit_nor_an_inflow(utxo: UtxoBench) -> None:
    payouts = await funded(utxo)
    await payouts.pay(OUTSIDE, HALF // 5)
    utxo.sim.mine(3)
    await utxo.watch.follow()
    assert len(await utxo.watch.deposits()) == 1
    assert "suspense:btc:BTC" not in await utxo.watch.books()
    (change,) = await payouts.spendable()
    assert (change.amount_minor, change.is_own_change) == (HALF - HALF // 5 - FEE, True)
    await utxo.watch.audit()


async def test_own_change_is_selectable_at_once_up_to_ten_unconfirmed_ancestors(
    utxo: UtxoBench,
) -> None:
    payouts = await funded(utxo)
    for _ in range(10):
        await payouts.pay(OUTSIDE, 100_000)
    assert len(await payouts.spendable()) == 1
    await payouts.pay(OUTSIDE, 100_000)
    assert await payouts.spendable() == []

    utxo.sim.mine()
    await utxo.watch.follow()
    assert len(await payouts.spendable()) == 1
    await utxo.watch.audit()


async def test_foreign_coins_wait_for_their_full_tier(utxo: UtxoBench) -> None:
    anna = await utxo.watch.address("anna")
    utxo.sim.pay([(anna.address, HALF)])
    utxo.sim.mine(2)
    await utxo.watch.follow()
    payouts = UtxoPayouts(utxo)
    assert await payouts.spendable() == []
    utxo.sim.mine()
    await utxo.watch.follow()
    assert len(await payouts.spendable()) == 1


async def test_a_reorg_takes_our_tx_back_to_seen_and_its_coins_with_it(utxo: UtxoBench) -> None:
    payouts = await funded(utxo)
    sent = await payouts.pay(OUTSIDE, HALF // 5)
    utxo.sim.mine(3)
    await utxo.watch.follow()
    assert (await payouts.get(sent.id)).state == "final"

    utxo.sim.rewind(3)
    for _ in range(4):
        utxo.sim.mine_exactly([])
    await utxo.watch.follow()
    back = await payouts.get(sent.id)
    assert (back.state, back.height, back.is_paid_as_planned) == ("seen", None, None)
    await utxo.watch.audit()

    utxo.sim.mine(3)
    await utxo.watch.follow()
    assert (await payouts.get(sent.id)).state == "final"
    await utxo.watch.audit()


async def test_p22_two_batches_never_reserve_one_coin(utxo: UtxoBench) -> None:
    anna = await utxo.watch.address("anna")
    utxo.sim.pay([(anna.address, HALF), (anna.address, HALF)])
    utxo.sim.mine(3)
    await utxo.watch.follow()
    wanted = [row.outpoint for row in await UtxoPayouts(utxo).spendable()]
    assert len(wanted) == 2

    async def reserve(outpoints: list[Outpoint]) -> UUID:
        attempt_id = utxo.watch.ids.new_id()
        async with utxo.watch.as_payouts.unit_of_work() as uow:
            await outgoing.record(uow, bare_draft(attempt_id), at=utxo.watch.clock.now())
            await coins.reserve(uow, attempt_id=attempt_id, outpoints=outpoints)
        return attempt_id

    results = await asyncio.gather(reserve(wanted), reserve(wanted[::-1]), return_exceptions=True)
    assert sum(isinstance(result, CoinTaken) for result in results) == 1
    assert await UtxoPayouts(utxo).spendable() == []

    (winner,) = [result for result in results if isinstance(result, UUID)]
    async with utxo.watch.as_payouts.unit_of_work() as uow:
        await outgoing.drop_unsigned(uow, attempt_id=winner, at=utxo.watch.clock.now())
    assert len(await UtxoPayouts(utxo).spendable()) == 2


async def test_signed_bytes_are_stored_once_and_keep_their_coins(utxo: UtxoBench) -> None:
    payouts = await funded(utxo)
    sent = await payouts.pay(OUTSIDE, HALF // 5)
    assert sent.raw is not None
    assert sent.txid is not None
    at = utxo.watch.clock.now()
    async with utxo.watch.as_payouts.unit_of_work() as uow:
        again = await outgoing.mark_signed(
            uow, attempt_id=sent.id, raw=sent.raw, txid=sent.txid, at=at
        )
    assert again.version == sent.version
    with pytest.raises(AttemptConflict):
        async with utxo.watch.as_payouts.unit_of_work() as uow:
            await outgoing.mark_signed(uow, attempt_id=sent.id, raw=b"other", txid="aa" * 32, at=at)
    with pytest.raises(AttemptConflict):
        async with utxo.watch.as_payouts.unit_of_work() as uow:
            await outgoing.drop_unsigned(uow, attempt_id=sent.id, at=at)


def bare_draft(attempt_id: UUID) -> OutgoingDraft:
    """An attempt without payments, to hold a reservation."""
    return OutgoingDraft(
        id=attempt_id,
        network="btc",
        purpose="withdrawal",
        family_id=attempt_id,
        unsigned=b"unsigned",
        payments=(),
        fee_cap_minor=0,
    )


async def test_p18_fifty_concurrent_allocations_are_fifty_consecutive_nonces(
    account: AccountBench,
) -> None:
    watch = account.watch

    async def allocate(attempt_id: UUID) -> int:
        async with watch.as_payouts.unit_of_work() as uow:
            return await nonces.allocate(
                uow, network="eth", sender_key="0x" + "ab" * 20, attempt_id=attempt_id
            )

    attempts = [watch.ids.new_id() for _ in range(50)]
    found = await asyncio.gather(*(allocate(attempt_id) for attempt_id in attempts))
    assert sorted(found) == list(range(50))
    assert await allocate(attempts[7]) == found[7]

    async with watch.as_payouts.unit_of_work() as uow:
        await nonces.give_back(uow, attempt_id=attempts[7])
    assert await allocate(watch.ids.new_id()) == found[7]
    assert await allocate(watch.ids.new_id()) == 50


class AccountPayouts:
    """Plays the payout role on the account chain: one payment at a nonce."""

    def __init__(self, bench: AccountBench) -> None:
        self.watch = bench.watch
        self.sim = bench.sim
        self.wallet = Wallet.of(bench.watch.chain)

    async def fund(self) -> None:
        """The hot account gets two coins from outside, as an inflow."""
        hot = self.wallet.address(0)
        self.sim.pay("eth:ETH", hot.address, 2 * ETHER)
        self.sim.mine(32)
        await self.watch.follow()

    async def pay(self, address: str, *, planned: int, sent: int, nonce: int) -> UUID:
        """Record a plan of `planned` wei, but sign and send a tx of `sent`."""
        attempt_id, raw, txid = await self.plan(address, planned=planned, sent=sent, nonce=nonce)
        at = self.watch.clock.now()
        async with self.watch.as_payouts.unit_of_work() as uow:
            await outgoing.mark_signed(uow, attempt_id=attempt_id, raw=raw, txid=txid, at=at)
        await self.watch.chain.writer.send(raw)
        return attempt_id

    async def plan(
        self, address: str, *, planned: int, sent: int, nonce: int
    ) -> tuple[UUID, bytes, str]:
        """Record the plan alone; its id, bytes and txid as the signer would give them."""
        watch, at = self.watch, self.watch.clock.now()
        attempt_id = watch.ids.new_id()
        hot = self.wallet.address(0)
        unsigned = watch.chain.writer.build(
            AccountPlan(
                sender=hot,
                nonce=nonce,
                payment=Pay(asset="eth:ETH", address=address, amount_minor=sent),
                gas_limit=21_000,
                max_fee_per_gas=100 * GWEI,
                max_priority_fee_per_gas=GWEI,
            )
        )
        raw = self.wallet.sign(unsigned)
        txid, _ = self.sim.judge(raw)
        payment = PlannedPayment(
            asset="eth:ETH",
            address=address,
            key=watch.chain.codec.parse(address).key,
            amount_minor=planned,
        )
        async with watch.as_payouts.unit_of_work() as uow:
            await outgoing.record(
                uow,
                OutgoingDraft(
                    id=attempt_id,
                    network="eth",
                    purpose="withdrawal",
                    family_id=attempt_id,
                    unsigned=unsigned.data,
                    payments=(payment,),
                    fee_cap_minor=unsigned.fee_minor,
                    sender_key=hot.key,
                    nonce=nonce,
                ),
                at=at,
            )
        return attempt_id, raw, txid

    async def get(self, attempt_id: UUID) -> OutgoingRow:
        async with self.watch.as_payouts.unit_of_work() as uow:
            row = await outgoing.get(uow, attempt_id)
        assert row is not None
        return row


PAYEE = "0x00000000000000000000000000000000000000AA"
OTHER_PAYEE = "0x00000000000000000000000000000000000000bb"


async def test_p29_an_account_payout_is_paid_by_evidence_not_by_intent(
    account: AccountBench,
) -> None:
    payouts = AccountPayouts(account)
    await payouts.fund()
    good = await payouts.pay(PAYEE, planned=ETHER // 2, sent=ETHER // 2, nonce=0)
    bad = await payouts.pay(PAYEE, planned=ETHER // 2, sent=ETHER // 4, nonce=1)
    account.sim.mine(32)
    await account.watch.follow()
    assert (await payouts.get(good)).is_paid_as_planned is True
    assert (await payouts.get(bad)).is_paid_as_planned is False
    assert (await payouts.get(good)).state == "final"
    await account.watch.audit()


async def test_p29_a_reverted_payout_is_not_paid_and_costs_only_its_fee(
    account: AccountBench,
) -> None:
    payouts = AccountPayouts(account)
    await payouts.fund()
    account.sim.rejecting.add(PAYEE.lower())
    attempt = await payouts.pay(PAYEE, planned=ETHER // 2, sent=ETHER // 2, nonce=0)
    account.sim.mine(32)
    await account.watch.follow()
    row = await payouts.get(attempt)
    assert (row.state, row.is_success, row.is_paid_as_planned) == ("reverted", False, False)
    assert row.moved == ()
    await account.watch.audit()


async def test_another_tx_at_our_nonce_is_a_conflict_and_final_replaces(
    account: AccountBench,
) -> None:
    payouts = AccountPayouts(account)
    await payouts.fund()
    attempt = await payouts.pay(PAYEE, planned=ETHER // 2, sent=ETHER // 2, nonce=0)
    txid = (await payouts.get(attempt)).txid
    assert txid is not None
    account.sim.drop(txid)
    other = await payouts.pay(PAYEE, planned=ETHER // 4, sent=ETHER // 4, nonce=0)
    account.sim.mine()
    await account.watch.follow()
    row = await payouts.get(attempt)
    assert (row.state, row.conflict_txid) == ("signed", (await payouts.get(other)).txid)

    account.sim.mine(31)
    await account.watch.follow()
    assert (await payouts.get(attempt)).state == "replaced"
    assert (await payouts.get(other)).state == "final"
    await account.watch.audit()


async def test_d59_an_account_payout_is_not_final_before_the_chains_own_finality(
    account: AccountBench,
) -> None:
    payouts = AccountPayouts(account)
    await payouts.fund()
    account.sim.rejecting.add(PAYEE.lower())
    account.sim.finality_stands_at = account.sim.tip.ref.height
    bad = await payouts.pay(PAYEE, planned=ETHER // 2, sent=ETHER // 2, nonce=0)
    good = await payouts.pay(OTHER_PAYEE, planned=ETHER // 2, sent=ETHER // 2, nonce=1)
    account.sim.mine(32)
    await account.watch.follow()
    assert (await payouts.get(bad)).state == "mined"
    assert (await payouts.get(good)).state == "mined"

    account.sim.finality_stands_at = None
    await account.watch.follow()
    assert (await payouts.get(bad)).state == "reverted"
    assert (await payouts.get(good)).state == "final"
    await account.watch.audit()


async def test_d59_a_conflict_replaces_nothing_before_the_chains_own_finality(
    account: AccountBench,
) -> None:
    payouts = AccountPayouts(account)
    await payouts.fund()
    attempt = await payouts.pay(PAYEE, planned=ETHER // 2, sent=ETHER // 2, nonce=0)
    txid = (await payouts.get(attempt)).txid
    assert txid is not None
    account.sim.drop(txid)
    account.sim.finality_stands_at = account.sim.tip.ref.height
    await payouts.pay(PAYEE, planned=ETHER // 4, sent=ETHER // 4, nonce=0)
    account.sim.mine(32)
    await account.watch.follow()
    assert (await payouts.get(attempt)).state == "signed"

    account.sim.finality_stands_at = None
    await account.watch.follow()
    assert (await payouts.get(attempt)).state == "replaced"


async def test_a_nonce_that_the_chain_used_is_never_allocated_again(
    account: AccountBench,
) -> None:
    payouts = AccountPayouts(account)
    await payouts.fund()
    await payouts.pay(PAYEE, planned=ETHER, sent=ETHER, nonce=0)
    account.sim.mine()
    await account.watch.follow()
    async with account.watch.as_payouts.unit_of_work() as uow:
        found = await nonces.allocate(
            uow,
            network="eth",
            sender_key=payouts.wallet.address(0).key,
            attempt_id=account.watch.ids.new_id(),
        )
    assert found == 1


async def test_the_pool_hands_out_verified_rows_only_and_the_same_one_for_ever(
    utxo: UtxoBench,
) -> None:
    first = await utxo.watch.address("anna")
    results = await asyncio.gather(*(utxo.watch.address("anna") for _ in range(6)))
    assert {row.id for row in results} == {first.id}
    others = {(await utxo.watch.address(f"player {n}")).key for n in range(11)}
    assert len(others | {first.key}) == 12
    with pytest.raises(PoolEmpty):
        await utxo.watch.address("one too many")
