-- The record itself: one row per line of the audit file, with the line's exact bytes.
CREATE TABLE events (
    seq     INTEGER PRIMARY KEY,
    at      INTEGER NOT NULL,   -- microseconds since 1970
    kind    TEXT NOT NULL,
    request TEXT,               -- the request it is about; it need not exist
    line    TEXT NOT NULL,
    hash    TEXT NOT NULL
) STRICT;
CREATE INDEX events_of_request ON events (request, seq) WHERE request IS NOT NULL;

CREATE TRIGGER events_are_never_changed BEFORE UPDATE ON events
BEGIN SELECT RAISE(ABORT, 'events are never changed'); END;
CREATE TRIGGER events_are_never_removed BEFORE DELETE ON events
BEGIN SELECT RAISE(ABORT, 'events are never removed'); END;

-- Everything below is what the events add up to.
CREATE TABLE requests (
    id            TEXT PRIMARY KEY,
    held          INTEGER NOT NULL REFERENCES events (seq),
    opened        INTEGER NOT NULL,
    deadline      INTEGER NOT NULL,
    database_user TEXT NOT NULL,
    database      TEXT NOT NULL,
    request       TEXT NOT NULL,  -- JSON
    state         TEXT NOT NULL CHECK (state IN ('pending', 'decided', 'ended')),
    escalated     INTEGER NOT NULL DEFAULT 0,
    break_glass   INTEGER NOT NULL DEFAULT 0,
    decision      TEXT,           -- JSON
    outcome       TEXT,           -- JSON
    ended         TEXT,           -- RFC 3339
    execution     TEXT,           -- JSON
    reviewed_by   TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX requests_not_ended ON requests (held) WHERE state <> 'ended';
CREATE INDEX requests_by_age ON requests (held);

CREATE TABLE answers (
    seq         INTEGER PRIMARY KEY REFERENCES events (seq),
    request     TEXT NOT NULL,    -- as the answer named it; it need not exist
    channel     TEXT NOT NULL,
    person      TEXT NOT NULL,
    approve     INTEGER NOT NULL,
    break_glass INTEGER NOT NULL,
    reason      TEXT,
    refused     TEXT              -- NULL: it counted
) STRICT;
CREATE INDEX answers_to_request ON answers (request, seq);

CREATE TABLE announcements (
    request   TEXT NOT NULL REFERENCES requests (id),
    channel   TEXT NOT NULL,
    reference TEXT NOT NULL,
    PRIMARY KEY (request, channel)
) STRICT, WITHOUT ROWID;

-- How far consumers of the events (outgoing webhooks) have come.
CREATE TABLE cursors (
    name TEXT PRIMARY KEY,
    seq  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Room for the attempt to write that tells whether writing works again.
CREATE TABLE attempt (
    id   INTEGER PRIMARY KEY CHECK (id = 1),
    room BLOB
) STRICT;
