//! What a hub knows.

use serde_json::{Value, json};

/// Where a task is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskState {
    /// Somebody works on it.
    Open = 1,
    /// It has ended well.
    Closed = 2,
    /// Somebody has ended it.
    Canceled = 3,
    /// It has ended badly.
    Failed = 5,
}

#[derive(Default)]
pub(super) struct Hub {
    pub(super) builds: Vec<Build>,
    pub(super) tags: Vec<Tag>,
    pub(super) tasks: Vec<Task>,
    pub(super) listings: Vec<Listing>,
    pub(super) called: Vec<String>,
    pub(super) offline: bool,
    ids: i64,
}

pub(super) struct Tag {
    pub(super) id: i64,
    pub(super) name: String,
    pub(super) parents: Vec<String>,
    /// The one that was tagged last is the first.
    pub(super) builds: Vec<i64>,
}

/// A build in a tag, from an event on and perhaps until another: their numbers and times.
pub(super) struct Listing {
    pub(super) tag: i64,
    pub(super) build: i64,
    pub(super) came: (i64, i64),
    pub(super) left: Option<(i64, i64)>,
}

pub(super) struct Task {
    pub(super) id: i64,
    pub(super) method: String,
    pub(super) state: TaskState,
    pub(super) parent: Option<i64>,
    pub(super) request: Value,
}

pub(super) struct Build {
    pub(super) id: i64,
    pub(super) name: String,
    version: String,
    release: String,
    pub(super) task: i64,
    pub(super) completed: i64,
    /// Numbers and architectures.
    rpms: Vec<(i64, String)>,
}

/// A time as Koji writes it.
fn written(seconds: i64) -> String {
    let at = jiff::Timestamp::from_second(seconds).unwrap_or_default();
    at.strftime("%Y-%m-%d %H:%M:%S.000000+00:00").to_string()
}

/// A number for a name, always the same one.
fn number_of(name: &str) -> i64 {
    name.bytes().fold(7, |number, byte| (number * 31 + i64::from(byte)) % 1_000_003)
}

impl Hub {
    pub(super) fn next_id(&mut self) -> i64 {
        self.ids += 1;
        // Beyond what 32 bits hold: numbers of tasks and packages may be.
        3_000_000_000 + self.ids
    }

    pub(super) fn add_task(
        &mut self,
        method: &str,
        state: TaskState,
        parent: Option<i64>,
        request: Value,
    ) -> i64 {
        let id = self.next_id();
        self.tasks.push(Task { id, method: method.to_owned(), state, parent, request });
        id
    }

    pub(super) fn build(&self, id: i64) -> Option<&Build> {
        self.builds.iter().find(|build| build.id == id)
    }

    /// The number of the last thing that was done to a tag.
    pub(super) fn last_event(&self) -> i64 {
        let one = |listing: &Listing| listing.left.map_or(listing.came.0, |(event, _)| event);
        self.listings.iter().map(one).max().unwrap_or(0)
    }

    /// A build comes into a tag, where it is the newest then; one that is there leaves it first.
    pub(super) fn put(&mut self, tag: &str, nvr: &str, at: i64) {
        self.take(tag, nvr, at);
        let event = self.last_event() + 1;
        let Some((tag, build)) = self.both(tag, nvr) else { return };
        tag.builds.insert(0, build);
        let tag = tag.id;
        self.listings.push(Listing { tag, build, came: (event, at), left: None });
    }

    /// A build leaves a tag, if it is there.
    pub(super) fn take(&mut self, tag: &str, nvr: &str, at: i64) {
        let event = self.last_event() + 1;
        let Some((tag, build)) = self.both(tag, nvr) else { return };
        tag.builds.retain(|known| *known != build);
        let tag = tag.id;
        for listing in &mut self.listings {
            if (listing.tag, listing.build, listing.left) == (tag, build, None) {
                listing.left = Some((event, at));
            }
        }
    }

    fn both(&mut self, tag: &str, nvr: &str) -> Option<(&mut Tag, i64)> {
        let build = self.builds.iter().find(|build| build.nvr() == nvr)?.id;
        Some((self.tags.iter_mut().find(|known| known.name == tag)?, build))
    }

    /// A tag and what it inherits from, in order.
    pub(super) fn line(&self, name: &str) -> Vec<&Tag> {
        let mut names = vec![name];
        let mut line: Vec<&Tag> = Vec::new();
        while let Some(name) = names.pop() {
            let Some(tag) = self.tags.iter().find(|tag| tag.name == name) else { continue };
            if line.iter().all(|known| known.id != tag.id) {
                line.push(tag);
                names.extend(tag.parents.iter().rev().map(String::as_str));
            }
        }
        line
    }
}

impl Tag {
    pub(super) fn info(&self) -> Value {
        json!({
            "id": self.id, "name": self.name, "arches": "x86_64 aarch64", "perm": null, "perm_id": null, "locked": false,
            "maven_support": false, "maven_include_all": false, "extra": {},
        })
    }
}

impl Task {
    pub(super) fn info(&self, with_request: bool) -> Value {
        let mut info = json!({
            "id": self.id, "method": self.method, "state": self.state as i64, "parent": self.parent, "label": null,
            "arch": "noarch", "owner": number_of("alice"), "host_id": null, "channel_id": 1, "priority": 20, "waiting": false,
            "awaited": null, "weight": 0.2, "create_time": written(0), "create_ts": 0.0, "start_time": written(0),
            "start_ts": 0.0, "completion_time": written(0), "completion_ts": 0.0,
        });
        if with_request {
            info["request"] = self.request.clone();
        }
        info
    }
}

impl Listing {
    /// As the history has it.
    pub(super) fn line(&self, tag: &Tag, build: &Build) -> Value {
        let left = |part: fn((i64, i64)) -> Value| self.left.map_or(Value::Null, part);
        json!({
            "tag_id": tag.id, "tag.name": tag.name, "build_id": build.id, "name": build.name, "version": build.version,
            "release": build.release, "epoch": null, "build.state": 1, "active": self.left.is_none().then_some(true),
            "create_event": self.came.0, "create_ts": self.came.1 as f64, "creator_id": number_of("bodhi"),
            "creator_name": "bodhi", "revoke_event": left(|(event, _)| json!(event)),
            "revoke_ts": left(|(_, at)| json!(at as f64)), "revoker_id": left(|_| json!(number_of("bodhi"))),
            "revoker_name": left(|_| json!("bodhi")),
        })
    }
}

impl Build {
    pub(super) fn new(id: i64, nvr: &str, task: i64, completed: i64, rpms: Vec<(i64, String)>) -> Self {
        let mut parts = nvr.rsplitn(3, '-').map(str::to_owned);
        let (release, version, name) = (
            parts.next().unwrap_or_default(),
            parts.next().unwrap_or_default(),
            parts.next().unwrap_or_default(),
        );
        Self { id, name, version, release, task, completed, rpms }
    }

    pub(super) fn nvr(&self) -> String {
        format!("{}-{}-{}", self.name, self.version, self.release)
    }

    /// As lists of builds have it.
    pub(super) fn info(&self) -> Value {
        let (time, seconds) = (written(self.completed), self.completed as f64);
        json!({
            "id": self.id, "build_id": self.id, "nvr": self.nvr(), "name": self.name, "package_name": self.name,
            "package_id": number_of(&self.name), "version": self.version, "release": self.release, "epoch": null, "state": 1,
            "task_id": self.task, "owner_id": number_of("alice"), "owner_name": "alice", "creation_time": time,
            "creation_ts": seconds, "start_time": time, "start_ts": seconds, "completion_time": time,
            "completion_ts": seconds, "creation_event_id": self.id, "volume_id": 0, "volume_name": "DEFAULT", "extra": null,
            "source": format!("git+https://src.example.org/rpms/{}#0123456", self.name), "draft": false,
            "cg_id": null, "cg_name": null, "promoter_id": null, "promoter_name": null, "promotion_time": null,
            "promotion_ts": null,
        })
    }

    /// The same with the tag where it was found.
    pub(super) fn tagged(&self, tag: &Tag) -> Value {
        let mut info = self.info();
        info["tag_id"] = json!(tag.id);
        info["tag_name"] = json!(tag.name);
        info
    }

    pub(super) fn rpms(&self) -> Vec<Value> {
        let one = |(id, arch): &(i64, String)| {
            json!({
                "id": id, "name": self.name, "version": self.version, "release": self.release, "epoch": null, "arch": arch,
                "nvr": self.nvr(), "build_id": self.id, "size": 1_000, "buildtime": self.completed, "payloadhash": "0",
                "buildroot_id": 1, "metadata_only": false, "external_repo_id": 0, "external_repo_name": "INTERNAL",
                "extra": null, "draft": false,
            })
        };
        self.rpms.iter().map(one).collect()
    }
}
