//! Names and numbers of the gate. Every kind of name is a type of its own.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text.into())
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.as_ref().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    )*};
}

names! {
    /// A connection to an outside system, as the configuration calls it: `gerrit`.
    SourceName;
    /// A pipeline: `check`, `gate`.
    PipelineName;
    /// A project, with its path: `openstack/nova`.
    ProjectName;
    /// A branch without `refs/heads/`, or a full ref name where there is no branch.
    BranchName;
    /// A job of the configuration.
    JobName;
    /// A change queue of a pipeline.
    QueueName;
    /// A mutex or semaphore.
    SemaphoreName;
    /// A git object id, 40 or 64 hexadecimal digits.
    Oid;
}

/// A change of a source, whatever its patchset.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ChangeId {
    /// Where it lives.
    pub source: SourceName,
    /// Its number there.
    pub number: u64,
}

impl fmt::Display for ChangeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.number)
    }
}

/// One patchset of a change. Written `1234,5`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Patchset {
    /// The change.
    pub change: ChangeId,
    /// 1 for the first.
    pub patchset: u32,
}

impl fmt::Display for Patchset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{}", self.change.number, self.patchset)
    }
}

/// An item in a pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ItemId(pub i64);

impl fmt::Display for ItemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A speculative state asked for: an item and the number of its buildset. Never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MergeId {
    /// The item.
    pub item: ItemId,
    /// Its buildset, from 1.
    pub buildset: u32,
}

impl fmt::Display for MergeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.item, self.buildset)
    }
}

/// 128 bits that name a build or a speculative state, written as 32 hexadecimal digits (Zuul's UUIDs).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Uuid(pub u128);

impl Uuid {
    /// The first seven digits, as in `LOG_PATH`.
    pub fn short(self) -> String {
        self.to_string()[..7].to_owned()
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl From<Uuid> for String {
    fn from(uuid: Uuid) -> Self {
        uuid.to_string()
    }
}

impl TryFrom<String> for Uuid {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let bits = u128::from_str_radix(&text, 16).ok().filter(|_| text.len() == 32);
        bits.map(Self).ok_or_else(|| format!("{text:?} is not a UUID of 32 hexadecimal digits"))
    }
}
