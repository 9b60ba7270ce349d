"""What the fake model server answers where embeddings are asked for: vectors by the words."""

import base64
import math
import struct
import zlib
from typing import Any

from tests.fakes.replies import Reply

DIMENSIONS = 32


def embeddings(body: Any, *, dimensions: int = DIMENSIONS, is_base64: bool = False) -> Reply:
    """The answer to a request: texts with the same words have vectors that are near."""
    found = [vector(text, dimensions) for text in body["input"]]
    return listed(*([packed(each) for each in found] if is_base64 else found))


def listed(*vectors: object, **more: object) -> Reply:
    """An answer with these vectors."""
    items = [
        {"object": "embedding", "index": index, "embedding": each}
        for index, each in enumerate(vectors)
    ]
    return Reply(whole={"object": "list", "data": items, "model": "e", **more})


def vector(text: str, dimensions: int = DIMENSIONS) -> list[float]:
    """Not normalised, as some servers' are."""
    numbers = [0.01] * dimensions
    for word in text.lower().split():
        numbers[zlib.crc32(word.encode()) % dimensions] += 2.0
    return numbers


def packed(numbers: list[float]) -> str:
    """As OpenAI packs a vector."""
    return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()


def normalised(numbers: list[float]) -> list[float]:
    """What becomes of a vector, but for rounding."""
    length = math.sqrt(sum(number * number for number in numbers))
    return [number / length for number in numbers]
