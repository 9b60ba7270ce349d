-- What files are made of, once for each content. id is its name in the blob store: random, and
-- never given twice. hash is the SHA-256.
CREATE TABLE blobs (
    id TEXT PRIMARY KEY,
    hash {bytes} NOT NULL UNIQUE,
    size BIGINT NOT NULL
);

-- Names in the blob store that nothing refers to: what is being uploaded, until due_at, and what
-- was deleted, which is due at 0, or below 0 if it was tried in vain: then it is left alone until
-- -due_at. A name is here before its bytes are there, so none is forgotten.
CREATE TABLE blob_trash (
    id TEXT PRIMARY KEY,
    due_at BIGINT NOT NULL
);
CREATE INDEX blob_trash_by_time ON blob_trash (due_at);

CREATE TABLE files (
    number {serial},
    id {key},
    project TEXT NOT NULL,
    purpose TEXT NOT NULL,
    blob_id TEXT NOT NULL,
    expires_at BIGINT,
    body {bytes} NOT NULL
);
CREATE INDEX files_by_project ON files (project, number);
CREATE INDEX files_by_purpose ON files (project, purpose, number);
CREATE INDEX files_by_blob ON files (blob_id);
CREATE INDEX files_by_expiry ON files (expires_at) WHERE expires_at IS NOT NULL;

-- answered: the fingerprint of the request that completed or cancelled it, so that the same one,
-- sent again, has the same answer. body is then that answer.
CREATE TABLE uploads (
    id TEXT PRIMARY KEY,
    project TEXT NOT NULL,
    status TEXT NOT NULL,
    expires_at BIGINT NOT NULL,
    expires_after BIGINT,
    answered {bytes},
    body {bytes} NOT NULL
);
CREATE INDEX uploads_by_expiry ON uploads (expires_at);

-- Each part is a blob of its own, which is in neither of the tables above, until its upload ends.
-- hash: the SHA-256.
CREATE TABLE upload_parts (
    upload_id TEXT NOT NULL,
    id TEXT NOT NULL,
    blob_id TEXT NOT NULL,
    size BIGINT NOT NULL,
    hash {bytes} NOT NULL,
    PRIMARY KEY (upload_id, id)
);
