//! What decisions need from elsewhere: when Koji made a build, and the policies that its package brings (`gating.yaml`).
//!
//! It is asked for when it is needed, kept for a while, and never waited for for long: what cannot be had is said in the
//! decision.

use super::settings::ResultsSettings;
use crate::app::App;
use assay_connect::events::json::{Hope, NoDocument};
use assay_connect::events::koji::{Build, Koji};
use assay_connect::files::{Files, NoFile};
use assay_engine::decision::{
    GatingFile, Known, Needs, Origin, Question, RemoteFile, Rule, Subject, Verdict, address, needs,
    needs_origin,
};
use assay_engine::ids::Timestamp;
use assay_formats::policy;
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// So long a question waits for everything that it needs from elsewhere.
const PATIENCE: Duration = Duration::from_secs(15);
/// So long one answer is waited for.
const ANSWER: Duration = Duration::from_secs(5);
/// The longest file of rules.
const LONGEST: usize = 256 << 10;
/// Subjects of one question that are looked at at the same time.
const TOGETHER: usize = 8;
/// So long a build is what it was: Koji does not change it.
const BUILD_STAYS: Duration = Duration::from_hours(1);
/// So long a file is what it was; its address may name a branch.
const FILE_STAYS: Duration = Duration::from_mins(5);
/// So long nobody is asked again who did not answer: not every decision waits for the same silence.
const TROUBLE_STAYS: Duration = Duration::from_secs(15);
/// So many answers are kept of a kind.
const KEPT: usize = 4_096;

/// Templates of addresses by the kind of the subject.
type Templates = BTreeMap<String, Vec<String>>;

/// An answer, or why there is none, and until when it is good.
type Answer<T> = (Timestamp, Result<T, String>);

/// Answers that are still good.
#[derive(Debug)]
struct Kept<T>(Mutex<BTreeMap<String, Answer<T>>>);

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone> Kept<T> {
    fn get(&self, key: &str, now: Timestamp) -> Option<Result<T, String>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(key).filter(|(until, _)| now < *until).map(|(_, answer)| answer.clone())
    }

    fn put(&self, key: &str, now: Timestamp, stays: Duration, answer: Result<T, String>) {
        let stays = if answer.is_ok() { stays } else { TROUBLE_STAYS };
        let until = Timestamp(now.0.saturating_add(stays.as_micros() as i64));
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT {
            kept.retain(|_, (until, _)| now < *until);
        }
        if kept.len() >= KEPT {
            kept.clear();
        }
        kept.insert(key.to_owned(), (until, answer));
    }
}

/// What was asked for lately.
#[derive(Debug, Default)]
pub(crate) struct Elsewhere {
    /// By name; `None`: Koji knows none of this name.
    builds: Kept<Option<Build>>,
    /// By address; `None`: there is nothing.
    files: Kept<Option<String>>,
    /// By host: those that did not answer at all, so that not everything that is asked of one waits for that.
    hosts: Kept<()>,
    /// Who asks for files: what it trusts is read once.
    asker: OnceLock<Files>,
}

impl Elsewhere {
    fn asker(&self) -> Result<&Files, String> {
        if let Some(asker) = self.asker.get() {
            return Ok(asker);
        }
        let made = Files::new(false)?;
        Ok(self.asker.get_or_init(|| made))
    }
}

/// What was found of a subject.
#[derive(Debug, Default)]
pub(super) struct Seen {
    built_at: Option<Timestamp>,
    files: BTreeMap<Vec<String>, RemoteFile>,
    /// Somebody who was asked did not answer, or did not know it yet.
    in_doubt: bool,
}

impl Seen {
    /// True if it may be known otherwise soon.
    pub(super) fn is_in_doubt(&self) -> bool {
        self.in_doubt
    }

    /// Puts it to what is known besides.
    pub(super) fn add_to(&self, known: &mut Known) {
        known.built_at = self.built_at;
        known.remote.clone_from(&self.files);
    }
}

/// Why rules stand for files of which nothing says where they are.
pub(crate) fn can_be_found<'r>(
    templates: &Templates,
    rules: impl IntoIterator<Item = &'r Rule>,
) -> Result<(), String> {
    let lost =
        |rule: &Rule| matches!(rule, Rule::Remote(rule) if rule.sources.is_empty() && templates.is_empty());
    if rules.into_iter().any(lost) {
        let why = "a `!RemoteRule` stands for a file of which nothing says where it is; set [results.remote-rules], for \
                   example koji_build = \"https://src.fedoraproject.org/{pkg_namespace}{pkg_name}/raw/{rev}/f/gating.yaml\"";
        return Err(why.to_owned());
    }
    Ok(())
}

/// Why a question may not bring these rules: who asks does not say which addresses this server asks.
pub(crate) fn may_be_asked(templates: &Templates, rules: &[Rule]) -> Result<(), String> {
    if rules.iter().any(|rule| matches!(rule, Rule::Remote(rule) if !rule.sources.is_empty())) {
        return Err(
            "a RemoteRule of a question has no sources; those of [results.remote-rules] are asked".to_owned()
        );
    }
    can_be_found(templates, rules)
}

/// What is said of a file of rules beside its sources, and under which name Greenwave says it.
pub(crate) fn told(verdict: Verdict, file: &GatingFile) -> (&'static str, Value) {
    match verdict {
        Verdict::FileFetched => ("source", json!(file.sources.first())),
        Verdict::FileInvalid => ("details", json!(file.why)),
        _ => ("error", json!(file.why)),
    }
}

/// What a file says.
fn read(source: &str, text: &str) -> RemoteFile {
    let loaded = policy::load_remote(source, text, None);
    let source = source.to_owned();
    if let Some(found) = loaded.policies {
        return RemoteFile::Read { source, policies: found.policies };
    }
    let lines: Vec<String> = loaded.diagnostics.iter().map(ToString::to_string).collect();
    RemoteFile::Invalid { source, why: lines.join("\n") }
}

impl App {
    /// What a question needs from elsewhere, for each of its subjects; nothing at all if it needs nothing, as most.
    pub(super) async fn seen_elsewhere(&self, settings: &ResultsSettings, question: &Question) -> Vec<Seen> {
        let of = |subject| needs(&settings.decisions, question, subject);
        let needed: Vec<Needs<'_>> = question.subjects.iter().map(of).collect();
        if needed.iter().all(Needs::is_empty) {
            return Vec::new();
        }
        let deadline = Instant::now() + PATIENCE;
        let mut looks = Vec::new();
        for (subject, needs) in question.subjects.iter().zip(&needed) {
            looks.push(self.look_until(deadline, settings, subject, needs));
        }
        futures_util::stream::iter(looks).buffered(TOGETHER).collect().await
    }

    async fn look_until(
        &self,
        deadline: Instant,
        settings: &ResultsSettings,
        subject: &Subject,
        needs: &Needs<'_>,
    ) -> Seen {
        let seen = tokio::time::timeout_at(deadline, self.look_elsewhere(settings, subject, needs)).await;
        seen.unwrap_or_else(|_| late(needs))
    }

    async fn look_elsewhere(&self, settings: &ResultsSettings, subject: &Subject, needs: &Needs<'_>) -> Seen {
        let kind = settings.decisions.subject_type(&subject.kind);
        if needs.is_empty() {
            return Seen::default();
        }
        let build = if kind.is_nvr { self.koji_build(&subject.item).await.map(Some) } else { Ok(None) };
        if let Err(why) = &build {
            tracing::debug!(
                item = subject.item,
                why,
                "when it was built is not known; the decision's time counts"
            );
        }
        // Where nobody says where Koji is, that stays so.
        let no_build = build.is_err() && self.koji_hub().is_some();
        let built_at = build.as_ref().ok().and_then(|build| build.as_ref()?.created);
        let source = build.map(|build| build.and_then(|build| build.source));
        let origin = source.map(|source| source.and_then(|source| Origin::of(&source)));
        let mut files = BTreeMap::new();
        for sources in needs.files.iter().copied() {
            let configured = kind
                .names()
                .iter()
                .find_map(|name| settings.remote.get(name))
                .or_else(|| settings.remote.get("*"));
            let templates =
                if sources.is_empty() { configured.map_or(&[][..], Vec::as_slice) } else { sources };
            files.insert(sources.to_vec(), self.file_of(subject, templates, &origin).await);
        }
        let unreachable = |file: &RemoteFile| matches!(file, RemoteFile::Unreachable { .. });
        let in_doubt = no_build || files.values().any(unreachable);
        Seen { built_at, files, in_doubt }
    }

    /// The first file that is there.
    async fn file_of(
        &self,
        subject: &Subject,
        templates: &[String],
        origin: &Result<Option<Origin>, String>,
    ) -> RemoteFile {
        let mut sources = Vec::new();
        for template in templates {
            let origin = match origin {
                Err(why) if needs_origin(template) => {
                    return RemoteFile::Unreachable { sources: vec![template.clone()], why: why.clone() };
                }
                Ok(Some(origin)) => Some(origin),
                Ok(None) | Err(_) => None,
            };
            // What was made of no repository has no file in one.
            let Some(at) = address(template, subject, origin) else { continue };
            sources.push(at.clone());
            match self.text_at(&at).await {
                Ok(Some(text)) => return read(&at, &text),
                Ok(None) => {}
                Err(why) => return RemoteFile::Unreachable { sources, why },
            }
        }
        RemoteFile::Absent { sources }
    }

    async fn text_at(&self, url: &str) -> Result<Option<String>, String> {
        let kept = &self.results.elsewhere.files;
        if let Some(answer) = kept.get(url, self.clock.now()) {
            return answer;
        }
        let host = url.split('/').nth(2).unwrap_or(url);
        self.is_heard(host)?;
        let answer = match in_time(host, self.results.elsewhere.asker()?.text(url, LONGEST)).await {
            Ok(Ok(text)) => Ok(Some(text)),
            Ok(Err(NoFile::Missing(_))) => Ok(None),
            Ok(Err(NoFile::Refused(why) | NoFile::Later(why))) => Err(why),
            Ok(Err(NoFile::Silence(why))) | Err(why) => Err(self.was_silent(host, why)),
        };
        kept.put(url, self.clock.now(), FILE_STAYS, answer.clone());
        answer
    }

    /// Why a host need not be asked: it did not answer a moment ago.
    fn is_heard(&self, host: &str) -> Result<(), String> {
        self.results.elsewhere.hosts.get(host, self.clock.now()).unwrap_or(Ok(()))
    }

    /// Nobody else waits for it, for a while.
    fn was_silent(&self, host: &str, why: String) -> String {
        self.results.elsewhere.hosts.put(host, self.clock.now(), TROUBLE_STAYS, Err(why.clone()));
        why
    }

    async fn koji_build(&self, nvr: &str) -> Result<Build, String> {
        let kept = &self.results.elsewhere.builds;
        let answer = if let Some(answer) = kept.get(nvr, self.clock.now()) {
            answer
        } else {
            let hub = self.koji_hub().ok_or("nobody says where Koji is; set koji-hub in [tasks]")?;
            self.is_heard(&hub)?;
            let koji = Koji::new(&hub, "")?;
            let answer = match in_time(&hub, koji.build(nvr)).await {
                Ok(Ok(build)) => Ok(build),
                // Of builds it says what there is, or that it is down as a whole.
                Ok(Err(NoDocument { why, hope: Hope::Mended })) | Err(why) => Err(self.was_silent(&hub, why)),
                Ok(Err(error)) => Err(error.why),
            };
            // What it does not know yet it may know soon.
            let stays = if matches!(answer, Ok(None)) { TROUBLE_STAYS } else { BUILD_STAYS };
            kept.put(nvr, self.clock.now(), stays, answer.clone());
            answer
        };
        answer?.ok_or_else(|| format!("Koji has no build {nvr}"))
    }
}

/// An answer, or that there is none in time: that is remembered, too.
async fn in_time<T>(whom: &str, asked: impl Future<Output = T>) -> Result<T, String> {
    let late = |_| format!("no answer of {whom} within {} s", ANSWER.as_secs());
    tokio::time::timeout(ANSWER, asked).await.map_err(late)
}

/// Nothing came in time.
fn late(needs: &Needs<'_>) -> Seen {
    let why = format!("no answer within {} s", PATIENCE.as_secs());
    let file = |sources: &&[String]| {
        (sources.to_vec(), RemoteFile::Unreachable { sources: sources.to_vec(), why: why.clone() })
    };
    Seen { built_at: None, files: needs.files.iter().map(file).collect(), in_doubt: true }
}
