"""What the server says to a person when it starts. Text alone: it opens nothing."""

from collections.abc import Mapping


def greeting(
    *,
    address: tuple[str, int],
    upstream_url: str | None,
    aliases: Mapping[str, str],
    place: str,
    is_open: bool,
    embedder: str | None = None,
    has_sandbox: bool = True,
) -> str:
    """Where it listens, who answers, where things are kept, and a conversation to paste."""
    host, port = address
    shown = f"[{host}]" if ":" in host else host
    url = f"http://{shown}:{port}/v1"
    key = "any" if is_open else "YOUR_KEY"
    model = "client.models.list().data[0].id" if upstream_url else '"demo"'
    rows = {
        "rethread listens on": url,
        "model server": upstream_url or "the built-in model 'demo' (name one with --upstream)",
        "aliases": ", ".join(f"{name} = {model}" for name, model in aliases.items()),
        "file search": (
            f"by words, and by embeddings: {embedder}"
            if embedder
            else "by words (--embeddings upstream: by meaning too)"
        ),
        "code": "" if has_sandbox else "WITHOUT A SANDBOX: it can do what this server can",
        "keys": "none needed" if is_open else "needed (rethread keys create --project NAME)",
        "data": place,
    }
    told = "\n".join(f"{name:<20} {value}" for name, value in rows.items() if value)
    return (
        f"{told}\n\n"
        "Try it in Python (pip install openai):\n\n"
        f'    import openai; client = openai.OpenAI(base_url="{url}", api_key="{key}")\n'
        "    run = client.beta.threads.create_and_run_poll("
        f"assistant_id=client.beta.assistants.create(model={model}).id, "
        'thread={"messages": [{"role": "user", "content": "Hello!"}]})\n'
        "    print(client.beta.threads.messages.list(run.thread_id).data[0].content[0].text.value)"
        "\n"
    )
