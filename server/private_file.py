"""Files that are their owner's alone, replaced all or nothing. May block."""

import os
import tempfile
from pathlib import Path


def replace_file(path: Path, text: str) -> None:
    """Flushed before it takes its name; OSError when it cannot, and the old file is as it was."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    fresh = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(handle)
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
