-- Which ticket a conversation has at a destination: one row a generation. Written before the first call, with our own id of the ticket.
CREATE TABLE tickets (
    row INTEGER PRIMARY KEY,
    destination INTEGER NOT NULL,
    conversation INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    system INTEGER NOT NULL,
    external TEXT NOT NULL,
    ticket TEXT,
    url TEXT,
    requester TEXT,
    state INTEGER NOT NULL,
    times INTEGER NOT NULL,
    sent_at INTEGER,
    checked INTEGER NOT NULL,
    at INTEGER NOT NULL,
    UNIQUE (destination, conversation, generation)
) STRICT;
CREATE INDEX tickets_conversation ON tickets (conversation);
CREATE INDEX tickets_ticket ON tickets (ticket) WHERE ticket IS NOT NULL;

-- What became of an event (piece 0) and of its files (from 1) in a ticket.
CREATE TABLE ticket_entries (
    event BLOB NOT NULL,
    destination INTEGER NOT NULL,
    piece INTEGER NOT NULL,
    conversation INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    external TEXT NOT NULL,
    entry TEXT,
    state INTEGER NOT NULL,
    times INTEGER NOT NULL,
    sent_at INTEGER,
    at INTEGER NOT NULL,
    PRIMARY KEY (event, destination, piece)
) STRICT, WITHOUT ROWID;
