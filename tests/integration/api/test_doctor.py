"""What the doctor finds: three chains, their watchers, two brands, real PostgreSQL."""

import json

import pytest
from embit import base58

from tests.support.ward import COIN, NOBODYS, Ward, codes, deposit_codes
from watchers import fees, switches
from watchers.chain import FeeQuote
from watchers.switches import Action

pytestmark = pytest.mark.postgres


async def test_n10_a_txid_is_followed_from_mempool_to_final_credit(ward: Ward) -> None:
    row = await ward.watches["btc"].address("anna")
    txid = ward.btc.pay([(row.address, COIN // 2)])
    found = await ward.report(f"txid={txid}")
    assert (found["verdict"], codes(found["findings"])) == ("waiting", ["in_mempool_waiting"])

    await ward.follow()
    found = await ward.report(f"txid={txid.upper()}")
    assert deposit_codes(found)[0] == "in_mempool_waiting"
    assert found["deposits"][0]["findings"][0]["eta"]["p90_seconds"] > 0
    assert found["deposits"][0]["postings"] == []

    ward.btc.mine()
    await ward.follow()
    found = await ward.report(f"txid={txid}")
    assert (found["verdict"], deposit_codes(found)[0]) == ("credited", "credited_provisional")
    assert found["id"] is None
    (posting,) = found["deposits"][0]["postings"]
    assert posting["reference"] == f"deposit:btc:{txid}:out:0:1:provisional"

    ward.btc.mine(6)
    await ward.follow()
    found = await ward.report(f"txid={txid}")
    assert deposit_codes(found) == ["credited_final", "webhooks_none"]
    assert found["summary"] == "0.5 BTC is credited for good and may be withdrawn."
    assert len(found["deposits"][0]["postings"]) == 2


async def test_n10_a_low_fee_is_named_for_what_stands_and_what_does_not(ward: Ward) -> None:
    watch = ward.watches["btc"]
    quote = FeeQuote(rates={2: 10**9, 36: 10**9}, floor=1, base_fee=0)
    async with watch.as_watcher.unit_of_work() as uow:
        await fees.record(uow, network="btc", quote=quote, at=ward.clock.now())
    row = await watch.address("anna")
    txid = ward.btc.pay([(row.address, COIN)])
    assert codes((await ward.report(f"txid={txid}"))["findings"]) == ["fee_low_waiting"]
    await ward.follow()
    assert deposit_codes(await ward.report(f"txid={txid}"))[0] == "fee_low_waiting"


async def test_n10_a_txid_of_nobody_is_asked_of_every_network_it_could_belong_to(
    ward: Ward,
) -> None:
    found = await ward.report(f"txid={NOBODYS}")
    assert (found["verdict"], codes(found["findings"])) == ("nothing_found", ["not_found_anywhere"])
    assert [(item["network"], item["place"]) for item in found["networks"]] == [
        ("btc", "unknown"),
        ("ltc", "unknown"),
    ]
    found = await ward.report(f"txid=0x{NOBODYS}")
    assert [item["network"] for item in found["networks"]] == ["eth"]
    assert found["summary"] == "No node of eth knows this transaction."


async def test_a29_n10_a_payment_to_another_brand_reads_like_one_to_a_stranger(ward: Ward) -> None:
    zest = await ward.watches["btc"].address("zoe", brand="zest")
    theirs = ward.btc.pay([(zest.address, COIN)])
    strangers = ward.btc.pay([("bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080", COIN)])
    ward.btc.mine()
    for is_recorded in (False, True):
        if is_recorded:
            await ward.follow()
        told = {}
        for name, txid in (("theirs", theirs), ("strangers", strangers)):
            found = await ward.report(f"txid={txid}")
            assert codes(found["findings"]) == ["pays_no_address"]
            # Litecoin's node may or may not have answered by the time that Bitcoin's word sufficed.
            btc = [item for item in found["networks"] if item["network"] == "btc"]
            told[name] = {**found, "id": "", "link": "", "subject": "", "networks": btc}
        assert told["theirs"] == told["strangers"]
    assert (await ward.report(f"txid={theirs}", key="zest-key"))["deposits"]
    assert (await ward.report(f"txid={theirs}", key="operator-key"))["deposits"]


async def test_a29_n10_addresses_players_and_lookups_of_another_brand_do_not_exist(
    ward: Ward,
) -> None:
    zest = await ward.watches["btc"].address("zoe", brand="zest")
    ward.btc.pay([(zest.address, COIN)])
    await ward.follow()
    found = await ward.report(f"address={zest.address}")
    strange = await ward.report("address=bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080")
    assert codes(found["findings"]) == codes(strange["findings"]) == ["address_unknown"]
    assert found["findings"] == strange["findings"]
    found = await ward.report("player_id=zoe")
    assert found["findings"][0]["code"] == "player_without_deposit"
    assert found["deposits"] == []
    theirs = await ward.report(f"txid={NOBODYS}", key="zest-key")
    for key in ("acme-key", "operator-key"):
        assert (await ward.fetch(theirs["link"], key=key)).status == 404
    assert (await ward.fetch(theirs["link"], key="zest-key")).json()["subject"] == NOBODYS


async def test_n10_coins_to_a_key_of_another_network_are_found(ward: Ward) -> None:
    """Test networks share a coin type: the key of a Litecoin address is one of Bitcoin's pool."""
    watch = ward.watches["ltc"]
    for number in range(3):
        row = await watch.address(f"player-{number}")
    (twin,) = await ward.house.rows(
        "SELECT address FROM chain.addresses WHERE network = 'btc' AND key = :key", key=row.key
    )
    txid = ward.btc.pay([(twin["address"], COIN)])
    ward.btc.mine()
    found = await ward.report(f"txid={txid}")
    assert (found["verdict"], codes(found["findings"])) == ("not_credited", ["wrong_network"])
    assert found["summary"] == "The payment came on btc, but belongs to ltc."


async def test_n10_own_wallets_are_the_operators_alone_and_unissued_addresses_are_named(
    ward: Ward,
) -> None:
    rows = await ward.house.rows(
        "SELECT role, brand, address FROM chain.addresses WHERE network = 'eth'"
        " AND (role = 'hot' OR brand = 'acme') ORDER BY role DESC, address_index DESC"
    )
    hot = next(row["address"] for row in rows if row["role"] == "hot")
    unissued = next(row["address"] for row in rows if row["brand"] == "acme")
    to_hot = ward.eth.pay("eth:ETH", hot, 10**18)
    to_pool = ward.eth.pay("eth:ETH", unissued, 10**18)
    ward.eth.mine()
    await ward.follow()
    assert codes((await ward.report(f"txid={to_hot}"))["findings"]) == ["pays_no_address"]
    found = await ward.report(f"txid={to_hot}", key="operator-key")
    assert codes(found["findings"]) == ["paid_to_own_wallet"]
    found = await ward.report(f"txid={to_pool}")
    assert codes(found["findings"]) == ["paid_to_unissued_address"]
    assert codes((await ward.report(f"txid={to_pool}", key="operator-key"))["findings"]) == [
        "paid_to_unissued_address"
    ]


async def test_n10_a_block_that_was_not_read_yet_and_a_tx_that_failed_in_it(ward: Ward) -> None:
    row = await ward.watches["eth"].address("anna")
    ward.eth.rejecting.add(row.key)
    failed = ward.eth.pay("eth:ETH", row.address, 10**18)
    ward.eth.mine()
    ward.eth.rejecting.clear()
    paid = ward.eth.pay("eth:USDT", row.address, 10**6)
    ward.eth.mine()
    found = await ward.report(f"txid={failed}")
    assert (found["verdict"], codes(found["findings"])) == ("not_credited", ["failed_tx"])
    found = await ward.report(f"txid={paid}")
    assert codes(found["findings"]) == ["watcher_behind"]
    await ward.follow()
    assert deposit_codes(await ward.report(f"txid={paid}"))[0] == "confirming"


async def test_n10_a_missing_deposit_is_an_alarm(ward: Ward) -> None:
    """Goal: what should stand and does not is told. Method: its rows are taken away by hand."""
    row = await ward.watches["btc"].address("anna")
    txid = ward.btc.pay([(row.address, COIN)])
    ward.btc.mine()
    await ward.follow()
    owner = ward.house
    await owner.rows("DELETE FROM chain.deposit_keys WHERE txid = :txid", txid=txid)
    await owner.rows("DELETE FROM chain.deposits WHERE txid = :txid", txid=txid)
    found = await ward.report(f"txid={txid}")
    assert [(item["code"], item["severity"]) for item in found["findings"]] == [
        ("not_recorded", "alarm")
    ]


async def test_n10_replaced_reversed_and_orphaned_deposits_name_their_rival(ward: Ward) -> None:
    watch = ward.watches["btc"]
    row = await watch.address("anna")
    first = ward.btc.pay([(row.address, COIN)])
    await ward.follow()
    rival = ward.btc.conflict(first)
    await ward.follow()
    found = await ward.report(f"txid={first}")
    assert deposit_codes(found)[0] == "replaced_by"
    assert rival in found["summary"]

    second = ward.btc.pay([(row.address, COIN // 2)])
    ward.btc.mine()
    await ward.follow()
    ward.btc.rewind(1)
    other = ward.btc.conflict(second)
    ward.btc.mine_exactly([])
    ward.btc.mine_exactly([])
    await ward.follow()
    assert deposit_codes(await ward.report(f"txid={second}"))[0] == "orphaned"
    ward.btc.mine(8)
    await ward.follow()
    found = await ward.report(f"txid={second}")
    assert (found["verdict"], deposit_codes(found)[0]) == ("not_credited", "reversed")
    assert other in found["summary"]


async def test_n10_a_stopped_or_degraded_network_is_named_names_only_to_the_operator(
    ward: Ward,
) -> None:
    watch = ward.watches["btc"]
    row = await watch.address("anna")
    async with watch.as_watcher.unit_of_work() as uow:
        await switches.open_breaker(
            uow,
            scope="asset:btc:BTC",
            action=Action.CREDIT,
            reason="node-7 drill by ada",
            actor="ada",
            ids=watch.ids,
            at=ward.clock.now(),
        )
    txid = ward.btc.pay([(row.address, COIN // 2)])
    ward.btc.mine()
    await ward.follow()
    await ward.observe("btc", error="node-7 has x")
    found = await ward.report(f"txid={txid}")
    assert deposit_codes(found)[:3] == ["step_due", "credit_stopped", "network_degraded"]
    assert "node-7" not in json.dumps(found)
    found = await ward.report(f"txid={txid}", key="operator-key")
    assert "node-7 drill by ada" in found["summary"]
    assert "node-7 has x" in json.dumps(found)


async def test_n10_a_retired_address_lists_its_deposits_and_says_that_they_count(
    ward: Ward,
) -> None:
    watch = ward.watches["btc"]
    old = await watch.address("anna")
    reply = await ward.house.call("POST", f"/v1/addresses/addr_test_{old.id.hex}/rotate", body={})
    assert reply.status == 200, reply.body
    ward.btc.pay([(old.address, COIN // 2)])
    ward.btc.mine()
    await ward.follow()
    found = await ward.report(f"address={old.address}")
    assert deposit_codes(found) == [
        "credited_provisional",
        "paid_to_retired_address",
        "webhooks_none",
    ]
    new = await watch.address("anna")
    found = await ward.report(f"address={new.address}")
    assert codes(found["findings"]) == ["address_without_deposit"]


async def test_d26_n10_another_form_of_an_address_is_explained_to_its_brand_alone(
    ward: Ward,
) -> None:
    """Asked by txid and by the address that the sender's wallet shows."""
    row = await ward.watches["btc"].address("anna")
    form = base58.encode_check(b"\x6f" + bytes.fromhex(row.key.removeprefix("0014")))
    txid = ward.btc.pay([(form, COIN)])
    ward.btc.mine()
    await ward.follow()
    for question in (f"txid={txid}", f"address={form}"):
        (first, *_) = (await ward.report(question))["findings"]
        assert first["code"] in ("paid_to_other_script", "address_other_script")
        assert row.address in first["text"]
    theirs = await ward.report(f"txid={txid}", key="zest-key")
    assert codes(theirs["findings"]) == ["pays_no_address"]
    theirs = await ward.report(f"address={form}", key="zest-key")
    assert codes(theirs["findings"]) == ["address_unknown"]
    (inflow,) = (await ward.house.call("GET", "/v1/inflows", key="operator-key")).json()["items"]
    assert (inflow["kind"], inflow["address"]) == ("other_script", row.address)


async def test_n10_a_player_has_the_newest_twenty_explained(ward: Ward) -> None:
    row = await ward.watches["btc"].address("anna")
    for number in range(22):
        ward.btc.pay([(row.address, COIN // 100 + number)])
    ward.btc.pay([(row.address, 500)])
    ward.btc.mine()
    await ward.follow()
    found = await ward.report("player_id=anna")
    assert len(found["deposits"]) == 20
    ids = [item["deposit"]["id"] for item in found["deposits"]]
    assert ids == sorted(ids, reverse=True)
    causes = {item["findings"][0]["code"] for item in found["deposits"]}
    assert causes <= {"credited_provisional", "below_minimum"}
    assert (await ward.look("player_id=anna", key="operator-key")).status == 422
    assert len((await ward.report("player_id=anna&brand=acme", key="operator-key"))["deposits"])


async def test_n10_the_webhooks_of_a_deposit_are_told(ward: Ward) -> None:
    row = await ward.watches["btc"].address("anna")
    txid = ward.btc.pay([(row.address, COIN // 2)])
    ward.btc.mine()
    await ward.follow()
    deposit = await ward.watches["btc"].deposit()
    await ward.house.rows(
        "INSERT INTO gateway.webhook_endpoints (id, brand, url, secret_sealed, state, created_at)"
        " VALUES (:id, 'acme', 'https://pam.test', '', 'active', :at)",
        id=deposit.id,
        at=ward.clock.now(),
    )
    await ward.house.rows(
        "INSERT INTO gateway.event_log (brand, seq, event_id, type, object_kind, object_id,"
        " object_version, body, created_at) VALUES ('acme', 1, :id, 'deposit.provisional',"
        " 'deposit', :id, 2, '', :at)",
        id=deposit.id,
        at=ward.clock.now(),
    )
    await ward.house.rows(
        "INSERT INTO gateway.deliveries (id, endpoint_id, brand, seq, event_id, object_id,"
        " object_version, state, next_attempt_at, is_oldest, created_at) VALUES (:id, :id, 'acme',"
        " 1, :id, :id, 2, 'pending', :at, true, :at)",
        id=deposit.id,
        at=ward.clock.now(),
    )
    assert deposit_codes(await ward.report(f"txid={txid}"))[-1] == "webhooks_pending"
    for state, code in (
        ("pending", "webhooks_failing"),
        ("parked", "webhooks_parked"),
        ("delivered", "webhooks_delivered"),
    ):
        await ward.house.rows(
            "UPDATE gateway.deliveries SET state = :state, attempts = 3, last_status = 500",
            state=state,
        )
        assert deposit_codes(await ward.report(f"txid={txid}"))[-1] == code
