-- What was handed in, and how it was judged.
--
-- Times are microseconds since 1970-01-01 UTC. A value that is not a number (NaN) is NULL in a REAL
-- column; the text beside it says what was measured.

-- "CRUS": tells a store from a database of another program.
PRAGMA application_id = 0x43525553;

CREATE TABLE code (
    code_hash TEXT PRIMARY KEY CHECK (length(code_hash) = 64 AND code_hash NOT GLOB '*[^0-9a-f]*'),
    -- The bytes as they were handed in: they need not be UTF-8 to be refused and kept.
    code BLOB NOT NULL
) STRICT;

CREATE TABLE submissions (
    submission_id TEXT PRIMARY KEY CHECK (submission_id <> ''),
    name TEXT NOT NULL,
    miner_hotkey TEXT,
    miner_uid INTEGER CHECK (miner_uid BETWEEN 0 AND 65535),
    code_hash TEXT NOT NULL REFERENCES code (code_hash),
    status TEXT NOT NULL,
    metric TEXT NOT NULL,
    final_score REAL,
    error_code TEXT,
    error_message TEXT,
    successful_runs INTEGER NOT NULL DEFAULT 0,
    runs INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    CHECK ((status = 'finished') = (final_score IS NOT NULL)),
    CHECK ((status IN ('failed_validation', 'failed_evaluation', 'error')) = (error_code IS NOT NULL)),
    CHECK ((error_code IS NULL) = (error_message IS NULL)),
    CHECK (successful_runs BETWEEN 0 AND runs)
) STRICT;

CREATE INDEX submissions_by_code ON submissions (code_hash);
CREATE INDEX submissions_by_score ON submissions (metric, final_score DESC, created_at, submission_id)
    WHERE final_score IS NOT NULL;
CREATE INDEX submissions_by_status ON submissions (status, created_at, submission_id);

CREATE TABLE evaluations (
    evaluation_id TEXT PRIMARY KEY CHECK (evaluation_id <> ''),
    submission_id TEXT NOT NULL REFERENCES submissions (submission_id) ON DELETE CASCADE,
    run INTEGER NOT NULL CHECK (run > 0),
    seed TEXT NOT NULL CHECK (length(seed) = 64 AND seed NOT GLOB '*[^0-9a-f]*'),
    mfu REAL,
    tokens_per_second REAL,
    total_tokens INTEGER,
    wall_time_seconds REAL,
    success INTEGER NOT NULL GENERATED ALWAYS AS (error_code IS NULL) VIRTUAL,
    error_code TEXT,
    error_message TEXT,
    created_at INTEGER NOT NULL,
    UNIQUE (submission_id, run),
    CHECK ((error_code IS NULL) = (error_message IS NULL))
) STRICT;

CREATE TABLE checks (
    evaluation_id TEXT NOT NULL REFERENCES evaluations (evaluation_id) ON DELETE CASCADE,
    -- Place in the order in which the checks are made, from 0.
    position INTEGER NOT NULL,
    name TEXT NOT NULL,
    measured REAL,
    measured_text TEXT NOT NULL,
    limit_value REAL,
    limit_text TEXT NOT NULL,
    verdict TEXT NOT NULL CHECK (verdict IN ('passed', 'failed', 'not_required', 'not_made')),
    -- The code that a failure of this check gives.
    error_code TEXT,
    PRIMARY KEY (evaluation_id, position),
    CHECK (verdict <> 'failed' OR error_code IS NOT NULL)
) STRICT, WITHOUT ROWID;

CREATE TABLE reports (
    submission_id TEXT PRIMARY KEY REFERENCES submissions (submission_id) ON DELETE CASCADE,
    report TEXT NOT NULL CHECK (json_valid(report))
) STRICT;
