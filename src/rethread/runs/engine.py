"""What every driver of this process works with."""

from collections.abc import Callable
from typing import NamedTuple

from rethread.blobs import Blobs
from rethread.providers import Provider
from rethread.store.database import Database
from rethread.store.events import EventLog
from rethread.tools.code_interpreter.sessions import Sessions
from rethread.tools.file_search.search import Search


class Engine(NamedTuple):
    """What every driver needs."""

    db: Database
    blobs: Blobs
    log: EventLog
    provider: Provider
    resolve_model: Callable[[str], str]  # a run's model → the id that the model server knows
    context_window: Callable[[str], int]  # a run's model → tokens that a prompt may hold
    count_tokens: Callable[[str], int]
    clock: Callable[[], float]
    search: Search
    file_wait_seconds: float = 60  # for the thread's files, before the model is called
    code: Sessions | None = None
    code_calls_per_run: int = 20
