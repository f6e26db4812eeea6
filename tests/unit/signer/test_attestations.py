"""A deposit path is bound to its first player for ever, and the signer says whose it is (N20)."""

import hashlib
import json
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from signer import protocol
from signer.errors import ConfigurationError, StoreError
from signer.paths import parse_path
from signer.protocol import (
    MAX_ATTEST_ITEMS,
    Attestations,
    Attested,
    AttestItem,
    AttestRequest,
    ProtocolError,
    Refusal,
    Statement,
    parse_statement,
)
from signer.settings import load_settings
from signer.store import read_log
from tests.support.sign_requests import utxo_request
from tests.support.vault import (
    SIGNER_TOML,
    WITHOUT_VERSION_4,
    HandClock,
    VaultKit,
    new_folder,
    open_kit,
)

PATH = "m/84h/1h/1h/0/0"
OTHERS_PATH = "m/84h/1h/2h/0/0"  # bravo's account
REGTEST = "bip122:0f9188f13cb7b2c71f2a335e3a4fc328"


def item(path: str = PATH, *, brand: str = "acme", player: str = "player-1") -> AttestItem:
    return AttestItem(brand=brand, player=player, path=path)


def ask(kit: VaultKit, *items: AttestItem, network: str = "btc") -> Attestations:
    """Ask and expect an answer per item."""
    answer = kit.vault.attest(AttestRequest(network=network, items=items))
    assert isinstance(answer, Attestations), answer
    assert len(answer.items) == len(items)
    return answer


def attested(kit: VaultKit, wanted: AttestItem, network: str = "btc") -> Attested:
    """Ask for one and expect its statement."""
    [found] = ask(kit, wanted, network=network).items
    assert isinstance(found, Attested), found
    return found


def refused(kit: VaultKit, wanted: AttestItem, network: str = "btc") -> str:
    """Ask for one, expect a refusal, return its code."""
    [found] = ask(kit, wanted, network=network).items
    assert isinstance(found, Refusal), found
    return found.code


def log_of(kit: VaultKit) -> list[tuple[str, dict[str, object]]]:
    """(kind, fields) of every entry; closes the store."""
    kit.store.close()
    entries = [json.loads(body) for _, body, _ in read_log(kit.settings.store)]
    return [(entry["kind"], entry["fields"]) for entry in entries]


@pytest.mark.parametrize(
    ("network", "path", "chain"),
    [
        ("btc", PATH, REGTEST),
        ("ltc", PATH, "bip122:530827f38f93b43ed12af0b3ad25a288"),
        ("eth", "m/44h/60h/1h/0/7", "eip155:31337"),
    ],
)
def test_statement_says_whose_the_address_of_the_path_is(
    kit: VaultKit, network: str, path: str, chain: str
) -> None:
    found = attested(kit, item(path), network)
    settings = kit.settings.networks[network]
    own = parse_path(path, settings)
    assert found.statement.split("\n") == [
        "cage-address/1",
        "brand=acme",
        "player=player-1",
        f"network={chain}",
        f"address={kit.keyring.address(own, settings)}",
        f"path_tag={kit.keyring.path_tag(chain, own)}",
    ]
    key = Ed25519PublicKey.from_public_bytes(kit.keyring.attestation_public_key)
    key.verify(found.signature, found.statement.encode())
    with pytest.raises(InvalidSignature):
        key.verify(found.signature, found.statement.replace("player-1", "player-2").encode())


def test_key_of_the_public_test_seed_is_always_the_same_and_no_coin_key(kit: VaultKit) -> None:
    """Integrators pin it: another derivation in a later version would break them all."""
    ring = kit.keyring
    key_id = "att_" + hashlib.sha256(ring.attestation_public_key).hexdigest()[:16]
    assert ring.attestation_key_id == key_id == "att_8508fa784c77cc18"
    assert ask(kit, item()).key_id == key_id


def test_path_belongs_to_its_first_player_for_ever(kit: VaultKit) -> None:
    first = attested(kit, item())
    kit.clock.now += 10 * 365 * 86_400
    assert refused(kit, item(player="player-2")) == "bound"
    assert refused(kit, item(brand="bravo")) == "bound"
    assert refused(kit, item(PATH.replace("h", "'"), player="player-2")) == "bound"
    assert attested(kit, item()) == first
    assert attested(kit, item(PATH.replace("h", "'"))) == first


def test_two_players_in_one_message_do_not_share_a_path(kit: VaultKit) -> None:
    answer = ask(kit, item(), item(player="player-2"), item())
    first, second, third = answer.items
    assert first == third
    assert isinstance(second, Refusal)
    assert second.code == "bound"


def test_one_path_of_two_networks_may_have_two_players(kit: VaultKit) -> None:
    """Test networks share coin type 1; the statement names the chain."""
    bitcoin = attested(kit, item())
    litecoin = attested(kit, item(player="player-2"), "ltc")
    tags = [parse_statement(found.statement).path_tag for found in (bitcoin, litecoin)]
    assert len(set(tags)) == 2


def test_binding_survives_a_restart_and_the_answer_is_the_same_byte_for_byte(
    kit: VaultKit,
) -> None:
    first = attested(kit, item())
    again = kit.reopen()
    assert attested(again, item()) == first
    assert refused(again, item(player="player-2")) == "bound"
    again.store.close()


@pytest.mark.parametrize(
    ("wanted", "code"),
    [
        (item(OTHERS_PATH), "foreign_path"),
        (item(brand="bravo"), "foreign_path"),
        (item("m/84h/1h/0h/0/0"), "foreign_path"),
        (item("m/84h/1h/0h/1/0"), "foreign_path"),
        (item("m/84h/1h/3h/0/0"), "foreign_path"),
        (item(brand="charlie"), "unknown_brand"),
        (item("m/84h/0h/1h/0/0"), "bad_path"),
        (item("m/44h/60h/1h/0/0"), "bad_path"),
        (item("m/84h/1h/1h/1/0"), "bad_path"),
        (item("m/84h/1h/1h/0/2147483648"), "bad_path"),
        (item("m/84h/1h/1h/0/00"), "bad_path"),
        (item(""), "bad_path"),
        (item(player=""), "bad_request"),
        (item(player="p" * 129), "bad_request"),
        (item(player="p1\naddress=bc1qevil"), "bad_request"),
        (item(player="p 1"), "bad_request"),
        (item(player="spieler-ä"), "bad_request"),
    ],
)
def test_what_is_not_a_deposit_path_of_the_brand_or_no_player_is_refused_and_binds_nothing(
    kit: VaultKit, wanted: AttestItem, code: str
) -> None:
    assert refused(kit, wanted) == code
    assert kit.store.rows("SELECT * FROM bindings") == []
    kind, fields = log_of(kit)[-1]
    assert kind == "attest_refused"
    assert [entry["code"] for entry in fields["items"]] == [code]  # type: ignore[attr-defined]


def test_refused_item_stops_no_other_of_its_message(kit: VaultKit) -> None:
    answer = ask(kit, item(OTHERS_PATH), item(), item("m/84h/1h/1h/0/1", player="player-2"))
    assert [type(found) for found in answer.items] == [Refusal, Attested, Attested]
    kinds = [kind for kind, _ in log_of(kit)]
    assert kinds[-2:] == ["attest_refused", "attested"]


def test_unknown_network_and_one_without_its_chain_are_refused_whole(tmp_path: Path) -> None:
    folder = new_folder(tmp_path)
    text = SIGNER_TOML.replace(f'caip2 = "{REGTEST}"\n', "")
    (folder / "signer.toml").write_text(text, "utf-8")
    kit = open_kit(folder, HandClock())
    for network, code in (("doge", "unknown_network"), ("btc", "not_supported")):
        answer = kit.vault.attest(AttestRequest(network=network, items=(item(),)))
        assert isinstance(answer, Refusal)
        assert answer.code == code
    kit.store.close()


def test_cap_of_first_statements_waits_an_hour_and_repeats_are_free(tmp_path: Path) -> None:
    """A stolen gateway could waste the pool's paths; not faster than this."""
    folder = new_folder(tmp_path)
    text = SIGNER_TOML.replace("[signer]", "[signer]\nattest_hour_max = 3", 1)
    (folder / "signer.toml").write_text(text, "utf-8")
    kit = open_kit(folder, HandClock())
    paths = [f"m/84h/1h/1h/0/{index}" for index in range(4)]
    codes = [
        found.code if isinstance(found, Refusal) else "ok"
        for found in ask(kit, *(item(path) for path in paths)).items
    ]
    assert codes == ["ok", "ok", "ok", "cap_window"]
    attested(kit, item(paths[0]))
    kit.clock.now += 3_599
    assert refused(kit, item(paths[3])) == "cap_window"
    kit.clock.now += 1
    attested(kit, item(paths[3]))
    kit.store.close()


def test_binding_is_in_the_chained_log_once(kit: VaultKit) -> None:
    ask(kit, item(), item("m/84h/1h/1h/0/1", player="player-2"))
    ask(kit, item(), item("m/84h/1h/1h/0/1", player="player-2"))
    entries = [fields for kind, fields in log_of(kit) if kind == "attested"]
    assert entries == [
        {
            "network": REGTEST,
            "items": [[PATH, "acme", "player-1"], ["m/84h/1h/1h/0/1", "acme", "player-2"]],
        }
    ]


def test_binding_row_is_for_ever(kit: VaultKit) -> None:
    attested(kit, item())
    for sql in ("DELETE FROM bindings", "UPDATE bindings SET player = 'player-2'"):
        with pytest.raises(StoreError, match="bound is for ever"):
            kit.store.execute(sql)


def test_store_that_cannot_be_written_signs_no_statement(kit: VaultKit) -> None:
    kit.settings.anchor.rename(kit.folder / "moved")
    answer = kit.vault.attest(AttestRequest(network="btc", items=(item(),)))
    assert isinstance(answer, Refusal)
    assert answer.code == "store_unwritable"


def test_store_of_the_version_before_learns_bindings_and_keeps_its_memory(kit: VaultKit) -> None:
    first = kit.signed(utxo_request(kit))
    kit.store.close()
    with sqlite3.connect(kit.settings.store) as connection:
        connection.execute("DROP TABLE bindings")
        connection.executescript(WITHOUT_VERSION_4)
        connection.execute("UPDATE meta SET version = 2")
    connection.close()
    again = open_kit(kit.folder, kit.clock)
    assert again.signed(utxo_request(again)) == first
    attested(again, item())
    again.store.close()


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("bravo = 2", "bravo = 1", "share an account"),
        ("bravo = 2", "bravo = 0", "account from 1"),
        ("bravo = 2", '"bra vo" = 2', "account from 1"),
        (REGTEST, "bip122:xyz", "32 hex digits"),
        (REGTEST, "bip122:530827f38f93b43ed12af0b3ad25a288", "same chain"),
    ],
)
def test_settings_of_brands_and_chains_are_checked_at_start(
    tmp_path: Path, old: str, new: str, text: str
) -> None:
    folder = new_folder(tmp_path)
    (folder / "signer.toml").write_text(SIGNER_TOML.replace(old, new), "utf-8")
    with pytest.raises(ConfigurationError, match=text):
        load_settings(folder, own_uid=0)


def test_attest_messages_decode_to_what_was_encoded(kit: VaultKit) -> None:
    request = AttestRequest(network="btc", items=(item(), item(OTHERS_PATH)))
    wire = protocol.strict_loads(protocol.frame(protocol.encode_attest_request(request))[4:])
    assert protocol.operation_of(wire) is protocol.Operation.ATTEST
    assert protocol.decode_attest_request(wire) == request
    for answer in (kit.vault.attest(request), Refusal(code="bad_request", reason="no")):
        wire = protocol.strict_loads(protocol.frame(protocol.encode_attest_answer(answer))[4:])
        assert protocol.decode_attest_answer(wire) == answer


@pytest.mark.parametrize(
    "items",
    [
        [],
        [{"brand": "acme", "player": "p", "path": PATH}] * (MAX_ATTEST_ITEMS + 1),
        [{"brand": "acme", "player": "p"}],
        [{"brand": "acme", "player": 1, "path": PATH}],
        [{"brand": "acme", "player": "p", "path": PATH, "address": "x"}],
        {},
    ],
)
def test_request_that_is_none_of_attest_is_refused(items: object) -> None:
    with pytest.raises(ProtocolError):
        protocol.decode_attest_request({"op": "attest", "network": "btc", "items": items})


@pytest.mark.parametrize(
    "items",
    [{}, [1], [{"ok": True}], [{"ok": True, "statement": "x", "signature": "not base64!"}]],
)
def test_answer_that_is_none_of_attest_is_refused(items: object) -> None:
    with pytest.raises(ProtocolError):
        protocol.decode_attest_answer({"ok": True, "key_id": "att_1", "items": items})


def test_statement_is_read_back_exactly_or_not_at_all() -> None:
    made = Statement(brand="acme", player="p=1", network="eip155:1", address="0xA", path_tag="00")
    text = str(made)
    assert parse_statement(text) == made
    for wrong in (
        "",
        text + "\n",
        text.replace("address/1", "address/2"),
        text.replace("brand=acme\n", ""),
        text.replace("brand=acme", "brand="),
        text.replace("brand=acme", "brand=a b"),
        text + "\nmore=1",
        str(replace(made, player="x\naddress=y")),
    ):
        with pytest.raises(ProtocolError):
            parse_statement(wrong)


def test_s16_a_halted_signer_makes_no_statement_and_binds_nothing(kit: VaultKit) -> None:
    first = attested(kit, item())
    kit.statement("halt", {}, ("bob",))
    again = kit.reopen()
    head = again.store.sequence
    for wanted in (item(), item("m/84h/1h/1h/0/1")):  # what was stated before, and what is new
        answer = again.vault.attest(AttestRequest(network="btc", items=(wanted,)))
        assert isinstance(answer, Refusal)
        assert answer.code == "halted"
    assert again.store.sequence == head
    again.statement("resume", {})
    assert attested(again, item()) == first
    attested(again, item("m/84h/1h/1h/0/1", player="player-2"))  # the halt bound it to nobody
    again.store.close()
