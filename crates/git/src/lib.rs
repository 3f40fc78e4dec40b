//! Repositories of the gate: fetched, merged without a work tree, served, landed, and the receipts of what landed.
//!
//! Objects, references and histories are read and written in this process by gix; what must be as git does it (merges
//! with rename detection, merges of one file's content, the network) is done by the git program, in a process group
//! of its own under a deadline. All of [`Repos`] blocks its thread; [`serve`] is asynchronous.
#![warn(missing_docs)]

pub mod checkout;
mod error;
mod history;
mod land;
mod merge;
mod name;
mod object;
pub mod peek;
mod receipts;
mod refs;
mod repos;
mod run;
pub mod serve;
mod state;

pub use error::GitError;
pub use history::{History, HistoryError};
pub use land::{Move, PushRefusal};
pub use merge::{ConflictPaths, GerritType, MergeFailure, Merged, Message, Mode, Signature, ToMerge};
pub use name::{BranchName, CommitId, Identity, NameError, ProjectName, RefName, TreeId};
pub use receipts::{RECEIPTS, receipt_path};
pub use refs::Unused;
pub use repos::{Refspec, Remote, Repos};
pub use state::{State, Tip};
