"""What clients do to assistants, threads and messages, in any order."""

from typing import Any, Final

from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from tests.model.project import Asking, expect, refused
from tests.model.reference import Asked, Body, Inside, new_assistant, new_message, new_thread
from tests.model.scene import EVERYTHING, Scene, page_requests
from tests.model.turns import SHOWN_TOOL, TOOL

# Few things, to which much happens.
MOST_ASSISTANTS: Final = 4
MOST_THREADS: Final = 3

DATA: Final = st.data()
HAS_KEY: Final = st.sampled_from([False, False, True])
TEXTS: Final = st.sampled_from(["Hello", "Grüße 🌍", "one\ntwo", ""])
CONTENTS: Final[st.SearchStrategy[Any]] = TEXTS | st.lists(
    TEXTS.map(lambda text: {"type": "text", "text": text}), min_size=1, max_size=2
)
METADATA: Final = st.dictionaries(st.sampled_from(["a", "b"]), st.sampled_from(["1", "2"]))
CHANGES: Final[st.SearchStrategy[Body | None]] = st.none() | st.fixed_dictionaries(
    {"instructions": TEXTS}, optional={"metadata": METADATA}
)
MESSAGES: Final[st.SearchStrategy[Body]] = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant"]), "content": CONTENTS, "metadata": METADATA}
)


class Writers(Scene):
    """What clients may do."""

    @invariant()
    def what_was_touched_is_as_expected(self) -> None:
        if self.touched in self.threads.living:
            self.check_thread(self.touched)
        self.touched = ""

    # --- assistants ---------------------------------------------------------------------------

    @initialize(messages=st.lists(MESSAGES, min_size=1, max_size=3))
    def begin(self, messages: list[Body]) -> None:
        """Somebody who answers, and something to answer."""
        self.add_assistant({})
        self.create_thread(messages, {}, has_key=False)

    @precondition(lambda self: len(self.assistants.ids) < MOST_ASSISTANTS)
    @rule(instructions=TEXTS, metadata=METADATA, has_key=HAS_KEY)
    def create_assistant(self, instructions: str, metadata: Body, *, has_key: bool) -> None:
        fields = {"instructions": instructions, "metadata": metadata}
        self.add_assistant(fields, has_key=has_key)

    def add_assistant(self, fields: Body, *, has_key: bool = False) -> None:
        asked = {"model": "unused", "tools": [TOOL], **fields}
        answer = self.post("/assistants", asked, has_key=has_key)
        expect(answer.body, new_assistant({**asked, "tools": [SHOWN_TOOL]}))
        self.assistants.put(answer.body)

    @rule(data=DATA, asked=CHANGES)
    def change_assistant(self, data: st.DataObject, asked: Body | None) -> None:
        """Modify it, or delete it if others are left."""
        id = self.some_assistant(data)
        path = f"/assistants/{id}"
        if asked is None and len(self.assistants.living) > 1:
            self.delete(path, id, "assistant.deleted", self.assistants)
            return
        changes = asked or {}
        answer = self.post(path, changes)
        if id not in self.assistants.living:
            refused(answer, 404)
            return
        expect(answer.body, {**self.assistants[id], **changes})
        self.assistants.put(answer.body)

    @rule(data=DATA)
    def list_assistants(self, data: st.DataObject) -> None:
        asked = data.draw(page_requests(self.assistants.ids, "asst"))
        expect(self.project.page("/assistants", asked), self.assistants.page(asked))

    # --- threads ------------------------------------------------------------------------------

    @precondition(lambda self: len(self.threads.living) < MOST_THREADS)
    @rule(messages=st.lists(MESSAGES, max_size=3), metadata=METADATA, has_key=HAS_KEY)
    def create_thread(self, messages: list[Body], metadata: Body, *, has_key: bool) -> None:
        asked = {"messages": messages, "metadata": metadata}
        answer = self.post("/threads", asked, has_key=has_key)
        expect(answer.body, new_thread(metadata))
        self.adopt_thread(answer.body, messages)

    @rule(data=DATA, metadata=METADATA)
    def modify_thread(self, data: st.DataObject, metadata: Body) -> None:
        id = self.some_thread(data)
        answer = self.post(f"/threads/{id}", {"metadata": metadata})
        if id not in self.threads.living:
            refused(answer, 404)
            return
        before = self.threads[id]
        expect(answer.body, {**before, "metadata": metadata})
        self.threads.put(answer.body)
        for filters in (before["metadata"], metadata):
            self.check_threads_with(filters, EVERYTHING)

    @precondition(lambda self: len(self.threads.living) > 1)
    @rule(data=DATA)
    def delete_thread(self, data: st.DataObject) -> None:
        """All that is under it goes with it, also a run that is at work."""
        id = self.some_thread(data)
        self.delete(f"/threads/{id}", id, "thread.deleted", self.threads)
        if playing := self.playing.pop(id, None):
            playing.let_go()
        inside = self.inside.get(id, Inside())
        paths = ["", "/messages", "/runs"]
        paths += [f"/messages/{message_id}" for message_id in inside.messages.ids[-2:]]
        paths += [f"/runs/{run_id}" for run_id in inside.runs.ids[-2:]]
        paths += [f"/runs/{run_id}/steps" for run_id in inside.runs.ids[-2:]]
        for path in paths:
            refused(self.project.ask("GET", f"/threads/{id}{path}"), 404)

    @rule(data=DATA, metadata=METADATA)
    def list_threads(self, data: st.DataObject, metadata: dict[str, str]) -> None:
        asked = data.draw(page_requests(self.threads.ids, "thread"))
        self.check_threads_with(metadata, asked)

    def check_threads_with(self, metadata: Body, asked: Asked) -> None:
        filters = {f"metadata[{key}]": value for key, value in metadata.items()}
        page = self.threads.page(asked, {"metadata": metadata}, is_cursor_filtered=False)
        expect(self.project.page("/threads", asked, **filters), page)

    @rule(data=DATA)
    def ask_as_a_stranger(self, data: st.DataObject) -> None:
        """Another project's key opens nothing here."""
        path = f"/threads/{self.some_thread(data)}{data.draw(st.sampled_from(['', '/messages']))}"
        refused(self.stage.stranger.ask("GET", path), 404)
        said = Asking(path, {} if path.count("/") == 2 else {"role": "user", "content": "Hello"})
        refused(self.stage.stranger.post(said), 404)

    # --- messages -----------------------------------------------------------------------------

    @rule(data=DATA, asked=MESSAGES, has_key=HAS_KEY)
    def add_message(self, data: st.DataObject, asked: Body, *, has_key: bool) -> None:
        self.say(self.some_thread(data), asked, has_key=has_key)

    def say(self, thread_id: str, asked: Body, *, has_key: bool = False) -> None:
        answer = self.post(f"/threads/{thread_id}/messages", asked, has_key=has_key)
        if thread_id not in self.threads.living:
            refused(answer, 404)
        elif thread_id in self.playing:
            refused(answer, 400, f"while a run {self.playing[thread_id].run_id} is active")
        else:
            expect(answer.body, new_message(asked, thread_id=thread_id))
            self.inside[thread_id].add_message(answer.body)

    @precondition(Scene.has_messages)
    @rule(data=DATA, metadata=METADATA)
    def modify_message(self, data: st.DataObject, metadata: Body) -> None:
        thread_id, id = self.some_message(data)
        messages = self.inside[thread_id].messages
        answer = self.post(f"/threads/{thread_id}/messages/{id}", {"metadata": metadata})
        if id not in messages.living:
            refused(answer, 404)
        elif messages[id]["status"] == "in_progress":
            refused(answer, 400, "with status 'in_progress'")
        else:
            expect(answer.body, {**messages[id], "metadata": metadata})
            messages.put(answer.body)

    @precondition(Scene.has_messages)
    @rule(data=DATA)
    def delete_message(self, data: st.DataObject) -> None:
        """Also one that is being written."""
        thread_id, id = self.some_message(data)
        path = f"/threads/{thread_id}/messages/{id}"
        self.delete(path, id, "thread.message.deleted", self.inside[thread_id].messages)

    @precondition(Scene.has_messages)
    @rule(data=DATA)
    def list_messages(self, data: st.DataObject) -> None:
        thread_id, _ = self.some_message(data)
        inside = self.inside[thread_id]
        asked = data.draw(page_requests(inside.messages.ids, "msg"))
        run_id = data.draw(st.sampled_from([None, *inside.runs.ids]))
        filters = {"run_id": run_id} if run_id else {}
        page = self.project.page(f"/threads/{thread_id}/messages", asked, **filters)
        expect(page, inside.messages.page(asked, filters))
