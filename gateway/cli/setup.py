"""`cage config check`, `cage db migrate | detach`, `cage client add`, `cage staff key | add`.

Talks to the database as its owner. `client add` registers a key in the gateway only: paying needs
the trust of the signer as well, given on its own host (CONTRACT 3), and the command to do so is
printed.
"""

import base64
import binascii
import os
import pwd
import re
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.console import (
    USAGE,
    CliError,
    ConfigOption,
    JsonOption,
    note,
    run_coroutine,
    settings_of,
    show_json,
    show_line,
    show_table,
)

if TYPE_CHECKING:
    from config.ids import Ids
    from config.settings import Settings
    from gateway.cli.register_store import NewPrincipal

SCOPES = (
    "addresses:write", "deposits:read", "deposits:write", "withdrawals:read", "withdrawals:write",
    "withdrawals:approve", "players:write", "policies:write", "treasury:read", "treasury:write",
    "ledger:read", "audit:read", "webhooks:write", "admin",
)  # fmt: skip
CLIENT_SCOPES = (
    "addresses:write,deposits:read,withdrawals:read,withdrawals:write,players:write,webhooks:write"
)
STAFF_SCOPES = {
    "support": ("deposits:read", "withdrawals:read"),
    "finance": ("deposits:read", "withdrawals:read", "ledger:read", "treasury:read"),
    "risk": ("deposits:read", "withdrawals:read", "withdrawals:approve", "policies:write"),
    "compliance": ("deposits:read", "deposits:write", "withdrawals:read", "audit:read"),
    "treasury": ("ledger:read", "treasury:read", "treasury:write", "withdrawals:read"),
    "auditor": ("deposits:read", "withdrawals:read", "ledger:read", "treasury:read", "audit:read"),
    "admin": ("admin", "policies:write", "webhooks:write"),
}
_KEY_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}", re.ASCII)

config_app = typer.Typer(no_args_is_help=True, help="The configuration.")
db_app = typer.Typer(no_args_is_help=True, help="The database.")
client_app = typer.Typer(no_args_is_help=True, help="Keys of casinos.")
staff_app = typer.Typer(no_args_is_help=True, help="Keys of people.")

KeyOption = Annotated[
    str | None, typer.Option("--key", help="Public key: PEM file, or base64 of its 32 bytes.")
]
KeyIdOption = Annotated[str | None, typer.Option("--key-id", help="Chosen here when not given.")]
ScopesOption = Annotated[str, typer.Option("--scopes", help="Separated by commas.")]


@config_app.command("check")
def check(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Validate the configuration; names the wrong key and the right one."""
    from config.registry import cautions, load_registry
    from watchers.registry import cold_addresses

    registry = load_registry(settings_of(config))
    settings = registry.settings
    for name, cold in settings.cold.items():  # the watcher would take in none that is wrong
        cold_addresses(registry.chains[name], registry.assets.values(), cold)
    for caution in cautions(settings):
        note(f"warning: {caution}")
    summary = {
        "livemode": settings.livemode,
        "networks": list(registry.chains),
        "assets": list(registry.assets),
        "brands": list(settings.brands),
        "state_dir": str(settings.state_dir),
    }
    if as_json:
        show_json(summary)
        return
    rows = [(k, ", ".join(v) if isinstance(v, list) else str(v)) for k, v in summary.items()]
    show_table(("setting", "value"), rows)
    xpubs = settings.path(settings.keys.xpubs_file)
    if not xpubs.exists():
        note(f"note: {xpubs} is not there yet: cage keys export-xpubs --out {xpubs}")


@db_app.command("migrate")
def migrate(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Bring the schema to this version, set the roles' passwords, copy the brands."""
    settings = settings_of(config)
    version = run_coroutine(migrate_database(settings))
    if as_json:
        show_json({"schema": version, "brands": list(settings.brands)})
    else:
        show_line(f"schema {version}; brands: {', '.join(settings.brands) or 'none'}")


async def migrate_database(settings: "Settings") -> str:
    """Schema, passwords and brands, in this order; the schema version. Safe to repeat."""
    from urllib.parse import urlsplit

    from config.clock import SystemClock
    from config.database import Database, async_url
    from config.ids import SystemIds
    from config.migrate import migrate as migrate_schema
    from config.settings import DATABASE_ROLES, read_secret
    from gateway.cli import register_store as store
    from ledger.lifecycle import acting

    url = settings.owner_url()
    version = await migrate_schema(url, tell=lambda text: note(f"cage: {text}"))
    clock = SystemClock()
    is_tcp = urlsplit(url).hostname is not None  # over a Unix socket the server trusts its host
    passwords = {}
    for role in DATABASE_ROLES:
        path = settings.state_dir / "secrets" / f"db_{role}.password"
        if not path.exists() and is_tcp and role not in settings.database.urls:
            _write_private(path, SystemIds(clock).token_bytes(24).hex() + "\n")
        if path.exists():
            passwords[role] = read_secret(path)
    database = Database(async_url(url), pool_size=1, application_name="cage db migrate")
    try:
        async with database.unit_of_work(session=acting(_who())) as uow:
            for role, password in passwords.items():
                await store.set_role_password(uow, role, password)
            changed = await store.sync_brands(uow, settings.brands, at=clock.now())
            if changed:
                name, index = changed[0]
                raise CliError(
                    f"brands.{name}.account_index is {index} in the database and never changes",
                    hint=f"set brands.{name}.account_index = {index}",
                    code=USAGE,
                )
    finally:
        await database.close()
    return version


@db_app.command("detach")
def detach(
    month: Annotated[str, typer.Argument(help="The month: 2026-01.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take an old month out of events, history, feed and deliveries; its tables stay."""
    from config.clock import SystemClock
    from gateway.cli import months

    settings = settings_of(config)
    first = months.month_of(month, at=SystemClock().now())
    detached = run_coroutine(months.detach_month(settings, first, actor=_who()))
    if as_json:
        show_json({"month": month, "detached": detached})
    elif detached:
        show_line(f"{month} is out of the tables in use; its rows are in: {', '.join(detached)}")
    else:
        show_line(f"{month} is in none of the tables in use")


@client_app.command("add")
def add_client(
    brand: Annotated[
        str | None, typer.Option("--brand", help="Whose key; none for an operator key.")
    ] = None,
    operator: Annotated[
        bool, typer.Option("--operator", help="A machine of the operator: all brands.")
    ] = False,
    scopes: ScopesOption = CLIENT_SCOPES,
    key: KeyOption = None,
    new_key: Annotated[
        Path | None, typer.Option("--new-key", help="Make a key and write it here (PEM, 0600).")
    ] = None,
    key_id: KeyIdOption = None,
    ip_allow: Annotated[
        list[str] | None, typer.Option("--ip-allow", help="Network that may use it; repeatable.")
    ] = None,
    expires_days: Annotated[int | None, typer.Option(min=1, help="Days until it ends.")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Register a casino's key with the gateway; paying also needs `cage signer trust`."""
    if (brand is None) is not operator:
        raise CliError("give either --brand NAME or --operator", code=USAGE)
    settings = settings_of(config)
    if brand is not None and brand not in settings.brands:
        known = ", ".join(settings.brands) or "none"
        raise CliError(f"brand {brand} is not configured", hint=f"configured: {known}", code=USAGE)
    if (key is None) == (new_key is None):
        raise CliError("give either --key PUBLICKEY or --new-key FILE", code=USAGE)
    ids = _system_ids()
    public_key = new_key_file(new_key, ids) if new_key else read_public_key(key or "")
    principal = _principal(
        ids,
        kind="operator" if operator else "client",
        brand=brand,
        person=None,
        public_key=public_key,
        scopes=_scopes(scopes),
        roles=(),
        key_id=key_id,
        ip_allow=ip_allow or [],
        expires_days=expires_days,
    )
    run_coroutine(_register(settings, principal))
    encoded = base64.b64encode(public_key).decode()
    trust = (
        f"cage signer trust --keyid {principal.key_id} --public-key {encoded} "
        f"--brand {brand} --cap ASSET=TX:DAY --staff-key NAME=FILE --staff-key NAME=FILE"
    )
    answer = {"key_id": principal.key_id, "brand": brand, "public_key": encoded}
    if brand is not None and "withdrawals:write" in principal.scopes:
        answer["trust_command"] = trust
    if as_json:
        show_json(answer)
        return
    show_line(f"key id {principal.key_id}")
    if "trust_command" in answer:
        show_line("It cannot pay until the signer trusts it. On the signer's host:")
        show_line(f"  {trust}")


@staff_app.command("key")
def staff_key(
    out: Annotated[Path, typer.Option("--out", help="Where the new key goes (PEM, 0600).")],
    as_json: JsonOption = False,
) -> None:
    """Make a person's own key; only its public half is ever given to anybody."""
    encoded = base64.b64encode(new_key_file(out, _system_ids())).decode()
    if as_json:
        show_json({"key_file": str(out), "public_key": encoded})
    else:
        show_line(f"public key {encoded}")


@staff_app.command("add")
def add_staff(
    person: Annotated[str, typer.Argument(help="The person's name, as approvals show it.")],
    key: Annotated[str, typer.Option("--key", help="Public key: PEM file, or base64.")],
    roles: Annotated[str, typer.Option("--roles", help=f"Of: {', '.join(STAFF_SCOPES)}.")],
    scopes: Annotated[
        str | None, typer.Option("--scopes", help="Instead of those of the roles.")
    ] = None,
    key_id: KeyIdOption = None,
    expires_days: Annotated[int | None, typer.Option(min=1, help="Days until it ends.")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Register a person's key with their roles."""
    names = [name.strip() for name in roles.split(",") if name.strip()]
    unknown = [name for name in names if name not in STAFF_SCOPES]
    if unknown or not names:
        raise CliError(
            f"role {unknown[0]} does not exist" if unknown else "give at least one role",
            hint=f"one of: {', '.join(STAFF_SCOPES)}",
            code=USAGE,
        )
    of_roles = ",".join(scope for name in names for scope in STAFF_SCOPES[name])
    principal = _principal(
        _system_ids(),
        kind="staff",
        brand=None,
        person=person,
        public_key=read_public_key(key),
        scopes=_scopes(scopes or of_roles),
        roles=names,
        key_id=key_id,
        ip_allow=[],
        expires_days=expires_days,
    )
    run_coroutine(_register(settings_of(config), principal))
    if as_json:
        show_json({"key_id": principal.key_id, "person": person, "roles": names})
    else:
        show_line(f"key id {principal.key_id}")


def read_public_key(text: str) -> bytes:
    """32 bytes of an Ed25519 public key, from a PEM file (public or own), base64 or hex."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    path = Path(text)
    if len(text) < 1024 and path.is_file():
        try:
            loaded = load_pem_public_key(path.read_bytes())
        except ValueError as error:
            raise CliError(
                f"{path} holds no public key in PEM form",
                hint="give the public half, not the key file itself",
                code=USAGE,
            ) from error
        if not isinstance(loaded, Ed25519PublicKey):
            raise CliError(f"{path} is not an Ed25519 key", code=USAGE)
        return loaded.public_bytes_raw()
    try:
        raw = bytes.fromhex(text) if len(text) == 64 else base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error) as error:
        raise CliError(
            "the public key is neither a file nor base64 of 32 bytes", code=USAGE
        ) from error
    if len(raw) != 32:
        raise CliError(f"an Ed25519 public key has 32 bytes, this has {len(raw)}", code=USAGE)
    return raw


def new_key_file(path: Path, ids: "Ids") -> bytes:
    """Write a fresh Ed25519 key (PEM, PKCS 8, 0600), never over one; returns the public half."""
    from cryptography.hazmat.primitives.asymmetric import ed25519
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    fresh = ed25519.Ed25519PrivateKey.from_private_bytes(ids.token_bytes(32))
    text = fresh.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode("ascii")
    try:
        _write_private(path, text)
    except FileExistsError as error:
        raise CliError(
            f"{path} is there already; a key is never overwritten", code=USAGE
        ) from error
    except OSError as error:
        raise CliError(f"{path} cannot be written: {error.strerror}", code=USAGE) from error
    return fresh.public_key().public_bytes_raw()


def _write_private(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(text)


def _who() -> str:
    """Who sits at this host, for the audit log: the owner's password is no person's key."""
    uid = os.getuid()
    try:
        return f"host:{pwd.getpwuid(uid).pw_name}"
    except KeyError:  # a container's user may have no name
        return f"host:{uid}"


def _system_ids() -> "Ids":
    from config.clock import SystemClock
    from config.ids import SystemIds

    return SystemIds(SystemClock())


def _scopes(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    for name in names:
        if name not in SCOPES:
            raise CliError(
                f"scope {name} does not exist", hint=f"one of: {', '.join(SCOPES)}", code=USAGE
            )
    if not names:
        raise CliError("give at least one scope", code=USAGE)
    if {"withdrawals:write", "withdrawals:approve"} <= set(names):
        raise CliError("a key that creates withdrawals may never approve them", code=USAGE)
    return names


def _principal(
    ids: "Ids", *, key_id: str | None, expires_days: int | None, **fields: Any
) -> "NewPrincipal":
    from config.clock import SystemClock
    from gateway.cli.register_store import NewPrincipal

    owner = fields["brand"] or fields["person"] or "operator"
    slug = re.sub(r"[^a-z0-9]+", "-", owner.lower()).strip("-")[:32] or fields["kind"]
    chosen = key_id or f"{slug}-{ids.token_bytes(4).hex()}"
    if not _KEY_ID.fullmatch(chosen):
        raise CliError(f"key id {chosen}: letters, digits and _ . : - only", code=USAGE)
    expires_at = SystemClock().now() + timedelta(days=expires_days) if expires_days else None
    return NewPrincipal(key_id=chosen, expires_at=expires_at, **fields)


async def _register(settings: "Settings", principal: "NewPrincipal") -> None:
    from config.clock import SystemClock
    from config.database import Database, async_url
    from gateway.cli import register_store as store
    from ledger.lifecycle import acting

    database = Database(async_url(settings.owner_url()), pool_size=1, application_name="cage cli")
    try:
        async with database.unit_of_work(session=acting(_who())) as uow:
            brand = principal.brand
            if brand is not None and not await store.brand_exists(uow, brand):
                raise CliError(
                    f"brand {brand} is not in the database yet", hint="run `cage db migrate`"
                )
            if not await store.add_principal(uow, principal, at=SystemClock().now()):
                raise CliError(f"key id {principal.key_id} is taken", hint="give another --key-id")
    finally:
        await database.close()


def mount(app: typer.Typer) -> None:
    """Add the set-up commands to the program."""
    for name, group in {
        "config": config_app, "db": db_app, "client": client_app, "staff": staff_app,
    }.items():  # fmt: skip
        app.add_typer(group, name=name)
