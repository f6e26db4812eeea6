"""The doctor: gathers what stands about a txid, an address or a player, and has it explained.

Owns `gateway.doctor_cases`. Everything is read in short units of work of the caller's own view, so
that row-level security decides what exists for it; what needs a node is asked as a row and answered
by the watchers (HOUSE 3). It changes no money and no state of anything.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from config.chains import Family
from config.database import ALL_BRANDS, Uow
from config.ids import Ids
from config.registry import Registry
from gateway import doctor_store as store
from gateway.doctor_store import CaseRow
from watchers import addresses, doctor, doctor_questions, eta, fees, health, rates, switches
from watchers.addresses import AddressRow
from watchers.chain import FeeQuote
from watchers.deposit_commands import DepositRow, DepositState
from watchers.doctor import DepositFacts, NetworkFacts, Pay, Sighting, Told
from watchers.eta import DepositEta
from watchers.findings import Actor, Finding, FindingCode, Severity
from watchers.health import NetworkStatus
from watchers.switches import Action, Switch

DEPOSITS_MAX = 20
FRESH_SECONDS = 3.0  # a question about the same tx that is no older is not asked again
GIVE_UP_SECONDS = 60.0  # who has not answered by then is said to be silent
SILENT_SECONDS = 120.0  # a watcher looks every few seconds, also while it catches up
KEPT = timedelta(days=1)
HIDDEN = "the operator knows of it"  # instead of names of nodes and people


class Verdict(StrEnum):
    """The whole answer in one word."""

    CREDITED = "credited"
    """All that was found is credited, at least for play."""
    WAITING = "waiting"
    """It goes on by itself."""
    NOT_CREDITED = "not_credited"
    """Somebody has to do something."""
    NOTHING_FOUND = "nothing_found"
    """Nothing of the caller's is known under this."""
    LOOKING = "looking"
    """Nodes were asked and have not all answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """Whose eyes: a brand, or `*`; and the parts that a lookup needs."""

    brand: str
    registry: Registry
    ids: Ids
    at: datetime

    @property
    def is_operator(self) -> bool:
        """Whether names of nodes and people may be shown."""
        return self.brand == ALL_BRANDS

    @property
    def one_brand(self) -> str | None:
        """The brand to narrow to, or None for all."""
        return None if self.is_operator else self.brand


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """One deposit with its findings and the postings that stand for it."""

    deposit: DepositRow
    findings: tuple[Finding, ...]
    eta: DepositEta | None
    postings: Mapping[str, UUID]

    @property
    def summary(self) -> str:
        """One sentence."""
        return doctor.summary(self.findings)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What is known now. `findings` are about the subject itself; `asked` by network."""

    findings: tuple[Finding, ...]
    deposits: tuple[Explained, ...]
    asked: tuple[Sighting, ...] = ()
    is_complete: bool = True

    @property
    def verdict(self) -> Verdict:
        """In one word."""
        if not self.is_complete and not self.deposits:
            return Verdict.LOOKING
        if self.deposits:
            return _verdict([item.findings[0] for item in self.deposits])
        return _verdict(self.findings)

    @property
    def summary(self) -> str:
        """One sentence."""
        if len(self.deposits) == 1:
            return self.deposits[0].summary
        if self.deposits:
            credited = sum(doctor.is_credited(item.deposit) for item in self.deposits)
            return (
                f"{credited} of {len(self.deposits)} deposits are credited; the newest:"
                f" {self.deposits[0].summary}"
            )
        return doctor.summary(self.findings)


_NOTHING = frozenset(
    {
        FindingCode.NOT_FOUND_ANYWHERE,
        FindingCode.PAYS_NO_ADDRESS,
        FindingCode.ADDRESS_UNKNOWN,
        FindingCode.ADDRESS_WITHOUT_DEPOSIT,
        FindingCode.PLAYER_WITHOUT_DEPOSIT,
    }
)


def _verdict(causes: Sequence[Finding]) -> Verdict:
    severities = {item.severity for item in causes}
    if severities <= {Severity.OK}:
        return Verdict.CREDITED
    if {item.code for item in causes} <= _NOTHING:
        return Verdict.NOTHING_FOUND
    if severities & {Severity.ACT, Severity.ALARM}:
        return Verdict.NOT_CREDITED
    if any(item.who is Actor.OPERATOR for item in causes):
        return Verdict.NOT_CREDITED
    return Verdict.WAITING


def networks_of(registry: Registry, txid: str) -> list[str]:
    """The networks whose txids look like this one."""
    family = Family.EVM if txid.startswith("0x") else Family.BITCOIN
    return [name for name, spec in registry.chains.items() if spec.family is family]


async def deposits_of_tx(uow: Uow, view: View, txid: str) -> list[DepositRow]:
    """The visible deposits of a tx."""
    return await doctor_questions.of_tx(uow, brand=view.one_brand, txid=txid, limit=DEPOSITS_MAX)


async def open_case(uow: Uow, view: View, txid: str) -> CaseRow | None:
    """Ask the nodes about a tx; None where what stands says enough.

    A tx that stands nowhere is asked of every network that it could belong to; one that is not in
    a block, of its own, for its fee.
    """
    deposits = await deposits_of_tx(uow, view, txid)
    unmined = {item.network for item in deposits if item.state is DepositState.DETECTED}
    networks = sorted(unmined) if deposits else networks_of(view.registry, txid)
    networks = [name for name in networks if name in view.registry.chains]
    if not networks:
        return None
    since = view.at - timedelta(seconds=FRESH_SECONDS)
    probes: dict[str, UUID] = {}
    for network in networks:
        probes[network] = await doctor_questions.ask(
            uow,
            probe_id=view.ids.new_id(),
            network=network,
            brand=view.brand,
            txid=txid,
            fresh_since=since,
            at=view.at,
        )
    case = CaseRow(
        id=view.ids.new_id(), brand=view.brand, txid=txid, probes=probes, created_at=view.at
    )
    await store.insert_case(uow, case, forget_before=view.at - KEPT)
    return case


async def case_of(uow: Uow, view: View, case_id: UUID) -> CaseRow | None:
    """A lookup of before, of this very view."""
    return await store.case(uow, case_id, brand=view.brand)


async def sightings(uow: Uow, view: View, case: CaseRow) -> list[Sighting]:
    """What each asked network has said so far."""
    rows = await doctor_questions.answers(uow, list(case.probes.values()))
    is_over = view.at - case.created_at >= timedelta(seconds=GIVE_UP_SECONDS)
    found: list[Sighting] = []
    for network, probe_id in case.probes.items():
        row = rows.get(probe_id)
        if row is not None and row["state"] == "answered":
            found.append(_sighting(network, row["answer"]))
        elif row is not None and row["state"] == "failed":
            error = str(row["answer"]["error"]) if view.is_operator else HIDDEN
            found.append(Sighting(network=network, place=None, error=error))
        else:
            given_up = "its watcher does not answer" if is_over or row is None else None
            found.append(Sighting(network=network, place=None, error=given_up))
    return found


def _sighting(network: str, answer: Mapping[str, object]) -> Sighting:
    pays = answer["pays"]
    if not isinstance(pays, list):
        raise TypeError("an answer of the doctor without its list of payments")
    rate = answer["fee_rate"]
    return Sighting(
        network=network,
        place=str(answer["place"]),
        is_success=None if answer["is_success"] is None else bool(answer["is_success"]),
        height=_integer(answer["height"]),
        followed_height=_integer(answer["followed_height"]),
        first_height=_integer(answer["first_height"]),
        fee_rate=None if rate is None else int(str(rate)),
        is_untraced=bool(answer["is_untraced"]),
        pays=tuple(
            Pay(
                position=item["position"],
                asset=item["asset"],
                is_listed=item["is_listed"],
                amount_minor=int(item["amount"]),
                address=item["address"],
                meant=item["address_network"],
                role=item["role"],
                player_id=item["player_id"],
                stands=item["stands"],
                search=item["search"],
                is_other_script=bool(item.get("is_other_script", False)),  # of an older version
            )
            for item in pays
        ),
    )


def _integer(value: object) -> int | None:
    return value if isinstance(value, int) else None


def is_complete(found: Sequence[Sighting]) -> bool:
    """Whether every asked network has answered or failed, or one has the tx."""
    return any(item.place in ("mined", "mempool") for item in found) or all(
        item.place is not None or item.error is not None for item in found
    )


async def of_tx(uow: Uow, view: View, txid: str, seen: Sequence[Sighting]) -> Report:
    """The report about a tx with what the nodes said so far."""
    deposits = await deposits_of_tx(uow, view, txid)
    if deposits:
        explained = await explain(uow, view, deposits, seen)
        # A node's word is only an addition here: nobody is kept waiting for it.
        return Report(findings=(), deposits=explained, asked=tuple(seen))
    quotes = await _quotes(uow, [item.network for item in seen])
    found = doctor.of_sightings(seen, quotes)
    facts = await _networks(uow, view)
    named = {item.network for item in found}
    for item in seen:
        if item.network in named or item.place is None:
            found.extend(
                more
                for more in doctor.of_network(facts[item.network])
                if not any((one.code, one.network) == (more.code, more.network) for one in found)
            )
    return Report(
        findings=tuple(found), deposits=(), asked=tuple(seen), is_complete=is_complete(seen)
    )


async def of_addresses(
    uow: Uow,
    view: View,
    rows: Sequence[AddressRow],
    networks: Sequence[str],
    *,
    siblings: Sequence[AddressRow] = (),
) -> Report:
    """The report about an address, which may be one of several networks. `siblings`: what was
    handed out for the same public key, where the address itself is nobody's (D26)."""
    own = [row for row in rows if row.player_id is not None and row.brand is not None]
    others = [row for row in siblings if row.player_id is not None]
    if not own and others:
        return Report(findings=tuple(_other_script(row) for row in others), deposits=())
    if not own:
        detail = {"networks": ", ".join(networks)}
        return Report(
            findings=(Finding(code=FindingCode.ADDRESS_UNKNOWN, detail=detail),), deposits=()
        )
    deposits: list[DepositRow] = []
    for row in own:
        found = await doctor_questions.of_player(
            uow,
            brand=str(row.brand),
            player_id=str(row.player_id),
            address_ids=[row.id],
            limit=DEPOSITS_MAX,
        )
        deposits.extend(found)
    return await _listed(uow, view, deposits, FindingCode.ADDRESS_WITHOUT_DEPOSIT, own)


def _other_script(row: AddressRow) -> Finding:
    detail = {"network": row.network, "address": row.address}
    return Finding(code=FindingCode.ADDRESS_OTHER_SCRIPT, network=row.network, detail=detail)


async def of_player(uow: Uow, view: View, *, brand: str, player_id: str) -> Report:
    """The report about a player of one brand."""
    deposits = await doctor_questions.of_player(
        uow, brand=brand, player_id=player_id, address_ids=None, limit=DEPOSITS_MAX
    )
    return await _listed(uow, view, deposits, FindingCode.PLAYER_WITHOUT_DEPOSIT, [])


async def _listed(
    uow: Uow,
    view: View,
    deposits: Sequence[DepositRow],
    nothing: FindingCode,
    own: Sequence[AddressRow],
) -> Report:
    newest = sorted(deposits, key=lambda item: item.id, reverse=True)[:DEPOSITS_MAX]
    if newest:
        return Report(findings=(), deposits=await explain(uow, view, newest, ()))
    networks = [row.network for row in own] or sorted(view.registry.chains)
    facts = await _networks(uow, view)
    found = [Finding(code=nothing, network=row.network, detail={"network": row.network})
             for row in own] or [Finding(code=nothing)]  # fmt: skip
    found.extend(more for name in networks for more in doctor.of_network(facts[name]))
    return Report(findings=tuple(found), deposits=())


async def explain(
    uow: Uow, view: View, deposits: Sequence[DepositRow], seen: Sequence[Sighting]
) -> tuple[Explained, ...]:
    """Each deposit with its findings; a fixed number of statements besides one ETA each."""
    networks = await _networks(uow, view)
    owners = await addresses.by_ids(uow, [item.address_id for item in deposits])
    quotes = await _quotes(uow, {item.network for item in deposits})
    rated = await _fresh(uow, view, deposits)
    sent = await store.deliveries(uow, [item.id for item in deposits])
    told = _told([dict(row) for row in sent])
    references = {item.id: doctor_questions.posting_references(item) for item in deposits}
    standing = await store.postings(uow, [name for names in references.values() for name in names])
    sighted = {item.network: item.fee_rate for item in seen}
    found: list[Explained] = []
    for item in deposits:
        spec = view.registry.chains.get(item.network)
        known = None if spec is None else await eta.of_deposit(uow, spec, item)
        owner = owners.get(item.address_id)
        facts = DepositFacts(
            deposit=item,
            network=networks.get(item.network) or NetworkFacts(name=item.network),
            asset=view.registry.assets.get(item.asset),
            eta=known,
            is_retired=owner is not None and owner.retired_at is not None,
            is_rate_fresh=rated.get(item.asset),
            fee_rate=sighted.get(item.network),
            quote=quotes.get(item.network),
            told=told.get(item.id, Told()),
        )
        names = [name for name in references[item.id] if name in standing]
        found.append(
            Explained(
                deposit=item,
                findings=tuple(doctor.of_deposit(facts)),
                eta=known,
                postings={name: standing[name] for name in names},
            )
        )
    return tuple(found)


async def _quotes(uow: Uow, networks: "Sequence[str] | set[str]") -> dict[str, FeeQuote]:
    samples = {name: await fees.latest(uow, network=name) for name in sorted(set(networks))}
    return {name: sample.quote for name, sample in samples.items() if sample is not None}


async def _fresh(uow: Uow, view: View, deposits: Sequence[DepositRow]) -> dict[str, bool]:
    """Whether the assets of capped deposits have a rate that counts."""
    assets = {item.asset for item in deposits if item.substatus == doctor_questions.EXPOSURE_CAP}
    rule = view.registry.policy.reference
    fresh = await rates.fresh(uow, assets=assets, reference=rule, at=view.at)
    return {name: name in fresh for name in assets}


async def _networks(uow: Uow, view: View) -> dict[str, NetworkFacts]:
    """How every network of the configuration stands."""
    status = {item.network: item for item in await health.network_status(uow)}
    stopped = [
        item
        for item in await switches.every(uow)
        if item.is_stopped and item.action in (Action.CREDIT, Action.ALL)
    ]
    return {
        name: _network(view, name, spec.lag_blocks, status.get(name), stopped)
        for name, spec in view.registry.chains.items()
    }


def _network(
    view: View, name: str, lag: int, status: NetworkStatus | None, stopped: Sequence[Switch]
) -> NetworkFacts:
    mine = [item for item in stopped if switches.network_of(item.scope) == name]
    whole = [item for item in mine if switches.asset_of(item.scope) is None]
    assets = {
        asset: _shown(view, item.reason)
        for item in mine
        if (asset := switches.asset_of(item.scope)) is not None
    }
    reason = _shown(view, whole[0].reason) if whole else None
    if status is None:
        return NetworkFacts(
            name=name,
            error="no watcher has looked at it yet",
            stopped_reason=reason,
            stopped_assets=assets,
        )
    is_silent = view.at - status.observed_at > timedelta(seconds=SILENT_SECONDS)
    error = None if status.is_healthy else _shown(view, status.last_error or "not healthy")
    return NetworkFacts(
        name=name,
        height=status.height,
        tip_height=status.tip_height,
        lag_allowed_blocks=lag,
        error=error,
        silent_since=status.observed_at if is_silent else None,
        stopped_reason=reason,
        stopped_assets=assets,
    )


def _shown(view: View, text: str) -> str:
    return text if view.is_operator else HIDDEN


def _told(rows: Sequence[Mapping[str, object]]) -> dict[UUID, Told]:
    by_deposit: dict[UUID, list[Mapping[str, object]]] = {}
    for row in rows:
        key = row["object_id"]
        if isinstance(key, UUID):
            by_deposit.setdefault(key, []).append(row)
    return {key: _counted(found) for key, found in by_deposit.items()}


def _counted(rows: Sequence[Mapping[str, object]]) -> Told:
    states = [(row["state"], bool(row["attempts"])) for row in rows]
    refused = [row for row in rows if row["state"] != "delivered" and row["attempts"]]
    delivered = [row for row in rows if row["state"] == "delivered"]
    answer = ""
    if refused:
        status = refused[-1]["last_status"]
        answer = f"HTTP {status}" if status is not None else str(refused[-1]["last_error"] or "-")
    return Told(
        delivered=len(delivered),
        pending=states.count(("pending", False)),
        failing=states.count(("pending", True)),
        parked=sum(1 for state, _ in states if state == "parked"),
        last_type=str(delivered[-1]["type"]) if delivered else "",
        last_answer=answer,
    )
