"""Webhook secrets are sealed, and open only under the same key."""

import stat
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from config.clock import SystemClock
from config.ids import SystemIds, uuid7
from gateway.webhooks.errors import SecretUnreadable
from gateway.webhooks.secrets import SealingKey, load_key, new_secret, seal, unseal

IDS = SystemIds(SystemClock())


class FixedIds:
    """The same bytes each time: a public test vector, no key of anybody."""

    def new_id(self) -> UUID:
        return uuid7(at=datetime(2026, 1, 1, tzinfo=UTC), entropy=bytes(10))

    def token_bytes(self, count: int) -> bytes:
        return bytes(range(count))


def test_sealed_secret_opens_under_the_same_key() -> None:
    key = SealingKey(bytes(32), IDS)
    secret = new_secret(IDS)
    assert unseal(key, seal(key, secret)) == secret


def test_new_secret_has_the_form_of_standard_webhooks() -> None:
    assert new_secret(FixedIds()) == "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="


def test_same_secret_sealed_twice_differs() -> None:
    key = SealingKey(bytes(32), IDS)
    assert seal(key, "whsec_AAAA") != seal(key, "whsec_AAAA")


def test_plain_secret_is_not_in_the_sealed_form() -> None:
    assert b"whsec" not in seal(SealingKey(bytes(32), IDS), new_secret(IDS))


def test_other_key_does_not_open() -> None:
    sealed = seal(SealingKey(bytes(32), IDS), "whsec_AAAA")
    with pytest.raises(SecretUnreadable):
        unseal(SealingKey(b"\x01" * 32, IDS), sealed)


@pytest.mark.parametrize("position", range(0, 40, 3))
def test_altered_sealed_secret_does_not_open(position: int) -> None:
    key = SealingKey(bytes(32), IDS)
    sealed = bytearray(seal(key, "whsec_AAAAAAAAAA"))
    sealed[position] ^= 1
    with pytest.raises(SecretUnreadable):
        unseal(key, bytes(sealed))


def test_key_shows_nothing_in_repr() -> None:
    assert "01" not in repr(SealingKey(b"\x01" * 32, IDS))


def test_key_file_is_made_once_and_only_for_us(tmp_path: Path) -> None:
    path = tmp_path / "secrets" / "sealed.key"
    first = load_key(path, IDS)
    assert load_key(path, IDS).raw == first.raw
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["sealed.key"]


def test_key_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sealed.key"
    load_key(path, IDS)
    path.chmod(0o640)
    with pytest.raises(SecretUnreadable, match="chmod 600"):
        load_key(path, IDS)


@pytest.mark.parametrize("content", ["", "zz" * 32, "00" * 31, "00" * 33])
def test_key_file_with_other_content_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "sealed.key"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(SecretUnreadable):
        load_key(path, IDS)
