"""The provisioner: finds or fetches the real nodes, once, into a cache folder.

Order for each node: the variable that names it (`BITCOIND`, `LITECOIND`, `ANVIL`), then `PATH`,
then the cache, then a download: anvil from npm (pinned by integrity hash), bitcoind, litecoind and
the tests' SoftHSM from Debian's signed packages, unpacked privately without root. Needs the
standard library only.
It must not start a node, and it never writes outside the cache folder.
"""

import base64
import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

NODES = ("bitcoind", "litecoind", "anvil")
TOKEN_TOOL = "softhsm2-util"  # no node: the PKCS#11 token of the tests comes the same way
VARIABLES = {
    "bitcoind": "BITCOIND",
    "litecoind": "LITECOIND",
    "anvil": "ANVIL",
    TOKEN_TOOL: "SOFTHSM2_UTIL",
}

ANVIL_VERSION = "1.7.1"
# npm's own integrity strings of the packages that hold the program for each platform.
ANVIL_PACKAGES = {
    "linux-x86_64": (
        "@foundry-rs/anvil-linux-amd64",
        "sha512-+XmShybEaxfCrr0OUUZwYEy2OnYZt5pHH9TzBtLv3+VrK0O/ANuNSVEahqNhKHlgX7GRJ59383ofNhxkRWIYTg==",
    ),
}
NPM_LOCK = Path(__file__).with_name("npm-requirements.lock")


@dataclass(frozen=True, slots=True, kw_only=True)
class DebianUnit:
    """What is fetched and unpacked together: packages with their suite, programs in the root."""

    suites: tuple[str, ...]
    packages: tuple[str, ...]
    programs: Mapping[str, str]

    @property
    def name(self) -> str:
        """The folder in the cache."""
        return f"debian-{self.suites[0]}"


DEBIAN_NODES = DebianUnit(
    suites=("trixie", "trixie-backports"),
    packages=(
        "bitcoin-knots/trixie-backports",
        "litecoind/trixie",
        "systemd-standalone-sysusers",
    ),
    programs={"bitcoind": "usr/bin/bitcoind", "litecoind": "usr/lib/litecoin/litecoind"},
)
# A module is loaded into the signer's own process, with the libraries of the machine: an older
# suite's runs on an older machine and on a newer one.
DEBIAN_TOKEN = DebianUnit(
    suites=("bookworm",),
    packages=("softhsm2/bookworm",),
    programs={TOKEN_TOOL: "usr/bin/softhsm2-util"},
)
TOKEN_MODULES = (
    "usr/lib/{triplet}/softhsm/libsofthsm2.so",
    "usr/lib/softhsm/libsofthsm2.so",
    "usr/lib64/softhsm/libsofthsm2.so",
)  # where distributions put it, below the root that the tool is in
DEBIAN_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
DEBIAN_LOADERS = {
    "amd64": ("lib64/ld-linux-x86-64.so.2", "x86_64-linux-gnu"),
    "arm64": ("lib/ld-linux-aarch64.so.1", "aarch64-linux-gnu"),
}
# Debian's /usr/bin/litecoind is a wrapper that writes into the home folder: the program is here.
DEBIAN_LITECOIND = Path("/usr/lib/litecoin/litecoind")

COMMAND_TIMEOUT_SECONDS = 300
PROBE_TIMEOUT_SECONDS = 30

Progress = Callable[[str], None]


class NodeUnavailable(RuntimeError):
    """A node that cannot be had here. The message names the node, the reason and the way around."""

    def __init__(self, node: str, reason: str) -> None:
        super().__init__(
            f"{node} cannot be had: {reason} (install it, or name it by {VARIABLES[node]})"
        )
        self.node = node
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Provisioned:
    """What was found: programs by node, and what could not be had."""

    programs: dict[str, Path] = field(default_factory=dict)
    missing: dict[str, NodeUnavailable] = field(default_factory=dict)

    def environment(self) -> dict[str, str]:
        """The variables that name the programs, for child processes."""
        return {VARIABLES[node]: str(path) for node, path in self.programs.items()}


def cache_folder(environ: Mapping[str, str]) -> Path:
    """`CAGE_CACHE`, else the user's cache folder."""
    if environ.get("CAGE_CACHE"):
        return Path(environ["CAGE_CACHE"]).expanduser().resolve()
    base = environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base).expanduser().resolve() / "cage"


def stderr_progress(line: str) -> None:
    """One line on stderr, rewritten in place on a terminal; an empty one clears it."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{line}")
    elif line:
        sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def provision(
    nodes: Sequence[str] = NODES,
    *,
    environ: Mapping[str, str] | None = None,
    progress: Progress = stderr_progress,
) -> Provisioned:
    """Find or fetch each of `nodes`. Never raises for a node: see `Provisioned.missing`.

    Blocking, minutes at the first call. Safe to call from several processes at once.
    """
    variables = dict(os.environ if environ is None else environ)
    found = Provisioned()
    for node in nodes:
        try:
            found.programs[node] = _one(node, variables, progress)
        except NodeUnavailable as error:
            found.missing[node] = error
    return found


def _one(node: str, environ: Mapping[str, str], progress: Progress) -> Path:
    given = locate(node, environ)
    if given is not None:
        return given
    cache = cache_folder(environ)
    debian = DEBIAN_TOKEN if node == TOKEN_TOOL else DEBIAN_NODES
    unit = f"anvil-{ANVIL_VERSION}" if node == "anvil" else debian.name
    folder = cache / "nodes" / unit
    program = folder / "bin" / node
    if not program.exists():
        try:
            cache.joinpath("nodes").mkdir(parents=True, exist_ok=True)
            with _locked(cache / "nodes" / f"{unit}.lock"):
                if not program.exists():
                    progress(f"fetching {node} ({unit}) into {cache}")
                    _build_atomically(folder, lambda temp: _fetch(node, temp, cache, environ))
                    progress("")
        except OSError as error:
            reason = f"{type(error).__name__}: {error.strerror or error}"
            raise NodeUnavailable(node, reason) from error
    _probe(node, program)
    return program


def _fetch(node: str, folder: Path, cache: Path, environ: Mapping[str, str]) -> None:
    if node == "anvil":
        _fetch_anvil(node, folder, cache, environ)
    else:
        unit = DEBIAN_TOKEN if node == TOKEN_TOOL else DEBIAN_NODES
        _fetch_debian(node, unit, folder, environ)


def token_module(tool: Path) -> Path:
    """SoftHSM's PKCS#11 module beside its tool: in the unpacked root, else in the system's."""
    unpacked = tool.parent.parent / "root"
    root = unpacked if unpacked.is_dir() else Path("/")
    for triplet in (found[1] for found in DEBIAN_LOADERS.values()):
        for place in TOKEN_MODULES:
            module = root / place.format(triplet=triplet)
            if module.is_file():
                return module
    raise NodeUnavailable(TOKEN_TOOL, f"no libsofthsm2.so belongs to {tool}")


def locate(node: str, environ: Mapping[str, str]) -> Path | None:
    """The program that the environment names, or the one on PATH; None when there is neither.

    A variable that names something that is no program is an error, not a reason to look further.
    """
    named = environ.get(VARIABLES[node])
    if named:
        path = Path(named).expanduser()
        if not (path.is_file() and os.access(path, os.X_OK)):
            raise NodeUnavailable(node, f"{VARIABLES[node]} names {named}, which is no program")
        return path.absolute()
    if node == "litecoind" and os.access(DEBIAN_LITECOIND, os.X_OK):
        return DEBIAN_LITECOIND
    on_path = shutil.which(node, path=environ.get("PATH", ""))
    return Path(on_path).absolute() if on_path else None


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process at a time; released by the kernel when the process dies."""
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _build_atomically(folder: Path, build: Callable[[Path], None]) -> None:
    """Build in a folder beside, then rename: a killed run leaves no half of a node behind."""
    temp = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        build(temp)
        temp.chmod(0o755)
        if folder.exists():  # a unit without the wanted program: from an interrupted older layout
            shutil.rmtree(folder)
        temp.rename(folder)
    finally:
        shutil.rmtree(temp, ignore_errors=True)


def _run(node: str, command: Sequence[str | Path], **options: object) -> str:
    """Run one command of the fetch; its last line of stderr becomes the reason of a failure."""
    environment = options.get("env")
    try:
        done = subprocess.run(
            [str(part) for part in command],
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_SECONDS,
            stdin=subprocess.DEVNULL,
            cwd=str(options["cwd"]) if "cwd" in options else None,
            env=environment if isinstance(environment, dict) else None,
            check=False,
        )
    except FileNotFoundError as error:
        raise NodeUnavailable(node, f"{command[0]} is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise NodeUnavailable(
            node, f"{Path(command[0]).name} took over {COMMAND_TIMEOUT_SECONDS} s"
        ) from error
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["no message"]
        raise NodeUnavailable(
            node, f"{Path(command[0]).name} failed ({done.returncode}): {lines[0].strip()}"
        )
    return done.stdout


def _probe(node: str, program: Path) -> None:
    """The program must at least tell its version on this machine."""
    try:
        subprocess.run(
            [str(program), "--version"],
            capture_output=True,
            timeout=PROBE_TIMEOUT_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise NodeUnavailable(node, f"{program} does not run here") from error


# --- anvil, from npm ---------------------------------------------------------------------------


def _fetch_anvil(node: str, folder: Path, cache: Path, environ: Mapping[str, str]) -> None:
    target = f"{platform.system().lower()}-{platform.machine()}"
    if target not in ANVIL_PACKAGES:
        raise NodeUnavailable(node, f"no pinned package for {target}")
    package, integrity = ANVIL_PACKAGES[target]
    npm, variables = _npm(node, cache, environ)
    download = folder / "download"
    download.mkdir()
    _run(
        node,
        [npm, "pack", "--silent", "--pack-destination", download, f"{package}@{ANVIL_VERSION}"],
        env=variables,
        cwd=download,
    )
    archive = next(download.glob("*.tgz"), None)
    if archive is None:
        raise NodeUnavailable(node, "npm left no archive")
    verify_integrity(node, archive.read_bytes(), integrity)
    (folder / "bin").mkdir()
    program = folder / "bin" / "anvil"
    with tarfile.open(archive) as tar:
        member = tar.extractfile("package/bin/anvil")
        if member is None:
            raise NodeUnavailable(node, "the archive holds no anvil")
        with program.open("wb") as target_file:
            shutil.copyfileobj(member, target_file)
    program.chmod(0o755)
    shutil.rmtree(download)


def verify_integrity(node: str, content: bytes, integrity: str) -> None:
    """Raise NodeUnavailable unless `content` has npm's integrity string (sha512, base64)."""
    digest = base64.b64encode(hashlib.sha512(content).digest()).decode()
    if f"sha512-{digest}" != integrity:
        raise NodeUnavailable(node, "the download does not have the pinned integrity hash")


def _npm(node: str, cache: Path, environ: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """An npm to call and the variables for it: the machine's, or one from a pinned Python wheel."""
    variables = dict(environ)
    on_path = shutil.which("npm", path=environ.get("PATH", ""))
    if on_path and shutil.which("node", path=environ.get("PATH", "")):
        return on_path, variables
    folder = cache / "nodes" / "npm"
    if not (folder / "bin" / "npm").exists():
        with _locked(cache / "nodes" / "npm.lock"):
            if not (folder / "bin" / "npm").exists():
                # A venv's scripts hold absolute paths, so it is built in place and stamped last.
                shutil.rmtree(folder, ignore_errors=True)
                _run(node, [sys.executable, "-m", "venv", folder])
                pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"]
                _run(
                    node,
                    [*pip, "--require-hashes", "--no-deps", "-r", str(NPM_LOCK)],
                    env=variables,
                )
    variables["PATH"] = f"{folder / 'bin'}{os.pathsep}{environ.get('PATH', '')}"
    return str(folder / "bin" / "npm"), variables


# --- from Debian's packages ---------------------------------------------------------------------


def _fetch_debian(node: str, unit: DebianUnit, folder: Path, environ: Mapping[str, str]) -> None:
    """Unpack a unit with apt's signatures checked, in a private apt state, without root."""
    if not DEBIAN_KEYRING.exists():
        raise NodeUnavailable(node, "this machine has no Debian archive keyring")
    variables = dict(environ)
    architecture = _run(node, ["dpkg", "--print-architecture"], env=variables).strip()
    if architecture not in DEBIAN_LOADERS:
        raise NodeUnavailable(node, f"no known loader for {architecture}")
    mirror = environ.get("DEBIAN_MIRROR") or _debian_mirror(node, variables)
    apt, root = folder / "apt", folder / "root"
    for part in ("state/lists/partial", "cache/archives/partial", "none.d"):
        (apt / part).mkdir(parents=True)
    root.mkdir()
    (apt / "status").touch()
    signed = f"[signed-by={DEBIAN_KEYRING} arch={architecture}]"
    (apt / "sources.list").write_text(
        "".join(f"deb {signed} {mirror} {suite} main\n" for suite in unit.suites)
    )
    (apt / "apt.conf").write_text(_apt_configuration(apt, architecture))
    variables["APT_CONFIG"] = str(apt / "apt.conf")
    _run(node, ["apt-get", "-qq", "update"], env=variables)
    _run(
        node,
        ["apt-get", "-qq", "-y", "--download-only", "install", *unit.packages],
        env=variables,
    )
    for archive in sorted((apt / "cache" / "archives").glob("*.deb")):
        _run(node, ["dpkg-deb", "-x", archive, root], env=variables)
    shutil.rmtree(apt)
    for name, program in unit.programs.items():
        _write_launcher(folder, name, program, architecture)


def _debian_mirror(node: str, variables: dict[str, str]) -> str:
    """The mirror that this machine's own apt uses most, security mirrors left out."""
    listing = _run(
        node, ["apt-get", "indextargets", "--format", "$(REPO_URI)"], env=variables
    ).split()
    uris = [uri for uri in listing if "debian" in uri and "security" not in uri]
    if not uris:
        raise NodeUnavailable(node, "no Debian mirror in the apt sources here: set DEBIAN_MIRROR")
    return max(sorted(set(uris)), key=uris.count)


def _apt_configuration(apt: Path, architecture: str) -> str:
    return f"""
Dir::State "{apt}/state"; Dir::State::status "{apt}/status"; Dir::Cache "{apt}/cache";
Dir::Etc::sourcelist "{apt}/sources.list"; Dir::Etc::sourceparts "{apt}/none.d";
Dir::Etc::preferences "{apt}/none"; Dir::Etc::preferencesparts "{apt}/none.d";
Dir::Etc::parts "{apt}/none.d"; Dir::Etc::main "{apt}/none";
APT::Architecture "{architecture}"; APT::Architectures {{ "{architecture}"; }};
APT::Install-Recommends "false"; APT::Sandbox::User ""; Debug::NoLocking "true";
Acquire::Retries "2"; Acquire::http::Timeout "60";
"""


def _write_launcher(folder: Path, name: str, program: str, architecture: str) -> None:
    """A script that runs the program with its own loader and libraries, wherever the folder is."""
    loader, triplet = DEBIAN_LOADERS[architecture]
    root = folder / "root"
    own = f"usr/{loader}"
    if not (root / own).exists():  # an older suite: not below /usr, and its link leaves the root
        own = f"lib/{triplet}/{Path(loader).name}"
    launcher = folder / "bin" / name
    launcher.parent.mkdir(exist_ok=True)
    launcher.write_text(
        "#!/bin/sh\n"
        'root=$(cd "$(dirname "$0")/../root" && pwd)\n'
        f'exec "$root/{own}" '
        f'--library-path "$root/usr/lib/{triplet}:$root/lib/{triplet}" '
        f'"$root/{program}" "$@"\n'
    )
    launcher.chmod(0o755)
