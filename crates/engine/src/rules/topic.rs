//! Topics: words with dots between them.

use std::fmt;

/// A pattern as brokers know it: `*` stands for one word, `#` for any number of words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicPattern {
    text: String,
}

impl TopicPattern {
    /// Reads a pattern; every text is one.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into() }
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// True if no word of it stands for others.
    pub fn is_exact(&self) -> bool {
        !self.text.split('.').any(|word| word == "*" || word == "#")
    }

    /// Why hardly any topic fits, if its words are not meant as they are written.
    pub fn is_odd(&self) -> Option<String> {
        self.text.split('.').find_map(|word| match word {
            "" => Some("two dots, or one at an end, leave a word empty".to_owned()),
            "*" | "#" => None,
            word if word.contains(['*', '#']) => Some(format!(
                "in `{word}` it stands for nothing: `*` is a whole word between dots, `#` any number of words"
            )),
            _ => None,
        })
    }

    /// True if `topic` fits.
    pub fn matches(&self, topic: &str) -> bool {
        let pattern: Vec<&str> = self.text.split('.').collect();
        let topic: Vec<&str> = topic.split('.').collect();
        fits(&pattern, &topic)
    }

    /// True if some topic fits both.
    pub fn overlaps(&self, other: &Self) -> bool {
        let (mine, theirs): (Vec<&str>, Vec<&str>) =
            (self.text.split('.').collect(), other.text.split('.').collect());
        overlap(&mine, &theirs)
    }
}

impl fmt::Display for TopicPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Row by row, so that many `#` cost no more than the product of both lengths.
fn fits(pattern: &[&str], topic: &[&str]) -> bool {
    let mut reach = vec![false; topic.len() + 1];
    reach[0] = true;
    for word in pattern {
        if *word == "#" {
            let mut seen = false;
            for cell in &mut reach {
                seen |= *cell;
                *cell = seen;
            }
            continue;
        }
        for at in (0..topic.len()).rev() {
            reach[at + 1] = reach[at] && (*word == "*" || *word == topic[at]);
        }
        reach[0] = false;
    }
    reach[topic.len()]
}

fn overlap(mine: &[&str], theirs: &[&str]) -> bool {
    let (rows, columns) = (mine.len() + 1, theirs.len() + 1);
    let mut reach = vec![vec![false; columns]; rows];
    reach[0][0] = true;
    for row in 0..rows {
        for column in 0..columns {
            if !reach[row][column] {
                continue;
            }
            let (a, b) = (mine.get(row), theirs.get(column));
            let hashes = [a == Some(&"#"), b == Some(&"#")];
            if hashes[0] || (hashes[1] && a.is_some()) {
                reach[row + 1][column] = true;
            }
            if hashes[1] || (hashes[0] && b.is_some()) {
                reach[row][column + 1] = true;
            }
            if let (Some(a), Some(b)) = (a, b)
                && !hashes[0]
                && !hashes[1]
                && (a == b || *a == "*" || *b == "*")
            {
                reach[row + 1][column + 1] = true;
            }
        }
    }
    reach[rows - 1][columns - 1]
}
