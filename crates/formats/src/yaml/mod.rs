//! A YAML document as a tree that knows where everything stands.
//!
//! Aliases share their nodes and merge keys (`<<`) are resolved. What would make the tree too deep or too large,
//! aliases multiplied out, is refused with the place where it does.

mod build;
pub mod scalar;

pub use build::{Rules, parse};
pub use scalar::{Dialect, Scalar};

use crate::diagnostic::Place;
use std::sync::Arc;

/// A document may be at most so long; what people write by hand is below one hundredth of it.
pub const MAX_BYTES: usize = 32 << 20;
/// Lists and mappings in each other.
pub const MAX_DEPTH: usize = 100;
/// Nodes, aliases multiplied out.
pub const MAX_NODES: usize = 4_000_000;

/// A value with its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Where it begins.
    pub place: Place,
    /// Its explicit tag if it is none of YAML's own: `!include`.
    pub tag: Option<Box<str>>,
    /// What it is.
    pub kind: Kind,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// A scalar.
    Scalar {
        /// As written, escapes and folding resolved.
        text: Box<str>,
        /// Neither quoted, nor a block, nor tagged as text: may be a number, a truth value or nothing.
        plain: bool,
    },
    /// `- a`
    List(Vec<Arc<Node>>),
    /// `a: b`, in the order of the file; each key once.
    Map(Vec<Entry>),
}

/// A key and its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The key.
    pub key: Key,
    /// The value.
    pub value: Arc<Node>,
}

/// A key with its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Key {
    /// As written.
    pub text: Box<str>,
    /// Where it begins.
    pub place: Place,
}

impl Node {
    /// What a scalar is by the rules of `dialect`; none for lists and mappings.
    pub fn scalar(&self, dialect: Dialect) -> Option<Scalar<'_>> {
        match &self.kind {
            Kind::Scalar { text, plain: true } => Some(scalar::plain(text, dialect)),
            Kind::Scalar { text, plain: false } => Some(Scalar::Text(text)),
            _ => None,
        }
    }

    /// The value of a key of a mapping.
    pub fn get(&self, key: &str) -> Option<&Arc<Node>> {
        match &self.kind {
            Kind::Map(entries) => {
                entries.iter().find(|entry| *entry.key.text == *key).map(|entry| &entry.value)
            }
            _ => None,
        }
    }

    /// What it is, for a sentence.
    pub fn what(&self, dialect: Dialect) -> &'static str {
        match &self.kind {
            Kind::List(_) => "a list",
            Kind::Map(_) => "a mapping",
            Kind::Scalar { .. } => self.scalar(dialect).map_or("a scalar", |scalar| scalar.what()),
        }
    }
}
