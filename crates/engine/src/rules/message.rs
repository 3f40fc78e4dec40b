//! A message as rules see it.

use super::expr::Context;
use super::item::{self, Item};
use serde_json::{Map, Value, json};

/// Something that happened outside.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    topic: String,
    /// What tells it from all others: its bus and its key there.
    key: String,
    /// See [`item::occasion`].
    occasion: Option<String>,
    item: Option<Item>,
    root: Map<String, Value>,
}

impl Message {
    /// A message of `source`, on whose bus `key` tells it from others.
    pub fn new(source: &str, bus: &str, key: &str, topic: &str, headers: Value, body: Value) -> Self {
        let item = item::derive(topic, &body);
        let whole = format!("{bus}/{key}");
        let occasion = item::occasion(topic, &body, &whole);
        let mut root = Map::new();
        root.insert("topic".to_owned(), topic.into());
        root.insert("source".to_owned(), source.into());
        root.insert("id".to_owned(), key.into());
        root.insert("headers".to_owned(), headers);
        root.insert("body".to_owned(), body);
        if let Some(item) = &item {
            root.insert("item".to_owned(), item_value(item));
        }
        Self { topic: topic.to_owned(), key: whole, occasion, item, root }
    }

    /// True if another source may have told the same time of something in a message of its own.
    pub fn is_told_twice(&self) -> bool {
        item::is_told_twice(&self.topic)
    }

    /// The same, of which `key` on the bus told first: both are about one time.
    #[must_use]
    pub fn first_told_as(self, bus: &str, key: &str) -> Self {
        Self { occasion: Some(format!("{bus}/{key}")), ..self }
    }

    /// Its topic.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// What tells it from all others.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// What tells this time from others at which the like of it happened to its item.
    pub(super) fn occasion(&self) -> Option<&str> {
        self.occasion.as_deref()
    }

    /// What it is about, if its topic tells.
    pub fn item(&self) -> Option<&Item> {
        self.item.as_ref()
    }

    /// What it tells beside that.
    pub(super) fn body(&self) -> &Value {
        self.root.get("body").unwrap_or(&Value::Null)
    }

    /// For expressions.
    pub(super) fn context<'m>(&'m self, local: Option<&'m Map<String, Value>>) -> Context<'m> {
        Context { root: &self.root, local }
    }
}

/// `item` in expressions.
pub(super) fn item_value(item: &Item) -> Value {
    json!({"type": item.kind, "id": item.id, "revision": item.revision})
}
