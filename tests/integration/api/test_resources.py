"""Addresses, deposits, funds, events, webhooks, wallets, inflows, books, health."""

import json

from openapi_spec_validator import validate

from gateway.api.role import endpoints
from tests.support.api import ApiHouse, problem

COIN = 100_000_000


async def test_an_address_is_the_same_until_it_is_rotated(house: ApiHouse) -> None:
    async def create() -> dict[str, object]:
        reply = await house.call("POST", "/v1/players/p1/addresses", body={"network": "btc"})
        found: dict[str, object] = reply.json()
        return found

    first, again = await create(), await create()
    rotated = await house.call("POST", f"/v1/addresses/{first['id']}/rotate")
    now = await create()
    old = (await house.call("GET", f"/v1/addresses/{first['address']}")).json()
    assert first == again
    assert rotated.json() == now != first
    assert str(first["uri"]).startswith("bitcoin:")
    assert str(first["qr_svg"]).startswith("<svg")
    assert first["attestation"] is None
    assert old["retired_at"] is not None
    assert (await house.call("POST", f"/v1/addresses/{first['id']}/rotate")).status == 404


async def test_an_empty_pool_is_a_503_that_says_so(house: ApiHouse) -> None:
    await house.rows("UPDATE chain.addresses SET is_verified = false")
    reply = await house.call("POST", "/v1/players/p1/addresses", body={"network": "eth"})
    assert (reply.status, problem(reply)["code"]) == (503, "pool_empty")
    assert reply.headers["Retry-After"]


async def test_deposits_show_state_amount_and_timeline(house: ApiHouse) -> None:
    await house.deposit(
        brand="acme", player_id="p1", asset="eth:USDT", amount_minor=1_500_000, state="final"
    )
    [found] = (await house.call("GET", "/v1/deposits?player_id=p1")).json()["items"]
    assert (found["amount"], found["amount_minor"], found["state"]) == ("1.5", "1500000", "final")
    one = await house.call("GET", f"/v1/deposits/{found['id']}")
    assert {name: one.json()[name] for name in found} == found
    timeline = (await house.call("GET", f"/v1/deposits/{found['id']}/timeline")).json()
    assert [item["state"] for item in timeline["items"]] == ["final"]


async def test_funds_are_shown_by_asset_and_stage(house: ApiHouse) -> None:
    await house.fund("acme", "btc:BTC", COIN)
    await house.deposit(
        brand="acme", player_id="p1", asset="btc:BTC", amount_minor=7, state="provisional"
    )
    await house.withdraw(amount="0.25", pam_balance="1")
    funds = (await house.call("GET", "/v1/players/p1/funds")).json()
    [bitcoin] = [item for item in funds["assets"] if item["asset"] == "btc:BTC"]
    assert (bitcoin["provisional_minor"], bitcoin["reserved"]) == ("7", "0.25")
    assert (bitcoin["in_flight"], bitcoin["on_hold"], bitcoin["final_total"]) == ("0", "0", "0")


async def test_networks_and_assets_are_those_of_the_configuration(house: ApiHouse) -> None:
    networks = (await house.call("GET", "/v1/networks")).json()["items"]
    assets = {
        item["asset"]: item for item in (await house.call("GET", "/v1/assets")).json()["items"]
    }
    assert [item["network"] for item in networks] == ["btc", "ltc", "eth"]
    assert {item["fee_class"] for item in networks[0]["fee_classes"]} == {
        "urgent",
        "normal",
        "economy",
    }
    assert assets["eth:USDT"]["decimals"] == 6
    assert assets["eth:USDT"]["caip19"].startswith("eip155:31337/erc20:0x")


async def test_the_feed_repeats_the_numbered_text_byte_for_byte(house: ApiHouse) -> None:
    for seq in (1, 2, 3):
        await house.rows(
            "INSERT INTO gateway.event_log (brand, seq, event_id, type, object_kind, object_id,"
            " object_version, body, created_at) VALUES ('acme', :seq, :id, 'x', 'withdrawal', :id,"
            " 1, :body, :at)",
            seq=seq,
            id=house.ids.new_id(),
            body=json.dumps({"seq": seq, "amount": "0.10"}),
            at=house.clock.now(),
        )
    reply = await house.call("GET", "/v1/events?after=1&limit=5")
    assert reply.body == (
        b'{"items":[{"seq": 2, "amount": "0.10"},{"seq": 3, "amount": "0.10"}],"next_after":3}'
    )
    empty = await house.call("GET", "/v1/events?after=3")
    assert empty.json() == {"items": [], "next_after": 3}
    assert (await house.call("GET", "/v1/events?after=-1")).status == 422


async def test_a_webhook_secret_is_shown_once_and_stored_sealed(house: ApiHouse) -> None:
    body = {"url": "https://acme.example/hook", "types": ["deposit.*"]}
    made = await house.call("POST", "/v1/webhook_endpoints", body=body, idempotency_key="k1")
    again = await house.call("POST", "/v1/webhook_endpoints", body=body, idempotency_key="k1")
    secret = made.json()["secret"]
    assert (made.status, again.status) == (201, 201)
    assert secret.startswith("whsec_")
    assert again.json() == {**made.json(), "secret": None}
    shown = await house.call("GET", f"/v1/webhook_endpoints/{made.json()['id']}")
    assert shown.json()["secret"] is None
    [row] = await house.rows("SELECT secret_sealed FROM gateway.webhook_endpoints")
    assert secret.encode() not in bytes(row["secret_sealed"])


async def test_a_rotated_webhook_secret_overlaps_with_the_old_one(house: ApiHouse) -> None:
    made = await house.call(
        "POST", "/v1/webhook_endpoints", body={"url": "https://acme.example/hook"}
    )
    path = f"/v1/webhook_endpoints/{made.json()['id']}"
    changed = (await house.call("PATCH", path, body={"rotate_secret": True})).json()
    assert changed["secret"] not in (None, made.json()["secret"])
    assert changed["previous_secret_until"] == "2026-01-02T00:00:00.000000Z"
    gone = await house.call("DELETE", path)
    assert (gone.status, (await house.call("GET", path)).status) == (200, 404)


async def test_a34_webhook_targets_inside_are_refused(house: ApiHouse) -> None:
    for url in ("http://acme.example/", "https://127.0.0.1/", "https://2130706433/", "ftp://x"):
        reply = await house.call("POST", "/v1/webhook_endpoints", body={"url": url})
        assert (reply.status, problem(reply)["code"]) == (422, "target_refused"), url


async def test_a31_an_inflow_takes_two_people(house: ApiHouse) -> None:
    await house.inflow(asset="btc:BTC", amount_minor=COIN)
    [inflow] = (await house.call("GET", "/v1/inflows", key="ada-key")).json()["items"]
    await house.add_key(
        "ada-second-key",
        kind="staff",
        brand=None,
        person="ada",
        scopes=("treasury:write",),
        roles=("treasury",),
    )

    async def assign(key: str, target: str = "capital") -> tuple[int, dict[str, object]]:
        reply = await house.call(
            "POST",
            f"/v1/inflows/{inflow['id']}/assign",
            body={"as": target},
            key=key,
            idempotency_key=f"{key}:{target}",
        )
        return reply.status, reply.json()

    first = await assign("ada-key")
    alone = await assign("ada-second-key")
    other = await assign("grace-key", "clearing:acme")
    second = await assign("grace-key")
    assert (first[0], first[1]["state"]) == (202, "pending_approval")
    assert (alone[0], alone[1]["state"]) == (202, "pending_approval")
    assert other[0] == 409
    assert (second[0], second[1]["state"], second[1]["approved_by"]) == (200, "done", "grace")
    report = (await house.call("GET", "/v1/ledger/trial_balance", key="ada-key")).json()
    amounts = {item["account"]: item["balance"] for item in report["accounts"]}
    assert amounts["equity:capital:btc:BTC"] == "1"
    assert amounts["suspense:btc:BTC"] == "0"
    assert report["balanced"] is True


async def test_inflows_are_no_business_of_clients(house: ApiHouse) -> None:
    assert (await house.call("GET", "/v1/inflows")).status == 403


async def test_a_brand_sees_its_own_part_of_the_books(house: ApiHouse) -> None:
    await house.fund("acme", "btc:BTC", COIN)
    await house.fund("bravo", "btc:BTC", COIN)
    mine = (await house.call("GET", "/v1/ledger/trial_balance")).json()
    every = (await house.call("GET", "/v1/ledger/trial_balance", key="ada-key")).json()
    assert [item["account"] for item in mine["accounts"]] == ["brand:acme:clearing:btc:BTC"]
    assert len(every["accounts"]) == 3
    assert every["totals"][0]["debits_minor"] == "200000000"


async def test_wallets_show_books_chain_and_band_and_the_plan_moves_nothing(
    house: ApiHouse,
) -> None:
    await house.fund("acme", "btc:BTC", COIN // 4)
    wallets = (await house.call("GET", "/v1/wallets", key="ada-key")).json()["items"]
    [hot] = [item for item in wallets if item["wallet"] == "btc/hot"]
    assert (hot["ledger"], hot["chain"], hot["band"]["status"]) == ("0.25", None, "low")
    plan = (await house.call("POST", "/v1/rebalances/plan", key="ada-key")).json()
    assert [(item["direction"], item["amount"]) for item in plan["items"]] == [
        ("cold_to_hot", "0.75")
    ]
    assert (await house.call("GET", "/v1/wallets")).json()["items"] == []


async def test_a_reconciliation_checks_the_books_and_asks_every_watcher(house: ApiHouse) -> None:
    await house.fund("acme", "btc:BTC", COIN)
    run = (await house.call("POST", "/v1/reconciliations", key="ada-key")).json()
    assert (run["state"], run["breaks"]) == ("running", [])
    early = await house.call("GET", f"/v1/reconciliations/{run['id']}/breaks", key="ada-key")
    assert early.status == 409
    await house.rows(
        "UPDATE chain.probes SET state = 'failed', answer = CAST(:answer AS jsonb)",
        answer=json.dumps({"error": "NodeUnavailable"}),
    )
    done = (await house.call("GET", f"/v1/reconciliations/{run['id']}", key="ada-key")).json()
    assert done["state"] == "done"
    assert {network["error"] for network in done["networks"]} == {"NodeUnavailable"}
    assert {item["kind"] for item in done["breaks"]} == {"not_compared"}


async def test_n20_nodes_are_told_to_the_house_and_without_their_place_to_a_brand(
    house: ApiHouse,
) -> None:
    await house.rows(
        "INSERT INTO chain.nodes (network, label, preference, state, reason, since, height, hash,"
        " top_height, cause, version, observed_at) VALUES ('btc', '10.0.0.7:8332', 0, 'lagging',"
        " '3 blocks behind', :at, 9, 'ab', 9, '', '/Satoshi:29.0.0/', :at)",
        at=house.clock.now(),
    )
    told = {}
    for key in ("acme-key", "ada-key"):
        networks = (await house.call("GET", "/v1/networks", key=key)).json()["items"]
        [told[key]] = networks[0]["nodes"]
        assert (networks[0]["quorum"], networks[1]["nodes"]) == (1, [])
    ours, brands = told["ada-key"], told["acme-key"]
    assert (ours["node"], ours["reason"]) == ("10.0.0.7:8332", "3 blocks behind")
    assert (brands["node"], brands["reason"], brands["version"]) == ("node-1", None, None)
    assert (brands["state"], brands["height"]) == ("lagging", 9)


async def test_readiness_follows_every_network(house: ApiHouse) -> None:
    async with house.client() as client:
        before = await client.request("GET", "/health/ready")
        for network in ("btc", "ltc", "eth"):
            await house.rows(
                "INSERT INTO chain.node_health (network, nodes_total, nodes_agreeing, is_healthy,"
                " observed_at) VALUES (:network, 1, 1, true, :at)",
                network=network,
                at=house.clock.now(),
            )
            await house.rows(
                "INSERT INTO chain.cursors (network, updated_at) VALUES (:network, :at)"
                " ON CONFLICT DO NOTHING",
                network=network,
                at=house.clock.now(),
            )
        after = await client.request("GET", "/health/ready")
        house.clock.advance(31)
        stale = await client.request("GET", "/health/ready")
    assert {network["reason"] for network in stale.json()["networks"]} == {"stale"}
    assert stale.status == 503
    assert (before.status, before.json()["status"]) == (503, "degraded")
    assert (after.status, after.json()["status"]) == (200, "ready")


async def test_metrics_count_calls_without_secrets(house: ApiHouse) -> None:
    await house.withdraw()
    async with house.client() as client:
        text = (await client.request("GET", "/metrics")).body.decode()
    assert 'cage_api_requests_total{method="POST",route="/v1/withdrawals",status="202"} 1.0' in text
    assert 'cage_withdrawals_open{state="waiting_liquidity"} 1.0' in text
    assert "acme-key" not in text


async def test_the_document_is_valid_and_names_every_operation(house: ApiHouse) -> None:
    async with house.client() as client:
        document = (await client.request("GET", "/openapi.json")).json()
    validate(document)
    assert document["openapi"] == "3.1.0"
    for item in endpoints():
        assert item.method.lower() in document["paths"][item.path]
    body = document["components"]["schemas"]["WithdrawalIn"]
    assert body["additionalProperties"] is False
    assert "deposit.*" in document["webhooks"]


async def test_a38_secrets_stand_in_no_table(house: ApiHouse) -> None:
    """The sealing key and a webhook secret are searched in every text of every table."""
    made = await house.call(
        "POST",
        "/v1/webhook_endpoints",
        body={"url": "https://acme.example/hook"},
        idempotency_key="k1",
    )
    settings = house.registry.settings
    key_file = settings.path(settings.keys.sealed_key_file)
    canaries = (made.json()["secret"], key_file.read_text().strip())
    tables = await house.rows(
        "SELECT table_schema, table_name FROM information_schema.tables"
        " WHERE table_schema IN ('gateway', 'ledger', 'chain', 'config')"
    )
    for table in tables:
        name = f"{table['table_schema']}.{table['table_name']}"
        for row in await house.rows(f"SELECT CAST(t AS text) AS text FROM {name} t"):
            for canary in canaries:
                assert canary not in row["text"], name
                assert canary.encode().hex() not in row["text"], name
