"""The HTTP API: one module per resource, and the wire forms that webhooks share."""
