"""S21: what fits into no frame to the signer is taken apart before it is asked for.

The signer is the real server on a socket, whose frame ends at 8 MiB.
"""

import json
from collections.abc import AsyncIterator

import pytest

from gateway.payouts.signer_client import SignerClient
from gateway.withdrawals_store import WithdrawalRow
from signer import protocol
from tests.support.payouts import Payouts, SimulatedCrash, crash_at
from tests.support.sign_requests import authorise, order_body
from tests.support.signing import socket_signer
from watchers import addresses
from watchers.chain import Pay

pytestmark = pytest.mark.postgres

API_BODY_BYTES = 64 * 1024  # CONTRACT 3: more is 413
BATCH_BODY_BYTES = 500 * 1024  # 512 KiB of a batch
OVER_THE_FRAME = 7 * 1024 * 1024  # in base64 more than 8 MiB


@pytest.fixture
async def client(btc: Payouts) -> AsyncIterator[SignerClient]:
    """A funded network, and its signer behind a real socket."""
    await btc.fund(btc.native, "1")
    await btc.fund(btc.native, "3", into="acme")
    async with socket_signer(btc) as (_, client):
        yield client


def padding(size: int) -> dict[str, str]:
    """Metadata of about `size` bytes, in values as long as the API takes them."""
    return {f"k{number}": "x" * 500 for number in range(size // 512)}


async def inflate(house: Payouts, row: WithdrawalRow) -> None:
    """What an attempt looks like that an older version planned, or that grew since."""
    attempt_id = (await house.row(row)).attempt_id
    async with house.database.unit_of_work() as uow:
        await uow.execute(
            "UPDATE chain.outgoing SET unsigned = unsigned || CAST(:more AS bytea) WHERE id = :id",
            {"more": bytes(OVER_THE_FRAME), "id": attempt_id},
        )


async def reserved_coins(house: Payouts) -> int:
    async with house.database.unit_of_work() as uow:
        found = await uow.execute("SELECT count(*) FROM chain.coins WHERE reserved_by IS NOT NULL")
        return int(found.scalar_one())


async def test_s21_a_hundred_orders_at_the_bodys_limit_are_paid_in_smaller_batches(
    btc: Payouts, client: SignerClient
) -> None:
    rows = [
        await btc.request("0.001", player_id=f"p-{number}", metadata=padding(API_BODY_BYTES - 3000))
        for number in range(100)
    ]

    lane = await btc.cycle(btc.lane(signer=client), times=4)

    assert set(await btc.states(*rows)) == {"sent"}
    assert len({(await btc.row(row)).txid for row in rows}) == 2
    await btc.mine(3)
    await btc.cycle(lane, times=2)
    assert set(await btc.states(*rows)) == {"completed"}
    await btc.assert_at_rest()


async def test_s21_an_order_that_fits_into_no_frame_is_held_and_blocks_nobody(
    btc: Payouts, client: SignerClient
) -> None:
    huge = await btc.request("0.1", metadata=padding(OVER_THE_FRAME))
    small = await btc.request("0.2", player_id="other")

    await btc.cycle(btc.lane(signer=client), times=3)

    found = await btc.row(huge)
    assert (found.state, found.code) == ("on_hold", "sign_request_too_large")
    assert found.sign_requested_at is None
    assert "sign_request_too_large" in await btc.alarms()
    assert await btc.states(small) == ["sent"]
    async with btc.database.unit_of_work() as uow:
        alarm = await uow.execute("SELECT object_id FROM gateway.alarms")
        assert alarm.scalars().all() == [huge.id]


@pytest.mark.parametrize("point", ["payout.planned", "payout.sign_requested"])
async def test_s21_a_planned_batch_over_the_frame_is_taken_apart_at_any_point(
    btc: Payouts, client: SignerClient, point: str
) -> None:
    """Before the gate it is measured; after it (an older version) the signer has never seen it."""
    rows = [await btc.request("0.1", player_id=name) for name in ("a", "b")]
    with pytest.raises(SimulatedCrash):
        await btc.cycle(btc.lane(signer=client, crash=crash_at(point)))
    await inflate(btc, rows[0])
    with pytest.raises(SimulatedCrash):
        await btc.cycle(btc.lane(signer=client, crash=crash_at("payout.cut")))

    found = [await btc.row(row) for row in rows]
    assert [(row.state, row.code) for row in found] == [("queued", "sign_alone")] * 2
    assert [row.sign_requested_at for row in found] == [None, None]
    assert await reserved_coins(btc) == 0
    lane = await btc.cycle(btc.lane(signer=client), times=2)
    await btc.mine(3)
    await btc.cycle(lane, times=2)
    assert await btc.states(*rows) == ["completed"] * 2
    assert [btc.paid(row) for row in rows] == [2, 2]  # same address, same amount: two payments
    await btc.assert_at_rest()


async def test_s21_a_single_one_over_the_frame_is_held_at_the_gate(
    btc: Payouts, client: SignerClient
) -> None:
    row = await btc.request("0.1")
    with pytest.raises(SimulatedCrash):
        await btc.cycle(btc.lane(signer=client, crash=crash_at("payout.planned")))
    await inflate(btc, row)

    lane = await btc.cycle(btc.lane(signer=client))
    other = await btc.request("0.2", player_id="other")
    await btc.cycle(lane)

    found = await btc.row(row)
    assert (found.state, found.code) == ("on_hold", "sign_request_too_large")
    assert (found.attempt_id, found.sign_requested_at) == (None, None)
    assert await btc.states(other) == ["sent"]


async def test_s21_what_the_signer_signed_and_is_now_over_the_frame_is_never_given_back(
    btc: Payouts, client: SignerClient
) -> None:
    """The answer was lost, the row's bytes are others now: the look-up finds a signature."""
    row = await btc.request("0.1")
    with pytest.raises(SimulatedCrash):
        await btc.cycle(btc.lane(signer=client, crash=crash_at("payout.signer_answered")))
    async with btc.database.unit_of_work() as uow:
        await uow.execute(
            "UPDATE chain.outgoing "
            "SET unsigned = set_byte(unsigned || CAST(:more AS bytea), 20, 1)",
            {"more": bytes(OVER_THE_FRAME)},
        )

    await btc.cycle(btc.lane(signer=client))

    found = await btc.row(row)
    assert (found.state, found.code) == ("on_hold", "signer_knows_more")
    assert found.sign_requested_at is not None
    assert await reserved_coins(btc) > 0


async def test_s21_an_answer_that_was_lost_is_looked_up_when_it_cannot_be_asked_again(
    btc: Payouts, client: SignerClient
) -> None:
    """Bytes behind the PSBT's end change nothing of the tx: it is the one that was signed."""
    row = await btc.request("0.1")
    with pytest.raises(SimulatedCrash):
        await btc.cycle(btc.lane(signer=client, crash=crash_at("payout.signer_answered")))
    await inflate(btc, row)

    await btc.cycle(btc.lane(signer=client))

    assert await btc.states(row) == ["sent"]


async def test_coins_with_heavy_previous_transactions_give_way_to_lighter_ones(
    btc: Payouts, client: SignerClient
) -> None:
    """Seventy old coins of one tx of 126 kB are over the frame; a younger large one is not."""
    async with btc.database.unit_of_work() as uow:
        hot = await addresses.own_address(uow, network="btc", role="hot")
        await uow.execute("UPDATE chain.coins SET spendable_at_height = 999999")
    elsewhere = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"
    pays = [Pay(asset=btc.native, address=hot.address, amount_minor=1_000_000)] * 70
    pays += [Pay(asset=btc.native, address=elsewhere, amount_minor=1_000)] * 4_000
    await btc.world.pay(pays)
    await btc.mine(3)
    await btc.world.pay([Pay(asset=btc.native, address=hot.address, amount_minor=100_000_000)])
    await btc.mine(3)
    row = await btc.request("0.65")

    await btc.cycle(btc.lane(signer=client))

    assert await btc.states(row) == ["sent"]
    async with btc.database.unit_of_work() as uow:
        inputs = await uow.execute("SELECT count(*) FROM chain.outgoing_inputs")
        assert inputs.scalar_one() == 1


async def test_s21_payments_of_one_signed_batch_ride_together_with_its_body_once(
    btc: Payouts, client: SignerClient
) -> None:
    """Twenty copies of the body would be more than a frame."""
    rows = [await btc.request("0.01", player_id=f"p-{number}") for number in range(20)]
    items = [
        order_body(
            request_id=row.request_id, amount="0.01", metadata=padding(BATCH_BODY_BYTES // 21)
        )
        for row in rows
    ]
    at = int(btc.clock.now().timestamp())
    signed = authorise({"items": items}, path="/v1/withdrawal_batches", created=at)
    assert 20 * len(signed.body) > protocol.MAX_FRAME_BYTES
    async with btc.database.unit_of_work() as uow:
        await uow.execute(
            """
            UPDATE gateway.withdrawal_requests SET path = :path, body = :body,
                headers = CAST(:headers AS jsonb), signature_input = :input, signature = :signature
            """,
            {
                "path": signed.path,
                "body": signed.body,
                "headers": json.dumps(dict(signed.headers)),
                "input": signed.signature_input,
                "signature": signed.signature,
            },
        )

    await btc.cycle(btc.lane(signer=client), times=2)

    assert set(await btc.states(*rows)) == {"sent"}
    assert len({(await btc.row(row)).txid for row in rows}) == 1
