"""The supply chain: licences, pinned locks, reasons, and nothing of one machine in the files."""

import re
import subprocess
import tomllib
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.architecture.source import ROOT

LOCKS = (
    "requirements.lock",
    "requirements-dev.lock",
    "requirements-bootstrap.lock",
    "gateway/sandbox/npm-requirements.lock",
)
# GPL and AGPL in a licence's own words; the Lesser GPL, which permits linking, is not meant.
COPYLEFT = re.compile(
    r"(?<!L)(?<!Lesser )\bA?GPL|(?:^|:: )GNU (?:Affero )?General Public", re.IGNORECASE
)

# Written in two halves, so that this file does not contain what it forbids.
REGISTRY_HOSTS = [
    "py" + "pi.org",
    "files.python" + "hosted.org",
    "registry." + "npmjs.org",
    "deb." + "debian.org",
    "proxy." + "golang.org",
]
MACHINE_PATHS = re.compile(r"(?<![\w.})])/(?:wor" + r"k|roo" + r"t|hom" + r"e/\w+|tmp/w)/")
SECRET_SHAPES = re.compile(r"\b[xyz]prv[1-9A-HJ-NP-Za-km-z]{100,}")


def _project() -> dict[str, object]:
    content: dict[str, object] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    return content


def _runtime_dependencies() -> list[str]:
    project = _project()["project"]
    if not isinstance(project, dict):
        raise TypeError("pyproject.toml: [project] is no table")
    names: list[str] = project["dependencies"]
    return names


def _closure() -> dict[str, Distribution]:
    """Every distribution that the runtime dependencies pull in, with their extras."""
    found: dict[str, Distribution] = {}
    queue = [Requirement(text) for text in _runtime_dependencies()]
    while queue:
        wanted = queue.pop()
        name = canonicalize_name(wanted.name)
        try:
            dist = distribution(name)
        except PackageNotFoundError:
            continue  # an environment marker of another platform
        known = name in found
        found[name] = dist
        if known and not wanted.extras:
            continue
        for line in dist.requires or []:
            inner = Requirement(line)
            extras = wanted.extras or {""}
            if inner.marker is None or any(inner.marker.evaluate({"extra": e}) for e in extras):
                if canonicalize_name(inner.name) not in found:
                    queue.append(inner)
    return found


def _licence(dist: Distribution) -> str:
    """What the metadata says of the licence; a whole licence text counts by its first line."""
    metadata = dist.metadata
    first_line = (metadata["License"] or "").strip().splitlines()[:1]
    classifiers = [c for c in metadata.get_all("Classifier") or [] if c.startswith("License")]
    return " | ".join([metadata["License-Expression"] or "", *first_line, *classifiers])


def test_no_gpl_is_in_the_runtime_closure() -> None:
    closure = _closure()
    assert len(closure) > 40  # the walk really walked
    copyleft = {name: _licence(d) for name, d in closure.items() if COPYLEFT.search(_licence(d))}
    assert copyleft == {}


def test_the_gpl_rule_bites_on_the_development_oracle() -> None:
    assert COPYLEFT.search(_licence(distribution("bitcoinlib")))


@pytest.mark.parametrize("text", ["LGPL-2.1-only", "GNU Lesser General Public License v2"])
def test_the_gpl_rule_lets_the_lesser_gpl_pass(text: str) -> None:
    assert COPYLEFT.search(text) is None


@pytest.mark.parametrize("lock", LOCKS)
def test_x01_every_locked_package_is_pinned_by_hash(lock: str) -> None:
    entries = re.split(r"^(?=\S)", (ROOT / lock).read_text("utf-8"), flags=re.MULTILINE)
    entries = [entry for entry in entries if entry.strip() and not entry.startswith("#")]
    loose = [
        entry.splitlines()[0]
        for entry in entries
        if not re.match(r"[\w.\[\]-]+==\S+", entry) or "--hash=sha256:" not in entry
    ]
    assert entries
    assert loose == []


def test_every_dependency_of_the_project_is_in_both_locks() -> None:
    for lock in LOCKS[:2]:
        text = (ROOT / lock).read_text("utf-8")
        locked = {canonicalize_name(n) for n in re.findall(r"^([\w.-]+)==", text, re.MULTILINE)}
        wanted = {canonicalize_name(Requirement(line).name) for line in _runtime_dependencies()}
        assert wanted - locked == set(), lock


def test_the_development_lock_contains_the_runtime_lock() -> None:
    """The wrapper takes an environment with the development lock for a runtime one."""
    runtime, development = (
        set(re.findall(r"^([\w.-]+==\S+)", (ROOT / lock).read_text("utf-8"), re.MULTILINE))
        for lock in LOCKS[:2]
    )
    assert runtime - development == set()


def test_every_dependency_says_what_it_is_for() -> None:
    lines = (ROOT / "pyproject.toml").read_text("utf-8").splitlines()
    dependency = re.compile(r'^ {4}"[\w.\[\]-]+[><=~!].*",?')
    silent = [line.strip() for line in lines if dependency.match(line) and "#" not in line]
    assert silent == []


def _tracked_texts() -> dict[str, str]:
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    ).stdout
    texts = {}
    for name in filter(None, listing.split("\0")):
        path = Path(ROOT / name)
        if path.is_file():
            texts[name] = path.read_bytes().decode("utf-8", errors="replace")
    return texts


def test_no_file_names_a_package_registry() -> None:
    wrong = [
        f"{name}: {host}"
        for name, text in _tracked_texts().items()
        for host in REGISTRY_HOSTS
        if host in text
    ]
    assert wrong == []


def test_no_file_holds_a_path_of_one_machine() -> None:
    wrong = [
        f"{name}: {found[0]}"
        for name, text in _tracked_texts().items()
        if (found := MACHINE_PATHS.search(text))
    ]
    assert wrong == []


def test_a38_no_extended_private_key_is_in_the_source_tree() -> None:
    wrong = [
        name
        for name, text in _tracked_texts().items()
        if not name.startswith("tests/") and SECRET_SHAPES.search(text)
    ]
    assert wrong == []
