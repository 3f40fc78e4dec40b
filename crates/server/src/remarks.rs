//! What comments say to programs: bugs, labels, flags, tags; and comments as HTML that is safe to show.

use assay_engine::ids::GroupId;
use assay_engine::outcome::Outcome;
use assay_engine::product::BuildTag;

/// Trackers that people name by a short word, and where they are.
const TRACKERS: [(&str, &str); 18] = [
    ("bnc", "https://bugzilla.suse.com/show_bug.cgi?id="),
    ("bsc", "https://bugzilla.suse.com/show_bug.cgi?id="),
    ("boo", "https://bugzilla.opensuse.org/show_bug.cgi?id="),
    ("bgo", "https://bugzilla.gnome.org/show_bug.cgi?id="),
    ("bko", "https://bugzilla.kernel.org/show_bug.cgi?id="),
    ("bmo", "https://bugzilla.mozilla.org/show_bug.cgi?id="),
    ("brc", "https://bugzilla.redhat.com/show_bug.cgi?id="),
    ("rhbz", "https://bugzilla.redhat.com/show_bug.cgi?id="),
    ("fdo", "https://bugs.freedesktop.org/show_bug.cgi?id="),
    ("kde", "https://bugs.kde.org/show_bug.cgi?id="),
    ("poo", "https://progress.opensuse.org/issues/"),
    ("jsc", "https://jira.suse.com/browse/"),
    ("pio", "https://pagure.io/"),
    ("gh", "https://github.com/"),
    ("ggo", "https://gitlab.gnome.org/"),
    ("gfs", "https://gitlab.suse.de/"),
    ("kdi", "https://invent.kde.org/"),
    ("deb", "https://bugs.debian.org/"),
];

/// Words of a text, as far as they can hold a token.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let between = |c: char| c.is_whitespace() || matches!(c, '(' | ')' | '"' | '\'' | '<' | '>' | ',' | ';');
    text.split(between).filter(|word| !word.is_empty())
}

/// `marker#id` or `marker#owner/repository#id`.
fn is_bugref(word: &str) -> bool {
    let Some((marker, rest)) = word.split_once('#') else { return false };
    if !TRACKERS.iter().any(|(known, _)| *known == marker) {
        return false;
    }
    let (repository, id) = rest.rsplit_once('#').unwrap_or(("", rest));
    let repository_fits = repository.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
    !id.is_empty() && repository_fits && id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
}

/// The bugs that a comment names, each once, in order.
pub(crate) fn bugrefs(text: &str) -> Vec<&str> {
    let mut found: Vec<&str> = Vec::new();
    for word in words(text).map(|word| word.trim_end_matches(['.', ':', '!', '?'])) {
        if is_bugref(word) && !found.contains(&word) {
            found.push(word);
        }
    }
    found
}

/// The result that a comment gives, and why: `label:force_result:RESULT[:why]`.
pub(crate) fn forced(text: &str) -> Option<(Outcome, Option<&str>)> {
    words(text).find_map(|word| {
        let rest = word.strip_prefix("label:force_result:")?;
        let (result, why) = match rest.split_once(':') {
            Some((result, why)) => (result, Some(why)),
            None => (rest, None),
        };
        Some((Outcome::from_openqa(result)?, why.filter(|why| !why.is_empty())))
    })
}

/// The build that a comment on a group tags: `tag:[VERSION-]BUILD:TYPE[:what]`, unless it takes the tag away (`-TYPE`).
pub(crate) fn tag(group: GroupId, text: &str) -> Option<BuildTag> {
    words(text).find_map(|word| {
        let (build, kind) = word.strip_prefix("tag:")?.split_once(':')?;
        if build.is_empty() || kind.is_empty() || kind.starts_with('-') {
            return None;
        }
        let (version, build) = match build.split_once('-') {
            Some((version, build)) if !version.is_empty() && !build.is_empty() => {
                (Some(version.to_owned()), build)
            }
            _ => (None, build),
        };
        Some(BuildTag { group, version, build: build.to_owned() })
    })
}

/// What a tag calls its build: `BUILD` and `important: why` of `tag:BUILD:important:why`. The build may have its version
/// before it, which only those can tell apart who know what builds there are: both may have a dash.
pub(crate) fn tag_label(text: &str) -> Option<(&str, String)> {
    let (build, said) = words(text).find_map(|word| word.strip_prefix("tag:")?.split_once(':'))?;
    let (kind, why) = said.split_once(':').unwrap_or((said, ""));
    let label = if why.is_empty() { kind.to_owned() } else { format!("{kind}: {why}") };
    Some((build, label)).filter(|_| !build.is_empty() && !kind.is_empty())
}

/// What a comment calls what it is about: the words behind `label:`, each once, in order.
pub(crate) fn labels(text: &str) -> Vec<&str> {
    let mut found: Vec<&str> = Vec::new();
    for label in words(text).filter_map(|word| word.strip_prefix("label:")) {
        if !label.is_empty() && !found.contains(&label) {
            found.push(label);
        }
    }
    found
}

/// Where a bug is.
pub(crate) fn bug_address(bugref: &str) -> Option<String> {
    is_bugref(bugref).then(|| address(bugref)).flatten()
}

fn escaped(text: &str, html: &mut String) {
    for c in text.chars() {
        match c {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            other => html.push(other),
        }
    }
}

fn address(word: &str) -> Option<String> {
    if word.starts_with("https://") || word.starts_with("http://") {
        return Some(word.to_owned());
    }
    if !is_bugref(word) {
        return None;
    }
    let (marker, rest) = word.split_once('#')?;
    let (_, base) = TRACKERS.iter().find(|(known, _)| *known == marker)?;
    Some(match rest.rsplit_once('#') {
        Some((repository, id)) if *base == "https://pagure.io/" => format!("{base}{repository}/issue/{id}"),
        Some((repository, id)) => format!("{base}{repository}/issues/{id}"),
        None => format!("{base}{rest}"),
    })
}

/// The text as HTML: paragraphs, line breaks, links to addresses and bugs. Nothing of it is markup of the author's.
pub(crate) fn html(text: &str) -> String {
    let mut html = String::new();
    for paragraph in text.split("\n\n").map(str::trim).filter(|paragraph| !paragraph.is_empty()) {
        html.push_str("<p>");
        for (number, line) in paragraph.lines().enumerate() {
            if number > 0 {
                html.push_str("<br>\n");
            }
            for piece in line.split_inclusive(char::is_whitespace) {
                let word = piece.trim_end();
                let bare = word.trim_end_matches(['.', ',', ':', '!', '?', ')']);
                match address(bare) {
                    Some(link) => {
                        html.push_str("<a rel=\"nofollow noopener\" href=\"");
                        escaped(&link, &mut html);
                        html.push_str("\">");
                        escaped(bare, &mut html);
                        html.push_str("</a>");
                        escaped(&piece[bare.len()..], &mut html);
                    }
                    None => escaped(piece, &mut html),
                }
            }
        }
        html.push_str("</p>\n");
    }
    html
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_found() {
        let text = "see boo#123, (gh#a/b#7) rhbz#99. not xyz#1 nor boo# nor gh#<x>#1; boo#123";
        assert_eq!(bugrefs(text), ["boo#123", "gh#a/b#7", "rhbz#99"]);
        assert_eq!(forced("label:force_result:passed:boo#1 thanks"), Some((Outcome::Passed, Some("boo#1"))));
        assert_eq!(forced("x\nlabel:force_result:softfailed"), Some((Outcome::Softfailed, None)));
        assert_eq!(forced("label:force_result:splendid"), None);
        assert_eq!(forced("label:linked"), None);
        let tagged = |text| tag(GroupId(1), text).map(|tag| (tag.version, tag.build));
        assert_eq!(tagged("tag:0042:important"), Some((None, "0042".to_owned())));
        assert_eq!(
            tagged("x tag:43-20261121.n.0:published:why"),
            Some((Some("43".into()), "20261121.n.0".into()))
        );
        assert_eq!((tagged("tag:0042:-important"), tagged("tag::x"), tagged("tag:1")), (None, None, None));
        assert_eq!(tag_label("x tag:a-1:published:GM"), Some(("a-1", "published: GM".to_owned())));
        assert_eq!(tag_label("tag:1:important"), Some(("1", "important".to_owned())));
        assert_eq!((tag_label("tag:1:"), tag_label("tag::x"), tag_label("tag:1")), (None, None, None));
        assert_eq!(labels("label:a (label:b) label: label:a"), ["a", "b"]);
        assert_eq!(bug_address("rhbz#9").as_deref(), Some("https://bugzilla.redhat.com/show_bug.cgi?id=9"));
    }

    #[test]
    fn comments_are_shown_as_text() {
        let shown = html("<script>alert(1)</script> boo#1.\nhttps://x/?a=\"b\"&c\n\njavascript:alert(1)");
        assert_eq!(
            shown,
            "<p>&lt;script&gt;alert(1)&lt;/script&gt; <a rel=\"nofollow noopener\" \
             href=\"https://bugzilla.opensuse.org/show_bug.cgi?id=1\">boo#1</a>.<br>\n<a rel=\"nofollow noopener\" \
             href=\"https://x/?a=&quot;b&quot;&amp;c\">https://x/?a=&quot;b&quot;&amp;c</a></p>\n<p>javascript:alert(1)</p>\n"
        );
    }

    proptest::proptest! {
        #[test]
        fn no_markup_gets_through(text in "[a-z#:/<>\"'&\n ]{0,80}") {
            let shown = html(&text);
            let mut rest = shown.replace("<p>", "").replace("</p>", "").replace("<br>", "").replace("</a>", "");
            while let Some(at) = rest.find("<a rel=\"nofollow noopener\" href=\"http") {
                let end = rest[at..].find("\">").map(|end| at + end + 2);
                proptest::prop_assert!(end.is_some());
                rest.replace_range(at..end.unwrap_or(at), "");
            }
            proptest::prop_assert!(!rest.contains(['<', '>', '"', '\'']), "{}", shown);
        }
    }
}
