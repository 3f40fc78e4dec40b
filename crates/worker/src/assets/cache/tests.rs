use super::*;
use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What a source does with one read.
#[derive(Debug, Clone, Copy)]
enum Act {
    /// Sends all there is.
    All,
    /// Breaks off after so many bytes.
    Break(usize),
    /// Sends other bytes.
    Wrong,
    /// Refuses.
    Refuse,
}

/// Serves `bytes` as the script says, then all of them; in small pieces, with pauses for others.
struct Scripted {
    bytes: Vec<u8>,
    script: Mutex<VecDeque<Act>>,
    offsets: Mutex<Vec<u64>>,
    reads: AtomicUsize,
}

impl Scripted {
    fn new(bytes: &[u8], script: &[Act]) -> Self {
        let script = Mutex::new(script.iter().copied().collect());
        Self { bytes: bytes.to_vec(), script, offsets: Mutex::default(), reads: AtomicUsize::new(0) }
    }

    fn content(&self) -> AssetContent {
        let sha256 = hex::encode(Sha256::digest(&self.bytes));
        AssetContent { id: 1, sha256, size: self.bytes.len() as u64 }
    }
}

#[async_trait::async_trait]
impl Source for Scripted {
    async fn read(&self, _: &str, offset: u64, each: &mut Take<'_>) -> Result<(), AssetError> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        self.offsets.lock().unwrap().push(offset);
        let act = self.script.lock().unwrap().pop_front().unwrap_or(Act::All);
        let mut bytes = self.bytes[offset as usize..].to_vec();
        let broken = || Err(AssetError::Unreachable("gone".to_owned()));
        match act {
            Act::All => {}
            Act::Break(count) => bytes.truncate(count),
            Act::Wrong => bytes.iter_mut().for_each(|byte| *byte ^= 1),
            Act::Refuse => return Err(AssetError::Refused("no".to_owned())),
        }
        for piece in bytes.chunks(7) {
            each(piece)?;
            tokio::task::yield_now().await;
        }
        if matches!(act, Act::Break(_)) { broken() } else { Ok(()) }
    }
}

fn dir() -> (tempfile::TempDir, Utf8PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = Utf8Path::from_path(dir.path()).unwrap().join("assets");
    (dir, path)
}

fn names(dir: &Utf8Path) -> usize {
    fs::read_dir(dir).map_or(0, Iterator::count)
}

/// A cache that does not wait.
fn cache(path: &Utf8Path, limit: u64) -> Cache {
    Cache { look: Duration::ZERO, pause: Duration::ZERO, ..Cache::new(path, limit) }
}

const LARGE: u64 = 1 << 30;

#[tokio::test]
async fn fetched_once_however_many_ask() {
    let (_dir, path) = dir();
    let source = Scripted::new(&[5; 1000], &[]);
    let content = source.content();
    // Two workers of a host, with two slots each.
    let (one, other) = (cache(&path, LARGE), cache(&path, LARGE));
    let hold = |cache: Cache| {
        let (content, source) = (&content, &source);
        async move { cache.hold("x", content, source).await.unwrap() }
    };
    let held = tokio::join!(hold(one.clone()), hold(other.clone()), hold(one.clone()), hold(other));
    let held = [held.0, held.1, held.2, held.3];
    assert_eq!(source.reads.load(Ordering::SeqCst), 1);
    assert_eq!(held.iter().filter(|pinned| pinned.fetched).count(), 1);
    assert!(held.iter().all(|pinned| fs::read(&pinned.path).unwrap() == source.bytes));
    assert_eq!(held[0].path.metadata().unwrap().permissions().mode() & 0o777, 0o444);
    drop(held);
    assert!(!hold(one).await.fetched, "it stays");
    assert_eq!((names(&path.join("files")), names(&path.join("parts"))), (1, 0));
}

#[tokio::test]
async fn goes_on_where_it_broke_off() {
    let (_dir, path) = dir();
    let cache = self::cache(&path, LARGE);
    let bytes: Vec<u8> = (0..1000_u32).map(|n| (n % 251) as u8).collect();
    let source = Scripted::new(&bytes, &[Act::Break(100), Act::Break(0), Act::Break(300), Act::All]);
    let pinned = cache.hold("x", &source.content(), &source).await.unwrap();
    assert_eq!(fs::read(&pinned.path).unwrap(), bytes);
    assert_eq!(*source.offsets.lock().unwrap(), [0, 100, 100, 400]);
    // A worker that was killed leaves its part to the next one.
    let source = Scripted::new(&bytes[1..], &[Act::Break(500), Act::Refuse]);
    let error = cache.hold("y", &source.content(), &source).await.unwrap_err();
    assert!(matches!(error, AssetError::Refused(_)), "{error}");
    assert_eq!(names(&path.join("parts")), 1);
    let pinned = self::cache(&path, LARGE).hold("y", &source.content(), &source).await.unwrap();
    assert_eq!(fs::read(&pinned.path).unwrap(), bytes[1..]);
    assert_eq!(*source.offsets.lock().unwrap(), [0, 500, 500]);
    // And one whose part was longer than the whole, or damaged.
    let source = Scripted::new(b"abc", &[]);
    let content = source.content();
    for (part, offsets) in [(&b"abcdef"[..], &[0][..]), (&b"ab"[..], &[2][..]), (&b"xy"[..], &[2, 0][..])] {
        source.offsets.lock().unwrap().clear();
        let _ = fs::remove_file(path.join("files").join(&content.sha256));
        fs::write(path.join("parts").join(&content.sha256), part).unwrap();
        let pinned = cache.hold("z", &content, &source).await.unwrap();
        assert_eq!(fs::read(&pinned.path).unwrap(), b"abc");
        assert_eq!(*source.offsets.lock().unwrap(), offsets, "{part:?}");
    }
}

#[tokio::test]
async fn what_never_comes_whole() {
    let (_dir, path) = dir();
    let cache = self::cache(&path, LARGE);
    let source = Scripted::new(b"abc", &[Act::Wrong, Act::Wrong]);
    let error = cache.hold("x", &source.content(), &source).await.unwrap_err();
    assert!(matches!(error, AssetError::Damaged { .. }), "{error}");
    let source = Scripted::new(b"abc", &[Act::Break(0); 20]);
    let error = cache.hold("x", &source.content(), &source).await.unwrap_err();
    assert!(matches!(error, AssetError::Unreachable(_)), "{error}");
    let long = AssetContent { size: 2, ..Scripted::new(b"abc", &[]).content() };
    let error = cache.hold("x", &long, &Scripted::new(b"abc", &[])).await.unwrap_err();
    assert!(error.to_string().contains("more bytes than 2"), "{error}");
    assert_eq!(names(&path.join("files")), 0, "nothing passes for whole");
}

#[tokio::test]
async fn room_is_made_of_what_nobody_uses_the_oldest_first() {
    let (_dir, path) = dir();
    // The file system rounds up.
    let one = 64 * 1024;
    let cache = self::cache(&path, 3 * one);
    let hold = async |fill: u8| {
        let source = Scripted::new(&vec![fill; one as usize], &[]);
        cache.hold("x", &source.content(), &source).await
    };
    let age = |pinned: &Pinned, seconds: i64| {
        let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
        let times = Timestamps { last_access: time, last_modification: time };
        rustix::fs::utimensat(rustix::fs::CWD, pinned.path.as_str(), &times, rustix::fs::AtFlags::empty())
            .unwrap();
    };
    let (first, second, third) = (hold(1).await.unwrap(), hold(2).await.unwrap(), hold(3).await.unwrap());
    let error = hold(4).await.unwrap_err();
    assert!(error.to_string().contains("others that are in use fill it"), "{error}");
    for (pinned, seconds) in [(&first, 30), (&second, 10), (&third, 20)] {
        age(pinned, seconds);
    }
    let (first_path, second_path, third_path) = (first.path.clone(), second.path.clone(), third.path.clone());
    drop((first, third));
    let fourth = hold(4).await.unwrap();
    // The second was the oldest, but somebody uses it.
    assert!(second_path.exists() && first_path.exists() && !third_path.exists());
    drop((second, fourth));
    let again = hold(1).await.unwrap();
    assert!(!again.fetched);
    hold(5).await.unwrap();
    assert!(!second_path.exists() && first_path.exists());
    let source = Scripted::new(&vec![0; 4 * one as usize], &[]);
    let error = cache.hold("huge", &source.content(), &source).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "huge needs {} bytes, and the host's cache of assets has {}; start the worker with a larger --asset-cache",
            4 * one,
            3 * one
        )
    );
}

#[tokio::test]
async fn what_nobody_uses_gives_way_to_disks() {
    let (_dir, path) = dir();
    let cache = cache(&path, LARGE);
    let room = || names(&path.join("files"));
    cache.give_way(|| false).unwrap();
    let mut held = None;
    for byte in [1, 2, 3, 4] {
        let source = Scripted::new(&[byte; 1000], &[]);
        let pinned = cache.hold("x", &source.content(), &source).await.unwrap();
        if byte == 1 {
            held = Some(pinned);
        }
    }
    cache.give_way(|| room() <= 3).unwrap();
    assert_eq!(room(), 3);
    cache.give_way(|| false).unwrap();
    assert_eq!((room(), held.is_some_and(|held| held.path.exists())), (1, true), "what is in use stays");
    assert!(cache.bytes() >= 1000);
}
