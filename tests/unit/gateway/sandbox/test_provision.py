"""Where a node comes from, what is refused, and that half a download is never used."""

import base64
import hashlib
import multiprocessing
import subprocess
from pathlib import Path

import pytest

from gateway.sandbox import provision as module
from gateway.sandbox.provision import (
    NODES,
    NodeUnavailable,
    cache_folder,
    locate,
    provision,
    verify_integrity,
)


def _program(path: Path, text: str = "exit 0") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def _silent(line: str) -> None:
    """No progress in a test's output."""


@pytest.mark.parametrize(
    ("node", "variable"),
    [
        ("bitcoind", "BITCOIND"),
        ("litecoind", "LITECOIND"),
        ("anvil", "ANVIL"),
        ("softhsm2-util", "SOFTHSM2_UTIL"),
    ],
)
def test_a_variable_names_the_program(tmp_path: Path, node: str, variable: str) -> None:
    named = _program(tmp_path / "mine")
    _program(tmp_path / "path" / node)
    environ = {variable: str(named), "PATH": str(tmp_path / "path")}
    assert locate(node, environ) == named


def test_a_variable_that_names_no_program_is_an_error_not_a_fallback(tmp_path: Path) -> None:
    _program(tmp_path / "anvil")
    with pytest.raises(NodeUnavailable, match="ANVIL names"):
        locate("anvil", {"ANVIL": str(tmp_path / "nothing"), "PATH": str(tmp_path)})


def test_a_program_on_the_path_is_used(tmp_path: Path) -> None:
    on_path = _program(tmp_path / "anvil")
    found = provision(["anvil"], environ={"PATH": str(tmp_path)}, progress=_silent)
    assert found.programs == {"anvil": on_path}
    assert found.environment() == {"ANVIL": str(on_path)}


def test_the_cache_is_used_without_any_download(tmp_path: Path) -> None:
    cached = _program(tmp_path / "nodes" / f"anvil-{module.ANVIL_VERSION}" / "bin" / "anvil")
    environ = {"CAGE_CACHE": str(tmp_path), "PATH": ""}
    assert provision(["anvil"], environ=environ, progress=_silent).programs == {"anvil": cached}


def test_a_node_that_cannot_be_had_is_named_with_the_way_around(tmp_path: Path) -> None:
    environ = {"CAGE_CACHE": str(tmp_path), "PATH": str(tmp_path)}
    found = provision(["bitcoind"], environ=environ, progress=_silent)
    assert found.programs == {}
    assert "bitcoind cannot be had" in str(found.missing["bitcoind"])
    assert "BITCOIND" in str(found.missing["bitcoind"])


def test_a_program_that_does_not_run_here_is_refused(tmp_path: Path) -> None:
    broken = _program(tmp_path / "nodes" / f"anvil-{module.ANVIL_VERSION}" / "bin" / "anvil")
    broken.write_text("#!/bin/sh\nexit 1\n")
    environ = {"CAGE_CACHE": str(tmp_path), "PATH": ""}
    found = provision(["anvil"], environ=environ, progress=_silent)
    assert "does not run here" in str(found.missing["anvil"])


def test_x01_a_download_with_another_hash_is_refused() -> None:
    digest = base64.b64encode(hashlib.sha512(b"good").digest()).decode()
    verify_integrity("anvil", b"good", f"sha512-{digest}")
    with pytest.raises(NodeUnavailable, match="integrity"):
        verify_integrity("anvil", b"evil", f"sha512-{digest}")


def test_a_build_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").write_text("half a node")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        module._build_atomically(tmp_path / "unit", fail)
    assert list(tmp_path.iterdir()) == []


def _append_once(folder: str) -> None:
    base = Path(folder)
    with module._locked(base / "unit.lock"):
        if not (base / "unit").exists():
            module._build_atomically(base / "unit", lambda temp: _note(base, temp))


def _note(base: Path, temp: Path) -> None:
    (temp / "bin").mkdir()
    with (base / "builds").open("a") as log:
        log.write("built\n")


def test_two_runs_at_once_build_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    runs = [context.Process(target=_append_once, args=(str(tmp_path),)) for _ in range(3)]
    for run in runs:
        run.start()
    for run in runs:
        run.join(60)
    assert [run.exitcode for run in runs] == [0, 0, 0]
    assert (tmp_path / "builds").read_text() == "built\n"


def test_the_launcher_finds_its_libraries_wherever_the_folder_is(tmp_path: Path) -> None:
    folder = tmp_path / "first"
    _program(folder / "root/usr/lib64/ld-linux-x86-64.so.2", 'echo "$3" "$4"')
    module._write_launcher(folder, "bitcoind", "usr/bin/bitcoind", "amd64")
    moved = folder.rename(tmp_path / "second")
    command = [f"{moved}/bin/bitcoind", "-version"]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert answer.stdout.strip() == f"{moved}/root/usr/bin/bitcoind -version"


@pytest.mark.parametrize(
    ("environ", "end"),
    [
        ({"CAGE_CACHE": "/x/y"}, "/x/y"),
        ({"XDG_CACHE_HOME": "/x"}, "/x/cage"),
        ({}, ".cache/cage"),
    ],
)
def test_the_cache_folder_can_be_chosen(environ: dict[str, str], end: str) -> None:
    assert str(cache_folder(environ)).endswith(end)


def test_every_node_has_a_variable() -> None:
    assert {*NODES, module.TOKEN_TOOL} == set(module.VARIABLES)


def test_the_module_of_a_token_is_the_one_unpacked_with_its_tool(tmp_path: Path) -> None:
    tool = _program(tmp_path / "bin" / "softhsm2-util")
    (tmp_path / "root").mkdir()
    with pytest.raises(NodeUnavailable, match="SOFTHSM2_UTIL"):
        module.token_module(tool)
    library = _program(tmp_path / "root/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so")
    assert module.token_module(tool) == library
