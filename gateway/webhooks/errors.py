"""Errors of the webhooks package.

WebhookError
+- TargetRefused         expected: the URL or the address behind it may not be called (A34)
+- SecretUnreadable      invariant: a sealed secret or its key file is not what it should be
+- DeliveryFailed        expected: one try did not end in 2xx; it is tried again
+- SourceFailed          expected: the source of rates gave no usable answer; asked again later
"""


class WebhookError(Exception):
    """Base of this package's errors. The message is one line, without secrets."""


class TargetRefused(WebhookError):
    """This URL or address is not one that we call. The message says why."""


class SecretUnreadable(WebhookError):
    """A sealed secret cannot be opened, or the key file is missing, short or readable by others."""


class DeliveryFailed(WebhookError):
    """One try failed. `status` is the HTTP status, or None when no answer came."""

    def __init__(self, reason: str, *, status: int | None = None) -> None:
        super().__init__(reason)
        self.status = status


class SourceFailed(WebhookError):
    """The source of rates gave no usable answer; the message holds nothing that it wrote."""
