"""The journal's tables, format by format.

`MIGRATIONS[n]` takes a file of format n-1 to format n; a new journal runs all of them. The format stands in
`PRAGMA user_version`, and `PRAGMA application_id` says that the file is a journal at all. A format that was
released is never edited: a change is a new migration, and `tests/journal/formats/` keeps a file of each.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from evsync.errors import JournalError

APPLICATION_ID: Final = 0x65767379  # "evsy"

_FORMAT_1: Final = r"""
-- Names of stores and types, and the field names and types of payloads: written once, referred to by number.
CREATE TABLE name (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE shape (id INTEGER PRIMARY KEY, fields TEXT NOT NULL UNIQUE);  -- [["email","str"],…], sorted

CREATE TABLE run (
  id INTEGER PRIMARY KEY,
  command TEXT NOT NULL,
  version TEXT NOT NULL,
  started_at INTEGER NOT NULL,           -- microseconds since 1970, UTC; so are all times here
  ended_at INTEGER,
  counts TEXT                            -- JSON
);

CREATE TABLE event (
  seq INTEGER PRIMARY KEY,
  op TEXT NOT NULL,
  store INTEGER NOT NULL REFERENCES name,
  type INTEGER NOT NULL REFERENCES name,
  key TEXT NOT NULL,
  base INTEGER NOT NULL,
  observed_at INTEGER NOT NULL,
  occurred_at INTEGER,
  actor TEXT,
  run INTEGER NOT NULL REFERENCES run,
  after_shape INTEGER REFERENCES shape,  -- names the values in `after`
  before_shape INTEGER REFERENCES shape,
  changed INTEGER REFERENCES shape,      -- the fields changed
  after TEXT,                            -- JSON array of values
  before TEXT,
  conflict TEXT,                         -- JSON object
  payload_hash BLOB NOT NULL,
  hash BLOB NOT NULL
);
-- A record's history and its head; reads stand apart, as they never make a state.
CREATE INDEX event_record ON event (type, key, seq) WHERE op <> 'read';
CREATE INDEX event_read ON event (type, key, seq) WHERE op = 'read';
CREATE INDEX event_conflict ON event (seq) WHERE conflict IS NOT NULL;
CREATE INDEX event_actor ON event (actor, seq) WHERE actor IS NOT NULL;

CREATE TABLE head (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  seq INTEGER NOT NULL,
  hash BLOB NOT NULL,
  observed_at INTEGER NOT NULL
);

CREATE TRIGGER event_is_final BEFORE UPDATE ON event
  BEGIN SELECT RAISE(ABORT, 'the journal is append-only: an event never changes'); END;
CREATE TRIGGER event_stays BEFORE DELETE ON event
  BEGIN SELECT RAISE(ABORT, 'the journal is append-only: an event is never deleted'); END;
-- INSERT OR REPLACE would delete without firing the trigger above; so it would below.
CREATE TRIGGER event_appends BEFORE INSERT ON event WHEN NEW.seq <= (SELECT seq FROM head)
  BEGIN SELECT RAISE(ABORT, 'the journal is append-only: this position is taken'); END;
CREATE TRIGGER name_is_final BEFORE UPDATE ON name
  BEGIN SELECT RAISE(ABORT, 'the journal is append-only: a name never changes'); END;
CREATE TRIGGER name_stays BEFORE DELETE ON name
  BEGIN SELECT RAISE(ABORT, 'the journal is append-only: a name is never deleted'); END;
CREATE TRIGGER name_appends BEFORE INSERT ON name
  WHEN EXISTS (SELECT 1 FROM name WHERE id = NEW.id OR name = NEW.name)
  BEGIN SELECT RAISE(ABORT, 'the journal is append-only: this name is taken'); END;
CREATE TRIGGER shape_is_final BEFORE UPDATE ON shape
  BEGIN SELECT RAISE(ABORT, 'the journal is append-only: a shape never changes'); END;
CREATE TRIGGER shape_stays BEFORE DELETE ON shape
  BEGIN SELECT RAISE(ABORT, 'the journal is append-only: a shape is never deleted'); END;
CREATE TRIGGER shape_appends BEFORE INSERT ON shape
  WHEN EXISTS (SELECT 1 FROM shape WHERE id = NEW.id OR fields = NEW.fields)
  BEGIN SELECT RAISE(ABORT, 'the journal is append-only: this shape is taken'); END;
CREATE TRIGGER run_stays BEFORE DELETE ON run
  BEGIN SELECT RAISE(ABORT, 'the journal is append-only: a run is never deleted'); END;

-- What evsync knows of the stores. Derived or operational: not part of the chain.
CREATE TABLE store (
  name TEXT PRIMARY KEY,
  last_ingest INTEGER,
  last_replay INTEGER
) WITHOUT ROWID;

CREATE TABLE field (                     -- value types of a type's fields, fixed when first seen
  type TEXT NOT NULL,
  name TEXT NOT NULL,
  value_type TEXT NOT NULL,
  PRIMARY KEY (type, name)
) WITHOUT ROWID;

CREATE TABLE binding (                   -- a type in a store
  id INTEGER PRIMARY KEY,
  store TEXT NOT NULL,
  type TEXT NOT NULL,
  mapping TEXT,                          -- JSON: how it was mapped when last ingested or replayed
  cursor INTEGER NOT NULL DEFAULT 0,     -- replayed up to here
  position TEXT,                         -- journalled up to here, in the store's own feed
  intents TEXT,                          -- JSON array: writes towards these positions were under way
  UNIQUE (store, type)
);

CREATE TABLE replica (
  binding INTEGER NOT NULL,
  key TEXT NOT NULL,
  seq INTEGER NOT NULL,                  -- the last revision the store was in line with
  fingerprint BLOB,                      -- of what it holds; null: it deleted the record, which is in dispute
  id,                                    -- the store's own id, where that is not the key
  in_line INTEGER NOT NULL DEFAULT 1,    -- 0: a merge has still to be written back
  content TEXT                           -- JSON object of what it holds, where revision `seq` says otherwise
);
CREATE UNIQUE INDEX replica_key ON replica (binding, key);
CREATE UNIQUE INDEX replica_id ON replica (binding, id) WHERE id IS NOT NULL;

CREATE TABLE pending (                   -- records to look at again in the next replay, though no event calls for it
  binding INTEGER NOT NULL,
  key TEXT NOT NULL,
  PRIMARY KEY (binding, key)
) WITHOUT ROWID;

CREATE TABLE failure (
  binding INTEGER NOT NULL,
  key TEXT NOT NULL,
  seq INTEGER NOT NULL,
  action TEXT NOT NULL,
  error TEXT NOT NULL,
  attempts INTEGER NOT NULL,
  next_try INTEGER NOT NULL,
  state TEXT NOT NULL,
  PRIMARY KEY (binding, key)
) WITHOUT ROWID;

CREATE TABLE quarantine (
  binding INTEGER NOT NULL,
  place TEXT NOT NULL,                   -- where the row is found in the store
  id,
  row TEXT NOT NULL,                     -- JSON object of the raw row
  error TEXT NOT NULL,
  seen_at INTEGER NOT NULL,
  hides TEXT                             -- JSON array: records that vanished when this row came up; it may be one of them
);
CREATE INDEX quarantine_binding ON quarantine (binding);

CREATE VIEW log AS
  SELECT e.seq, e.op, s.name AS store, t.name AS type, e.key, e.base,
    CASE WHEN e.before IS NOT NULL THEN (
      SELECT json_group_object(json_extract(f.value, '$[0]'), json(e.before -> ('$[' || f.key || ']')))
      FROM shape p, json_each(p.fields) f WHERE p.id = e.before_shape) END AS before,
    CASE WHEN e.after IS NOT NULL THEN (
      SELECT json_group_object(json_extract(f.value, '$[0]'), json(e.after -> ('$[' || f.key || ']')))
      FROM shape p, json_each(p.fields) f WHERE p.id = e.after_shape) END AS after,
    coalesce((SELECT json_group_array(json_extract(f.value, '$[0]'))
      FROM shape p, json_each(p.fields) f WHERE p.id = e.changed), '[]') AS changed,
    strftime('%Y-%m-%dT%H:%M:%S', e.observed_at / 1000000, 'unixepoch')
      || printf('.%06dZ', e.observed_at % 1000000) AS observed_at,
    strftime('%Y-%m-%dT%H:%M:%S', e.occurred_at / 1000000 - (e.occurred_at % 1000000 < 0), 'unixepoch')
      || printf('.%06dZ', (e.occurred_at % 1000000 + 1000000) % 1000000) AS occurred_at,
    e.actor, e.run, e.conflict
  FROM event e JOIN name s ON s.id = e.store JOIN name t ON t.id = e.type;

CREATE VIEW changes AS
  SELECT e.seq,
    strftime('%Y-%m-%dT%H:%M:%S', e.observed_at / 1000000, 'unixepoch')
      || printf('.%06dZ', e.observed_at % 1000000) AS observed_at,
    e.op, s.name AS store, t.name AS type, e.key,
    json_extract(c.value, '$[0]') AS field,
    (SELECT e.before ->> ('$[' || f.key || ']') FROM shape p, json_each(p.fields) f
      WHERE p.id = e.before_shape AND json_extract(f.value, '$[0]') = json_extract(c.value, '$[0]')) AS old,
    (SELECT e.after ->> ('$[' || f.key || ']') FROM shape p, json_each(p.fields) f
      WHERE p.id = e.after_shape AND json_extract(f.value, '$[0]') = json_extract(c.value, '$[0]')) AS new,
    e.actor, e.run
  FROM event e JOIN name s ON s.id = e.store JOIN name t ON t.id = e.type
    JOIN shape n ON n.id = e.changed, json_each(n.fields) c;
"""

_FORMAT_2: Final = r"""
CREATE TABLE retired (                   -- ids of records that are gone, to which others of the store may still refer
  binding INTEGER NOT NULL,
  id NOT NULL,
  key TEXT NOT NULL,
  PRIMARY KEY (binding, id)
) WITHOUT ROWID;
"""

_FORMAT_3: Final = r"""
-- JSON: what the store was like when it was last read through, and how many records it held.
ALTER TABLE binding ADD COLUMN mark TEXT;
"""

_FORMAT_4: Final = r"""
-- From here on `payload_hash` is empty while the payload itself is there to be hashed; older events keep theirs.
-- An index ends with the row's number, which is `seq`: to name it as well stored it twice.
DROP INDEX event_record;
DROP INDEX event_read;
DROP INDEX event_actor;
CREATE INDEX event_record ON event (type, key) WHERE op <> 'read';
CREATE INDEX event_read ON event (type, key) WHERE op = 'read';
CREATE INDEX event_actor ON event (actor) WHERE actor IS NOT NULL;
"""

_FORMAT_5: Final = r"""
CREATE TABLE written (                   -- records that evsync wrote to a store that has a feed
  binding INTEGER NOT NULL,
  key TEXT NOT NULL,
  position TEXT NOT NULL,                -- what the feed tells of the record up to here is known already
  PRIMARY KEY (binding, key)
) WITHOUT ROWID;
"""

_FORMAT_6: Final = r"""
-- The last note that the store put down of what was written to it, and of which the replicas know.
ALTER TABLE binding ADD COLUMN noted INTEGER NOT NULL DEFAULT 0;
"""

MIGRATIONS: Final[dict[int, str]] = {
    1: _FORMAT_1, 2: _FORMAT_2, 3: _FORMAT_3, 4: _FORMAT_4, 5: _FORMAT_5, 6: _FORMAT_6,
}  # fmt: skip
FORMAT: Final = max(MIGRATIONS)


def migrate(connection: sqlite3.Connection, shown: str, genesis: bytes) -> None:
    """Bring the file to the current format, inside the caller's write transaction. Raises JournalError."""
    found = check(connection, shown)
    for number in range(found + 1, FORMAT + 1):
        for statement in _statements(MIGRATIONS[number]):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {number}")
    if not found:
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("INSERT INTO head VALUES (1, 0, ?, 0)", (genesis,))


def check(connection: sqlite3.Connection, shown: str) -> int:
    """The file's format, 0 for a new one. Raises JournalError for a file that is something else, or of a newer
    format, before anything is written to it."""
    application_id = connection.execute("PRAGMA application_id").fetchone()[0]
    found: int = connection.execute("PRAGMA user_version").fetchone()[0]
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if application_id != APPLICATION_ID and (tables or application_id or found):
        raise JournalError(
            f"{shown} is an SQLite database, but no evsync journal",
            "set `journal` in evsync.toml to another path",
        )
    if found > FORMAT:
        raise JournalError(
            f"{shown} is a journal of format {found}; this evsync knows formats up to {FORMAT}",
            "upgrade evsync",
        )
    return int(found)


def _statements(script: str) -> list[str]:
    """The script's statements one by one: `executescript` would commit the caller's transaction first."""
    statements, lines = [], []
    for line in script.splitlines():
        lines.append(line)
        if sqlite3.complete_statement("\n".join(lines)):
            statements.append("\n".join(lines))
            lines = []
    return statements
