"""Tokens spent: the model server's count, our own where it gives none, and sums. Pure."""

from collections.abc import Callable

from rethread.contract.chat import ChatRequest, ChatUsage
from rethread.contract.runs import CachedTokens, ReasoningTokens, Usage


def counted(usage: ChatUsage) -> Usage:
    """The model server's usage as a run shows it."""
    prompt = usage.prompt_tokens_details
    completion = usage.completion_tokens_details
    return Usage(
        prompt_tokens=usage.prompt_tokens or 0,
        completion_tokens=usage.completion_tokens or 0,
        total_tokens=usage.total_tokens
        or (usage.prompt_tokens or 0) + (usage.completion_tokens or 0),
        prompt_token_details=CachedTokens((prompt and prompt.cached_tokens) or 0),
        completion_tokens_details=ReasoningTokens(
            (completion and completion.reasoning_tokens) or 0
        ),
    )


def added(spent: Usage, usage: Usage | None) -> Usage:
    """The sum of both."""
    if usage is None:
        return spent
    cached = spent.prompt_token_details.cached_tokens + usage.prompt_token_details.cached_tokens
    reasoning = (
        spent.completion_tokens_details.reasoning_tokens
        + usage.completion_tokens_details.reasoning_tokens
    )
    return Usage(
        prompt_tokens=spent.prompt_tokens + usage.prompt_tokens,
        completion_tokens=spent.completion_tokens + usage.completion_tokens,
        total_tokens=spent.total_tokens + usage.total_tokens,
        prompt_token_details=CachedTokens(cached),
        completion_tokens_details=ReasoningTokens(reasoning),
    )


def estimated(request: ChatRequest, written: str, *, count: Callable[[str], int]) -> Usage:
    """Our own count of a call, for a model server that reports no usage."""
    asked = sum(count(str(message.content or "")) for message in request.messages)
    answered = count(written)
    return Usage(prompt_tokens=asked, completion_tokens=answered, total_tokens=asked + answered)
