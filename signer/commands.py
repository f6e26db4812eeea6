"""What `python -m signer` does besides `run`: key files, staff statements, verification.

Each function returns what to print and raises SignerError. No secret is printed, and none is taken
from arguments or the environment.
"""

import base64
import json
import os
from argparse import Namespace
from pathlib import Path
from typing import Any

from signer import admin, audit, collector
from signer.anchor import read_anchor
from signer.errors import ConfigurationError, KeyringError, SignerError
from signer.files import read_private, replace_atomically, write_private
from signer.keyring import (
    ENTROPY_BYTES,
    keyring_from_entropy,
    new_entropy,
    outer_layer,
    read_passphrase,
    seal,
    sealed_layer,
    unseal,
    write_keyring,
)
from signer.ports import Clock, Randomness, SystemClock
from signer.protocol import strict_loads
from signer.settings import Family, Settings, load_settings
from signer.store import Store, create_store, read_log
from signer.unlocking import passphrase_of, sealed_anew, token_of, unlocked

PASSPHRASE_BYTES = 32


class RefusedBySigner(SignerError):
    """The running signer said no (exit 3)."""


def keys_init(arguments: Namespace, randomness: Randomness) -> str:
    """New keys, an empty store and its anchor. With a token, a key inside it seals them."""
    settings = settings_of(arguments)
    if arguments.generate_passphrase and not settings.passphrase_file.exists():
        text = base64.urlsafe_b64encode(randomness.token(PASSPHRASE_BYTES))
        write_private(settings.passphrase_file, text + b"\n")
    if settings.keyring.exists():
        raise ConfigurationError(f"{settings.keyring}: is there already; never overwritten")
    entropy = new_entropy(randomness)
    with token_of(arguments, settings, is_writing=True) as token:
        if token is not None:  # two generators: as good as the better one
            mixed = zip(entropy, token.random(ENTROPY_BYTES), strict=True)
            entropy = bytes(one ^ other for one, other in mixed)
        envelope = sealed_anew(
            entropy,
            passphrase_of(arguments, settings),
            settings=settings,
            randomness=randomness,
            is_cheap=arguments.cheap,
            token=token,
        )
    fingerprint = keyring_from_entropy(entropy).fingerprint
    create_store(settings.store, settings.anchor, fingerprint=fingerprint, randomness=randomness)
    write_keyring(settings.keyring, envelope)
    return json.dumps({"fingerprint": fingerprint})


def keys_export_xpubs(arguments: Namespace, _randomness: Randomness) -> str:
    """Account-level public keys of accounts 0 to N, per network, and the key that attests."""
    settings = settings_of(arguments)
    keyring = unlocked(arguments, settings)
    accounts = range(arguments.accounts + 1)
    networks = {
        name: {str(n): keyring.account_xpub(network, n) for n in accounts}
        for name, network in settings.networks.items()
    }
    attestation = {
        "key_id": keyring.attestation_key_id,
        "algorithm": "ed25519",
        "public_key": base64.b64encode(keyring.attestation_public_key).decode(),
    }
    exported = {
        "fingerprint": keyring.fingerprint,
        "attestation": attestation,
        "networks": networks,
    }
    text = json.dumps(exported, indent=1)
    if arguments.out is None:
        return text
    Path(arguments.out).write_text(text + "\n", "utf-8")
    return json.dumps({"fingerprint": keyring.fingerprint, "written": arguments.out})


def keys_collector(arguments: Namespace, _randomness: Randomness) -> str:
    """Where the collector of these keys stands on each account network, and what creates it there:
    anybody may send `data` to `to` from any wallet, and nothing else can come to stand there."""
    settings = settings_of(arguments)
    keyring = unlocked(arguments, settings)
    found = {
        network.name: {
            "collector": "0x" + collector.address_of(keyring, network).hex(),
            "to": "0x" + collector.FACTORY.hex(),
            "data": "0x" + (collector.SALT + collector.creation(keyring, network)).hex(),
            "gas": collector.DEPLOY_GAS,
        }
        for network in settings.networks.values()
        if network.family is Family.EVM
    }
    return json.dumps(found, indent=1)


def keys_backup(arguments: Namespace, randomness: Randomness) -> str:
    """A copy of the sealed key file, after proving that it opens.

    A portable one opens without the token, by a passphrase of its own: for the day when the token
    breaks.
    """
    settings = settings_of(arguments)
    envelope, passphrase = read_private(settings.keyring), passphrase_of(arguments, settings)
    with token_of(arguments, settings) as token:
        entropy = unseal(envelope, passphrase, is_test=settings.is_test, token=token)
    if arguments.portable_passphrase_file is not None:
        portable = read_passphrase(Path(arguments.portable_passphrase_file))
        if portable == passphrase:
            raise ConfigurationError("a portable backup has a passphrase of its own")
        is_test, is_cheap = settings.is_test, arguments.cheap
        envelope = seal(
            entropy, portable, randomness=randomness, is_test=is_test, is_cheap=is_cheap
        )
    write_private(Path(arguments.out), envelope)
    fingerprint = keyring_from_entropy(entropy).fingerprint
    return json.dumps({"fingerprint": fingerprint, "written": arguments.out})


def keys_restore(arguments: Namespace, randomness: Randomness) -> str:
    """Put a backup in place, after proving that it opens and that it is the store's.

    Where a token is set, a portable backup is sealed by it before it is written.

    The store is not part of a backup: a memory of yesterday would pay today's orders again. One
    that is there must be the one that the anchor names, whole, and nobody's at this moment.
    """
    settings = settings_of(arguments)
    if settings.keyring.exists():
        raise ConfigurationError(f"{settings.keyring}: is there already; never overwritten")
    envelope = read_private(Path(arguments.source))
    passphrase = passphrase_of(arguments, settings)
    with token_of(arguments, settings, is_writing=True) as token:
        entropy = unseal(envelope, passphrase, is_test=settings.is_test, token=token)
        fingerprint = keyring_from_entropy(entropy).fingerprint
        if settings.store.exists():
            store, clock = settings.store, SystemClock()
            Store(store, settings.anchor, fingerprint=fingerprint, clock=clock).close()
        if token is not None and outer_layer(envelope) is None:
            envelope = sealed_anew(
                entropy,
                passphrase,
                settings=settings,
                randomness=randomness,
                is_cheap=arguments.cheap,
                token=token,
            )
    write_keyring(settings.keyring, envelope)
    return json.dumps({"fingerprint": fingerprint, "store": settings.store.exists()})


def keys_rotate(arguments: Namespace, randomness: Randomness) -> str:
    """Seal the same keys anew: another passphrase, salt, nonce, and key of the token, if any.

    This is also how a key file comes under a token. Killed anywhere, the same command goes on.

    The key file is replaced in one step, then the passphrase file; between the two the key file
    opens with the new passphrase only, and the same command again finishes.
    """
    settings = settings_of(arguments)
    new = read_passphrase(Path(arguments.new_passphrase_file))
    old = passphrase_of(arguments, settings)
    if new == old:
        raise ConfigurationError("the new passphrase is the old one")
    envelope = read_private(settings.keyring)
    is_test = settings.is_test
    with token_of(arguments, settings, is_writing=True) as token:
        try:
            entropy = unseal(envelope, old, is_test=is_test, token=token)
        except KeyringError:  # killed before the second step
            entropy = unseal(envelope, new, is_test=is_test, token=token)
        else:
            sealed = sealed_anew(
                entropy,
                new,
                settings=settings,
                randomness=randomness,
                is_cheap=arguments.cheap,
                token=token,
            )
            replace_atomically(settings.keyring, sealed)
    if arguments.passphrase_fd is None:
        replace_atomically(settings.passphrase_file, new + b"\n")
    return json.dumps({"fingerprint": keyring_from_entropy(entropy).fingerprint})


def keys_token(arguments: Namespace, _randomness: Randomness) -> str:
    """Which token and key seal the key file; destroys the keys that it no longer needs.

    What such a key sealed never opens again: backups from before a rotation are worthless then.
    """
    settings = settings_of(arguments)
    envelope, passphrase = read_private(settings.keyring), passphrase_of(arguments, settings)
    layer = sealed_layer(envelope)
    with token_of(arguments, settings, is_writing=arguments.destroy_unused) as token:
        if token is None:
            raise ConfigurationError("signer.token: is not set")
        entropy = unseal(envelope, passphrase, is_test=settings.is_test, token=token)
        fingerprint = keyring_from_entropy(entropy).fingerprint
        unused = [one for one in token.key_ids(owner=fingerprint) if one != layer.key_id]
        for key_id in unused if arguments.destroy_unused else ():
            token.destroy_key(key_id)
        found = {
            "token": token.description,
            "fingerprint": fingerprint,
            "key": layer.key_id.hex(),
            "unused": [] if arguments.destroy_unused else [one.hex() for one in unused],
            "destroyed": [one.hex() for one in unused] if arguments.destroy_unused else [],
        }
    return json.dumps(found)


def staff_add(arguments: Namespace, clock: Clock) -> str:
    """Register people's public keys; the first ones need no signatures."""
    staff = {name: admin.load_public_key(text) for name, text in map(_pair, arguments.staff)}
    return _statement(arguments, clock, "staff_add", {"staff": staff})


def trust(arguments: Namespace, clock: Clock) -> str:
    """Trust a client key for a brand, with caps in minor units, or a person's key."""
    if arguments.person is not None:
        if arguments.keyid or arguments.brand or arguments.cap:
            raise ConfigurationError("a person has a name and a key; no keyid, brand or cap")
        staff = {arguments.person: admin.load_public_key(arguments.public_key)}
        return _statement(arguments, clock, "staff_add", {"staff": staff})
    if not (arguments.keyid and arguments.brand and arguments.cap):
        raise ConfigurationError("give --keyid, --brand and --cap, or --person")
    caps: dict[str, Any] = {}
    for asset, limits in map(_pair, arguments.cap):
        tx, _, day = limits.partition(":")
        caps[asset] = {"tx": tx, "day": day}
    fields = {
        "keyid": arguments.keyid,
        "public_key": admin.load_public_key(arguments.public_key),
        "brand": arguments.brand,
        "caps": caps,
        "expires_at": clock.now_seconds() + arguments.expires_days * 86_400,
    }
    return _statement(arguments, clock, "trust", fields)


def set_state(arguments: Namespace, clock: Clock) -> str:
    """revoke, freeze or unfreeze a client key or a person's, or (un)freeze the whole signer."""
    command = arguments.command
    is_all = getattr(arguments, "all", False)
    if [arguments.keyid is not None, arguments.person is not None, is_all].count(True) != 1:
        choice = "--keyid or --person" if command == "revoke" else "--keyid, --person or --all"
        raise ConfigurationError(f"{command}: give one of {choice}")
    if is_all:
        return _statement(arguments, clock, {"freeze": "halt", "unfreeze": "resume"}[command], {})
    if arguments.person is not None:
        return _statement(arguments, clock, f"staff_{command}", {"person": arguments.person})
    return _statement(arguments, clock, command, {"keyid": arguments.keyid})


def pin(arguments: Namespace, clock: Clock) -> str:
    """Pin or unpin a cold address."""
    fields = {"network": arguments.network, "address": arguments.address}
    return _statement(arguments, clock, arguments.command, fields)


def sign_statement(arguments: Namespace, _clock: Clock) -> str:
    """One person's signature over a statement file, in base64."""
    key = admin.load_private_key(Path(arguments.key))
    statement = Path(arguments.statement).read_bytes()
    return base64.b64encode(admin.sign_statement(key, statement)).decode()


def verify(arguments: Namespace, _clock: Clock) -> str:
    """Walk the log and hold it against the anchor; works with the signer up or down."""
    settings = settings_of(arguments)
    anchor = read_anchor(settings.anchor)  # first: a running signer anchors what the log holds
    rows = read_log(settings.store)
    verdict = audit.verify_chain(rows)
    if verdict.first_bad is not None:
        raise SignerError(f"the log is broken at record {verdict.first_bad}: {verdict.reason}")
    hashes = {0: audit.GENESIS_HASH} | {row[0]: row[2] for row in rows}
    if hashes.get(anchor.sequence) != anchor.entry_hash:
        raise SignerError(f"the log does not hold the anchored record {anchor.sequence}")
    return json.dumps({**audit.verdict_fields(verdict), "anchored": anchor.sequence})


def settings_of(arguments: Namespace) -> Settings:
    """The settings of `--dir`."""
    return load_settings(Path(arguments.dir), own_uid=os.geteuid())


def _statement(arguments: Namespace, clock: Clock, action: str, fields: dict[str, Any]) -> str:
    """Make or read the statement, gather its signatures, submit it (or write it for signing)."""
    settings = settings_of(arguments)
    if arguments.statement is not None:
        statement = Path(arguments.statement).read_bytes()
    else:
        statement = admin.make_statement(
            action,
            signer=str(strict_loads(read_private(settings.keyring)).get("fingerprint")),
            issued_at=clock.now_seconds(),
            fields=fields,
        )
    if arguments.out is not None:
        Path(arguments.out).write_bytes(statement)
        return json.dumps({"written": arguments.out})
    signatures = {
        name: admin.sign_statement(admin.load_private_key(Path(path)), statement)
        for name, path in map(_pair, arguments.staff_key)
    }
    for name, path in map(_pair, arguments.signature):
        try:
            signatures[name] = base64.b64decode(Path(path).read_bytes(), validate=False)
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"{path}: not a signature in base64") from error
    answer = admin.submit(settings.admin_socket, statement, signatures)
    if answer.get("ok") is not True:
        raise RefusedBySigner(f"{answer.get('code')}: {answer.get('reason')}")
    return json.dumps(answer)


def _pair(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator or not name or not value:
        raise ConfigurationError(f"{text!r}: NAME=VALUE is required")
    return name, value
