//! The signed receipt of a landing: what was tested, what landed, and why it was allowed to.
//!
//! A receipt is an in-toto statement in a DSSE envelope, signed with ed25519. `docs/protocols/receipt.md` has the
//! format; [`envelope`] signs and opens it, [`trust`] says whose signatures count, [`verify`](verify()) checks one
//! landing and [`audit`](audit()) a whole branch.

mod audit;
mod envelope;
mod key;
mod statement;
mod trust;
mod verify;

pub use audit::{Audit, CommitFacts, Covered, Uncovered, audit};
pub use envelope::{Envelope, EnvelopeSignature, PAYLOAD_TYPE, pae};
pub use key::{KeyFileError, PublicKey, PublicKeyError, Signer};
pub use statement::{
    Approval, Change, Job, Member, ObjectId, ObjectIdError, PREDICATE_TYPE, Point, Receipt, ReusedFrom,
    STATEMENT_TYPE, Server, Times, Waiver, Way, subject_name,
};
pub use trust::{TrustError, TrustFile, TrustedKey};
pub use verify::{Expected, ReceiptProblem, verify};
