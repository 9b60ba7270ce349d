"""A web page cannot use a server without keys through the browser of its machine."""

import httpx2
import pytest

from tests.conftest import StartServer
from tests.server import ServerProcess

ELSEWHERE = {
    "forbidden_host": {"Host": "evil.example:8484"},
    "forbidden_origin": {"Origin": "https://evil.example"},
}


@pytest.mark.parametrize("code", ELSEWHERE)
def test_a_request_that_names_another_machine_is_refused_and_makes_nothing(
    demo_server: ServerProcess, code: str
) -> None:
    url = f"{demo_server.url}/assistants"
    answer = httpx2.post(url, content=b'{"model": "demo", "name": "evil"}', headers=ELSEWHERE[code])
    assert answer.status_code == 403
    error = answer.json()["error"]
    assert "evil.example" in error.pop("message")
    assert error == {"type": "invalid_request_error", "param": None, "code": code}
    assert [each for each in httpx2.get(url).json()["data"] if each["name"] == "evil"] == []
    assert httpx2.get(f"{demo_server.root}/healthz", headers=ELSEWHERE[code]).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "localhost"},
        {"Host": "127.1.2.3:80"},
        {"Host": "[::1]:8484"},
        {"Origin": "http://localhost:3000"},
        {"Origin": "http://[::1]"},
    ],
    ids=str,
)
def test_a_request_of_this_machine_is_answered(
    demo_server: ServerProcess, headers: dict[str, str]
) -> None:
    url = f"{demo_server.url}/assistants"
    assert httpx2.get(url, headers=headers).status_code == 200


@pytest.mark.parametrize("origin", ["null", "http://localhost.evil.example", "file://", "http://["])
def test_an_origin_that_only_looks_local_is_refused(
    demo_server: ServerProcess, origin: str
) -> None:
    url = f"{demo_server.url}/assistants"
    assert httpx2.get(url, headers={"Origin": origin}).status_code == 403


def test_a_good_key_or_a_server_open_to_all_is_not_asked_where_it_comes_from(
    start_server: StartServer,
) -> None:
    keyed, open_to_all = start_server(), start_server("--allow-anonymous")
    secret = keyed.new_key("p")
    for headers in ELSEWHERE.values():
        with_key = {**headers, "Authorization": f"Bearer {secret}"}
        assert httpx2.get(f"{keyed.url}/assistants", headers=with_key).status_code == 200
        assert httpx2.get(f"{open_to_all.url}/assistants", headers=headers).status_code == 200
