//! Which files of a workspace a job means.

use regex::Regex;
use std::fmt::Write;

/// Globs over paths with `/`: `*` and `?` stay within a name, `**` goes through folders, `[a-z]` is one character.
#[derive(Debug, Default)]
pub(super) struct Globs(Vec<Regex>);

impl Globs {
    /// Reads globs; a leading `./` or `/` means the workspace, and a trailing `/` everything below.
    pub(super) fn new(globs: &[String]) -> Result<Self, String> {
        globs.iter().map(|glob| compile(glob)).collect::<Result<_, _>>().map(Self)
    }

    /// True if one of them means this path.
    pub(super) fn mean(&self, path: &str) -> bool {
        self.0.iter().any(|glob| glob.is_match(path))
    }

    /// True if there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn compile(glob: &str) -> Result<Regex, String> {
    let text = glob.trim_start_matches("./").trim_start_matches('/');
    let text = if text.ends_with('/') { format!("{text}**") } else { text.to_owned() };
    let mut pattern = String::from("^");
    let mut rest = text.as_str();
    while let Some(first) = rest.chars().next() {
        let class_end = || rest[1..].find(']').filter(|&at| at > 0);
        let used = if rest.starts_with("**/") {
            pattern.push_str("(?:.*/)?");
            3
        } else if rest.starts_with("**") {
            pattern.push_str(".*");
            2
        } else if first == '*' {
            pattern.push_str("[^/]*");
            1
        } else if first == '?' {
            pattern.push_str("[^/]");
            1
        } else if first == '['
            && let Some(end) = class_end()
        {
            let inside = rest[1..=end].replace('\\', "\\\\").replace('[', "\\[");
            let negated = inside.strip_prefix('!').map(|inside| format!("^{inside}"));
            let _ = write!(pattern, "[{}]", negated.unwrap_or(inside));
            end + 2
        } else {
            pattern.push_str(&regex::escape(&rest[..first.len_utf8()]));
            first.len_utf8()
        };
        rest = &rest[used..];
    }
    pattern.push('$');
    Regex::new(&pattern).map_err(|_| format!("{glob:?} is no glob; use *, **, ? and [a-z]"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_mean_what_a_shell_would() {
        let table = [
            ("logs/**", "logs/a/b.txt", true),
            ("logs/**", "logs/a", true),
            ("logs/**", "xlogs/a", false),
            ("./logs/", "logs/a/b", true),
            ("*.xml", "a.xml", true),
            ("*.xml", "a/b.xml", false),
            ("**/*.xml", "a.xml", true),
            ("**/*.xml", "a/b/c.xml", true),
            ("**/junit.xml", "a/xjunit.xml", false),
            ("a?c/[0-9].t[!x]t", "abc/7.tzt", true),
            ("a?c/[0-9].t[!x]t", "abc/7.txt", false),
            ("a+(b).txt", "a+(b).txt", true),
            ("[", "[", true),
            ("\u{e4}*", "\u{e4}\u{f6}", true),
        ];
        for (glob, path, wanted) in table {
            let globs = Globs::new(&[glob.to_owned()]).unwrap();
            assert_eq!(globs.mean(path), wanted, "{glob} {path}");
        }
        assert!(Globs::new(&["[z-a]".to_owned()]).unwrap_err().contains("is no glob"));
    }
}
