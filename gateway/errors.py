"""Errors of the gateway package.

GatewayError
├── Refusal (expected)        an answer to the caller: problem+json with status and stable code
│   ├── Malformed             400: not HTTP or JSON that we read; nothing was stored
│   ├── Unauthenticated       401: no, unknown, wrong or old signature (one body, A39)
│   ├── NonceUsed             401: this signed call was made already; says nothing of its outcome
│   ├── Forbidden             403: the key is known but may not do this
│   ├── NotFound              404: no such thing, or not yours (one body, A29)
│   ├── Conflict              409: in progress, or the state forbids it now
│   ├── TooLarge              413: the body is over its limit
│   ├── Invalid               422: well-formed, but a field is not acceptable
│   ├── TooMany               429: over the rate limit; carries the wait
│   └── Unavailable           503: cannot be served now; ask again
├── TooLate (expected)        a cancel after `sign_requested_at` (CONTRACT 5)
└── RequestMismatch (conflict)  a request_id of this brand stands with other content
"""

from collections.abc import Sequence
from dataclasses import dataclass


class GatewayError(Exception):
    """Base of the package's errors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldError:
    """What is wrong with one field: its path (`amount`, `items[3].asset`), a code, a sentence."""

    field: str
    code: str
    detail: str


class Refusal(GatewayError):
    """An answer to the caller (RFC 9457). `detail` is a sentence without internals or secrets."""

    status = 400
    is_retryable = False

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        errors: Sequence[FieldError] = (),
        retry_after_seconds: int | None = None,
    ) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        self.errors = tuple(errors)
        self.retry_after_seconds = retry_after_seconds


class Malformed(Refusal):
    """Not a message that we read."""


class Unauthenticated(Refusal):
    """One code and one sentence for every cause: the caller learns nothing (A39)."""

    status = 401

    def __init__(self) -> None:
        super().__init__("unauthenticated", "The request is not signed by a key that we accept.")


class NonceUsed(Refusal):
    """A valid signature whose nonce was used: told apart, for the first call may stand."""

    status = 401

    def __init__(self) -> None:
        super().__init__(
            "nonce_used",
            "This signed call was made before and may have been done: ask by request_id,"
            " or sign it anew with the same Idempotency-Key.",
        )


class Forbidden(Refusal):
    """The key may not do this."""

    status = 403


class NotFound(Refusal):
    """No such thing for this caller."""

    status = 404

    def __init__(self) -> None:
        super().__init__("not_found", "There is no such resource.")


class Conflict(Refusal):
    """The state of the thing forbids it, now or for good."""

    status = 409


class InProgress(Conflict):
    """The same call is running: ask again for its answer."""

    is_retryable = True


class TooLarge(Refusal):
    """The body is over its limit."""

    status = 413


class Invalid(Refusal):
    """A field is not acceptable."""

    status = 422


class TooMany(Refusal):
    """Over the rate limit."""

    status = 429
    is_retryable = True


class Unavailable(Refusal):
    """Cannot be served now; nothing was changed."""

    status = 503
    is_retryable = True


def invalid_field(field: str, code: str, detail: str) -> Invalid:
    """A 422 about one field; its code is also the code of the answer."""
    return Invalid(code, detail, errors=[FieldError(field=field, code=code, detail=detail)])


class TooLate(GatewayError):
    """Signing was asked for, or the withdrawal has ended: it cannot be cancelled."""


class RequestMismatch(GatewayError):
    """The request_id stands for ever with other content."""
