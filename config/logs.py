"""Structured logs: one JSON object per line on stderr, secrets removed, control characters inert.

Owns the processor chain and the redaction rules (CASES N20, A37, A38). It never decides what is
logged. Other loggers of the process are brought into the same form.
"""

import logging
import re
import sys
from collections.abc import Mapping
from typing import Any, TextIO

import structlog

REDACTED = "[redacted]"
DEPTH_MAX = 6  # nested values deeper than this are cut: a log line is not a dump

# Names whose values are secrets, matched as whole words of a snake_case key.
_SECRET_KEY = re.compile(
    r"(?:^|_)(?:password|passwd|passphrase|secrets?|seed|mnemonic|wif|xprv|token$|authorization|"
    r"cookie|private_key|signing_key|api_key|hmac|totp|kek|dsn|database_url)(?:_|$)",
    re.IGNORECASE,
)
# Any text: credentials in URLs, WIF keys, extended private keys, webhook secrets, PEM blocks,
# and runs of 12 or more short lower-case words, which is what a BIP 39 phrase looks like.
_SECRET_TEXT = (
    (re.compile(r"(?P<keep>[a-z][a-z0-9+.-]*://)[^\s/@:]*:[^\s/@]*@", re.IGNORECASE), True),
    (re.compile(r"\b(?:[xtyzuv]prv|Ltpv)[1-9A-HJ-NP-Za-km-z]{60,}"), False),
    (re.compile(r"\b[5KLTc9][1-9A-HJ-NP-Za-km-z]{50,51}\b"), False),
    (re.compile(r"\bwhsec_[A-Za-z0-9+/=]+"), False),
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END[^-]*-----|$)", re.S), False),
    (re.compile(r"\b(?:[a-z]{3,8} ){11,23}[a-z]{3,8}\b"), False),
    (re.compile(r"(?P<keep>\b(?:password|passphrase|secret)=)[^\s&;,]+", re.IGNORECASE), True),
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def redact_text(text: str) -> str:
    """`text` without credentials, keys and seeds, control characters written as escapes."""
    for pattern, keeps_prefix in _SECRET_TEXT:
        text = pattern.sub(
            (lambda match: match.group("keep") + REDACTED + ("@" if "://" in match[0] else ""))
            if keeps_prefix
            else REDACTED,
            text,
        )
    return _CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def redact(value: object, *, depth: int = 0) -> object:
    """`value` made of plain JSON parts with every secret replaced; unknown types become text."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if depth >= DEPTH_MAX:
        return "[nested]"
    if isinstance(value, Mapping):
        return {
            redact_text(str(key)): REDACTED
            if _SECRET_KEY.search(str(key))
            else redact(item, depth=depth + 1)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [redact(item, depth=depth + 1) for item in value]
    if isinstance(value, bytes | bytearray | memoryview):
        return f"[{len(bytes(value))} bytes]"
    return redact_text(str(value))


_NAME = "logger_name"  # structlog keeps the word `logger` for itself until the line is written


def _name_logger(_logger: Any, _method: str, event: Any) -> Any:
    if _NAME in event:
        event["logger"] = event.pop(_NAME)
    return event


def _redact_event(_logger: Any, _method: str, event: Any) -> Any:
    return redact(dict(event))


def _processors() -> list[Any]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        _name_logger,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _redact_event,
    ]


def configure_logs(*, level: str = "info", stream: TextIO | None = None) -> None:
    """Send every log of this process to `stream` (stderr) as JSON lines. Call once, at start."""
    target = stream or sys.stderr
    threshold = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[*_processors(), structlog.processors.JSONRenderer(ensure_ascii=True)],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(file=target),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(target)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *_processors()],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(ensure_ascii=True),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    # Libraries at INFO tell the URLs that they call: only warnings of theirs are of interest.
    root.setLevel(max(threshold, logging.WARNING))


def get_logger(name: str) -> structlog.typing.FilteringBoundLogger:
    """A logger whose lines carry `logger=name`. Events are fixed names, values are fields."""
    # Lazy: modules make their logger at import, before `configure_logs` has run. A `bind()` here
    # would freeze the library's defaults, without redaction, for the life of the process.
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger(**{_NAME: name})
    return logger
