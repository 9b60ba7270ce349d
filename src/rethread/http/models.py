"""Models, over HTTP: the model server's, and the aliases that lead to them."""

from rethread.contract import ModelPage
from rethread.errors import UnknownModel
from rethread.http.codec import encode
from rethread.http.request import Reply, Request, Response


async def list_all(request: Request) -> Response:
    """GET /models"""
    return Reply(encode(ModelPage(await request.services.list_models())))


async def retrieve(request: Request) -> Response:
    """GET /models/{model}"""
    wanted = request.path_params["model"]
    for model in await request.services.list_models():
        if model.id == wanted:
            return Reply(encode(model))
    if alias := request.services.find_alias(wanted):
        return Reply(encode(alias))
    raise UnknownModel(wanted)
