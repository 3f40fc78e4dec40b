//! Unpacking: gzip, xz and Zstandard, told apart by their first bytes.

use camino::Utf8Path;
use fs_err as fs;
use ruzstd::decoding::StreamingDecoder;
use std::io::{BufRead, BufReader, Read, Write};

/// What a decoder of xz may use, KiB.
const XZ_MEMORY: u32 = 1 << 20;
/// How far back Zstandard may look.
const WINDOW: u64 = 128 << 20;

/// Unpacks `packed` into `plain`, no more than `most` bytes. The error is for people.
pub(super) fn unpack(packed: &Utf8Path, plain: &Utf8Path, most: u64) -> Result<(), String> {
    let file = fs::File::open(packed).map_err(|error| error.to_string())?;
    let mut source = BufReader::with_capacity(256 * 1024, file);
    let start = source.fill_buf().map_err(|error| error.to_string())?;
    let mut out = Out { file: fs::File::create(plain).map_err(|error| error.to_string())?, left: most, most };
    match start {
        [0x1f, 0x8b, ..] => out.take("gzip", flate2::bufread::MultiGzDecoder::new(source)),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => {
            out.take("xz", lzma_rust2::XzReader::new_mem_limit(source, true, XZ_MEMORY))
        }
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            while !source.fill_buf().map_err(|error| error.to_string())?.is_empty() {
                let frame = StreamingDecoder::new_with_max_window_size(&mut source, WINDOW);
                out.take("Zstandard", frame.map_err(|error| damaged("Zstandard", &error))?)?;
            }
            Ok(())
        }
        _ => Err("it is not packed with gzip, xz or Zstandard; use the setting without _DECOMPRESS for \
                  a plain file"
            .to_owned()),
    }?;
    out.file.sync_all().map_err(|error| error.to_string())
}

fn damaged(how: &str, why: &dyn std::fmt::Display) -> String {
    format!("it is packed with {how}, and damaged: {why}")
}

struct Out {
    file: fs::File,
    left: u64,
    most: u64,
}

impl Out {
    fn take(&mut self, how: &str, mut decoder: impl Read) -> Result<(), String> {
        let mut buffer = vec![0; 256 * 1024];
        loop {
            let count = match decoder.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => count,
                Err(error) => return Err(damaged(how, &error)),
            };
            self.left = self.left.checked_sub(count as u64).ok_or_else(|| too_large(self.most))?;
            self.file.write_all(&buffer[..count]).map_err(|error| error.to_string())?;
        }
    }
}

/// For people.
pub(super) fn too_large(most: u64) -> String {
    format!(
        "it is larger than {} GiB, which is the most that is fetched; raise max-gigabytes in [downloads]",
        most >> 30
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    /// What the program makes of `plain`.
    fn packed(program: &[&str], plain: &[u8]) -> Vec<u8> {
        let mut command = Command::new(program[0]);
        command.args(&program[1..]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the program is installed");
        let mut input = child.stdin.take().expect("a pipe");
        let bytes = plain.to_vec();
        let writer = std::thread::spawn(move || input.write_all(&bytes));
        let output = child.wait_with_output().expect("an end");
        writer.join().expect("no panic").expect("written");
        output.stdout
    }

    #[test]
    fn what_real_programs_pack() {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = Utf8Path::from_path(dir.path()).expect("UTF-8");
        let (from, to) = (dir.join("packed"), dir.join("plain"));
        let plain: Vec<u8> = (0..700_000_u32).flat_map(|n| n.wrapping_mul(n).to_le_bytes()).collect();
        for program in
            [&["gzip", "-c"][..], &["xz", "-c", "-T2", "--block-size=300000"], &["zstd", "-c", "-q"]]
        {
            let mut bytes = packed(program, &plain);
            bytes.extend(packed(program, b"and more"));
            fs::write(&from, &bytes).expect("written");
            unpack(&from, &to, 1 << 30).expect("unpacked");
            let all = [&plain[..], b"and more"].concat();
            assert!(fs::read(&to).expect("read") == all, "{program:?}");
            let why = unpack(&from, &to, 1_000_000).expect_err("too large");
            assert!(why.contains("larger"), "{program:?}: {why}");
            fs::write(&from, &bytes[..bytes.len() / 2]).expect("written");
            let why = unpack(&from, &to, 1 << 30).expect_err("cut");
            assert!(why.contains("damaged"), "{program:?}: {why}");
        }
        fs::write(&from, "plain").expect("written");
        assert!(unpack(&from, &to, 1 << 30).expect_err("plain").contains("not packed"));
    }
}
