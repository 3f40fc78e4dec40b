//! What can go wrong, with the remedy.

use assay_engine::ids::AttemptId;
use camino::Utf8PathBuf;

/// What a database says.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub enum DatabaseError {
    /// SQLite.
    Sqlite(rusqlite::Error),
    /// PostgreSQL.
    Postgres(sqlx::Error),
}

impl DatabaseError {
    /// True if it will never take these values.
    fn is_refusal(&self) -> bool {
        match self {
            Self::Sqlite(error) => {
                use rusqlite::ErrorCode::{ConstraintViolation, TooBig, TypeMismatch};
                matches!(error.sqlite_error_code(), Some(ConstraintViolation | TooBig | TypeMismatch))
            }
            // Classes 22 (data) and 23 (constraints).
            Self::Postgres(error) => error
                .as_database_error()
                .and_then(sqlx::error::DatabaseError::code)
                .is_some_and(|code| code.starts_with("22") || code.starts_with("23")),
        }
    }

    /// True if another row has this key.
    pub(crate) fn is_duplicate(&self) -> bool {
        match self {
            Self::Sqlite(error) => error.sqlite_error().is_some_and(|error| {
                [rusqlite::ffi::SQLITE_CONSTRAINT_UNIQUE, rusqlite::ffi::SQLITE_CONSTRAINT_PRIMARYKEY]
                    .contains(&error.extended_code)
            }),
            Self::Postgres(error) => {
                error.as_database_error().is_some_and(sqlx::error::DatabaseError::is_unique_violation)
            }
        }
    }
}

/// Why something could not be stored or found.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The address is of no kind that Assay knows.
    #[error("{url:?} is no database address; use sqlite:PATH or postgres://USER@HOST/DATABASE")]
    UnknownUrl {
        /// The address, without password.
        url: String,
    },
    /// Another server has become the leader.
    #[error("another server has taken over the leadership of this database; this one must stop deciding")]
    Deposed,
    /// A newer Assay has been here.
    #[error(
        "the database has tables of version {found}, and this Assay knows versions up to {known}; use the newer Assay, \
         or restore the backup made before it ran"
    )]
    NewerSchema {
        /// The database's version.
        found: i64,
        /// The newest version this program knows.
        known: i64,
    },
    /// No room.
    #[error("the disk is full: {path} has {free} bytes free; make room there, and Assay goes on by itself")]
    DiskFull {
        /// A directory on that disk, or the database's name where the disk is another machine's.
        path: String,
        /// Free bytes, or "an unknown number of" where nobody can tell.
        free: String,
    },
    /// Another row is called the same.
    #[error("cannot {doing}: there is another one of that name; use another name, or change the other one")]
    Duplicate {
        /// What was tried.
        doing: &'static str,
    },
    /// More values fit than can be looked for, or more rows than can be looked at.
    #[error(
        "the question is too broad: more than {most} fit; name an item or a test case, or narrow the time with since="
    )]
    TooBroad {
        /// The bound.
        most: usize,
    },
    /// The database does not answer or refuses.
    #[error("cannot {doing} in the database: {source}")]
    Database {
        /// What was tried.
        doing: &'static str,
        /// What the database says.
        #[source]
        source: DatabaseError,
    },
    /// The database could not be opened.
    #[error("cannot open the database {url}: {source}; {help}")]
    Open {
        /// Its address, without password.
        url: String,
        /// What the database says.
        #[source]
        source: DatabaseError,
        /// What to do.
        help: &'static str,
    },
    /// What it is decided by was another each time when it was to be remembered.
    #[error(
        "what is known of {item}, or the policies for it, changed each time while it was decided about; nothing was \
         remembered: what was due is tried again by itself, and another question about it tries it, too"
    )]
    Overtaken {
        /// What was to be decided about.
        item: String,
    },
    /// A row that Assay could not have written.
    #[error("the database has a broken row in {table}: {problem}; restore a backup, or report this as a bug")]
    BrokenRow {
        /// The table.
        table: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// A file could not be read or written.
    #[error("{0}")]
    File(#[source] std::io::Error),
    /// A name for a blob that is no SHA-256.
    #[error("{text:?} is not a SHA-256; expected 64 of the characters 0-9 a-f")]
    BadHash {
        /// The name, shortened.
        text: String,
    },
    /// The bytes are not the announced ones.
    #[error("the bytes have SHA-256 {found}, but {announced} was announced; send them again")]
    HashMismatch {
        /// What was announced.
        announced: String,
        /// What came.
        found: String,
    },
    /// A stored blob has changed on disk.
    #[error(
        "blob {path} is damaged: its bytes have SHA-256 {found}; check the disk and restore the file from a backup"
    )]
    Damaged {
        /// The blob's file.
        path: Utf8PathBuf,
        /// The hash of what is there.
        found: String,
    },
    /// An append that would leave a hole.
    #[error(
        "stream {stream} of attempt {attempt} has {have} bytes, and bytes from {offset} on were sent; send from {have} on"
    )]
    Gap {
        /// The attempt.
        attempt: AttemptId,
        /// The stream.
        stream: String,
        /// Bytes that are there: the offset to go on from.
        have: u64,
        /// The offset that was sent.
        offset: u64,
    },
    /// A stream's name that is no plain file name.
    #[error("{stream:?} is not a stream; use 1 to 64 of the characters a-z A-Z 0-9 . _ - and no dot first")]
    BadStream {
        /// The name, shortened.
        stream: String,
    },
    /// An upload that nobody began, or that has ended.
    #[error("there is no upload {upload:?}; it has been completed or given up: begin another one")]
    NoUpload {
        /// Its name, shortened.
        upload: String,
    },
    /// A piece of an upload that does not begin where the last one ended.
    #[error("the upload has {have} bytes, and bytes from {offset} on were sent; send from {have} on")]
    UploadOffset {
        /// Bytes that are there: the offset to go on from.
        have: u64,
        /// The offset that was sent.
        offset: u64,
    },
    /// An upload of another length than was announced.
    #[error("the upload has {have} bytes, and {size} were announced; send exactly as many")]
    UploadSize {
        /// Bytes that are there, or would be.
        have: u64,
        /// Bytes that were announced.
        size: u64,
    },
    /// The program is shutting down.
    #[error("the storage task was stopped; the server is shutting down")]
    Stopped,
}

impl StoreError {
    /// True if the database will never take what it was given: a value that it has no place for, or a broken rule of its tables.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Duplicate { .. } => true,
            Self::Database { source, .. } => source.is_refusal(),
            _ => false,
        }
    }
}
