"""Private files: modes, atomic replace, and the hardening of the process that reads them.

It owns no content. Every write here is on disk (fsync of file and folder) before it returns.
"""

import ctypes
import os
import resource
import stat
from pathlib import Path

from signer.errors import ConfigurationError, KeyringError

PRIVATE_MODE = 0o600
READ_LIMIT_BYTES = 65_536  # a key file or passphrase is far smaller
_PR_SET_DUMPABLE = 4  # prctl(2)


def read_private(path: Path) -> bytes:
    """Read a file that only its owner may read; raises KeyringError otherwise."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise KeyringError(f"{path}: cannot be opened: {error.strerror}") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_mode & 0o077:
            raise KeyringError(f"{path}: must be a plain file of mode 0600")
        if status.st_uid != os.geteuid():
            raise KeyringError(f"{path}: must belong to the signer's own user")
        return os.read(descriptor, READ_LIMIT_BYTES)
    finally:
        os.close(descriptor)


def write_private(path: Path, data: bytes) -> None:
    """Create a file of mode 0600; raises KeyringError if it exists or cannot be written."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, PRIVATE_MODE)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        _sync_folder(path.parent)
    except OSError as error:
        raise KeyringError(f"{path}: cannot be written: {error.strerror}") from error


def replace_atomically(path: Path, data: bytes) -> None:
    """Replace a file in one step, durably. Raises OSError."""
    temporary = path.with_name(path.name + ".new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, PRIVATE_MODE)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)
    _sync_folder(path.parent)


def harden_process() -> None:
    """No core dumps, not dumpable or traceable by the same user, files private (S13)."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.umask(0o077)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise ConfigurationError("prctl(PR_SET_DUMPABLE, 0) failed")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
