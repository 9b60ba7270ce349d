"""What each row of `routes.py` asks and answers, for the OpenAPI document to tell.

Says nothing of how a request is handled. The rule: one row here for one row there; a test
compares the two, and another holds the served answers against what stands here.
"""

from typing import Final, Literal, NamedTuple

from msgspec import Struct

from rethread.contract import Deleted, ModelObject, ModelPage, Prefix
from rethread.contract import Request as Asked
from rethread.contract.assistants import Assistant, CreateAssistant, ModifyAssistant
from rethread.contract.files import CreateFile, File
from rethread.contract.messages import CreateMessage, Message, ModifyMessage
from rethread.contract.runs import (
    CreateRun,
    CreateThreadAndRun,
    ModifyRun,
    Run,
    SubmitToolOutputs,
)
from rethread.contract.searches import FoundPassages, SearchVectorStore
from rethread.contract.steps import Step
from rethread.contract.threads import CreateThread, ModifyThread, SearchResult, Thread
from rethread.contract.uploads import (
    AddUploadPart,
    CancelUpload,
    CompleteUpload,
    CreateUpload,
    Upload,
    UploadPart,
)
from rethread.contract.vector_stores import (
    CancelFileBatch,
    CreateFileBatch,
    CreateVectorStore,
    CreateVectorStoreFile,
    FileBatch,
    FileContent,
    ModifyVectorStore,
    ModifyVectorStoreFile,
    VectorStore,
    VectorStoreFile,
)


class About(Struct, frozen=True):
    """What answers here, for whoever opens the address; `documentation` is a path."""

    name: Literal["rethread"]
    version: str
    documentation: str


class Alive(Struct, frozen=True):
    """The process answers."""

    status: Literal["ok"]


class Readiness(Struct, frozen=True):
    """Whether requests can be served; `model_server` says who is asked, not how it is."""

    status: Literal["ready", "not ready"]
    store: str
    model_server: str


class Document(Struct, frozen=True):
    """An OpenAPI document: this one."""

    openapi: str


class Operation(NamedTuple):
    """One row. `lists` is the prefix of a list's ids; `answers` is then what its pages hold."""

    id: str
    route: str
    summary: str
    answers: type[Struct] | None  # None: an event stream and nothing else, or bytes
    asks: type[Asked] | None = None
    lists: Prefix | None = None
    streams: bool = False  # an event stream instead, where the body says `stream`
    has_include: bool = False
    has_run_id: bool = False
    has_metadata: bool = False
    has_search: bool = False
    has_purpose: bool = False
    has_filter: bool = False
    has_long_pages: bool = False
    file_field: str | None = None  # what it asks is a form, with a file in this field
    downloads: bool = False
    is_extension: bool = False  # OpenAI never had it
    locks: bool = False  # refused or held while a run holds the thread

    @property
    def method(self) -> str:
        """The HTTP method."""
        return self.route.split(" ")[0]

    @property
    def path(self) -> str:
        """The path, without a prefix."""
        return self.route.split(" ")[1]

    @property
    def is_stream(self) -> bool:
        """Whether it answers an event stream and nothing else."""
        return self.answers is None and not self.downloads

    @property
    def is_beta(self) -> bool:
        """Whether the OpenAI-Beta header is looked at."""
        return self.path.startswith(("/assistants", "/threads", "/vector_stores"))

    @property
    def needs_key(self) -> bool:
        """Whether it is answered to the holder of a key only."""
        return self.is_beta or self.path.startswith(("/files", "/models", "/uploads"))


A: Final = "/assistants/{assistant_id}"
T: Final = "/threads/{thread_id}"
M: Final = f"{T}/messages/{{message_id}}"
R: Final = f"{T}/runs/{{run_id}}"
F: Final = "/files/{file_id}"
U: Final = "/uploads/{upload_id}"
V: Final = "/vector_stores/{vector_store_id}"
VF: Final = f"{V}/files/{{file_id}}"
B: Final = f"{V}/file_batches/{{batch_id}}"

# The ids of OpenAI's operations are spelled as theirs, so that generated clients agree.
OPERATIONS: Final = (
    Operation("listAssistants", "GET /assistants", "List assistants", Assistant, lists="asst"),
    Operation(
        "createAssistant",
        "POST /assistants",
        "Create an assistant",
        Assistant,
        asks=CreateAssistant,
    ),
    Operation("getAssistant", f"GET {A}", "Retrieve an assistant", Assistant),
    Operation(
        "modifyAssistant", f"POST {A}", "Modify an assistant", Assistant, asks=ModifyAssistant
    ),
    Operation("deleteAssistant", f"DELETE {A}", "Delete an assistant", Deleted),
    Operation(
        "listThreads",
        "GET /threads",
        "List the project's threads",
        Thread,
        lists="thread",
        has_metadata=True,
        is_extension=True,
    ),
    Operation(
        "searchThreads",
        "GET /threads/search",
        "Find messages by their words",
        SearchResult,
        lists="msg",
        has_search=True,
        is_extension=True,
    ),
    Operation("createThread", "POST /threads", "Create a thread", Thread, asks=CreateThread),
    Operation(
        "createThreadAndRun",
        "POST /threads/runs",
        "Create a thread and run it",
        Run,
        asks=CreateThreadAndRun,
        streams=True,
    ),
    Operation("getThread", f"GET {T}", "Retrieve a thread", Thread),
    Operation("modifyThread", f"POST {T}", "Modify a thread", Thread, asks=ModifyThread),
    Operation("deleteThread", f"DELETE {T}", "Delete a thread with its messages and runs", Deleted),
    Operation(
        "listMessages",
        f"GET {T}/messages",
        "List a thread's messages",
        Message,
        lists="msg",
        has_run_id=True,
    ),
    Operation(
        "createMessage",
        f"POST {T}/messages",
        "Add a message to a thread",
        Message,
        asks=CreateMessage,
        locks=True,
    ),
    Operation("getMessage", f"GET {M}", "Retrieve a message", Message),
    Operation(
        "modifyMessage", f"POST {M}", "Modify a message's metadata", Message, asks=ModifyMessage
    ),
    Operation("deleteMessage", f"DELETE {M}", "Delete a message", Deleted),
    Operation("listRuns", f"GET {T}/runs", "List a thread's runs", Run, lists="run"),
    Operation(
        "createRun",
        f"POST {T}/runs",
        "Run a thread",
        Run,
        asks=CreateRun,
        streams=True,
        has_include=True,
        locks=True,
    ),
    Operation("getRun", f"GET {R}", "Retrieve a run", Run),
    Operation("modifyRun", f"POST {R}", "Modify the metadata of a run", Run, asks=ModifyRun),
    Operation("cancelRun", f"POST {R}/cancel", "Cancel a run", Run),
    Operation(
        "followRunEvents",
        f"GET {R}/events",
        "Replay and follow a run's events, from the first one on or behind any",
        None,
        has_include=True,
        is_extension=True,
    ),
    Operation(
        "listRunSteps", f"GET {R}/steps", "List a run's steps", Step, lists="step", has_include=True
    ),
    Operation(
        "getRunStep", f"GET {R}/steps/{{step_id}}", "Retrieve a run step", Step, has_include=True
    ),
    Operation(
        "submitToolOuputsToRun",
        f"POST {R}/submit_tool_outputs",
        "Give a run the outputs of all the calls that it waits for",
        Run,
        asks=SubmitToolOutputs,
        streams=True,
    ),
    Operation(
        "listFiles",
        "GET /files",
        "List the project's files",
        File,
        lists="file",
        has_purpose=True,
        has_long_pages=True,
    ),
    Operation(
        "createFile", "POST /files", "Upload a file", File, asks=CreateFile, file_field="file"
    ),
    Operation("retrieveFile", f"GET {F}", "Retrieve a file", File),
    Operation("deleteFile", f"DELETE {F}", "Delete a file", Deleted),
    Operation(
        "downloadFile", f"GET {F}/content", "Download what a file holds", None, downloads=True
    ),
    Operation(
        "createUpload",
        "POST /uploads",
        "Begin to upload a file in parts",
        Upload,
        asks=CreateUpload,
    ),
    Operation(
        "addUploadPart",
        f"POST {U}/parts",
        "Add a part to an upload",
        UploadPart,
        asks=AddUploadPart,
        file_field="data",
    ),
    Operation(
        "completeUpload",
        f"POST {U}/complete",
        "Make a file of the parts of an upload",
        Upload,
        asks=CompleteUpload,
    ),
    Operation("cancelUpload", f"POST {U}/cancel", "Cancel an upload", Upload, asks=CancelUpload),
    Operation(
        "listVectorStores", "GET /vector_stores", "List vector stores", VectorStore, lists="vs"
    ),
    Operation(
        "createVectorStore",
        "POST /vector_stores",
        "Create a vector store, with files or without",
        VectorStore,
        asks=CreateVectorStore,
    ),
    Operation("getVectorStore", f"GET {V}", "Retrieve a vector store", VectorStore),
    Operation(
        "modifyVectorStore",
        f"POST {V}",
        "Modify a vector store",
        VectorStore,
        asks=ModifyVectorStore,
    ),
    Operation("deleteVectorStore", f"DELETE {V}", "Delete a vector store, not its files", Deleted),
    Operation(
        "listVectorStoreFiles",
        f"GET {V}/files",
        "List the files in a vector store",
        VectorStoreFile,
        lists="file",
        has_filter=True,
    ),
    Operation(
        "createVectorStoreFile",
        f"POST {V}/files",
        "Add a file to a vector store",
        VectorStoreFile,
        asks=CreateVectorStoreFile,
    ),
    Operation("getVectorStoreFile", f"GET {VF}", "Retrieve a file in a store", VectorStoreFile),
    Operation(
        "updateVectorStoreFileAttributes",
        f"POST {VF}",
        "Give a file in a store other attributes",
        VectorStoreFile,
        asks=ModifyVectorStoreFile,
    ),
    Operation("deleteVectorStoreFile", f"DELETE {VF}", "Take a file out of a store", Deleted),
    Operation(
        "retrieveVectorStoreFileContent",
        f"GET {VF}/content",
        "Retrieve the text that was read in a file",
        FileContent,
    ),
    Operation(
        "searchVectorStore",
        f"POST {V}/search",
        "Search in a vector store",
        FoundPassages,
        asks=SearchVectorStore,
    ),
    Operation(
        "createVectorStoreFileBatch",
        f"POST {V}/file_batches",
        "Add files to a vector store",
        FileBatch,
        asks=CreateFileBatch,
    ),
    Operation("getVectorStoreFileBatch", f"GET {B}", "Retrieve a batch of files", FileBatch),
    Operation(
        "cancelVectorStoreFileBatch",
        f"POST {B}/cancel",
        "Read no more of a batch's files",
        FileBatch,
        asks=CancelFileBatch,
    ),
    Operation(
        "listFilesInVectorStoreBatch",
        f"GET {B}/files",
        "List the files of a batch",
        VectorStoreFile,
        lists="file",
        has_filter=True,
    ),
    Operation("listModels", "GET /models", "List the models and aliases", ModelPage),
    Operation("retrieveModel", "GET /models/{model}", "Retrieve a model", ModelObject),
    Operation("getRoot", "GET /", "Tell what answers here", About),
    Operation("getHealthz", "GET /healthz", "Tell that the process is alive", Alive),
    Operation("getHealth", "GET /health", "Tell that the process is alive", Alive),
    Operation("getReadyz", "GET /readyz", "Tell whether requests can be served", Readiness),
    Operation("getOpenapi", "GET /openapi.json", "Give this document", Document),
)
