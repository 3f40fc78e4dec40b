//! Which other files a qcow2 image names.
//!
//! The format is QEMU's `docs/interop/qcow2.txt`: all numbers big-endian; the name of the backing file
//! stands in the first cluster, that of an external data file in a header extension.

use std::io::{self, Read};

/// What qcow2 files start with.
const MAGIC: &[u8] = b"QFI\xfb";
/// Incompatible feature, bit 2: guest data lies in another file.
const EXTERNAL_DATA: u64 = 1 << 2;
/// Header extension: the format of the backing file.
const BACKING_FORMAT: u32 = 0xe279_2aca;
/// Header extension: the name of the external data file.
const DATA_FILE: u32 = 0x4441_5441;
/// A cluster has 2⁹ to 2²¹ bytes.
const CLUSTER_BITS: std::ops::RangeInclusive<u32> = 9..=21;
/// Longest name of a backing file, in bytes.
const LONGEST_NAME: usize = 1023;

/// The files that an image names.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct References {
    /// The backing file and its format, if the image says it.
    pub(crate) backing: Option<(String, Option<String>)>,
    /// The external data file.
    pub(crate) data: Option<String>,
}

/// What an image is, by its first bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Image {
    /// Anything else.
    Raw,
    /// A qcow2 image.
    Qcow2(References),
    /// A qcow2 image whose header cannot be right; why.
    Damaged(&'static str),
}

/// Reads the header of an image.
pub(crate) fn read(mut image: impl Read) -> io::Result<Image> {
    let mut start = Vec::new();
    image.by_ref().take(104).read_to_end(&mut start)?;
    if !start.starts_with(MAGIC) {
        return Ok(Image::Raw);
    }
    // QEMU, too, reads zeros after the end of the file.
    start.resize(104, 0);
    let bits = u32_at(&start, 20).filter(|bits| CLUSTER_BITS.contains(bits)).unwrap_or(16);
    let length = (1 << bits) + LONGEST_NAME;
    let rest = u64::try_from(length - start.len()).unwrap_or(u64::MAX);
    image.take(rest).read_to_end(&mut start)?;
    start.resize(length, 0);
    Ok(references(&start).map_or_else(Image::Damaged, Image::Qcow2))
}

fn references(start: &[u8]) -> Result<References, &'static str> {
    let second_version = u32_at(start, 4) == Some(2);
    let mut found = References::default();
    let (mut at, features) = if second_version {
        (72, 0)
    } else {
        (index(u32_at(start, 100)), u64_at(start, 72).unwrap_or_default())
    };
    let mut format = None;
    while let (Some(kind @ 1..), Some(length)) = (u32_at(start, at), u32_at(start, at + 4)) {
        let length = index(Some(length));
        let data = start.get(at + 8..).and_then(|rest| rest.get(..length));
        let data = data.ok_or("a header extension is longer than its place")?;
        match kind {
            BACKING_FORMAT => format = Some(text(data)?),
            DATA_FILE if features & EXTERNAL_DATA != 0 => found.data = Some(text(data)?),
            _ => {}
        }
        at += 8 + length.next_multiple_of(8);
    }
    let offset = u64_at(start, 8).unwrap_or_default();
    if offset != 0 {
        let length = index(u32_at(start, 16));
        let name = usize::try_from(offset).ok().and_then(|offset| start.get(offset..)?.get(..length));
        let name = name.ok_or("the name of its backing file is out of place")?;
        found.backing = Some((text(name)?, format)).filter(|(name, _)| !name.is_empty());
    }
    Ok(found)
}

/// QEMU takes a name up to its first zero.
fn text(bytes: &[u8]) -> Result<String, &'static str> {
    let bytes = bytes.split(|b| *b == 0).next().unwrap_or_default();
    String::from_utf8(bytes.to_vec()).map_err(|_| "it names a file in another encoding than UTF-8")
}

fn index(number: Option<u32>) -> usize {
    number.and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX / 4)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|b| u32::from_be_bytes(*b))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|b| u64::from_be_bytes(*b))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn short_and_foreign_files() {
        assert_eq!(read(&b""[..]).unwrap(), Image::Raw);
        assert_eq!(read(&b"# Disk DescriptorFile"[..]).unwrap(), Image::Raw);
        assert_eq!(read(MAGIC).unwrap(), Image::Qcow2(References::default()));
        assert_eq!(
            read(&b"QFI\xfb\0\0\0\x02\0\0\0\0\xff\0\0\0"[..]).unwrap(),
            Image::Damaged("the name of its backing file is out of place")
        );
    }

    proptest! {
        #[test]
        fn any_header_is_read_to_an_end(mut bytes in prop::collection::vec(any::<u8>(), 4..400)) {
            bytes[..4].copy_from_slice(MAGIC);
            prop_assert_ne!(read(&bytes[..]).unwrap(), Image::Raw);
        }
    }
}
