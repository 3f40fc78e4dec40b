//! From the parser's events to the tree.

use super::{Dialect, Entry, Key, Kind, MAX_BYTES, MAX_DEPTH, MAX_NODES, Node};
use crate::diagnostic::{Place, Sink};
use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span, Tag};
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Reads one document. None if it is empty or cannot be read; the sink knows why.
///
/// A key that stands twice is an error, but only a warning in YAML 1.1, whose readers let the last one win.
pub fn parse(text: &str, file: u16, rules: Rules, sink: &mut Sink<'_>) -> Option<Arc<Node>> {
    let Rules { dialect, own_tags } = rules;
    let whole = Place { file, line: 0, column: 0 };
    if text.len() > MAX_BYTES {
        sink.error(
            "too-large",
            whole,
            format!("{} bytes; expected at most {MAX_BYTES} in one file", text.len()),
        );
        return None;
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut builder = Builder {
        file,
        dialect,
        own_tags,
        sink,
        stack: Vec::new(),
        anchors: HashMap::new(),
        nodes: 0,
        root: None,
        documents: 0,
    };
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        let step = match event {
            Ok((Event::StreamEnd, _)) => break,
            Ok((event, span)) => builder.event(event, span),
            Err(error) => {
                let place = builder.place(*error.marker());
                let message = format!("this is no YAML: {}", error.info());
                builder.sink.error("yaml", place, message);
                Err(Stop)
            }
        };
        if step.is_err() {
            return None;
        }
    }
    builder.root
}

/// How to read.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// What plain scalars are.
    pub dialect: Dialect,
    /// Tags such as `!include` have a meaning; else they are errors.
    pub own_tags: bool,
}

impl Rules {
    /// Without tags.
    pub fn plain(dialect: Dialect) -> Self {
        Self { dialect, own_tags: false }
    }
}

/// Reading has ended; the sink knows why.
struct Stop;

/// A node with the number of nodes that it stands for.
#[derive(Clone)]
struct Sized {
    node: Arc<Node>,
    nodes: usize,
}

/// A list or mapping that is not at its end.
struct Open {
    anchor: usize,
    place: Place,
    tag: Option<Box<str>>,
    nodes: usize,
    inner: Inner,
}

enum Inner {
    List(Vec<Arc<Node>>),
    Map { entries: Vec<Entry>, key: Option<Arc<Node>>, merged: Vec<Arc<Node>> },
}

struct Builder<'a, 't> {
    file: u16,
    dialect: Dialect,
    own_tags: bool,
    sink: &'a mut Sink<'t>,
    stack: Vec<Open>,
    anchors: HashMap<usize, Sized>,
    /// Of the whole document, aliases multiplied out.
    nodes: usize,
    root: Option<Arc<Node>>,
    documents: usize,
}

impl Builder<'_, '_> {
    fn place(&self, marker: Marker) -> Place {
        Place { file: self.file, line: marker.line().max(1) as u32, column: marker.col() as u32 + 1 }
    }

    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), Stop> {
        let place = self.place(span.start);
        match event {
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    self.sink.error("documents", place, "a second document begins; expected one in a file");
                    return Err(Stop);
                }
                Ok(())
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.count(1, place)?;
                let own = self.own_tag(tag.as_deref(), place);
                let node = scalar(text, style, tag.as_deref(), own, place);
                self.anchored(anchor, Sized { node: Arc::new(node), nodes: 1 });
                Ok(())
            }
            Event::SequenceStart(anchor, tag) => self.open(anchor, tag, place, Inner::List(Vec::new())),
            Event::MappingStart(anchor, tag) => {
                let inner = Inner::Map { entries: Vec::new(), key: None, merged: Vec::new() };
                self.open(anchor, tag, place, inner)
            }
            Event::SequenceEnd | Event::MappingEnd => {
                self.close();
                Ok(())
            }
            Event::Alias(anchor) => {
                let Some(target) = self.anchors.get(&anchor).cloned() else {
                    self.sink.error(
                        "alias",
                        place,
                        "this alias stands within what it stands for; expected an anchor that has ended",
                    );
                    return Err(Stop);
                };
                self.count(target.nodes, place)?;
                self.add(target);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn count(&mut self, nodes: usize, place: Place) -> Result<(), Stop> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes <= MAX_NODES {
            return Ok(());
        }
        let message = format!(
            "here the document grows beyond {MAX_NODES} values, aliases multiplied out; expected a document without aliases of aliases of aliases"
        );
        self.sink.error("too-large", place, message);
        Err(Stop)
    }

    fn open(
        &mut self,
        anchor: usize,
        tag: Option<Cow<'_, Tag>>,
        place: Place,
        inner: Inner,
    ) -> Result<(), Stop> {
        self.count(1, place)?;
        if self.stack.len() >= MAX_DEPTH {
            let message = format!("expected at most {MAX_DEPTH} lists and mappings in each other");
            self.sink.error("too-deep", place, message);
            return Err(Stop);
        }
        let tag = self.own_tag(tag.as_deref(), place);
        self.stack.push(Open { anchor, place, tag, nodes: 1, inner });
        Ok(())
    }

    /// The tag if it is not one of YAML's own.
    fn own_tag(&mut self, tag: Option<&Tag>, place: Place) -> Option<Box<str>> {
        let tag = tag?;
        if tag.is_yaml_core_schema() || tag.handle.is_empty() && tag.suffix == "!" {
            return None;
        }
        let name = format!("{}{}", tag.handle, tag.suffix);
        if !self.own_tags {
            self.sink.error(
                "tag",
                place,
                format!("the tag `{name}` means nothing here; expected a plain value"),
            );
        }
        Some(name.into())
    }

    fn close(&mut self) {
        let Some(open) = self.stack.pop() else { return };
        let kind = match open.inner {
            Inner::List(items) => Kind::List(items),
            Inner::Map { entries, merged, .. } => Kind::Map(self.finish_map(entries, &merged)),
        };
        let node = Arc::new(Node { place: open.place, tag: open.tag, kind });
        self.anchored(open.anchor, Sized { node, nodes: open.nodes });
    }

    fn anchored(&mut self, anchor: usize, sized: Sized) {
        if anchor != 0 {
            self.anchors.insert(anchor, sized.clone());
        }
        self.add(sized);
    }

    /// Puts a finished node where it belongs.
    fn add(&mut self, Sized { node, nodes }: Sized) {
        let Some(open) = self.stack.last_mut() else {
            self.root = Some(node);
            return;
        };
        open.nodes = open.nodes.saturating_add(nodes);
        let (entries, key, merged) = match &mut open.inner {
            Inner::List(items) => return items.push(node),
            Inner::Map { entries, key, merged } => (entries, key, merged),
        };
        let Some(name) = key.take() else {
            *key = Some(node);
            return;
        };
        let Kind::Scalar { text, plain } = &name.kind else {
            let message = format!("the key is {}; expected a word", name.what(self.dialect));
            return self.sink.error("key", name.place, message);
        };
        if *plain && **text == *"<<" {
            merged.push(node);
        } else {
            let key = Key { text: text.clone(), place: name.place };
            entries.push(Entry { key, value: node });
        }
    }

    /// Each key once, and what `<<` brings behind what is there.
    fn finish_map(&mut self, entries: Vec<Entry>, merged: &[Arc<Node>]) -> Vec<Entry> {
        let entries = self.without_duplicates(entries);
        if merged.is_empty() {
            return entries;
        }
        let mut entries = entries;
        let mut keys: HashSet<Box<str>> = entries.iter().map(|entry| entry.key.text.clone()).collect();
        for node in merged {
            let sources = match &node.kind {
                Kind::List(items) => items.as_slice(),
                _ => std::slice::from_ref(node),
            };
            for source in sources {
                let Kind::Map(more) = &source.kind else {
                    let message = format!(
                        "`<<` takes a mapping or a list of them; found {}",
                        source.what(self.dialect)
                    );
                    self.sink.error("merge-key", source.place, message);
                    continue;
                };
                entries.extend(more.iter().filter(|entry| keys.insert(entry.key.text.clone())).cloned());
            }
        }
        entries
    }

    fn without_duplicates(&mut self, entries: Vec<Entry>) -> Vec<Entry> {
        let mut at: HashMap<&str, usize> = HashMap::with_capacity(entries.len());
        let mut superseded = Vec::new();
        for (index, entry) in entries.iter().enumerate() {
            if let Some(first) = at.insert(&entry.key.text, index) {
                if self.sink.takes_first() {
                    superseded.push(index);
                    at.insert(&entry.key.text, first);
                } else {
                    superseded.push(first);
                    let lost = &entries[first];
                    self.sink.lose(lost.key.place, last_place(&lost.value));
                }
                let text = &entry.key.text;
                let line = entries[first].key.place.line;
                if self.dialect == Dialect::Yaml11 {
                    let message = format!(
                        "the key `{text}` stands here for the second time; this one counts, that of line {line} is lost"
                    );
                    self.sink.warning("duplicate-key", entry.key.place, message);
                } else {
                    let message = format!("the key `{text}` already stands in line {line}; expected it once");
                    self.sink.error("duplicate-key", entry.key.place, message);
                }
            }
        }
        if superseded.is_empty() {
            return entries;
        }
        let superseded: HashSet<usize> = superseded.into_iter().collect();
        let kept = entries.into_iter().enumerate().filter(|(index, _)| !superseded.contains(index));
        kept.map(|(_, entry)| entry).collect()
    }
}

/// The last place of a value.
fn last_place(node: &Node) -> Place {
    let inner = match &node.kind {
        Kind::Scalar { .. } => None,
        Kind::List(items) => items.last().map(|item| last_place(item)),
        Kind::Map(entries) => entries.last().map(|entry| last_place(&entry.value).max(entry.key.place)),
    };
    // What an alias stands for may be anywhere.
    inner.map_or(node.place, |inner| inner.max(node.place))
}

fn scalar(
    text: Cow<'_, str>,
    style: ScalarStyle,
    tag: Option<&Tag>,
    own: Option<Box<str>>,
    place: Place,
) -> Node {
    // `!!str 1` and `! 1` are text; the other standard tags say what a plain scalar says by itself.
    let text_tag = tag.is_some_and(|tag| !tag.is_yaml_core_schema() || tag.suffix == "str");
    let plain = style == ScalarStyle::Plain && !text_tag;
    Node { place, tag: own, kind: Kind::Scalar { text: text.into(), plain } }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Diagnostic;

    fn read(text: &str, dialect: Dialect) -> (Option<Arc<Node>>, Vec<Diagnostic>) {
        let mut sink = Sink::default();
        let file = sink.add_file("f", text);
        let node = parse(text, file, Rules { dialect, own_tags: dialect == Dialect::Yaml11 }, &mut sink);
        (node, sink.finish())
    }

    fn said(text: &str) -> Vec<String> {
        read(text, Dialect::Yaml12).1.iter().map(ToString::to_string).collect()
    }

    /// The tree in short.
    fn show(node: &Node) -> String {
        match &node.kind {
            Kind::Scalar { text, plain } => {
                format!("{}{}", text, if *plain { "" } else { "'" })
            }
            Kind::List(items) => {
                format!("[{}]", items.iter().map(|item| show(item)).collect::<Vec<_>>().join(" "))
            }
            Kind::Map(entries) => {
                let entries =
                    entries.iter().map(|entry| format!("{}:{}", entry.key.text, show(&entry.value)));
                format!("{{{}}}", entries.collect::<Vec<_>>().join(" "))
            }
        }
    }

    #[test]
    fn places_of_keys_and_values() {
        let (node, found) = read("# x\na:\n  - b\n  - ü: \"c\"\n", Dialect::Yaml12);
        let node = node.expect("a tree");
        assert!(found.is_empty());
        assert_eq!(show(&node), "{a:[b {ü:c'}]}");
        let Kind::Map(entries) = &node.kind else { panic!("a mapping") };
        assert_eq!((entries[0].key.place.line, entries[0].key.place.column), (2, 1));
        let Kind::List(items) = &entries[0].value.kind else { panic!("a list") };
        assert_eq!((items[0].place.line, items[0].place.column), (3, 5));
        let value = items[1].get("ü").expect("the key");
        assert_eq!((value.place.line, value.place.column), (4, 8));
    }

    #[test]
    fn anchors_merge_keys_and_tags() {
        let text = "base: &b {x: 1, y: 2}\nmine:\n  <<: *b\n  y: 3\nall: {<<: [*b, {z: 4}]}\nt: !include a.txt\ns: !!str 5\n";
        let (node, found) = read(text, Dialect::Yaml11);
        let node = node.expect("a tree");
        assert_eq!(found, []);
        assert_eq!(show(&node), "{base:{x:1 y:2} mine:{y:3 x:1} all:{x:1 y:2 z:4} t:a.txt' s:5'}");
        assert_eq!(node.get("t").and_then(|node| node.tag.as_deref()), Some("!include"));
    }

    #[test]
    fn duplicate_keys_by_dialect() {
        let (node, found) = read("a: 1\nb: 2\na: 3\n", Dialect::Yaml11);
        assert_eq!(show(&node.expect("a tree")), "{b:2 a:3}");
        assert!(found[0].to_string().starts_with("f:3:1: warning: the key `a`"), "{}", found[0]);
        assert_eq!(
            said("a: 1\na: 2"),
            ["f:2:1: error: the key `a` already stands in line 1; expected it once"]
        );
    }

    #[test]
    fn what_is_refused_names_its_place() {
        for (text, expected) in [
            ("a: [1", "f:2:1: error: this is no YAML"),
            ("a: b\n  c: d\n", "f:2:"),
            ("a: *b\n", "f:1:4: error: this is no YAML"),
            ("a: 1\n---\nb: 2\n", "f:2:1: error: a second document"),
            ("? [a]\n: b\n", "f:1:3: error: the key is a list"),
            ("a: !x b\n", "f:1:4: error: the tag `!x` means"),
            ("<<: 5\n", "f:1:5: error: `<<` takes a mapping"),
            ("a: &x [*x]\n", "f:1:8: error: this alias stands within"),
        ] {
            let said = said(text);
            assert!(said.len() == 1 && said[0].starts_with(expected), "{text:?}: {said:?}");
        }
        assert!(said("").is_empty());
        let deep = "[".repeat(200);
        assert!(said(&deep)[0].contains("f:1:101: error: expected at most 100"), "{:?}", said(&deep));
    }

    #[test]
    fn alias_bombs_are_refused_where_they_explode() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..30 {
            let alias = format!("*a{}", level - 1);
            let row = vec![alias; 10].join(", ");
            text.extend([format!("a{level}: &a{level} [{row}]\n")]);
        }
        let said = said(&text);
        assert!(said.len() == 1 && said[0].contains("beyond 4000000 values"), "{said:?}");
        assert!(said[0].starts_with("f:7:"), "{said:?}");
    }
}
