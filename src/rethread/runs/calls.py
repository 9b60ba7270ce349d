"""The tool calls of one answer of the model, while they are streamed. Pure.

Functions are the client's to run, and their arguments are streamed to it. A search is the
server's: it is announced, and what it was asked is known at the end. So is code, and it is streamed
as it is written.
"""

from typing import Final, NamedTuple

import msgspec
from msgspec import structs

from rethread.contract import new_id
from rethread.contract.chat import ToolCallDelta
from rethread.contract.steps import (
    CallDelta,
    CodeInterpreter,
    CodeInterpreterCall,
    CodeInterpreterCallDelta,
    CodeInterpreterDelta,
    FileSearch,
    FileSearchCall,
    FileSearchCallDelta,
    FunctionCall,
    FunctionCallDelta,
    FunctionDelta,
    FunctionResult,
    SearchRanking,
    ToolCall,
)
from rethread.errors import ModelError
from rethread.tools.code_interpreter.tool import TOO_MANY_CALLS
from rethread.tools.code_interpreter.written import Written
from rethread.tools.file_search import tool

EMPTY_ARGUMENTS: Final = "{}"


class Offer(NamedTuple):
    """What the model may call: the client's functions, and our tools by their names here."""

    functions: frozenset[str] = frozenset()
    search: str | None = None
    ranking: SearchRanking = SearchRanking()
    searches_before: int = 0  # that the run has made in earlier answers
    code: str | None = None
    code_calls_left: int = 0

    def __bool__(self) -> bool:
        return bool(self.functions) or self.search is not None or self.code is not None


class _Call:
    """A call while it is being streamed."""

    def __init__(self, id: str, index: int | None) -> None:
        self.id = self.upstream_id = id
        self.upstream_index = index
        self.name = ""
        self.arguments = ""
        self.is_announced = False
        self.code = Written()  # what of them is code, where it is a call of that


class Calls:
    """The calls of an answer, in the order in which they began."""

    def __init__(self, offer: Offer) -> None:
        self._offer = offer
        self._calls: list[_Call] = []
        self._written: list[str] = []

    def __bool__(self) -> bool:
        return bool(self._calls)

    @property
    def written(self) -> str:
        """What the model wrote to make them."""
        return "".join(self._written)

    def add(self, piece: ToolCallDelta) -> list[CallDelta]:
        """The deltas that a piece makes."""
        call = self._call_of(piece)
        name = (piece.function.name if piece.function else None) or ""
        arguments = (piece.function.arguments if piece.function else None) or ""
        # Some servers repeat the name in every piece; the first one counts.
        call.name = call.name or name
        call.arguments += arguments
        self._written.append(arguments if call.is_announced else name + arguments)
        deltas: list[CallDelta] = []
        for each in self._calls:  # in order: the SDKs put a call at its index into a list
            if not each.name:
                break
            self._announce(each, arguments if each is call else "", deltas)
        return deltas

    def check(self) -> None:
        """ModelError for what is not offered, or cannot be handed on."""
        for call in self._calls:
            self._check(call)

    def end(self) -> list[CallDelta]:
        """The last deltas: arguments that were never given are none."""
        deltas: list[CallDelta] = []
        for call in self._calls:
            if self._is_code(call):
                deltas += self._code_deltas(call, call.code.end())
            elif not call.arguments.strip():
                call.arguments = EMPTY_ARGUMENTS
                if not self._is_search(call):
                    deltas.append(self._function_delta(call, FunctionDelta(EMPTY_ARGUMENTS)))
        return deltas

    def made(self) -> list[ToolCall]:
        """The calls as a step has them, with nothing that came of them yet.

        Code that cannot be run says so already.
        """
        searches = codes = 0
        calls: list[ToolCall] = []
        for call in self._calls:
            if self._is_search(call):
                calls.append(self._search(call, turn=self._offer.searches_before + searches))
                searches += 1
            elif self._is_code(call):
                calls.append(self._code(call, is_one_too_many=codes >= self._offer.code_calls_left))
                codes += 1
            else:
                calls.append(
                    FunctionCall(id=call.id, function=FunctionResult(call.name, call.arguments))
                )
        return calls

    def _is_search(self, call: _Call) -> bool:
        return call.name == self._offer.search

    def _is_code(self, call: _Call) -> bool:
        return call.name == self._offer.code

    def _code(self, call: _Call, *, is_one_too_many: bool) -> CodeInterpreterCall:
        note = call.code.problem or (TOO_MANY_CALLS if is_one_too_many else "")
        code = CodeInterpreter(input=call.code.code, outputs=[], note=note)
        return CodeInterpreterCall(id=call.id, code_interpreter=code)

    def _search(self, call: _Call, *, turn: int) -> FileSearchCall:
        search = FileSearch(
            ranking_options=self._offer.ranking,
            results=[],
            queries=tool.queries_of(call.arguments),
            turn=turn,
        )
        return FileSearchCall(id=call.id, file_search=search)

    def _announce(self, call: _Call, arguments: str, deltas: list[CallDelta]) -> None:
        """A call's deltas; the first one has its id and name, and nothing of its arguments."""
        if not call.is_announced:
            deltas.append(self._first_delta(call))
            call.is_announced = True
            arguments = call.arguments
        if self._is_code(call):
            deltas += self._code_deltas(call, call.code.feed(arguments))
        elif arguments and not self._is_search(call):
            deltas.append(self._function_delta(call, FunctionDelta(arguments)))

    def _first_delta(self, call: _Call) -> CallDelta:
        index = self._calls.index(call)
        if self._is_search(call) or self._is_code(call):
            # Ours from here on: in the next prompts it must not be taken for another one.
            call.id = new_id("call")
        if self._is_search(call):
            search = FileSearch(ranking_options=self._offer.ranking, results=[])
            return FileSearchCallDelta(index=index, id=call.id, file_search=search)
        if self._is_code(call):
            nothing = CodeInterpreterDelta(input="", outputs=[])
            return CodeInterpreterCallDelta(index=index, id=call.id, code_interpreter=nothing)
        first = FunctionDelta("", name=call.name, output=None)
        return structs.replace(self._function_delta(call, first), id=call.id)

    def _code_deltas(self, call: _Call, code: str) -> list[CallDelta]:
        if not code:
            return []
        more = CodeInterpreterDelta(input=code)
        return [CodeInterpreterCallDelta(index=self._calls.index(call), code_interpreter=more)]

    def _function_delta(self, call: _Call, function: FunctionDelta) -> FunctionCallDelta:
        return FunctionCallDelta(index=self._calls.index(call), function=function)

    def _call_of(self, piece: ToolCallDelta) -> _Call:
        """The call that a piece belongs to; a new one for a new index, or a new id at an old one.

        Servers differ: some leave the index out or always say 0, some repeat the id, some say
        another id in every piece. Only the first piece of a call has its name.
        """
        here = [
            call
            for call in reversed(self._calls)
            if piece.index is None or piece.index == call.upstream_index
        ]
        for call in here:
            if piece.id == call.upstream_id:
                return call
        if here and not (piece.id and piece.function and piece.function.name):
            return here[0]
        taken = {call.upstream_id for call in self._calls}
        id = piece.id if piece.id and piece.id not in taken else new_id("call")
        self._calls.append(_Call(id, piece.index))
        return self._calls[-1]

    def _check(self, call: _Call) -> None:
        if self._is_search(call) or self._is_code(call):
            return  # one that says nothing, or cannot be read, is told so, and may be tried again
        if call.name not in self._offer.functions:
            raise ModelError(
                f"The model called the function '{call.name}', which this run does not offer.",
                reason="function not offered",
            )
        try:
            msgspec.json.decode(call.arguments.strip() or EMPTY_ARGUMENTS)
        except (msgspec.DecodeError, RecursionError) as problem:
            raise ModelError(
                f"The model called the function '{call.name}' with arguments that are not JSON: "
                f"{problem}.",
                reason="arguments not JSON",
            ) from problem
