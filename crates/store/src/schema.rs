//! The tables. Versions are only ever added; a released one is never changed.
//!
//! Times are microseconds since 1970-01-01T00:00:00Z, words are TEXT, structured values are JSON in TEXT.
//! `{ID}` stands for what each database wants for a number as primary key, `{BYTES}` for a text that is compared byte by
//! byte, and `{CLUSTERED}` for rows that are kept in the order of their key where a database can do that.

/// One version's statements, run in one transaction.
pub(crate) struct Version {
    pub(crate) number: i64,
    pub(crate) statements: &'static [&'static str],
}

/// The table that knows which version the others have.
pub(crate) const VERSION_TABLE: &str = "CREATE TABLE IF NOT EXISTS schema_version (version {ID})";

/// All versions, oldest first.
pub(crate) const VERSIONS: &[Version] = &[
    Version {
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
    },
    Version {
        number: 2,
        statements: &[
            // What the gate is made of, items and reports apart; `body` is the row as JSON. Of rows that only ever grow
            // more (evidence), `at` tells the latest.
            "CREATE TABLE gate_rows (
            kind TEXT NOT NULL,
            key TEXT NOT NULL,
            at BIGINT NOT NULL,
            body TEXT NOT NULL,
            PRIMARY KEY (kind, key)
        )",
            "CREATE INDEX gate_rows_by_time ON gate_rows (kind, at)",
            "CREATE TABLE gate_items (
            id {ID},
            pipeline TEXT NOT NULL,
            project TEXT NOT NULL,
            ended_at BIGINT,
            body TEXT NOT NULL
        )",
            "CREATE INDEX gate_items_open ON gate_items (id) WHERE ended_at IS NULL",
            "CREATE INDEX gate_items_by_pipeline ON gate_items (pipeline, id)",
            // Which items a change was in; the change's number is unique within its source.
            "CREATE TABLE gate_item_changes (
            source TEXT NOT NULL,
            number BIGINT NOT NULL,
            item BIGINT NOT NULL,
            PRIMARY KEY (source, number, item)
        )",
            // What an item's body no longer says when it stands on something else.
            "CREATE TABLE gate_buildsets (
            item BIGINT NOT NULL,
            number BIGINT NOT NULL,
            body TEXT NOT NULL,
            PRIMARY KEY (item, number)
        )",
            "CREATE TABLE gate_builds (
            uuid TEXT PRIMARY KEY,
            item BIGINT NOT NULL,
            buildset BIGINT NOT NULL,
            job TEXT NOT NULL,
            project TEXT NOT NULL,
            pipeline TEXT NOT NULL,
            branch TEXT NOT NULL,
            voting BIGINT NOT NULL,
            tree TEXT,
            asked_at BIGINT NOT NULL,
            started_at BIGINT,
            ended_at BIGINT,
            result TEXT
        )",
            "CREATE INDEX gate_builds_by_job ON gate_builds (job, asked_at)",
            "CREATE INDEX gate_builds_by_end ON gate_builds (ended_at, uuid)",
            "CREATE INDEX gate_builds_by_item ON gate_builds (item, asked_at)",
            // The job that runs a build, and the address of its logs.
            "CREATE TABLE gate_jobs (
            uuid TEXT PRIMARY KEY,
            job BIGINT NOT NULL,
            log_path TEXT
        )",
            "CREATE INDEX gate_jobs_by_log_path ON gate_jobs (log_path)",
            // The outbox: delivered in order of item and number to each target.
            "CREATE TABLE gate_reports (
            item BIGINT NOT NULL,
            number BIGINT NOT NULL,
            body TEXT NOT NULL,
            state TEXT NOT NULL,
            attempts BIGINT NOT NULL,
            next_try BIGINT,
            last_error TEXT,
            delivered_at BIGINT,
            PRIMARY KEY (item, number)
        )",
            "CREATE INDEX gate_reports_open ON gate_reports (item, number) WHERE state = 'waiting'",
            // Events, stored before their source's cursor moves on.
            "CREATE TABLE inbox (
            id {ID},
            source TEXT NOT NULL,
            dedupe_key TEXT NOT NULL,
            received_at BIGINT NOT NULL,
            change_number BIGINT,
            body TEXT NOT NULL,
            state TEXT NOT NULL,
            caused TEXT,
            UNIQUE (source, dedupe_key)
        )",
            "CREATE INDEX inbox_open ON inbox (id) WHERE state = 'received'",
            "CREATE INDEX inbox_by_change ON inbox (source, change_number)",
            "CREATE INDEX inbox_by_time ON inbox (source, received_at)",
            // How far each source has been read, and what it knew then.
            "CREATE TABLE cursors (
            source TEXT NOT NULL,
            name TEXT NOT NULL,
            value TEXT NOT NULL,
            PRIMARY KEY (source, name)
        )",
            // Signed statements about what landed; published in the repository of the project.
            "CREATE TABLE receipts (
            project TEXT NOT NULL,
            branch TEXT NOT NULL,
            commit_id TEXT NOT NULL,
            item BIGINT NOT NULL,
            body TEXT NOT NULL,
            signed_at BIGINT NOT NULL,
            published_at BIGINT,
            attempts BIGINT NOT NULL,
            last_error TEXT,
            PRIMARY KEY (project, branch, commit_id)
        )",
            "CREATE INDEX receipts_open ON receipts (signed_at) WHERE published_at IS NULL",
            "CREATE INDEX receipts_by_item ON receipts (item)",
            // The last number that items and autoholds had, whatever has been removed since.
            "ALTER TABLE leader ADD COLUMN last_item BIGINT NOT NULL DEFAULT 0",
            "ALTER TABLE leader ADD COLUMN last_autohold BIGINT NOT NULL DEFAULT 0",
            "ALTER TABLE leader ADD COLUMN last_event BIGINT NOT NULL DEFAULT 0",
        ],
    },
    Version {
        number: 3,
        statements: &[
            // The scenario of a job: what history, matrix and filters ask for.
            "ALTER TABLE jobs ADD COLUMN distri TEXT",
            "ALTER TABLE jobs ADD COLUMN version TEXT",
            "ALTER TABLE jobs ADD COLUMN flavor TEXT",
            "ALTER TABLE jobs ADD COLUMN arch TEXT",
            "ALTER TABLE jobs ADD COLUMN test TEXT",
            "ALTER TABLE jobs ADD COLUMN machine TEXT",
            "ALTER TABLE jobs ADD COLUMN build TEXT",
            "ALTER TABLE jobs ADD COLUMN group_id BIGINT",
            "ALTER TABLE jobs ADD COLUMN run BIGINT",
            // JSON as the engine has it; NULL for a job that depends on nothing. `job_parents` says the same for walks.
            "ALTER TABLE jobs ADD COLUMN parents TEXT",
            "ALTER TABLE jobs ADD COLUMN clone_of BIGINT",
            "ALTER TABLE jobs ADD COLUMN cloned_as BIGINT",
            "ALTER TABLE jobs ADD COLUMN retries TEXT",
            "ALTER TABLE jobs ADD COLUMN hold TEXT",
            "ALTER TABLE jobs ADD COLUMN wait TEXT",
            "ALTER TABLE jobs ADD COLUMN blocked_by BIGINT",
            "UPDATE jobs SET distri = NULLIF({SETTING:DISTRI}, ''), version = NULLIF({SETTING:VERSION}, ''),
            flavor = NULLIF({SETTING:FLAVOR}, ''), arch = NULLIF({SETTING:ARCH}, ''),
            test = NULLIF({SETTING:TEST}, ''), machine = NULLIF({SETTING:MACHINE}, ''),
            build = NULLIF({SETTING:BUILD}, '')",
            "CREATE INDEX jobs_by_scenario ON jobs (test, distri, version, flavor, arch, machine, id)",
            "CREATE INDEX jobs_by_build ON jobs (build, id)",
            "CREATE INDEX jobs_by_group ON jobs (group_id, build, id)",
            "CREATE INDEX jobs_by_run ON jobs (run, id) WHERE run IS NOT NULL",
            "CREATE INDEX jobs_by_origin ON jobs (clone_of) WHERE clone_of IS NOT NULL",
            "CREATE INDEX jobs_by_clone ON jobs (cloned_as) WHERE cloned_as IS NOT NULL",
            "CREATE TABLE job_parents (
            job BIGINT NOT NULL,
            parent BIGINT NOT NULL,
            relation BIGINT NOT NULL,
            PRIMARY KEY (job, parent, relation)
        )",
            "CREATE INDEX job_parents_by_parent ON job_parents (parent, job)",
            // Posts of products; `body` is what was asked for and what was left out, as JSON.
            "CREATE TABLE product_runs (
            id {ID},
            distri TEXT,
            version TEXT,
            flavor TEXT,
            arch TEXT,
            build TEXT,
            created_at BIGINT NOT NULL,
            jobs TEXT NOT NULL,
            obsoleted TEXT NOT NULL,
            body TEXT NOT NULL
        )",
            "CREATE INDEX product_runs_by_build ON product_runs (build, id)",
            "ALTER TABLE leader ADD COLUMN last_run BIGINT NOT NULL DEFAULT 0",
        ],
    },
    Version {
        number: 4,
        statements: &[
            // The last number that each table's rows had, whatever has been removed since.
            "CREATE TABLE numbers (
            name TEXT PRIMARY KEY,
            last BIGINT NOT NULL
        )",
            "INSERT INTO numbers (name, last) VALUES ('users', 0), ('comments', 0), ('audit_events', 0), ('machine', 0), \
             ('test_suite', 0), ('product', 0), ('job_template', 0), ('group', 0), ('parent_group', 0)",
            "CREATE TABLE users (
            id {ID},
            name TEXT NOT NULL UNIQUE,
            role TEXT NOT NULL,
            created_at BIGINT NOT NULL
        )",
            // The secret is sealed with a key that is not in the database.
            "CREATE TABLE api_keys (
            key TEXT PRIMARY KEY,
            user_id BIGINT NOT NULL REFERENCES users (id),
            sealed TEXT NOT NULL,
            created_at BIGINT NOT NULL,
            expires_at BIGINT,
            last_used_at BIGINT
        )",
            // What products are scheduled from; `name` is what makes an entry unique, `body` the entry as JSON.
            "CREATE TABLE catalog (
            kind TEXT NOT NULL,
            id BIGINT NOT NULL,
            name TEXT NOT NULL,
            body TEXT NOT NULL,
            PRIMARY KEY (kind, id),
            UNIQUE (kind, name)
        )",
            "CREATE TABLE comments (
            id {ID},
            target_kind TEXT NOT NULL,
            target BIGINT NOT NULL,
            author TEXT NOT NULL,
            text TEXT NOT NULL,
            created_at BIGINT NOT NULL,
            updated_at BIGINT NOT NULL
        )",
            "CREATE INDEX comments_by_target ON comments (target_kind, target, id)",
            "CREATE TABLE audit_events (
            id {ID},
            at BIGINT NOT NULL,
            author TEXT NOT NULL,
            event TEXT NOT NULL,
            data TEXT NOT NULL
        )",
        ],
    },
    Version {
        number: 5,
        statements: &[
            "INSERT INTO numbers (name, last) VALUES ('assets', 0)",
            // Versions of assets: the greatest number of a kind and name is what a job gets. The bytes are a blob.
            "CREATE TABLE assets (
            id {ID},
            kind TEXT NOT NULL,
            name TEXT NOT NULL,
            sha256 TEXT NOT NULL,
            size BIGINT NOT NULL,
            private_of BIGINT,
            published_by BIGINT,
            fixed BIGINT NOT NULL,
            created_at BIGINT NOT NULL,
            used_at BIGINT
        )",
            "CREATE INDEX assets_by_name ON assets (kind, name, id)",
            "CREATE INDEX assets_by_blob ON assets (sha256)",
            // Which version a job read under a setting, or published; outlives the version itself.
            "CREATE TABLE job_assets (
            job BIGINT NOT NULL,
            role TEXT NOT NULL,
            setting TEXT NOT NULL,
            asset BIGINT NOT NULL,
            kind TEXT NOT NULL,
            name TEXT NOT NULL,
            sha256 TEXT NOT NULL,
            size BIGINT NOT NULL,
            PRIMARY KEY (job, role, setting)
        )",
            "CREATE INDEX job_assets_by_asset ON job_assets (asset, job)",
            // Uploads in progress; how far each has come is the length of its file.
            "CREATE TABLE asset_uploads (
            id TEXT PRIMARY KEY,
            kind TEXT NOT NULL,
            name TEXT NOT NULL,
            size BIGINT NOT NULL,
            sha256 TEXT,
            private_of BIGINT,
            job BIGINT,
            setting TEXT,
            created_at BIGINT NOT NULL
        )",
        ],
    },
    Version {
        number: 6,
        statements: &[
            // What lets a browser in: only a hash of it is here.
            "CREATE TABLE tickets (
            hash TEXT PRIMARY KEY,
            kind TEXT NOT NULL,
            user_id BIGINT NOT NULL REFERENCES users (id),
            created_at BIGINT NOT NULL,
            expires_at BIGINT NOT NULL
        )",
        ],
    },
    Version {
        number: 7,
        statements: &[
            // Mutexes and barriers of a cluster whose jobs run, as the engine has them, in JSON.
            "CREATE TABLE cluster_locks (
            cluster BIGINT PRIMARY KEY,
            body TEXT NOT NULL
        )",
        ],
    },
    Version {
        number: 8,
        statements: &[
            // Written by those who look after posts, never with the rest of the row.
            "ALTER TABLE product_runs ADD COLUMN note TEXT",
            "ALTER TABLE product_runs ADD COLUMN cancelled_by TEXT",
            "ALTER TABLE product_runs ADD COLUMN webhook TEXT",
            "ALTER TABLE workers ADD COLUMN drained_by TEXT",
            "CREATE INDEX product_runs_by_webhook ON product_runs (webhook, id)",
            "INSERT INTO numbers (name, last) VALUES ('bugs', 0)",
            // Bugs that comments name, and what programs beside the server have found out about them.
            "CREATE TABLE bugs (
            id {ID},
            bugid TEXT NOT NULL UNIQUE,
            facts TEXT NOT NULL,
            known BIGINT NOT NULL,
            refreshed BIGINT NOT NULL,
            created_at BIGINT NOT NULL,
            updated_at BIGINT NOT NULL
        )",
        ],
    },
    Version {
        number: 9,
        statements: &[
            // Results of tests: see `results`. Rows never change and are never removed.
            "CREATE TABLE testcases (
            name {BYTES} PRIMARY KEY,
            ref_url TEXT
        )",
            "CREATE TABLE result_groups (
            uuid {BYTES} PRIMARY KEY,
            created_at BIGINT NOT NULL,
            description {BYTES},
            ref_url TEXT,
            results BIGINT NOT NULL
        )",
            "CREATE INDEX result_groups_by_time ON result_groups (created_at, uuid)",
            "CREATE INDEX result_groups_by_description ON result_groups (description)",
            // `group_uuids` is a JSON list, `data` a JSON object of lists.
            "CREATE TABLE results (
            id {ID},
            testcase {BYTES} NOT NULL,
            at BIGINT NOT NULL,
            outcome TEXT NOT NULL,
            note TEXT,
            ref_url TEXT,
            group_uuids TEXT NOT NULL,
            data TEXT NOT NULL,
            dedupe TEXT
        )",
            "CREATE INDEX results_by_time ON results (at, id)",
            "CREATE UNIQUE INDEX results_once ON results (dedupe) WHERE dedupe IS NOT NULL",
            // What results are found by, in the order of time; a term is a hash of a field and a value.
            "CREATE TABLE result_terms (
            term BIGINT NOT NULL,
            at BIGINT NOT NULL,
            result BIGINT NOT NULL,
            PRIMARY KEY (term, at, result)
        ){CLUSTERED}",
            // The values behind the terms of data, their first 256 characters.
            "CREATE TABLE result_words (
            term BIGINT PRIMARY KEY,
            key {BYTES} NOT NULL,
            value {BYTES} NOT NULL
        )",
            "CREATE INDEX result_words_by_value ON result_words (key, value)",
            "INSERT INTO numbers (name, last) VALUES ('waivers', 0)",
            // Never changed: a newer one takes the place of an older.
            "CREATE TABLE waivers (
            id {ID},
            at BIGINT NOT NULL,
            subject_type TEXT NOT NULL,
            subject_identifier TEXT NOT NULL,
            testcase TEXT NOT NULL,
            scenario TEXT,
            username TEXT NOT NULL,
            proxied_by TEXT,
            product_version TEXT NOT NULL,
            waived BIGINT NOT NULL,
            comment TEXT NOT NULL,
            expires_at BIGINT
        )",
            "CREATE INDEX waivers_by_subject ON waivers (subject_identifier, subject_type, testcase, id)",
            // What was decided, whenever it was another decision than before.
            "CREATE TABLE decisions (
            id {ID},
            at BIGINT NOT NULL,
            subject_type TEXT NOT NULL,
            subject_identifier TEXT NOT NULL,
            product_version TEXT NOT NULL,
            context TEXT NOT NULL,
            satisfied BIGINT NOT NULL,
            summary TEXT NOT NULL,
            body TEXT NOT NULL
        )",
            "CREATE INDEX decisions_by_subject ON decisions (subject_identifier, subject_type, id)",
        ],
    },
    Version {
        number: 10,
        statements: &[
            "INSERT INTO numbers (name, last) VALUES ('messages', 0)",
            // Events of outside systems. Sources of one bus bring the same messages. `caused` says what rules made of one,
            // or why it is parked.
            "CREATE TABLE messages (
            id {ID},
            source TEXT NOT NULL,
            bus TEXT NOT NULL,
            dedupe_key TEXT NOT NULL,
            topic TEXT NOT NULL,
            headers TEXT NOT NULL,
            body TEXT NOT NULL,
            sent_at BIGINT,
            received_at BIGINT NOT NULL,
            state TEXT NOT NULL,
            caused TEXT,
            recovered BIGINT NOT NULL,
            generation BIGINT NOT NULL,
            UNIQUE (bus, dedupe_key)
        )",
            "CREATE INDEX messages_open ON messages (id) WHERE state = 'received'",
            "CREATE INDEX messages_by_source ON messages (source, id)",
            // What rules want done, each once under its key; stored with the event's state, carried out afterwards.
            "CREATE TABLE effects (
            key TEXT PRIMARY KEY,
            event BIGINT NOT NULL,
            rule TEXT NOT NULL,
            item_type TEXT NOT NULL,
            item TEXT NOT NULL,
            body TEXT NOT NULL,
            group_key TEXT,
            state TEXT NOT NULL,
            due_at BIGINT NOT NULL,
            caused TEXT,
            planned_at BIGINT NOT NULL
        )",
            "CREATE INDEX effects_waiting ON effects (due_at) WHERE state = 'waiting'",
            "CREATE INDEX effects_held ON effects (event) WHERE state = 'held'",
            "CREATE INDEX effects_groups ON effects (group_key) WHERE state = 'waiting' AND group_key IS NOT NULL",
            "CREATE INDEX effects_by_event ON effects (event)",
            "CREATE INDEX effects_by_rule ON effects (rule, planned_at)",
            "CREATE INDEX jobs_by_end ON jobs (finished_at, id) WHERE finished_at IS NOT NULL",
            "CREATE INDEX effects_by_item ON effects (item_type, item)",
        ],
    },
    Version {
        number: 11,
        statements: &[
            // When the jobs of a group (0: without one, -1: builds of the gate) last got a slot that needs a class.
            "CREATE TABLE shares (
            party BIGINT NOT NULL,
            class {BYTES} NOT NULL,
            served BIGINT NOT NULL,
            PRIMARY KEY (party, class)
        )",
        ],
    },
    Version {
        number: 12,
        statements: &[
            // Whom a provider of OpenID Connect means by a subject. Users from before get theirs when they next sign in.
            "CREATE TABLE identities (
            issuer {BYTES} NOT NULL,
            subject {BYTES} NOT NULL,
            user_id BIGINT NOT NULL UNIQUE REFERENCES users (id),
            PRIMARY KEY (issuer, subject)
        )",
        ],
    },
    Version {
        number: 13,
        statements: &[
            "INSERT INTO numbers (name, last) VALUES ('outbox', 0)",
            // What outside systems and people are to be told: written with what decides it, told in this order.
            "CREATE TABLE outbox (
            id {ID},
            target TEXT NOT NULL,
            key TEXT NOT NULL,
            kind TEXT NOT NULL,
            about TEXT NOT NULL,
            body TEXT NOT NULL,
            at BIGINT NOT NULL,
            state TEXT NOT NULL,
            attempts BIGINT NOT NULL,
            next_try BIGINT,
            note TEXT,
            ended_at BIGINT,
            UNIQUE (target, key)
        )",
            "CREATE INDEX outbox_waiting ON outbox (target, id) WHERE state = 'waiting'",
            "CREATE INDEX outbox_by_end ON outbox (ended_at) WHERE ended_at IS NOT NULL",
            // What people want to hear of, by their names.
            "CREATE TABLE notices (
            name TEXT PRIMARY KEY,
            body TEXT NOT NULL,
            updated_at BIGINT NOT NULL
        )",
        ],
    },
    Version {
        number: 14,
        statements: &[
            // What a message tells, the same whoever tells it.
            "ALTER TABLE messages ADD COLUMN news TEXT",
            "CREATE INDEX messages_by_news ON messages (bus, news) WHERE news IS NOT NULL",
            "CREATE INDEX messages_recovered ON messages (bus) WHERE recovered = 1",
        ],
    },
    Version {
        number: 15,
        statements: &[
            // What the gate tells is in the outbox as well, and belongs to an item.
            "ALTER TABLE outbox ADD COLUMN item BIGINT",
            "CREATE INDEX outbox_of_item ON outbox (item, id) WHERE item IS NOT NULL",
            "INSERT INTO outbox (id, target, key, kind, about, body, at, state, attempts, next_try, note, ended_at, item) \
             SELECT (SELECT last FROM numbers WHERE name = 'outbox') + ROW_NUMBER() OVER (ORDER BY item, number), \
             'gate/' || {ACTION:source}, item || '.' || number, 'gate.' || {ACTION:report}, 'item ' || item, body, \
             COALESCE(delivered_at, next_try, (SELECT MAX(received_at) FROM inbox), 0), \
             CASE state WHEN 'undeliverable' THEN 'refused' ELSE state END, attempts, next_try, last_error, delivered_at, item \
             FROM gate_reports",
            "UPDATE numbers SET last = last + (SELECT COUNT(*) FROM gate_reports) WHERE name = 'outbox'",
            "DROP TABLE gate_reports",
            "CREATE INDEX decisions_by_release ON decisions (product_version, id)",
        ],
    },
    Version {
        number: 16,
        statements: &[
            // The commit in which a job came to its end: it grows, whatever clocks do. Those that ended last may not have
            // been told; they have the first place.
            "ALTER TABLE jobs ADD COLUMN ended_in BIGINT",
            "UPDATE jobs SET ended_in = 0 WHERE finished_at >= (SELECT MAX(finished_at) - 60000000 FROM jobs)",
            "DROP INDEX jobs_by_end",
            "CREATE INDEX jobs_by_ending ON jobs (ended_in, id) WHERE ended_in IS NOT NULL",
        ],
    },
    Version {
        number: 17,
        statements: &[
            // What is to be decided about, from when on; see `results::undecided`. Waivers from before expire, too.
            "CREATE TABLE undecided (
            due_at BIGINT NOT NULL,
            subject_type {BYTES} NOT NULL,
            subject_identifier {BYTES} NOT NULL,
            round BIGINT NOT NULL,
            PRIMARY KEY (due_at, subject_type, subject_identifier)
        ){CLUSTERED}",
            "INSERT INTO undecided (due_at, subject_type, subject_identifier, round) \
             SELECT DISTINCT expires_at, subject_type, subject_identifier, 1 FROM waivers WHERE expires_at IS NOT NULL",
            // For each purpose a hash of the policies and templates by which was decided.
            "CREATE TABLE decision_bases (
            context {BYTES} PRIMARY KEY,
            basis TEXT NOT NULL
        )",
            // The newest decision about something, as it is told.
            "ALTER TABLE decisions ADD COLUMN told TEXT",
            "CREATE INDEX decisions_by_time ON decisions (at)",
            // Whatever a subject is called by, decisions have its kind's own name.
            "UPDATE decisions SET subject_type = 'koji_build' WHERE subject_type = 'brew-build'",
        ],
    },
    Version {
        number: 18,
        statements: &[
            // What is counted of events and leaves no row behind: by source what was `known` before, by rule how often it
            // `failed`.
            "CREATE TABLE tallies (
            what {BYTES} NOT NULL,
            name {BYTES} NOT NULL,
            number BIGINT NOT NULL,
            last BIGINT NOT NULL,
            PRIMARY KEY (what, name)
        )",
        ],
    },
];
