"""A signer that signed what the database lost: nothing is given back, nothing new is signed."""

from dataclasses import replace
from typing import Any

import pytest
from embit.psbt import PSBT

from gateway.errors import TooLate
from gateway.payouts import funds, store, withdrawals
from gateway.payouts.attempts import ON_ITS_WAY
from gateway.payouts.errors import MaybeSigned
from gateway.payouts.withdrawals import Trigger
from signer.protocol import Payment, Refusal, SignedTx, SignRequest
from tests.support.payout_fixtures import BuildHouse
from tests.support.payouts import Payouts, SimulatedCrash, crash_at
from tests.support.sign_requests import authorise, evm_request, order_body
from tests.support.vault import FOREIGN_EVM

pytestmark = pytest.mark.postgres


class LostHistory:
    """The real signer, which first signs the same orders in a history the database lost."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self._has_signed = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def sign(self, request: SignRequest) -> SignedTx | Refusal:
        if not self._has_signed:
            self._has_signed = True
            lost = await self._inner.sign(replace(request, attempt_id="lost-history"))
            assert isinstance(lost, SignedTx)
        answer: SignedTx | Refusal = await self._inner.sign(request)
        return answer


async def test_a_payment_the_signer_already_signed_is_kept_and_stops_the_network(
    btc: Payouts,
) -> None:
    await btc.fund(btc.native, "1")
    await btc.fund(btc.native, "3", into="acme")
    row = await btc.request("0.5")
    lane = await btc.cycle(btc.lane(signer=LostHistory(btc.signer)), times=2)

    found = await btc.row(row)
    assert (found.state, found.code) == ("on_hold", "signer_knows_more")
    assert found.sign_requested_at is not None
    assert found.attempt_id is not None
    assert "signer_knows_more" in await btc.alarms()
    with pytest.raises(TooLate):
        async with btc.database.unit_of_work() as uow:
            await withdrawals.cancel(uow, row.id, ids=btc.ids, at=btc.clock.now())
    async with btc.database.unit_of_work() as uow:
        kept = await uow.execute("SELECT count(*) FROM chain.coins WHERE reserved_by IS NOT NULL")
        assert kept.scalar_one() > 0

    later = await btc.request("0.1", player_id="later")
    await btc.cycle(lane, times=2)
    assert await btc.states(row, later) == ["on_hold", "queued"]


@pytest.mark.parametrize("trigger", [Trigger.APPROVE, Trigger.REISSUE, Trigger.RESUME_QUEUED])
async def test_a_row_that_may_be_signed_is_not_queued_again_without_evidence(
    btc: Payouts, trigger: Trigger
) -> None:
    """Also by a caller whose copy of the row is older than the gate's commit."""
    await btc.fund("btc:BTC", "1")
    await btc.fund("btc:BTC", "3", into="acme")
    row = await btc.request("0.5")
    await btc.cycle(btc.lane(signer=LostHistory(btc.signer)))
    kept = await btc.row(row)

    for copy in (kept, replace(kept, sign_requested_at=None)):
        with pytest.raises(MaybeSigned):
            async with btc.database.unit_of_work() as uow:
                await withdrawals.move(uow, copy, trigger, ids=btc.ids, at=btc.clock.now())

    assert await btc.row(row) == kept


class OtherWords:
    """The real signer, which was asked for the same tx in other words: a lost answer of another
    version of this house, or of other bytes of the same client's order."""

    def __init__(self, inner: Any, *, is_same_tx: bool) -> None:
        self._inner = inner
        self._is_same_tx = is_same_tx
        self._has_signed = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def sign(self, request: SignRequest) -> SignedTx | Refusal:
        if not self._has_signed:
            self._has_signed = True
            unsigned = request.unsigned
            if not self._is_same_tx:
                psbt = PSBT.parse(unsigned)
                [change] = request.change_paths
                psbt.outputs[change].value -= 1  # another txid, the same payment
                unsigned = psbt.serialize()
                assert unsigned != request.unsigned
            [payment] = request.payments
            claim = authorise(
                payment.authorisation.body, created=self._inner.kit.clock.now, nonce="again"
            )
            words = (replace(payment, authorisation=claim),)
            earlier = await self._inner.sign(replace(request, payments=words, unsigned=unsigned))
            assert isinstance(earlier, SignedTx), earlier
        answer: SignedTx | Refusal = await self._inner.sign(request)
        return answer


async def funded(house: Payouts) -> None:
    await house.fund(house.native, "1")
    await house.fund(house.native, "3", into="acme")


async def details(house: Payouts) -> str:
    async with house.database.unit_of_work() as uow:
        found = await uow.execute(
            "SELECT detail FROM gateway.alarms WHERE kind = 'signer_knows_more'"
        )
        return str(found.scalar_one())


@pytest.mark.parametrize("network", ["btc", "eth"])
@pytest.mark.parametrize("point", [None, "payout.looked_up"])
async def test_the_very_tx_that_the_signer_remembers_is_looked_up_and_sent(
    network: str, point: str | None, house: BuildHouse
) -> None:
    built = await house(network)
    await funded(built)
    row = await built.request("0.5")
    signer = OtherWords(built.signer, is_same_tx=True)
    if point is not None:
        with pytest.raises(SimulatedCrash):
            await built.cycle(built.lane(signer=signer, crash=crash_at(point)))
        assert await built.states(row) == ["planned"]

    lane = await built.cycle(built.lane(signer=signer), times=2)
    for _ in range(3):
        await built.mine(4)
        await built.cycle(lane)

    assert await built.states(row) == ["completed"]
    assert built.paid(row) == 1
    assert "signer_knows_more" not in await built.alarms()
    await built.assert_at_rest()


async def test_another_tx_of_the_same_attempt_is_evidence_and_never_ours(btc: Payouts) -> None:
    await funded(btc)
    row = await btc.request("0.5")
    signer = OtherWords(btc.signer, is_same_tx=False)

    await btc.cycle(btc.lane(signer=signer), times=2)

    found = await btc.row(row)
    assert (found.state, found.code, found.txid) == ("on_hold", "signer_knows_more", None)
    assert found.sign_requested_at is not None
    remembered = await btc.signer.lookup(str(found.attempt_id))
    assert isinstance(remembered, SignedTx)
    assert remembered.txid in await details(btc)
    assert not btc.sim.pool


@pytest.mark.parametrize("point", ["payout.looked_up", "payout.refused"])
async def test_killed_around_the_look_up_the_row_is_kept_all_the_same(
    btc: Payouts, point: str
) -> None:
    await funded(btc)
    row = await btc.request("0.5")
    signer = LostHistory(btc.signer)
    with pytest.raises(SimulatedCrash):
        await btc.cycle(btc.lane(signer=signer, crash=crash_at(point)))

    await btc.cycle(btc.lane(signer=signer), times=2)

    found = await btc.row(row)
    assert found.sign_requested_at is not None
    if point == "payout.looked_up":  # the next process compares the logs before it asks anything
        assert (found.state, await btc.alarms()) == ("planned", ["recovery"])
    else:
        assert (found.state, found.code) == ("on_hold", "signer_knows_more")
        assert (await btc.alarms()).count("signer_knows_more") == 1


async def test_already_paid_on_an_account_chain_keeps_nonce_and_funds(eth: Payouts) -> None:
    """What may have been paid counts as on its way: no other payout may count on it."""
    await funded(eth)
    row = await eth.request("1.5")
    lane = await eth.cycle(eth.lane(signer=LostHistory(eth.signer)), times=2)

    found = await eth.row(row)
    assert (found.state, found.code) == ("on_hold", "signer_knows_more")
    async with eth.database.unit_of_work() as uow:
        nonces = await uow.execute("SELECT nonce, attempt_id FROM chain.nonce_uses")
        assert [(item.nonce, item.attempt_id) for item in nonces] == [(0, found.attempt_id)]
        account = await funds.load_account(lane, uow)
        taken = await store.committed(uow, network="eth", states=ON_ITS_WAY)
    assert taken == {"eth:ETH": row.amount_minor}
    assert account.admit(replace(row, amount_minor=eth.minor("eth:ETH", "2.6"))) == "hot_wallet"
    assert account.admit(replace(row, amount_minor=eth.minor("eth:ETH", "2.4"))) is None


class OtherOrder:
    """The real signer, which signs another order at the same nonce just before it is asked."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def sign(self, request: SignRequest) -> SignedTx | Refusal:
        kit = self._inner.kit
        lost = order_body(request_id="lost", asset="eth:ETH", address=FOREIGN_EVM)
        claim = authorise(lost, created=kit.clock.now)
        other = Payment(brand="acme", request_id="lost", output_index=0, authorisation=claim)
        kit.signed(evm_request(attempt_id="lost", payments=(other,)))
        answer: SignedTx | Refusal = await self._inner.sign(request)
        return answer


async def test_a_nonce_that_the_signer_used_for_another_stops_the_network(eth: Payouts) -> None:
    await funded(eth)
    row = await eth.request("0.5")

    await eth.cycle(eth.lane(signer=OtherOrder(eth.signer)), times=2)

    found = await eth.row(row)
    assert (found.state, found.code) == ("on_hold", "signer_knows_more")
    assert found.sign_requested_at is not None
    assert "nonce_used" in await details(eth)
    later = await eth.request("0.1", player_id="later")
    await eth.cycle(times=2)
    assert await eth.states(later) == ["queued"]
