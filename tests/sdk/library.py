"""Files, stores and an answer that cites, with whatever `openai` this interpreter has.

`python library.py BASE_URL` prints what was seen, as JSON. Plain Python: old SDKs have no pytest
beside them. Those before 1.66 have vector stores below `client.beta`, and neither uploads nor
search.
"""

import io
import json
import sys
import warnings

warnings.simplefilter("ignore")

import openai  # noqa: E402
from openai import AssistantEventHandler  # noqa: E402

WHALE = b"The blue whale is the largest animal.\n"
NOTES = [("owl.md", b"# Owls\n\nOwls hunt at night."), ("x.txt", b"x")]


class Handler(AssistantEventHandler):
    """Notes the searches and the text that the SDK puts together."""

    def __init__(self) -> None:
        super().__init__()
        self.searched: list[str] = []
        self.cited: list[str] = []

    def on_tool_call_created(self, tool_call) -> None:  # type: ignore[no-untyped-def]
        self.searched.append(tool_call.type)

    def on_text_delta(self, delta, snapshot) -> None:  # type: ignore[no-untyped-def]
        self.cited += [each.file_citation.file_id for each in delta.annotations or []]


def keep(client: openai.OpenAI) -> dict[str, object]:
    """Every kind of call that an application makes with its documents."""
    above = client if hasattr(client, "vector_stores") else client.beta
    stores = above.vector_stores  # type: ignore[union-attr]
    whale = client.files.create(file=("whale.txt", WHALE), purpose="assistants")
    seen: dict[str, object] = {"same_content": client.files.content(whale.id).read() == WHALE}
    seen["listed"] = whale.id in [file.id for file in client.files.list(purpose="assistants")]

    store = stores.create(name="Animals", expires_after={"anchor": "last_active_at", "days": 1})
    polled = stores.files.create_and_poll(whale.id, vector_store_id=store.id)
    strange = stores.files.upload_and_poll(
        vector_store_id=store.id, file=("cat.xyz", b"\xff\0\xfe")
    )
    seen["polled"] = [polled.status, strange.last_error and strange.last_error.code]
    batch = stores.file_batches.upload_and_poll(
        vector_store_id=store.id, files=[(name, io.BytesIO(text)) for name, text in NOTES]
    )
    in_batch = stores.file_batches.list_files(batch.id, vector_store_id=store.id, limit=1)
    seen["batch"] = [batch.status, batch.file_counts.completed, len([*in_batch])]
    if hasattr(client, "uploads"):
        seen.update(_newer(client, store.id, whale.id))
    seen["answer"] = _answer(client, store.id, whale.id)

    client.files.delete(whale.id)
    seen["counts"] = stores.retrieve(store.id).file_counts.to_dict()
    seen["deleted"] = stores.delete(store.id).object
    try:
        stores.files.list(store.id)
    except openai.NotFoundError as refused:
        told = refused.response.json()["error"]["message"]
        seen["gone"] = [refused.status_code, told.replace(store.id, "vs_x")]
    return seen


def _newer(client: openai.OpenAI, store_id: str, whale_id: str) -> dict[str, object]:
    upload = client.uploads.upload_file_chunked(
        file=WHALE,
        filename="whale.txt",
        bytes=len(WHALE),
        mime_type="text/plain",
        purpose="assistants",
        part_size=20,
    )
    stores = client.vector_stores
    labelled = stores.files.update(
        whale_id, vector_store_id=store_id, attributes={"kind": "sea", "tons": 150, "old": True}
    )
    is_heavy = {"type": "gt", "key": "tons", "value": 100}
    found = stores.search(store_id, query="largest animal", filters=is_heavy)  # type: ignore[arg-type]
    content = stores.files.content(whale_id, vector_store_id=store_id)
    return {
        "upload": upload.file is not None and client.files.content(upload.file.id).read() == WHALE,
        "attributes": labelled.attributes,
        "found": [[each.filename, each.content[0].text, each.attributes] for each in found],
        "text": "".join(piece.text or "" for piece in content),
    }


def _answer(client: openai.OpenAI, store_id: str, whale_id: str) -> dict[str, object]:
    assistant = client.beta.assistants.create(
        model="demo",
        tools=[{"type": "file_search"}],
        tool_resources={"file_search": {"vector_store_ids": [store_id]}},
    )
    thread = client.beta.threads.create(
        messages=[{"role": "user", "content": "Which animal is the largest?"}]
    )
    handler = Handler()
    with client.beta.threads.runs.stream(
        thread_id=thread.id, assistant_id=assistant.id, event_handler=handler
    ) as stream:
        text = stream.get_final_messages()[0].content[0].text  # type: ignore[union-attr]
    [citation] = text.annotations
    kept = client.beta.threads.messages.list(thread.id, limit=1).data[0].content[0]
    client.beta.assistants.delete(assistant.id)
    return {
        "searched": handler.searched,
        "cites": citation.file_citation.file_id == whale_id,  # type: ignore[union-attr]
        "heard": handler.cited == [whale_id],
        "in_place": text.value[citation.start_index : citation.end_index] == citation.text,
        "kept": kept.text == text,  # type: ignore[union-attr]
    }


if __name__ == "__main__":
    the_client = openai.OpenAI(base_url=sys.argv[1], api_key="any", timeout=30, max_retries=0)
    print(json.dumps(keep(the_client)))
