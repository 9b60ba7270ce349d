"""What the model is shown of searches: its own run's, with marks to cite, as much as has room."""

from typing import Any, Final

from rethread.contract.chat import ChatMessage
from rethread.contract.messages import (
    FileCitation,
    FileCitationAnnotation,
    Message,
    TextPart,
    TextValue,
)
from rethread.contract.runs import Run
from rethread.contract.steps import (
    FileSearch,
    FileSearchCall,
    FileSearchResult,
    FunctionCall,
    FunctionResult,
    ResultText,
    SearchRanking,
    Step,
    ToolCall,
    ToolCallsDetails,
)
from rethread.contract.tools import (
    FileSearchChoice,
    FileSearchOptions,
    FileSearchTool,
    FunctionDefinition,
    FunctionTool,
    RankingOptions,
)
from rethread.runs import prompt
from rethread.runs.lifecycle import end_step, new_step
from rethread.runs.window import Window
from rethread.tools.file_search import tool
from tests.objects import NOW, a_message, a_run

RUN: Final = a_run(status="in_progress")
EARLIER: Final = a_run(status="in_progress")


def words(text: str) -> int:
    """A tokenizer that can be counted with by hand."""
    return len(text.split())


def result(file: str, text: str, page: int | None = None) -> FileSearchResult:
    return FileSearchResult(
        file_id=f"file-{file}",
        file_name=f"{file}.md",
        score=0.5,
        content=[ResultText(text)],
        page=page,
    )


def a_search(*results: FileSearchResult, turn: int = 0, **fields: Any) -> FileSearchCall:
    search = FileSearch(
        ranking_options=SearchRanking(),
        results=list(results),
        **{"queries": ["birds"], "turn": turn, **fields},
    )
    return FileSearchCall(id=f"call_{turn}", file_search=search)


def searched(*calls: ToolCall, run: Run = RUN) -> Step:
    step = new_step(run, ToolCallsDetails(), now=NOW)
    return end_step(step, "completed", now=NOW, details=ToolCallsDetails(list(calls)))


def filled(*newest_first: Message | Step, budget: int = 10_000, name: str = tool.NAME) -> Window:
    window = Window(
        budget_tokens=budget,
        last_messages=None,
        count=words,
        fixed=(),
        run_id=RUN.id,
        search_name=name,
    )
    for item in newest_first:
        window.take(item)
    return window


def test_a_search_of_the_run_is_shown_as_a_call_with_its_passages_under_marks() -> None:
    step = searched(a_search(result("a", "Birds fly.", page=3), result("b 【x】", "Fish swim.")))
    window = filled(step, a_message("thread_a", "Which fly?"), name="file_search_2")
    _, asked, given = window.messages()
    assert asked.tool_calls == [
        {
            "id": "call_0",
            "type": "function",
            "function": {"name": "file_search_2", "arguments": '{"queries":["birds"]}'},
        }
    ]
    assert (given.role, given.tool_call_id) == ("tool", "call_0")
    assert isinstance(given.content, str)
    assert given.content.endswith(
        "\n\n【0:0†a.md】 (page 3)\nBirds fly.\n\n【0:1†b _x_.md】\nFish swim."
    )
    assert window.cited == {"【0:0†a.md】": "file-a", "【0:1†b _x_.md】": "file-b 【x】"}


def test_what_earlier_runs_found_is_left_out_and_their_functions_and_citations_stay() -> None:
    mark = "【0:0†old.md】"
    cited = FileCitationAnnotation(mark, 0, len(mark), FileCitation("file-old"))
    answer = a_message("thread_a", role="assistant", run_id=EARLIER.id)
    answer.content[:] = [TextPart(TextValue(mark, [cited]))]
    function = FunctionCall(id="call_f", function=FunctionResult("weather", "{}", "sunny"))
    mixed = searched(a_search(result("c", "Old.")), function, run=EARLIER)
    alone = searched(a_search(result("c", "Old.")), run=EARLIER)
    window = filled(a_message("thread_a", "And now?"), answer, mixed, alone)
    assert [(each.role, each.tool_call_id) for each in window.messages()] == [
        ("assistant", None),
        ("tool", "call_f"),
        ("assistant", None),
        ("user", None),
    ]
    assert window.cited == {mark: "file-old"}
    # The same mark of the run's own search is the newer one.
    own = searched(a_search(result("old", "New.")))
    assert filled(own, answer).cited == {mark: "file-old"}
    own = searched(a_search(result("x", "New.")), a_search(turn=1))
    assert set(filled(own, answer).cited) == {mark, "【0:0†x.md】"}


def test_passages_have_half_of_the_room_beside_the_question_and_earlier_searches() -> None:
    question = a_message("thread_a", "one two three four five six")
    assert filled(question, budget=110).room_for_passages == 50
    step = searched(a_search(result("a", "word " * 10)))
    spent = 110 - 2 * filled(step, question, budget=110).room_for_passages
    assert 40 < spent < 100
    older = [a_message("thread_a", "word " * 20) for _ in range(3)]
    assert filled(question, *older, budget=110).room_for_passages == 50


def test_where_the_question_has_no_room_beside_what_was_found_the_window_says_so() -> None:
    asked = [a_message("thread_a", "word " * 20) for _ in range(2)]
    steps = [searched(a_search(result("a", "word " * 30), turn=turn)) for turn in (1, 0)]
    seen = set()
    for budget in range(0, 400, 10):
        window = filled(*steps, *asked, budget=budget)
        questions = sum(each.role == "user" for each in window.messages())
        assert window.lacks_question == (questions == 0)
        seen.add((questions, len(window.messages()), window.lacks_newest))
    # Nothing; a search of two; both; the question too; and an older message.
    assert seen == {(0, 0, True), (0, 2, False), (0, 4, False), (1, 5, False), (2, 6, False)}


def test_what_has_no_room_is_left_out_but_never_all() -> None:
    results = [result("a", "word " * 30), result("b", "word " * 30), result("c", "word " * 30)]
    for room, lengths in ((10_000, [30, 30, 30]), (115, [30, 30]), (70, [27]), (0, [0])):
        taken = tool.fitting(results, turn=0, tokens_left=room, count=words)
        assert [words(tool.text_of(each)) for each in taken] == lengths, room


def test_the_model_is_told_why_there_are_no_passages() -> None:
    for fields, said in (
        ({"queries": []}, tool.NO_QUERY),
        ({"has_files": False}, tool.NO_FILES),
        ({}, tool.NOTHING_FOUND),
    ):
        assert tool.output(a_search(**fields).file_search) == said


def request(run: Run, *, is_first_turn: bool = True, may_search: bool = True) -> Any:
    return prompt.request(
        run,
        [ChatMessage(role="user", content="x")],
        additional_instructions=None,
        is_first_turn=is_first_turn,
        completion_tokens_left=None,
        own=prompt.OwnTools(may_search),
    )


def test_file_search_is_offered_under_a_name_that_no_function_has() -> None:
    own = FunctionTool(function=FunctionDefinition(name="file_search"))
    run = a_run(tools=[own, FileSearchTool()], tool_choice=FileSearchChoice())
    asked = request(run)
    assert [each["function"]["name"] for each in asked.tools] == ["file_search", "file_search_2"]
    assert asked.tool_choice == {"type": "function", "function": {"name": "file_search_2"}}
    assert request(run, is_first_turn=False).tool_choice is None
    offer = prompt.offer(run)
    assert (set(offer.functions), offer.search) == ({"file_search"}, "file_search_2")
    assert [each["function"]["name"] for each in request(run, may_search=False).tools] == [
        "file_search"
    ]


def test_a_run_that_searches_for_ever_is_not_offered_it_any_more() -> None:
    ranking = RankingOptions(score_threshold=0.25, ranker="auto")
    run = a_run(tools=[FileSearchTool(file_search=FileSearchOptions(ranking_options=ranking))])
    made = [searched(a_search(), a_search(turn=1), run=run)] * prompt.MOST_SEARCHING_ANSWERS
    offer = prompt.offer(run, made[1:])
    assert (offer.search, offer.searches_before) == ("file_search", 2 * len(made) - 2)
    assert offer.ranking == SearchRanking("auto", 0.25)
    assert prompt.offer(run, made).search is None
    assert prompt.offer(a_run(tools=[FileSearchTool()], tool_choice="none")).search is None
