"""What the server's own tools are called beside the client's functions. Pure."""


def free_name(name: str, taken: frozenset[str]) -> str:
    """The name, or the next one with a number that is not taken."""
    free, count = name, 1
    while free in taken:
        count += 1
        free = f"{name}_{count}"
    return free
