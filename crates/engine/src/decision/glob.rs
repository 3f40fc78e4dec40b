//! Shell patterns.

/// True if a shell pattern (`*`, `?`, `[a-z]`, `[!a]`) fits the whole text. Takes no longer than their lengths multiplied.
pub fn glob_match(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    // Where to go on if what follows the last `*` does not fit here.
    let mut again: Option<(usize, usize)> = None;
    while t < text.len() {
        match one(&pattern[p..], text[t]) {
            _ if pattern.get(p) == Some(&'*') => {
                again = Some((p, t));
                p += 1;
            }
            Some(length) => {
                p += length;
                t += 1;
            }
            None => {
                let Some((star, from)) = again else { return false };
                again = Some((star, from + 1));
                (p, t) = (star + 1, from + 1);
            }
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// How much of the pattern stands for this character.
fn one(pattern: &[char], c: char) -> Option<usize> {
    match pattern.first()? {
        '?' => Some(1),
        '[' => match set(&pattern[1..]) {
            Some((inside, negated, length)) => (has(inside, c) != negated).then_some(length + 1),
            None => (c == '[').then_some(1), // never closed: itself
        },
        plain => (*plain == c).then_some(1),
    }
}

/// What is between the brackets, whether it is `!`, and how long it is with the closing one.
fn set(pattern: &[char]) -> Option<(&[char], bool, usize)> {
    let negated = pattern.first() == Some(&'!');
    let from = usize::from(negated);
    // A closing bracket that comes first is one of the characters.
    let end = pattern.iter().skip(from + 1).position(|c| *c == ']')? + from + 1;
    Some((&pattern[from..end], negated, end + 1))
}

fn has(inside: &[char], c: char) -> bool {
    let mut at = 0;
    while at < inside.len() {
        if at + 2 < inside.len() && inside[at + 1] == '-' {
            if (inside[at]..=inside[at + 2]).contains(&c) {
                return true;
            }
            at += 3;
        } else {
            if inside[at] == c {
                return true;
            }
            at += 1;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::glob_match;

    #[test]
    fn patterns() {
        for (pattern, text, want) in [
            ("fedora-*", "fedora-40", true),
            ("fedora-*", "epel-9", false),
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("a*b*c", "aXbXbYc", true),
            ("a*b*c", "aXbXbY", false),
            ("fedora-[34][0-9]", "fedora-41", true),
            ("fedora-[34][0-9]", "fedora-51", false),
            ("[!a]b", "bb", true),
            ("[!a]b", "ab", false),
            ("[]a]", "]", true),
            ("[a", "[a", true),
            ("??", "ü", false),
            ("?", "ü", true),
            ("a.b", "aXb", false),
            ("*a", &"a".repeat(5000), true),
            ("*a*a*a*a*a*a*a*a*a*b", &"a".repeat(5000), false),
        ] {
            assert_eq!(glob_match(pattern, text), want, "{pattern} {text:.20}");
        }
    }
}
