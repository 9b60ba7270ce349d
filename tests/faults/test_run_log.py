"""Whoever reads the log learns which runs have failed, on which model and why, and nothing more."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import StartServer
from tests.fakes.model_server import ModelServer
from tests.fakes.replies import DROP, Call, Gate, Reply, failure, raw, text, tool_calls
from tests.faults.scene import Scene, stock_client

ARGUMENTS = ("--upstream-max-attempts", "1", "--stall-timeout-seconds", "1")
SECRET = "canary-77ab"


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: failure(404, SECRET), '"status 404"'),
        (lambda: text(SECRET).first(Gate()), "stalled"),
        (lambda: text(SECRET, " and more").then(DROP, after=1), "cut"),
        (lambda: raw(SECRET.encode() + b"\n\n"), "garbage"),
        (lambda: tool_calls(Call("call_1", SECRET, "{}")), '"function not offered"'),
        (lambda: text(SECRET, finish_reason="content_filter"), '"content filter"'),
    ],
    ids=["status", "stalled", "cut", "garbage", "function", "filter"],
)
def test_a_run_that_fails_is_a_warning_with_its_reason(
    scene: Scene, make: Callable[[], Reply], reason: str
) -> None:
    scene.model.replies.append(make())  # a gate is opened for good
    run = scene.rest(scene.start(scene.thread(SECRET)))
    assert run.status == "failed"
    line = scene.server.wait_for_log(f"run run_id={run.id}")
    assert " warning run " in line
    assert line.endswith(f"called_model={run.model} reason={reason}\n")
    assert SECRET not in "".join(scene.server.log)


def test_a_run_that_does_well_is_no_warning(scene: Scene) -> None:
    run = scene.rest(scene.start(scene.thread()))
    line = scene.server.wait_for_log(f"run run_id={run.id}")
    assert " info run " in line
    assert "called_model" not in line


def test_the_model_behind_an_alias_is_named(
    start_server: StartServer, model: ModelServer, tmp_path: Path
) -> None:
    config = tmp_path / "aliases.toml"
    config.write_text('upstream = "http://127.0.0.1:9/v1"\n[aliases]\n"*" = "qwen3"\n')
    server = start_server("--config", str(config), *ARGUMENTS)
    with stock_client(server.url) as client:
        scene = Scene(server, model, client)
        assert scene.rest(scene.start(scene.thread())).status == "failed"
    assert server.wait_for_log(" warning run ").endswith("called_model=qwen3 reason=unreachable\n")
