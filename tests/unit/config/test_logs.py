"""One event is one line; no secret and no control character survives. Keys are public vectors."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from config.logs import configure_logs, get_logger, redact, redact_text

# Public test vectors: the BIP 39 phrase of all test networks, a WIF and an xprv of BIP 32.
PHRASE = "test test test test test test test test test test test junk"
WIF = "L1aW4aubDFB7yfras2S1mN3bqg9nwySY8nkoLmJebSLD5BWv3ENZ"
XPRV = (
    "xprv9s21ZrQH143K3QTDL4LXw2F7HEK3wJUD2nW2nRk4stbPy6cq3jPPqjiChkVvvNKmPGJxWUtg6LnF5kejMRNNU3TGt"
    "RBeJgk33yuGBxrMPHi"
)


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """The log of this test; the process's own is restored afterwards."""
    handlers = logging.getLogger().handlers[:]
    level = logging.getLogger().level
    stream = io.StringIO()
    configure_logs(level="debug", stream=stream)
    yield stream
    structlog.reset_defaults()
    logging.getLogger().handlers[:] = handlers
    logging.getLogger().setLevel(level)


@pytest.mark.parametrize(
    "secret",
    [
        PHRASE,
        WIF,
        XPRV,
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEI\n-----END PRIVATE KEY-----",
    ],
)
def test_a38_keys_are_recognised_in_any_text(secret: str) -> None:
    assert secret not in redact_text(f"before {secret} after")
    assert secret not in json.dumps(redact({"note": [{"deep": f"x {secret}"}]}))


@pytest.mark.parametrize(
    "url", ["http://user:hunter2@127.0.0.1:8332/", "postgresql://cage:hunter2@db/cage"]
)
def test_n20_credentials_leave_urls_and_the_host_stays(url: str) -> None:
    text = redact_text(f"POST {url} failed")
    assert "hunter2" not in text
    assert url.rpartition("@")[2] in text


@pytest.mark.parametrize(
    "key",
    ["password", "db_password", "webhook_secret", "seed", "api_key", "access_token", "Cookie"],
)
def test_a38_a_field_with_a_secret_name_has_no_value(key: str) -> None:
    assert redact({key: "canary"}) == {key: "[redacted]"}


def test_ordinary_fields_are_kept() -> None:
    fields = {"txid": "ab" * 32, "amount_minor": "100", "height": 5, "ok": True, "token_count": 3}
    assert redact(fields) == fields


def test_bytes_are_told_by_their_length_only() -> None:
    assert redact({"raw": b"\x01\x02"}) == {"raw": "[2 bytes]"}


@given(st.text())
def test_a37_no_control_character_reaches_a_line(text: str) -> None:
    clean = redact_text(text)
    assert all(ord(c) >= 32 and not 0x7F <= ord(c) < 0xA0 for c in clean)


def test_a37_a_forged_line_stays_inside_one_event(lines: io.StringIO) -> None:
    get_logger("test").info(
        "deposit.seen", memo='x"}\r\n{"event": "forged", "level": "info"}\x1b[2J'
    )
    written = lines.getvalue().splitlines()
    assert len(written) == 1
    assert json.loads(written[0])["event"] == "deposit.seen"


def test_a38_an_exception_is_redacted_too(lines: io.StringIO) -> None:
    try:
        raise ValueError("cannot reach http://u:hunter2@node")
    except ValueError:
        get_logger("test").exception("node.unreachable")
    assert "hunter2" not in lines.getvalue()
    assert "ValueError" in lines.getvalue()


def test_other_libraries_write_the_same_form(lines: io.StringIO) -> None:
    logging.getLogger("aiohttp.client").warning("retry http://u:hunter2@node")
    event = json.loads(lines.getvalue())
    assert event["level"] == "warning"
    assert "hunter2" not in event["event"]


def test_a_line_names_its_logger_level_and_utc_time(lines: io.StringIO) -> None:
    get_logger("watchers.follower").info("block.connected", height=1)
    event = json.loads(lines.getvalue())
    assert (event["logger"], event["level"], event["height"]) == ("watchers.follower", "info", 1)
    assert event["timestamp"].endswith("Z")


def test_a38_a_logger_made_before_the_configuration_obeys_it() -> None:
    """Modules make their logger at import: a frozen one would write without redaction."""
    early = get_logger("early")
    stream, root = io.StringIO(), logging.getLogger()
    handlers, level = root.handlers[:], root.level
    configure_logs(stream=stream)
    try:
        early.info("thing.done", password="hunter2")
    finally:
        structlog.reset_defaults()
        root.handlers[:], root.level = handlers, level
    line = json.loads(stream.getvalue())
    assert (line["event"], line["logger"], line["password"]) == (
        "thing.done",
        "early",
        "[redacted]",
    )
