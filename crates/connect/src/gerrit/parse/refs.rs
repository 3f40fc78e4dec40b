//! The refs that a git server advertises.

/// Reads the packets that `git-upload-pack` begins with, as far as they are whole: names and commits.
/// `None` as long as the end of the advertisement has not been seen.
pub fn advertised_refs(bytes: &[u8]) -> Option<Vec<(String, String)>> {
    let mut rest = bytes;
    let mut refs = Vec::new();
    let mut begun = false;
    loop {
        let length = std::str::from_utf8(rest.get(..4)?).ok()?;
        let length = usize::from_str_radix(length, 16).ok()?;
        if length < 4 {
            rest = &rest[4..];
            // Over HTTP the list comes after a packet of its own and a flush.
            if begun || rest.is_empty() {
                return Some(refs);
            }
            continue;
        }
        let line = String::from_utf8_lossy(rest.get(4..length)?);
        rest = &rest[length..];
        if line.starts_with("# service=") {
            continue;
        }
        begun = true;
        let line = line.split('\0').next().unwrap_or_default().trim_end();
        if let Some((commit, name)) = line.split_once(' ') {
            // `refs/tags/1.0^{}` is what a tag stands for; the tag itself is there too.
            if is_oid(commit) && name.starts_with("refs/") && !name.ends_with("^{}") {
                refs.push((name.to_owned(), commit.to_owned()));
            }
        }
    }
}

fn is_oid(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}
