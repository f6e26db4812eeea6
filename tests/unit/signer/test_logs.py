"""The log is for people; the vault's memory is its store."""

import io
import json

from signer.logs import Log
from tests.support.sign_requests import utxo_request
from tests.support.vault import HandClock, VaultKit


def test_lines_are_json_with_a_fixed_event_name() -> None:
    stream = io.StringIO()
    log = Log(stream, HandClock(5))
    log.info("signer.signed", attempt_id="a-1")
    log.alarm("signer.refused", code="expired")
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert lines[0] == {"at": 5, "level": "info", "event": "signer.signed", "attempt_id": "a-1"}
    assert lines[1]["level"] == "warning"


def test_reader_that_left_does_not_stop_a_signature(kit: VaultKit) -> None:
    kit.log.close()
    kit.signed(utxo_request(kit))


def test_s13_no_request_body_or_key_is_logged(kit: VaultKit) -> None:
    kit.signed(utxo_request(kit))
    kit.refused(utxo_request(kit, attempt_id="a-2", salts=(2,)))
    text = kit.log.getvalue()
    assert "pam_balance" not in text
    assert "xprv" not in text
    assert kit.keyring.seed_for_second_derivation().hex() not in text
