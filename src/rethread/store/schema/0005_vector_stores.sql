-- Vector stores and what is in them. A store's counts, status and size are those of its files.
-- embedder: what made the vectors of its chunks, or '' where it has none. expires_after is in
-- days, and NULL with expires_at for never. A store whose time is over stays so; emptied says
-- that what was read for it is being cleaned away. body is what stands in no column: its name
-- and the like.
CREATE TABLE vector_stores (
    number {serial},
    id {key},
    project TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    last_active_at BIGINT NOT NULL,
    expires_after BIGINT,
    expires_at BIGINT,
    emptied BIGINT NOT NULL DEFAULT 0,
    embedder TEXT NOT NULL DEFAULT '',
    body {bytes} NOT NULL
);
CREATE INDEX vector_stores_by_project ON vector_stores (project, number);
CREATE INDEX vector_stores_expiring ON vector_stores (expires_at)
    WHERE expires_at IS NOT NULL AND emptied = 0;

-- A file in a store. number is given once and never again, so that the chunks of a file that was
-- taken out and added again are told apart. Chunks are found only where status is completed.
-- attributes and last_error are JSON, as they are shown.
CREATE TABLE vector_store_files (
    number {serial},
    store_id TEXT NOT NULL,
    file_id TEXT NOT NULL,
    status TEXT NOT NULL,
    usage_bytes BIGINT NOT NULL DEFAULT 0,
    created_at BIGINT NOT NULL,
    filename TEXT NOT NULL,
    max_chunk_tokens BIGINT NOT NULL,
    overlap_tokens BIGINT NOT NULL,
    attributes {bytes} NOT NULL,
    last_error {bytes}
);
-- only: postgresql
ALTER TABLE vector_store_files ADD PRIMARY KEY (number);
CREATE UNIQUE INDEX vector_store_files_by_file ON vector_store_files (store_id, file_id);
CREATE INDEX vector_store_files_in_order ON vector_store_files (store_id, number);
CREATE INDEX vector_store_files_counted ON vector_store_files (store_id, status, usage_bytes);
CREATE INDEX vector_store_files_of_file ON vector_store_files (file_id);

-- The attributes of a store's files, one by one, for filters. A value is a text or a number
-- (a boolean is the number 0 or 1 with kind 'boolean').
CREATE TABLE file_attributes (
    file_number BIGINT NOT NULL,
    key TEXT NOT NULL,
    store_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    text_value TEXT,
    number_value DOUBLE PRECISION,
    PRIMARY KEY (file_number, key)
);
CREATE INDEX file_attributes_by_text ON file_attributes (store_id, key, text_value)
    WHERE text_value IS NOT NULL;
CREATE INDEX file_attributes_by_number ON file_attributes (store_id, key, number_value)
    WHERE number_value IS NOT NULL;

-- Files that were added together. What became of each stands in vector_store_files.
CREATE TABLE file_batches (
    number {serial},
    id {key},
    store_id TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    cancelled BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX file_batches_of_store ON file_batches (store_id);
CREATE TABLE batched_files (
    batch_id TEXT NOT NULL,
    file_id TEXT NOT NULL,
    store_id TEXT NOT NULL,
    PRIMARY KEY (batch_id, file_id)
);
CREATE INDEX batched_files_of_store ON batched_files (store_id, file_id);

-- Files that somebody has to read, under the same leases as runs (see work). An urgent one is
-- waited for: it was attached to a message. begun: its claimer has come to it.
CREATE TABLE ingestions (
    number {serial},
    file_number BIGINT NOT NULL UNIQUE,
    store_id TEXT NOT NULL,
    urgent BIGINT NOT NULL DEFAULT 0,
    fence BIGINT NOT NULL DEFAULT 0,
    claimed BIGINT NOT NULL DEFAULT 0,
    begun BIGINT NOT NULL DEFAULT 0,
    crashes BIGINT NOT NULL DEFAULT 0,
    server TEXT NOT NULL DEFAULT ''
);
CREATE INDEX ingestions_waiting ON ingestions (urgent DESC, number) WHERE claimed = 0;
CREATE INDEX ingestions_of_store ON ingestions (store_id);

-- What is still to be cleaned away in small writes: the files of stores that were deleted or
-- have expired, and the chunks of files that are gone.
CREATE TABLE purged_stores (
    store_id TEXT PRIMARY KEY
);
CREATE TABLE purged_files (
    file_number BIGINT PRIMARY KEY
);
