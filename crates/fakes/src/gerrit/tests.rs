//! Parsers of foreign text.

use super::commands::split;
use super::push::{Target, label_value};
use super::repos::{Repos, parse_commit, parse_diff};
use proptest::prelude::*;

#[test]
fn command_lines_are_split_as_gerrit_does() {
    let table: &[(&str, &[&str])] = &[
        ("", &[]),
        ("gerrit  query\tx", &["gerrit", "query", "x"]),
        (r#"-m "two words" ''"#, &["-m", "two words", ""]),
        (r#"-m "a \"b\" c""#, &["-m", "a \"b\" c"]),
        (r"'it\n'\''s'", &[r"it\n's"]),
        (r"a\ b\", &[r"a b\"]),
        ("git-upload-pack '/a/b.git'", &["git-upload-pack", "/a/b.git"]),
        ("\"line\nline\"", &["line\nline"]),
    ];
    for (line, words) in table {
        assert_eq!(split(line), *words, "{line}");
    }
}

#[test]
fn labels_with_values() {
    let table = [
        ("Code-Review=-1", Some(("Code-Review", -1))),
        ("Code-Review+2", Some(("Code-Review", 2))),
        ("Code-Review-2", Some(("Code-Review", -2))),
        ("Code-Review", Some(("Code-Review", 1))),
        ("Verified=+1", Some(("Verified", 1))),
        ("Verified=", None),
        ("Verified=x", None),
    ];
    for (text, expected) in table {
        assert_eq!(label_value(text), expected.map(|(label, value)| (label.to_owned(), value)), "{text}");
    }
}

#[test]
fn names_of_projects_stay_inside_their_directory() {
    for name in ["demo", "openstack/nova", "a.b/c-d_e+f"] {
        assert!(Repos::is_name(name), "{name}");
    }
    for name in ["", "/etc", "..", "a/../b", "a//b", "a/", "-x", "a b", "a\0b", "a.git", "a/.git/b", "é"] {
        assert!(!Repos::is_name(name), "{name:?}");
    }
}

#[test]
fn renames_and_counts_are_read() {
    let raw = b":100644 100644 aa bb R095\0old\0new\0:000000 100644 00 cc A\0with\ttab\x001\t2\t\0old\0new\x003\t0\twith\ttab\0";
    let files = parse_diff(raw);
    let seen: Vec<_> = files
        .iter()
        .map(|f| (f.path.as_str(), f.old_path.as_deref(), f.letter, f.insertions, f.deletions))
        .collect();
    assert_eq!(seen, [("new", Some("old"), 'R', 1, 2), ("with\ttab", None, 'A', 3, 0)]);
}

proptest! {
    #[test]
    fn no_text_breaks_a_parser(text in "\\PC{0,80}", bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        let _ = split(&text);
        let _ = label_value(&text);
        let _ = Target::parse(&format!("refs/for/{text}"), std::slice::from_ref(&text));
        let _ = parse_commit("id", &text).footers("Change-Id");
        let _ = parse_diff(&bytes);
        let _ = super::http::unescape(&text, true);
    }

    #[test]
    fn quoting_holds_any_word_together(word in "[^']{0,40}") {
        prop_assert_eq!(split(&format!("x '{word}' y")), ["x", word.as_str(), "y"]);
    }
}
