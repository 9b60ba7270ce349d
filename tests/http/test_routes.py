"""A path finds its row whatever prefix its client puts in front; ids stay whole."""

import pytest

from rethread.http.routes import ROUTES, Router

ROUTER = Router()
PREFIXES = ("", "/v1", "/openai", "/openai/v1", "/openai/deployments/gpt-4o")
IDS = {
    "assistant_id": "asst_1",
    "thread_id": "thread_1",
    "message_id": "msg_1",
    "run_id": "run_1",
    "step_id": "step_1",
    "file_id": "file-1",
    "upload_id": "upload_1",
    "vector_store_id": "vs_1",
    "batch_id": "vsfb_1",
    "model": "demo",
}


@pytest.mark.parametrize("prefix", PREFIXES)
def test_every_route_is_found_behind_every_prefix(prefix: str) -> None:
    for route in ROUTES:
        match = ROUTER.match(f"{prefix}{route.path.format(**IDS)}".encode())
        assert match is not None
        assert match.by_method[route.method] is route
        assert match.path_params == {name: IDS[name] for name in IDS if f"{{{name}}}" in route.path}


@pytest.mark.parametrize(
    "path",
    [
        "/v2",
        "/v2/assistants",
        "/v1/v1/assistants",
        "/v1/openai/assistants",
        "/openai/deployments",
        "/assistant",
        "/assistants/asst_1/files",
        "/threads/thread_1/runs/run_1/cancel/now",
        "/v1//assistants",
        "*",
    ],
)
def test_an_unknown_path_is_not_found(path: str) -> None:
    assert ROUTER.match(path.encode()) is None


@pytest.mark.parametrize("path", ["", "/", "/v1", "/v1/", "/openai", "/openai/v1"])
def test_the_address_alone_tells_what_answers_there(path: str) -> None:
    match = ROUTER.match(path.encode())
    assert match is not None
    assert [route.path for route in match.by_method.values()] == ["/"]


@pytest.mark.parametrize("prefix", ["", "/v1", "/openai", "/openai/deployments/x"])
@pytest.mark.parametrize("id", ["m", "openai/m", "openai%2Fm", "a/b/c:free"])
def test_a_models_id_may_have_slashes(prefix: str, id: str) -> None:
    match = ROUTER.match(f"{prefix}/models/{id}".encode())
    assert match is not None
    assert set(match.by_method) == {"GET"}
    assert match.path_params == {"model": id.replace("%2F", "/")}


def test_a_slash_at_the_end_does_not_matter() -> None:
    match = ROUTER.match(b"/v1/assistants/")
    assert match is not None
    assert set(match.by_method) == {"GET", "POST"}


@pytest.mark.parametrize(
    ("segment", "value"),
    [
        ("asst_%2F..%2Fx", "asst_/../x"),
        ("..%2f..%2fetc", "../../etc"),
        ("..", ".."),
        ("asst_%00", "asst_\0"),
        ("asst_%FF", "asst_\ufffd"),
        ("asst_%C3%A9", "asst_é"),
        ("asst_%zz", "asst_%zz"),
        ("asst_%252F", "asst_%2F"),
    ],
)
def test_an_id_stays_one_segment_whatever_is_encoded_in_it(segment: str, value: str) -> None:
    match = ROUTER.match(f"/v1/assistants/{segment}".encode())
    assert match is not None
    assert match.path_params == {"assistant_id": value}


def test_a_fixed_segment_goes_before_an_id() -> None:
    match = ROUTER.match(b"/v1/threads/runs")
    assert match is not None
    assert set(match.by_method) == {"POST"}
    assert match.path_params == {}
