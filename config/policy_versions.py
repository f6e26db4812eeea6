"""Versions of a policy: appended, never changed, the newest is in force.

Owns how versions are stored, whatever they say; the shape of a document is its own module's
(`config/credit_policy.py`, `config/limit_policy.py`), its table belongs to the package that judges
by it. Two people decide about a version (gateway); this only stores.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from config import policy_version_store as store
from config.database import Uow


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyVersion:
    """A stored version; version 0, before the first, has no people and no moment."""

    version: int
    content: Mapping[str, Any]
    proposed_by: str | None
    approved_by: str | None
    created_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyVersions:
    """The versions in one table. `empty`: the content of version 0."""

    table: store.Table
    empty: Mapping[str, Any]

    async def latest(self, uow: Uow) -> PolicyVersion:
        """The version in force."""
        row = await store.latest(uow, self.table)
        if row is None:
            return PolicyVersion(
                version=0, content=self.empty, proposed_by=None, approved_by=None, created_at=None
            )
        return PolicyVersion(**row)

    async def latest_locked(self, uow: Uow) -> PolicyVersion:
        """The version in force, and nobody else decides about the next until the commit."""
        await store.lock(uow, self.table)
        return await self.latest(uow)

    async def put(
        self,
        uow: Uow,
        *,
        version: int,
        content: Mapping[str, Any],
        proposed_by: str,
        approved_by: str,
        at: datetime,
    ) -> bool:
        """Append a version that two people agreed on; False when the number is taken."""
        return await store.insert(
            uow,
            self.table,
            version=version,
            content=content,
            proposed_by=proposed_by,
            approved_by=approved_by,
            at=at,
        )
