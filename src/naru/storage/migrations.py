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
    """
    CREATE TABLE account (
        id TEXT PRIMARY KEY,
        kind TEXT NOT NULL CHECK (kind IN ('organisation', 'team')),
        name TEXT NOT NULL UNIQUE,
        created_at REAL NOT NULL,
        parent TEXT REFERENCES account(id),
        closed_at REAL,
        time_zone TEXT NOT NULL,
        limits TEXT NOT NULL,
        metadata TEXT NOT NULL
    ) STRICT;
    INSERT INTO account SELECT DISTINCT 'team-' || team, 'team', team, 0, NULL, NULL, 'UTC', '{}', '{}'
        FROM key WHERE team IS NOT NULL;
    CREATE TABLE new_key (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL,
        digest BLOB NOT NULL,
        role TEXT NOT NULL CHECK (role IN ('caller', 'viewer', 'admin', 'owner')),
        created_at REAL NOT NULL,
        expires_at REAL,
        revoked_at REAL,
        models TEXT NOT NULL,
        account TEXT REFERENCES account(id),
        addresses TEXT NOT NULL,
        limits TEXT NOT NULL,
        metadata TEXT NOT NULL,
        principal TEXT NOT NULL
    ) STRICT;
    -- Who was admin could do everything, and still can.
    INSERT INTO new_key SELECT id, name, digest, CASE role WHEN 'admin' THEN 'owner' ELSE role END, created_at, expires_at,
        revoked_at, models, 'team-' || team, '[]', '{}', '{}', id FROM key;
    DROP TABLE key;
    ALTER TABLE new_key RENAME TO key;
    CREATE TABLE budget (
        id TEXT PRIMARY KEY,
        owner TEXT NOT NULL,
        amount_nano INTEGER NOT NULL CHECK (amount_nano >= 0),
        window TEXT NOT NULL CHECK (window IN ('total', 'day', 'week', 'month')),
        time_zone TEXT NOT NULL,
        mode TEXT NOT NULL CHECK (mode IN ('strict', 'balanced', 'advisory')),
        created_at REAL NOT NULL,
        alerts TEXT NOT NULL,
        removed_at REAL
    ) STRICT;
    CREATE TABLE scope (
        id TEXT PRIMARY KEY,
        owner TEXT NOT NULL,
        mode TEXT NOT NULL CHECK (mode IN ('strict', 'balanced', 'advisory', 'credit')),
        starts_at REAL NOT NULL,
        ends_at REAL NOT NULL,
        limit_nano INTEGER NOT NULL CHECK (limit_nano >= 0),
        spent_nano INTEGER NOT NULL DEFAULT 0 CHECK (spent_nano >= 0),
        leased_nano INTEGER NOT NULL DEFAULT 0 CHECK (leased_nano >= 0),
        overrun_nano INTEGER NOT NULL DEFAULT 0 CHECK (overrun_nano >= 0),
        budget TEXT REFERENCES budget(id)
    ) STRICT;
    CREATE INDEX scope_owner ON scope (owner);
    CREATE TABLE lease (
        instance TEXT NOT NULL,
        scope TEXT NOT NULL REFERENCES scope(id),
        granted_nano INTEGER NOT NULL CHECK (granted_nano >= 0),
        PRIMARY KEY (instance, scope)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE credit (
        id TEXT PRIMARY KEY,
        owner TEXT NOT NULL,
        kind TEXT NOT NULL CHECK (kind IN ('topup', 'code', 'refund', 'adjust')),
        amount_nano INTEGER NOT NULL,
        at REAL NOT NULL,
        actor TEXT NOT NULL,
        amount TEXT NOT NULL,
        fx TEXT NOT NULL,
        reference TEXT,
        note TEXT NOT NULL,
        UNIQUE (owner, reference)
    ) STRICT;
    CREATE TABLE code (
        id TEXT PRIMARY KEY,
        digest BLOB NOT NULL UNIQUE,
        amount_nano INTEGER NOT NULL CHECK (amount_nano > 0),
        created_at REAL NOT NULL,
        expires_at REAL,
        redeemed_at REAL,
        redeemed_by TEXT,
        note TEXT NOT NULL
    ) STRICT;
    CREATE TABLE journal_offset (
        instance TEXT PRIMARY KEY,
        segment INTEGER NOT NULL,
        offset INTEGER NOT NULL
    ) STRICT;
    ALTER TABLE ledger_entry ADD COLUMN provider_cost_nano INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE ledger_entry ADD COLUMN tried TEXT NOT NULL DEFAULT '[]';
    ALTER TABLE ledger_entry ADD COLUMN user_hash TEXT NOT NULL DEFAULT '';
    ALTER TABLE ledger_entry ADD COLUMN fx TEXT NOT NULL DEFAULT '';
    ALTER TABLE ledger_entry ADD COLUMN scopes TEXT NOT NULL DEFAULT '[]';
    ALTER TABLE ledger_entry ADD COLUMN content TEXT;
    ALTER TABLE ledger_entry ADD COLUMN tier TEXT NOT NULL DEFAULT '';
    ALTER TABLE ledger_entry ADD COLUMN server_tools TEXT NOT NULL DEFAULT '[]';
    UPDATE ledger_entry SET provider_cost_nano = cost_nano;
    CREATE TRIGGER ledger_entry_stays BEFORE DELETE ON ledger_entry
        BEGIN SELECT RAISE(ABORT, 'ledger entries are never deleted'); END;
    CREATE TRIGGER ledger_entry_holds BEFORE UPDATE OF
        request_id, at, key_id, cost_nano, provider_cost_nano, scopes, input, output ON ledger_entry
        BEGIN SELECT RAISE(ABORT, 'ledger entries are never changed'); END;
    CREATE TABLE rollup_hour (
        start INTEGER NOT NULL,
        key_id TEXT NOT NULL,
        model TEXT NOT NULL,
        deployment TEXT NOT NULL,
        requests INTEGER NOT NULL,
        failed INTEGER NOT NULL,
        input INTEGER NOT NULL,
        output INTEGER NOT NULL,
        cached INTEGER NOT NULL,
        cost_nano INTEGER NOT NULL,
        provider_cost_nano INTEGER NOT NULL,
        latency_us INTEGER NOT NULL,
        ttft_us INTEGER NOT NULL,
        streams INTEGER NOT NULL,
        PRIMARY KEY (start, key_id, model, deployment)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE rollup_day (
        start INTEGER NOT NULL,
        key_id TEXT NOT NULL,
        model TEXT NOT NULL,
        deployment TEXT NOT NULL,
        requests INTEGER NOT NULL,
        failed INTEGER NOT NULL,
        input INTEGER NOT NULL,
        output INTEGER NOT NULL,
        cached INTEGER NOT NULL,
        cost_nano INTEGER NOT NULL,
        provider_cost_nano INTEGER NOT NULL,
        latency_us INTEGER NOT NULL,
        ttft_us INTEGER NOT NULL,
        streams INTEGER NOT NULL,
        PRIMARY KEY (start, key_id, model, deployment)
    ) STRICT, WITHOUT ROWID;
    INSERT INTO rollup_hour SELECT CAST(at / 3600 AS INTEGER) * 3600, key_id, model, deployment, count(*),
        sum(outcome IN ('failed', 'refused')), sum(input), sum(output), sum(cached), sum(cost_nano), sum(provider_cost_nano),
        sum(latency_us), sum(coalesce(ttft_us, 0)), count(ttft_us) FROM ledger_entry GROUP BY 1, 2, 3, 4;
    INSERT INTO rollup_day SELECT start / 86400 * 86400, key_id, model, deployment, sum(requests), sum(failed), sum(input),
        sum(output), sum(cached), sum(cost_nano), sum(provider_cost_nano), sum(latency_us), sum(ttft_us), sum(streams)
        FROM rollup_hour GROUP BY 1, 2, 3, 4;
    CREATE TABLE answer (
        key_id TEXT NOT NULL,
        idempotency_key TEXT NOT NULL,
        body_hash BLOB NOT NULL,
        status INTEGER NOT NULL,
        headers TEXT NOT NULL,
        body BLOB NOT NULL,
        expires_at REAL NOT NULL,
        PRIMARY KEY (key_id, idempotency_key)
    ) STRICT;
    -- What the hourly sweep looks for.
    CREATE INDEX answer_expires_at ON answer (expires_at);
    CREATE INDEX ledger_entry_content ON ledger_entry (at) WHERE content IS NOT NULL;
    CREATE TABLE audit (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        at REAL NOT NULL,
        actor TEXT NOT NULL,
        action TEXT NOT NULL,
        target TEXT NOT NULL,
        detail TEXT NOT NULL
    ) STRICT;
    CREATE TRIGGER audit_stays BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'the audit log is never shortened'); END;
    CREATE TRIGGER audit_holds BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'the audit log is never changed'); END;
    """,
    """
    ALTER TABLE ledger_entry ADD COLUMN plan TEXT NOT NULL DEFAULT '';
    """,
)
