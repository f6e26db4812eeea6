"""Pure parts of the HTTP API."""
