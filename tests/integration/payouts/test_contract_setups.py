"""Two people deploy, fund and withdraw from the batch contract, on anvil: once, and books right."""

import json

import pytest
from eth_utils.crypto import keccak

from gateway.payouts import setups, setups_store, withdrawals
from gateway.payouts.approvals import Staff
from gateway.payouts.crash import POINTS_OF_SETUPS
from gateway.payouts.errors import DecisionRefused
from gateway.payouts.same_tx import gas_fields
from gateway.payouts.setups import SetupAction, State, Words
from gateway.payouts.setups_store import SetupRow
from ledger import accounts, balances
from signer.protocol import Refusal, SignedTx, SignRequest
from tests.support import batch, evm
from tests.support.batch import NATIVE, balance
from tests.support.contract_bench import Bench, BuildBench
from tests.support.payout_parts import VaultSigner
from tests.support.payouts import SimulatedCrash, crash_at
from tests.support.people import PEOPLE, employ
from tests.support.sign_requests import LANE, approval
from tests.support.sweeping import dear
from tests.support.vault import BATCH_CONTRACT, TOKEN, staff_key
from watchers import switches
from watchers.outgoing import OutgoingState
from watchers.switches import Action

pytestmark = [pytest.mark.postgres, pytest.mark.node]

ONE = 10**6
ETHER = 10**18


async def signed(
    bench: Bench,
    action: str,
    *,
    asset: str | None = None,
    amount: str | None = None,
    reference: str = "first",
    people: tuple[str, ...] = PEOPLE,
    says: dict[str, str] | None = None,
) -> SetupRow:
    """What the API does when these people sign; `says`: other words in the body than were read."""
    house = bench.house
    move = {} if asset is None or amount is None else {"asset": asset, "amount": amount}
    body = {"action": action, "network": "eth", "reference": reference, **move, **(says or {})}
    words = Words(
        action=SetupAction(action),
        network="eth",
        reference=reference,
        asset=asset,
        amount_minor=None if asset is None else house.minor(asset, amount or ""),
    )
    row = None
    for person in people:
        claim = approval(
            person,
            body,
            key=staff_key(person),
            target="/v1/contract_setups",
            created=int(house.clock.now().timestamp()),
        )
        assert json.loads(claim.body) == body
        async with house.database.unit_of_work() as uow:
            row = await setups.propose_or_agree(
                uow,
                words,
                Staff(key_id=f"{person}-key", person=person, signed=claim),
                spec=house.registry.chains["eth"],
                ids=house.ids,
                at=house.clock.now(),
            )
    assert row is not None
    return row


async def now(bench: Bench, row: SetupRow) -> SetupRow:
    async with bench.house.database.unit_of_work() as uow:
        found = await setups_store.get(uow, row.id)
    assert found is not None
    return found


async def fees(bench: Bench) -> int:
    async with bench.house.database.unit_of_work() as uow:
        return await balances.balance(uow, accounts.network_fee("eth:ETH"))


async def in_force(build_bench: BuildBench) -> Bench:
    """The contract is registered; lane 0 has coins, tokens and capital."""
    bench = await build_bench()
    await employ(bench.house)
    await bench.house.fund("eth:ETH", "3")
    await bench.house.fund("eth:USDT", "100", into="acme")
    return bench


async def test_s15_two_people_deploy_and_the_chain_shows_whose_contract_it_is(
    build_bench: BuildBench,
) -> None:
    bench = await build_bench(has_contract=False)
    await employ(bench.house)
    await bench.house.fund("eth:ETH", "1")
    row = await signed(bench, "deploy")
    await bench.finish()
    deep = bench.house.registry.chains["eth"].full_depth  # a deployment is of no asset
    await bench.house.mine(deep)
    await bench.house.cycle(times=2)

    done = await now(bench, row)
    assert (done.state, done.code) == (State.DONE, None)
    assert await bench.house.history(row) == [  # type: ignore[arg-type]
        "proposed", "approved", "planned", "signed", "sent", "done",
    ]  # fmt: skip
    code = await bench.node.rpc("eth_getCode", done.contract, "latest")
    assert "0x" + keccak(bytes.fromhex(code[2:])).hex() == batch.code_hash()
    owner = evm.call_data("owner()")
    answer = await bench.node.rpc("eth_call", {"to": done.contract, "data": owner}, "latest")
    assert "0x" + answer[-40:] == bench.house.signer.kit.address("eth", LANE).lower()

    [tx] = await bench.own_txs()
    assert (tx.state, tx.txid, tx.payments) == (OutgoingState.FINAL, done.txid, ())
    assert await fees(bench) == tx.fee_minor
    await bench.house.assert_at_rest()
    await bench.assert_reconciled()
    with pytest.raises(DecisionRefused, match="contract_there"):
        await signed(bench, "deploy", reference="second")


@pytest.mark.parametrize(
    ("asset", "amount", "token", "minor"),
    [("eth:USDT", "40", TOKEN, 40 * ONE), ("eth:ETH", "0.5", NATIVE, ETHER // 2)],
)
async def test_s15_value_goes_to_the_contract_and_back_and_the_books_stay(
    build_bench: BuildBench, asset: str, amount: str, token: str, minor: int
) -> None:
    bench = await in_force(build_bench)
    fund = await signed(bench, "fund", asset=asset, amount=amount)
    await bench.finish()
    assert (await now(bench, fund)).state == State.DONE
    assert await balance(bench.node, BATCH_CONTRACT, token=token) == minor
    await bench.assert_reconciled()

    back = await signed(bench, "withdraw", asset=asset, amount=amount, reference="back")
    await bench.finish()
    assert (await now(bench, back)).state == State.DONE
    assert await balance(bench.node, BATCH_CONTRACT, token=token) == 0
    txs = await bench.own_txs()
    assert await fees(bench) == sum(tx.fee_minor or 0 for tx in txs)
    assert await bench.house.alarms() == []
    await bench.house.assert_at_rest()
    await bench.assert_reconciled()


async def test_w5_what_people_put_into_the_contract_pays_batches(build_bench: BuildBench) -> None:
    bench = await in_force(build_bench)
    fund = await signed(bench, "fund", asset="eth:USDT", amount="40")
    await bench.finish()
    rows = await bench.pay(3, "2")
    await bench.finish()
    assert (await now(bench, fund)).state == State.DONE
    assert await bench.house.states(*rows) == ["completed"] * 3
    assert (await bench.own_txs())[-1].payer_key == BATCH_CONTRACT
    await bench.house.assert_at_rest()


@pytest.mark.parametrize("action", ["fund", "withdraw"])
async def test_p26_value_on_its_way_pays_nobody_on_either_side(
    build_bench: BuildBench, action: str
) -> None:
    """100 at lane 0 and 30 in the contract; while 30 are on their way, 80 of lane 0 wait or go."""
    bench = await in_force(build_bench)
    await bench.house.fund("eth:USDT", "30", into="acme", at=BATCH_CONTRACT)
    await signed(bench, action, asset="eth:USDT", amount="30")
    lane = await bench.house.cycle(times=2)
    large = await bench.house.request("101" if action == "withdraw" else "71", asset="eth:USDT")
    await bench.house.cycle(lane)
    assert await bench.house.states(large) == ["waiting_liquidity"]
    async with bench.house.database.unit_of_work() as uow:
        await withdrawals.cancel(uow, large.id, ids=bench.house.ids, at=bench.house.clock.now())
    fits = await bench.house.request("100" if action == "withdraw" else "70", asset="eth:USDT")
    await bench.house.cycle(lane, times=2)
    assert await bench.house.states(fits) == ["sent"]


POINTS = [
    *POINTS_OF_SETUPS,
    "payout.broadcasting",
    "payout.sent_to_node",
    "payout.recorded",
    "payout.child_settled",
]
NEVER_REACHED = {"payout.setup_refused", "payout.setup_bumped"}  # the last has its own test


@pytest.mark.parametrize("point", [item for item in POINTS if item not in NEVER_REACHED])
async def test_p02_a_set_up_survives_a_kill_and_is_done_once(
    build_bench: BuildBench, point: str
) -> None:
    bench = await in_force(build_bench)
    row = await signed(bench, "fund", asset="eth:USDT", amount="40")
    with pytest.raises(SimulatedCrash):
        await bench.finish(lane=bench.house.lane(crash=crash_at(point)))
    await bench.finish()
    await bench.finish()

    assert (await now(bench, row)).state == State.DONE
    assert await balance(bench.node, BATCH_CONTRACT, token=TOKEN) == 40 * ONE
    [tx] = await bench.own_txs()
    assert await fees(bench) == tx.fee_minor
    await bench.house.assert_at_rest()
    await bench.assert_reconciled()


@pytest.mark.parametrize("point", ["", "payout.setup_bumped", "payout.setup_answered"])
async def test_p15_a_late_set_up_is_replaced_at_its_nonce_and_done_once(
    build_bench: BuildBench, point: str
) -> None:
    """Gas outgrows what it offers, and lane 0 waits behind it; also killed in between."""
    bench = await in_force(build_bench)
    row = await signed(bench, "fund", asset="eth:USDT", amount="40")
    lane = await bench.house.cycle(times=2)
    [first] = await bench.own_txs()
    await dear(bench, 3 * gas_fields(first.unsigned)[0])
    if point:
        with pytest.raises(SimulatedCrash):
            await bench.house.cycle(bench.house.lane(crash=crash_at(point)))
        lane = bench.house.lane()
    await bench.house.cycle(lane, times=2)

    family = sorted(await bench.own_txs(), key=lambda tx: tx.family_number)
    assert [tx.nonce for tx in family] == [first.nonce] * 2
    assert (family[1].replaces_id, family[1].family_id) == (first.id, first.family_id)
    assert family[1].fee_cap_minor > first.fee_cap_minor
    assert (await now(bench, row)).txid == family[1].txid
    await bench.assert_reconciled()
    for _ in range(3):
        await bench.finish(lane=lane)
    found = await now(bench, row)
    assert (found.state, found.attempt_id) == (State.DONE, family[1].id)
    assert await balance(bench.node, BATCH_CONTRACT, token=TOKEN) == 40 * ONE
    [won] = [tx for tx in await bench.own_txs() if tx.state is OutgoingState.FINAL]
    assert await fees(bench) == won.fee_minor
    assert await bench.house.alarms() == []
    await bench.house.assert_at_rest()
    await bench.assert_reconciled()


async def test_p24_a_set_up_that_lost_its_final_block_is_done_again(
    build_bench: BuildBench,
) -> None:
    bench = await in_force(build_bench)
    row = await signed(bench, "fund", asset="eth:USDT", amount="40")
    lane = bench.house.lane()
    await bench.finish(lane=lane)
    assert (await now(bench, row)).state == State.DONE

    await bench.house.world.lose(4)
    await bench.house.follow()
    await bench.house.cycle(lane)
    assert (await now(bench, row)).state == State.SENT
    await bench.finish()
    assert (await now(bench, row)).state == State.DONE
    await bench.house.assert_at_rest()
    await bench.assert_reconciled()


async def test_p29_a_set_up_that_reverts_fails_and_costs_its_gas(build_bench: BuildBench) -> None:
    """The token blocks the contract after people looked."""
    bench = await in_force(build_bench)
    blocked = evm.call_data("setBlocked(address,bool)", BATCH_CONTRACT, True)
    await bench.node.transact(to=TOKEN, data=blocked)
    await bench.house.mine()
    row = await signed(bench, "fund", asset="eth:USDT", amount="40")
    await bench.finish()

    found = await now(bench, row)
    assert (found.state, found.code) == (State.FAILED, "reverted")
    assert "contract_setup_failed" in await bench.house.alarms()
    [tx] = await bench.own_txs()
    assert tx.fee_minor is not None
    assert await fees(bench) == tx.fee_minor > 0
    await bench.house.assert_at_rest()
    await bench.assert_reconciled()


async def test_s15_the_signer_refuses_other_words_and_payouts_go_on(
    build_bench: BuildBench,
) -> None:
    """The nonce that the refused set-up had goes to the next payout."""
    bench = await in_force(build_bench)
    row = await signed(bench, "fund", asset="eth:USDT", amount="40", says={"amount": "41"})
    (payout,) = await bench.pay(1, "2")
    await bench.finish()

    found = await now(bench, row)
    assert (found.state, found.code) == (State.FAILED, "needs_staff")
    assert await bench.house.states(payout) == ["completed"]
    assert [tx.nonce for tx in await bench.own_txs() if tx.raw is not None] == [0]
    assert await balance(bench.node, BATCH_CONTRACT, token=TOKEN) == 0
    await bench.house.assert_at_rest()


async def test_s15_a_person_who_left_did_not_agree(build_bench: BuildBench) -> None:
    bench = await in_force(build_bench)
    row = await signed(bench, "fund", asset="eth:USDT", amount="40")
    async with bench.house.database.unit_of_work() as uow:
        await uow.execute(
            "UPDATE gateway.clients SET revoked_at = :at WHERE person = 'bob'",
            {"at": bench.house.clock.now()},
        )
    await bench.finish()
    found = await now(bench, row)
    assert (found.state, found.code) == (State.FAILED, "person_left")
    assert bench.house.signer.asked == []


async def test_p26_a_set_up_over_what_is_left_is_refused(build_bench: BuildBench) -> None:
    """Queued payouts took it between the signatures and the plan."""
    bench = await in_force(build_bench)
    (payout,) = await bench.pay(1, "70")
    await bench.house.cycle(times=2)
    row = await signed(bench, "fund", asset="eth:USDT", amount="40")
    await bench.finish()
    found = await now(bench, row)
    assert (found.state, found.code) == (State.FAILED, "hot_wallet")
    assert await bench.house.states(payout) == ["completed"]
    await bench.house.assert_at_rest()


class Deaf(VaultSigner):
    """Signs, and its answers get lost as long as `is_deaf`."""

    is_deaf = True

    async def sign(self, request: SignRequest) -> SignedTx | Refusal:
        answer = await super().sign(request)
        if self.is_deaf:
            raise SimulatedCrash("the answer is lost")
        return answer


async def test_s21_a_lost_answer_is_asked_for_again_and_signed_once(
    build_bench: BuildBench,
) -> None:
    """Also when it has become too late to ask: what may be signed is looked up, never dropped."""
    bench = await in_force(build_bench)
    house = bench.house
    row = await signed(bench, "fund", asset="eth:USDT", amount="40")
    deaf = Deaf(house.signer.kit)
    with pytest.raises(SimulatedCrash):
        await house.cycle(house.lane(signer=deaf))
    late = house.registry.policy.limits.planned_seconds + 1
    house.clock.advance(late)
    house.signer.kit.clock.now += late
    await house.sample_fees()
    await bench.finish()

    assert (await now(bench, row)).state == State.DONE
    [tx] = await bench.own_txs()
    assert tx.nonce == 0
    await house.assert_at_rest()


async def test_n26_a_plan_of_another_hour_is_built_anew(build_bench: BuildBench) -> None:
    bench = await in_force(build_bench)
    house = bench.house
    row = await signed(bench, "fund", asset="eth:USDT", amount="40")
    with pytest.raises(SimulatedCrash):
        await house.cycle(house.lane(crash=crash_at("payout.setup_planned")))
    house.clock.advance(house.registry.policy.limits.planned_seconds + 1)
    await house.sample_fees()
    await bench.finish()

    assert (await now(bench, row)).state == State.DONE
    assert [(tx.state, tx.nonce) for tx in await bench.own_txs()] == [
        (OutgoingState.REFUSED, 0),
        (OutgoingState.FINAL, 0),
    ]
    assert len(house.signer.asked) == 1


async def test_t9_a_stopped_network_builds_no_set_up(build_bench: BuildBench) -> None:
    bench = await in_force(build_bench)
    house = bench.house
    row = await signed(bench, "fund", asset="eth:USDT", amount="40")
    async with house.database.unit_of_work() as uow:
        await switches.open_breaker(
            uow,
            scope="network:eth",
            action=Action.SIGN,
            reason="a test",
            actor="test",
            ids=house.ids,
            at=house.clock.now(),
        )
    await bench.finish()
    assert (await now(bench, row)).state == State.APPROVED
    assert house.signer.asked == []


async def test_s07_a_reference_that_lost_books_forgot_is_not_signed_again(
    build_bench: BuildBench,
) -> None:
    """The signer remembers it: the set-up fails, its nonce is free, payouts go on."""
    bench = await in_force(build_bench)
    first = await signed(bench, "fund", asset="eth:USDT", amount="40")
    await bench.finish()
    async with bench.house.database.unit_of_work() as uow:
        await uow.execute(
            "UPDATE gateway.contract_setups SET reference = 'forgotten' WHERE id = :id",
            {"id": first.id},
        )
    again = await signed(bench, "fund", asset="eth:USDT", amount="40")
    (payout,) = await bench.pay(1, "2")
    await bench.finish()

    found = await now(bench, again)
    assert (found.state, found.code) == (State.FAILED, "already_paid")
    assert await bench.house.alarms() == ["contract_setup_failed"]
    assert await bench.house.states(payout) == ["completed"]
    assert await balance(bench.node, BATCH_CONTRACT, token=TOKEN) == 40 * ONE
    await bench.house.assert_at_rest()
