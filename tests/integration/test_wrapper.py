"""`./cage` on a fresh machine: a small project of its own, a wheel of its own, no index."""

import hashlib
import json
import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import json, sys
import cage_probe
def main():
    print(json.dumps({"arguments": sys.argv[1:], "probe": cage_probe.VALUE}))
    return 3
"""


def _wheel(folder: Path) -> str:
    """A package of one module; returns its sha256."""
    record = "cage_probe.py,,\ncage_probe-1.0.dist-info/METADATA,,\n"
    with zipfile.ZipFile(folder / "cage_probe-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("cage_probe.py", "VALUE = 7\n")
        wheel.writestr(
            "cage_probe-1.0.dist-info/METADATA",
            "Metadata-Version: 2.1\nName: cage-probe\nVersion: 1.0\n",
        )
        wheel.writestr(
            "cage_probe-1.0.dist-info/WHEEL",
            "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        wheel.writestr("cage_probe-1.0.dist-info/RECORD", record)
    content = (folder / "cage_probe-1.0-py3-none-any.whl").read_bytes()
    return hashlib.sha256(content).hexdigest()


def _project(folder: Path, digest: str) -> Path:
    folder.mkdir(parents=True)
    shutil.copy(ROOT / "cage", folder / "cage")
    lock = f"cage-probe==1.0 \\\n    --hash=sha256:{digest}\n"
    for name in ("requirements.lock", "requirements-dev.lock"):
        (folder / name).write_text(lock)
    # The fast installer cannot be had here, so that pip does the work.
    (folder / "requirements-bootstrap.lock").write_text(f"uv==0.0.0 --hash=sha256:{'0' * 64}\n")
    (folder / "gateway" / "cli").mkdir(parents=True)
    (folder / "gateway" / "cli" / "main.py").write_text(PROGRAM)
    return folder / "cage"


def _environment(wheels: Path) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "UV_", "PYTHON"))}
    return kept | {
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(wheels),
        "PIP_CONFIG_FILE": os.devnull,
    }


def _start(program: Path, wheels: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [str(program), *arguments],
        cwd="/",
        env=_environment(wheels),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_two_first_runs_at_once_install_once_and_stdout_stays_clean(tmp_path: Path) -> None:
    program = _project(tmp_path / "project", _wheel(tmp_path))
    runs = [_start(program, tmp_path, "demo", "--json", name) for name in ("a", "b")]
    for name, run in zip(("a", "b"), runs, strict=True):
        out, err = run.communicate(timeout=120)
        assert json.loads(out) == {"arguments": ["demo", "--json", name], "probe": 7}, err
        assert run.returncode == 3
    log = (tmp_path / "project" / ".cage" / "install.log").read_text()
    assert log.count("# pip install") == 1
    again = _start(program, tmp_path, "x")
    out, err = again.communicate(timeout=60)
    assert (json.loads(out)["arguments"], err) == (["x"], "")


@pytest.mark.slow
def test_x01_a_package_with_another_hash_stops_the_installation(tmp_path: Path) -> None:
    _wheel(tmp_path)
    program = _project(tmp_path / "project", "0" * 64)
    run = _start(program, tmp_path, "demo")
    out, err = run.communicate(timeout=120)
    assert (run.returncode, out) == (2, "")
    assert "cannot be installed" in err
    assert not (tmp_path / "project" / ".venv" / "cage-installed.json").exists()


def test_an_environment_that_cannot_be_made_gives_a_hint(tmp_path: Path) -> None:
    program = _project(tmp_path / "project", "0" * 64)
    (tmp_path / "project" / ".venv").write_text("a file in the way")
    run = _start(program, tmp_path, "demo")
    out, err = run.communicate(timeout=60)
    assert (run.returncode, out) == (2, "")
    assert "python3-venv" in err
