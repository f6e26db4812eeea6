"""Seeded walks of whole systems, watched by the auditor (HOUSE 12)."""
