"""The signer's own settings: `signer.toml` in its directory, read once, frozen.

They are the limits that no caller can raise. Unknown keys are refused. Amounts are integers in
minor units, written as TOML integers or decimal strings. Nothing here names a network address or
a database: the signer has neither.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from signer.errors import ConfigurationError

SETTINGS_FILE = "signer.toml"
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}", re.ASCII)
_DIGITS = re.compile(r"0|[1-9][0-9]{0,77}", re.ASCII)
_CAIP2 = re.compile(r"bip122:[0-9a-f]{32}", re.ASCII)  # CAIP-4: half of the genesis hash
ATTEST_HOUR_MAX = 20_000  # first statements about addresses; repeated ones are free
APPROVAL_SECONDS = 7 * 86_400  # an order's usual validity (CONTRACT 3): it may wait for coins
PIN_SECONDS = 86_400  # a pinned cold address counts after a day (CONTRACT 8); sooner in tests only
SIGNS_PER_MINUTE = 6_000  # ten times what four lanes ask for; one EVM batch is one request
# Keccak of the runtime code of contracts/BatchPayer.sol, whose `pay` signer/batches.py reads.
BATCH_CODE_HASH = "0x913c5941ac3bb4534e9a5d0685eec6fcca1109df3721561028c65a0504894823"
_CONTRACT = re.compile(r"0x[0-9a-fA-F]{40}", re.ASCII)


class Family(StrEnum):
    """Which decoder and which signature."""

    BITCOIN = "bitcoin"
    """UTXO chains with P2WPKH (BTC, LTC)."""
    EVM = "evm"
    """Account chains with EIP-1559 transactions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AssetSettings:
    """One asset that may leave; caps count first signatures, in minor units.

    A single payment above `dual_limit_minor` also takes two people's approvals (S15). Refunds and
    recoveries, which two people sign alone, and moves to cold have caps of their own: none unless
    they are set. A move above `cold_dual_limit_minor` takes two people, too; unset, every one does.
    Moves between hot and warm have caps of their own, counted by direction, and always take two.
    """

    asset: str
    decimals: int
    contract: bytes | None
    cap_tx_minor: int
    cap_hour_minor: int
    cap_day_minor: int
    dual_limit_minor: int
    refund_tx_max_minor: int
    refund_day_max_minor: int
    cold_tx_max_minor: int
    cold_day_max_minor: int
    cold_dual_limit_minor: int
    warm_tx_max_minor: int
    warm_day_max_minor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSettings:
    """One network. Fees in the native coin's minor units.

    `fee_rate_max` is sat per virtual byte (UTXO) or wei per gas (EVM). UTXO only: `hrp`,
    `p2pkh_versions`, `p2sh_versions`, and `move_fee_day_max_minor` for txs that merge or split own
    coins, without a word a tenth of `fee_day_max_minor`. EVM only: `chain_id`, `gas_limit_max` (per
    payment), the gas top-up caps (per tx, and per address and day), `sweep_fee_day_max_minor` for
    sweeps and top-ups, without a word as much as `fee_day_max_minor`; `batch_contract`, our own
    contract that pays many, pinned with the hash of its code; and `collector`, what deposit
    addresses may delegate to (`signer.collector`). `caip2` names the chain to everybody; without
    it no address of a UTXO network is attested.
    """

    name: str
    family: Family
    coin_type: int
    is_test: bool
    caip2: str
    assets: Mapping[str, AssetSettings]
    fee_max_minor: int
    fee_day_max_minor: int
    fee_rate_max: int
    hrp: str = ""
    p2pkh_versions: tuple[int, ...] = ()
    p2sh_versions: tuple[int, ...] = ()
    chain_id: int = 0
    gas_limit_max: int = 0
    gas_top_up_tx_max_minor: int = 0
    gas_top_up_address_day_max_minor: int = 0
    sweep_fee_day_max_minor: int = 0
    batch_contract: bytes | None = None
    collector: bytes | None = None
    move_fee_day_max_minor: int = 0

    @property
    def native(self) -> AssetSettings:
        """The coin that pays fees."""
        return next(item for item in self.assets.values() if item.contract is None)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSettings:
    """The hardware token without which the key file does not open. `serial` may be empty."""

    module: Path
    label: str
    serial: str
    pin_file: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything the signer is told from outside, except secrets."""

    directory: Path
    socket: Path
    admin_socket: Path
    store: Path
    anchor: Path
    keyring: Path
    passphrase_file: Path
    token: TokenSettings | None
    peer_uids: tuple[int, ...]
    admin_uids: tuple[int, ...]
    authorities: tuple[str, ...]
    networks: Mapping[str, NetworkSettings]
    brands: Mapping[str, int]  # account index of each; what no caller can say (FEATURES N20)
    attest_hour_max: int
    approval_seconds: int
    signs_per_minute: int
    pin_seconds: int

    @property
    def is_test(self) -> bool:
        """Whether every network is a test network; main and test never mix."""
        return all(network.is_test for network in self.networks.values())


def load_settings(directory: Path, *, own_uid: int) -> Settings:
    """Read `signer.toml`; raises ConfigurationError naming the wrong key."""
    path = directory / SETTINGS_FILE
    try:
        raw = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: {error}") from error
    top = _Table(raw, str(path))
    signer = top.table("signer")
    networks = top.table("networks")
    brands = top.table("brands", {})
    top.end()
    result = Settings(
        directory=directory,
        socket=directory / signer.text("socket", "signer.sock"),
        admin_socket=directory / signer.text("admin_socket", "admin.sock"),
        store=directory / signer.text("store", "signer.sqlite"),
        anchor=directory / signer.text("anchor"),
        keyring=directory / signer.text("keyring", "keyring.json"),
        passphrase_file=directory / signer.text("passphrase_file", "passphrase"),
        token=_token(directory, signer.table("token", {})),
        peer_uids=signer.integers("peer_uids", (own_uid,)),
        admin_uids=signer.integers("admin_uids", (own_uid,)),
        authorities=signer.texts("authorities"),
        networks={name: _network(name, networks.table(name)) for name in networks.keys()},
        brands={name: brands.integer(name) for name in brands.keys()},
        attest_hour_max=signer.integer("attest_hour_max", ATTEST_HOUR_MAX),
        approval_seconds=signer.integer("approval_seconds", APPROVAL_SECONDS),
        signs_per_minute=signer.integer("signs_per_minute", SIGNS_PER_MINUTE),
        pin_seconds=signer.integer("pin_seconds", PIN_SECONDS),
    )
    signer.end()
    _check_brands(result)
    if result.anchor.parent.resolve() == result.store.parent.resolve():
        raise ConfigurationError("signer.anchor: must lie in another directory than the store")
    if not result.networks or not result.authorities:
        raise ConfigurationError(f"{path}: at least one network and one authority are required")
    if result.pin_seconds < PIN_SECONDS and not result.is_test:
        raise ConfigurationError(f"signer.pin_seconds: at least {PIN_SECONDS} on main networks")
    if len({network.is_test for network in result.networks.values()}) > 1:
        raise ConfigurationError("networks: main and test networks in one configuration")
    coins = [n.coin_type for n in result.networks.values() if n.family is Family.BITCOIN]
    if not result.is_test and len(set(coins)) != len(coins):  # test networks all have coin type 1
        raise ConfigurationError("networks: two UTXO networks share a coin type, and so their keys")
    return result


def _token(directory: Path, raw: "_Table") -> TokenSettings | None:
    if not raw.keys():
        return None
    result = TokenSettings(
        module=Path(raw.text("module")),
        label=raw.text("label"),
        serial=raw.text("serial", ""),
        pin_file=directory / raw.text("pin_file", "pin"),
    )
    raw.end()
    if not result.module.is_absolute():  # a name alone would be searched for along paths
        raise ConfigurationError("signer.token.module: an absolute path is required")
    return result


def _check_brands(settings: Settings) -> None:
    accounts = list(settings.brands.values())
    for name, account in settings.brands.items():
        if not _NAME.fullmatch(name) or account < 1:
            raise ConfigurationError(f"brands.{name}: a brand's name and its account from 1")
    if len(set(accounts)) != len(accounts):
        raise ConfigurationError("brands: two brands share an account")
    chains = [network.caip2 for network in settings.networks.values() if network.caip2]
    if len(set(chains)) != len(chains):
        raise ConfigurationError("networks: two networks are the same chain (caip2)")


def _network(name: str, raw: "_Table") -> NetworkSettings:
    if not _NAME.fullmatch(name):
        raise ConfigurationError(f"networks.{name}: not a network name")
    try:
        family = Family(raw.text("family"))
    except ValueError as error:
        raise ConfigurationError(f"networks.{name}.family: bitcoin or evm") from error
    assets = raw.table("assets")
    parsed = [_asset(name, symbol, assets.table(symbol), family) for symbol in assets.keys()]
    is_utxo = family is Family.BITCOIN
    fee_day_max = raw.integer("fee_day_max_minor")
    result = NetworkSettings(
        name=name,
        family=family,
        coin_type=raw.integer("coin_type"),
        is_test=raw.boolean("test"),
        caip2=_caip2(name, raw.text("caip2", "")) if is_utxo else "",
        assets={item.asset: item for item in parsed},
        fee_max_minor=raw.integer("fee_max_minor"),
        fee_day_max_minor=fee_day_max,
        fee_rate_max=raw.integer("fee_rate_max"),
        hrp=raw.text("hrp") if is_utxo else "",
        p2pkh_versions=raw.integers("p2pkh_versions") if is_utxo else (),
        p2sh_versions=raw.integers("p2sh_versions") if is_utxo else (),
        chain_id=0 if is_utxo else raw.integer("chain_id"),
        gas_limit_max=0 if is_utxo else raw.integer("gas_limit_max"),
        gas_top_up_tx_max_minor=0 if is_utxo else raw.integer("gas_top_up_tx_max_minor"),
        gas_top_up_address_day_max_minor=(
            0 if is_utxo else raw.integer("gas_top_up_address_day_max_minor")
        ),
        sweep_fee_day_max_minor=(
            0 if is_utxo else raw.integer("sweep_fee_day_max_minor", fee_day_max)
        ),
        move_fee_day_max_minor=(
            raw.integer("move_fee_day_max_minor", fee_day_max // 10) if is_utxo else 0
        ),
        batch_contract=None if is_utxo else _batch_contract(name, raw.table("batch_contract", {})),
        collector=None if is_utxo else _collector(name, raw.text("collector", "")),
    )
    raw.end()
    if not is_utxo:
        result = replace(result, caip2=f"eip155:{result.chain_id}")
    natives = [item for item in parsed if item.contract is None]
    if len(natives) != 1:
        raise ConfigurationError(f"networks.{name}.assets: exactly one native asset is required")
    return result


def _batch_contract(network: str, raw: "_Table") -> bytes | None:
    """`address` and `code_hash`; another code than this signer can read is refused."""
    if not raw.keys():
        return None
    address, code_hash = raw.text("address"), raw.text("code_hash")
    raw.end()
    if not _CONTRACT.fullmatch(address):
        raise ConfigurationError(f"networks.{network}.batch_contract.address: 0x and 40 hex digits")
    if code_hash.lower() != BATCH_CODE_HASH:
        raise ConfigurationError(
            f"networks.{network}.batch_contract.code_hash: this signer knows {BATCH_CODE_HASH} only"
        )
    return bytes.fromhex(address[2:])


def _collector(network: str, text: str) -> bytes | None:
    """Its address, which `signer.collector` holds against the one that follows from the keys."""
    if not text:
        return None
    if not _CONTRACT.fullmatch(text):
        raise ConfigurationError(f"networks.{network}.collector: 0x and 40 hex digits")
    return bytes.fromhex(text[2:])


def _caip2(network: str, text: str) -> str:
    if text and not _CAIP2.fullmatch(text):
        raise ConfigurationError(f"networks.{network}.caip2: bip122: and 32 hex digits")
    return text


def _asset(network: str, symbol: str, raw: "_Table", family: Family) -> AssetSettings:
    contract = raw.text("contract", "")
    if contract and (family is not Family.EVM or not _CONTRACT.fullmatch(contract)):
        raise ConfigurationError(f"{raw.where}.contract: 0x and 40 hex digits, EVM only")
    cap_tx_minor = raw.integer("cap_tx_minor")
    result = AssetSettings(
        asset=f"{network}:{symbol}",
        decimals=raw.integer("decimals"),
        contract=bytes.fromhex(contract[2:]) if contract else None,
        cap_tx_minor=cap_tx_minor,
        cap_hour_minor=raw.integer("cap_hour_minor"),
        cap_day_minor=raw.integer("cap_day_minor"),
        dual_limit_minor=raw.integer("dual_limit_minor", cap_tx_minor),
        refund_tx_max_minor=raw.integer("refund_tx_max_minor", 0),
        refund_day_max_minor=raw.integer("refund_day_max_minor", 0),
        cold_tx_max_minor=raw.integer("cold_tx_max_minor", 0),
        cold_day_max_minor=raw.integer("cold_day_max_minor", 0),
        cold_dual_limit_minor=raw.integer("cold_dual_limit_minor", 0),
        warm_tx_max_minor=raw.integer("warm_tx_max_minor", 0),
        warm_day_max_minor=raw.integer("warm_day_max_minor", 0),
    )
    raw.end()
    return result


class _Table:
    """One TOML table whose keys are taken one by one; what is left over is an error."""

    def __init__(self, raw: dict[str, Any], where: str) -> None:
        self._raw = dict(raw)
        self.where = where

    def keys(self) -> tuple[str, ...]:
        return tuple(self._raw)

    def end(self) -> None:
        if self._raw:
            raise ConfigurationError(f"{self.where}: unknown key {sorted(self._raw)[0]!r}")

    def table(self, key: str, default: dict[str, Any] | None = None) -> "_Table":
        value = self._take(key, default)
        if not isinstance(value, dict):
            raise ConfigurationError(f"{self.where}.{key}: a table is required")
        return _Table(value, f"{self.where}.{key}")

    def text(self, key: str, default: str | None = None) -> str:
        value = self._take(key, default)
        if not isinstance(value, str):
            raise ConfigurationError(f"{self.where}.{key}: a string is required")
        return value

    def boolean(self, key: str) -> bool:
        value = self._take(key, None)
        if not isinstance(value, bool):
            raise ConfigurationError(f"{self.where}.{key}: true or false is required")
        return value

    def integer(self, key: str, default: int | None = None) -> int:
        return self._integer(self._take(key, default), key)

    def integers(self, key: str, default: tuple[int, ...] | None = None) -> tuple[int, ...]:
        value = self._take(key, None if default is None else list(default))
        if not isinstance(value, list):
            raise ConfigurationError(f"{self.where}.{key}: a list of integers is required")
        return tuple(self._integer(item, key) for item in value)

    def texts(self, key: str) -> tuple[str, ...]:
        value = self._take(key, None)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise ConfigurationError(f"{self.where}.{key}: a list of strings is required")
        return tuple(value)

    def _integer(self, value: object, key: str) -> int:
        if isinstance(value, str) and _DIGITS.fullmatch(value):
            return int(value)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise ConfigurationError(f"{self.where}.{key}: an integer from 0 is required")
        return value

    def _take(self, key: str, default: object) -> object:
        if key not in self._raw:
            if default is None:
                raise ConfigurationError(f"{self.where}.{key}: is missing")
            return default
        return self._raw.pop(key)
