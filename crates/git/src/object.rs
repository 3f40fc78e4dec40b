//! Commits and trees as bytes: read, and written the one way git would.

use gix::ObjectId;

/// A commit, its people and its message as they stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RawCommit {
    pub(crate) tree: ObjectId,
    pub(crate) parents: Vec<ObjectId>,
    /// `NAME <EMAIL> SECONDS ZONE`.
    pub(crate) author: Vec<u8>,
    pub(crate) committer: Vec<u8>,
    pub(crate) encoding: Option<Vec<u8>>,
    pub(crate) message: Vec<u8>,
}

impl RawCommit {
    /// Reads a commit; `Err` says what is wrong with it.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, &'static str> {
        let (mut tree, mut parents, mut author, mut committer, mut encoding) =
            (None, Vec::new(), None, None, None);
        let mut rest = bytes;
        loop {
            let Some(end) = rest.iter().position(|b| *b == b'\n') else {
                // A commit without a message may end with its last header.
                if rest.is_empty() {
                    break;
                }
                return Err("a header without an end");
            };
            let line = &rest[..end];
            rest = &rest[end + 1..];
            if line.is_empty() {
                break;
            }
            let Some(space) = line.iter().position(|b| *b == b' ') else { continue };
            let value = &line[space + 1..];
            match &line[..space] {
                b"tree" if tree.is_none() => tree = Some(id(value)?),
                b"parent" if author.is_none() => parents.push(id(value)?),
                b"author" if author.is_none() => author = Some(value.to_vec()),
                b"committer" if committer.is_none() => committer = Some(value.to_vec()),
                b"encoding" if encoding.is_none() => encoding = Some(value.to_vec()),
                // Signatures and the like, and their continued lines.
                _ => {}
            }
        }
        Ok(Self {
            tree: tree.ok_or("no tree")?,
            parents,
            author: author.ok_or("no author")?,
            committer: committer.ok_or("no committer")?,
            encoding,
            message: rest.to_vec(),
        })
    }

    /// The bytes of which git makes the commit's SHA-1.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = format!("tree {}\n", self.tree.to_hex()).into_bytes();
        for parent in &self.parents {
            bytes.extend_from_slice(format!("parent {}\n", parent.to_hex()).as_bytes());
        }
        let mut header = |name: &str, value: &[u8]| {
            bytes.extend_from_slice(name.as_bytes());
            bytes.push(b' ');
            bytes.extend_from_slice(value);
            bytes.push(b'\n');
        };
        header("author", &self.author);
        header("committer", &self.committer);
        if let Some(encoding) = &self.encoding {
            header("encoding", encoding);
        }
        bytes.push(b'\n');
        bytes.extend_from_slice(&self.message);
        bytes
    }
}

fn id(hex: &[u8]) -> Result<ObjectId, &'static str> {
    if hex.len() != 40 {
        return Err("an id that is no SHA-1");
    }
    ObjectId::from_hex(hex).map_err(|_| "an id that is no SHA-1")
}

/// What an entry of a tree is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Mode {
    File,
    Executable,
    Symlink,
    Directory,
    Submodule,
}

impl Mode {
    /// As git reads it: old repositories have other permission bits.
    fn parse(octal: &[u8]) -> Option<Self> {
        let mut bits: u32 = 0;
        for digit in octal {
            if !(b'0'..=b'7').contains(digit) || octal.len() > 7 {
                return None;
            }
            bits = bits * 8 + u32::from(digit - b'0');
        }
        match bits & 0o170_000 {
            0o100_000 if bits & 0o100 != 0 => Some(Self::Executable),
            0o100_000 => Some(Self::File),
            0o120_000 => Some(Self::Symlink),
            0o040_000 => Some(Self::Directory),
            0o160_000 => Some(Self::Submodule),
            _ => None,
        }
    }

    fn octal(self) -> &'static str {
        match self {
            Self::File => "100644",
            Self::Executable => "100755",
            Self::Symlink => "120000",
            Self::Directory => "40000",
            Self::Submodule => "160000",
        }
    }
}

/// One entry of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) name: Vec<u8>,
    pub(crate) mode: Mode,
    pub(crate) id: ObjectId,
}

/// Reads a tree; `Err` says what is wrong with it.
pub(crate) fn parse_tree(bytes: &[u8]) -> Result<Vec<Entry>, &'static str> {
    let mut entries = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let space = rest.iter().position(|b| *b == b' ').ok_or("an entry without a mode")?;
        let mode = Mode::parse(&rest[..space]).ok_or("an entry of an unknown mode")?;
        rest = &rest[space + 1..];
        let nul = rest.iter().position(|b| *b == 0).ok_or("an entry without an end of its name")?;
        let name = rest[..nul].to_vec();
        if name.is_empty() || name.contains(&b'/') {
            return Err("an entry with an empty name or a slash in it");
        }
        rest = &rest[nul + 1..];
        let id =
            rest.get(..20).and_then(|id| ObjectId::try_from(id).ok()).ok_or("an entry without its id")?;
        rest = &rest[20..];
        entries.push(Entry { name, mode, id });
    }
    Ok(entries)
}

/// The bytes of a tree, in git's order: a directory's name counts with a slash behind it.
pub(crate) fn tree_bytes(mut entries: Vec<Entry>) -> Vec<u8> {
    let key = |entry: &Entry| {
        let mut key = entry.name.clone();
        if entry.mode == Mode::Directory {
            key.push(b'/');
        }
        key
    };
    entries.sort_by_cached_key(key);
    let mut bytes = Vec::new();
    for entry in &entries {
        bytes.extend_from_slice(entry.mode.octal().as_bytes());
        bytes.push(b' ');
        bytes.extend_from_slice(&entry.name);
        bytes.push(0);
        bytes.extend_from_slice(entry.id.as_slice());
    }
    bytes
}

/// Adds lines to a commit message as `git interpret-trailers` would: to its last paragraph if that has only such lines.
pub(crate) fn with_footers(message: &[u8], footers: &[String]) -> Vec<u8> {
    if footers.is_empty() {
        return message.to_vec();
    }
    let end = message.iter().rposition(|b| !b.is_ascii_whitespace()).map_or(0, |at| at + 1);
    let mut text = message[..end].to_vec();
    let lines: Vec<&[u8]> = text.split(|b| *b == b'\n').collect();
    let last = lines.rsplit(|line| line.is_empty()).next().unwrap_or_default();
    let joined = last.len() < lines.len() && !last.is_empty() && last.iter().all(|line| is_footer(line));
    text.extend_from_slice(if joined { b"\n" } else { b"\n\n" });
    for footer in footers {
        // One line each, whatever comes.
        text.extend(footer.bytes().map(|b| if b == b'\n' || b == 0 { b' ' } else { b }));
        text.push(b'\n');
    }
    text
}

fn is_footer(line: &[u8]) -> bool {
    let Some(colon) = line.iter().position(|b| *b == b':') else { return false };
    colon > 0
        && line[..colon].iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-')
        && line.get(colon + 1) == Some(&b' ')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEX: &str = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";

    #[test]
    fn a_commit_is_read_and_written() {
        let text = format!(
            "tree {HEX}\nparent {HEX}\nauthor é <a@x> 1 +0000\ncommitter C <c@x> 2 +0100\nencoding latin1\n\nsubject\n\nbody\n"
        );
        let commit = RawCommit::parse(text.as_bytes()).expect("a commit");
        assert_eq!(commit.bytes(), text.as_bytes());
        let signed = text.replace("encoding", "gpgsig -----BEGIN\n parent x\n -----END\nencoding");
        assert_eq!(RawCommit::parse(signed.as_bytes()).expect("a signed commit"), commit);
        for (bad, why) in [
            ("", "no tree"),
            ("tree 12\n", "an id that is no SHA-1"),
            (&format!("tree {HEX}\n\n"), "no author"),
            (&format!("tree {HEX}"), "a header without an end"),
        ] {
            assert_eq!(RawCommit::parse(bad.as_bytes()), Err(why), "{bad:?}");
        }
    }

    #[test]
    fn trees_are_in_gits_order() {
        let id = ObjectId::from_hex(HEX.as_bytes()).expect("an id");
        let entry = |name: &str, mode| Entry { name: name.into(), mode, id };
        let entries =
            vec![entry("a", Mode::Directory), entry("a.c", Mode::File), entry("a0", Mode::Executable)];
        let bytes = tree_bytes(entries);
        let names: Vec<_> = parse_tree(&bytes).expect("a tree").into_iter().map(|entry| entry.name).collect();
        assert_eq!(names, [b"a.c".to_vec(), b"a".to_vec(), b"a0".to_vec()]);
    }

    #[test]
    fn footers() {
        let add = |message: &str| {
            String::from_utf8(with_footers(message.as_bytes(), &["Reviewed-on: x".to_owned()]))
                .expect("UTF-8")
        };
        assert_eq!(add("subject\n"), "subject\n\nReviewed-on: x\n");
        assert_eq!(add("fix: subject\n"), "fix: subject\n\nReviewed-on: x\n");
        assert_eq!(add("subject\n\nChange-Id: I1\n\n"), "subject\n\nChange-Id: I1\nReviewed-on: x\n");
        assert_eq!(
            add("subject\n\nsome text\nChange-Id: I1\n"),
            "subject\n\nsome text\nChange-Id: I1\n\nReviewed-on: x\n"
        );
        assert_eq!(with_footers(b"s\n\n", &[]), b"s\n\n");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            if let Ok(entries) = parse_tree(&bytes) {
                prop_assert_eq!(parse_tree(&tree_bytes(entries.clone())).map(|tree| tree.len()), Ok(entries.len()));
            }
            if let Ok(commit) = RawCommit::parse(&bytes) {
                prop_assert_eq!(RawCommit::parse(&commit.bytes()), Ok(commit));
            }
        }
    }
}
