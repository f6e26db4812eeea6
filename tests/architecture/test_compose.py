"""docker-compose.yml: valid by the specification, every role in it, and no more rights than needed.

No engine runs here. What can be checked without one is: the file against the Compose specification,
and what it says against the code that it starts.
"""

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from compose_spec import PyCompose

from config.registry import load_registry
from config.settings import Settings, load_settings
from gateway.sandbox.supervisor import role_commands
from signer.settings import load_settings as load_signer_settings
from tests.architecture.source import ROOT

COMPOSE = ROOT / "docker-compose.yml"
TEMPLATES = ROOT / "config" / "compose"


@pytest.fixture
def services() -> dict[str, dict[str, Any]]:
    """Every service, with the anchors of the file resolved."""
    document = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))
    found: dict[str, dict[str, Any]] = document["services"]
    return found


@pytest.fixture
def settings() -> Settings:
    """What the roles of the containers read."""
    return load_settings(TEMPLATES / "cage.toml", environ={})


def sources(service: dict[str, Any]) -> set[str]:
    """Names of volumes and bound files."""
    return {str(item).partition(":")[0] for item in service.get("volumes", ())}


def test_the_file_is_valid_by_the_specification() -> None:
    document = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))
    assert set(PyCompose.from_json(json.dumps(document)).service_names()) == set(
        document["services"]
    )


def test_the_check_sees_what_the_specification_does_not_know() -> None:
    document = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))
    document["services"]["api"]["comand"] = ["api"]
    with pytest.raises(ValueError, match="comand"):
        PyCompose.from_json(json.dumps(document))


def test_every_role_of_the_supervisor_is_a_service_with_its_command(
    services: dict[str, dict[str, Any]], settings: Settings
) -> None:
    commands = {
        "signer": ["signer", "run", "--dir", "/var/lib/cage-signer"],
        **{f"watch-{name}": ["watch", name] for name in settings.enabled_networks()},
        **{name: [name] for name in ("scheduler", "webhooks", "payouts", "api")},
    }
    assert set(commands) == set(role_commands(settings))
    assert {name: services[name]["command"] for name in commands} == commands


def test_the_signer_has_no_network_and_payouts_alone_reaches_its_socket(
    services: dict[str, dict[str, Any]],
) -> None:
    assert services["signer"]["network_mode"] == "none"
    assert "networks" not in services["signer"]
    assert {name for name, item in services.items() if "signer-socket" in sources(item)} == {
        "signer",
        "payouts",
    }
    for secret in ("signer-keys", "signer-anchor"):
        assert {name for name, item in services.items() if secret in sources(item)} == {"signer"}


def test_the_owners_password_is_known_to_the_database_and_the_migration_alone(
    services: dict[str, dict[str, Any]], settings: Settings
) -> None:
    assert {name for name, item in services.items() if "secrets" in item} == {
        "postgres",
        "migrate",
    }
    assert settings.database.password_file is None
    environ = services["migrate"]["environment"]
    migrating = load_settings(TEMPLATES / "cage.toml", environ=environ)
    assert migrating.database.password_file == Path("/run/secrets/db_owner")


def test_our_containers_run_without_rights_and_listen_on_loopback(
    services: dict[str, dict[str, Any]],
) -> None:
    for name, item in services.items():
        if str(item["image"]).startswith("cage"):
            assert (item["read_only"], item["cap_drop"]) == (True, ["ALL"]), name
            assert item["security_opt"] == ["no-new-privileges:true"], name
        for port in item.get("ports", ()):
            assert str(port).startswith("127.0.0.1:"), name
        assert str(item["image"]).rpartition(":")[2] not in ("", "latest"), name


def test_the_templates_are_read_by_the_programs_and_name_services_only(
    services: dict[str, dict[str, Any]], settings: Settings, tmp_path: Path
) -> None:
    registry = load_registry(settings)
    hosts = {
        str(urlsplit(node.url).hostname)
        for network in settings.networks.values()
        for node in network.nodes
    }
    hosts.add(str(urlsplit(settings.owner_url()).hostname))
    assert hosts <= set(services)
    assert not settings.livemode

    (tmp_path / "signer.toml").write_bytes((TEMPLATES / "signer.toml").read_bytes())
    signer = load_signer_settings(tmp_path, own_uid=10001)
    assert set(signer.networks) == set(registry.chains)
    assert signer.brands == {name: brand.account_index for name, brand in settings.brands.items()}
    assert signer.socket == settings.path(settings.signer.socket)
    assert set(signer.authorities) == settings.api.accepted_authorities()


def test_what_is_scraped_is_served(services: dict[str, dict[str, Any]], settings: Settings) -> None:
    document = yaml.safe_load((TEMPLATES / "prometheus.yml").read_text(encoding="utf-8"))
    found = {
        target
        for job in document["scrape_configs"]
        for item in job["static_configs"]
        for target in item["targets"]
    }
    ports = {f"{name}:{port}" for name, port in settings.metrics.ports.items()}
    assert found == ports | {f"api:{settings.api.port}"}
    assert {target.partition(":")[0] for target in found} <= set(services)


def test_the_image_holds_every_package_and_only_locked_dependencies() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    for package in ("config", "ledger", "watchers", "gateway", "signer"):
        assert f"COPY {package} {package}\n" in text
    assert "--require-hashes --no-deps -r requirements.lock" in text
    assert "USER 10001:10001" in text
