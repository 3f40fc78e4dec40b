//! A job's settings as it keeps them. They never change, and jobs that are posted together have most of them in common:
//! what is equal is there once, so that a hundred thousand jobs can wait in little memory.

use crate::settings::{ClassSet, Setting, Settings};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;

#[derive(Debug, PartialEq, Eq)]
struct Entry {
    key: Box<str>,
    setting: Setting,
}

/// Settings that do not change any more. A copy of them costs nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct JobSettings(
    /// By name.
    Arc<[Arc<Entry>]>,
);

impl Default for JobSettings {
    fn default() -> Self {
        Settings::default().into()
    }
}

impl fmt::Debug for JobSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl From<Settings> for JobSettings {
    fn from(settings: Settings) -> Self {
        let entry = |(key, setting): (String, Setting)| Arc::new(Entry { key: key.into(), setting });
        Self(settings.0.into_iter().map(entry).collect())
    }
}

impl JobSettings {
    /// Names and settings, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Setting)> {
        self.0.iter().map(|entry| (&*entry.key, &entry.setting))
    }

    /// The setting of this name.
    pub fn setting(&self, key: &str) -> Option<&Setting> {
        let place = self.0.binary_search_by(|entry| (*entry.key).cmp(key)).ok()?;
        self.0.get(place).map(|entry| &entry.setting)
    }

    /// As [`Settings::get`].
    pub fn get(&self, key: &str) -> Option<&str> {
        self.setting(key).map(|setting| setting.value.as_str()).filter(|value| !value.is_empty())
    }

    /// As [`Settings::plain`].
    pub fn plain(&self) -> BTreeMap<String, String> {
        self.iter().map(|(key, setting)| (key.to_owned(), setting.value.clone())).collect()
    }

    /// To make others of them.
    pub fn to_settings(&self) -> Settings {
        Settings(self.iter().map(|(key, setting)| (key.to_owned(), setting.clone())).collect())
    }
}

impl Serialize for JobSettings {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for JobSettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Settings::deserialize(deserializer).map(Self::from)
    }
}

/// Values of one name, and sets of classes, that are remembered.
const RECENT: usize = 16;
/// Names that are remembered.
const NAMES: usize = 1_000;

/// Finds in settings what was in those of the jobs shortly before, and lets them share it.
#[derive(Debug, Clone, Default)]
pub struct Sharer {
    entries: BTreeMap<Box<str>, VecDeque<Arc<Entry>>>,
    classes: VecDeque<ClassSet>,
}

impl Sharer {
    /// The same settings.
    pub fn settings(&mut self, settings: &JobSettings) -> JobSettings {
        JobSettings(settings.0.iter().map(|entry| self.entry(entry)).collect())
    }

    /// The same classes.
    pub fn classes(&mut self, classes: &ClassSet) -> ClassSet {
        remembered(&mut self.classes, classes)
    }

    fn entry(&mut self, entry: &Arc<Entry>) -> Arc<Entry> {
        if let Some(recent) = self.entries.get_mut(&entry.key) {
            return remembered(recent, entry);
        }
        if self.entries.len() >= NAMES {
            self.entries.clear();
        }
        self.entries.insert(entry.key.clone(), VecDeque::from([entry.clone()]));
        entry.clone()
    }
}

/// The equal one of `recent`, which is `new` from now on if there was none.
fn remembered<T: Clone + PartialEq>(recent: &mut VecDeque<T>, new: &T) -> T {
    if let Some(same) = recent.iter().find(|one| *one == new) {
        return same.clone();
    }
    if recent.len() >= RECENT {
        recent.pop_front();
    }
    recent.push_back(new.clone());
    new.clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_equal_is_there_once() {
        let mut sharer = Sharer::default();
        let mut job = |test: &str| {
            let pairs = [("DISTRI", "d"), ("TEST", test), ("WORKER_CLASS", "a,b")];
            let settings = JobSettings::from(Settings::from_request(pairs));
            let shared = sharer.settings(&settings);
            assert_eq!(shared, settings);
            shared
        };
        let (one, two) = (job("one"), job("two"));
        let same = |at: usize| Arc::ptr_eq(&one.0[at], &two.0[at]);
        assert_eq!((same(0), same(1), same(2)), (true, false, true));
        assert_eq!((one.get("TEST"), two.get("TEST"), two.get("MACHINE")), (Some("one"), Some("two"), None));
        for number in 0..3 * NAMES {
            let settings = Settings::from_request([(format!("K{number}"), "v"), ("TEST".into(), "t")]).into();
            assert_eq!(sharer.settings(&settings), settings);
        }
        assert!(sharer.entries.len() <= NAMES);
        for number in 0..3 * RECENT {
            sharer.settings(&Settings::from_request([("TEST", number.to_string())]).into());
        }
        assert!(sharer.entries["TEST"].len() <= RECENT);
    }

    #[test]
    fn text_of_settings_is_the_same_in_both_forms() {
        let mut settings = Settings::from_request([("B", "2"), ("A", ""), ("TEST", "t")]);
        let over = Setting::new("3", crate::settings::Provenance::Machine("m".into()));
        settings.0.insert("C".into(), over.clone().overriding(settings.0["B"].clone()));
        let text = serde_json::to_string(&settings).expect("JSON");
        let kept: JobSettings = serde_json::from_str(&text).expect("settings");
        assert_eq!(serde_json::to_string(&kept).expect("JSON"), text);
        assert_eq!((kept.to_settings(), kept.plain()), (settings.clone(), settings.plain()));
        assert_eq!(kept.get("A"), None, "an empty value is none");
        assert_eq!(kept.setting("C"), settings.0.get("C"));
    }
}
