"""The settings tree: one TOML file, overridden by `CAGE_*` variables, secrets only by file.

Owns the shape of `cage.toml` and its validation at start. It must not read chain or asset facts
(those are `chains.py`, `assets.py`, `policy.py`), open connections, or keep a global instance:
a composition root calls `load_settings()` once and passes parts down.
"""

import difflib
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from config.errors import ConfigError, UnknownKey
from config.sections import AddressPoolSettings as AddressPoolSettings
from config.sections import AssetId as AssetId
from config.sections import AssetSettings as AssetSettings
from config.sections import BandSettings as BandSettings
from config.sections import BatchSettings as BatchSettings
from config.sections import BrandName as BrandName
from config.sections import ColdSettings as ColdSettings
from config.sections import DecimalText as DecimalText
from config.sections import NetworkName as NetworkName
from config.sections import PayoutSettings as PayoutSettings
from config.sections import RebalanceSettings as RebalanceSettings
from config.sections import Section as Section
from config.sections import TierSettings as TierSettings
from config.sections import WalletSettings as WalletSettings

DatabaseRole = Literal[
    "gateway_api", "gateway_payouts", "gateway_webhooks", "watchers", "scheduler"
]  # one per process, HOUSE 3
DATABASE_ROLES: tuple[DatabaseRole, ...] = get_args(DatabaseRole)
FeeClass = Literal["urgent", "normal", "economy"]

# Variables with the prefix that are no settings: read by the wrapper, the provisioner, the tests,
# and the staff commands.
RESERVED_VARIABLES = frozenset(
    {
        "CAGE_CONFIG",
        "CAGE_CACHE",
        "CAGE_PYTHON",
        "CAGE_STAFF_API",
        "CAGE_STAFF_KEY_ID",
        "CAGE_STAFF_KEY_FILE",
    }
)

# Keys that people bring from earlier drafts and from other programs, with the right one.
OBSOLETE_KEYS = {
    "mode": "livemode",
    "testmode": "livemode",
    "data_dir": "state_dir",
    "database.dsn": "database.url",
    "database.password": "database.password_file",
    "networks.*.rpc": "networks.*.nodes",
    "networks.*.rpc_url": "networks.*.nodes",
    "networks.*.url": "networks.*.nodes",
    "networks.*.network": "networks.*.chain",
    "networks.*.nodes.*.password": "networks.*.nodes.*.password_file",
    "webhooks.allowed_hosts": "webhooks.allow_hosts",
}


def _node_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("a node URL starts with http:// or https:// and names a host")
    return url


class NodeSettings(Section):
    """One node of a network. Credentials may stand in the URL or in a file (`password_file`)."""

    url: Annotated[str, AfterValidator(_node_url)] = Field(repr=False)
    user: str | None = None
    password_file: Path | None = None

    def url_with_credentials(self) -> str:
        """The URL to call, user and password included. Never log it (CASES N20)."""
        if self.user is None:
            return self.url
        secret = read_secret(self.password_file) if self.password_file else ""
        parts = urlsplit(self.url)
        host = parts.netloc.rpartition("@")[2]
        netloc = f"{quote(self.user, safe='')}:{quote(secret, safe='')}@{host}"
        return urlunsplit(parts._replace(netloc=netloc))


class NetworkSettings(Section):
    """One network: where its nodes are, and what differs from the chain registry.

    The optional fields override `chains.toml`; a network that the registry does not know is
    defined here alone by `family = "evm"` and `evm_chain_id` (CONTRACT 7).
    """

    enabled: bool = True
    chain: str = "main"
    nodes: tuple[NodeSettings, ...] = ()
    quorum: int = Field(default=1, ge=1)
    poll_seconds: float | None = Field(default=None, gt=0)
    request_timeout_seconds: float = Field(default=20.0, gt=0)
    calls_per_second: int = Field(default=1000, ge=1)  # per node URL and process (N08)
    family: Literal["evm"] | None = None
    evm_chain_id: int | None = Field(default=None, ge=1)
    is_live: bool | None = None
    native_asset: AssetId | None = None
    reorg_limit_blocks: int | None = Field(default=None, ge=1)
    absence_blocks: int | None = Field(default=None, ge=1)
    min_depth: int | None = Field(default=None, ge=1)
    full_depth: int | None = Field(default=None, ge=1)
    reconcile_blocks: int | None = Field(default=None, ge=1)
    traces: Literal["auto", "off"] | None = None
    hot_lanes: int | None = Field(default=None, ge=1, le=64)
    batch_contract: str | None = Field(default=None, pattern=r"^0x[0-9a-fA-F]{40}$")
    collector: str | None = Field(default=None, pattern=r"^0x[0-9a-fA-F]{40}$")
    collects: bool = True  # false: no further collects; what delegates stays known
    contract_destinations: Literal["pay", "approve"] = "pay"  # payouts to contracts (A22)

    @field_validator("nodes", mode="before")
    @classmethod
    def _urls_are_nodes(cls, value: object) -> object:
        if isinstance(value, list | tuple):
            return tuple({"url": item} if isinstance(item, str) else item for item in value)
        return value

    @model_validator(mode="after")
    def _quorum_is_reachable(self) -> Self:
        if self.nodes and self.quorum > len(self.nodes):
            raise ValueError(f"quorum {self.quorum} of {len(self.nodes)} nodes can never agree")
        return self


class DatabaseSettings(Section):
    """The owner's URL (migrations) and, where they cannot be derived, the URLs of the roles."""

    url: str | None = Field(default=None, repr=False)
    password_file: Path | None = None
    urls: dict[DatabaseRole, str] = Field(default_factory=dict, repr=False)
    pool_size: int = Field(default=8, ge=1, le=100)


class ApiSettings(Section):
    """The HTTP listener. `authorities`: values of `@authority` that a signature may cover.

    `rate_*` bound the calls per key and API process.
    """

    host: str = "127.0.0.1"
    port: int = Field(default=8420, ge=0, le=65535)
    authorities: tuple[str, ...] = ()
    rate_per_second: int = Field(default=1_000, ge=1)
    rate_burst: int = Field(default=2_000, ge=1)

    def accepted_authorities(self) -> frozenset[str]:
        """The configured authorities, or the listener's own when none are."""
        return frozenset(self.authorities or (f"{self.host}:{self.port}",))


class MetricsSettings(Section):
    """Where each role answers Prometheus; 0 means no listener for that role."""

    host: str = "127.0.0.1"
    ports: dict[str, int] = Field(default_factory=dict)


class KeySettings(Section):
    """Public keys to watch, and the key file that seals webhook secrets in the database."""

    xpubs_file: Path = Path("keys/xpubs.json")
    sealed_key_file: Path = Path("secrets/sealed.key")


class SignerSettings(Section):
    """How payouts reaches the signer. The signer's own policy is in its own file, not here."""

    socket: Path = Path("signer/signer.sock")
    timeout_seconds: float = Field(default=30.0, gt=0)


class AuditSettings(Section):
    """Where the scheduler's host keeps the heads of the sealed logs, outside the database."""

    anchor_file: Path = Path("audit/anchors.jsonl")


class WebhookSettings(Section):
    """Delivery. `retry_seconds` is the schedule of CONTRACT 6, then each `retry_tail_seconds`."""

    allow_hosts: tuple[str, ...] = ()
    timeout_seconds: float = Field(default=10.0, gt=0)
    retry_seconds: tuple[int, ...] = (5, 30, 120, 600, 1800, 3600, 7200)
    retry_tail_seconds: int = Field(default=4 * 3600, ge=1)
    retry_total_seconds: int = Field(default=72 * 3600, ge=1)
    pause_after_failures: int = Field(default=20, ge=1)


class BrandSettings(Section):
    """One tenant. `account_index` is its account in every xpub, and never changes (CONTRACT 1)."""

    account_index: int = Field(ge=1)
    balance_mode: Literal["shared", "per_asset"] = "shared"


class LogSettings(Section):
    """`level` is the lowest level written."""

    level: Literal["debug", "info", "warning", "error"] = "info"


class Settings(BaseSettings):
    """The whole tree. Build it with `load_settings()`; every path in it is absolute."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix="CAGE_", env_nested_delimiter="__"
    )

    livemode: bool = False
    state_dir: Path = Path(".cage/state")
    database: DatabaseSettings = DatabaseSettings()
    api: ApiSettings = ApiSettings()
    metrics: MetricsSettings = MetricsSettings()
    networks: dict[NetworkName, NetworkSettings] = Field(default_factory=dict)
    assets: dict[AssetId, AssetSettings] = Field(default_factory=dict)
    brands: dict[BrandName, BrandSettings] = Field(default_factory=dict)
    keys: KeySettings = KeySettings()
    signer: SignerSettings = SignerSettings()
    audit: AuditSettings = AuditSettings()
    webhooks: WebhookSettings = WebhookSettings()
    payouts: PayoutSettings = PayoutSettings()
    wallets: dict[AssetId, WalletSettings] = Field(default_factory=dict)
    cold: dict[NetworkName, ColdSettings] = Field(default_factory=dict)
    rebalances: dict[AssetId, RebalanceSettings] = Field(default_factory=dict)
    pool: AddressPoolSettings = AddressPoolSettings()
    policy_file: Path | None = None
    logs: LogSettings = LogSettings()
    test_clock_offset_seconds: int = 0
    crash_at: str = ""  # a named crash point at which the payout role dies (fault tests, demo)
    crash_once_file: Path | None = None  # the same, from a file that is removed first (demo)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what `load_settings()` merged: nothing is read behind the caller's back."""
        return (init_settings,)

    @model_validator(mode="after")
    def _test_switches_stay_in_test(self) -> Self:
        if self.livemode and self.test_clock_offset_seconds:
            raise ValueError("test_clock_offset_seconds is refused with livemode = true")
        if self.livemode and (self.crash_at or self.crash_once_file):
            raise ValueError("crash_at and crash_once_file are refused with livemode = true")
        return self

    @model_validator(mode="after")
    def _brands_have_their_own_account(self) -> Self:
        indices = [brand.account_index for brand in self.brands.values()]
        if len(set(indices)) != len(indices):
            raise ValueError("brands: two brands share an account_index")
        if "operator" in self.brands:
            raise ValueError("brands: `operator` is the house itself, not a brand")
        return self

    def enabled_networks(self) -> dict[str, NetworkSettings]:
        """The networks to run, by name."""
        return {name: network for name, network in self.networks.items() if network.enabled}

    def path(self, path: Path) -> Path:
        """`path` itself when absolute, else below `state_dir`."""
        return path if path.is_absolute() else self.state_dir / path

    def owner_url(self) -> str:
        """The URL for migrations. Raises ConfigError when no database is configured."""
        if self.database.url is None:
            raise ConfigError(
                "no database is configured",
                hint="set database.url in cage.toml, CAGE_DATABASE__URL or DATABASE_URL",
            )
        if self.database.password_file is None:
            return self.database.url
        secret = read_secret(self.path(self.database.password_file))
        return _with_user(self.database.url, user=None, secret=secret)

    def role_url(self, role: DatabaseRole) -> str:
        """The URL of one process role: configured, or the owner's with the role's name.

        The password is read from `secrets/db_<role>.password` below `state_dir` when present.
        """
        if role in self.database.urls:
            return self.database.urls[role]
        password_file = self.state_dir / "secrets" / f"db_{role}.password"
        secret = read_secret(password_file) if password_file.exists() else ""
        return _with_user(self.owner_url(), user=role, secret=secret)


def _with_user(url: str, *, user: str | None, secret: str) -> str:
    """`url` with another user and password; works for Unix-socket URLs (`?host=/dir`)."""
    parts = urlsplit(url)
    login, _, host = parts.netloc.rpartition("@")
    name = quote(user, safe="") if user is not None else login.partition(":")[0]
    query = [(k, v) for k, v in parse_qsl(parts.query) if k not in ("user", "password")]
    credentials = f"{name}:{quote(secret, safe='')}" if secret else name
    return urlunsplit(
        parts._replace(netloc=f"{credentials}@{host}", query=urlencode(query, safe="/"))
    )


def read_secret(path: Path) -> str:
    """The first line of a secret file. Raises ConfigError naming the path, never the content."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"secret file {path} cannot be read", hint=type(error).__name__
        ) from error
    secret = text.splitlines()[0].strip() if text.strip() else ""
    if not secret:
        raise ConfigError(f"secret file {path} is empty")
    return secret


class _MappingEnvSource(EnvSettingsSource):
    """`EnvSettingsSource` over a given mapping, so that tests patch nothing."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        super().__init__(Settings)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return {name.lower(): value for name, value in self._environ.items()}


def load_settings(
    config: Path | None = None, *, environ: Mapping[str, str] | None = None
) -> Settings:
    """Read the file (`config`, else `CAGE_CONFIG`, else none), then the environment over it.

    Relative paths in the file count from the file's folder. Raises ConfigError (UnknownKey for a
    key that does not exist) with one line that names the key.
    """
    variables = dict(os.environ if environ is None else environ)
    path = config or (Path(variables["CAGE_CONFIG"]) if variables.get("CAGE_CONFIG") else None)
    values: dict[str, Any] = _read_toml(path) if path else {}
    _refuse_unknown_variables(variables)
    if variables.get("DATABASE_URL"):
        _merge(values, {"database": {"url": variables["DATABASE_URL"]}})
    _merge(values, _MappingEnvSource(variables)())
    base = path.resolve().parent if path else Path.cwd()
    values["state_dir"] = (base / Path(str(values.get("state_dir", ".cage/state")))).resolve()
    if values.get("policy_file"):
        values["policy_file"] = base / Path(str(values["policy_file"]))
    return _validated(values)


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"configuration file {path} cannot be read", hint="give another --config FILE"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"configuration file {path} is not TOML: {error}") from error


def _merge(into: dict[str, Any], new: Mapping[str, Any]) -> None:
    for key, value in new.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value


def _refuse_unknown_variables(variables: Mapping[str, str]) -> None:
    for name in sorted(variables):
        if not name.upper().startswith("CAGE_") or name.upper() in RESERVED_VARIABLES:
            continue
        section = name[len("CAGE_") :].lower().split("__")[0]
        if section not in Settings.model_fields:
            raise _unknown((section,), list(Settings.model_fields), where=f"variable {name}")


def _validated(values: dict[str, Any]) -> Settings:
    try:
        return Settings(**values)
    except ValidationError as error:
        first = next(
            (e for e in error.errors() if e["type"] == "extra_forbidden"), error.errors()[0]
        )
        location = first["loc"]
        if first["type"] == "extra_forbidden":
            raise _unknown(location, _known_keys(location[:-1])) from None
        key = _dotted(location) or "cage.toml"
        # Pydantic's own text repeats the input, which may be a secret: only its message is shown.
        raise ConfigError(f"{key}: {first['msg']}", hint="see `cage config check`") from None


def _dotted(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location if part != "[key]")


def _unknown(
    location: tuple[int | str, ...], known: list[str], *, where: str | None = None
) -> UnknownKey:
    key = _dotted(location)
    for pattern, right in OBSOLETE_KEYS.items():
        if re.fullmatch(re.escape(pattern).replace(r"\*", r"[^.]+"), key):
            return UnknownKey(f"{where or key}: this key is not used", hint=f"use {right}")
    near = difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=0.5)
    prefix = _dotted(location[:-1])
    best = ".".join(part for part in (prefix, near[0]) if part) if near else ""
    hint = f"did you mean {best}?" if near else f"known here: {', '.join(sorted(known))}"
    return UnknownKey(f"{where or key}: unknown key", hint=hint)


def _known_keys(location: tuple[int | str, ...]) -> list[str]:
    """The field names of the section at `location`; table keys and indices stay in the section."""
    model: type[BaseModel] = Settings
    for part in location:
        field = model.model_fields.get(str(part))
        inner = _inner_model(field.annotation) if field else None
        model = inner or model
    return list(model.model_fields)


def _inner_model(annotation: Any) -> type[BaseModel] | None:
    """The section that an annotation such as `dict[str, NetworkSettings]` holds, if any."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    candidates = (_inner_model(argument) for argument in reversed(get_args(annotation)))
    return next((found for found in candidates if found is not None), None)
