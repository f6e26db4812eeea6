"""From an accepted withdrawal to its settled posting."""
