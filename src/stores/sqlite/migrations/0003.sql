-- Files of items that are still being fetched: a row an item, gone when nothing of it is to be fetched any more.
CREATE TABLE media (
    item INTEGER PRIMARY KEY,
    raw INTEGER NOT NULL,
    channel INTEGER NOT NULL,
    message INTEGER NOT NULL,
    at INTEGER NOT NULL,
    body BLOB NOT NULL
) STRICT;
CREATE INDEX media_channel ON media (channel, at);
CREATE INDEX media_at ON media (at);
CREATE INDEX media_message ON media (message) WHERE message <> 0;
