//! Composes and updates: what is posted for them is looked up outside and in the configuration.

use super::executor::Trouble;
use crate::app::App;
use assay_connect::events::json::Fetcher;
use assay_engine::compose::{Choice, Compose, Schedule, Update};
use assay_engine::rules::{Planned, PlannedEffect};
use assay_store::StoredEffect;

const DAY: i64 = 86_400_000_000;

impl App {
    /// The mapping that is in force, read anew each time.
    pub(crate) fn schedule(&self) -> Result<Schedule, String> {
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
        let schedule = self.schedule().map_err(Trouble::Refused)?;
        let fetcher = Fetcher::new(location).map_err(Trouble::Refused)?;
        let base = location.trim_end_matches('/');
        let get = |file: &str| {
            let url = format!("{base}/metadata/{file}");
            let fetcher = &fetcher;
            async move {
                fetcher.get(&url).await.map_err(|error| {
                    if error.for_good { Trouble::Refused(error.why) } else { Trouble::Later(error.why) }
                })
            }
        };
        let compose = Compose::read(&get("composeinfo.json").await?, &get("images.json").await?);
        let compose = compose.map_err(|why| Trouble::Refused(format!("{base}: {why}")))?;
        let planned = schedule.compose(&compose, base, choice, self.day());
        Ok((compose, planned))
    }

    /// What is posted for an update.
    pub(crate) fn plan_update(&self, update: &Update, choice: &Choice) -> Result<Vec<Planned>, Trouble> {
        let schedule = self.schedule().map_err(Trouble::Refused)?;
        Ok(schedule.update(update, choice, self.day()))
    }

    /// The parts of an effect that stands for several.
    pub(crate) async fn expand(
        &self,
        stored: &StoredEffect,
        effect: &PlannedEffect,
    ) -> Result<Vec<Planned>, Trouble> {
        // A replay by force is another time.
        let force = stored.planned.key.rsplit_once('#').map(|(_, generation)| generation.to_owned());
        let choice = Choice { force, ..Choice::default() };
        match effect {
            PlannedEffect::Compose { location } => Ok(self.plan_compose(location, &choice).await?.1),
            PlannedEffect::Update { id, release, builds, groups } => {
                let update = Update {
                    id: id.clone(),
                    release: release.clone(),
                    builds: builds.clone(),
                    groups: (!groups.is_empty()).then(|| groups.clone()),
                };
                self.plan_update(&update, &choice)
            }
            _ => Err(Trouble::Refused("there is nothing to take apart".to_owned())),
        }
    }
}
