"""An S3 service on this machine: moto's, over the real protocol."""

import logging
import re
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from moto.server import ThreadedMotoServer

BUCKET: Final = "rethread"


class S3Server(NamedTuple):
    """Where it is, and what a client's environment must say."""

    server: ThreadedMotoServer
    url: str
    environment: dict[str, str]

    def objects(self) -> list[str]:
        """The names of all that lies in the bucket."""
        with urllib.request.urlopen(f"{self.url}/{BUCKET}?list-type=2") as answer:
            return sorted(re.findall(r"<Key>(.*?)</Key>", answer.read().decode()))


@contextmanager
def running_s3() -> Iterator[S3Server]:
    """A service with an empty bucket."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        url = f"http://{host}:{port}"
        # What it keeps is this process's, so an earlier test's things are there still.
        urllib.request.urlopen(f"{url}/moto-api/reset", data=b"").close()
        asked = urllib.request.Request(f"{url}/{BUCKET}", method="PUT")
        urllib.request.urlopen(asked).close()
        environment = {
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": "someone",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1",
        }
        yield S3Server(server, url, environment)
    finally:
        server.stop()
