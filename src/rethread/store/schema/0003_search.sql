-- The metadata of threads, pair by pair, for lists that are filtered by it. number is the
-- thread's. Only the beginning of a value is in the index: PostgreSQL's have room for no more.
CREATE TABLE thread_metadata (
    thread_id TEXT NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    project TEXT NOT NULL,
    number BIGINT NOT NULL,
    PRIMARY KEY (thread_id, key)
);
CREATE INDEX thread_metadata_by_value
    ON thread_metadata (project, key, substr(value, 1, 100), number);

-- Messages that the search index has still to look at: they have come, or have gone.
-- claimed_until is in milliseconds, by the database's clock.
CREATE TABLE unindexed_messages (
    number {serial},
    thread_id TEXT NOT NULL,
    message_id TEXT NOT NULL,
    claimed_until BIGINT NOT NULL DEFAULT 0
);
-- only: postgresql
CREATE INDEX unindexed_messages_in_order ON unindexed_messages (number);

-- What the search index has. number is that of the queue, so it is the order of the results.
CREATE TABLE message_texts (
    project TEXT NOT NULL,
    number BIGINT NOT NULL,
    thread_id TEXT NOT NULL,
    message_id TEXT NOT NULL,
    PRIMARY KEY (project, number)
);
CREATE UNIQUE INDEX message_texts_by_message ON message_texts (message_id, project);
CREATE INDEX message_texts_by_thread ON message_texts (thread_id, number);
-- only: postgresql
ALTER TABLE message_texts ADD COLUMN words TSVECTOR NOT NULL;
-- only: postgresql
CREATE INDEX message_texts_by_words ON message_texts USING GIN (words);

-- The words stand in it as store/words.py has made them, with spaces between them: this
-- tokenizer divides there and nowhere else. rowid is the number.
-- only: sqlite
CREATE VIRTUAL TABLE message_words
    USING fts5 (words, columnsize = 0, tokenize = "ascii tokenchars '_'");

-- What was there before. PostgreSQL begins with this version, so it has nothing yet.
-- only: sqlite
INSERT INTO thread_metadata (thread_id, key, value, project, number)
SELECT threads.id, pairs.key, pairs.value, threads.project, threads.number
  FROM threads, json_each(CAST(threads.body AS TEXT), '$.metadata') AS pairs
 WHERE pairs.type = 'text' AND pairs.key IS NOT NULL;
INSERT INTO unindexed_messages (thread_id, message_id)
SELECT thread_id, id FROM messages ORDER BY created_at, thread_id, number;
