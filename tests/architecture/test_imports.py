"""Imports point down only: the table of HOUSE 2, read from the syntax trees."""

import sys

import pytest

from tests.architecture.source import PACKAGES, Module, imported_names, modules

CONFIG_LIBRARIES = {
    "sqlalchemy",
    "asyncpg",
    "alembic",
    "pydantic",
    "pydantic_settings",
    "structlog",
}
LEDGER_LIBRARIES = {"sqlalchemy", "asyncpg"}
SIGNER_LIBRARIES = {
    "embit",
    "coincurve",
    "hdwallet",
    "eth_account",
    "eth_abi",
    "eth_utils",
    "eth_keys",
    "hexbytes",
    "rlp",
    "cryptography",
    "argon2",
    "http_message_signatures",
    "http_sfv",
    "pkcs11",
}
HOUSE_IMPORTS = {
    "config": {"config"},
    "ledger": {"config", "ledger"},
    "watchers": {"config", "ledger", "watchers"},
    "gateway": {"config", "ledger", "watchers", "gateway", "signer"},
    "signer": {"signer"},
}
# What the gateway may see of the watchers. `inflows` and `errors` join the list of HOUSE 2: rows of
# inflows are served by the API, and a caller must be able to catch what it calls.
WATCHERS_SURFACE = {
    "account_balances",
    "chain",
    "collector",
    "registry",
    "addresses",
    "outgoing",
    "fees",
    "coins",
    "cold_spends",
    "nonces",
    "outgoing_families",
    "outgoing_lots",
    "health",
    "node_pardons",
    "rescans",
    "deposit_commands",
    "deposit_decisions",
    "deposit_refunds",
    "evidence",
    "inflows",
    "probes",
    "positions",
    "reconciliations",
    "errors",
    "switches",
    "rates",
    "policies",
    "player_flags",
    "exposure",
    "eta",
    "doctor",
    "doctor_questions",
    "findings",
    "sweepable",
}


def _of(package: str) -> list[Module]:
    return [module for module in modules() if module.package == package]


def _libraries(module: Module) -> list[tuple[str, str]]:
    """(library, where) for each import that is neither the house nor the standard library."""
    return [
        (name.partition(".")[0], module.where(node))
        for name, node in imported_names(module)
        if name.partition(".")[0] not in {*PACKAGES, *sys.stdlib_module_names}
    ]


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_point_down_only(package: str) -> None:
    wrong = [
        f"{module.where(node)} imports {name}"
        for module in _of(package)
        for name, node in imported_names(module)
        if name.partition(".")[0] in {*PACKAGES, "tests"}
        and name.partition(".")[0] not in HOUSE_IMPORTS[package]
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("package", "libraries"),
    [
        ("config", CONFIG_LIBRARIES),
        ("ledger", LEDGER_LIBRARIES),
        ("signer", SIGNER_LIBRARIES),
    ],
)
def test_a_package_uses_only_the_libraries_of_its_row(package: str, libraries: set[str]) -> None:
    wrong = [
        f"{where} imports {library}"
        for module in _of(package)
        for library, where in _libraries(module)
        if library not in libraries
    ]
    assert wrong == []


def test_a_chain_family_never_imports_another() -> None:
    families = _families()
    wrong = []
    for module in modules():
        own = module.path.split("/")[2] if module.within("watchers/chains") else ""
        if own not in families:
            continue
        for name, node in imported_names(module):
            parts = name.split(".")
            if parts[:2] == ["watchers", "chains"] and parts[2] in families - {own}:
                wrong.append(f"{module.where(node)} imports {name}")
    assert len(families) >= 2
    assert wrong == []


def _families() -> set[str]:
    """The folders below watchers/chains."""
    return {
        module.path.split("/")[2]
        for module in modules()
        if module.within("watchers/chains") and module.path.count("/") >= 3
    }


def test_the_gateway_sees_only_the_public_surface_of_the_watchers() -> None:
    wrong = [
        f"{module.where(node)} imports {name}"
        for module in _of("gateway")
        for name, node in imported_names(module)
        if name.startswith("watchers.") and name.split(".")[1] not in WATCHERS_SURFACE
    ]
    assert wrong == []


def test_the_gateway_sees_only_the_protocol_of_the_signer() -> None:
    wrong = [
        f"{module.where(node)} imports {name}"
        for module in _of("gateway")
        for name, node in imported_names(module)
        if name.partition(".")[0] == "signer" and not f"{name}.".startswith("signer.protocol.")
    ]
    assert wrong == []


WIRE_CONTRACT = (
    "protocol",
    "protocol_fields",
    "protocol_attest",
    "protocol_log",
    "protocol_orders",
    "protocol_purposes",
    "protocol_reserves",
    "protocol_signatures",
)


@pytest.mark.parametrize("path", [f"signer/{name}.py" for name in ("__init__", *WIRE_CONTRACT)])
def test_the_wire_contract_drags_nothing_along(path: str) -> None:
    module = next(module for module in modules() if module.path == path)
    outside = [
        name
        for name, _ in imported_names(module)
        if name.partition(".")[0] not in sys.stdlib_module_names
        and name.split(".")[:2] not in [["signer", part] for part in WIRE_CONTRACT]
    ]
    assert outside == []
