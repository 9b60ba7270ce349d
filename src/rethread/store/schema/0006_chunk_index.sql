-- Pieces of the files' texts. number: the file's, times 2^20, plus the piece's place in its file,
-- so that a file's chunks are a range. start: the place of its first character in the text.
-- only: sqlite
CREATE TABLE chunks (
    number INTEGER PRIMARY KEY,
    start BIGINT NOT NULL,
    page BIGINT,
    body BLOB NOT NULL
);
-- only: postgresql
CREATE TABLE chunks (
    number BIGINT PRIMARY KEY,
    start BIGINT NOT NULL,
    page BIGINT,
    body BYTEA NOT NULL
);

-- Files of which the index has chunks, and how many.
CREATE TABLE indexed_files (
    file_number BIGINT PRIMARY KEY,
    store_id TEXT NOT NULL,
    chunks BIGINT NOT NULL
);
CREATE INDEX indexed_files_of_store ON indexed_files (store_id, file_number, chunks);

-- The words of the chunks as store/chunk_words.py has made them, with spaces between them: this
-- tokenizer divides there and nowhere else. rowid is the chunk's number. Only which chunks have
-- a word is kept.
-- only: sqlite
CREATE VIRTUAL TABLE chunk_words USING fts5 (
    words, content = '', detail = none, columnsize = 0, tokenize = "ascii tokenchars '_'"
);
-- only: postgresql
CREATE TABLE chunk_words (
    number BIGINT PRIMARY KEY,
    words TSVECTOR NOT NULL
);
-- only: postgresql
CREATE INDEX chunk_words_by_word ON chunk_words USING GIN (words);
-- The chunks that have a word, packed, as many as are asked for. The words are kept beside the
-- rows, which are small without them: the planner would read all rather than the index.
-- only: postgresql
CREATE FUNCTION chunks_with(word TEXT, most BIGINT) RETURNS BYTEA LANGUAGE SQL STABLE
SET enable_seqscan = off SET enable_indexscan = off
AS $function$
    SELECT string_agg(int8send(found.number), '')
      FROM (SELECT number FROM chunk_words WHERE words @@ CAST(word AS TSQUERY) LIMIT most) AS found
$function$;

-- Normalised vectors, as little-endian 32-bit numbers. PostgreSQL has a table for each embedder
-- instead, which is made when one is configured: store/chunk_vectors.py.
-- only: sqlite
CREATE TABLE chunk_vectors (
    number INTEGER PRIMARY KEY,
    vector BLOB NOT NULL
);

-- What `rethread reindex` is at: a store, or '' for the words of all; and how far it has come.
CREATE TABLE reindexing (
    store_id TEXT PRIMARY KEY,
    embedder TEXT NOT NULL,
    last_number BIGINT NOT NULL
);
