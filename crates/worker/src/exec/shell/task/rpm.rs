//! Which build a package is of. Its name does not tell: packages of one build are called differently. Its header does.

use camino::Utf8Path;
use fs_err as fs;
use std::io::{Read, Seek, SeekFrom};

/// What stands before the headers.
const LEAD: u64 = 96;
const LEAD_MAGIC: [u8; 4] = [0xed, 0xab, 0xee, 0xdb];
const HEADER_MAGIC: [u8; 4] = [0x8e, 0xad, 0xe8, 0x01];
/// The tag with the name of the source package, which is a text.
const SOURCE: u32 = 1044;
const TEXT: u32 = 6;
/// Longer headers than rpm itself takes are none.
const MOST_TAGS: u32 = 1 << 16;
const MOST_BYTES: u32 = 256 << 20;
/// The longest name of a file.
const LONGEST: u64 = 255;

/// The build that a package is of, as `name-version-release`; `None` if the file does not say that.
pub(super) fn build_of(path: &Utf8Path) -> Option<String> {
    if let Some(name) = path.file_name()?.strip_suffix(".src.rpm") {
        // It is the source package.
        return Some(name.to_owned());
    }
    let source = source_of(fs::File::open(path).ok()?)?;
    let name = source.strip_suffix(".src.rpm").or_else(|| source.strip_suffix(".nosrc.rpm"))?;
    Some(name.to_owned())
}

fn source_of(mut file: impl Read + Seek) -> Option<String> {
    let mut magic = [0; 4];
    file.read_exact(&mut magic).ok()?;
    if magic != LEAD_MAGIC {
        return None;
    }
    file.seek(SeekFrom::Start(LEAD)).ok()?;
    // The header of the signatures comes first, and is filled up to a multiple of eight bytes.
    let (tags, bytes) = sizes(&mut file)?;
    let signatures = u64::from(tags) * 16 + u64::from(bytes);
    let end = file.stream_position().ok()? + signatures;
    file.seek(SeekFrom::Start(end.next_multiple_of(8))).ok()?;
    let (tags, bytes) = sizes(&mut file)?;
    let values = file.stream_position().ok()? + u64::from(tags) * 16;
    let mut at = None;
    for _ in 0..tags {
        let mut entry = [0; 16];
        file.read_exact(&mut entry).ok()?;
        if (number(&entry, 0), number(&entry, 4)) == (SOURCE, TEXT) {
            at = Some(number(&entry, 8));
        }
    }
    let at = at.filter(|at| *at < bytes)?;
    file.seek(SeekFrom::Start(values + u64::from(at))).ok()?;
    let mut text = Vec::new();
    file.take(LONGEST).read_to_end(&mut text).ok()?;
    let end = text.iter().position(|byte| *byte == 0)?;
    text.truncate(end);
    String::from_utf8(text).ok()
}

/// How many tags a header has, and how many bytes their values take.
fn sizes(file: &mut impl Read) -> Option<(u32, u32)> {
    let mut intro = [0; 16];
    file.read_exact(&mut intro).ok()?;
    let (tags, bytes) = (number(&intro, 8), number(&intro, 12));
    (intro.starts_with(&HEADER_MAGIC) && tags <= MOST_TAGS && bytes <= MOST_BYTES).then_some((tags, bytes))
}

fn number(bytes: &[u8; 16], at: usize) -> u32 {
    bytes[at..at + 4].iter().fold(0, |number, byte| number << 8 | u32::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    /// A header of tags with texts.
    fn header(tags: &[(u32, &str)]) -> Vec<u8> {
        let mut index = Vec::new();
        let mut values = Vec::new();
        for (tag, text) in tags {
            for part in [*tag, TEXT, values.len() as u32, 1] {
                index.extend(part.to_be_bytes());
            }
            values.extend(text.as_bytes());
            values.push(0);
        }
        let sizes = [0, tags.len() as u32, values.len() as u32].map(u32::to_be_bytes).concat();
        [&HEADER_MAGIC[..], &sizes, &index, &values].concat()
    }

    fn package(tags: &[(u32, &str)]) -> Vec<u8> {
        let mut file = LEAD_MAGIC.to_vec();
        file.resize(LEAD as usize, 0);
        file.extend(header(&[(1000, "of no length that eight divides")]));
        file.resize(file.len().next_multiple_of(8), 0);
        file.extend(header(tags));
        file
    }

    #[test]
    fn a_package_names_its_source() {
        let file = package(&[(1000, "python3-hello"), (SOURCE, "hello-1.0-1.src.rpm"), (1124, "cpio")]);
        assert_eq!(source_of(Cursor::new(&file)).as_deref(), Some("hello-1.0-1.src.rpm"));
        assert_eq!(source_of(Cursor::new(package(&[(1000, "hello")]))), None);
        for length in 0..file.len() - 6 {
            let found = source_of(Cursor::new(&file[..length]));
            assert_eq!(found, None, "cut after {length} bytes");
        }
        assert_eq!(source_of(Cursor::new(b"hello-1.0-1.x86_64.rpm")), None);
        let folder = Utf8Path::new("/nonexistent");
        assert_eq!(build_of(&folder.join("hello-1.0-1.src.rpm")).as_deref(), Some("hello-1.0-1"));
        assert_eq!(build_of(&folder.join("hello-1.0-1.x86_64.rpm")), None);
    }
}
