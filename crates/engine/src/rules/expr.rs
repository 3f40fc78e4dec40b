//! Expressions over a message: `body.update.builds[].nvr|nvr-name`, and texts with such expressions in braces.

use serde_json::{Map, Value};
use std::fmt;

/// What names and places may be read from.
pub(super) const ROOTS: [&str; 7] = ["topic", "source", "id", "headers", "body", "item", "each"];

/// What cannot be read as an expression. `Display` says what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadExpr {
    /// Nothing there.
    #[error("the expression is empty; expected for example body.update.alias")]
    Empty,
    /// `{` without `}`.
    #[error("`{{` has no `}}`; write `{{{{` for a brace that is meant as such")]
    Open,
    /// A filter that there is not.
    #[error("there is no filter `{name}`; there are {}", Filter::NAMES.join(", "))]
    Filter {
        /// What was written.
        name: String,
    },
    /// A filter without what it needs.
    #[error("the filter `{name}` needs {needs}, for example `{example}`")]
    Argument {
        /// Which.
        name: &'static str,
        /// What.
        needs: &'static str,
        /// How it is written.
        example: &'static str,
    },
    /// An empty part of a path.
    #[error("`{path}` has an empty name between two dots")]
    Segment {
        /// The path.
        path: String,
    },
}

/// A step into a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Segment {
    /// A member of an object, or a number of an element of a list.
    Key(String),
    /// Every element of a list.
    Each,
}

/// The way to a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path(pub Vec<Segment>);

/// What is done with a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    /// `lower`
    Lower,
    /// `upper`
    Upper,
    /// `basename`: what is behind the last slash.
    Basename,
    /// `nvr-name`: `bash` of `bash-5.2-1.fc40`.
    NvrName,
    /// `nvr-version`
    NvrVersion,
    /// `nvr-release`
    NvrRelease,
    /// `first`
    First,
    /// `count`
    Count,
    /// `join:TEXT`
    Join(String),
    /// `default:TEXT`
    Default(String),
    /// `replace:A:B`
    Replace(String, String),
}

impl Filter {
    const NAMES: [&'static str; 11] = [
        "lower",
        "upper",
        "basename",
        "nvr-name",
        "nvr-version",
        "nvr-release",
        "first",
        "count",
        "join:TEXT",
        "default:TEXT",
        "replace:A:B",
    ];

    fn parse(text: &str) -> Result<Self, BadExpr> {
        let (name, argument) = match text.split_once(':') {
            Some((name, argument)) => (name.trim(), Some(argument)),
            None => (text.trim(), None),
        };
        let needs = |name, needs, example| BadExpr::Argument { name, needs, example };
        Ok(match (name, argument) {
            ("lower", None) => Self::Lower,
            ("upper", None) => Self::Upper,
            ("basename", None) => Self::Basename,
            ("nvr-name", None) => Self::NvrName,
            ("nvr-version", None) => Self::NvrVersion,
            ("nvr-release", None) => Self::NvrRelease,
            ("first", None) => Self::First,
            ("count", None) => Self::Count,
            ("join", Some(text)) => Self::Join(text.to_owned()),
            ("join", None) => return Err(needs("join", "what stands between", "join:,")),
            ("default", Some(text)) => Self::Default(text.to_owned()),
            ("default", None) => return Err(needs("default", "a text", "default:none")),
            ("replace", argument) => match argument.and_then(|text| text.split_once(':')) {
                Some((from, to)) if !from.is_empty() => Self::Replace(from.to_owned(), to.to_owned()),
                _ => return Err(needs("replace", "two texts", "replace:-:_")),
            },
            _ => return Err(BadExpr::Filter { name: name.to_owned() }),
        })
    }

    fn apply(&self, values: Vec<String>) -> Vec<String> {
        let map = |f: &dyn Fn(&str) -> String| values.iter().map(|value| f(value)).collect();
        match self {
            Self::Lower => map(&|value| value.to_lowercase()),
            Self::Upper => map(&|value| value.to_uppercase()),
            Self::Basename => {
                map(&|value| value.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned())
            }
            Self::NvrName => map(&|value| nvr(value).0.to_owned()),
            Self::NvrVersion => map(&|value| nvr(value).1.to_owned()),
            Self::NvrRelease => map(&|value| nvr(value).2.to_owned()),
            Self::Replace(from, to) => map(&|value| value.replace(from.as_str(), to)),
            Self::First => values.into_iter().take(1).collect(),
            Self::Count => vec![values.len().to_string()],
            Self::Join(between) => vec![values.join(between)],
            Self::Default(text) if values.is_empty() => vec![text.clone()],
            Self::Default(_) => values,
        }
    }
}

/// Name, version and release; none if there are fewer than two dashes.
pub(crate) fn split_nvr(text: &str) -> Option<(&str, &str, &str)> {
    let (rest, release) = text.rsplit_once('-')?;
    let (name, version) = rest.rsplit_once('-')?;
    Some((name, version, release))
}

/// The same; what has fewer than two dashes is all name.
pub(crate) fn nvr(text: &str) -> (&str, &str, &str) {
    split_nvr(text).unwrap_or((text, "", ""))
}

/// A path and what is done with what is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expr {
    text: String,
    /// The way.
    pub path: Path,
    /// In order.
    pub filters: Vec<Filter>,
}

impl Expr {
    /// Reads one.
    pub fn parse(text: &str) -> Result<Self, BadExpr> {
        let mut parts = text.split('|');
        let path_text = parts.next().unwrap_or_default().trim();
        if path_text.is_empty() {
            return Err(BadExpr::Empty);
        }
        let mut path = Vec::new();
        for word in path_text.split('.') {
            let (name, lists) = match word.find("[]") {
                Some(at) if word[at..].len() % 2 == 0 && word[at..].chars().all(|c| c == '[' || c == ']') => {
                    (&word[..at], word[at..].len() / 2)
                }
                _ => (word, 0),
            };
            if name.is_empty() {
                return Err(BadExpr::Segment { path: path_text.to_owned() });
            }
            path.push(Segment::Key(name.to_owned()));
            path.extend(std::iter::repeat_n(Segment::Each, lists));
        }
        let filters = parts.map(Filter::parse).collect::<Result<_, _>>()?;
        Ok(Self { text: text.trim().to_owned(), path: Path(path), filters })
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The first name.
    pub fn root(&self) -> &str {
        match self.path.0.first() {
            Some(Segment::Key(name)) => name,
            _ => "",
        }
    }

    /// True if it may stand for several values.
    pub fn is_many(&self) -> bool {
        self.path.0.contains(&Segment::Each)
    }

    /// What it stands for in a message.
    pub fn values<'c>(&self, context: &Context<'c>) -> Vec<&'c Value> {
        context.find(&self.path)
    }

    /// The same as texts, filters applied. What is not there, or null, is left out; lists count by their elements.
    pub fn texts(&self, context: &Context<'_>) -> Vec<String> {
        let mut texts = Vec::new();
        for value in self.values(context) {
            match value {
                Value::Array(items) => texts.extend(items.iter().filter_map(scalar)),
                value => texts.extend(scalar(value)),
            }
        }
        self.filters.iter().fold(texts, |values, filter| filter.apply(values))
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The text of a value; none for null, and JSON for what is made of others.
pub fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

/// What expressions are read from: the message, and what a rule has made of it.
#[derive(Debug, Clone)]
pub struct Context<'c> {
    /// The message.
    pub root: &'c Map<String, Value>,
    /// Comes before the message.
    pub local: Option<&'c Map<String, Value>>,
}

impl<'c> Context<'c> {
    fn find(&self, path: &Path) -> Vec<&'c Value> {
        let mut segments = path.0.iter();
        let Some(Segment::Key(first)) = segments.next() else { return Vec::new() };
        let local = self.local.and_then(|local| local.get(first));
        let Some(start) = local.or_else(|| self.root.get(first)) else { return Vec::new() };
        let mut found = vec![start];
        for segment in segments {
            found = match segment {
                Segment::Key(name) => found.into_iter().filter_map(|value| member(value, name)).collect(),
                Segment::Each => found.into_iter().filter_map(Value::as_array).flatten().collect(),
            };
        }
        found
    }
}

fn member<'v>(value: &'v Value, name: &str) -> Option<&'v Value> {
    match value {
        Value::Object(map) => map.get(name),
        Value::Array(items) => items.get(name.parse::<usize>().ok()?),
        _ => None,
    }
}

/// Why a text cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the message has no {expr}; add `|default:TEXT` to the expression if that is meant")]
pub struct RenderError {
    /// What is missing.
    pub expr: String,
}

/// A text with expressions in braces.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Template {
    text: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Expr(Expr),
}

impl Template {
    /// Reads one.
    pub fn parse(text: &str) -> Result<Self, BadExpr> {
        let (mut parts, mut plain, mut rest) = (Vec::new(), String::new(), text);
        while let Some(at) = rest.find(['{', '}']) {
            plain.push_str(&rest[..at]);
            let here = &rest[at..];
            if here.starts_with("{{") || here.starts_with("}}") {
                plain.push_str(&here[..1]);
                rest = &here[2..];
            } else if let Some(inner) = here.strip_prefix('{') {
                let end = inner.find('}').ok_or(BadExpr::Open)?;
                if !plain.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut plain)));
                }
                parts.push(Part::Expr(Expr::parse(&inner[..end])?));
                rest = &inner[end + 1..];
            } else {
                plain.push('}');
                rest = &here[1..];
            }
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(Self { text: text.to_owned(), parts })
    }

    /// A text that is itself, whatever is in it.
    pub fn plain(text: &str) -> Self {
        Self { text: text.to_owned(), parts: vec![Part::Text(text.to_owned())] }
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Its expressions.
    pub fn exprs(&self) -> impl Iterator<Item = &Expr> {
        self.parts.iter().filter_map(|part| match part {
            Part::Expr(expr) => Some(expr),
            Part::Text(_) => None,
        })
    }

    /// The text for a message; several values have a blank between them.
    pub fn render(&self, context: &Context<'_>) -> Result<String, RenderError> {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Text(plain) => text.push_str(plain),
                Part::Expr(expr) => {
                    let values = expr.texts(context);
                    if values.is_empty() {
                        return Err(RenderError { expr: expr.text.clone() });
                    }
                    text.push_str(&values.join(" "));
                }
            }
        }
        Ok(text)
    }
}
