-- Hot tables begin their key with thread_id, so that they can be spread by it.
-- Bodies are the JSON that clients get, byte for byte. Times are Unix seconds.
-- fingerprint: of the request that made a message or a run; of others it is not kept any more.
-- differs: the words in braces; each database lists what it puts in their place.

CREATE TABLE api_keys (
    id TEXT PRIMARY KEY,
    project TEXT NOT NULL,
    label TEXT,
    hint TEXT NOT NULL,
    hash {bytes} NOT NULL UNIQUE,
    created_at BIGINT NOT NULL,
    revoked_at BIGINT
);

CREATE TABLE assistants (
    number {serial},
    id {key},
    project TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    fingerprint {bytes},
    body {bytes} NOT NULL
);
CREATE INDEX assistants_by_project ON assistants (project, number);

-- active_run_id is the lock: a run that is not at its end holds the thread.
-- buried: the highest number of a deleted message, so that no number is given twice.
CREATE TABLE threads (
    number {serial},
    id {key},
    project TEXT NOT NULL,
    active_run_id TEXT,
    buried BIGINT NOT NULL DEFAULT 0,
    created_at BIGINT NOT NULL,
    fingerprint {bytes},
    body {bytes} NOT NULL
);
CREATE INDEX threads_by_project ON threads (project, number);

CREATE TABLE messages (
    thread_id TEXT NOT NULL,
    number BIGINT NOT NULL,
    id TEXT NOT NULL,
    run_id TEXT,
    created_at BIGINT NOT NULL,
    fingerprint {bytes},
    body {bytes} NOT NULL,
    PRIMARY KEY (thread_id, number)
);
CREATE UNIQUE INDEX messages_by_id ON messages (thread_id, id);
CREATE INDEX messages_by_run ON messages (thread_id, run_id, number) WHERE run_id IS NOT NULL;

-- status repeats what stands in the body, for the statements that ask for it.
-- additional_instructions is UTF-8; it is not part of what a run shows.
CREATE TABLE runs (
    thread_id TEXT NOT NULL,
    number BIGINT NOT NULL,
    id TEXT NOT NULL,
    project TEXT NOT NULL,
    status TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    rested_at BIGINT,
    additional_instructions {bytes},
    fingerprint {bytes},
    body {bytes} NOT NULL,
    PRIMARY KEY (thread_id, number)
);
CREATE UNIQUE INDEX runs_by_id ON runs (thread_id, id);
CREATE INDEX runs_waiting ON runs (expires_at) WHERE status IN ('queued', 'requires_action');
CREATE INDEX runs_rested ON runs (rested_at) WHERE rested_at IS NOT NULL;

-- position: the thread's last message when the tools were called; NULL for other steps.
CREATE TABLE steps (
    thread_id TEXT NOT NULL,
    run_id TEXT NOT NULL,
    number BIGINT NOT NULL,
    id TEXT NOT NULL,
    position BIGINT,
    body {bytes} NOT NULL,
    PRIMARY KEY (thread_id, run_id, number)
);
CREATE UNIQUE INDEX steps_by_id ON steps (thread_id, id);
CREATE INDEX steps_by_position ON steps (thread_id, position) WHERE position IS NOT NULL;

-- A record holds the events from first to last, as they are sent. The key refuses a second
-- writer: two records of a run cannot begin with the same number.
CREATE TABLE events (
    thread_id TEXT NOT NULL,
    run_id TEXT NOT NULL,
    first BIGINT NOT NULL,
    last BIGINT NOT NULL,
    body {bytes} NOT NULL,
    PRIMARY KEY (thread_id, run_id, first)
);

-- Runs that somebody has to drive, in the order in which they were queued.
-- A claim raises the fence; a write with an older fence is refused.
CREATE TABLE work (
    number {serial},
    thread_id TEXT NOT NULL,
    run_id {key},
    fence BIGINT NOT NULL DEFAULT 0,
    claimed BIGINT NOT NULL DEFAULT 0,
    crashes BIGINT NOT NULL DEFAULT 0,
    urgent BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX work_waiting ON work (urgent DESC, number) WHERE claimed = 0;

-- The answers that Idempotency-Keys stand for. A stream's answer names its run.
CREATE TABLE answers (
    project TEXT NOT NULL,
    key TEXT NOT NULL,
    request {bytes} NOT NULL,
    kind TEXT NOT NULL,
    body {bytes} NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (project, key)
);
CREATE INDEX answers_by_age ON answers (created_at);

-- Where deleted objects stood, so that a cursor which names one goes on working.
CREATE TABLE tombstones (
    scope TEXT NOT NULL,
    id TEXT NOT NULL,
    number BIGINT NOT NULL,
    deleted_at BIGINT NOT NULL,
    PRIMARY KEY (scope, id)
);
CREATE INDEX tombstones_by_age ON tombstones (deleted_at);

-- Deleted threads whose rows are still to be cleaned away.
CREATE TABLE purges (
    thread_id TEXT PRIMARY KEY
);
