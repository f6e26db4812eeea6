"""The sandbox: embedded PostgreSQL, real dev nodes, supervisor, demo. Never used in production."""
