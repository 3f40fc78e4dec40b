//! What releases wait for.
//!
//! | request | answer |
//! |---|---|
//! | `GET releases` | a list of [`ReleaseStanding`] |
//! | `GET releases/{product_version}?context=&limit=` | [`ReleaseWaits`] |

use serde::{Deserialize, Serialize};

/// A release about which something was decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseStanding {
    /// Its name, as policies and those who ask have it, for example `fedora-44`.
    pub product_version: String,
    /// Items and purposes that may not go on.
    pub waiting: u64,
    /// Those that may.
    pub satisfied: u64,
    /// When something was decided last.
    pub last: Option<String>,
}

/// Everything that a release waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseWaits {
    /// The release.
    pub product_version: String,
    /// Items that may not go on, those decided last first.
    pub items: Vec<WaitingItem>,
    /// There are more.
    pub more: bool,
}

/// An item that may not go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitingItem {
    /// The kind of item.
    pub item_type: String,
    /// The item.
    pub item: String,
    /// For what.
    pub context: String,
    /// One sentence.
    pub summary: String,
    /// When it was decided.
    pub since: String,
    /// What is not fulfilled.
    pub waits_for: Vec<Unmet>,
}

/// Something that is required and not fulfilled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unmet {
    /// As decisions have it, for example `test-result-missing`.
    pub what: String,
    /// The test case.
    pub testcase: String,
    /// Where.
    pub scenario: Option<String>,
}
