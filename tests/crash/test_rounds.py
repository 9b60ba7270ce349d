"""One short round of each scenario, so that `make crash` goes on working.

The full game is `make crash`: twenty rounds of a hundred runs each, and a crash at any moment.
"""

import pytest

from tests.crash.application import Application
from tests.crash.findings import Findings
from tests.crash.model import answering
from tests.crash.places import SCENARIOS, Scenario, place_of
from tests.crash.rounds import Plan, play
from tests.fakes.model_server import ModelServer

RUNS = 10
PLAN = Plan(begun=1, crash_after=0.2, down_for=0.2)


@pytest.mark.parametrize("scenario", SCENARIOS)
async def test_a_crash_under_load_loses_and_repeats_nothing(
    scenario: Scenario, model_server: ModelServer
) -> None:
    model_server.answer = answering(seconds=1.5)
    with place_of(scenario, model_server) as place:
        application = Application(place.ports)
        await application.prepare()
        findings, notes = await play(place, application, PLAN, name="r1", runs=RUNS)
        await application.close()
        place.look_at_logs()
    assert findings.said == []
    assert findings.wrong == 0
    assert findings.runs == RUNS >= findings.under_way > 0
    assert findings.calls == sum(number % 3 == 0 for number in range(RUNS))
    assert findings.writes == sum(each.count for each in notes) > 5 * RUNS
    assert place.tracebacks == set()


def test_what_is_wrong_is_counted() -> None:
    findings = Findings()
    findings.lost += findings.note("msg_1 is None", "thread_1")
    assert findings.note("is completed", "thread_1", is_wrong=False) == 0
    assert findings.wrong == 1
    assert findings.said == ["thread_1: msg_1 is None"]
