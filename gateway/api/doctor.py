"""`GET /v1/deposits/doctor`: why a deposit is or is not credited, within 5 s (FEATURES N10).

A lookup that needs nodes asks them in its unit of work and waits outside of it; what is not there
in time is fetched by its link. The caller's view decides what exists: a tx that pays another brand
is told like one that pays a stranger (A29).
"""

import re
from collections.abc import Sequence

from config.clock import Clock
from config.database import Database
from gateway import doctor
from gateway.api import wire_objects
from gateway.api.endpoint import Answer, Call, endpoint
from gateway.api.players import check_player
from gateway.api.wire_base import WireContext
from gateway.api.wire_doctor import (
    DepositExplained,
    DoctorQuery,
    DoctorReport,
    FindingOut,
    NetworkAsked,
    PostingRef,
)
from gateway.api.wire_objects import DepositEtaOut, EtaOut
from gateway.doctor import Explained, Report, View
from gateway.doctor_store import CaseRow
from gateway.errors import FieldError, Invalid, NotFound, invalid_field
from watchers import addresses, eta
from watchers.addresses import AddressRow
from watchers.deposit_commands import snapshot
from watchers.doctor import Sighting, is_credited
from watchers.errors import InvalidAddress
from watchers.findings import Finding
from watchers.registry import issued_keys

READ = frozenset({"deposits:read"})
PATH = "/v1/deposits/doctor"
WAIT_SECONDS = 4.0  # of the 5 s that a caller waits at most (CONTRACT 3)
POLL_SECONDS = 0.1
KINDS = ("txid", "address", "player_id")

_TXID = re.compile(r"(?:0x)?[0-9a-fA-F]{64}", re.ASCII)


@endpoint(
    "GET",
    PATH,
    "Why a deposit is or is not credited: by txid, address or player.",
    answers=DoctorReport,
    query=DoctorQuery,
    scopes=READ,
    may_be_pending=True,
)
async def diagnose_deposits(call: Call) -> Answer:
    """Within 5 s; 202 with a link while nodes have not answered."""
    query: DoctorQuery = call.query
    given = {kind: text for kind in KINDS if (text := getattr(query, kind)) is not None}
    if len(given) != 1:
        raise Invalid(
            "one_subject",
            "Give exactly one of txid, address and player_id.",
            errors=[
                FieldError(field=kind, code="one_subject", detail="Only one of the three.")
                for kind in given or KINDS
            ],
        )
    ((kind, text),) = given.items()
    view = _view(call)
    if kind == "txid":
        return await _by_txid(call, view, _parse_txid(text, view))
    if kind == "address":
        report = await _by_address(call, view, text)
    else:
        player = check_player(text)
        brand = call.require_brand()
        report = await doctor.of_player(call.uow, view, brand=brand, player_id=player)
    return Answer(body=_wire(call.services.wire, view, report, kind=kind, subject=text))


@endpoint(
    "GET",
    PATH + "/{id}",
    "The answer of a lookup that asked nodes.",
    answers=DoctorReport,
    scopes=READ,
    may_be_pending=True,
)
async def get_diagnosis(call: Call) -> Answer:
    """As far as it has come; 202 until every network has answered or is given up."""
    view = _view(call)
    case = await doctor.case_of(call.uow, view, call.object_id("doctor_case"))
    if case is None:
        raise NotFound
    seen = await doctor.sightings(call.uow, view, case)
    report = await doctor.of_tx(call.uow, view, case.txid, seen)
    return _answer(call.services.wire, view, report, case=case)


def _view(call: Call) -> View:
    services = call.services
    return View(brand=call.brand, registry=services.registry, ids=services.ids, at=call.at)


def _parse_txid(text: str, view: View) -> str:
    """Lower case; 422 for what no network of ours could have."""
    if not _TXID.fullmatch(text):
        raise invalid_field(
            "txid", "invalid", "A txid is 64 hex digits, on account chains with 0x before them."
        )
    txid = text.lower()
    if not doctor.networks_of(view.registry, txid):
        form = "without 0x" if txid.startswith("0x") else "with 0x before its digits"
        raise invalid_field(
            "txid", "unknown_network", f"No network here has such txids; they are {form}."
        )
    return txid


async def _by_address(call: Call, view: View, text: str) -> Report:
    rows: list[AddressRow] = []
    siblings: list[AddressRow] = []
    networks: list[str] = []
    problem: InvalidAddress | None = None
    for network, codec in call.services.codecs.items():
        try:
            key = codec.parse(text).key
        except InvalidAddress as error:
            problem = error
            continue
        networks.append(network)
        row = await addresses.by_text(call.uow, network=network, key=key)
        rows.extend([] if row is None else [row])
        for issued in issued_keys(view.registry.chains[network].family, [key]).values():
            other = await addresses.by_text(call.uow, network=network, key=issued)
            siblings.extend([] if other is None else [other])
    if not networks:
        remedy = "" if problem is None else f" {problem.reason.capitalize()}; {problem.remedy}."
        raise invalid_field("address", "invalid", f"No network here has this address.{remedy}")
    return await doctor.of_addresses(call.uow, view, rows, networks, siblings=siblings)


async def _by_txid(call: Call, view: View, txid: str) -> Answer:
    case = await doctor.open_case(call.uow, view, txid)
    wire = call.services.wire
    if case is None:
        report = await doctor.of_tx(call.uow, view, txid, ())
        return Answer(body=_wire(wire, view, report, kind="txid", subject=txid))
    asked = case

    async def later() -> Answer:
        report = await _wait(call.services.database, call.services.clock, view, asked)
        return _answer(wire, view, report, case=asked)

    return Answer(body=None, later=later)


async def _wait(database: Database, clock: Clock, view: View, case: CaseRow) -> Report:
    """Look for answers until they are complete or the time is over; each look is a unit of work
    of its own, under the caller's view."""
    ends_seconds = clock.monotonic_seconds() + WAIT_SECONDS
    while True:
        async with database.unit_of_work(brand=view.brand) as uow:
            seen = await doctor.sightings(uow, view, case)
            is_over = clock.monotonic_seconds() >= ends_seconds
            if is_over or doctor.is_complete(seen):
                return await doctor.of_tx(uow, view, case.txid, seen)
        await clock.sleep(POLL_SECONDS)


def _answer(wire: WireContext, view: View, report: Report, *, case: CaseRow) -> Answer:
    body = _wire(wire, view, report, kind="txid", subject=case.txid, case=case)
    if report.is_complete:
        return Answer(body=body)
    headers = {"Location": str(body.link), "Retry-After": "1"}
    return Answer(body=body, status=202, headers=headers)


def _wire(
    wire: WireContext,
    view: View,
    report: Report,
    *,
    kind: str,
    subject: str,
    case: CaseRow | None = None,
) -> DoctorReport:
    key = None if case is None else wire.id("doctor_case", case.id)
    return DoctorReport.model_validate(
        {
            "id": key,
            "link": None if key is None else f"{PATH}/{key}",
            "brand": view.brand,
            "livemode": wire.livemode,
            "kind": kind,
            "subject": subject,
            "verdict": report.verdict.value,
            "summary": report.summary,
            "findings": _findings(report.findings),
            "deposits": [_deposit(wire, item) for item in report.deposits],
            "networks": [_asked(item) for item in report.asked],
        }
    )


def _deposit(wire: WireContext, item: Explained) -> DepositExplained:
    found = item.eta
    return DepositExplained(
        deposit=wire_objects.deposit(snapshot(item.deposit), context=wire),
        summary=item.summary,
        is_credited=is_credited(item.deposit),
        findings=_findings(item.findings),
        eta=None
        if found is None
        else DepositEtaOut(provisional=_eta(found.provisional), final=_eta(found.final)),
        postings=[
            PostingRef(id=wire.id("posting", posting_id), reference=reference)
            for reference, posting_id in item.postings.items()
        ],
    )


def _findings(found: Sequence[Finding]) -> list[FindingOut]:
    return [
        FindingOut(
            code=item.code.value,
            severity=item.severity.value,
            who=item.who.value,
            network=item.network,
            text=item.text,
            remedy=item.remedy or None,
            detail=dict(item.detail),
            eta=_eta(item.eta),
        )
        for item in found
    ]


def _eta(found: eta.Eta | None) -> EtaOut | None:
    if found is None:
        return None
    return EtaOut(blocks=found.blocks, p50_seconds=found.p50_seconds, p90_seconds=found.p90_seconds)


def _asked(item: Sighting) -> NetworkAsked:
    state = "answered" if item.place else ("asked" if item.error is None else "failed")
    return NetworkAsked.model_validate(
        {
            "network": item.network,
            "state": state,
            "place": item.place,
            "height": item.height,
            "error": item.error,
        }
    )
