-- What code has made: a path under /mnt/data, and the file that has its bytes now.
CREATE TABLE code_files (
    thread_id TEXT NOT NULL,
    path TEXT NOT NULL,
    file_id TEXT NOT NULL,
    PRIMARY KEY (thread_id, path)
);

-- Which server has a thread's session, or had it last. The row of one that is over stays: whoever
-- makes the next one knows by it that there was one before.
CREATE TABLE code_sessions (
    thread_id TEXT PRIMARY KEY,
    id TEXT NOT NULL,
    server TEXT NOT NULL,
    used_at BIGINT NOT NULL
);

-- Until then, in milliseconds, a run that waits is left to its server, which has the session of
-- its thread. NULL: anybody may claim it.
ALTER TABLE work ADD COLUMN kept_until BIGINT;
