//! What a comment says to programs: bugs, labels, flags, and tags of builds.

use crate::ids::GroupId;
use crate::outcome::Outcome;
use crate::product::BuildTag;
use std::collections::BTreeSet;

/// Where a tracker's bugs are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// `BASE` and the number.
    Direct(&'static str),
    /// `BASE`, the repository, and one of these before the number; the first is the one to write.
    Repository(&'static str, &'static [&'static str]),
}

const ISSUES: &[&str] = &["/issues/", "/pull/"];
const GITLAB: &[&str] = &["/-/issues/", "/issues/", "/-/merge_requests/"];

/// Trackers that people name by a short word. Of several words for one place the first is what its addresses become.
const TRACKERS: [(&str, Place); 19] = [
    ("bsc", Place::Direct("https://bugzilla.suse.com/show_bug.cgi?id=")),
    ("bnc", Place::Direct("https://bugzilla.suse.com/show_bug.cgi?id=")),
    ("boo", Place::Direct("https://bugzilla.opensuse.org/show_bug.cgi?id=")),
    ("bgo", Place::Direct("https://bugzilla.gnome.org/show_bug.cgi?id=")),
    ("bko", Place::Direct("https://bugzilla.kernel.org/show_bug.cgi?id=")),
    ("bmo", Place::Direct("https://bugzilla.mozilla.org/show_bug.cgi?id=")),
    ("brc", Place::Direct("https://bugzilla.redhat.com/show_bug.cgi?id=")),
    ("rhbz", Place::Direct("https://bugzilla.redhat.com/show_bug.cgi?id=")),
    ("fdo", Place::Direct("https://bugs.freedesktop.org/show_bug.cgi?id=")),
    ("kde", Place::Direct("https://bugs.kde.org/show_bug.cgi?id=")),
    ("poo", Place::Direct("https://progress.opensuse.org/issues/")),
    ("jsc", Place::Direct("https://jira.suse.com/browse/")),
    ("deb", Place::Direct("https://bugs.debian.org/")),
    ("pio", Place::Repository("https://pagure.io/", &["/issue/", "/pull-request/"])),
    ("gh", Place::Repository("https://github.com/", ISSUES)),
    ("ggo", Place::Repository("https://gitlab.gnome.org/", GITLAB)),
    ("gfs", Place::Repository("https://gitlab.suse.de/", GITLAB)),
    ("kdi", Place::Repository("https://invent.kde.org/", GITLAB)),
    ("ffo", Place::Repository("https://gitlab.freedesktop.org/", GITLAB)),
];

/// Words of a text, as far as they can hold a token.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let between = |c: char| c.is_whitespace() || matches!(c, '(' | ')' | '"' | '\'' | '<' | '>' | ',' | ';');
    text.split(between).filter(|word| !word.is_empty())
}

fn is_repository(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c))
}

fn is_id(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
}

/// `marker#id` or `marker#owner/repository#id`.
fn is_bugref(word: &str) -> bool {
    let Some((marker, rest)) = word.split_once('#') else { return false };
    if !TRACKERS.iter().any(|(known, _)| *known == marker) {
        return false;
    }
    let (repository, id) = rest.rsplit_once('#').unwrap_or(("", rest));
    is_repository(repository) && is_id(id)
}

/// The bug that an address of a tracker leads to, in short.
fn shortened(word: &str) -> Option<String> {
    let id_of = |rest: &str| {
        let id: String = rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
        is_id(&id).then_some(id)
    };
    TRACKERS.iter().find_map(|(marker, place)| match place {
        Place::Direct(base) => Some(format!("{marker}#{}", id_of(word.strip_prefix(base)?)?)),
        Place::Repository(base, middles) => {
            let rest = word.strip_prefix(base)?;
            let (repository, rest) = middles.iter().find_map(|middle| rest.split_once(middle))?;
            let fits = !repository.is_empty() && is_repository(repository);
            fits.then(|| Some(format!("{marker}#{repository}#{}", id_of(rest)?)))?
        }
    })
}

/// The bugs that a text names, by their short words or by their addresses, each once, in order.
pub fn bugrefs(text: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for word in words(text).map(|word| word.trim_end_matches(['.', ':', '!', '?'])) {
        let bug = if is_bugref(word) { Some(word.to_owned()) } else { shortened(word) };
        if let Some(bug) = bug.filter(|bug| !found.contains(bug)) {
            found.push(bug);
        }
    }
    found
}

/// Where a bug is; `None` if `word` is none.
pub fn bug_address(word: &str) -> Option<String> {
    if !is_bugref(word) {
        return None;
    }
    let (marker, rest) = word.split_once('#')?;
    let (_, place) = TRACKERS.iter().find(|(known, _)| *known == marker)?;
    Some(match (place, rest.rsplit_once('#')) {
        (Place::Repository(base, middles), Some((repository, id))) => {
            format!("{base}{repository}{}{id}", middles.first()?)
        }
        (Place::Direct(base), Some((repository, id))) => format!("{base}{repository}/issues/{id}"),
        (Place::Direct(base) | Place::Repository(base, _), None) => format!("{base}{rest}"),
    })
}

/// The labels of a text: `label:TEXT`, each once, in order.
pub fn labels(text: &str) -> Vec<&str> {
    let mut found: Vec<&str> = Vec::new();
    for label in words(text).filter_map(|word| word.strip_prefix("label:")) {
        if !label.is_empty() && !found.contains(&label) {
            found.push(label);
        }
    }
    found
}

/// True if what is said here is to go over to the next failure: a bug is named, or it says so.
pub fn goes_over(text: &str) -> bool {
    words(text).any(|word| word == "flag:carryover") || !bugrefs(text).is_empty()
}

/// A word in the place of a result that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoResult<'t>(pub &'t str);

/// The results that a text asks for, and why, in order: `label:force_result:RESULT[:why]`.
fn results(text: &str) -> impl Iterator<Item = Result<(Outcome, Option<&str>), NoResult<'_>>> {
    labels(text).into_iter().filter_map(|label| label.strip_prefix("force_result:")).map(|rest| {
        let (result, why) = match rest.split_once(':') {
            Some((result, why)) => (result, Some(why)),
            None => (rest, None),
        };
        let why = why.filter(|why| !why.is_empty());
        Outcome::from_openqa(result).map(|outcome| (outcome, why)).ok_or(NoResult(result))
    })
}

/// The result that a comment gives, and why; a comment from elsewhere may have words that are no results.
pub fn forced(text: &str) -> Option<(Outcome, Option<&str>)> {
    results(text).find_map(Result::ok)
}

/// The same of what somebody is about to say: a word that is no result was meant as one.
pub fn to_be_forced(text: &str) -> Result<Option<(Outcome, Option<&str>)>, NoResult<'_>> {
    let all = results(text).collect::<Result<Vec<_>, _>>()?;
    Ok(all.first().copied())
}

/// What a comment on a group says of a build: `tag:[VERSION-]BUILD:TYPE[:what]`, or `-TYPE` to take the tag away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagWord<'t> {
    /// Which build: `BUILD` or `VERSION-BUILD`. Both may have dashes, so only [`BuildTag::is_of`] tells.
    pub build: &'t str,
    /// Such as `important` or `published`.
    pub kind: &'t str,
    /// More for people.
    pub what: Option<&'t str>,
    /// The tag is taken away.
    pub removed: bool,
}

/// The tag that a text gives or takes away.
pub fn tag(text: &str) -> Option<TagWord<'_>> {
    words(text).find_map(|word| {
        let (build, rest) = word.strip_prefix("tag:")?.split_once(':')?;
        let (kind, what) = match rest.split_once(':') {
            Some((kind, what)) => (kind, Some(what).filter(|what| !what.is_empty())),
            None => (rest, None),
        };
        let (removed, kind) = match kind.strip_prefix('-') {
            Some(kind) => (true, kind),
            None => (false, kind),
        };
        (!build.is_empty() && !kind.is_empty()).then_some(TagWord { build, kind, what, removed })
    })
}

/// The tags that hold after all comments of a group, the first first: a later word about a build's kind counts.
pub fn tags<'t>(texts: impl IntoIterator<Item = &'t str>) -> Vec<TagWord<'t>> {
    let mut hold: Vec<TagWord<'t>> = Vec::new();
    for word in texts.into_iter().filter_map(tag) {
        hold.retain(|known| (known.build, known.kind) != (word.build, word.kind));
        if !word.removed {
            hold.push(word);
        }
    }
    hold
}

/// The builds of a group that are tagged, whatever the kind.
pub fn tagged<'t>(group: GroupId, texts: impl IntoIterator<Item = &'t str>) -> BTreeSet<BuildTag> {
    tags(texts).into_iter().map(|tag| BuildTag { group, build: tag.build.to_owned() }).collect()
}

/// True if something outside speaks of a job: a comment on it says `label:linked…`. Its things stay longer.
pub fn is_linked(text: &str) -> bool {
    labels(text).iter().any(|label| label.starts_with("linked"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bugs_are_found_by_word_and_by_address() {
        let text = "see boo#123, (gh#a/b#7) rhbz#99. not xyz#1 nor boo# nor gh#<x>#1; boo#123 \
                    https://bugzilla.suse.com/show_bug.cgi?id=77#c4 https://github.com/a/b/pull/8. \
                    https://progress.opensuse.org/issues/5 https://example.org/issues/5 https://github.com/a/b";
        assert_eq!(
            bugrefs(text),
            ["boo#123", "gh#a/b#7", "rhbz#99", "bsc#77", "gh#a/b#8", "poo#5"].map(str::to_owned)
        );
        for (word, want) in [
            ("poo#5", Some("https://progress.opensuse.org/issues/5")),
            ("gh#a/b#7", Some("https://github.com/a/b/issues/7")),
            ("pio#fedora-qa#3", Some("https://pagure.io/fedora-qa/issue/3")),
            ("xyz#1", None),
        ] {
            assert_eq!(bug_address(word).as_deref(), want, "{word}");
        }
    }

    #[test]
    fn labels_results_and_flags() {
        assert_eq!(forced("label:force_result:passed:boo#1 thanks"), Some((Outcome::Passed, Some("boo#1"))));
        assert_eq!(forced("x\nlabel:force_result:softfailed"), Some((Outcome::Softfailed, None)));
        assert_eq!(forced("label:force_result:splendid"), None);
        assert_eq!(to_be_forced("label:force_result:splendid:boo#1"), Err(NoResult("splendid")));
        assert_eq!(to_be_forced("label:force_result:passed label:force_result:"), Err(NoResult("")));
        assert_eq!(to_be_forced("label:force_result:passed"), Ok(Some((Outcome::Passed, None))));
        assert_eq!(to_be_forced("label:force_result passed"), Ok(None));
        assert_eq!(forced("label:linked"), None);
        for (text, want) in [
            ("boo#1", true),
            ("it is flag:carryover for now", true),
            ("flag:carryovers", false),
            ("label:todo", false),
        ] {
            assert_eq!(goes_over(text), want, "{text}");
        }
    }

    #[test]
    fn the_last_word_about_a_build_counts() {
        let comments =
            ["tag:0042:important:why", "hello", "x tag:43-7:published", "tag:0042:-important", "tag::x"];
        let held: Vec<_> = tags(comments).into_iter().map(|tag| (tag.build, tag.kind, tag.what)).collect();
        assert_eq!(held, [("43-7", "published", None)]);
        let tagged = tagged(GroupId(1), comments);
        let of = |version: &str, build: &str| tagged.iter().any(|tag| tag.is_of(version, build));
        assert_eq!(
            (of("43", "7"), of("44", "7"), of("", "43-7"), of("43", "0042")),
            (true, false, true, false)
        );
        let said = tag("x tag:Fedora-45-1.0:published:GM").unwrap();
        assert_eq!((said.build, said.kind, said.what), ("Fedora-45-1.0", "published", Some("GM")));
        assert_eq!((tag("tag:1:"), tag("tag::x"), tag("tag:1")), (None, None, None));
    }

    #[test]
    fn labels_are_words() {
        assert_eq!(labels("label:a (label:b) label: label:a"), ["a", "b"]);
        for (text, want) in [("label:linked from a bug", true), ("label:todo", false), ("linked", false)] {
            assert_eq!(is_linked(text), want, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read(text in "[a-z#:/.\\-<>\"'& \n?=]{0,120}") {
            for bug in bugrefs(&text) {
                proptest::prop_assert!(bug_address(&bug).is_some(), "{bug}");
            }
            let _ = (forced(&text), to_be_forced(&text), tag(&text), goes_over(&text));
        }
    }
}
