"""Which store a setting names: a folder, or a bucket of an S3-compatible service."""

import os
from pathlib import Path
from typing import Final

from rethread.blobs import Blobs
from rethread.blobs.copies import Copies
from rethread.blobs.folder import Folder
from rethread.errors import Misconfigured

FOLDER_NAME: Final = "files"
COPIES_NAME: Final = "copies"
BUCKET: Final = "s3://"


def folder_at(data_dir: Path, place: str | None) -> Path | None:
    """The folder that a setting names; None where it names a bucket."""
    if place is not None and place.startswith(BUCKET):
        return None
    return Path(place) if place else data_dir / FOLDER_NAME


def open_blobs(data_dir: Path, place: str | None) -> Blobs:
    """The store at that place, or in the folder's own `files`; Misconfigured if it can't be."""
    folder = folder_at(data_dir, place)
    if folder is not None:
        return Folder(folder)
    assert place is not None
    try:
        # Its library comes with an extra, and costs the others nothing.
        from rethread.blobs.s3 import bucket_at  # noqa: PLC0415
    except ModuleNotFoundError as problem:
        raise Misconfigured(
            f"{place} needs a package that is not here: pip install '.[s3]', in rethread's folder"
        ) from problem
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    return bucket_at(place, endpoint=endpoint, copies=Copies(data_dir / COPIES_NAME))
