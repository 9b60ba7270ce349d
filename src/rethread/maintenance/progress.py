"""How far a long command has come: a bar on a terminal, elsewhere a line for each part."""

import sys
import time
from typing import Final

DRAW_EVERY_SECONDS: Final = 0.1
WIDTH: Final = 30


class Progress:
    """Shows one part after the other on standard error; `begin` ends the part before."""

    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty()
        self._name = ""
        self._total = 0
        self._done = 0
        self._unit = ""
        self._began = 0.0
        self._drawn = 0.0

    def begin(self, name: str, total: int, *, unit: str, done: int = 0) -> None:
        """A new part, of which `done` were done in an earlier attempt."""
        self._name, self._total, self._unit = name, total, unit
        self._done = done
        self._began, self._drawn = time.monotonic(), 0.0
        self._draw()

    def reach(self, done: int, total: int | None = None) -> None:
        """So many are done now."""
        self._done = done
        self._total = self._total if total is None else total
        if time.monotonic() - self._drawn >= DRAW_EVERY_SECONDS:
            self._draw()

    def add(self, count: int) -> None:
        """So many more are done."""
        self.reach(self._done + count)

    def end(self) -> None:
        """The part is done; one that had nothing to do is not worth a line."""
        seconds = time.monotonic() - self._began
        self._clear()
        if not self._done:
            return
        line = f"{self._name}: {self._done:,} {self._unit} in {seconds:.1f} s"
        print(line, file=sys.stderr, flush=True)

    def break_off(self) -> None:
        """The part is not done: leave the line to what comes."""
        self._clear()

    def _draw(self) -> None:
        self._drawn = time.monotonic()
        if not self._is_terminal:
            return
        share = min(1.0, self._done / self._total) if self._total else 1.0
        filled = int(share * WIDTH)
        bar = "#" * filled + "." * (WIDTH - filled)
        counts = f"{self._done:,} of {self._total:,} {self._unit}"
        print(f"\r\x1b[2K{self._name} [{bar}] {share:4.0%}  {counts}", end="", file=sys.stderr)
        sys.stderr.flush()

    def _clear(self) -> None:
        if self._is_terminal:
            print("\r\x1b[2K", end="", file=sys.stderr, flush=True)
