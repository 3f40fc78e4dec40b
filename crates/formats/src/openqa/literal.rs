//! Data as JSON or as Perl writes it, read without running anything.
//!
//! JSON may have comments and commas at the end, as openQA's loader allows. Of Perl there are `{ a => 'b' }`, `[…]`,
//! strings, `q(…)`, numbers and `undef`; whatever would have to be computed is refused.

use crate::diagnostic::{Place, Sink};
use crate::yaml::{Entry, Key, Kind, MAX_BYTES, MAX_DEPTH, MAX_NODES, Node};
use std::collections::HashSet;
use std::sync::Arc;

/// A text that is written as a repetition.
const MAX_REPEATED: usize = 64 << 10;

/// Reads the one value of a file. None if it cannot be read; the sink knows why.
pub(super) fn parse(text: &str, file: u16, sink: &mut Sink<'_>) -> Option<Arc<Node>> {
    if text.len() > MAX_BYTES {
        let place = Place { file, line: 0, column: 0 };
        sink.error("too-large", place, format!("{} bytes; expected at most {MAX_BYTES}", text.len()));
        return None;
    }
    let rest = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut parser = Parser { rest, file, line: 1, column: 1, perl: false, nodes: 0, sink };
    parser.document().ok()
}

/// Reading has ended; the sink knows why.
struct Stop;

type Step<T> = Result<T, Stop>;

struct Parser<'t, 's, 'k> {
    rest: &'t str,
    file: u16,
    line: u32,
    column: u32,
    /// An arrow has been seen.
    perl: bool,
    nodes: usize,
    sink: &'s mut Sink<'k>,
}

impl<'t> Parser<'t, '_, '_> {
    fn place(&self) -> Place {
        Place { file: self.file, line: self.line, column: self.column }
    }

    fn refuse<T>(&mut self, place: Place, message: impl Into<String>) -> Step<T> {
        self.sink.error("data", place, message);
        Err(Stop)
    }

    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.rest = &self.rest[c.len_utf8()..];
        if c == '\n' {
            self.line += 1;
            self.column = 1;
        } else {
            self.column += 1;
        }
        Some(c)
    }

    /// Takes `word` if it is next.
    fn take(&mut self, word: &str) -> bool {
        let found = self.rest.starts_with(word);
        if found {
            for _ in word.chars() {
                self.next();
            }
        }
        found
    }

    /// Over blanks and comments.
    fn skip(&mut self) {
        while let Some(c) = self.peek() {
            if c == '#' {
                while self.peek().is_some_and(|c| c != '\n') {
                    self.next();
                }
            } else if c.is_whitespace() {
                self.next();
            } else {
                return;
            }
        }
    }

    fn document(&mut self) -> Step<Arc<Node>> {
        self.skip();
        let node = self.value(0)?;
        self.skip();
        self.take(";");
        self.skip();
        match self.peek() {
            None => Ok(node),
            Some(_) => self.refuse(self.place(), "something follows the data; expected the end of the file"),
        }
    }

    fn value(&mut self, depth: usize) -> Step<Arc<Node>> {
        let place = self.place();
        self.nodes += 1;
        if depth > MAX_DEPTH || self.nodes > MAX_NODES {
            let message =
                format!("expected at most {MAX_DEPTH} levels and {MAX_NODES} values, and here are more");
            return self.refuse(place, message);
        }
        let kind = match self.peek() {
            Some('{') => self.map(depth)?,
            Some('[') => self.list(depth)?,
            Some('"' | '\'') => self.string(place)?,
            Some('(') => self.repeated(place)?,
            Some('q') if self.is_quoting() => self.quoted(place)?,
            Some(c) if c.is_ascii_alphanumeric() || matches!(c, '-' | '+' | '.') => self.word(place)?,
            Some(_) => {
                return self.refuse(place, "expected a value: text in quotes, a number, `[…]` or `{…}`");
            }
            None => return self.refuse(place, "the file ends where a value is expected"),
        };
        Ok(Arc::new(Node { place, tag: None, kind }))
    }

    fn list(&mut self, depth: usize) -> Step<Kind> {
        self.next();
        let mut items = Vec::new();
        loop {
            self.skip();
            if self.take("]") {
                return Ok(Kind::List(items));
            }
            items.push(self.value(depth + 1)?);
            self.comma(']')?;
        }
    }

    fn map(&mut self, depth: usize) -> Step<Kind> {
        self.next();
        let mut entries = Vec::new();
        let mut seen: HashSet<Box<str>> = HashSet::new();
        loop {
            self.skip();
            if self.take("}") {
                return Ok(Kind::Map(entries));
            }
            let key = self.key()?;
            self.skip();
            if self.take("=>") {
                self.perl = true;
            } else if !self.take(":") {
                return self.refuse(self.place(), "expected `:` or `=>` behind the key");
            }
            self.skip();
            let value = self.value(depth + 1)?;
            if seen.insert(key.text.clone()) {
                entries.push(Entry { key, value });
            } else {
                let message =
                    format!("the key `{}` stands here for the second time; expected it once", key.text);
                self.sink.error("duplicate-key", key.place, message);
            }
            self.comma('}')?;
        }
    }

    /// A comma, or the end.
    fn comma(&mut self, end: char) -> Step<()> {
        self.skip();
        if self.take(",") || self.peek() == Some(end) {
            return Ok(());
        }
        self.refuse(self.place(), format!("expected `,` or `{end}`"))
    }

    fn key(&mut self) -> Step<Key> {
        let place = self.place();
        let text = match self.peek() {
            Some('"' | '\'') => match self.string(place)? {
                Kind::Scalar { text, .. } => text,
                _ => "".into(),
            },
            Some(c) if is_bare(c) => self.bare().into(),
            _ => return self.refuse(place, "expected a key"),
        };
        Ok(Key { text, place })
    }

    fn bare(&mut self) -> &'t str {
        let end = self.rest.find(|c| !is_bare(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        self.column += word.chars().count() as u32;
        word
    }

    /// A number or one of a few words.
    fn word(&mut self, place: Place) -> Step<Kind> {
        let word = self.bare();
        let number = word.parse::<f64>().is_ok_and(f64::is_finite);
        let text = match word {
            "true" | "false" | "null" => word,
            "undef" => "null",
            _ if number => word,
            _ => {
                let message = format!(
                    "`{word}` is neither text in quotes nor a number; expected plain data, as JSON or as Perl writes it: nothing is computed"
                );
                return self.refuse(place, message);
            }
        };
        Ok(Kind::Scalar { text: text.into(), plain: true })
    }

    /// `("-" x 40)`, as dumps shorten what repeats itself.
    fn repeated(&mut self, place: Place) -> Step<Kind> {
        const EXPECTED: &str = "expected `(\"text\" x NUMBER)`; nothing else is computed";
        self.next();
        self.skip();
        let text = match self.peek() {
            Some('"' | '\'') => self.string(place)?,
            _ => return self.refuse(place, EXPECTED),
        };
        self.skip();
        let times = if self.take("x") {
            self.skip();
            self.bare().parse::<usize>().ok()
        } else {
            None
        };
        self.skip();
        let (Kind::Scalar { text, .. }, Some(times), true) = (text, times, self.take(")")) else {
            return self.refuse(place, EXPECTED);
        };
        // No more than a file could have said itself.
        if text.len().checked_mul(times).is_none_or(|bytes| bytes > MAX_REPEATED) {
            return self.refuse(place, format!("this would be longer than {MAX_REPEATED} bytes"));
        }
        Ok(Kind::Scalar { text: text.repeat(times).into(), plain: false })
    }

    /// `q(` or `qq{`
    fn is_quoting(&self) -> bool {
        let rest = self.rest.trim_start_matches('q');
        self.rest.len() - rest.len() <= 2 && rest.starts_with(['(', '{', '[', '<', '/', '|'])
    }

    fn quoted(&mut self, place: Place) -> Step<Kind> {
        self.perl = true;
        if self.take("qq") {
            return self.refuse(place, "`qq` is not read; write the text in quotes");
        }
        self.take("q");
        let open = self.next().unwrap_or('(');
        let close = match open {
            '(' => ')',
            '{' => '}',
            '[' => ']',
            '<' => '>',
            other => other,
        };
        let (mut text, mut depth) = (String::new(), 0_usize);
        loop {
            match self.next() {
                None => return self.refuse(place, "this text has no end"),
                Some('\\') => {
                    let c = self.peek().filter(|c| *c == close || *c == open || *c == '\\');
                    text.push(c.unwrap_or('\\'));
                    if c.is_some() {
                        self.next();
                    }
                }
                Some(c) if c == close && depth == 0 => break,
                Some(c) => {
                    if c == open {
                        depth += 1;
                    } else if c == close {
                        depth -= 1;
                    }
                    text.push(c);
                }
            }
        }
        Ok(Kind::Scalar { text: text.into(), plain: false })
    }

    fn string(&mut self, place: Place) -> Step<Kind> {
        let Some(quote) = self.next() else { return Err(Stop) };
        let mut text = String::new();
        loop {
            let at = self.place();
            match self.next() {
                None => return self.refuse(place, "this text has no end; expected a closing quote"),
                Some(c) if c == quote => break,
                Some('\\') if quote == '\'' => {
                    let c = self.peek().filter(|c| matches!(c, '\'' | '\\'));
                    text.push(c.unwrap_or('\\'));
                    if c.is_some() {
                        self.next();
                    }
                }
                Some('\\') => {
                    let c = self.escape(at)?;
                    text.push(c);
                }
                Some(c @ ('$' | '@')) if self.perl && quote == '"' && self.interpolates() => {
                    let message = format!(
                        "`{c}` in double quotes stands for a variable; write `\\{c}` or single quotes"
                    );
                    return self.refuse(at, message);
                }
                Some(c) => text.push(c),
            }
        }
        Ok(Kind::Scalar { text: text.into(), plain: false })
    }

    fn interpolates(&self) -> bool {
        self.peek().is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '{' | ':' | '$'))
    }

    fn escape(&mut self, place: Place) -> Step<char> {
        let c = match self.next() {
            Some('n') => '\n',
            Some('t') => '\t',
            Some('r') => '\r',
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('a') => '\u{7}',
            Some('e') => '\u{1b}',
            Some(first @ '0'..='7') => {
                let mut code = u32::from(first) - u32::from('0');
                for _ in 0..2 {
                    let Some(digit) = self.peek().and_then(|c| c.to_digit(8)) else { break };
                    code = code * 8 + digit;
                    self.next();
                }
                char::from_u32(code).unwrap_or('\0')
            }
            Some('u') => return self.unicode(place),
            Some('x') => {
                let digits = if self.take("{") {
                    let end = self.rest.find('}').unwrap_or(0);
                    let digits = self.rest[..end].to_owned();
                    for _ in 0..=digits.chars().count() {
                        self.next();
                    }
                    digits
                } else {
                    self.hex(2)
                };
                return match u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32) {
                    Some(c) => Ok(c),
                    None => self.refuse(place, "expected hexadecimal digits behind `\\x`"),
                };
            }
            Some(c) if !c.is_alphanumeric() => c,
            _ => return self.refuse(place, "this escape means nothing here"),
        };
        Ok(c)
    }

    fn hex(&mut self, most: usize) -> String {
        let mut digits = String::new();
        while digits.len() < most {
            let Some(c) = self.peek().filter(char::is_ascii_hexdigit) else { break };
            digits.push(c);
            self.next();
        }
        digits
    }

    /// `\u1234`, or two of them for what is beyond.
    fn unicode(&mut self, place: Place) -> Step<char> {
        let first = u32::from_str_radix(&self.hex(4), 16).unwrap_or(0xD800);
        let code = if (0xD800..0xDC00).contains(&first) && self.take("\\u") {
            let second = u32::from_str_radix(&self.hex(4), 16).unwrap_or(0);
            second.checked_sub(0xDC00).map(|low| 0x10000 + ((first - 0xD800) << 10) + low)
        } else {
            Some(first)
        };
        match code.and_then(char::from_u32) {
            Some(c) => Ok(c),
            None => self.refuse(place, "expected four hexadecimal digits behind `\\u`"),
        }
    }
}

fn is_bare(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '+' | '-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> Vec<String> {
        let mut sink = Sink::default();
        let file = sink.add_file("f", text);
        parse(text, file, &mut sink);
        sink.finish().iter().map(ToString::to_string).collect()
    }

    fn show(text: &str) -> String {
        fn inner(node: &Node) -> String {
            match &node.kind {
                Kind::Scalar { text, plain } => format!("{text}{}", if *plain { "" } else { "'" }),
                Kind::List(items) => {
                    format!("[{}]", items.iter().map(|item| inner(item)).collect::<Vec<_>>().join(" "))
                }
                Kind::Map(entries) => {
                    let all = entries.iter().map(|it| format!("{}={}", it.key.text, inner(&it.value)));
                    format!("{{{}}}", all.collect::<Vec<_>>().join(" "))
                }
            }
        }
        let mut sink = Sink::default();
        let file = sink.add_file("f", text);
        let node = parse(text, file, &mut sink);
        node.map_or_else(|| format!("{:?}", sink.finish()), |node| inner(&node))
    }

    #[test]
    fn both_languages() {
        for (text, expected) in [
            (
                r#"{"a": [1, true, null, "x\n\u00e9\ud83d\ude00\/"], "b": {}}"#,
                "{a=[1 true null x\né😀/'] b={}}",
            ),
            ("# c\n{\"a\":1,}\n", "{a=1}"),
            (
                r#"{ a => 'it\'s \n', "b c" => [ -1, undef, q(x (y) z), ], }; # end"#,
                r"{a=it's \n' b c=[-1 null x (y) z']}",
            ),
            (r#"{ a => "\$x \@y a@ 5\$ \x41\x{e9}" }"#, "{a=$x @y a@ 5$ Aé'}"),
            (r#"{ a => ("ab" x 3), b => "\0\1\033" }"#, "{a=ababab' b=\0\u{1}\u{1b}'}"),
            (r#"{"a": "$x @y"}"#, "{a=$x @y'}"),
        ] {
            assert_eq!(show(text), expected);
        }
    }

    #[test]
    fn what_is_refused_names_its_place() {
        for (text, expected) in [
            ("", "f:1:1: error: the file ends"),
            ("{ a => 1 }\nuse x;", "f:2:1: error: something follows"),
            ("use strict;\n{}", "f:1:1: error: `use` is neither text"),
            ("{\n  a => \"$x\" }", "f:2:9: error: `$` in double quotes"),
            ("{ version => 12-SP3 }", "f:1:14: error: `12-SP3` is neither"),
            ("{ a => system('x') }", "f:1:8: error: `system` is neither"),
            ("{ a => (\"ab\" . 3) }", "f:1:8: error: expected `(\"text\" x NUMBER)`"),
            ("{ a => (\"ab\" x 99999999) }", "f:1:8: error: this would be longer"),
            ("{ a => qq(x) }", "f:1:8: error: `qq` is not read"),
            ("{ a 1 }", "f:1:5: error: expected `:` or `=>`"),
            ("{ \"a\": 1 \"b\": 2 }", "f:1:10: error: expected `,` or `}`"),
            ("{ \"a\": 1, \"a\": 2 }", "f:1:11: error: the key `a` stands"),
            ("[\"x", "f:1:2: error: this text has no end"),
            ("[\"\\ud800\"]", "f:1:3: error: expected four"),
        ] {
            let said = said(text);
            assert!(said.len() == 1 && said[0].starts_with(expected), "{text:?}: {said:?}");
        }
        assert!(said(&"[".repeat(5000))[0].contains("expected at most 100 levels"));
    }
}
