-- raws.db, schema 1: the bytes of raws, committed before the rows that name them. A row that nothing names is harmless.

CREATE TABLE raws (
    row INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    source TEXT NOT NULL,
    via INTEGER NOT NULL,
    received_at INTEGER NOT NULL,
    head TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    blob TEXT,
    body BLOB
) STRICT;

-- What is being parsed, in the same commit as its raws.
CREATE TABLE batches (
    id BLOB PRIMARY KEY,
    channel TEXT NOT NULL,
    account TEXT NOT NULL,
    folder TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    uids TEXT NOT NULL,
    attempts INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
