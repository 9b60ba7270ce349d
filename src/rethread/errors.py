"""What can go wrong, without HTTP.

    RethreadError
    ├── Invalid          the request breaks the contract; `param` names the field, `code` the rule
    ├── NotFound         no such object, or none in this project
    │   ├── NoSuchFile       the same of a file, in OpenAI's other words
    │   └── NotInStore       a file that is not in this vector store
    ├── Forgotten        what belongs to an object is not kept any longer
    ├── UnknownModel     no such model, at the model server or as an alias
    ├── Conflict         well-formed, but the object's state refuses it now
    │   └── ThreadLocked     a run holds the thread; it may come free by itself
    ├── KeyReused        an idempotency key came again with another request
    ├── Unauthorized     no API key, or a wrong one
    ├── Forbidden        a request without a key that another machine's page may have sent
    ├── TooLarge         a body past the limit
    ├── TooSlow          a body that stopped coming
    ├── Raced            a write was refused for a reason that has gone: do it again
    ├── Unavailable      a part that we need does not answer now; trying again may help
    ├── ModelError       the model's server failed a call; `code` is a run's `last_error.code`
    ├── Missing          bytes that were kept are not where they should be
    ├── Damaged          stored data that is not what it was, or not ours
    └── Misconfigured    a setting that can't be; stops the start

`http/refusals.py` is the one place that maps these to statuses.
"""

from typing import Final, Literal

ModelErrorCode = Literal["server_error", "rate_limit_exceeded", "invalid_prompt"]

LONGEST_QUOTED: Final = 100  # characters of what a client sent that a message gives back


def shortened(value: str) -> str:
    """A value as messages quote it: whole, unless it is longer than any that was meant."""
    return value if len(value) <= LONGEST_QUOTED else f"{value[:LONGEST_QUOTED]}…"


class RethreadError(Exception):
    """The root of the family; `message` is fit for a client's eyes."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Invalid(RethreadError):
    """A request that the contract does not allow."""

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.param = param
        self.code = code


class NotFound(RethreadError):
    """An id that this project does not have; `param` is what OpenAI says of it."""

    param: str | None = None

    def __init__(self, noun: str, id: str) -> None:
        super().__init__(f"No {noun} found with id '{shortened(id)}'.")


class NoSuchFile(NotFound):
    """A file that this project does not have."""

    param = "id"

    def __init__(self, id: str) -> None:
        RethreadError.__init__(self, f"No such File object: {shortened(id)}")


class NotInStore(NotFound):
    """A file that there may be, but not in this vector store."""

    def __init__(self, file_id: str, store_id: str) -> None:
        RethreadError.__init__(
            self, f"No file found with id '{shortened(file_id)}' in vector store '{store_id}'."
        )


class Forgotten(RethreadError):
    """What belonged to an object and was kept for a time only."""


class UnknownModel(RethreadError):
    """A model that neither the model server nor an alias knows."""

    def __init__(self, id: str) -> None:
        super().__init__(f"The model '{shortened(id)}' does not exist")


class Conflict(RethreadError):
    """A request that is well-formed, but not now."""


class ThreadLocked(Conflict):
    """A run holds the thread; `run_id` says which."""

    def __init__(self, message: str, *, run_id: str) -> None:
        super().__init__(message)
        self.run_id = run_id


class KeyReused(RethreadError):
    """An idempotency key that already stands for another request."""


class Unauthorized(RethreadError):
    """No API key, or one that is unknown or revoked."""

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code


class Forbidden(RethreadError):
    """A request without a key that is not clearly from this machine."""

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.code = code


class TooLarge(RethreadError):
    """A request body past the limit."""


class TooSlow(RethreadError):
    """A request body that stopped coming before its end."""


class Raced(RethreadError):
    """A write was refused, yet the reason had gone when it was asked for."""


class Unavailable(RethreadError):
    """Something that we need does not answer now; trying again may help.

    `reason` is for the log: a few words of ours, as `ModelError` has them.
    """

    def __init__(self, message: str, *, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason


class ModelError(RethreadError):
    """A model call that failed for good, in the model server's own words.

    Those may quote what was said, so they are no words for the log. `reason` is: `unreachable`,
    `stalled`, `cut`, `no answer`, `garbage`, `status 404` and the like, and nothing from outside.
    """

    def __init__(
        self, message: str, *, code: ModelErrorCode = "server_error", reason: str = ""
    ) -> None:
        super().__init__(message)
        self.code: ModelErrorCode = code
        self.reason = reason


class Missing(RethreadError):
    """Bytes that were kept are not where they should be: deleted at this moment, or lost."""


class Damaged(RethreadError):
    """Stored data that is not what it was when it was written, or not of this program."""


class Misconfigured(RethreadError):
    """A setting that can't be; the message is one line that says which and why."""
