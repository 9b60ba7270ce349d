"""A table that code analyses, with whatever `openai` this interpreter has.

`python notebook.py BASE_URL` prints what was seen, as JSON. Plain Python: old SDKs have no pytest
beside them.
"""

import json
import sys
import warnings

warnings.simplefilter("ignore")

import openai  # noqa: E402
from openai import AssistantEventHandler  # noqa: E402

TABLE = b"month,amount\nMay,3\nJune,4\n"
# The smallest image that there is, as the heavy packages have their own test.
ANALYSE = """```python
import base64, csv
from IPython.display import Image
rows = list(csv.DictReader(open("/mnt/data/sales.csv")))
print(len(rows), "months")
display(Image(base64.b64decode("R0lGODlhAQABAIAAAP///wAAACwAAAAAAQABAAACAkQBADs="), format="gif"))
with open("total.txt", "w") as file:
    file.write(str(sum(int(row["amount"]) for row in rows)))
```"""
GO_ON = '```python\nmax(rows, key=lambda row: int(row["amount"]))["month"]\n```'


class Handler(AssistantEventHandler):
    """Notes what the SDK puts together of calls, images and links."""

    def __init__(self) -> None:
        super().__init__()
        self.begun: list[str] = []
        self.written = ""
        self.images: list[str] = []
        self.linked: list[str] = []

    def on_tool_call_created(self, tool_call) -> None:  # type: ignore[no-untyped-def]
        self.begun.append(tool_call.type)

    def on_tool_call_delta(self, delta, snapshot) -> None:  # type: ignore[no-untyped-def]
        self.written += delta.code_interpreter.input or ""

    def on_image_file_done(self, image_file) -> None:  # type: ignore[no-untyped-def]
        self.images.append(image_file.file_id)

    def on_text_delta(self, delta, snapshot) -> None:  # type: ignore[no-untyped-def]
        self.linked += [each.file_path.file_id for each in delta.annotations or []]


def analyse(client: openai.OpenAI) -> dict[str, object]:
    """A streamed run that shows and makes something, and one that goes on with its variables."""
    threads = client.beta.threads
    table = client.files.create(file=("sales.csv", TABLE), purpose="assistants")
    assistant = client.beta.assistants.create(
        model="demo",
        tools=[{"type": "code_interpreter"}],
        tool_resources={"code_interpreter": {"file_ids": [table.id]}},
    )
    thread = threads.create(messages=[{"role": "user", "content": ANALYSE}])
    handler = Handler()
    with threads.runs.stream(
        thread_id=thread.id, assistant_id=assistant.id, event_handler=handler
    ) as stream:
        [said] = stream.get_final_messages()
        [first, *_] = stream.get_final_run_steps()
    [call] = first.step_details.tool_calls  # type: ignore[union-attr]
    logs, shown = call.code_interpreter.outputs  # type: ignore[union-attr]
    image, text = said.content
    [link] = text.text.annotations  # type: ignore[union-attr]
    kept = threads.messages.list(thread.id, limit=1).data[0]
    made = client.files.retrieve(link.file_path.file_id)  # type: ignore[union-attr]

    threads.messages.create(thread.id, role="user", content=GO_ON)
    run = threads.runs.create_and_poll(thread_id=thread.id, assistant_id=assistant.id)
    steps = threads.runs.steps.list(run.id, thread_id=thread.id, order="asc")
    [again] = steps.data[0].step_details.tool_calls  # type: ignore[union-attr]
    return {
        "begun": handler.begun,
        "input": "\n".join(["```python", call.code_interpreter.input, "```"]) == ANALYSE,  # type: ignore[union-attr]
        "heard": handler.written == call.code_interpreter.input,  # type: ignore[union-attr]
        "logs": logs.logs,  # type: ignore[union-attr]
        "image": handler.images == [shown.image.file_id] == [image.image_file.file_id],  # type: ignore[union-attr]
        "bytes": client.files.content(shown.image.file_id).read()[:6].decode(),  # type: ignore[union-attr]
        "link": [link.text, text.text.value[link.start_index : link.end_index]],  # type: ignore[union-attr]
        "heard_link": handler.linked == [made.id],
        "made": [made.filename, made.purpose, client.files.content(made.id).read().decode()],
        "kept": kept.content == said.content,
        "polled": run.status,
        "variables": again.code_interpreter.outputs[0].logs,  # type: ignore[union-attr]
    }


if __name__ == "__main__":
    the_client = openai.OpenAI(base_url=sys.argv[1], api_key="any", timeout=30, max_retries=0)
    print(json.dumps(analyse(the_client)))
