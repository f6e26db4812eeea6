"""The doctor's judgement: every finding from the facts that cause it, in words that fit them."""

from dataclasses import replace

import pytest

from config.registry import load_registry
from config.settings import NetworkSettings, Settings
from tests.architecture.source import ROOT
from tests.support.clock import START
from tests.support.deposit_rows import PENDING as DEPOSIT
from watchers import doctor
from watchers.chain import FeeQuote
from watchers.deposits import DepositRow, DepositState
from watchers.doctor import DepositFacts, NetworkFacts, Pay, Sighting, Told
from watchers.eta import DepositEta, Eta
from watchers.findings import ADVICE, Actor, Finding, FindingCode, Severity

BTC = load_registry(Settings(networks={"btc": NetworkSettings(chain="regtest")})).assets["btc:BTC"]
RIVAL = "ee" * 32
QUOTE = FeeQuote(rates={2: 20_000, 36: 5_000}, floor=1_000, base_fee=0)
SOON = Eta(blocks=2, p50_seconds=1_000, p90_seconds=2_300)
LATER = Eta(blocks=5, p50_seconds=2_800, p90_seconds=4_800)
ETA = DepositEta(provisional=SOON, final=LATER)
WELL = NetworkFacts(name="btc", height=100, tip_height=100)

UNMINED = replace(DEPOSIT, state=DepositState.DETECTED, block_hash=None, height=None)


def facts(deposit: DepositRow, **changes: object) -> DepositFacts:
    return replace(
        DepositFacts(deposit=deposit, network=WELL, asset=BTC, eta=ETA),
        **changes,  # type: ignore[arg-type]
    )


def of(state: DepositState, **changes: object) -> DepositFacts:
    return facts(replace(DEPOSIT, state=state, **changes))  # type: ignore[arg-type]


PAY = Pay(
    position="out:0",
    asset="btc:BTC",
    is_listed=True,
    amount_minor=1,
    address="bcrt1q",
    meant="btc",
    role="deposit",
    player_id="anna",
    stands=None,
    search=None,
)
MINED = Sighting(network="btc", place="mined", height=90, followed_height=100, first_height=10)
POOLED = Sighting(network="btc", place="mempool", followed_height=100, first_height=10)
S, C = DepositState, FindingCode

DEPOSITS = [
    (C.CREDITED_FINAL, of(S.FINAL), "0.5 BTC is credited for good"),
    (C.CREDITED_PROVISIONAL, of(S.PROVISIONAL), "withdrawn at 6 confirmations; it has 1"),
    (C.IN_MEMPOOL_WAITING, facts(UNMINED), "in no block yet"),
    (C.IN_MEMPOOL_WAITING, facts(UNMINED, fee_rate=5_000, quote=QUOTE), "in no block yet"),
    (C.FEE_LOW_WAITING, facts(UNMINED, fee_rate=4_999, quote=QUOTE), "(4999; now 5000)"),
    (C.CONFIRMING, of(S.PENDING), "has 1 of 2 confirmations"),
    (C.STEP_DUE, of(S.PENDING, height=99), "has its 2 confirmations"),
    (C.EXPOSURE_CAP, of(S.PENDING, substatus="exposure_cap"), "waits for room"),
    (C.BELOW_MINIMUM, of(S.BELOW_MINIMUM), "less than the smallest deposit"),
    (C.UNLISTED_TOKEN, of(S.UNSUPPORTED, asset="eth:0xab"), "not accepted: eth:0xab"),
    (C.WRONG_NETWORK, of(S.UNSUPPORTED, substatus="wrong_network"), "belongs to another"),
    (C.ON_HOLD, of(S.ON_HOLD, substatus="screening"), "held: screening"),
    (C.REJECTED, of(S.REJECTED), "rejected"),
    (C.REFUNDING, of(S.REFUNDING), "on its way back"),
    (C.REFUNDED, of(S.REFUNDED), "sent back"),
    (C.ORPHANED, of(S.ORPHANED), "has left the block"),
    (C.REVERSED, of(S.REVERSED, conflict_txid=RIVAL), f"({RIVAL} took its place)"),
    (C.REPLACED_BY, of(S.REPLACED, conflict_txid=RIVAL), RIVAL),
    (C.DROPPED, of(S.DROPPED), "never in a block"),
]
BESIDES = [
    (C.RATE_STALE, replace(DEPOSITS[7][1], is_rate_fresh=False), "reference rate of btc:BTC"),
    (C.INTERNAL, of(S.FINAL, is_internal=True), "withdrawal of this cashier"),
    (C.PAID_TO_RETIRED_ADDRESS, replace(of(S.FINAL), is_retired=True), "older address"),
    (
        C.CREDIT_STOPPED,
        facts(DEPOSIT, network=replace(WELL, stopped_reason="a drill")),
        "Credits of btc are stopped: a drill",
    ),
    (
        C.CREDIT_STOPPED,
        facts(DEPOSIT, network=replace(WELL, stopped_assets={"btc:BTC": "a drill"})),
        "Credits of btc:BTC are stopped",
    ),
    (
        C.NETWORK_DEGRADED,
        facts(DEPOSIT, network=replace(WELL, error="a has x, b has y")),
        "disagree: a has x",
    ),
    (
        C.WATCHER_BEHIND,
        facts(DEPOSIT, network=replace(WELL, tip_height=106)),
        "Block 106 of btc is known, but only 100",
    ),
    (
        C.WATCHER_SILENT,
        facts(DEPOSIT, network=replace(WELL, silent_since=START)),
        "since 2026-01-01T00:00:00+00:00",
    ),
    (
        C.WEBHOOKS_DELIVERED,
        facts(DEPOSIT, told=Told(delivered=3, last_type="deposit.pending")),
        "3 events, the last was deposit.pending",
    ),
    (C.WEBHOOKS_PENDING, facts(DEPOSIT, told=Told(pending=1)), "1 events are on their way"),
    (
        C.WEBHOOKS_FAILING,
        facts(DEPOSIT, told=Told(delivered=1, failing=2, last_answer="HTTP 500")),
        "refuses 2 events (last answer: HTTP 500)",
    ),
    (C.WEBHOOKS_PARKED, facts(DEPOSIT, told=Told(parked=1)), "refused 1 events for days"),
    (C.WEBHOOKS_NONE, facts(DEPOSIT), "No webhook was sent"),
]
SIGHTINGS = [
    (C.NOT_FOUND_ANYWHERE, Sighting(network="btc", place="unknown"), "No node of btc"),
    (C.NODE_UNANSWERED, Sighting(network="btc", place=None, error="time-out"), "time-out"),
    (C.STILL_ASKING, Sighting(network="btc", place=None), "has not answered yet"),
    (C.PAYS_NO_ADDRESS, MINED, "pays no address of yours"),
    (C.PAYS_NO_ADDRESS, POOLED, "pays no address of yours"),
    (C.FAILED_TX, replace(MINED, is_success=False, pays=(PAY,)), "in block 90, but it failed"),
    (C.PAYS_NO_ADDRESS, replace(MINED, is_success=False), "pays no address of yours"),
    (
        C.WRONG_NETWORK,
        replace(MINED, pays=(replace(PAY, meant="ltc"),)),
        "came on btc, but belongs to ltc",
    ),
    (
        C.PAID_TO_OTHER_SCRIPT,
        replace(MINED, pays=(replace(PAY, is_other_script=True, stands="booked"),)),
        "pays another form of bcrt1q: the same key",
    ),
    (
        C.PAID_TO_OTHER_SCRIPT,
        replace(POOLED, pays=(replace(PAY, is_other_script=True),)),
        "pays another form of bcrt1q: the same key",
    ),
    (C.PAID_TO_OWN_WALLET, replace(MINED, pays=(replace(PAY, role="hot"),)), "a hot wallet"),
    (
        C.PAID_TO_UNISSUED_ADDRESS,
        replace(MINED, pays=(replace(PAY, player_id=None),)),
        "pays bcrt1q, which no player had",
    ),
    (
        C.PAID_TO_UNISSUED_ADDRESS,
        replace(MINED, pays=(replace(PAY, stands="booked"),)),
        "which no player had when it arrived",
    ),
    (C.IN_MEMPOOL_WAITING, replace(POOLED, pays=(PAY,)), "in no block yet"),
    (C.FEE_LOW_WAITING, replace(POOLED, pays=(PAY,), fee_rate=1), "(1; now 5000)"),
    (C.WATCHER_BEHIND, replace(MINED, height=101, pays=(PAY,)), "Block 101 of btc"),
    (C.WATCHER_BEHIND, replace(MINED, followed_height=None, pays=(PAY,)), "only none"),
    (C.UNDER_SEARCH, replace(MINED, pays=(replace(PAY, search="short"),)), "(short)"),
    (C.UNLISTED_TOKEN, replace(MINED, pays=(replace(PAY, is_listed=False),)), "not accepted"),
    (C.BEFORE_WATCH, replace(MINED, height=9, pays=(PAY,)), "first one that was read here (10)"),
    (C.NOT_RECORDED, replace(MINED, pays=(PAY,)), "should stand here and does not"),
]
OF_SUBJECTS = {
    C.ADDRESS_UNKNOWN,
    C.ADDRESS_OTHER_SCRIPT,
    C.ADDRESS_WITHOUT_DEPOSIT,
    C.PLAYER_WITHOUT_DEPOSIT,
}


def only(found: list[Finding], code: FindingCode) -> Finding:
    (one,) = [item for item in found if item.code is code]
    return one


@pytest.mark.parametrize(("code", "given", "words"), DEPOSITS, ids=[str(d[0]) for d in DEPOSITS])
def test_n10_the_state_of_a_deposit_is_said_first(
    code: FindingCode, given: DepositFacts, words: str
) -> None:
    found = doctor.of_deposit(given)
    assert found[0].code is code
    assert words in found[0].text


@pytest.mark.parametrize(("code", "given", "words"), BESIDES, ids=[str(d[0]) for d in BESIDES])
def test_n10_what_stands_in_the_way_is_said_beside_it(
    code: FindingCode, given: DepositFacts, words: str
) -> None:
    found = doctor.of_deposit(given)
    assert found[0].code is not code
    assert words in only(found, code).text


@pytest.mark.parametrize(("code", "seen", "words"), SIGHTINGS, ids=[str(d[0]) for d in SIGHTINGS])
def test_n10_what_the_nodes_said_is_said(code: FindingCode, seen: Sighting, words: str) -> None:
    (found,) = doctor.of_sightings([seen], {"btc": QUOTE})
    assert found.code is code
    assert words in found.text


def test_n10_a_call_that_no_node_traces_is_named_beside_the_empty_result() -> None:
    found = doctor.of_sightings([replace(MINED, is_untraced=True)])
    assert [item.code for item in found] == [C.PAYS_NO_ADDRESS, C.INSIDE_CALL_UNSEEN]


def test_n10_the_network_that_has_the_tx_speaks_alone() -> None:
    seen = [
        Sighting(network="ltc", place="unknown"),
        replace(MINED, pays=(PAY,)),
        Sighting(network="doge", place=None, error="down"),
    ]
    assert [item.network for item in doctor.of_sightings(seen)] == ["btc"]


def test_n10_a_tx_is_not_called_missing_while_a_network_has_not_answered() -> None:
    seen = [Sighting(network="ltc", place="unknown"), Sighting(network="btc", place=None)]
    assert [item.code for item in doctor.of_sightings(seen)] == [C.STILL_ASKING]


def test_n10_a_settled_deposit_is_not_blamed_on_the_network() -> None:
    sick = replace(WELL, error="down", stopped_reason="a drill", tip_height=500)
    found = doctor.of_deposit(replace(of(S.FINAL), network=sick))
    assert [item.code for item in found] == [C.CREDITED_FINAL, C.WEBHOOKS_NONE]


def test_n10_the_eta_is_that_of_the_step_that_comes_next() -> None:
    assert doctor.of_deposit(of(S.PENDING))[0].eta == SOON
    assert doctor.of_deposit(of(S.PROVISIONAL))[0].eta == LATER
    assert doctor.of_deposit(of(S.PENDING, substatus="exposure_cap"))[0].eta == LATER
    assert doctor.of_deposit(of(S.FINAL))[0].eta is None


def test_n10_the_summary_names_the_cause_and_what_blocks_it() -> None:
    blocked = facts(DEPOSIT, network=replace(WELL, stopped_reason="a drill"))
    text = doctor.summary(doctor.of_deposit(blocked))
    assert text == ("The payment has 1 of 2 confirmations. Credits of btc are stopped: a drill.")


def test_n10_every_state_of_a_deposit_is_explained() -> None:
    for state in DepositState:
        assert doctor.of_deposit(of(state))


def test_n10_every_finding_is_in_these_tables_and_in_the_document() -> None:
    shown = {item[0] for item in (*DEPOSITS, *BESIDES, *SIGHTINGS)} | {C.INSIDE_CALL_UNSEEN}
    assert shown | OF_SUBJECTS == set(FindingCode)
    assert set(ADVICE) == set(FindingCode)
    text = (ROOT / "docs" / "integration" / "doctor.md").read_text(encoding="utf-8")
    assert {code for code in FindingCode if f"`{code}`" not in text} == set()


def test_n10_whoever_has_to_act_is_told_how() -> None:
    for advice in ADVICE.values():
        if advice.severity in (Severity.ACT, Severity.ALARM):
            assert advice.who is not Actor.NOBODY
            assert advice.remedy
