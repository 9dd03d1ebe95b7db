"""One proxy at a time serves from a SQLite file.

Two would each believe their own memory: what is purged at one, the other would go on serving. Commands that
read or write the file beside the proxy need no claim.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from typing import IO

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from storage.base import StorageError
from storage.within import OPENING, first_line


def claim(url: str) -> AbstractContextManager[object]:
    """Ends with its block, or with the process, however that does. A store that is no SQLite file may be
    shared. Looks at the disk. Raises StorageError when another proxy has the claim, or none can be laid."""
    if (file := _file(url)) is None:
        return nullcontext()
    try:
        return locked(file)
    except BlockingIOError:
        raise StorageError(
            f"documents.url: another proxy serves from {file}; stop it, name another file, or let both share"
            " PostgreSQL or Redis (docs/replicas.md)"
        ) from None
    except OSError as error:
        raise StorageError(f"{OPENING}: {first_line(error)}") from error


def locked(file: Path) -> IO[bytes]:
    """A lock beside `file`, held until it is closed or the process ends. Raises BlockingIOError while another
    process holds it, and other OSErrors if no lock file can be made there."""
    # Beside the database: whoever closes that file itself lets go of SQLite's own locks on it.
    path = file.with_name(f"{file.name}.lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(0o600)
    lock = path.open("rb")
    try:
        flock(lock, LOCK_EX | LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise
    except OSError:
        pass  # a file system that knows no locks keeps nobody out
    return lock


def _file(url: str) -> Path | None:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        return None  # whoever opens the store says it better
    named = parsed.get_backend_name() == "sqlite" and parsed.database not in (None, "", ":memory:")
    return Path(str(parsed.database)).resolve() if named else None
