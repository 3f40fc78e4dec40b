//! Gerrit's search language, as far as clients of a gate use it.

use super::{Change, World};

/// How deep parentheses may go.
const DEEPEST: usize = 64;

/// A query that cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadQuery(String);

/// What a change must be.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Term {
    All(Vec<Term>),
    Any(Vec<Term>),
    Not(Box<Term>),
    Is(Field, String),
    Nothing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Text,
    Change,
    Project,
    Projects,
    Branch,
    Ref,
    Topic,
    Hashtag,
    Status,
    Owner,
    Reviewer,
    Label,
    Message,
    Comment,
    Commit,
    File,
    Age,
    After,
    Before,
    SortKeyBelow,
}

/// A query that was understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    term: Term,
    /// `limit:`
    limit: Option<usize>,
}

/// A page of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// Numbers of changes, newest first.
    pub numbers: Vec<u64>,
    /// There is more behind it.
    pub more: bool,
}

/// Where a change is in the order of a query's answer, as old servers tell it.
pub fn sort_key(change: &Change) -> String {
    format!("{:08x}{:08x}", change.last_updated / 60, change.number)
}

impl Query {
    /// Reads a query.
    pub fn parse(text: &str) -> Result<Self, BadQuery> {
        let mut parser = Parser { tokens: tokens(text)?, at: 0, limit: None, depth: 0 };
        let term = parser.any()?;
        match parser.peek() {
            None => Ok(Self { term, limit: parser.limit }),
            Some(token) => Err(BadQuery(format!("unexpected {token:?} in the query"))),
        }
    }

    /// The changes that fit, newest first, from `skip` on. `me` is who asks.
    pub fn run(&self, world: &World, me: Option<&str>, skip: usize, limit: Option<usize>, now: i64) -> Page {
        let mut found: Vec<&Change> =
            (world.changes.values()).filter(|change| self.term.fits(world, change, me, now)).collect();
        found.sort_by_key(|change| std::cmp::Reverse((change.last_updated, change.number)));
        let limit = self.limit.or(limit).unwrap_or(world.page).min(world.page);
        let rest = found.get(skip.min(found.len())..).unwrap_or_default();
        Page {
            numbers: rest.iter().take(limit).map(|change| change.number).collect(),
            more: rest.len() > limit,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Open,
    Close,
    Minus,
    Word(String, Option<String>),
}

fn tokens(text: &str) -> Result<Vec<Token>, BadQuery> {
    let mut list = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        match first {
            '(' => list.push(Token::Open),
            ')' => list.push(Token::Close),
            '-' => list.push(Token::Minus),
            _ => {
                let (token, after) = word(rest)?;
                list.push(token);
                rest = after.trim_start();
                continue;
            }
        }
        rest = rest[1..].trim_start();
    }
    Ok(list)
}

/// `text` or `field:text`; the text may be in quotes or braces.
fn word(text: &str) -> Result<(Token, &str), BadQuery> {
    let field_end = text.find(|c: char| !c.is_ascii_lowercase() && c != '_').unwrap_or(text.len());
    if field_end > 0 && text[field_end..].starts_with(':') {
        let (value, rest) = value(&text[field_end + 1..])?;
        return Ok((Token::Word(text[..field_end].to_owned(), Some(value)), rest));
    }
    let (value, rest) = value(text)?;
    Ok((Token::Word(value, None), rest))
}

fn value(text: &str) -> Result<(String, &str), BadQuery> {
    let closing = match text.chars().next() {
        Some('"') => Some('"'),
        Some('{') => Some('}'),
        _ => None,
    };
    if let Some(closing) = closing {
        let end =
            text[1..].find(closing).ok_or_else(|| BadQuery(format!("no closing {closing} in {text}")))?;
        return Ok((text[1..=end].to_owned(), &text[end + 2..]));
    }
    let end = text.find(|c: char| c.is_whitespace() || c == '(' || c == ')').unwrap_or(text.len());
    Ok((text[..end].to_owned(), &text[end..]))
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    limit: Option<usize>,
    depth: usize,
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn takes(&mut self, word: &str) -> bool {
        let is = matches!(self.peek(), Some(Token::Word(text, None)) if text == word);
        self.at += usize::from(is);
        is
    }

    fn any(&mut self) -> Result<Term, BadQuery> {
        let mut list = vec![self.all()?];
        while self.takes("OR") {
            list.push(self.all()?);
        }
        Ok(if list.len() == 1 { list.remove(0) } else { Term::Any(list) })
    }

    fn all(&mut self) -> Result<Term, BadQuery> {
        let mut list = Vec::new();
        loop {
            match self.peek() {
                None | Some(Token::Close) => return Ok(Term::All(list)),
                Some(Token::Word(text, None)) if text == "OR" => return Ok(Term::All(list)),
                Some(_) => {}
            }
            if !self.takes("AND") {
                list.extend(self.one()?);
            }
        }
    }

    fn one(&mut self) -> Result<Option<Term>, BadQuery> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(BadQuery("the query is nested too deeply".into()));
        }
        let negated = self.takes("NOT")
            || self.peek() == Some(&Token::Minus) && {
                self.at += 1;
                true
            };
        let term = if negated {
            self.one()?.map(|term| Term::Not(Box::new(term)))
        } else {
            let token = self.peek().cloned().ok_or_else(|| BadQuery("the query ends too early".into()))?;
            self.at += 1;
            match token {
                Token::Open => {
                    let term = self.any()?;
                    if self.peek() != Some(&Token::Close) {
                        return Err(BadQuery("a closing parenthesis is missing".into()));
                    }
                    self.at += 1;
                    Some(term)
                }
                Token::Word(text, None) => Some(Term::Is(Field::Text, text)),
                Token::Word(field, Some(value)) => self.term(&field, value)?,
                Token::Close | Token::Minus => {
                    return Err(BadQuery("unexpected - or ) in the query".into()));
                }
            }
        };
        self.depth -= 1;
        Ok(term)
    }

    fn term(&mut self, field: &str, value: String) -> Result<Option<Term>, BadQuery> {
        let field = match field {
            "limit" => {
                let limit = value.parse().ok().filter(|limit| *limit > 0);
                self.limit = Some(limit.ok_or_else(|| BadQuery(format!("limit:{value} is no number")))?);
                return Ok(None);
            }
            "change" => Field::Change,
            "project" | "p" => Field::Project,
            "projects" => Field::Projects,
            "branch" => Field::Branch,
            "ref" => Field::Ref,
            "topic" => Field::Topic,
            "hashtag" => Field::Hashtag,
            "status" | "is" | "state" => {
                if !known_status(&value) {
                    return Err(BadQuery(format!("unrecognized value: {value}")));
                }
                Field::Status
            }
            "owner" | "o" => Field::Owner,
            "reviewer" | "r" => Field::Reviewer,
            "label" => Field::Label,
            "message" | "m" => Field::Message,
            "comment" => Field::Comment,
            "commit" => Field::Commit,
            "file" | "f" | "path" => Field::File,
            "age" => {
                if age(&value).is_none() {
                    return Err(BadQuery(format!("age:{value} is no time span")));
                }
                Field::Age
            }
            "after" | "since" | "before" | "until" => {
                if moment(&value).is_none() {
                    return Err(BadQuery(format!("{field}:{value} is no date")));
                }
                if matches!(field, "after" | "since") { Field::After } else { Field::Before }
            }
            "resume_sortkey" | "sortkey_before" => Field::SortKeyBelow,
            _ => return Err(BadQuery(format!("Unsupported operator {field}:{value}"))),
        };
        if value.is_empty() {
            return Ok(Some(Term::Nothing));
        }
        Ok(Some(Term::Is(field, value)))
    }
}

fn known_status(value: &str) -> bool {
    matches!(
        value,
        "open"
            | "new"
            | "pending"
            | "closed"
            | "merged"
            | "submitted"
            | "abandoned"
            | "wip"
            | "private"
            | "submittable"
            | "reviewed"
            | "draft"
    )
}

/// A time span in seconds: a number and a unit, `2d`, `1 week`.
fn age(text: &str) -> Option<i64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: i64 = text[..digits].parse().ok()?;
    let unit = match text[digits..].trim() {
        "s" | "sec" | "second" | "seconds" | "" => 1,
        "m" | "min" | "minute" | "minutes" => 60,
        "h" | "hr" | "hour" | "hours" => 3600,
        "d" | "day" | "days" => 86_400,
        "w" | "week" | "weeks" => 604_800,
        "mon" | "month" | "months" => 2_592_000,
        "y" | "year" | "years" => 31_536_000,
        _ => return None,
    };
    number.checked_mul(unit)
}

/// `YYYY-MM-DD[ hh:mm[:ss][.mmm][ +0000]]`, in seconds.
fn moment(text: &str) -> Option<i64> {
    let text = text.trim();
    let (text, offset) = match text.rsplit_once([' ', '+']) {
        Some((front, zone)) if zone.len() == 4 && zone.bytes().all(|byte| byte.is_ascii_digit()) => {
            let minutes = zone[..2].parse::<i64>().ok()? * 60 + zone[2..].parse::<i64>().ok()?;
            (front.trim_end_matches([' ', '+']), minutes * 60)
        }
        _ => (text, 0),
    };
    let zone = jiff::tz::TimeZone::UTC;
    let seconds = if text.len() > 10 {
        text.parse::<jiff::civil::DateTime>().ok()?.to_zoned(zone).ok()?.timestamp().as_second()
    } else {
        text.parse::<jiff::civil::Date>().ok()?.to_zoned(zone).ok()?.timestamp().as_second()
    };
    Some(seconds - offset)
}

impl Term {
    fn fits(&self, world: &World, change: &Change, me: Option<&str>, now: i64) -> bool {
        match self {
            Self::All(list) => list.iter().all(|term| term.fits(world, change, me, now)),
            Self::Any(list) => list.iter().any(|term| term.fits(world, change, me, now)),
            Self::Not(term) => !term.fits(world, change, me, now),
            Self::Nothing => false,
            Self::Is(field, value) => field.fits(value, world, change, me, now),
        }
    }
}

impl Field {
    fn fits(self, value: &str, world: &World, change: &Change, me: Option<&str>, now: i64) -> bool {
        let person = |username: &str| is_person(world, username, value, me);
        match self {
            Self::Text if names_a_change(value) => is_change(change, value) || is_commit(change, value),
            Self::Text => {
                is_commit(change, value)
                    || change.project == value
                    || change.current().commit.message.to_lowercase().contains(&value.to_lowercase())
            }
            Self::Change => is_change(change, value),
            Self::Project => matches(value, &change.project),
            Self::Projects => change.project.starts_with(value),
            Self::Branch => matches(value.strip_prefix("refs/heads/").unwrap_or(value), &change.branch),
            Self::Ref => matches(value, &format!("refs/heads/{}", change.branch)),
            Self::Topic => matches(value, &change.topic),
            Self::Hashtag => change.hashtags.contains(value),
            Self::Status => is_status(world, change, value),
            Self::Owner => person(&change.owner),
            Self::Reviewer => change.reviewers.iter().any(|who| person(who)),
            Self::Label => has_label(world, change, value, me),
            Self::Message => change.current().commit.message.to_lowercase().contains(&value.to_lowercase()),
            Self::Comment => change.comments.iter().any(|comment| comment.text.contains(value)),
            Self::Commit => is_commit(change, value),
            Self::File => change.current().commit.files.iter().any(|file| matches(value, &file.path)),
            Self::Age => age(value).is_some_and(|age| change.last_updated <= now - age),
            Self::After => moment(value).is_some_and(|at| change.last_updated >= at),
            Self::Before => moment(value).is_some_and(|at| change.last_updated <= at),
            Self::SortKeyBelow => sort_key(change).as_str() < value,
        }
    }
}

/// A value that begins with `^` is a regular expression in Gerrit; here it is a prefix with `.*` at its end.
fn matches(value: &str, text: &str) -> bool {
    match value.strip_prefix('^') {
        Some(prefix) => text.starts_with(prefix.trim_end_matches('$').trim_end_matches(".*")),
        None => value == text,
    }
}

fn is_change(change: &Change, value: &str) -> bool {
    let mut parts = value.split('~');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(one), None, _) => {
            one.parse() == Ok(change.number)
                || one.len() >= 5 && one.starts_with('I') && change.change_id.starts_with(one)
        }
        (Some(project), Some(branch), Some(id)) => {
            change.project == project && change.branch == branch && change.change_id == id
        }
        _ => false,
    }
}

/// A word alone that has the form of a number, Change-Id or triplet means that change, and not a text.
fn names_a_change(value: &str) -> bool {
    let is_id = |text: &str| {
        let hex = text.strip_prefix('I').unwrap_or_default();
        (4..=40).contains(&hex.len()) && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    is_number || is_id(value) || value.rsplit_once('~').is_some_and(|(_, id)| is_id(id))
}

fn is_commit(change: &Change, value: &str) -> bool {
    value.len() >= 7
        && value.bytes().all(|byte| byte.is_ascii_hexdigit())
        && change.patchsets.iter().any(|patchset| patchset.commit.id.starts_with(value))
}

fn is_status(world: &World, change: &Change, value: &str) -> bool {
    match value {
        "open" | "new" | "pending" => change.is_open(),
        "closed" => !change.is_open(),
        "merged" | "submitted" | "abandoned" => {
            change.status.word().eq_ignore_ascii_case(if value == "submitted" { "merged" } else { value })
        }
        "wip" => change.wip,
        "private" => change.private,
        "submittable" => world.submit_record(change).status == super::RecordStatus::Ok,
        "reviewed" => !change.current().votes.is_empty(),
        _ => false,
    }
}

fn is_person(world: &World, username: &str, value: &str, me: Option<&str>) -> bool {
    if value == "self" || value == "me" {
        return me == Some(username);
    }
    username == value
        || world.accounts.get(username).is_some_and(|account| {
            account.email == value || account.name == value || account.id.to_string() == value
        })
}

/// `NAME`, `NAME=V`, `NAME>=V`, `NAME+V`, `NAME-V`, each with `,user=WHO` or `,WHO`.
fn has_label(world: &World, change: &Change, value: &str, me: Option<&str>) -> bool {
    let (value, who) = match value.split_once(',') {
        Some((value, who)) => (value, Some(who.strip_prefix("user=").unwrap_or(who))),
        None => (value, None),
    };
    let split = |at: usize, len: usize| (&value[..at], &value[at..at + len], &value[at + len..]);
    let (name, sign, number) = ["<=", ">=", "=", "<", ">"]
        .iter()
        .find_map(|sign| value.find(sign).map(|at| split(at, sign.len())))
        .or_else(|| {
            let at = value.rfind(['+', '-']).filter(|at| value[at + 1..].parse::<i8>().is_ok())?;
            Some((&value[..at], "=", &value[at..]))
        })
        .unwrap_or((value, "=", "1"));
    let states = ["ok", "need", "reject", "may", "impossible"];
    if let (Some(word), "=") = (states.iter().find(|word| number.eq_ignore_ascii_case(word)), sign) {
        let record = world.submit_record(change);
        return record.labels.iter().any(|(label, state)| {
            label.eq_ignore_ascii_case(name) && state.word().eq_ignore_ascii_case(word)
        });
    }
    let Ok(number) = number.parse::<i8>() else { return false };
    change.current().votes.iter().any(|vote| {
        vote.label.eq_ignore_ascii_case(name)
            && who.is_none_or(|who| is_person(world, &vote.by, who, me))
            && match sign {
                "<=" => vote.value <= number,
                ">=" => vote.value >= number,
                "<" => vote.value < number,
                ">" => vote.value > number,
                _ => vote.value == number,
            }
    })
}
