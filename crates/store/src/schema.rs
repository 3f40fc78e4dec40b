//! The tables. Versions are only ever added; a released one is never changed.
//!
//! Times are microseconds since 1970-01-01T00:00:00Z, words are TEXT, structured values are JSON in TEXT.
//! `{ID}` stands for what each database wants for a number as primary key.

/// One version's statements, run in one transaction.
pub(crate) struct Version {
    pub(crate) number: i64,
    pub(crate) statements: &'static [&'static str],
}

/// The table that knows which version the others have.
pub(crate) const VERSION_TABLE: &str = "CREATE TABLE IF NOT EXISTS schema_version (version {ID})";

/// All versions, oldest first.
pub(crate) const VERSIONS: &[Version] = &[Version {
    number: 1,
    statements: &[
        // Who decides. Every deciding transaction updates the row, so that there is one at a time.
        "CREATE TABLE leader (
            id {ID} CHECK (id = 1),
            epoch BIGINT NOT NULL,
            commits BIGINT NOT NULL,
            last_job BIGINT NOT NULL,
            last_token BIGINT NOT NULL
        )",
        "INSERT INTO leader (id, epoch, commits, last_job, last_token) VALUES (1, 0, 0, 0, 0)",
        // `detail` is the state with its data; `state`, `outcome` and `reason` are what lists filter and show, and
        // `search` is name and reason in lower case.
        "CREATE TABLE jobs (
            id {ID},
            name TEXT NOT NULL,
            priority BIGINT NOT NULL,
            classes TEXT NOT NULL,
            settings TEXT NOT NULL,
            state TEXT NOT NULL,
            detail TEXT NOT NULL,
            outcome TEXT,
            outcome_class TEXT,
            reason TEXT,
            search TEXT NOT NULL,
            created_at BIGINT NOT NULL,
            started_at BIGINT,
            finished_at BIGINT
        )",
        "CREATE INDEX jobs_by_state ON jobs (state, id)",
        "CREATE INDEX jobs_by_outcome ON jobs (outcome, id)",
        "CREATE INDEX jobs_open ON jobs (id) WHERE finished_at IS NULL",
        "CREATE TABLE attempts (
            job BIGINT NOT NULL REFERENCES jobs (id),
            number BIGINT NOT NULL,
            token BIGINT NOT NULL UNIQUE,
            worker TEXT NOT NULL,
            instance TEXT NOT NULL,
            host TEXT NOT NULL,
            phase TEXT NOT NULL,
            assigned_at BIGINT NOT NULL,
            started_at BIGINT,
            finished_at BIGINT,
            outcome TEXT,
            outcome_class TEXT,
            reason TEXT,
            streams TEXT,
            PRIMARY KEY (job, number)
        )",
        "CREATE INDEX attempts_open ON attempts (token) WHERE finished_at IS NULL",
        "CREATE INDEX attempts_unclosed ON attempts (token) WHERE finished_at IS NOT NULL AND streams IS NULL",
        "CREATE TABLE workers (
            name TEXT PRIMARY KEY,
            instance TEXT NOT NULL,
            host TEXT NOT NULL,
            version TEXT NOT NULL,
            slots BIGINT NOT NULL,
            classes TEXT NOT NULL,
            status TEXT NOT NULL
        )",
        "CREATE TABLE queues (
            classes TEXT PRIMARY KEY,
            reason TEXT NOT NULL
        )",
    ],
}];
