"""The code in a call's arguments, while the model writes them. Pure.

Arguments should be {"code": "…"}, and come in pieces that are cut anywhere: the code is known as
far as it is written. What models write in its place is understood too: another of the keys, one
string, or nothing but the code.
"""

import json
import re
from typing import Any, Final

KEYS: Final = ("code", "input", "python", "source")
# The object of nearly every call: its code begins at once, and can be read while it is written.
OPENED: Final = re.compile(rf'\s*\{{\s*"(?:{"|".join(KEYS)})"\s*:\s*"')
# A piece of a JSON string that means something by itself: both halves of a surrogate pair, and
# line breaks as they are, which JSON does not allow and models write.
HIGH: Final = r"\\u[dD][89abAB][0-9a-fA-F]{2}"
LOW: Final = r"\\u[dD][c-fC-F][0-9a-fA-F]{2}"
WHOLE: Final = re.compile(rf'(?:[^"\\]|{HIGH}{LOW}|(?!{HIGH})\\(?:["\\/bfnrt]|u[0-9a-fA-F]{{4}}))+')
LONE_HALF: Final = re.compile("[\ud800-\udfff]")
UNREADABLE: Final = (
    "The code was not run: the arguments of the call are not JSON ({problem}). Call again with "
    '{{"code": "…"}}, with quotes, backslashes and line breaks in the code escaped.'
)
NO_CODE: Final = 'There was no code to run: give {"code": "…"}.'


class Written:
    """The code of one call: `code` is what is known of it, and `problem` why it cannot be run."""

    def __init__(self) -> None:
        self._arguments: list[str] = []
        self._code: list[str] = []
        self._unread = ""
        self._is_open = False  # inside the string that is the code
        self._is_bare = False  # nothing but the code
        self.problem = ""

    @property
    def code(self) -> str:
        """What is known of it by now."""
        return "".join(self._code)

    def feed(self, arguments: str) -> str:
        """More of the code."""
        self._arguments.append(arguments)
        self._unread += arguments
        if not self._is_open and not self._is_bare:
            self._begin()
        if self._is_bare:
            more, self._unread = self._unread, ""
            return self._add(more)
        found = WHOLE.match(self._unread) if self._is_open else None
        if found is None:
            return ""
        self._unread = self._unread[found.end() :]
        return self._add(_unescaped(found[0]))

    def end(self) -> str:
        """The rest of the code, as nothing follows; the problem is known then."""
        more = ""
        if not self._is_bare:
            try:
                code = _code_in("".join(self._arguments))
            except (ValueError, RecursionError) as problem:
                self.problem = UNREADABLE.format(problem=problem)
            else:
                more = self._add(code[len(self.code) :])
        if not self.problem and not self.code.strip():
            self.problem = NO_CODE
        return more

    def _begin(self) -> None:
        """Find out how the arguments begin; a string, and an object of other keys, is read last."""
        opened = OPENED.match(self._unread)
        begun = self._unread.lstrip()[:1]
        if opened:
            self._is_open, self._unread = True, self._unread[opened.end() :]
        elif begun and begun not in '{"':
            self._is_bare = True

    def _add(self, code: str) -> str:
        code = LONE_HALF.sub("\N{REPLACEMENT CHARACTER}", code)  # it could not be encoded
        self._code.append(code)
        return code


def _code_in(arguments: str) -> str:
    """The code in arguments that are whole; empty where there is none, ValueError for bad JSON."""
    begun = arguments.strip()[:1]
    if begun != "{":
        try:
            inner = _decoded(arguments) if begun == '"' else None
        except ValueError:  # code that begins with a string
            inner = None
        return _code_in(inner) if isinstance(inner, str) else arguments
    pairs = _decoded(arguments)
    named = [value for key, value in pairs if key in KEYS and isinstance(value, str)]
    texts = named or [value for _, value in pairs if isinstance(value, str)]
    return texts[0] if named or len(texts) == 1 else ""


def _unescaped(piece: str) -> str:
    return str(_decoded(f'"{piece}"'))


def _decoded(text: str) -> Any:
    """JSON in which strings may have line breaks; objects are lists of pairs."""
    return json.loads(text, strict=False, object_pairs_hook=list)
