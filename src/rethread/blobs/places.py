"""Which store a setting names: a folder, or a bucket at an S3-compatible service."""

from pathlib import Path
from typing import Final

from rethread.blobs import Blobs
from rethread.blobs.folder import Folder

FOLDER_NAME: Final = "files"


def open_blobs(data_dir: Path, url: str | None) -> Blobs:
    """The store of that URL, or the folder within the data folder; Misconfigured without it."""
    if url is None:
        return Folder(data_dir / FOLDER_NAME)
    raise NotImplementedError(url)
