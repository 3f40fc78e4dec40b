//! Links between our own Markdown files: the file is there, and so is the heading.

use crate::tools;
use anyhow::{Result, bail};
use camino::{Utf8Path, Utf8PathBuf};

pub(crate) fn run() -> Result<()> {
    let root = tools::root()?;
    let mut wrong = Vec::new();
    let mut count = 0;
    for file in tools::git_files()?.into_iter().filter(|file| file.extension() == Some("md")) {
        let text = fs_err::read_to_string(root.join(&file))?;
        for (line, target) in links(&text) {
            count += 1;
            if let Err(why) = resolve(&root, &file, &target) {
                wrong.push(format!("{file}:{line}: the link to {target} leads nowhere: {why}"));
            }
        }
    }
    if wrong.is_empty() {
        println!("links: {count} lead somewhere");
        return Ok(());
    }
    bail!("{}", wrong.join("\n"))
}

/// The targets of inline links, pictures and link definitions, with their line.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in prose(text) {
        let line = without_code(line);
        let mut rest = line.as_str();
        while let Some(at) = rest.find("](") {
            rest = &rest[at + 2..];
            let end = rest.find([')', ' ']).unwrap_or(rest.len());
            found.push((number, rest[..end].trim_matches(['<', '>']).to_owned()));
        }
        if let Some((label, target)) = line.trim_start().split_once("]: ")
            && label.starts_with('[')
            && !label.starts_with("[^")
        {
            found.push((number, target.split(' ').next().unwrap_or_default().to_owned()));
        }
    }
    found.retain(|(_, target)| !target.contains("://") && !target.starts_with("mailto:"));
    found
}

/// The lines outside fenced code, numbered from 1.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        let fence = line.trim_start().starts_with("```") || line.trim_start().starts_with("~~~");
        fenced ^= fence;
        (!fenced && !fence).then_some((index + 1, line))
    })
}

fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect::<Vec<_>>().join(" ")
}

fn resolve(root: &Utf8Path, from: &Utf8Path, target: &str) -> Result<(), String> {
    let (path, anchor) = target.split_once('#').map_or((target, None), |(path, anchor)| (path, Some(anchor)));
    let file = match path {
        "" => root.join(from),
        _ if path.starts_with('/') => return Err("write it relative to this file".into()),
        _ => root.join(from.parent().unwrap_or(Utf8Path::new(""))).join(path),
    };
    if !file.exists() {
        return Err("there is no such file".into());
    }
    if !normal(&file).starts_with(root) {
        return Err("it lies outside the repository".into());
    }
    let Some(anchor) = anchor.filter(|_| file.extension() == Some("md")) else { return Ok(()) };
    let text = fs_err::read_to_string(&file).map_err(|error| error.to_string())?;
    if anchors(&text).iter().any(|known| known == anchor) {
        return Ok(());
    }
    Err("there is no such heading".into())
}

/// Without `.` and `..`.
fn normal(path: &Utf8Path) -> Utf8PathBuf {
    let mut normal = Utf8PathBuf::new();
    for part in path.components() {
        match part.as_str() {
            ".." => drop(normal.pop()),
            "." => {}
            part => normal.push(part),
        }
    }
    normal
}

/// The anchors of the headings, as GitHub makes them: lower case, punctuation dropped, spaces as `-`, repetitions numbered.
fn anchors(text: &str) -> Vec<String> {
    let mut made: Vec<String> = Vec::new();
    for (_, line) in prose(text) {
        let title = line.trim_start_matches('#');
        if title.len() == line.len() || !title.starts_with(' ') {
            continue;
        }
        let kept = title.trim().chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        let slug: String =
            kept.map(|c| if c == ' ' { '-' } else { c }).flat_map(char::to_lowercase).collect();
        let numbered = (1..=made.len()).map(|n| format!("{slug}-{n}"));
        let free = std::iter::once(slug.clone()).chain(numbered).find(|free| !made.contains(free));
        made.extend(free);
    }
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_found_and_code_is_not() {
        let text = "see [a](b.md#c) and ![p](x/p.png \"t\")\n```\n[no](no.md)\n```\n`[no](no.md)` [w](https://example.org)\n[r]: d.md\n[^1]: note";
        let found: Vec<_> =
            links(text).into_iter().map(|(line, target)| format!("{line}:{target}")).collect();
        assert_eq!(found, ["1:b.md#c", "1:x/p.png", "6:d.md"]);
    }

    #[test]
    fn anchors_are_githubs() {
        let text = "# Two words, and `code`\n## Two words, and code\n#no heading\n### A_b-C 1.5";
        assert_eq!(anchors(text), ["two-words-and-code", "two-words-and-code-1", "a_b-c-15"]);
    }

    #[test]
    fn dots_are_taken_out() {
        assert_eq!(normal(Utf8Path::new("/a/b/../c/./d")), "/a/c/d");
    }

    #[test]
    fn a_missing_file_and_a_missing_heading_are_told_apart() {
        let root = Utf8Path::new(env!("CARGO_MANIFEST_DIR"));
        let from = Utf8Path::new("src/main.rs");
        assert_eq!(resolve(root, from, "links.rs"), Ok(()));
        assert_eq!(resolve(root, from, "nothing.rs"), Err("there is no such file".into()));
        assert_eq!(resolve(root, from, "../../Cargo.toml"), Err("it lies outside the repository".into()));
        assert_eq!(resolve(root, from, "/etc/hosts"), Err("write it relative to this file".into()));

        let dir = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(dir.path()).unwrap();
        fs_err::create_dir(root.join("docs")).unwrap();
        fs_err::write(root.join("docs/a.md"), "# One thing\n").unwrap();
        assert_eq!(resolve(root, Utf8Path::new("README.md"), "docs/a.md#one-thing"), Ok(()));
        assert_eq!(
            resolve(root, Utf8Path::new("docs/a.md"), "#other-thing"),
            Err("there is no such heading".into())
        );
    }
}
