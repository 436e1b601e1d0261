-- What a thing of a pulled source is recognised by after its source was renumbered.
ALTER TABLE source_rows ADD COLUMN print INTEGER;
