"""Which sandboxes are attacked here, and as whom: every one that this machine has, as root and as
an ordinary user. What could not be attacked is said at the end of the tests.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.escape.scene import Scene, running_scene
from tests.sandboxes import NOT_TESTED

# A sandbox, and the program that it needs.
PROGRAMS: Final = {"bubblewrap": "bwrap"}
USERS: Final = ("as-started", "as-ordinary-user")


def need(sandbox: str, user: str = USERS[0]) -> None:
    """Skip what cannot be tried on this machine, loudly."""
    program = PROGRAMS[sandbox]
    if shutil.which(program) is None:
        pytest.skip(f"{NOT_TESTED}: the sandbox {sandbox} was not attacked, {program} is missing")
    if user != USERS[0] and os.geteuid() != 0:
        pytest.skip("whoever runs these tests is an ordinary user already")


@pytest.fixture(scope="module", params=PROGRAMS)
def scene(request: pytest.FixtureRequest) -> Iterator[Scene]:
    """A server with a session to attack, as whoever runs these tests."""
    need(request.param)
    with running_scene(request.param) as scene:
        yield scene


@pytest.fixture(
    scope="module",
    params=[(sandbox, user) for sandbox in PROGRAMS for user in USERS],
    ids="-".join,
)
def scene_of_user(request: pytest.FixtureRequest) -> Iterator[Scene]:
    """The same, and as an ordinary user."""
    sandbox, user = request.param
    need(sandbox, user)
    with running_scene(sandbox, ordinary=user != USERS[0]) as scene:
        yield scene


@pytest.fixture
def attached(scene: Scene, tmp_path: Path) -> Iterator[str]:
    """A file of the client's, as its id."""
    path = tmp_path / "numbers.csv"
    path.write_text("a,b\n1,2\n")
    with path.open("rb") as content:
        yield scene.client.files.create(file=content, purpose="assistants").id
