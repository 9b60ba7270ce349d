"""Whether this machine can keep code in a box; where it can't, the tests say so at their end.

A test that needs a sandbox begins with `need_sandbox()`. What it skips is no ordinary skip: it is
listed aloud behind the results, as nothing has shown that code is contained.
"""

import shutil
from typing import Final

import pytest

NOT_TESTED: Final = "NOT TESTED"
PROGRAM: Final = "bwrap"


def need_sandbox() -> None:
    """Skip what runs code, loudly, where there is no bubblewrap."""
    if shutil.which(PROGRAM) is None:
        pytest.skip(f"{NOT_TESTED}: code in a sandbox, as bubblewrap is not installed")


def summary(skipped: list[pytest.TestReport]) -> list[str]:
    """A line for each reason that is to be said aloud, with how many tests it took."""
    counts: dict[str, int] = {}
    for report in skipped:
        told = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
        _, mark, reason = told.partition(f"{NOT_TESTED}: ")
        if mark:
            counts[reason] = counts.get(reason, 0) + 1
    return [f"{NOT_TESTED} ({count} tests): {reason}" for reason, count in sorted(counts.items())]
