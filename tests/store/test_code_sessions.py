"""A thread's session is where its row says, as long as that server lives and stays."""

from rethread.store import code_sessions, servers, threads
from rethread.store.database import Database, Statement
from rethread.store.servers import Server

HERE = Server("server_a", "home_a")
HOLD = "INSERT INTO code_sessions (thread_id, id, server, used_at) VALUES ($1, 's', $2, 0)"


async def test_the_holder_of_a_session_is_a_server_that_lives_and_stays(db: Database) -> None:
    await db.write(Statement(HOLD, "thread_a", HERE.id))
    holders = [await code_sessions.holder(db, "thread_a")]
    await servers.join(db, HERE)
    holders += [await code_sessions.holder(db, thread_id) for thread_id in ("thread_a", "thread_b")]
    await servers.begin_to_leave(db, HERE)
    holders += [await code_sessions.holder(db, "thread_a")]
    await servers.join(db, HERE)
    silent = int(servers.SILENCE_SECONDS * 1000)
    await db.write(Statement("UPDATE servers SET seen_at = seen_at - $1", silent))
    holders += [await code_sessions.holder(db, "thread_a")]
    assert holders == ["", HERE.id, "", "", ""]


async def test_a_thread_has_one_session_and_a_row_when_it_is_over(db: Database) -> None:
    await db.write(threads.adding("project", "thread_a", b"{}", now=1))
    befores = [
        await code_sessions.begin(db, thread_id, session_id, server="server_a")
        for thread_id, session_id in (("thread_a", "s1"), ("thread_a", "s2"), ("none", "s3"))
    ]
    assert befores == [False, True, False]
    asked = ["thread_a", "none"]
    await code_sessions.end(db, "thread_a", "s1")
    assert await code_sessions.current(db, asked) == {"thread_a": "s2"}
    await code_sessions.end(db, "thread_a", "s2")
    assert await code_sessions.current(db, asked) == {"thread_a": ""}
    await code_sessions.begin(db, "thread_a", "s4", server="server_b")
    await code_sessions.end_all(db, "server_a")
    assert await code_sessions.current(db, asked) == {"thread_a": "s4"}
    await code_sessions.end_all(db, "server_b")
    assert await code_sessions.current(db, asked) == {"thread_a": ""}
    await threads.delete(db, "project", "thread_a")
    assert await code_sessions.current(db, asked) == {}
