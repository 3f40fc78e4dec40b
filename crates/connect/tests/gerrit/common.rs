//! A fake Gerrit, a client for it, and an inbox in memory.

use assay_connect::gerrit::{
    Gerrit, GerritOptions, GerritSource, HostKeys, RestLogin, RestOptions, SourceOptions, SshOptions,
};
use assay_connect::pace::Backoff;
use assay_connect::{Arrival, Batch, Cursor, Inbox, InboxError, News, Source, Start, Tips};
use assay_engine::gate::io::Event;
use assay_fakes::gerrit::{Account, FakeGerrit, Numbers, Options, SubmitType, Upload, Uploaded};
use assay_proto::clock::{Clock, SystemClock};
use async_trait::async_trait;
use camino::{Utf8Path, Utf8PathBuf};
use russh::keys::PrivateKey;
use russh::keys::ssh_key::LineEnding;
use russh::keys::ssh_key::private::Ed25519Keypair;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Nothing that is waited for takes as long.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// Tries follow one another quickly.
pub(crate) const QUICK: Backoff =
    Backoff { first: Duration::from_millis(5), factor: 1.5, most: Duration::from_millis(50), jitter: 0.5 };

pub(crate) struct World {
    pub(crate) fake: FakeGerrit,
    pub(crate) dir: Utf8PathBuf,
    /// The time of both sides.
    clock: Arc<dyn Clock>,
    _keep: tempfile::TempDir,
}

/// A new key: its file and its public half.
pub(crate) fn new_key(file: &Utf8Path, seed: u8) -> String {
    let key: PrivateKey = Ed25519Keypair::from_seed(&[seed; 32]).into();
    let text = key.to_openssh(LineEnding::LF).expect("a key can be written");
    fs_err::write(file, text.as_bytes()).expect("the key is written");
    key.public_key().to_openssh().expect("a public key can be written")
}

impl World {
    pub(crate) async fn new(numbers: Numbers) -> Self {
        Self::at(numbers, Arc::new(SystemClock)).await
    }

    pub(crate) async fn at(numbers: Numbers, clock: Arc<dyn Clock>) -> Self {
        let keep = tempfile::tempdir().expect("a folder");
        let dir = Utf8PathBuf::from_path_buf(keep.path().to_owned()).expect("UTF-8");
        let key = new_key(&dir.join("key"), 1);
        let mut options = Options::new(dir.join("repositories"))
            .with(Account::new("alice").in_groups(&["core"]))
            .with(Account::new("carol").in_groups(&["core"]))
            .with(Account::new("ci").in_groups(&["ci"]).with_key(&key).with_password("secret"));
        options.numbers = numbers;
        options.clock = clock.clone();
        let fake = FakeGerrit::start(options).await.expect("a Gerrit");
        for project in ["org/a", "org/b"] {
            fake.project(project, SubmitType::MergeIfNecessary).await.expect("a project");
        }
        fs_err::write(dir.join("known_hosts"), fake.known_host()).expect("written");
        fs_err::write(dir.join("password"), "secret\n").expect("written");
        Self { fake, dir, clock, _keep: keep }
    }

    pub(crate) fn ssh(&self) -> SshOptions {
        let keys = HostKeys::Pinned(self.dir.join("known_hosts"));
        let address = self.fake.ssh();
        SshOptions {
            port: address.port(),
            ..SshOptions::new(&address.ip().to_string(), "ci", self.dir.join("key"), keys)
        }
    }

    pub(crate) fn rest(&self) -> RestOptions {
        let login = RestLogin::Basic("ci".to_owned(), self.dir.join("password"));
        RestOptions { backoff: QUICK, ..RestOptions::new(&self.fake.url(), login) }
    }

    /// A client, by SSH alone or with REST.
    pub(crate) fn client(&self, rest: bool, change: impl FnOnce(&mut GerritOptions)) -> Gerrit {
        let mut options = GerritOptions::new("gerrit", self.ssh());
        options.rest = rest.then(|| self.rest());
        change(&mut options);
        Gerrit::new(options, self.clock.clone()).expect("a client")
    }

    /// A change of one file of its own.
    pub(crate) async fn upload(&self, project: &str, subject: &str) -> Uploaded {
        self.fake
            .upload("alice", &Upload::new(project, "master", subject, subject, "1\n"))
            .await
            .expect("an upload")
    }

    /// Everything that a submit needs.
    pub(crate) async fn approve(&self, number: u64) {
        let votes: [(&str, &[(&str, i8)]); 2] =
            [("carol", &[("Code-Review", 2), ("Workflow", 1)]), ("ci", &[("Verified", 2)])];
        for (who, labels) in votes {
            self.fake.vote(who, number, labels).await.expect("a vote");
        }
    }
}

#[derive(Default)]
struct Stored {
    arrivals: Vec<Arrival>,
    cursor: Option<Cursor>,
    tips: Tips,
    fail: usize,
    batches: usize,
}

/// Keeps what arrives; a key that comes twice is an error of the source.
#[derive(Clone)]
pub(crate) struct Memory {
    stored: Arc<Mutex<Stored>>,
    count: watch::Sender<usize>,
}

impl Memory {
    pub(crate) fn new() -> Self {
        Self { stored: Arc::default(), count: watch::channel(0).0 }
    }

    /// The next so many stores fail.
    pub(crate) fn fail(&self, count: usize) {
        self.stored.lock().expect("unpoisoned").fail = count;
    }

    pub(crate) fn start(&self) -> Start {
        let stored = self.stored.lock().expect("unpoisoned");
        // As a database would have them.
        let cursor =
            stored.cursor.as_ref().map(|cursor| Cursor::from_text(&cursor.to_text()).expect("readable"));
        Start { cursor, tips: Tips::from_text(&stored.tips.to_text()).expect("readable") }
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        let stored = self.stored.lock().expect("unpoisoned");
        let event = |arrival: &Arrival| match &arrival.news {
            News::Event(event) => Some(event.as_ref().clone()),
            News::Changed(_) => None,
        };
        stored.arrivals.iter().filter_map(event).collect()
    }

    pub(crate) fn changed(&self) -> Vec<u64> {
        let stored = self.stored.lock().expect("unpoisoned");
        let change = |arrival: &Arrival| match &arrival.news {
            News::Changed(change) => Some(change.number),
            News::Event(_) => None,
        };
        stored.arrivals.iter().filter_map(change).collect()
    }

    /// What happened, in words: kind, change and patchset or ref, and the last line of the comment.
    pub(crate) fn words(&self) -> Vec<String> {
        let word = |event: Event| {
            let change = event.change.map(|change| format!(" {change}")).unwrap_or_default();
            let update = event.ref_update.map(|update| format!(" {}:{}", update.project, update.name));
            let comment = event.comment.and_then(|text| Some(format!(" {}", text.lines().last()?)));
            format!(
                "{}{change}{}{}",
                event.kind.word(),
                update.unwrap_or_default(),
                comment.unwrap_or_default()
            )
        };
        self.events().into_iter().map(word).collect()
    }

    pub(crate) async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let mut count = self.count.subscribe();
        let wait = async {
            loop {
                count.mark_unchanged();
                if holds(self) {
                    return;
                }
                count.changed().await.expect("the sender lives");
            }
        };
        let waited = tokio::time::timeout(PATIENCE, wait).await;
        assert!(waited.is_ok(), "{what} did not come; there are {:#?}", self.words());
    }

    pub(crate) async fn until_word(&self, word: &str) {
        self.until(word, |memory| memory.words().iter().any(|have| have == word)).await;
    }

    /// No word is there twice.
    pub(crate) fn assert_once(&self) {
        let mut words = self.words();
        words.sort();
        let twice: Vec<&[String]> = words.windows(2).filter(|pair| pair[0] == pair[1]).collect();
        assert!(twice.is_empty(), "{twice:?} in {words:#?}");
    }

    pub(crate) fn count_of(&self, word: &str) -> usize {
        self.words().iter().filter(|have| *have == word).count()
    }
}

#[async_trait]
impl Inbox for Memory {
    async fn store(&self, batch: &Batch) -> Result<(), InboxError> {
        let mut stored = self.stored.lock().expect("unpoisoned");
        if stored.fail > 0 {
            stored.fail -= 1;
            return Err(InboxError("the disk is full".to_owned()));
        }
        for arrival in &batch.arrivals {
            if stored.arrivals.iter().all(|known| known.key != arrival.key) {
                stored.arrivals.push(arrival.clone());
            }
        }
        if let Some(cursor) = &batch.cursor {
            let before = stored.cursor.as_ref().map(|cursor| cursor.since);
            assert!(before <= Some(cursor.since), "the cursor never goes back");
            stored.cursor = Some(cursor.clone());
        }
        if let Some(tips) = &batch.tips {
            stored.tips = tips.clone();
        }
        stored.batches += 1;
        self.count.send_replace(stored.batches);
        Ok(())
    }
}

/// A running source.
pub(crate) struct Running {
    pub(crate) health: watch::Receiver<assay_connect::gerrit::Health>,
    pub(crate) look_again: Arc<tokio::sync::Notify>,
    cancel: CancellationToken,
    tasks: JoinSet<()>,
}

pub(crate) fn options() -> SourceOptions {
    SourceOptions {
        backoff: QUICK,
        projects: ["org/a", "org/b"].map(Into::into).into(),
        settle: Duration::from_millis(20),
        resync: None,
        ..SourceOptions::default()
    }
}

impl Running {
    pub(crate) fn start(gerrit: &Gerrit, memory: &Memory) -> Self {
        let mut source: GerritSource = gerrit.source(options(), memory.start());
        let (health, look_again) = (source.health(), source.look_again());
        let cancel = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let (token, memory) = (cancel.clone(), memory.clone());
        tasks.spawn(async move { source.run(&memory, &token).await });
        Self { health, look_again, cancel, tasks }
    }

    /// Waits until so many looks have succeeded.
    pub(crate) async fn until_looks(&self, looks: u64) {
        self.until(|health| health.looks >= looks).await;
    }

    pub(crate) async fn until(&self, holds: impl Fn(&assay_connect::gerrit::Health) -> bool) {
        let mut health = self.health.clone();
        let wait = async { health.wait_for(|health| holds(health)).await.map(|health| health.clone()) };
        let waited = tokio::time::timeout(PATIENCE, wait).await;
        assert!(waited.is_ok(), "it is {:#?}", self.health.borrow());
    }

    /// Takes one more look, whatever looks are under way.
    pub(crate) async fn look(&self) {
        let looks = self.health.borrow().looks;
        self.look_again.notify_one();
        self.until_looks(looks + 1).await;
        self.look_again.notify_one();
        self.until_looks(looks + 2).await;
    }

    pub(crate) async fn stop(mut self) {
        self.cancel.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("the source does not panic");
        }
    }
}
