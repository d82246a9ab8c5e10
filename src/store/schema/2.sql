-- What a channel has acknowledged to the outside and not yet worked on; gone as soon as it is. Not a part of the record.
CREATE TABLE inbox (
    channel  TEXT NOT NULL,
    delivery TEXT NOT NULL,    -- the channel's name for it
    what     TEXT NOT NULL,    -- in the channel's own words
    PRIMARY KEY (channel, delivery)
) STRICT, WITHOUT ROWID;
