"""Files that a reader sees whole or not at all."""

import os
from pathlib import Path
from tempfile import NamedTemporaryFile


def replace_text(path: Path, text: str) -> Path:
    """Write a text, in place of what was there."""
    return replace_bytes(path, text.encode())


def replace_bytes(path: Path, content: bytes) -> Path:
    """Write bytes, in place of what was there; the file is readable by all."""
    with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        try:
            file.write(content)
            file.close()
            os.chmod(file.name, 0o644)
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise
    return path
