"""Deposits of the payout house that people rejected, and the people who send them back."""

from datetime import timedelta
from typing import Any

from config.ids import public_id
from gateway import verification, withdrawals_store
from gateway.payouts import refunds
from gateway.payouts.approvals import Staff
from gateway.payouts.refunds import Desk, Words
from gateway.withdrawals_store import WithdrawalRow
from ledger.money import format_amount, parse_amount
from tests.support.payout_parts import DEPTH
from tests.support.payouts import FOREIGN, Payouts
from tests.support.people import PEOPLE, employ, key_of
from tests.support.sign_requests import approval
from tests.support.vault import open_kit
from watchers import (
    addresses,
    deposit_commands,
    deposit_decisions,
    deposit_refunds,
    player_flags,
)
from watchers.chain import Pay
from watchers.deposit_commands import DepositRow

UNITS = {"BTC": 10**8, "LTC": 10**8, "ETH": 10**18, "USDT": 10**6}


async def open_refunds(house: Payouts, *, units: int = 20) -> None:
    """Alice and Bob of the signer's register may send back so much of each asset, and a day."""
    kit = house.signer.kit
    kit.store.close()
    path = kit.folder / "signer.toml"
    text = path.read_text("utf-8")
    for symbol, unit in UNITS.items():
        most = f'"{units * unit}"'
        caps = f"refund_tx_max_minor = {most}\nrefund_day_max_minor = {most}\n"
        text = text.replace(f"assets.{symbol}]\n", f"assets.{symbol}]\n{caps}")
    path.write_text(text, "utf-8")
    house.signer.kit = open_kit(kit.folder, kit.clock)
    await employ(house)


async def block(house: Payouts, player_id: str, *reasons: str) -> None:
    """What the casino says of the player from now on."""
    async with house.database.unit_of_work() as uow:
        await player_flags.put(
            uow,
            brand="acme",
            player_id=player_id,
            kyc_level=None,
            group=None,
            country=None,
            blocked_reasons=reasons,
            changed_by="acme-key",
            at=house.clock.now(),
        )


async def paid(
    house: Payouts, amount: str, *, asset: str | None = None, player_id: str = "anna"
) -> DepositRow:
    """A player's deposit, final for the chain and the house."""
    asset = asset or house.native
    async with house.database.unit_of_work() as uow:
        row = await addresses.hand_out(
            uow, brand="acme", player_id=player_id, network=house.network, at=house.clock.now()
        )
    pay = Pay(asset=asset, address=row.address, amount_minor=house.minor(asset, amount))
    [txid] = await house.world.pay([pay])
    await house.mine(DEPTH if not house.is_account_based else 4)
    async with house.database.unit_of_work() as uow:
        filters = deposit_commands.DepositFilters(txid=txid)
        [deposit] = await deposit_commands.find(uow, brand=None, filters=filters)
    return deposit


async def rejected(
    house: Payouts, amount: str = "0.5", *, asset: str | None = None, player_id: str = "anna"
) -> DepositRow:
    """A blocked player's deposit, held and rejected."""
    await block(house, player_id, "fraud")
    deposit = await paid(house, amount, asset=asset, player_id=player_id)
    assert (deposit.state, deposit.credited_stage) == ("on_hold", "held")
    return await reject(house, deposit)


async def reject(house: Payouts, deposit: DepositRow) -> DepositRow:
    """A person's no."""
    async with house.database.unit_of_work() as uow:
        locked = await deposit_decisions.lock(uow, deposit)
        return await deposit_decisions.reject(uow, locked, ids=house.ids, at=house.clock.now())


def said(house: Payouts, deposit: DepositRow, person: str, **changes: Any) -> tuple[Words, Desk]:
    """A person at the API with the signed body of a refund, and what it means."""
    named = public_id("deposit", deposit.id, livemode=False)
    decimals = house.registry.assets[deposit.asset].decimals
    until = (house.clock.now() + timedelta(days=2)).replace(hour=0, minute=0, second=0)
    body = {
        "action": "refund",
        "deposit_id": named,
        "asset": deposit.asset,
        "address": FOREIGN[house.network],
        "amount": format_amount(deposit.amount_minor, decimals=decimals),
        "valid_until": f"{until:%Y-%m-%dT%H:%M:%SZ}",
        **changes,
    }
    signed = approval(
        person,
        body,
        key=key_of(person),
        keyid=f"{person}-key",
        withdrawal=named,
        target="/v1/deposits/{}/refund",
        created=int(house.clock.now().timestamp()),
    )
    place = house.chain.codec.parse(str(body["address"]))
    words = Words(
        deposit_id=deposit.id,
        asset=deposit.asset,
        address=place.address,
        address_key=place.key,
        amount_minor=parse_amount(str(body["amount"]), decimals=decimals),
        valid_until=until.replace(microsecond=0),
    )
    desk = Desk(
        staff=Staff(key_id=f"{person}-key", person=person, signed=signed),
        is_operator=True,
        policy=house.registry.policy,
        ids=house.ids,
        at=house.clock.now(),
    )
    return words, desk


async def sign(house: Payouts, deposit: DepositRow, *people: str, **changes: Any) -> WithdrawalRow:
    """People sign to send it back; the refund after the last of them."""
    row = None
    for person in people or PEOPLE:
        words, desk = said(house, deposit, person, **changes)
        async with house.database.unit_of_work() as uow:
            locked = await deposit_refunds.lock(uow, [deposit.id])
            row = await refunds.propose_or_agree(uow, words, locked[deposit.id], desk)
    assert row is not None
    return row


async def deposit_now(house: Payouts, deposit: DepositRow) -> DepositRow:
    """As it is now."""
    async with house.database.unit_of_work() as uow:
        found = await deposit_commands.get(uow, deposit.id)
    assert found is not None
    return found


async def deposit_states(house: Payouts, deposit: DepositRow) -> list[str]:
    """Every state that a deposit had, in order."""
    async with house.database.unit_of_work() as uow:
        result = await uow.execute(
            "SELECT to_state FROM ledger.state_history WHERE object_id = :id ORDER BY version",
            {"id": deposit.id},
        )
        return list(result.scalars())


async def books(house: Payouts) -> dict[str, int]:
    """Every account with a balance, by code."""
    async with house.database.unit_of_work() as uow:
        result = await uow.execute(
            "SELECT a.code, b.balance + coalesce((SELECT sum(p.delta) "
            "FROM ledger.pending_credits p WHERE p.account_id = a.id), 0) AS balance "
            "FROM ledger.accounts a "
            "JOIN ledger.balances b ON b.account_id = a.id"
        )
        return {row.code: int(row.balance) for row in result if row.balance}


async def findings(house: Payouts) -> list[str]:
    """What the whole check of deposits and withdrawals against their postings finds."""
    found: list[str] = []
    for part in ("deposits", "withdrawals"):
        async with house.database.unit_of_work() as uow:
            page = await verification.check(uow, part, place=None)
        found += [f"{item.kind} {item.subject}" for item in page.findings]
    return found


async def finish(house: Payouts, *, blocks: int = 5) -> None:
    """A fresh process works until everything is final."""
    lane = await house.cycle(times=2)
    for _ in range(blocks):
        await house.mine()
        await house.cycle(lane)


async def refund_of(house: Payouts, deposit: DepositRow) -> WithdrawalRow | None:
    """The refund of a deposit that may still be paid, or was."""
    async with house.database.unit_of_work() as uow:
        return await withdrawals_store.refund_of(uow, deposit.id)
