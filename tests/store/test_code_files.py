"""What code has made is found by the next session, and goes with its thread."""

from rethread.store import code_files, threads
from rethread.store.database import Database

THREAD = "thread_a"


async def test_a_path_has_the_file_that_was_made_last_and_goes_with_its_thread(
    db: Database,
) -> None:
    await db.write(threads.adding("project", THREAD, b"{}", now=1))
    for path, file_id in (("a", "file-1"), ("b/c", "file-2"), ("a", "file-3"), ("d", "file-4")):
        await db.write(*code_files.keeping(THREAD, path, file_id))
    await code_files.forget(db, THREAD, ["d", "none"])
    assert await code_files.of_thread(db, THREAD) == {"a": "file-3", "b/c": "file-2"}
    await threads.delete(db, "project", THREAD)
    await db.write(*code_files.keeping(THREAD, "late", "file-5"))
    while await threads.purge_some(db):
        pass
    assert await code_files.of_thread(db, THREAD) == {}
