CREATE TABLE counter (
    name  TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT;
-- dom0 is 0; the first allocation returns 1.
INSERT INTO counter (name, value) VALUES ('domid', 0);

-- A generation's description and lock never change: a trigger refuses it and `digest` shows it.
CREATE TABLE generation (
    number      INTEGER PRIMARY KEY AUTOINCREMENT,
    created     INTEGER NOT NULL,
    who         TEXT NOT NULL,
    message     TEXT NOT NULL,
    rollback_of INTEGER,
    qubes       INTEGER NOT NULL,
    description TEXT NOT NULL,
    lock        TEXT NOT NULL,
    digest      TEXT NOT NULL
) STRICT;
CREATE TRIGGER generation_is_immutable BEFORE UPDATE ON generation
BEGIN
    SELECT RAISE(ABORT, 'a generation is immutable');
END;

-- One row: the generation in force, and the one that this boot of the machine came up with.
CREATE TABLE current (
    id         INTEGER PRIMARY KEY CHECK (id = 1),
    generation INTEGER REFERENCES generation (number),
    booted     INTEGER REFERENCES generation (number),
    boot_id    TEXT
) STRICT;
INSERT INTO current (id) VALUES (1);

-- One row per apply that had anything to do.
CREATE TABLE apply (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    started     INTEGER NOT NULL,
    finished    INTEGER,
    who         TEXT NOT NULL,
    message     TEXT NOT NULL,
    rollback_of INTEGER,
    base        INTEGER,
    description TEXT NOT NULL,
    lock        TEXT NOT NULL,
    plan        TEXT NOT NULL,
    -- forward, undoing, then done, undone or partly.
    state       TEXT NOT NULL CHECK (state IN ('forward', 'undoing', 'done', 'undone', 'partly')),
    failure     TEXT
) STRICT;
CREATE INDEX apply_unfinished ON apply (id) WHERE finished IS NULL;

-- One row per step, written before and after it.
CREATE TABLE step (
    apply  INTEGER NOT NULL REFERENCES apply (id) ON DELETE CASCADE,
    id     INTEGER NOT NULL,
    state  TEXT NOT NULL
        CHECK (state IN ('started', 'done', 'failed', 'undoing', 'undone', 'stuck')),
    at     INTEGER NOT NULL,
    result TEXT,
    PRIMARY KEY (apply, id)
) STRICT;
