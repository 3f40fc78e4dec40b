//! Composes and updates: what is posted for them is looked up outside and in the configuration.

use super::executor::Trouble;
use super::settings::{EventSettings, PollKind, SourceKind};
use crate::app::App;
use crate::auth::{Role, Sender};
use crate::whom::Whom;
use assay_connect::events::bodhi::Bodhi;
use assay_connect::events::json::{Fetcher, Hope, NoDocument};
use assay_connect::events::koji::Koji;
use assay_engine::compose::{
    Candidate, CandidateKind, Choice, Compose, NoRelease, Release, Schedule, Update,
};
use assay_engine::ids::Timestamp;
use assay_engine::rules::{Planned, PlannedEffect};
use assay_store::{CommentTarget, StoredEffect};

const DAY: i64 = 86_400_000_000;
/// What Bodhi said of its releases is believed for so long, and afterwards as long as it does not answer.
const BELIEVED_S: i64 = 1_200;
/// So much later it is asked again that did not answer.
const AGAIN_S: i64 = 60;

/// Releases as Bodhi said they are, and when.
pub(super) type KnownReleases = Option<(Timestamp, Vec<Release>)>;

/// What COPR calls a project.
const PROJECT: &str = "OWNER/PROJECT, for example @qa/nightly";

impl EventSettings {
    /// Where Bodhi is: as it is set, or as a source asks it.
    fn bodhi(&self) -> Option<&str> {
        let polled =
            |kind: &SourceKind| matches!(kind, SourceKind::Poll { what: PollKind::Bodhi { .. }, .. });
        self.bodhi.as_deref().or_else(|| self.polled(polled))
    }

    fn polled(&self, fits: impl Fn(&SourceKind) -> bool) -> Option<&str> {
        let source = self.sources.values().find(|source| fits(&source.kind))?;
        match &source.kind {
            SourceKind::Poll { what: PollKind::Bodhi { url, .. } | PollKind::Koji { url, .. }, .. } => {
                Some(url)
            }
            _ => None,
        }
    }
}

impl From<NoDocument> for Trouble {
    fn from(error: NoDocument) -> Self {
        match error.hope {
            Hope::Never => Self::Refused(error.why),
            Hope::Missing => Self::Missing(error.why),
            Hope::Mended => Self::Later(error.why),
        }
    }
}

/// What Koji refuses when it is asked for something by its name is not there.
fn absent(error: NoDocument) -> Trouble {
    if error.hope == Hope::Never { Trouble::Absent(error.why) } else { Trouble::from(error) }
}

impl App {
    fn bodhi(&self) -> Result<Option<Bodhi>, Trouble> {
        let url = self.outside.settings.get().and_then(|settings| settings.bodhi());
        url.map(|url| Bodhi::new(url, &[], "")).transpose().map_err(Trouble::Refused)
    }

    /// Koji as sources or tasks ask it.
    fn koji(&self) -> Result<Option<Koji>, Trouble> {
        self.koji_hub().map(|url| Koji::new(&url, "")).transpose().map_err(Trouble::Refused)
    }

    /// Where Koji is, as tasks or sources ask it.
    pub(crate) fn koji_hub(&self) -> Option<String> {
        let settings = self.outside.settings.get();
        let polled = |kind: &SourceKind| matches!(kind, SourceKind::Poll { what: PollKind::Koji { .. }, .. });
        let url = settings.and_then(|settings| settings.polled(polled)).map(str::to_owned);
        self.task_runs.koji().or(url)
    }

    /// The mapping that is in force, with its releases: its own, or those that Bodhi has.
    pub(crate) async fn schedule(&self) -> Result<Schedule, Trouble> {
        let mut schedule = self.written_schedule().map_err(Trouble::Refused)?;
        if let (true, Some(bodhi)) = (schedule.releases.is_empty(), self.bodhi()?) {
            schedule.releases = self.releases(&bodhi).await?;
        }
        Ok(schedule)
    }

    async fn releases(&self, bodhi: &Bodhi) -> Result<Vec<Release>, Trouble> {
        let now = self.clock.now();
        let known = self.outside.state().releases.clone();
        if let Some((at, releases)) = &known
            && now < at.plus_seconds(BELIEVED_S)
        {
            return Ok(releases.clone());
        }
        match (bodhi.releases().await, known) {
            (Ok(releases), _) => {
                self.outside.state().releases = Some((now, releases.clone()));
                Ok(releases)
            }
            (Err(error), Some((_, releases))) => {
                tracing::warn!(
                    why = error.why,
                    "Bodhi does not say which releases there are; they are as before"
                );
                let at = self.clock.now().plus_seconds(AGAIN_S - BELIEVED_S);
                self.outside.state().releases = Some((at, releases.clone()));
                Ok(releases)
            }
            (Err(error), None) => Err(error.into()),
        }
    }

    /// What the file says, read anew each time.
    fn written_schedule(&self) -> Result<Schedule, String> {
        let path = self.outside.settings.get().and_then(|settings| settings.schedule.clone());
        let Some(path) = path else {
            return Err(
                "nothing says what is scheduled; name a file as `schedule` in [events] of assay.toml"
                    .to_owned(),
            );
        };
        let text = fs_err::read_to_string(&path).map_err(|error| error.to_string())?;
        let loaded = assay_formats::schedule::load(path.as_str(), &text);
        loaded.schedule.ok_or_else(|| {
            let all: Vec<String> = loaded.diagnostics.iter().map(ToString::to_string).collect();
            all.join("\n")
        })
    }

    /// Today.
    pub(crate) fn day(&self) -> i64 {
        self.clock.now().0.div_euclid(DAY)
    }

    /// What is posted for a compose.
    pub(crate) async fn plan_compose(
        &self,
        location: &str,
        choice: &Choice,
    ) -> Result<(Compose, Vec<Planned>), Trouble> {
        let schedule = self.schedule().await?;
        if let Some(why) = choice.refused() {
            return Err(Trouble::Refused(why));
        }
        let fetcher = Fetcher::new(location).map_err(Trouble::Refused)?;
        let base = location.trim_end_matches('/');
        let find = async |file: &str| fetcher.find(&format!("{base}/{file}")).await.map_err(Trouble::from);
        let none = |what: &str| Trouble::Missing(format!("there is no {what} in {base}"));
        let compose = if let Some(info) = find("metadata/composeinfo.json").await? {
            let images = find("metadata/images.json").await?;
            Compose::read(&info, &images.ok_or_else(|| none("metadata/images.json"))?)
        } else {
            // A build of CoreOS has no such metadata, and describes itself in one file.
            let meta = find("meta.json").await?;
            Compose::read_coreos(&meta.ok_or_else(|| none("metadata/composeinfo.json or meta.json"))?)
        };
        let compose = compose.map_err(|why| Trouble::Refused(format!("{base}: {why}")))?;
        if let Some(flavor) = schedule.misspelt_of(&compose, choice) {
            let why = format!(
                "nothing of {} is scheduled as the flavor {flavor:?}; leave it out, with --dry-run, to see those that are",
                compose.id
            );
            return Err(Trouble::Refused(why));
        }
        let planned = schedule.compose(&compose, base, choice, self.day());
        Ok((compose, planned))
    }

    /// What is posted for an update.
    pub(crate) async fn plan_update(
        &self,
        update: &Update,
        choice: &Choice,
    ) -> Result<Vec<Planned>, Trouble> {
        let schedule = self.of_release(&update.release, choice).await?;
        Ok(schedule.update(update, choice, self.day()))
    }

    /// The mapping, if something of this release may be scheduled.
    async fn of_release(&self, release: &str, choice: &Choice) -> Result<Schedule, Trouble> {
        let schedule = self.schedule().await?;
        let refused = match schedule.refuses_release(release, self.day()) {
            Some(NoRelease::Ended { .. }) if choice.force.is_some() => None,
            refused => refused.map(|refused| refused.to_string()),
        };
        let misspelt = || {
            let said = schedule.misspelt(choice)?;
            let all: Vec<String> = schedule.updates.flavors().into_iter().collect();
            Some(format!("there is no flavor {said:?} of updates; there are {}", all.join(", ")))
        };
        match refused.or_else(|| choice.refused()).or_else(misspelt) {
            Some(why) => Err(Trouble::Refused(why)),
            None => Ok(schedule),
        }
    }

    /// An update as somebody names it; what they do not say of it is asked of Bodhi.
    pub(crate) async fn find_update(
        &self,
        id: &str,
        said: Update,
        release: Option<String>,
        choice: &Choice,
    ) -> Result<Update, Trouble> {
        let refuse = |why: String| Err(Trouble::Refused(why));
        if let (Some(release), false) = (&release, said.builds.is_empty()) {
            return Ok(Update { release: release.clone(), ..said });
        }
        let Some(bodhi) = self.bodhi()? else {
            let why = format!(
                "what {id} is made of is not known: name its release and its builds, or say where Bodhi is, as `bodhi` in [events] \
                 of assay.toml"
            );
            return refuse(why);
        };
        let Some((found, status)) = bodhi.update(id).await? else {
            return Err(Trouble::Missing(format!("Bodhi has no update {id:?}")));
        };
        if let Some(release) = release.filter(|release| *release != found.release) {
            return refuse(format!("{id} is of {}, not of {release}", found.release));
        }
        if ["obsolete", "unpushed"].contains(&status.as_str()) && choice.force.is_none() {
            return refuse(format!("{id} is {status}; force it to be scheduled all the same"));
        }
        let builds = if said.builds.is_empty() { found.builds } else { said.builds };
        Ok(Update { builds, groups: said.groups.or(found.groups), ..found })
    }

    /// What is posted for something that is tested as an update is; it has to be there, as far as that can be asked.
    pub(crate) async fn plan_candidate(
        &self,
        mut candidate: Candidate,
        choice: &Choice,
    ) -> Result<(Candidate, Vec<Planned>), Trouble> {
        let schedule = self.of_release(&candidate.release, choice).await?;
        match candidate.kind {
            CandidateKind::KojiTask => {
                candidate.id = candidate.id.split_whitespace().collect::<Vec<_>>().join(" ");
                self.look_at_tasks(&candidate.id, choice).await?;
            }
            CandidateKind::KojiTag => {
                if let Some(koji) = self.koji()? {
                    let mut builds = koji.tagged(&candidate.id).await.map_err(absent)?;
                    if builds.is_empty() {
                        return Err(Trouble::Refused(format!(
                            "there is no build in the tag {:?}",
                            candidate.id
                        )));
                    }
                    builds.sort();
                    candidate.revision = builds.join(" ");
                }
            }
            CandidateKind::Copr => candidate.revision = self.copr_revision(&candidate.id).await?,
        }
        let planned = schedule.candidate(&candidate, choice, self.day());
        Ok((candidate, planned))
    }

    async fn look_at_tasks(&self, ids: &str, choice: &Choice) -> Result<(), Trouble> {
        let koji = self.koji()?;
        for id in ids.split(' ') {
            let Ok(number) = id.parse::<u64>() else {
                return Err(Trouble::Refused(format!("{id:?} is no number of a task of Koji")));
            };
            let Some(koji) = &koji else { continue };
            let task = koji.task(number).await.map_err(absent)?;
            if let Some(trouble) = task.trouble().filter(|_| choice.force.is_none()) {
                let why =
                    format!("the task {id} of Koji ({}) {trouble}; there is nothing to test", task.method);
                return Err(Trouble::Refused(why));
            }
        }
        Ok(())
    }

    /// The newest build of a project of COPR; empty if nobody knows where COPR is.
    async fn copr_revision(&self, id: &str) -> Result<String, Trouble> {
        let refuse = |why: String| Err(Trouble::Refused(why));
        let plain = |part: &str| {
            let part = part.strip_prefix('@').unwrap_or(part);
            !part.is_empty()
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.+".contains(&byte))
        };
        let Some((owner, project)) =
            id.split_once('/').filter(|(owner, project)| plain(owner) && plain(project))
        else {
            return refuse(format!("{id:?} is no project of COPR; expected {PROJECT}"));
        };
        let base = self.outside.settings.get().and_then(|settings| settings.copr.clone());
        let Some(base) = base else { return Ok(String::new()) };
        let fetcher = Fetcher::new(&base).map_err(Trouble::Refused)?;
        let query =
            format!("ownername={}&projectname={}", owner.replace('@', "%40"), project.replace('+', "%2B"));
        if fetcher.find(&format!("{base}/api_3/project?{query}")).await?.is_none() {
            return Err(Trouble::Absent(format!("COPR has no project {id:?}")));
        }
        let newest =
            format!("{base}/api_3/build/list?{query}&status=succeeded&limit=1&order=id&order_type=DESC");
        let builds = fetcher.get(&newest).await?;
        match builds["items"][0]["id"].as_i64() {
            Some(build) => Ok(build.to_string()),
            None => refuse(format!("nothing has been built in the project {id:?} of COPR")),
        }
    }

    /// The number of a group of which something is to be said, by its name or its number.
    fn group_to_say(&self, group: &str) -> Result<i64, String> {
        let catalog = self.library.now();
        let by_number = || group.parse().ok().filter(|id| catalog.groups.contains_key(id));
        let found = catalog.group_named(group).map(|found| found.id).or_else(by_number);
        found.ok_or_else(|| format!("there is no group {group:?} to say it of"))
    }

    /// Why something that is scheduled would be refused, as things are.
    pub(super) fn would_refuse(&self, planned: &Planned) -> Option<String> {
        match &planned.effect {
            PlannedEffect::Product { settings } => self.plan_wanted(settings.clone()).err(),
            PlannedEffect::Comment { group, .. } => self.group_to_say(group).err(),
            _ => None,
        }
    }

    /// Says something on the page of a group, unless it is said there already; the comment's number.
    pub(crate) async fn say_of_group(
        self: &std::sync::Arc<Self>,
        group: &str,
        text: &str,
    ) -> Result<i64, Trouble> {
        let id = self.group_to_say(group).map_err(Trouble::Refused)?;
        let target = CommentTarget::Group(id);
        let there = self.store.knowledge().comments(target).await?;
        if let Some(there) = there.iter().find(|comment| comment.text == text) {
            return Ok(there.id.0);
        }
        let by = Sender { role: Role::Operator, name: "schedule".to_owned(), refused: None };
        crate::api::openqa::say(self, &by, target, text).await.map_err(|fault| match fault.status {
            status if status.is_client_error() => Trouble::Refused(fault.error),
            _ => Trouble::Later(fault.error),
        })
    }

    /// Whom an effect that stands for several asks before it is taken apart; none if all of it is known.
    pub(crate) fn asks_whom(&self, effect: &PlannedEffect) -> Option<Whom> {
        match effect {
            PlannedEffect::Compose { location } if !location.starts_with("file:///") => {
                Some(Whom::at(location, ""))
            }
            _ => self.asks_for_releases(),
        }
    }

    /// Whom the mapping asks for its releases, unless it was told a moment ago.
    fn asks_for_releases(&self) -> Option<Whom> {
        let bodhi = self.outside.settings.get()?.bodhi()?;
        let told = self.outside.state().releases.as_ref().map(|(at, _)| at.plus_seconds(BELIEVED_S));
        let is_open = told.is_none_or(|until| until <= self.clock.now())
            && self.written_schedule().is_ok_and(|schedule| schedule.releases.is_empty());
        is_open.then(|| Whom::at(bodhi, "releases"))
    }

    /// The parts of an effect that stands for several.
    pub(crate) async fn expand(
        &self,
        stored: &StoredEffect,
        effect: &PlannedEffect,
    ) -> Result<Vec<Planned>, Trouble> {
        let choice = Choice { force: stored.planned.force.clone(), ..Choice::default() };
        match effect {
            PlannedEffect::Compose { location } => Ok(self.plan_compose(location, &choice).await?.1),
            PlannedEffect::Update { id, release, builds, groups, critpath, automatic } => {
                let update = Update {
                    id: id.clone(),
                    release: release.clone(),
                    builds: builds.clone(),
                    groups: (*critpath || !groups.is_empty()).then(|| groups.clone()),
                    automatic: *automatic,
                };
                self.plan_update(&update, &choice).await
            }
            _ => Err(Trouble::Refused("there is nothing to take apart".to_owned())),
        }
    }
}
