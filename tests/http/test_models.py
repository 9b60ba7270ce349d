"""A name that an alias leads on can be read as a model, also where the alias is a pattern."""

from pathlib import Path

import httpx2

from tests.conftest import StartServer


def test_a_name_that_matches_an_alias_is_a_model(start_server: StartServer, tmp_path: Path) -> None:
    config = tmp_path / "aliases.toml"
    config.write_text('[aliases]\n"gpt-4*" = "demo"\n')
    server = start_server("--config", str(config))
    model = httpx2.get(f"{server.url}/models/gpt-4o").json()
    assert (model["id"], model["object"], model["owned_by"]) == ("gpt-4o", "model", "alias")
    assert httpx2.get(f"{server.url}/models/demo").json()["owned_by"] == "upstream"
    assert httpx2.get(f"{server.url}/models/gpt-3").status_code == 404
