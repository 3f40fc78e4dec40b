//! Conditions, and why one is not met.

use super::expr::{Context, Expr};
use super::topic::TopicPattern;
use std::fmt;

/// A condition.
#[derive(Debug, Clone, PartialEq)]
pub enum Cond {
    /// All of them; none is met by everything.
    All(Vec<Self>),
    /// One of them.
    Any(Vec<Self>),
    /// Not this.
    Not(Box<Self>),
    /// The topic fits one of them.
    Topic(Vec<TopicPattern>),
    /// A value passes a test; of several values one has to.
    Field {
        /// Which value.
        expr: Expr,
        /// What it has to be.
        test: Test,
        /// The line of its file, for people.
        line: u32,
    },
}

/// What a value has to be.
#[derive(Debug, Clone, PartialEq)]
pub enum Test {
    /// Exactly one of these.
    OneOf(Vec<String>),
    /// A regular expression is found in it.
    Regex(RegexTest),
    /// It fits `*` and `?`.
    Glob(Glob),
    /// It is there and not null, or it is not.
    Exists(bool),
    /// A number that is at least this.
    Least(i64),
    /// A number that is at most this.
    Most(i64),
    /// Not that.
    Not(Box<Self>),
    /// All of these.
    All(Vec<Self>),
}

/// A regular expression that takes linear time.
#[derive(Debug, Clone)]
pub struct RegexTest(regex::Regex);

impl RegexTest {
    /// Compiles one.
    pub fn new(text: &str) -> Result<Self, String> {
        let built = regex::RegexBuilder::new(text).size_limit(1 << 20).build();
        built.map(Self).map_err(|error| error.to_string())
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// True if it is found in `text`.
    pub fn is_found(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}

impl PartialEq for RegexTest {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

/// A pattern with `*` for any text and `?` for one character.
#[derive(Debug, Clone, PartialEq)]
pub struct Glob {
    text: String,
    regex: RegexTest,
}

impl Glob {
    /// Compiles one.
    pub fn new(text: &str) -> Result<Self, String> {
        let mut pattern = String::from("(?s)^");
        for c in text.chars() {
            match c {
                '*' => pattern.push_str(".*"),
                '?' => pattern.push('.'),
                c => pattern.push_str(&regex::escape(c.encode_utf8(&mut [0; 4]))),
            }
        }
        pattern.push('$');
        Ok(Self { text: text.to_owned(), regex: RegexTest::new(&pattern)? })
    }

    /// True if all of `text` fits.
    pub fn matches(&self, text: &str) -> bool {
        self.regex.is_found(text)
    }
}

/// Why a condition is not met: one sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Why(pub String);

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Test {
    /// True for one value.
    pub fn passes(&self, value: &str) -> bool {
        match self {
            Self::OneOf(values) => values.iter().any(|one| one == value),
            Self::Regex(regex) => regex.is_found(value),
            Self::Glob(glob) => glob.matches(value),
            Self::Exists(there) => *there,
            Self::Least(least) => number(value).is_some_and(|value| value >= *least),
            Self::Most(most) => number(value).is_some_and(|value| value <= *most),
            Self::Not(test) => !test.passes(value),
            Self::All(tests) => tests.iter().all(|test| test.passes(value)),
        }
    }

    /// True for what is not there.
    fn passes_nothing(&self) -> bool {
        match self {
            Self::Exists(there) => !there,
            Self::Not(test) => !test.passes_nothing(),
            Self::All(tests) => tests.iter().all(Self::passes_nothing),
            _ => false,
        }
    }

    /// True if a list of values passes: with a negated test all have to, else one.
    fn passes_all_of(&self, values: &[String]) -> bool {
        match self {
            _ if values.is_empty() => self.passes_nothing(),
            Self::Not(test) => !test.passes_all_of(values),
            Self::All(tests) => tests.iter().all(|test| test.passes_all_of(values)),
            test => values.iter().any(|value| test.passes(value)),
        }
    }
}

fn number(text: &str) -> Option<i64> {
    text.parse().ok()
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OneOf(values) => match &values[..] {
                [] => f.write_str("one of nothing"),
                [one] => write!(f, "{one:?}"),
                several => write!(f, "one of {}", several.join(", ")),
            },
            Self::Regex(regex) => write!(f, "text with /{}/", regex.as_str()),
            Self::Glob(glob) => write!(f, "{}", glob.text),
            Self::Exists(true) => f.write_str("anything"),
            Self::Exists(false) => f.write_str("nothing"),
            Self::Least(least) => write!(f, "at least {least}"),
            Self::Most(most) => write!(f, "at most {most}"),
            Self::Not(test) => write!(f, "not {test}"),
            Self::All(tests) => {
                let all: Vec<_> = tests.iter().map(ToString::to_string).collect();
                f.write_str(&all.join(" and "))
            }
        }
    }
}

impl Cond {
    /// True if it is met. `topic` is the message's.
    pub fn is_met(&self, topic: &str, context: &Context<'_>) -> bool {
        match self {
            Self::All(conds) => conds.iter().all(|cond| cond.is_met(topic, context)),
            Self::Any(conds) => conds.iter().any(|cond| cond.is_met(topic, context)),
            Self::Not(cond) => !cond.is_met(topic, context),
            Self::Topic(patterns) => patterns.iter().any(|pattern| pattern.matches(topic)),
            Self::Field { expr, test, .. } => test.passes_all_of(&expr.texts(context)),
        }
    }

    /// Why it is not met; none if it is.
    pub fn why_not(&self, topic: &str, context: &Context<'_>) -> Option<Why> {
        match self {
            Self::All(conds) => conds.iter().find_map(|cond| cond.why_not(topic, context)),
            Self::Any(conds) => {
                let mut all = Vec::new();
                for cond in conds {
                    all.push(cond.why_not(topic, context)?.0);
                }
                Some(Why(format!("none of these: {}", all.join("; "))))
            }
            Self::Not(cond) => {
                cond.is_met(topic, context).then(|| Why(format!("this is so, and must not be: {cond}")))
            }
            Self::Topic(patterns) => (!self.is_met(topic, context)).then(|| {
                let wanted: Vec<_> = patterns.iter().map(TopicPattern::as_str).collect();
                Why(format!("topic is {topic}, not {}", wanted.join(" or ")))
            }),
            Self::Field { expr, test, line } => {
                let values = expr.texts(context);
                if test.passes_all_of(&values) {
                    return None;
                }
                let found = match &values[..] {
                    [] => "not there".to_owned(),
                    values => shortened(&values.join(", ")),
                };
                Some(Why(format!("{expr} is {found}, expected {test} (line {line})")))
            }
        }
    }
}

impl fmt::Display for Cond {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let joined = |conds: &[Self], between: &str| {
            conds.iter().map(ToString::to_string).collect::<Vec<_>>().join(between)
        };
        match self {
            Self::All(conds) if conds.is_empty() => f.write_str("anything"),
            Self::All(conds) => f.write_str(&joined(conds, " and ")),
            Self::Any(conds) => write!(f, "({})", joined(conds, " or ")),
            Self::Not(cond) => write!(f, "not ({cond})"),
            Self::Topic(patterns) => {
                let all: Vec<_> = patterns.iter().map(TopicPattern::as_str).collect();
                write!(f, "topic {}", all.join(" or "))
            }
            Self::Field { expr, test, .. } => write!(f, "{expr} is {test}"),
        }
    }
}

/// So that a sentence stays one.
fn shortened(text: &str) -> String {
    const MOST: usize = 120;
    match text.char_indices().nth(MOST) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}
