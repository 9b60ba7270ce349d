"""A thread's session is where its row says, as long as that server lives and stays."""

from rethread.store import code_sessions, servers
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
