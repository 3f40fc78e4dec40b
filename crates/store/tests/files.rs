//! Blobs and the spool on a real file system.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use assay_engine::ids::{AttemptId, JobId};
use assay_store::StoreError;
use assay_store::blobs::{BlobRef, Blobs, LocalBlobs, Sha256};
use assay_store::spool::{Append, Spool};
use camino::{Utf8Path, Utf8PathBuf};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::io::AsyncReadExt;

struct Dir {
    path: Utf8PathBuf,
    _dir: tempfile::TempDir,
}

fn dir() -> Dir {
    let dir = tempfile::tempdir().unwrap();
    Dir { path: Utf8Path::from_path(dir.path()).unwrap().to_owned(), _dir: dir }
}

fn blobs(dir: &Dir) -> Arc<LocalBlobs> {
    Arc::new(LocalBlobs::open(&dir.path).unwrap())
}

/// Every file under the directory, by its path in it.
fn files(dir: &Utf8Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs_err::read_dir(dir).unwrap() {
        let path = Utf8PathBuf::try_from(entry.unwrap().path()).unwrap();
        if path.is_dir() {
            found
                .extend(files(&path).into_iter().map(|rest| format!("{}/{rest}", path.file_name().unwrap())));
        } else {
            found.push(path.file_name().unwrap().to_owned());
        }
    }
    found.sort();
    found
}

// FIPS 180-4's examples.
const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[tokio::test]
async fn a_blob_is_kept_under_its_hash_and_only_once() {
    let dir = dir();
    let blobs = blobs(&dir);
    let abc: Sha256 = ABC.parse().unwrap();
    for announced in [None, Some(abc), None] {
        let stored = blobs.put(b"abc".to_vec(), announced).await.unwrap();
        assert_eq!(stored, BlobRef { sha256: abc, size: 3 });
        assert_eq!(files(&dir.path), [format!("blobs/ba/{}", &ABC[2..])], "one file, and nothing temporary");
    }
    assert_eq!(blobs.put(Vec::new(), None).await.unwrap().sha256.to_string(), EMPTY);
    assert_eq!(blobs.size(abc).await.unwrap(), Some(3));
    let mut text = String::new();
    let mut open = blobs.open(abc).await.unwrap().unwrap();
    open.reader.read_to_string(&mut text).await.unwrap();
    assert_eq!((text.as_str(), open.size), ("abc", 3));
    assert_eq!(blobs.get_verified(abc).await.unwrap().as_deref(), Some(&b"abc"[..]));

    let absent = Sha256::of(b"absent");
    assert_eq!(blobs.size(absent).await.unwrap(), None);
    assert!(blobs.open(absent).await.unwrap().is_none());
    assert_eq!(blobs.get_verified(absent).await.unwrap(), None);
}

#[tokio::test]
async fn bytes_other_than_announced_leave_nothing() {
    let dir = dir();
    let blobs = blobs(&dir);
    let announced = Some(ABC.parse().unwrap());
    let refused = blobs.put(b"abd".to_vec(), announced).await.unwrap_err();
    assert!(refused.to_string().contains(&format!("but {ABC} was announced")), "{refused}");
    let mut writer = blobs.writer(announced).await.unwrap();
    writer.write(b"ab").await.unwrap();
    let refused = writer.finish().await.unwrap_err();
    assert!(matches!(refused, StoreError::HashMismatch { .. }));
    let mut writer = blobs.writer(None).await.unwrap();
    writer.write(b"never finished").await.unwrap();
    drop(writer);
    assert_eq!(files(&dir.path), [""; 0]);
    let mut writer = blobs.writer(announced).await.unwrap();
    for byte in b"abc" {
        writer.write(&[*byte]).await.unwrap();
    }
    assert_eq!(writer.finish().await.unwrap().size, 3);
}

#[tokio::test]
async fn two_uploads_of_one_blob_at_once_both_succeed() {
    let dir = dir();
    let blobs = blobs(&dir);
    let mut one = blobs.writer(None).await.unwrap();
    let mut two = blobs.writer(None).await.unwrap();
    one.write(b"abc").await.unwrap();
    two.write(b"abc").await.unwrap();
    assert_eq!(one.finish().await.unwrap(), two.finish().await.unwrap());
    assert_eq!(files(&dir.path).len(), 1);
}

#[tokio::test]
async fn a_damaged_blob_is_found_and_a_truncated_one_is_healed() {
    let dir = dir();
    let blobs = blobs(&dir);
    let stored = blobs.put(b"abc".to_vec(), None).await.unwrap();
    let path = dir.path.join("blobs/ba").join(&ABC[2..]);
    fs_err::write(&path, "abd").unwrap();
    let damaged = blobs.get_verified(stored.sha256).await.unwrap_err();
    assert!(damaged.to_string().contains(path.as_str()), "{damaged}");
    fs_err::write(&path, "").unwrap();
    blobs.put(b"abc".to_vec(), None).await.unwrap();
    assert_eq!(blobs.get_verified(stored.sha256).await.unwrap().as_deref(), Some(&b"abc"[..]));
}

#[tokio::test]
async fn what_a_dead_process_left_half_written_goes() {
    let dir = dir();
    blobs(&dir).put(b"abc".to_vec(), None).await.unwrap();
    fs_err::write(dir.path.join("blobs/tmp/0"), "half").unwrap();
    let again = blobs(&dir);
    assert_eq!(files(&dir.path), [format!("blobs/ba/{}", &ABC[2..])]);
    again.put(b"new".to_vec(), None).await.unwrap();
}

#[test]
fn names_that_are_no_hash() {
    let upper = ABC.to_uppercase();
    let long = format!("{ABC}0");
    for text in ["", "abc", "../../../../etc/passwd", &upper, &long, &ABC[1..], &format!("/{}", &ABC[1..])] {
        let refused = text.parse::<Sha256>().unwrap_err();
        assert!(refused.to_string().contains("is not a SHA-256"), "{text}");
    }
    assert!(serde_json::from_str::<BlobRef>(r#"{"sha256": "../x", "size": 1}"#).is_err());
    let blob = BlobRef { sha256: ABC.parse().unwrap(), size: 3 };
    assert_eq!(serde_json::to_string(&blob).unwrap(), format!(r#"{{"sha256":"{ABC}","size":3}}"#));
}

#[tokio::test]
async fn a_place_that_cannot_be_used_is_named() {
    let dir = dir();
    fs_err::write(dir.path.join("blobs"), "a file").unwrap();
    let refused = LocalBlobs::open(&dir.path).unwrap_err();
    assert!(refused.to_string().contains(dir.path.join("blobs").as_str()), "{refused}");
}

fn attempt(number: u32) -> AttemptId {
    AttemptId { job: JobId(7), number }
}

fn append(stream: &str, offset: u64, bytes: &[u8]) -> Append {
    Append { attempt: attempt(1), stream: stream.to_owned(), offset, bytes: bytes.to_vec() }
}

fn spool(dir: &Dir) -> Spool {
    Spool::open(&dir.path, blobs(dir)).unwrap()
}

#[tokio::test]
async fn streams_grow_by_offset() {
    let dir = dir();
    let spool = spool(&dir);
    assert_eq!(spool.len(attempt(1), "log").await.unwrap(), 0);
    assert_eq!(spool.read(attempt(1), "log", 0, 10).await.unwrap(), b"");
    let results = spool
        .append(vec![
            append("log", 0, b"hello "),
            append("log", 6, b"world"),
            append("log", 6, b"world"),     // said again
            append("log", 3, b"lo world!"), // overlaps
            append("log", 13, b"too far"),  // leaves a hole
            append("serial0.txt", 0, b"\0\xff"),
            append("log", 12, b""),
            append("../log", 0, b"x"),
        ])
        .await;
    let shown: Vec<_> = results.iter().map(|result| result.as_ref().map_err(ToString::to_string)).collect();
    assert_eq!(shown[..4], [Ok(&6), Ok(&11), Ok(&11), Ok(&12)]);
    let gap = "stream log of attempt 7.1 has 12 bytes, and bytes from 13 on were sent; send from 12 on";
    assert_eq!(shown[4], Err(gap.to_owned()));
    assert!(matches!(results[4], Err(StoreError::Gap { have: 12, .. })));
    assert_eq!(shown[5..7], [Ok(&2), Ok(&12)]);
    assert!(matches!(results[7], Err(StoreError::BadStream { .. })));

    assert_eq!(spool.read(attempt(1), "log", 0, 100).await.unwrap(), b"hello world!");
    assert_eq!(spool.read(attempt(1), "log", 6, 3).await.unwrap(), b"wor");
    assert_eq!(spool.read(attempt(1), "log", 12, 3).await.unwrap(), b"");
    assert_eq!(spool.read(attempt(1), "log", 99, 3).await.unwrap(), b"");
    let lens = BTreeMap::from([("log".to_owned(), 12), ("serial0.txt".to_owned(), 2)]);
    assert_eq!(spool.lens(attempt(1)).await.unwrap(), lens);
    assert_eq!(spool.lens(attempt(2)).await.unwrap(), BTreeMap::new());
    for bad in ["", ".hidden", "a/b", "a\0", "ä", &"x".repeat(65)] {
        assert!(matches!(spool.len(attempt(1), bad).await, Err(StoreError::BadStream { .. })), "{bad}");
    }
}

#[tokio::test]
async fn a_place_that_cannot_be_written_to_is_found_before_it_is_needed() {
    let dir = dir();
    let (blobs, spool) = (blobs(&dir), spool(&dir));
    spool.append(vec![append("log", 0, b"abc")]).await;
    let settled = spool.settle(attempt(1)).await.unwrap();
    assert_eq!(settled, BTreeMap::from([("log".to_owned(), 3)]));
    assert_eq!(spool.settle(attempt(2)).await.unwrap(), BTreeMap::new());
    let before = files(&dir.path);
    blobs.check_writable().await.unwrap();
    spool.check_writable().await.unwrap();
    assert_eq!(files(&dir.path), before, "checking leaves nothing");
    for gone in ["blobs/tmp", "spool"] {
        let path = dir.path.join(gone);
        fs_err::rename(&path, dir.path.join("aside")).unwrap();
        let checked =
            if gone == "spool" { spool.check_writable().await } else { blobs.check_writable().await };
        let message = checked.unwrap_err().to_string();
        assert!(message.contains(path.as_str()), "{message}");
        fs_err::rename(dir.path.join("aside"), &path).unwrap();
    }
}

#[tokio::test]
async fn closing_can_be_repeated_until_the_streams_are_removed() {
    let dir = dir();
    let spool = spool(&dir);
    spool.append(vec![append("log", 0, b"abc"), append("empty", 0, b"")]).await;
    let closed = spool.close(attempt(1)).await.unwrap();
    assert_eq!(closed["log"], BlobRef { sha256: ABC.parse().unwrap(), size: 3 });
    assert_eq!(
        closed["empty"].sha256.to_string(),
        EMPTY,
        "a stream that was begun and stayed empty is there"
    );
    // The process dies before the row is stored; the next one sees that the streams are still there.
    let again = self::spool(&dir);
    assert_eq!(again.attempts().await.unwrap(), [attempt(1)]);
    assert_eq!(again.close(attempt(1)).await.unwrap(), closed);
    again.remove(attempt(1)).await.unwrap();
    again.remove(attempt(1)).await.unwrap();
    assert_eq!(again.attempts().await.unwrap(), []);
    assert_eq!(again.close(attempt(1)).await.unwrap(), BTreeMap::new());
    let kept = blobs(&dir).get_verified(closed["log"].sha256).await.unwrap();
    assert_eq!(kept.as_deref(), Some(&b"abc"[..]));
}

#[tokio::test]
async fn attempts_grow_side_by_side() {
    let dir = dir();
    let spool = Arc::new(spool(&dir));
    let mut tasks = tokio::task::JoinSet::new();
    for number in 1..=8 {
        let spool = Arc::clone(&spool);
        tasks.spawn(async move {
            for offset in 0..20_u64 {
                let bytes = vec![number as u8];
                let append = Append { attempt: attempt(number), stream: "log".to_owned(), offset, bytes };
                assert_eq!(spool.append(vec![append]).await.remove(0).unwrap(), offset + 1);
            }
        });
    }
    tasks.join_all().await;
    for number in 1..=8 {
        assert_eq!(spool.read(attempt(number), "log", 0, 99).await.unwrap(), vec![number as u8; 20]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]
    /// A sender with a fixed text sends any pieces in any order, repeats itself, and meets restarts: the stream is
    /// always a beginning of the text, exactly as long as was last said.
    #[test]
    fn a_stream_is_always_a_beginning_of_what_was_sent(
        pieces in prop::collection::vec((0..60_usize, 0..40_usize, any::<bool>()), 1..25)
    ) {
        let text: Vec<u8> = (0..100).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let dir = dir();
            let mut spool = spool(&dir);
            let mut len = 0_u64;
            for (offset, count, restart) in pieces {
                if restart {
                    spool = self::spool(&dir);
                }
                let result = spool.append(vec![append("s", offset as u64, &text[offset..offset + count])]).await.remove(0);
                if offset as u64 > len {
                    assert!(matches!(result, Err(StoreError::Gap { have, .. }) if have == len));
                } else {
                    len = len.max((offset + count) as u64);
                    assert_eq!(result.unwrap(), len);
                }
                assert_eq!(spool.len(attempt(1), "s").await.unwrap(), len);
                assert_eq!(spool.read(attempt(1), "s", 0, 200).await.unwrap(), &text[..len as usize]);
            }
        });
    }
}

mod assets {
    use super::dir;
    use assay_engine::assets::{AssetKey, AssetKind};
    use assay_engine::ids::Timestamp;
    use assay_store::blobs::Sha256;
    use assay_store::{AssetFiles, StoreError, Upload};
    use fs_err as fs;

    fn upload(size: u64, sha256: Option<Sha256>) -> Upload {
        let asset = AssetKey { kind: AssetKind::Iso, name: "a.iso".parse().unwrap() };
        let id = "0123456789abcdef0123456789abcdef".to_owned();
        Upload { id, asset, size, sha256, private_of: None, by: None, created_at: Timestamp(0) }
    }

    #[tokio::test]
    async fn an_upload_grows_piece_by_piece_across_processes() {
        let dir = dir();
        let upload = upload(10, Some(Sha256::of(b"0123456789")));
        let files = AssetFiles::open(&dir.path).unwrap();
        files.begin(&upload).await.unwrap();
        assert_eq!(files.append(&upload, 0, b"0123".to_vec()).await.unwrap(), 4);
        drop(files);
        let files = AssetFiles::open(&dir.path).unwrap();
        assert_eq!(files.length(&upload.id).await.unwrap(), 4);
        // What was sent twice is taken once.
        assert_eq!(files.append(&upload, 2, b"23456".to_vec()).await.unwrap(), 7);
        assert_eq!(files.append(&upload, 0, b"01".to_vec()).await.unwrap(), 7);
        let gap = files.append(&upload, 8, b"89".to_vec()).await.unwrap_err();
        assert!(matches!(gap, StoreError::UploadOffset { have: 7, offset: 8 }), "{gap}");
        let long = files.append(&upload, 7, b"789A".to_vec()).await.unwrap_err();
        assert!(matches!(long, StoreError::UploadSize { have: 11, size: 10 }), "{long}");
        let short = files.finish(&upload).await.unwrap_err();
        assert!(matches!(short, StoreError::UploadSize { have: 7, size: 10 }), "{short}");
        files.append(&upload, 7, b"789".to_vec()).await.unwrap();
        // A process that dies between the blob and its row does it again.
        let blob = files.finish(&upload).await.unwrap();
        assert_eq!(files.finish(&upload).await.unwrap(), blob);
        files.abandon(&upload.id).await.unwrap();
        files.abandon(&upload.id).await.unwrap();
        let gone = files.length(&upload.id).await.unwrap_err();
        assert!(matches!(gone, StoreError::NoUpload { .. }), "{gone}");
        assert_eq!(files.stored().await.unwrap(), [blob.sha256]);
        assert_eq!(files.get(blob.sha256).await.unwrap().unwrap().size, 10);
        files.remove(blob.sha256).await.unwrap();
        files.remove(blob.sha256).await.unwrap();
        assert!(files.get(blob.sha256).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn bytes_with_another_hash_are_dropped() {
        let dir = dir();
        let files = AssetFiles::open(&dir.path).unwrap();
        let upload = upload(3, Some(Sha256::of(b"abc")));
        files.begin(&upload).await.unwrap();
        files.append(&upload, 0, b"abd".to_vec()).await.unwrap();
        let error = files.finish(&upload).await.unwrap_err();
        assert!(matches!(error, StoreError::HashMismatch { .. }), "{error}");
        assert_eq!(files.length(&upload.id).await.unwrap(), 0, "the upload begins anew");
        assert_eq!(files.stored().await.unwrap(), []);
        files.append(&upload, 0, b"abc".to_vec()).await.unwrap();
        files.finish(&upload).await.unwrap();
        files.sweep(std::slice::from_ref(&upload)).await.unwrap();
        assert_eq!(files.length(&upload.id).await.unwrap(), 3);
        files.sweep(&[]).await.unwrap();
        assert!(files.length(&upload.id).await.is_err(), "nobody knows it any more");
    }

    #[tokio::test]
    async fn what_cannot_be_uploaded() {
        let dir = dir();
        let files = AssetFiles::open(&dir.path).unwrap();
        let huge = files.begin(&upload(u64::MAX / 4, None)).await.unwrap_err();
        assert!(matches!(huge, StoreError::DiskFull { .. }), "{huge}");
        let path = Upload { id: "../../../../etc/passwd".to_owned(), ..upload(1, None) };
        for error in [files.begin(&path).await.unwrap_err(), files.length(&path.id).await.unwrap_err()] {
            assert!(matches!(error, StoreError::NoUpload { .. }), "{error}");
        }
        assert_eq!(fs::read_dir(dir.path.join("assets/uploads")).unwrap().count(), 0);
    }
}
