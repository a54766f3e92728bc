-- The catalog's schema at the newest revision. A new store is made from this snapshot, without importing
-- Alembic; a test holds it equal to what `alembic upgrade head` makes from migrations/.
CREATE TABLE alembic_version (
    version_num VARCHAR(32) NOT NULL,
    CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;
-- `checksum` in the tables below: see checksums.py; NULL is "not known".
-- A vector space: vectors of two spaces are never compared.
CREATE TABLE spaces (
    id INTEGER PRIMARY KEY,
    fingerprint TEXT NOT NULL UNIQUE,
    model TEXT NOT NULL,
    dim INTEGER NOT NULL
);
-- `deletes` and `updates` count vectors ever removed and metadata ever changed: a reader knows from one row
-- when its copy is old.
CREATE TABLE collections (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    space_id INTEGER NOT NULL REFERENCES spaces (id),
    deletes INTEGER NOT NULL DEFAULT 0,
    updates INTEGER NOT NULL DEFAULT 0
);
-- A file, a history or the notes added by hand; one file may be both of the first. `state` is JSON: what makes
-- the next ingest cheap.
CREATE TABLE sources (
    id INTEGER PRIMARY KEY,
    uri TEXT NOT NULL,
    kind TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT '{}',
    complete INTEGER NOT NULL DEFAULT 0,
    checksum INTEGER,
    UNIQUE (uri, kind)
);
-- `pending`: stored without a vector because the model was not there; `unembeddable`: why it never gets one.
CREATE TABLE chunks (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    chunk_id TEXT NOT NULL UNIQUE,
    source_id INTEGER NOT NULL REFERENCES sources (id),
    start_char INTEGER NOT NULL,
    end_char INTEGER NOT NULL,
    text TEXT NOT NULL,
    heading TEXT NOT NULL DEFAULT '',
    metadata TEXT NOT NULL DEFAULT '{}',
    pending INTEGER NOT NULL DEFAULT 0,
    unembeddable TEXT,
    checksum INTEGER
);
CREATE INDEX chunks_source ON chunks (source_id, start_char);
CREATE INDEX chunks_pending ON chunks (id) WHERE pending;
CREATE TABLE commands (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    command_id TEXT NOT NULL UNIQUE,
    text TEXT NOT NULL,
    pending INTEGER NOT NULL DEFAULT 0,
    unembeddable TEXT
);
CREATE INDEX commands_pending ON commands (id) WHERE pending;
-- One execution of a command. `key` is its identity: the same event read twice is one row.
CREATE TABLE events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key BLOB NOT NULL UNIQUE,
    command_row INTEGER NOT NULL REFERENCES commands (id),
    source_id INTEGER NOT NULL REFERENCES sources (id),
    position INTEGER NOT NULL,
    timestamp REAL,
    cwd TEXT,
    exit_code INTEGER,
    duration REAL,
    session TEXT,
    host TEXT,
    shell TEXT,
    checksum INTEGER
);
CREATE INDEX events_command ON events (command_row, timestamp);
CREATE INDEX events_source ON events (source_id, position);
-- What followed what, by rows of commands: derived from events, with vectors made of the commands' own.
CREATE TABLE transitions (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    before INTEGER NOT NULL,
    after INTEGER NOT NULL,
    checksum INTEGER,
    UNIQUE (before, after)
);
CREATE INDEX transitions_after ON transitions (after);
-- A few commands in a row: `event` is the first, `commands` a JSON list of rows.
CREATE TABLE sequences (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    event INTEGER NOT NULL UNIQUE,
    commands TEXT NOT NULL,
    checksum INTEGER
);
-- AUTOINCREMENT: rows only ever grow and are never used again, so "newer than row N" is exact.
CREATE TABLE vectors (
    row INTEGER PRIMARY KEY AUTOINCREMENT,
    collection_id INTEGER NOT NULL REFERENCES collections (id),
    item INTEGER NOT NULL,
    vector BLOB NOT NULL,
    checksum INTEGER
);
CREATE UNIQUE INDEX vectors_item ON vectors (collection_id, item);
CREATE INDEX vectors_row ON vectors (collection_id, row);
-- Equal vectors begin and end alike: where their copies are.
CREATE INDEX vectors_twins ON vectors (collection_id, substr(vector, 1, 8), substr(vector, -8));
-- A directory of the Chroma index. Rows up to `drained.row` are in it, newer ones are pending.
CREATE TABLE generations (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    state TEXT NOT NULL
);
CREATE TABLE drained (
    generation_id INTEGER NOT NULL REFERENCES generations (id) ON DELETE CASCADE,
    collection_id INTEGER NOT NULL REFERENCES collections (id),
    row INTEGER NOT NULL DEFAULT 0,
    tombstones INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (generation_id, collection_id)
) WITHOUT ROWID;
-- What a generation was not given, as it holds enough items with the same vector: see twins.py.
CREATE TABLE left_out (
    generation_id INTEGER NOT NULL REFERENCES generations (id) ON DELETE CASCADE,
    collection_id INTEGER NOT NULL REFERENCES collections (id) ON DELETE CASCADE,
    item INTEGER NOT NULL,
    PRIMARY KEY (generation_id, collection_id, item)
) WITHOUT ROWID;
-- What a generation must still delete or update; `item_id` is the public id, which is Chroma's id.
CREATE TABLE index_changes (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    generation_id INTEGER NOT NULL REFERENCES generations (id) ON DELETE CASCADE,
    collection_id INTEGER NOT NULL REFERENCES collections (id),
    item_id TEXT NOT NULL,
    operation TEXT NOT NULL
);
CREATE INDEX index_changes_todo ON index_changes (generation_id, collection_id, id);
CREATE VIRTUAL TABLE chunks_fts USING fts5 (
    heading, text, content = '', tokenize = 'porter unicode61 remove_diacritics 2'
);
CREATE VIRTUAL TABLE commands_fts USING fts5 (
    text, content = '', tokenize = 'porter unicode61 remove_diacritics 2'
);
-- What was forgotten and must not come back by itself: keyed hashes, no text.
CREATE TABLE tombstones (
    hash BLOB PRIMARY KEY
) WITHOUT ROWID;
-- What the catalog has forgotten and a file may still hold: purged place by place.
CREATE TABLE purges (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    place TEXT NOT NULL,
    detail TEXT NOT NULL DEFAULT '',
    data BLOB
);
-- Whoever changes what a checksum is of, and does not know of it, leaves none.
CREATE TRIGGER sources_changed AFTER UPDATE OF state, uri, kind ON sources WHEN new.checksum IS old.checksum BEGIN
    UPDATE sources SET checksum = NULL WHERE id = new.id;
END;
CREATE TRIGGER events_moved AFTER UPDATE OF key, command_row ON events WHEN new.checksum IS old.checksum BEGIN
    UPDATE events SET checksum = NULL WHERE id = new.id;
END;
