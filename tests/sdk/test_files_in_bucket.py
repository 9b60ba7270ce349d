"""A server that keeps its files in a bucket serves them as one with a folder does."""

import os

import openai
import pytest

from tests.conftest import StartServer
from tests.fakes.s3_server import BUCKET, running_s3
from tests.sdk.clients import sync_client
from tests.server import wait_until


def test_files_live_in_the_bucket_and_in_no_folder(start_server: StartServer) -> None:
    content = os.urandom(100_000)
    with running_s3() as s3:
        server = start_server("--files", f"s3://{BUCKET}/here", env=s3.environment)
        with sync_client(server) as client:
            one, other = (
                client.files.create(file=("a.bin", content), purpose="assistants") for _ in range(2)
            )
            done = client.uploads.upload_file_chunked(
                file=content, filename="b", bytes=100_000, mime_type="", purpose="assistants"
            )
            assert done.file is not None
            for file in (one, other, done.file):
                assert client.files.content(file.id).content == content
            wait_until(lambda: len(s3.objects()) == 1)  # a chore takes away what is there twice
            assert [path for path in s3.objects() if not path.startswith("here/")] == []
            assert not (server.data_dir / "files").exists()
            for file in (one, other, done.file):
                client.files.delete(file.id)
            wait_until(lambda: not s3.objects())
            s3.server.stop()
            with pytest.raises(openai.InternalServerError, match="store of files does not answer"):
                client.files.create(file=("a.bin", content), purpose="assistants")
            assert client.files.list().data == []
