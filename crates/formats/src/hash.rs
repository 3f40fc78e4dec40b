//! What a configuration is known by.

use sha2::{Digest, Sha256};

/// SHA-256 over sources and the names of their files, whatever their order, their kind of line ends, and blanks at the ends of lines.
pub(crate) fn of_sources<'t>(sources: impl IntoIterator<Item = (&'t str, &'t str)>) -> String {
    let base = |name: &'t str| name.rsplit('/').next().unwrap_or(name);
    let mut sources: Vec<_> = sources.into_iter().map(|(name, text)| (base(name), text)).collect();
    sources.sort_unstable();
    let mut digest = Sha256::new();
    for (name, text) in sources {
        // Neither a name nor a line holds a NUL that counts: YAML has none.
        digest.update(name);
        digest.update([0]);
        for line in text.strip_prefix('\u{feff}').unwrap_or(text).lines() {
            digest.update(line.trim_end());
            digest.update(b"\n");
        }
        digest.update([0]);
    }
    hex::encode(digest.finalize())
}

#[cfg(test)]
mod tests {
    use super::of_sources;

    #[test]
    fn what_counts_and_what_does_not() {
        let one = of_sources([("a.yaml", "x: 1\ny: 2\n"), ("b.yaml", "")]);
        assert_eq!(one, of_sources([("b.yaml", ""), ("d/a.yaml", "\u{feff}x: 1  \r\ny: 2")]));
        assert_ne!(one, of_sources([("a.yaml", "x: 1\n y: 2\n"), ("b.yaml", "")]));
        assert_ne!(one, of_sources([("a.yaml", "x: 1\ny: 2\n")]));
        assert_eq!(one.len(), 64);
    }
}
