-- The servers that share the database. One that has not been seen for a while is dead, and the
-- runs that it had claimed are others'. seen_at is in milliseconds, by the database's clock. home
-- is where it runs: two cannot be in one place, so the one that comes knows that the other is dead.
CREATE TABLE servers (
    id {key},
    home TEXT NOT NULL,
    seen_at BIGINT NOT NULL
);
ALTER TABLE work ADD COLUMN server TEXT NOT NULL DEFAULT '';
