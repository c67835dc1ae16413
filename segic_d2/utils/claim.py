"""A lock file that says who works in a folder."""

import os
import socket
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from .files import AnyPath


class Claim(AbstractContextManager[Any]):
    """A lock file that this process holds until it ends, however it ends, or closes it; then the
    file is removed. Its children do not hold it, so that a run goes on at once after its process
    was killed, while workers still end. On file systems without locks nothing is held.

    BlockingIOError: another process has it; the text says which.
    """

    def __init__(self, path: AnyPath) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            self._file = open(self.path, "a+", encoding="utf-8", errors="replace")  # noqa: SIM115
            if not self._lock() or self._is_there():
                break
            self._file.close()  # whoever had it has just removed it
        about = f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%F %T')}"
        self._file.truncate(0)
        self._file.write(about)
        self._file.flush()

    def _lock(self) -> bool:
        """Lock the file; False: nothing can be locked here."""
        try:
            import fcntl
        except ImportError:
            return False
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            self._file.seek(0)
            holder = " ".join(self._file.read(200).split()) or "another process"
            self._file.close()
            raise BlockingIOError(error.errno, f"{self.path} is held by {holder}") from None
        except OSError:
            return False
        return True

    def _is_there(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self._file.fileno()), os.stat(self.path))
        except FileNotFoundError:
            return False

    def close(self) -> None:
        """Let others have it."""
        if not self._file.closed:
            self.path.unlink(missing_ok=True)
            self._file.close()

    def __exit__(self, *_: object) -> None:
        self.close()


def claim_output(folder: AnyPath) -> Claim:
    """Claim the folder of a run. ValueError: another run has it, which is named."""
    try:
        return Claim(Path(folder) / ".lock")
    except BlockingIOError as error:
        raise ValueError(
            f"OUTPUT_DIR {os.fspath(folder)}: another run writes there ({error.strerror}); give "
            "another OUTPUT_DIR, or wait until it ends"
        ) from None
