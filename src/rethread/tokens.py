"""How many tokens a text has, and which, by OpenAI's `o200k_base`.

Its vocabulary comes with the package. Other models count a little differently; the usage that
a run reports is the model server's.
"""

import sys
from array import array
from functools import cache
from typing import Final

import splintr

ID_BYTES: Final = 4
VOCABULARY: Final = 200_100  # no id is as high
SPECIAL: Final = "<|"  # how every token begins that is no text


def count(text: str) -> int:
    """The number of tokens; some 80 MB of text a second, after a first call of 0.1 s."""
    return len(encoded(text)) // ID_BYTES


def encoded(text: str) -> bytes:
    """The ids of its tokens, each of four bytes in the machine's order."""
    # The quicker way takes a special token that is spelled out for one.
    if SPECIAL in text or sys.byteorder == "big":
        return array("I", _tokenizer().encode_ordinary(text)).tobytes()
    return _tokenizer().encode_flat(text)


def spelled(token: int) -> bytes:
    """The UTF-8 of a token, which may begin or end within a character."""
    return _tokenizer().decode_token_bytes(token)


@cache
def _tokenizer() -> splintr.AnyTokenizer:
    return splintr.Tokenizer.from_pretrained("o200k_base")
