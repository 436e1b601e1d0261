-- omnigate.db, schema 1: every row that changes together with others.
-- Ids are 16 bytes, big-endian, so that they sort by time. Names (channels, sources) are interned. Times are Unix milliseconds.

CREATE TABLE names (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;

-- What came in. The bytes are in raws.db; this row outlives them.
CREATE TABLE raws (
    row INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    source INTEGER NOT NULL,
    via INTEGER NOT NULL,
    received_at INTEGER NOT NULL
) STRICT;

-- Kept for ever: what is gone must not come back as new.
CREATE TABLE delivery_keys (digest BLOB PRIMARY KEY, raw INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE item_keys (digest BLOB PRIMARY KEY, item INTEGER NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE ledger (
    item INTEGER PRIMARY KEY,
    raw INTEGER NOT NULL,
    channel INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    fate INTEGER NOT NULL,
    code TEXT,
    detail TEXT,
    duplicate_of INTEGER,
    message INTEGER,
    event INTEGER,
    received_at INTEGER NOT NULL
) STRICT;
CREATE INDEX ledger_raw ON ledger (raw);
CREATE INDEX ledger_message ON ledger (message) WHERE message IS NOT NULL;
CREATE INDEX ledger_quarantined ON ledger (item) WHERE fate = 3;

CREATE TABLE conversations (
    row INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    channel INTEGER NOT NULL,
    subject TEXT,
    sequence INTEGER NOT NULL,
    active_at INTEGER NOT NULL,
    continues BLOB,
    ended INTEGER NOT NULL,
    pending INTEGER NOT NULL,
    last_sent TEXT NOT NULL
) STRICT;
CREATE TABLE conversation_keys (digest BLOB PRIMARY KEY, conversation INTEGER NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE contacts (row INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, name TEXT, merged_into INTEGER) STRICT;
CREATE TABLE contact_addresses (digest BLOB PRIMARY KEY, contact INTEGER NOT NULL, address TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE INDEX contact_addresses_contact ON contact_addresses (contact);
CREATE TABLE participants (contact INTEGER NOT NULL, conversation INTEGER NOT NULL, PRIMARY KEY (contact, conversation)) STRICT, WITHOUT ROWID;

-- A message's row number is the number of the item that made it: an item key leads to its message without an index.
CREATE TABLE messages (
    row INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    key BLOB NOT NULL,
    conversation INTEGER NOT NULL,
    contact INTEGER NOT NULL,
    channel INTEGER NOT NULL,
    gone INTEGER NOT NULL
) STRICT;

CREATE TABLE files (
    attachment BLOB PRIMARY KEY,
    raw INTEGER NOT NULL,
    message INTEGER NOT NULL,
    place TEXT NOT NULL,
    media_type TEXT NOT NULL,
    name TEXT,
    bytes INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX files_message ON files (message);

-- `bytes` is null after retention or erasure.
CREATE TABLE events (
    position INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    type INTEGER NOT NULL,
    conversation INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    message INTEGER NOT NULL,
    channel INTEGER NOT NULL,
    published_at INTEGER NOT NULL,
    bytes BLOB
) STRICT;
CREATE INDEX events_message ON events (message) WHERE message <> 0;
-- I4: no two events of a conversation share a sequence.
CREATE UNIQUE INDEX events_conversation ON events (conversation, sequence) WHERE conversation <> 0;

-- `known` is 0 for one that a person dropped, until it is owed something again.
CREATE TABLE destinations (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    mode INTEGER NOT NULL,
    code TEXT,
    since INTEGER NOT NULL,
    known INTEGER NOT NULL
) STRICT;

-- `at`: while it waits, not before; afterwards, when it was decided. A replay lives beside the first delivery.
CREATE TABLE deliveries (
    destination INTEGER NOT NULL,
    position INTEGER NOT NULL,
    replay INTEGER NOT NULL,
    lane INTEGER NOT NULL,
    state INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    at INTEGER NOT NULL,
    first_attempt_at INTEGER,
    previous INTEGER NOT NULL,
    code TEXT,
    status INTEGER,
    detail TEXT,
    PRIMARY KEY (destination, position, replay)
) STRICT, WITHOUT ROWID;
CREATE INDEX deliveries_waiting ON deliveries (destination, position) WHERE state = 0;
CREATE INDEX deliveries_lane ON deliveries (destination, lane, position) WHERE state = 0;
CREATE INDEX deliveries_retrying ON deliveries (destination, position) WHERE state = 0 AND first_attempt_at IS NOT NULL;
CREATE INDEX deliveries_dead ON deliveries (destination, position) WHERE state = 2;

-- `place` is the order within a conversation. Item numbers are not: a quarantined item that is read again keeps its old one.
CREATE TABLE pending (
    place INTEGER PRIMARY KEY,
    item INTEGER NOT NULL UNIQUE,
    raw INTEGER NOT NULL,
    conversation INTEGER NOT NULL,
    reason INTEGER NOT NULL,
    until INTEGER NOT NULL,
    body BLOB NOT NULL
) STRICT;
CREATE INDEX pending_conversation ON pending (conversation, place);

CREATE TABLE leases (name TEXT PRIMARY KEY, owner TEXT NOT NULL, epoch INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE sources (
    row INTEGER PRIMARY KEY,
    account TEXT NOT NULL,
    folder TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    epoch_name INTEGER NOT NULL,
    low_water INTEGER NOT NULL,
    first_run_top INTEGER NOT NULL,
    memo TEXT NOT NULL,
    UNIQUE (account, folder, epoch)
) STRICT;
CREATE TABLE source_rows (source INTEGER NOT NULL, uid INTEGER NOT NULL, state INTEGER NOT NULL, raw BLOB, PRIMARY KEY (source, uid)) STRICT, WITHOUT ROWID;
CREATE INDEX source_rows_unsettled ON source_rows (source, uid) WHERE state = 0;
-- Batches whose admission is committed while their row in raws.db is not removed yet.
CREATE TABLE parsed_batches (id BLOB PRIMARY KEY) STRICT, WITHOUT ROWID;
CREATE TABLE memos (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;

-- I3. kind 0: received, 1: fates, 2: due, 3: deliveries; name: of `names`, or of `destinations` for kinds 2 and 3.
CREATE TABLE totals (kind INTEGER NOT NULL, name INTEGER NOT NULL, word INTEGER NOT NULL, value INTEGER NOT NULL, PRIMARY KEY (kind, name, word)) STRICT, WITHOUT ROWID;
