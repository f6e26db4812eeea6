"""Pins of cold addresses on the signer's host, and what its socket then signs (S06)."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from signer.protocol import Purpose, Refusal, SignedTx, SignRequest
from tests.support.sign_requests import evm_payload, evm_request
from tests.support.signer_host import Host, new_host, trusted
from tests.support.vault import FOREIGN_EVM

CAPS = "".join(f'cold_{name}_minor = "{10**18}"\n' for name in ("tx_max", "day_max", "dual_limit"))


def host_in(parent: Path, *, wait_seconds: int | None) -> Host:
    """A signer that may move up to 1 ETH a day to cold."""
    host = new_host(parent)
    path = host.folder / "signer.toml"
    text = path.read_text("utf-8").replace("assets.ETH]\n", f"assets.ETH]\n{CAPS}")
    if wait_seconds is not None:
        text = text.replace("[signer]\n", f"[signer]\npin_seconds = {wait_seconds}\n")
    path.write_text(text, "utf-8")
    return host


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path for sockets."""
    with TemporaryDirectory(prefix="sg") as parent:
        yield Path(parent)


def move(attempt_id: str, *, nonce: int = 0) -> SignRequest:
    """0.1 ETH of hot lane 0 to the address that people pin, or do not."""
    return evm_request(
        attempt_id=attempt_id,
        purpose=Purpose.HOT_TO_COLD,
        payload=evm_payload(nonce=nonce, value=10**17),
        payments=(),
    )


def code(host: Host, request: SignRequest) -> str:
    answer = host.sign(request)
    assert isinstance(answer, Refusal), answer
    return answer.code


def test_s06_what_was_pinned_today_is_refused_at_the_socket(folder: Path) -> None:
    host = host_in(folder, wait_seconds=None)
    try:
        trusted(host)
        assert code(host, move("c-1")) == "not_pinned"
        alone = host.command("pin", "eth", FOREIGN_EVM, host.people[0], expect=3)
        assert "takes 2 people" in alone
        pinned = json.loads(host.command("pin", "eth", FOREIGN_EVM, *host.people))
        assert pinned["ok"] is True
        assert code(host, move("c-2")) == "not_pinned"
        assert json.loads(host.command("verify"))["first_bad"] is None
    finally:
        host.stop(signal.SIGKILL)


def test_s06_a_pinned_address_is_paid_until_one_person_takes_the_pin_back(folder: Path) -> None:
    host = host_in(folder, wait_seconds=0)
    try:
        trusted(host)
        host.command("pin", "eth", FOREIGN_EVM, *host.people)
        made = host.sign(move("c-1"))
        assert isinstance(made, SignedTx), made
        assert host.stop(signal.SIGKILL) == -signal.SIGKILL
        host.start()
        assert host.sign(move("c-1")) == made
        again = host.command("pin", "eth", FOREIGN_EVM, *host.people, expect=3)
        assert "nothing to pin" in again
        host.command("unpin", "eth", FOREIGN_EVM, host.people[0])
        assert code(host, move("c-2", nonce=1)) == "not_pinned"
    finally:
        host.stop(signal.SIGKILL)
