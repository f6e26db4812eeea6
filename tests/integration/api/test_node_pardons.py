"""A node's bar over the API: two people end it, and nobody alone does (N05, A31)."""

from uuid import NAMESPACE_URL, uuid5

import pytest

from gateway.client import Reply
from tests.integration.api.test_switches import decide, second_key
from tests.support.api import STAFF_SCOPES, ApiHouse, problem

pytestmark = pytest.mark.postgres

LABEL = "node-a.internal:8332"
CAUSE = "lying: its effects of block 00ab are not those of 2 others"


async def caught(house: ApiHouse) -> None:
    """What a watcher writes down of a node that it caught now, once more."""
    named = {"label": LABEL, "at": house.clock.now()}
    await house.rows(
        "INSERT INTO chain.nodes (network, label, preference, state, reason, since, top_height, "
        "cause, version, observed_at, barred_at, barred_until) VALUES ('btc', :label, 0, 'lying', "
        ":cause, :at, 9, :cause, '', :at, :at, CAST(:at AS timestamptz) + interval '30 minutes') "
        "ON CONFLICT (network, label) DO UPDATE SET barred_at = excluded.barred_at, "
        "barred_until = excluded.barred_until",
        cause=CAUSE,
        **named,
    )
    await house.rows(
        "INSERT INTO gateway.alarms (id, kind, network, object_id, detail, raised_at, cleared_at) "
        "VALUES (:id, 'node_lying', 'btc', :node, :label, :at, :at)",
        id=house.ids.new_id(),
        node=uuid5(NAMESPACE_URL, f"btc/{LABEL}"),
        **named,
    )


async def pardon(house: ApiHouse, *, key: str = "ada-key", node: str = LABEL) -> Reply:
    """POST /v1/node_pardons."""
    return await house.call(
        "POST",
        "/v1/node_pardons",
        body={"network": "btc", "node": node, "reason": "its disk was replaced"},
        key=key,
        idempotency_key=house.ids.new_id().hex,
    )


async def granted(house: ApiHouse) -> list[tuple[str, str]]:
    """Who proposed and who approved each pardon."""
    rows = await house.rows(
        "SELECT proposed_by, approved_by FROM chain.node_pardons WHERE network = 'btc' "
        "AND label = :label AND reason = 'its disk was replaced' ORDER BY granted_at",
        label=LABEL,
    )
    return [(row["proposed_by"], row["approved_by"]) for row in rows]


async def test_n05_a31_two_people_end_the_bar_and_each_step_is_told(house: ApiHouse) -> None:
    await caught(house)
    first = await pardon(house)
    assert (first.status, first.json()["approval"]["state"]) == (202, "pending_approval")
    assert first.json()["approval"]["content"] == {
        "network": "btc",
        "node": LABEL,
        "cause": CAUSE,
    }
    assert await granted(house) == []
    second = await pardon(house, key="grace-key")
    assert (second.status, second.json()["approval"]["state"]) == (200, "done")
    assert second.json()["lies"] == 1
    assert await granted(house) == [("ada", "grace")]
    [event] = await house.rows(
        "SELECT snapshot FROM ledger.events WHERE type = 'node.pardoned' AND brand IS NULL"
    )
    assert (event["snapshot"]["node"], event["snapshot"]["approved_by"]) == (LABEL, "grace")
    audited = await house.rows(
        "SELECT subject FROM gateway.audit WHERE action = 'node_pardon.created'"
    )
    assert [row["subject"] for row in audited] == [f"btc/{LABEL}"]
    again = await pardon(house)
    assert (again.status, problem(again)["code"]) == (409, "not_barred")


async def test_n05_the_second_person_may_answer_the_proposal_itself(house: ApiHouse) -> None:
    await caught(house)
    approval = (await pardon(house)).json()["approval"]["id"]
    done = await decide(house, approval, key="grace-key")
    assert (done.status, done.json()["state"]) == (200, "done")
    assert await granted(house) == [("ada", "grace")]


@pytest.mark.parametrize("way", ["node_pardons", "approvals"])
async def test_n05_a31_one_person_with_two_keys_ends_nothing(house: ApiHouse, way: str) -> None:
    await caught(house)
    other = await second_key(house, "ada")
    approval = (await pardon(house)).json()["approval"]["id"]
    if way == "approvals":
        refused = await decide(house, approval, key=other)
    else:
        refused = await pardon(house, key=other)
    assert (refused.status, problem(refused)["code"]) == (403, "same_person")
    assert await granted(house) == []


async def test_n05_a_lie_that_the_first_person_did_not_know_voids_their_word(
    house: ApiHouse,
) -> None:
    await caught(house)
    approval = (await pardon(house)).json()["approval"]["id"]
    house.tick(60)
    await caught(house)
    refused = await decide(house, approval, key="grace-key")
    assert (refused.status, problem(refused)["code"]) == (409, "changed_meanwhile")
    asked = await pardon(house, key="grace-key")
    assert (asked.status, asked.json()["approval"]["proposed_by"]) == (202, "grace")
    assert await granted(house) == []


async def test_n05_a_lie_after_a_pardon_is_barred_and_may_be_pardoned_again(
    house: ApiHouse,
) -> None:
    for _ in range(2):
        await caught(house)
        await pardon(house)
        assert (await pardon(house, key="grace-key")).status == 200
        house.tick(1)
    assert await granted(house) == [("ada", "grace")] * 2


async def test_n05_who_is_not_barred_needs_no_pardon(house: ApiHouse) -> None:
    unknown = await pardon(house, node="nobody:1")
    assert (unknown.status, problem(unknown)["code"]) == (409, "not_barred")
    await caught(house)
    house.tick(1_801)
    over = await pardon(house)
    assert (over.status, problem(over)["code"]) == (409, "not_barred")


async def test_a29_a_person_of_one_brand_decides_nothing_about_nodes(house: ApiHouse) -> None:
    await house.add_key(
        "local-key",
        kind="staff",
        brand="acme",
        person="lou",
        scopes=STAFF_SCOPES,
        roles=("treasury",),
    )
    await caught(house)
    refused = await pardon(house, key="local-key")
    assert refused.status == 403
    assert await house.rows("SELECT 1 FROM gateway.approvals WHERE kind = 'node_pardon'") == []
