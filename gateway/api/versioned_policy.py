"""How a version of a policy comes into force: one person writes it, another agrees to it.

Owns the road that the policies share: who may decide, the version that it was written against, the
second person by the same call or by `POST /v1/approvals/{id}`, and the event. What a document may
say is the policy's own; a new version moves nothing that is booked.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from config.errors import ConfigError
from config.policy_versions import PolicyVersion, PolicyVersions
from config.registry import Registry
from gateway.api import two_people
from gateway.api.approvals_store import ApprovalRow
from gateway.api.endpoint import Call
from gateway.api.two_people import Proposal, person_of
from gateway.api.wire_control import Approval
from gateway.errors import Conflict, invalid_field
from ledger import outbox

ROLES: Final = frozenset({"risk", "treasury", "admin"})
WRITE: Final = frozenset({"policies:write"})
MOVED: Final = "Another version is in force; propose it again."


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The version in force after a call, and the decision that the next one waits for."""

    version: PolicyVersion
    decision: ApprovalRow | None = None

    @property
    def status(self) -> int:
        """Of HTTP: 202 while the second person is missing."""
        return 200 if self.decision is None or self.decision.state == "done" else 202

    def approval(self, call: Call) -> Approval | None:
        """The decision as integrators see it."""
        return None if self.decision is None else two_people.wire(call, self.decision)


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionedPolicy:
    """One policy. `brands_of` parses a document (ConfigError `field: why`) and names its brands."""

    kind: str
    subject: str
    versions: PolicyVersions
    brands_of: Callable[[Mapping[str, Any], Registry], set[str | None]]

    async def replace(
        self, call: Call, content: Mapping[str, Any], *, base_version: int, reason: str
    ) -> Outcome:
        """Propose a document, or agree to it. Raises Invalid, Forbidden and Conflict."""
        self.check_principal(call)
        self._check(call, content)
        found = await self.versions.latest_locked(call.uow)
        if found.version != base_version:
            if found.version == base_version + 1 and found.content == content:
                return Outcome(version=found)  # the call that put it in force, again
            raise Conflict("version_moved", f"Version {found.version} is in force; start from it.")
        decision = await two_people.propose_or_agree(
            call,
            Proposal(
                kind=self.kind,
                subject=self.subject,
                subject_version=found.version,
                content={"policy": json.dumps(content, sort_keys=True)},
                reason=reason,
            ),
        )
        if decision.state == "done":
            found = await self._put(call, decision)
        return Outcome(version=found, decision=decision)

    async def approve(self, call: Call, row: ApprovalRow) -> ApprovalRow:
        """The second person's consent by `POST /v1/approvals/{id}`, checked before."""
        if (await self.versions.latest_locked(call.uow)).version != row.subject_version:
            raise Conflict("changed_meanwhile", MOVED)
        decision = await two_people.agree(call, row)
        await self._put(call, decision)
        return decision

    def check_principal(self, call: Call) -> None:
        """The operator's policy: no person of one brand, and only who answers for risk."""
        two_people.check_operator(call, roles=ROLES, scopes=WRITE)

    def _check(self, call: Call, content: Mapping[str, Any]) -> None:
        """What the wire model cannot know."""
        registry = call.services.registry
        try:
            named = self.brands_of(content, registry)
        except ConfigError as error:
            field, _, detail = str(error).partition(": ")
            raise invalid_field(field, "invalid", f"{detail}.") from error
        unknown = sorted(filter(None, named - {None, *registry.settings.brands}))
        if unknown:
            raise invalid_field("brand", "unknown_brand", f"There is no brand {unknown[0]}.")

    async def _put(self, call: Call, decision: ApprovalRow) -> PolicyVersion:
        """Store the version that both agreed to, and tell the operator's stream."""
        content = json.loads(str(decision.content["policy"]))
        version = decision.subject_version + 1
        people = {"proposed_by": decision.proposed_person, "approved_by": person_of(call)}
        is_new = await self.versions.put(
            call.uow, version=version, content=content, at=call.at, **people
        )
        if not is_new:
            raise Conflict("changed_meanwhile", MOVED)
        await outbox.append(
            call.uow,
            event_id=call.services.ids.new_id(),
            brand=None,
            type="policy.changed",
            object_kind="policy",
            object_id=UUID(bytes=self.subject.encode().ljust(16, b"\0")),
            object_version=version,
            previous_state=None,
            snapshot={
                "id": self.subject,
                "version": version,
                "brand": "operator",
                "content": content,
                "reason": decision.reason,
                **people,
            },
            at=call.at,
        )
        return await self.versions.latest(call.uow)
