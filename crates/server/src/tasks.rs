//! Task runs: which repositories tasks come from, what their results may be called, and at which commit a job runs one.

use crate::app::App;
use crate::fault::Fault;
use crate::gate::settings::Reader;
use crate::whom::{Ask, SILENCE_S, Silence, Silent, Whom};
use assay_connect::events::git::{NoAnswer, commit_of};
use assay_connect::events::json::Hope;
use assay_connect::events::koji::Koji;
use assay_engine::ids::Timestamp;
use assay_engine::io::Input;
use assay_engine::job_settings::JobSettings;
use assay_engine::rules::{Action, Glob, RuleSet};
use assay_engine::settings::{Provenance, Setting, Settings};
use assay_formats::task_header;
use assay_git::peek::{PeekError, file_at};
use assay_proto::task_run::{
    self, ASKED_TESTCASE, BACKEND, BASELINE, BASELINE_TAG, COMMIT, HUB, MACHINE, NAMESPACES, PATH, REF,
    SCRATCH, TASK, TESTCASE, TOPURL, URL, split_url,
};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use toml::de::DeTable;

/// What a repository said is believed for so long: a burst of jobs asks once.
const BELIEVED_S: i64 = 10;
/// Answers that are remembered.
const MOST: usize = 1000;

/// The section `[tasks]`.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct TaskSettings {
    /// Where Koji's packages are.
    topurl: Option<String>,
    /// Koji itself.
    hub: Option<String>,
    /// Tasks by name.
    repositories: BTreeMap<String, Repository>,
    /// Machines by name: settings of the jobs that run in them.
    machines: BTreeMap<String, BTreeMap<String, String>>,
    namespaces: Vec<Namespace>,
}

/// Where a task is.
#[derive(Debug, Clone, Default, PartialEq)]
struct Repository {
    url: String,
    path: Option<String>,
    reference: Option<String>,
    /// The machine that it runs in, unless the job says otherwise.
    machine: Option<String>,
}

/// Whose results may be called so.
#[derive(Debug, Clone, PartialEq)]
struct Namespace {
    prefix: String,
    repositories: Vec<Glob>,
}

/// Why it is not known what a job is to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unresolved {
    /// And never will be.
    Wrong(String),
    /// The repository does not answer as it should.
    Later(String),
    /// Its host does not answer at all.
    Silent { why: String, silence: Silence },
    /// Somebody has to be asked, and nobody may be: [`Ask::Nobody`].
    Unknown(Whom),
}

impl From<Unresolved> for Fault {
    fn from(error: Unresolved) -> Self {
        match error {
            Unresolved::Wrong(why) => Self::bad(
                why,
                "Tasks are described in docs/tasks.md; names of tasks are in [tasks] of assay.toml.",
            ),
            Unresolved::Later(why) => Self::later(why, 10),
            Unresolved::Silent { why, .. } => Self::later(why, SILENCE_S as u32),
            Unresolved::Unknown(whom) => Self::later(format!("{} has to be asked first.", whom.host), 1),
        }
    }
}

/// The way to tasks.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    settings: Mutex<Arc<TaskSettings>>,
    /// Where branches stood, and when.
    seen: Mutex<BTreeMap<(String, String), (Timestamp, String)>>,
    /// The test cases that headers name. What a commit says never changes.
    headers: Mutex<BTreeMap<Header, Option<String>>>,
    /// Hosts of repositories that did not answer.
    silent: Silent,
}

/// Which header: the repository, the commit, the file.
type Header = (String, String, String);

impl Tasks {
    pub(crate) fn set(&self, settings: TaskSettings) {
        *self.settings.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
        self.seen().clear();
    }

    fn settings(&self) -> Arc<TaskSettings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Rules that run tasks of which nobody has said where they are.
    pub(crate) fn unknown_in(&self, rules: &RuleSet) -> Vec<String> {
        let settings = self.settings();
        let mut found = Vec::new();
        for rule in &rules.rules {
            for action in &rule.run {
                if let Action::Task { name, .. } = action
                    && let Err(Unresolved::Wrong(why)) = settings.repository(name)
                {
                    found.push(format!("{}: rule {}: {why}", rule.place, rule.name));
                }
            }
        }
        found
    }

    fn seen(&self) -> MutexGuard<'_, BTreeMap<(String, String), (Timestamp, String)>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn headers(&self) -> MutexGuard<'_, BTreeMap<Header, Option<String>>> {
        self.headers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where Koji is, if it is set.
    pub(crate) fn koji(&self) -> Option<String> {
        self.settings().hub.clone()
    }

    /// Whether somebody may be asked now. Who was silent a moment ago is not.
    fn may_ask(&self, whom: Whom, ask: Ask, now: Timestamp) -> Result<(), Unresolved> {
        if let Some(silence) = self.silent.of(&whom.host, now) {
            return Err(Unresolved::Silent {
                why: format!("{} did not answer a moment ago.", whom.host),
                silence,
            });
        }
        match ask {
            Ask::Others => Ok(()),
            Ask::Nobody => Err(Unresolved::Unknown(whom)),
        }
    }

    /// Remembers that the host of a repository does not answer.
    fn was_silent(&self, url: &str, why: String, now: Timestamp) -> Unresolved {
        let silence = self.silent.note(&Whom::at(url, "").host, now);
        Unresolved::Silent { why, silence }
    }

    /// What it means for a job that the header of its task cannot be read.
    fn unread(&self, (url, commit, file): &Header, error: PeekError, now: Timestamp) -> Unresolved {
        let why = format!("{file} of {url} at {commit} cannot be read: {error}.");
        match error {
            PeekError::NoCommit(commit) => Unresolved::Wrong(format!("{url} has no commit {commit}.")),
            PeekError::TooLarge(_) => Unresolved::Wrong(why),
            PeekError::Unreachable(_) => Unresolved::Later(why),
            PeekError::Silent => self.was_silent(url, why, now),
        }
    }

    /// True if a task of this repository may post a result of this name.
    pub(crate) fn may_post(&self, url: &str, testcase: &str) -> bool {
        task_run::may_post(&self.settings().namespaces_of(url), testcase)
    }
}

impl TaskSettings {
    /// The namespaces that a repository owns.
    fn namespaces_of(&self, url: &str) -> Vec<String> {
        let plain = plain(url);
        let owns = |space: &&Namespace| space.repositories.iter().any(|glob| glob.matches(plain));
        self.namespaces.iter().filter(owns).map(|space| space.prefix.clone()).collect()
    }

    /// Where a task is, by its name or its address.
    fn repository(&self, task: &str) -> Result<Repository, Unresolved> {
        let known = match self.repositories.get(task) {
            Some(known) => known.clone(),
            None if task.contains("://") || task.starts_with('/') => {
                Repository { url: task.to_owned(), ..Repository::default() }
            }
            None => {
                let names: Vec<&str> = self.repositories.keys().map(String::as_str).collect();
                let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
                return Err(Unresolved::Wrong(format!(
                    "There is no task {task:?}. Those with a section [tasks.repository.NAME] are: {names}."
                )));
            }
        };
        if split_url(&known.url).is_none() {
            return Err(Unresolved::Wrong(format!("{:?} is no address of a git repository.", known.url)));
        }
        Ok(known)
    }

    /// Fills in the machine that a task runs in.
    fn fill_machine(&self, settings: &mut BTreeMap<String, String>, machine: &str) -> Result<(), Unresolved> {
        let Some(variables) = self.machines.get(machine) else {
            let names: Vec<&str> = self.machines.keys().map(String::as_str).collect();
            let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            return Err(Unresolved::Wrong(format!(
                "There is no machine {machine:?} for tasks. Those with a section [tasks.machine.NAME] are: {names}."
            )));
        };
        settings.insert(MACHINE.to_owned(), machine.to_owned());
        for (key, value) in variables {
            settings.entry(key.clone()).or_insert_with(|| value.clone());
        }
        Ok(())
    }

    /// Fills in where the task of a job is and what its results may be called, and answers which branch is wanted.
    fn fill(&self, settings: &mut BTreeMap<String, String>) -> Result<(String, String), Unresolved> {
        let get = |key: &str| settings.get(key).filter(|value| !value.is_empty()).cloned();
        let task = get(TASK).or_else(|| get(URL));
        let task = task.ok_or_else(|| {
            Unresolved::Wrong(format!(
                "A job of BACKEND={BACKEND} needs {TASK}, the name of a task or its repository."
            ))
        })?;
        let known = self.repository(&task)?;
        let reference = get(REF).or(known.reference).unwrap_or_else(|| "HEAD".into());
        let machine = get(MACHINE).or(known.machine);
        let path = get(PATH).or(known.path);
        let testcase = get(ASKED_TESTCASE);
        if let Some(machine) = machine {
            self.fill_machine(settings, &machine)?;
        }
        settings.extend(path.map(|path| (PATH.to_owned(), path)));
        settings.insert(REF.into(), reference.clone());
        let spaces = self.namespaces_of(&known.url);
        let foreign = testcase.filter(|testcase| !task_run::may_post(&spaces, testcase));
        let spaces = if spaces.is_empty() { SCRATCH.to_owned() } else { spaces.join(" ") };
        if let Some(testcase) = foreign {
            return Err(Unresolved::Wrong(format!(
                "{ASKED_TESTCASE}={testcase:?} is none of the names that {} owns ({spaces}). Leave it out, and the task's header \
                 names the test case; or give the repository this name in [[tasks.namespace]].",
                known.url
            )));
        }
        settings.insert(NAMESPACES.into(), spaces);
        settings.insert(URL.into(), known.url.clone());
        for (key, value) in [(TOPURL, &self.topurl), (HUB, &self.hub)] {
            if let Some(value) = value {
                settings.entry(key.into()).or_insert_with(|| value.clone());
            }
        }
        Ok((known.url, reference))
    }
}

/// True if a job is a task run: it says so, or it names a task and neither a backend nor tests of a machine.
pub(crate) fn is_task(settings: &Settings) -> bool {
    let has = |key: &str| settings.get(key).is_some();
    match settings.get("BACKEND") {
        Some(backend) => backend == BACKEND,
        None => (has(TASK) || has(URL)) && !has("CASEDIR"),
    }
}

/// The test case of a job that says one: what was asked for, as far as the repository of a task owns it, or what the task's
/// header names.
pub(crate) fn testcase(settings: &JobSettings) -> Option<&str> {
    let asked = settings.get(ASKED_TESTCASE);
    if settings.get("BACKEND") != Some(BACKEND) {
        return asked;
    }
    let spaces: Vec<String> =
        settings.get(NAMESPACES).unwrap_or_default().split_whitespace().map(str::to_owned).collect();
    asked.filter(|testcase| task_run::may_post(&spaces, testcase)).or_else(|| settings.get(TESTCASE))
}

/// What the server found out when it made the job of a task, and nobody says when it is started anew.
pub(crate) fn is_resolved(key: &str) -> bool {
    [URL, COMMIT, PATH, NAMESPACES, TESTCASE].contains(&key)
}

/// The test case that the header names. None if there is no good header: the worker says what is wrong with it.
async fn read_header((url, commit, file): Header) -> Result<Option<String>, PeekError> {
    let found = tokio::task::spawn_blocking(move || file_at(&url, &commit, &file)).await;
    let found = found.unwrap_or_else(|error| Err(PeekError::Unreachable(error.to_string())))?;
    let text = found.and_then(|bytes| String::from_utf8(bytes).ok());
    let header = text.and_then(|text| task_header::load(task_header::FILE, &text).0);
    Ok(header.map(|header| header.testcase))
}

/// An address as namespaces know it: without its `.git`.
fn plain(url: &str) -> &str {
    let url = url.trim_end_matches('/');
    url.strip_suffix(".git").unwrap_or(url)
}

impl App {
    /// Says of all jobs of tasks that an input makes what exactly they run.
    pub(crate) async fn resolve_tasks(&self, mut input: Input, ask: Ask) -> Result<Input, Unresolved> {
        let (Input::PostJobs { jobs } | Input::PostProduct { jobs, .. }) = &mut input else {
            return Ok(input);
        };
        for job in jobs.iter_mut().filter(|job| is_task(&job.settings)) {
            let mut settings = job.settings.plain();
            settings.insert("BACKEND".into(), BACKEND.into());
            self.resolve_task(&mut settings, ask).await?;
            self.name_results(&mut settings, ask).await?;
            for (key, value) in settings {
                let before = job.settings.0.remove(&key);
                let known = before.as_ref().is_some_and(|before| before.value == value);
                let new = Setting::new(value, Provenance::Global);
                let setting = match before {
                    Some(before) if known => before,
                    Some(before) => new.overriding(before),
                    None => new,
                };
                job.settings.0.insert(key, setting);
            }
        }
        Ok(input)
    }

    /// Says in the settings of a job of a task what exactly it runs.
    async fn resolve_task(
        &self,
        settings: &mut BTreeMap<String, String>,
        ask: Ask,
    ) -> Result<(), Unresolved> {
        let key = self.task_runs.settings().fill(settings)?;
        self.find_baseline(settings, ask).await?;
        if settings.get(COMMIT).is_some_and(|commit| !commit.is_empty()) {
            return Ok(());
        }
        let now = self.clock.now();
        let known = self.task_runs.seen().get(&key).cloned();
        let commit = if let Some((_, commit)) = known.filter(|(at, _)| now < at.plus_seconds(BELIEVED_S)) {
            commit
        } else {
            self.ask_commit(key, ask).await?
        };
        settings.insert(COMMIT.into(), commit);
        Ok(())
    }

    /// Asks a repository where a branch or a tag of it stands.
    async fn ask_commit(&self, key: (String, String), ask: Ask) -> Result<String, Unresolved> {
        let (url, reference) = &key;
        self.task_runs.may_ask(Whom::at(url, reference), ask, self.clock.now())?;
        let found = commit_of(url, reference).await.map_err(|error| {
            let why = format!("Where {reference} of {url} stands is not known: {error}.");
            match error {
                NoAnswer::Silent(_) => self.task_runs.was_silent(url, why, self.clock.now()),
                NoAnswer::Failed(_) => Unresolved::Later(why),
            }
        })?;
        self.task_runs.silent.forget(&Whom::at(url, "").host);
        let commit =
            found.ok_or_else(|| Unresolved::Wrong(format!("{url} has no branch or tag {reference:?}.")))?;
        let mut seen = self.task_runs.seen();
        if seen.len() >= MOST {
            seen.clear();
        }
        // It is believed from now on: those who wait for the same answer do not ask again, however long it took.
        seen.insert(key, (self.clock.now(), commit.clone()));
        Ok(commit)
    }

    /// Says in the settings which test case the task's header names. A job that waits, runs or crashes has the name that
    /// its results will have.
    async fn name_results(
        &self,
        settings: &mut BTreeMap<String, String>,
        ask: Ask,
    ) -> Result<(), Unresolved> {
        // Whoever posts the job does not say it.
        if let Some(said) = settings.get_mut(TESTCASE) {
            said.clear();
        }
        let get = |key: &str| settings.get(key).cloned().unwrap_or_default();
        let (url, commit, path) = (get(URL), get(COMMIT), get(PATH));
        let path = path.trim_matches('/');
        if !task_run::is_commit(&commit) || !task_run::is_folder(path) {
            return Ok(());
        }
        let file = format!("{path}/{}", task_header::FILE).trim_start_matches('/').to_owned();
        let key = (url, commit.to_ascii_lowercase(), file);
        let known = self.task_runs.headers().get(&key).cloned();
        let testcase = if let Some(known) = known {
            known
        } else {
            let whom = Whom::at(&key.0, &format!("{} {}", key.1, key.2));
            let host = whom.host.clone();
            self.task_runs.may_ask(whom, ask, self.clock.now())?;
            let found = read_header(key.clone()).await;
            let found = found.map_err(|error| self.task_runs.unread(&key, error, self.clock.now()))?;
            self.task_runs.silent.forget(&host);
            let mut headers = self.task_runs.headers();
            if headers.len() >= MOST {
                headers.clear();
            }
            headers.entry(key).or_insert(found).clone()
        };
        let spaces: Vec<String> = get(NAMESPACES).split_whitespace().map(str::to_owned).collect();
        if let Some(testcase) = testcase.filter(|testcase| task_run::may_post(&spaces, testcase)) {
            settings.insert(TESTCASE.into(), testcase);
        }
        Ok(())
    }

    /// Asks Koji for the build before, if the job says in which tag it is and not which.
    async fn find_baseline(
        &self,
        settings: &mut BTreeMap<String, String>,
        ask: Ask,
    ) -> Result<(), Unresolved> {
        let get = |key: &str| settings.get(key).filter(|value| !value.is_empty()).cloned();
        let (Some(tag), None, Some(item)) = (get(BASELINE_TAG), get(BASELINE), get("ITEM")) else {
            return Ok(());
        };
        // The one that is configured: a job must not make the server ask anybody.
        let Some(hub) = self.task_runs.settings().hub.clone() else {
            let why = format!(
                "{BASELINE_TAG} asks Koji; set koji-hub in [tasks] of assay.toml, or give {BASELINE}."
            );
            return Err(Unresolved::Wrong(why));
        };
        self.task_runs.may_ask(Whom::at(&hub, &format!("{tag} {item}")), ask, self.clock.now())?;
        let name = item.rsplitn(3, '-').nth(2).unwrap_or(&item);
        let koji = Koji::new(&hub, "").map_err(Unresolved::Later)?;
        let before = koji.before(&tag, name, &item).await.map_err(|error| {
            let why = format!("The build before {item} in {tag} is not known: {}.", error.why);
            if error.hope == Hope::Never { Unresolved::Wrong(why) } else { Unresolved::Later(why) }
        })?;
        // A first build has none; its task says what it makes of that.
        settings.extend(before.map(|before| (BASELINE.to_owned(), before)));
        Ok(())
    }
}

/// Reads the section.
pub(crate) fn read(reader: &mut Reader<'_>, table: &DeTable<'_>) -> TaskSettings {
    reader.keys("key of [tasks]", table, &["koji-topurl", "koji-hub", "repository", "machine", "namespace"]);
    let mut settings = TaskSettings {
        topurl: reader.address(table, "koji-topurl"),
        hub: reader.address(table, "koji-hub"),
        ..TaskSettings::default()
    };
    if let Some(entries) = reader.table(table, "repository") {
        for (name, value) in entries {
            let at = name.span().start;
            let Some(entry) = value.get_ref().as_table() else {
                reader.error("type", at, "a task is a section: [tasks.repository.NAME]");
                continue;
            };
            reader.keys("key of [tasks.repository.NAME]", entry, &["url", "path", "ref", "machine"]);
            let url = reader.text(entry, "url").unwrap_or_default();
            if split_url(&url).is_none() {
                let message = "the task has no url, the address of its git repository";
                reader.error("missing", at, message);
            }
            let (path, reference) = (reader.text(entry, "path"), reader.text(entry, "ref"));
            let machine = reader.text(entry, "machine");
            let repository = Repository { url, path, reference, machine };
            settings.repositories.insert(name.get_ref().to_string(), repository);
        }
    }
    machines(reader, table, &mut settings);
    if let Some(value) = table.get("namespace") {
        let entries = value.get_ref().as_array().map(|array| array.iter().collect::<Vec<_>>());
        for entry in entries.unwrap_or_else(|| vec![value]) {
            settings.namespaces.extend(namespace(reader, entry.span().start, entry.get_ref().as_table()));
        }
    }
    settings
}

/// Variables that a machine of tasks may have: those of machines that tests run on.
const VARIABLES: &[&str] = &[
    "HDD_1",
    "ISO",
    "KERNEL",
    "INITRD",
    "APPEND",
    "QEMURAM",
    "QEMUCPUS",
    "QEMUCPU",
    "QEMUMACHINE",
    "UEFI",
    "UEFI_PFLASH_CODE",
    "UEFI_PFLASH_VARS",
    "WORKER_CLASS",
];

/// `[tasks.machine.NAME]`, and whether those that tasks name are there.
fn machines(reader: &mut Reader<'_>, table: &DeTable<'_>, settings: &mut TaskSettings) {
    let mut places = BTreeMap::new();
    for (name, _) in reader.table(table, "repository").into_iter().flatten() {
        places.insert(name.get_ref().to_string(), name.span().start);
    }
    for (name, value) in reader.table(table, "machine").into_iter().flatten() {
        let at = name.span().start;
        let Some(entry) = value.get_ref().as_table() else {
            reader.error("type", at, "a machine is a section: [tasks.machine.NAME]");
            continue;
        };
        reader.keys("variable of [tasks.machine.NAME]", entry, VARIABLES);
        let texts = VARIABLES.iter().filter_map(|key| Some(((*key).to_owned(), reader.text(entry, key)?)));
        let variables: BTreeMap<String, String> = texts.collect();
        if !["HDD_1", "KERNEL", "ISO"].iter().any(|key| variables.contains_key(*key)) {
            let message = "the machine has nothing to start from: HDD_1, KERNEL or ISO, an asset or a path on its worker";
            reader.error("missing", at, message);
        }
        settings.machines.insert(name.get_ref().to_string(), variables);
    }
    for (name, repository) in &settings.repositories {
        if let Some(machine) =
            repository.machine.as_ref().filter(|name| !settings.machines.contains_key(*name))
        {
            let at = places.get(name).copied().unwrap_or_default();
            reader.error("machine", at, format!("there is no section [tasks.machine.{machine}]"));
        }
    }
}

fn namespace(reader: &mut Reader<'_>, at: usize, table: Option<&DeTable<'_>>) -> Option<Namespace> {
    let Some(table) = table else {
        reader.error("type", at, "a namespace is a section: [[tasks.namespace]]");
        return None;
    };
    reader.keys("key of [[tasks.namespace]]", table, &["prefix", "repositories"]);
    let prefix = reader.text(table, "prefix");
    let texts = reader.texts(table, "repositories");
    if prefix.is_none() || texts.is_empty() {
        let message = "a namespace has prefix = \"dist.rpmlint\" and repositories = [\"https://…\"], with * for anything";
        reader.error("missing", at, message);
    }
    let mut repositories = Vec::new();
    for text in &texts {
        match Glob::new(plain(text)) {
            Ok(glob) => repositories.push(glob),
            Err(why) => reader.error("glob", at, format!("{text:?}: {why}")),
        }
    }
    Some(Namespace { prefix: prefix?, repositories })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> TaskSettings {
        let namespace = |prefix: &str, glob: &str| Namespace {
            prefix: prefix.into(),
            repositories: vec![Glob::new(glob).expect("a glob")],
        };
        let known = Repository {
            url: "https://git.example.org/checks.git".into(),
            path: Some("rpmlint".into()),
            reference: Some("main".into()),
            machine: None,
        };
        TaskSettings {
            topurl: Some("https://koji.example.org".into()),
            repositories: [("rpmlint".to_owned(), known)].into(),
            namespaces: vec![
                namespace("dist", "https://git.example.org/checks"),
                namespace("pkg", "https://git.example.org/pkgs/*"),
            ],
            ..TaskSettings::default()
        }
    }

    #[test]
    fn a_name_stands_for_a_repository() {
        let mut job: BTreeMap<String, String> =
            [("TASK".into(), "rpmlint".into()), (NAMESPACES.into(), "everything".into())].into();
        let key = settings().fill(&mut job).expect("known");
        assert_eq!(key, ("https://git.example.org/checks.git".to_owned(), "main".to_owned()));
        for (key, value) in
            [(PATH, "rpmlint"), (NAMESPACES, "dist"), (TOPURL, "https://koji.example.org"), (REF, "main")]
        {
            assert_eq!(job[key], value, "{key}");
        }
        let mut job = [("TASK".into(), "https://elsewhere.org/x".into()), (REF.into(), "v1".into())].into();
        assert_eq!(settings().fill(&mut job).expect("an address").1, "v1");
        assert_eq!(job[NAMESPACES], "scratch", "a repository that nobody knows owns nothing");
        for wrong in ["rpmlin", "https://"] {
            let mut job = [("TASK".into(), wrong.into())].into();
            assert!(matches!(settings().fill(&mut job), Err(Unresolved::Wrong(_))), "{wrong}");
        }
    }

    #[test]
    fn a_job_asks_only_for_a_test_case_that_its_repository_owns() {
        for (task, testcase, may) in [
            ("rpmlint", "dist.rpmlint.strict", true),
            ("rpmlint", "pkg.bash", false),
            ("https://elsewhere.org/x", "dist.rpmlint", false),
            ("https://elsewhere.org/x", "scratch.mine", true),
        ] {
            let asked = [("TASK", task), (ASKED_TESTCASE, testcase)];
            let mut job = asked.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
            let filled = settings().fill(&mut job);
            assert_eq!(filled.is_ok(), may, "{task} {testcase}: {filled:?}");
        }
    }

    #[test]
    fn a_job_that_names_a_task_is_one() {
        for (settings, is) in [
            (&[("TASK", "rpmlint")][..], true),
            (&[("TASK_URL", "https://git.example.org/checks.git")], true),
            (&[("BACKEND", "task")], true),
            (&[("BACKEND", "shell"), ("TASK", "{}")], false),
            (&[("TEST", "install")], false),
            (&[("CASEDIR", "/srv/tests"), ("TASK", "7")], false),
        ] {
            let found = is_task(&Settings::from_request(settings.iter().copied()));
            assert_eq!(found, is, "{settings:?}");
        }
        let of = |settings: &[(&str, &str)]| {
            testcase(&JobSettings::from(Settings::from_request(settings.iter().copied()))).map(str::to_owned)
        };
        let header = ("TASK_TESTCASE", "dist.rpmlint");
        assert_eq!(of(&[("BACKEND", "task"), header]).as_deref(), Some("dist.rpmlint"));
        let asked = [("BACKEND", "task"), header, ("TESTCASE", "dist.x"), ("TASK_NAMESPACES", "dist")];
        assert_eq!(of(&asked).as_deref(), Some("dist.x"));
        assert_eq!(of(&asked[..3]).as_deref(), Some("dist.rpmlint"), "its repository does not own dist.x");
        assert_eq!(of(&[header]), None, "only what the server says counts");
    }

    #[tokio::test]
    async fn the_header_at_a_commit_names_the_test_case() {
        let dir = tempfile::tempdir().expect("a directory");
        let git = |arguments: &[&str]| {
            let who = ["-c", "user.name=tester", "-c", "user.email=tester@example.org"];
            let done =
                std::process::Command::new("git").current_dir(dir.path()).args(who).args(arguments).output();
            String::from_utf8(done.expect("git runs").stdout).expect("UTF-8").trim().to_owned()
        };
        git(&["init", "--quiet"]);
        let header = "name: probe\ntestcase: dist.probe\ntakes: [koji_build]\nrun: ./probe.py\n";
        for (folder, text) in [("probe", header), ("broken", "name: x\n")] {
            fs_err::create_dir(dir.path().join(folder)).expect("a folder");
            fs_err::write(dir.path().join(folder).join("task.yaml"), text).expect("a file");
        }
        git(&["add", "."]);
        git(&["commit", "--quiet", "-m", "tasks"]);
        let (url, commit) = (format!("file://{}", dir.path().display()), git(&["rev-parse", "HEAD"]));
        for (file, found) in
            [("probe/task.yaml", Some("dist.probe")), ("broken/task.yaml", None), ("task.yaml", None)]
        {
            let key = (url.clone(), commit.clone(), file.to_owned());
            assert_eq!(read_header(key).await, Ok(found.map(str::to_owned)), "{file}");
        }
        let nowhere = (url, "1".repeat(40), "task.yaml".to_owned());
        assert_eq!(read_header(nowhere).await, Err(PeekError::NoCommit("1".repeat(40))));
    }

    #[test]
    fn a_silent_host_is_not_asked_again_for_a_while() {
        let (tasks, now) = (Tasks::default(), Timestamp(1_000_000_000));
        let key = |url: &str| (url.to_owned(), "1".repeat(40), "task.yaml".to_owned());
        let (checks, others) = ("https://git.example.org/checks", "https://git.example.org/others");
        for (error, is_wrong) in
            [(PeekError::TooLarge(9), true), (PeekError::Unreachable("no".to_owned()), false)]
        {
            let why = tasks.unread(&key(checks), error, now);
            assert_eq!(matches!(why, Unresolved::Wrong(_)), is_wrong, "{why:?}");
        }
        let ask = |url: &str, ask: Ask, after: i64| {
            tasks.may_ask(Whom::at(url, "main"), ask, now.plus_seconds(after))
        };
        assert_eq!(ask(others, Ask::Others, 0), Ok(()), "it refused, and was not silent");
        let whom = Whom::at(others, "main");
        assert_eq!(ask(others, Ask::Nobody, 0), Err(Unresolved::Unknown(whom)));
        let why = tasks.unread(&key(checks), PeekError::Silent, now);
        let Unresolved::Silent { silence, .. } = why else { panic!("{why:?}") };
        for may in [Ask::Others, Ask::Nobody] {
            let asked = ask(others, may, SILENCE_S - 1);
            assert!(
                matches!(&asked, Err(Unresolved::Silent { silence: same, .. }) if *same == silence),
                "{asked:?}"
            );
        }
        assert_eq!(ask("https://elsewhere.org/x", Ask::Others, 1), Ok(()));
        assert_eq!(ask(others, Ask::Others, SILENCE_S), Ok(()));
    }

    #[test]
    fn results_belong_to_repositories() {
        let tasks = Tasks::default();
        tasks.set(settings());
        for (url, testcase, may) in [
            ("https://git.example.org/checks.git", "dist.depcheck", true),
            ("https://git.example.org/checks/", "pkg.bash", false),
            ("https://git.example.org/pkgs/bash", "pkg.bash", true),
            ("https://git.example.org/pkgs/bash", "dist.rpmlint", false),
            ("https://evil.example.org/checks", "dist.rpmlint", false),
            ("https://evil.example.org/checks", "scratch.x", true),
        ] {
            assert_eq!(tasks.may_post(url, testcase), may, "{url} {testcase}");
        }
    }
}
