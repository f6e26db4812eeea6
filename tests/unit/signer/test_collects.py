"""What a collect may be: own deposit addresses, a listed token, the pinned collector (S22, S10)."""

from collections.abc import Mapping
from typing import Any

import pytest
import rlp  # type: ignore[import-untyped]
from eth_account import Account
from eth_account.typed_transactions.typed_transaction import TypedTransaction
from eth_utils.crypto import keccak
from hexbytes import HexBytes

from signer import collector
from signer.errors import ConfigurationError
from signer.protocol import Purpose
from signer.settings import load_settings
from tests.support import evm
from tests.support.collect_requests import (
    CHAIN,
    DEPOSITS,
    OTHER,
    collect,
    given,
    legs_of,
    minimal,
    payload,
)
from tests.support.sign_requests import GAS, LANE, evm_request, payment
from tests.support.vault import COLLECTOR, FOREIGN_EVM, SIGNER_TOML, TOKEN, VaultKit


def test_the_collector_of_these_keys_is_where_the_settings_say(kit: VaultKit) -> None:
    """CREATE2 by hand over the committed build (EIP-1014), and no other address is taken."""
    build = bytes.fromhex(evm.load_build("Collector").bytecode[2:])
    made = build + b"".join(
        bytes(12) + bytes.fromhex(kit.address("eth", path)[2:]) for path in (LANE, GAS)
    )
    place = keccak(b"\xff" + collector.FACTORY + bytes(32) + keccak(made))[-20:]
    assert "0x" + place.hex() == COLLECTOR
    assert collector.creation(kit.keyring, kit.settings.networks["eth"]) == made
    text = SIGNER_TOML.replace(COLLECTOR, "0x" + "cc" * 20)
    (kit.folder / "signer.toml").write_text(text, "utf-8")
    with pytest.raises(ConfigurationError, match=COLLECTOR):
        kit.reopen()


@pytest.mark.parametrize("text", ["0x12", "bc81be41b01bbb755d27fa5197ed7f0e828c8fe5"])
def test_a_collector_that_is_no_address_stops_the_start(kit: VaultKit, text: str) -> None:
    (kit.folder / "signer.toml").write_text(SIGNER_TOML.replace(COLLECTOR, text), "utf-8")
    with pytest.raises(ConfigurationError, match="40 hex digits"):
        load_settings(kit.folder, own_uid=0)


def test_s22_tokens_of_delegated_addresses_are_collected_without_authorisations(
    kit: VaultKit,
) -> None:
    answer = kit.signed(collect(payload(legs_of(kit, DEPOSITS)), DEPOSITS))
    assert Account.recover_transaction(answer.raw) == kit.address("eth", GAS)
    fields = TypedTransaction.from_bytes(HexBytes(answer.raw)).as_dict()
    assert (fields["type"], HexBytes(fields["to"])) == (2, HexBytes(COLLECTOR))


def test_s22_each_deposit_key_signs_its_own_authorisation(kit: VaultKit) -> None:
    """Read by eth-account: the collector, this chain, the account's number, its own key."""
    wanted = {DEPOSITS[2]: 0, DEPOSITS[0]: 300}
    unsigned = payload(legs_of(kit, DEPOSITS), [given(nonce) for nonce in wanted.values()])
    answer = kit.signed(collect(unsigned, [*DEPOSITS, *wanted]))

    assert Account.recover_transaction(answer.raw) == kit.address("eth", GAS)
    assert answer.txid == "0x" + keccak(answer.raw).hex()
    fields = TypedTransaction.from_bytes(HexBytes(answer.raw)).as_dict()
    for (path, nonce), item in zip(wanted.items(), fields["authorizationList"], strict=True):
        assert (item["chainId"], item["nonce"]) == (CHAIN, nonce)
        assert HexBytes(item["address"]) == HexBytes(COLLECTOR)
        digest = keccak(b"\x05" + rlp.encode(given(nonce)))
        signature = bytes([item["yParity"]]), item["r"], item["s"]
        assert Account._recover_hash(
            digest, vrs=(signature[0][0], signature[1], signature[2])
        ) == kit.address("eth", path)


AUTHORISATIONS: Mapping[str, tuple[list[Any], str]] = {
    "another contract": ([given(0, target=FOREIGN_EVM)], "forbidden_shape"),
    "the token": ([given(0, target=TOKEN)], "forbidden_shape"),
    "nobody": ([given(0, target="0x" + "00" * 20)], "forbidden_shape"),
    "every chain": ([given(0, chain=0)], "wrong_network"),
    "another chain": ([given(0, chain=1)], "wrong_network"),
    "a nonce beyond all": ([given(2**63)], "undecodable"),
    "a long nonce": ([[*given(0)[:2], b"\x00\x01"]], "undecodable"),
    "a long chain": ([[b"\x00" + minimal(CHAIN), *given(0)[1:]]], "wrong_network"),
    "a signed one": ([[*given(0), b"", b"\x01", b"\x01"]], "undecodable"),
    "nested": ([[[b""], *given(0)[1:]]], "undecodable"),
    "no list": ([b"\x01"], "undecodable"),
}


@pytest.mark.parametrize("case", AUTHORISATIONS)
def test_s10_another_authorisation_is_refused(kit: VaultKit, case: str) -> None:
    items, code = AUTHORISATIONS[case]
    unsigned = payload(legs_of(kit, DEPOSITS), items)
    assert kit.refused(collect(unsigned, [*DEPOSITS, DEPOSITS[0]])) == code


def test_s10_authorisations_are_for_accounts_of_the_call_alone(kit: VaultKit) -> None:
    legs = legs_of(kit, DEPOSITS)
    cases = [
        ([given(0)], [*DEPOSITS, OTHER], "forbidden_shape"),
        ([given(0), given(1)], [*DEPOSITS, DEPOSITS[0], DEPOSITS[0]], "forbidden_shape"),
        ([given(0)], [*DEPOSITS, LANE], "bad_path"),
        ([given(0)], [*DEPOSITS, GAS], "bad_path"),
        ([given(0)], [*DEPOSITS], "foreign_input"),
        ([given(0)], [*DEPOSITS, DEPOSITS[0], DEPOSITS[1]], "foreign_input"),
        ([], [*DEPOSITS], "undecodable"),
    ]
    for number, (items, paths, code) in enumerate(cases):
        request = collect(payload(legs, items), paths, f"c-{number}")
        assert kit.refused(request) == code


@pytest.mark.parametrize("purpose", [item for item in Purpose if item is not Purpose.COLLECT])
def test_s10_no_other_purpose_signs_an_authorisation_or_calls_the_collector(
    kit: VaultKit, purpose: Purpose
) -> None:
    legs = legs_of(kit, DEPOSITS)
    orders = (payment(asset="eth:USDT", address=COLLECTOR, amount="6"),)
    for number, (unsigned, paths) in enumerate(
        ((payload(legs), DEPOSITS), (payload(legs, [given(0)]), (*DEPOSITS, DEPOSITS[0])))
    ):
        for sender in (GAS, LANE, DEPOSITS[0]):
            request = collect(
                unsigned,
                paths,
                f"c-{number}-{sender}",
                purpose=purpose,
                input_paths=(sender,),
                payments=orders if purpose in (Purpose.WITHDRAWAL, Purpose.REISSUE) else (),
            )
            assert kit.refused(request) == "forbidden_shape"


def test_s22_a_leg_takes_from_the_own_deposit_address_that_it_names(kit: VaultKit) -> None:
    legs = legs_of(kit, DEPOSITS)
    swapped = (DEPOSITS[1], DEPOSITS[0], DEPOSITS[2])
    foreign = [bytes.fromhex(FOREIGN_EVM[2:]) + (1).to_bytes(12, "big")]
    hot = legs_of(kit, [LANE])
    empty = [legs[0][:20] + bytes(12)]
    cases = [
        (payload(legs), swapped, "foreign_input"),
        (payload(legs), DEPOSITS[:2], "foreign_input"),
        (payload(foreign), (DEPOSITS[0],), "foreign_input"),
        (payload(hot), (LANE,), "bad_path"),
        (payload([legs[0], legs[0]]), (DEPOSITS[0], DEPOSITS[0]), "forbidden_shape"),
        (payload(empty), (DEPOSITS[0],), "forbidden_shape"),
        (payload([]), (), "forbidden_shape"),
        (payload(legs_of(kit, [DEPOSITS[0]]) * 101), DEPOSITS, "forbidden_shape"),
    ]
    for number, (unsigned, paths, code) in enumerate(cases):
        assert kit.refused(collect(unsigned, paths, f"c-{number}")) == code


def test_s10_another_call_of_the_collector_is_refused(kit: VaultKit) -> None:
    legs = legs_of(kit, DEPOSITS)
    data = bytes.fromhex(evm.call_data("collect(address,bytes32[])", TOKEN, legs)[2:])
    unlisted = bytes.fromhex(evm.call_data("collect(address,bytes32[])", COLLECTOR, legs)[2:])
    coin = bytes.fromhex(evm.call_data("collect(address,bytes32[])", "0x" + "00" * 20, legs)[2:])
    give = bytes.fromhex(evm.call_data("give(address,uint256)", TOKEN, 1)[2:])
    cases = [
        payload(legs, value=1),
        payload(legs, data=b""),
        payload(legs, data=give),
        payload(legs, data=unlisted),
        payload(legs, data=coin),
        payload(legs, data=data + bytes(32)),
        payload(legs, data=data[:-32]),
        payload(legs, data=data + b"\x01"),
        payload(legs, data=data[:4] + b"\x01" + data[5:]),
        payload(legs, data=data[:36] + (96).to_bytes(32, "big") + data[68:]),
        payload(legs, to=bytes.fromhex(TOKEN[2:])),
        payload(legs, to=bytes.fromhex(FOREIGN_EVM[2:])),
        payload(legs, access=[[bytes(20), []]]),
    ]
    for number, unsigned in enumerate(cases):
        assert kit.refused(collect(unsigned, DEPOSITS, f"c-{number}")) == "forbidden_shape"


@pytest.mark.parametrize("path", [LANE, "m/44h/60h/0h/1/1", DEPOSITS[0]])
def test_s22_only_the_gas_account_that_the_collector_obeys_sends_it(
    kit: VaultKit, path: str
) -> None:
    request = collect(payload(legs_of(kit, DEPOSITS)), DEPOSITS, input_paths=(path,))
    assert kit.refused(request) == "bad_path"


def test_a_collect_names_its_deposits_and_nothing_else(kit: VaultKit) -> None:
    unsigned = payload(legs_of(kit, DEPOSITS))
    assert kit.refused(collect(unsigned, DEPOSITS, "c-1", own_path=LANE)) == "bad_request"
    paid = (payment(asset="eth:USDT", address=FOREIGN_EVM),)
    assert kit.refused(collect(unsigned, DEPOSITS, "c-2", payments=paid)) == "bad_request"


def test_without_a_pinned_collector_nothing_is_collected(kit: VaultKit) -> None:
    text = SIGNER_TOML.replace(f'collector = "{COLLECTOR}"\n', "")
    (kit.folder / "signer.toml").write_text(text, "utf-8")
    bare = kit.reopen()
    request = collect(payload(legs_of(bare, DEPOSITS)), DEPOSITS)
    assert bare.refused(request) == "forbidden_shape"
    bare.store.close()


def test_s08_a_replacement_collects_the_same_for_a_higher_fee(kit: VaultKit) -> None:
    legs = legs_of(kit, DEPOSITS)
    paths = [*DEPOSITS, DEPOSITS[0]]
    kit.signed(collect(payload(legs, [given(0)]), paths, "c-1"))
    dearer: dict[str, Any] = {"max_fee": 30 * 10**9}
    other = collect(payload(legs, [given(0)], **dearer), paths, "c-2")
    assert kit.refused(other) == "nonce_used"
    fewer = collect(payload(legs[:2], **dearer), DEPOSITS[:2], "c-3", replaces="c-1")
    assert kit.refused(fewer) == "already_paid"
    without = collect(payload(legs, **dearer), DEPOSITS, "c-4", replaces="c-1")
    assert kit.refused(without) == "already_paid"
    later = collect(payload(legs, [given(1)], **dearer), paths, "c-5", replaces="c-1")
    assert kit.refused(later) == "already_paid"
    kit.signed(collect(payload(legs, [given(0)], **dearer), paths, "c-6", replaces="c-1"))


def test_s08_no_authorisation_at_a_number_that_a_signed_tx_has(kit: VaultKit) -> None:
    """It would make that tx impossible; the tx itself may come after the authorisation."""
    swept = evm_request(
        attempt_id="s-1",
        payload=payload([], to=bytes.fromhex(kit.address("eth", LANE)[2:]), value=1, data=b""),
        purpose=Purpose.SWEEP,
        input_paths=(DEPOSITS[0],),
        payments=(),
        own_path=LANE,
    )
    kit.signed(swept)
    legs, paths = legs_of(kit, DEPOSITS), [*DEPOSITS, DEPOSITS[0]]
    assert kit.refused(collect(payload(legs, [given(0)]), paths, "c-1")) == "nonce_used"
    kit.signed(collect(payload(legs, [given(1)]), paths, "c-2"))


def test_gas_of_a_collect_is_bounded_by_its_legs_and_authorisations(kit: VaultKit) -> None:
    """200,000 per leg and once more in the kit, and 25,000 per authorisation."""
    legs, paths = legs_of(kit, DEPOSITS), [*DEPOSITS, DEPOSITS[0]]
    cheap: dict[str, Any] = {"max_fee": 10**9, "priority": 1}
    plain = payload(legs, gas=800_001, **cheap)
    assert kit.refused(collect(plain, DEPOSITS, "c-1")) == "fee_too_high"
    kit.signed(collect(payload(legs, gas=800_000, **cheap), DEPOSITS, "c-2"))
    more = payload(legs, [given(0)], gas=825_001, nonce=1, **cheap)
    assert kit.refused(collect(more, paths, "c-3")) == "fee_too_high"
    kit.signed(collect(payload(legs, [given(0)], gas=825_000, nonce=1, **cheap), paths, "c-4"))


def test_a_hundred_legs_with_authorisations_fit(kit: VaultKit) -> None:
    paths = [f"m/44h/60h/1h/0/{number}" for number in range(100)]
    unsigned = payload(
        legs_of(kit, paths), [given(2**62)] * 100, gas=11_000_000, max_fee=10**9, priority=1
    )
    answer = kit.signed(collect(unsigned, [*paths, *paths]))
    fields = TypedTransaction.from_bytes(HexBytes(answer.raw)).as_dict()
    assert len(fields["authorizationList"]) == 100
