-- What a ticket system says of a ticket, and since when.
ALTER TABLE tickets ADD COLUMN status INTEGER;
ALTER TABLE tickets ADD COLUMN status_at INTEGER;
-- What comes back names an entry by its id or by ours; the conversation is known by then.
CREATE INDEX ticket_entries_conversation ON ticket_entries (destination, conversation);

-- `ends_at`: its ticket is done, and it ends then. `turns`: who waits for whom, JSON.
ALTER TABLE conversations ADD COLUMN ends_at INTEGER;
ALTER TABLE conversations ADD COLUMN turns TEXT;
-- Of `totals`, kind 4: conversations that wait; 5: spans by word = span * 16 + bucket; 6: their sum in ms, by span. Name: of `names`.
