"""The schema, step by step. A step that was released is never edited; the next one is appended."""

from __future__ import annotations

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE key (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL,
        digest BLOB NOT NULL,
        role TEXT NOT NULL CHECK (role IN ('caller', 'admin')),
        created_at REAL NOT NULL,
        expires_at REAL,
        revoked_at REAL,
        models TEXT NOT NULL DEFAULT '[]',
        team TEXT
    );
    CREATE TABLE ledger_entry (
        request_id TEXT NOT NULL,
        kind TEXT NOT NULL DEFAULT 'request',
        scope TEXT NOT NULL DEFAULT '',
        at REAL NOT NULL,
        key_id TEXT NOT NULL,
        model TEXT NOT NULL,
        deployment TEXT NOT NULL,
        provider TEXT NOT NULL,
        upstream_model TEXT NOT NULL,
        dialect TEXT NOT NULL,
        is_stream INTEGER NOT NULL,
        outcome TEXT NOT NULL,
        status INTEGER NOT NULL,
        error_code TEXT,
        input INTEGER NOT NULL CHECK (input >= 0),
        output INTEGER NOT NULL CHECK (output >= 0),
        cached INTEGER NOT NULL,
        cache_write INTEGER NOT NULL,
        reasoning INTEGER NOT NULL,
        is_estimated INTEGER NOT NULL,
        cost_nano INTEGER NOT NULL CHECK (cost_nano >= 0),
        price_version TEXT,
        price_source TEXT,
        latency_us INTEGER NOT NULL,
        ttft_us INTEGER,
        attempts INTEGER NOT NULL,
        UNIQUE (request_id, kind, scope)
    );
    CREATE INDEX ledger_entry_at ON ledger_entry (at);
    """,
    """
    ALTER TABLE ledger_entry ADD COLUMN unit TEXT NOT NULL DEFAULT '';
    ALTER TABLE ledger_entry ADD COLUMN units INTEGER NOT NULL DEFAULT 0 CHECK (units >= 0);
    """,
)
