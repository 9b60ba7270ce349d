"""Python that is run for an assistant: a table goes in, a chart and a file come back, streamed."""

import os
from typing import Any

from openai import AssistantEventHandler, OpenAI

client = OpenAI(
    base_url=os.environ.get("RETHREAD_BASE_URL", "http://127.0.0.1:8484/v1"),
    api_key=os.environ.get("RETHREAD_API_KEY", "any"),
)

SALES = b"month,amount\nMay,3\nJune,4\nJuly,8\n"

# A real model writes the code itself. The built-in one runs what it finds between the fences.
ANALYSE = """Please analyse the sales.
```python
import matplotlib.pyplot as plt
import pandas as pd

sales = pd.read_csv("/mnt/data/sales.csv")
sales.plot.bar(x="month", y="amount")
plt.show()
sales.assign(total=sales.amount.cumsum()).to_csv("totals.csv", index=False)
print(f"{len(sales)} months")
```
"""
GO_ON = """And the best month?
```python
sales.loc[sales.amount.idxmax(), "month"]
```
"""


class Notebook(AssistantEventHandler):
    """Prints what the code prints, as it runs, and keeps what it has made."""

    def __init__(self) -> None:
        super().__init__()
        self.images: list[str] = []
        self.files: list[str] = []

    def on_tool_call_delta(self, delta: Any, snapshot: Any) -> None:
        for output in delta.code_interpreter.outputs or []:
            if output.type == "logs":
                print(output.logs, end="")

    def on_image_file_done(self, image_file: Any) -> None:
        self.images.append(image_file.file_id)

    def on_text_delta(self, delta: Any, snapshot: Any) -> None:
        for annotation in delta.annotations or []:
            self.files.append(annotation.file_path.file_id)


file = client.files.create(file=("sales.csv", SALES), purpose="assistants")
assistant = client.beta.assistants.create(
    model="demo",
    tools=[{"type": "code_interpreter"}],
    tool_resources={"code_interpreter": {"file_ids": [file.id]}},
)
thread = client.beta.threads.create(messages=[{"role": "user", "content": ANALYSE}])
notebook = Notebook()
with client.beta.threads.runs.stream(
    thread_id=thread.id, assistant_id=assistant.id, event_handler=notebook
) as stream:
    stream.until_done()
for file_id in notebook.images:
    print("an image:", client.files.content(file_id).read()[1:4].decode())
for file_id in notebook.files:
    print(client.files.content(file_id).read().decode(), end="")

# The variables are still there.
client.beta.threads.messages.create(thread.id, role="user", content=GO_ON)
with client.beta.threads.runs.stream(
    thread_id=thread.id, assistant_id=assistant.id, event_handler=Notebook()
) as stream:
    stream.until_done()

# Output:
#
# 3 months
# an image: PNG
# month,amount,total
# May,3,3
# June,4,7
# July,8,15
# 'July'
