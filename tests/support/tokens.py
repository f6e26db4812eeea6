"""A real PKCS#11 token in a folder of its own: SoftHSM, with public test PINs."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from gateway.sandbox.provision import token_module

LABEL = "cage"
PIN = "public-test-pin"
SO_PIN = "public-test-so-pin"
TIMEOUT_SECONDS = 60


@dataclass(frozen=True, kw_only=True)
class SoftToken:
    """One token directory that no other test sees."""

    folder: Path
    module: Path
    tool: Path

    @property
    def environ(self) -> dict[str, str]:
        """The variables of a process that uses this token."""
        return {**os.environ, "SOFTHSM2_CONF": str(self.folder / "softhsm2.conf")}

    @property
    def store(self) -> Path:
        """Where the token's files lie: away with it, and the token is pulled out."""
        return self.folder / "tokens"

    @property
    def files(self) -> Path:
        """The folder of the one token."""
        [found] = self.store.iterdir()
        return found

    def run(self, *arguments: str) -> str:
        """SoftHSM's own tool; returns its stdout."""
        command = [str(self.tool), "--module", str(self.module), *arguments]
        done = subprocess.run(
            command, capture_output=True, text=True, env=self.environ, timeout=TIMEOUT_SECONDS
        )
        assert done.returncode == 0, (done.stdout, done.stderr)
        return done.stdout

    def add(self, label: str) -> None:
        """Initialise one more token."""
        pins = ("--so-pin", SO_PIN, "--pin", PIN)
        self.run("--init-token", "--free", "--label", label, *pins)


def new_token(folder: Path, tool: Path) -> SoftToken:
    """An initialised token in an empty folder."""
    folder.mkdir()
    made = SoftToken(folder=folder, module=token_module(tool), tool=tool)
    made.store.mkdir()
    lines = (f"directories.tokendir = {made.store}", "objectstore.backend = file")
    (folder / "softhsm2.conf").write_text("\n".join((*lines, "log.level = ERROR", "")), "utf-8")
    made.add(LABEL)
    return made
