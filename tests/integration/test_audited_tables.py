"""Whatever people decide is audited below the code: a new table of decisions needs its trigger."""

import pytest

from config.database import Database

pytestmark = pytest.mark.postgres

DECIDERS = (
    "approved_by", "agreed_by", "proposed_by", "decided_by", "confirmed_by", "cleared_by",
    "changed_by", "requested_by",
)  # fmt: skip
"""Columns that name who decided."""
TOLD_ELSEWHERE = {
    "chain.switch_history": "written by a trigger of chain.switches, which is audited",
    "chain.player_flags_history": "written by a trigger of chain.player_flags, which is audited",
    "chain.reference_rates": "a source writes it each minute; a person's rate is an approval",
    "gateway.proofs": "evidence of a moment, which changes nothing",
    "gateway.reconciliations": "a question, which changes nothing",
}


async def test_every_table_of_decisions_has_the_trigger(database: Database) -> None:
    async with database.unit_of_work() as uow:
        rows = await uow.rows(
            """
            SELECT c.table_schema || '.' || c.table_name AS name,
                bool_or(t.tgname IS NOT NULL) AS is_audited
            FROM information_schema.columns c
            LEFT JOIN pg_trigger t ON t.tgname = 'audited'
                AND t.tgrelid = format('%I.%I', c.table_schema, c.table_name)::regclass
            WHERE c.table_schema IN ('gateway', 'chain', 'ledger', 'config')
                AND c.column_name = ANY(CAST(:deciders AS text[]))
            GROUP BY 1
            """,
            {"deciders": list(DECIDERS)},
        )
    found = {row["name"]: row["is_audited"] for row in rows}
    assert sorted(name for name, is_audited in found.items() if not is_audited) == sorted(
        TOLD_ELSEWHERE
    )
    assert len(found) > 10
