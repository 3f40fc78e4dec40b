//! The catalog: what products are scheduled from. All of it is in memory; changes are stored first, whole or not at all.

use crate::app::App;
use assay_store::{
    AuditEvent, CatalogChange, CatalogRow, EntryId, EntryKind, Epoch, Group, JobTemplate, Machine,
    ParentGroup, Product, SettingsMap, Store, StoreError, TestSuite,
};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

/// Everything, by kind and number.
#[derive(Debug, Clone, Default)]
pub(crate) struct Catalog {
    pub(crate) machines: BTreeMap<i64, Arc<Machine>>,
    pub(crate) suites: BTreeMap<i64, Arc<TestSuite>>,
    pub(crate) products: BTreeMap<i64, Arc<Product>>,
    pub(crate) templates: BTreeMap<i64, Arc<JobTemplate>>,
    pub(crate) groups: BTreeMap<i64, Arc<Group>>,
    pub(crate) parents: BTreeMap<i64, Arc<ParentGroup>>,
    /// Settings of all jobs, as `assay.toml` has them.
    pub(crate) global: Arc<SettingsMap>,
}

impl Catalog {
    fn put(&mut self, row: CatalogRow) {
        match row {
            CatalogRow::Machine(row) => drop(self.machines.insert(row.id, Arc::new(row))),
            CatalogRow::TestSuite(row) => drop(self.suites.insert(row.id, Arc::new(row))),
            CatalogRow::Product(row) => drop(self.products.insert(row.id, Arc::new(row))),
            CatalogRow::JobTemplate(row) => drop(self.templates.insert(row.id, Arc::new(row))),
            CatalogRow::Group(row) => drop(self.groups.insert(row.id, Arc::new(row))),
            CatalogRow::ParentGroup(row) => drop(self.parents.insert(row.id, Arc::new(row))),
        }
    }

    fn remove(&mut self, entry: EntryId) {
        match entry.kind {
            EntryKind::Machine => drop(self.machines.remove(&entry.id)),
            EntryKind::TestSuite => drop(self.suites.remove(&entry.id)),
            EntryKind::Product => drop(self.products.remove(&entry.id)),
            EntryKind::JobTemplate => drop(self.templates.remove(&entry.id)),
            EntryKind::Group => drop(self.groups.remove(&entry.id)),
            EntryKind::ParentGroup => drop(self.parents.remove(&entry.id)),
        }
    }

    /// The group of that name; of several the one without a parent.
    pub(crate) fn group_named(&self, name: &str) -> Option<&Arc<Group>> {
        let named = self.groups.values().filter(|group| group.name == name);
        named.min_by_key(|group| (group.parent.is_some(), group.id))
    }

    pub(crate) fn machine_named(&self, name: &str) -> Option<&Arc<Machine>> {
        self.machines.values().find(|machine| machine.name == name)
    }

    pub(crate) fn suite_named(&self, name: &str) -> Option<&Arc<TestSuite>> {
        self.suites.values().find(|suite| suite.name == name)
    }

    pub(crate) fn product_like(
        &self,
        distri: &str,
        version: &str,
        arch: &str,
        flavor: &str,
    ) -> Option<&Arc<Product>> {
        self.products.values().find(|product| {
            (
                product.distri.as_str(),
                product.version.as_str(),
                product.arch.as_str(),
                product.flavor.as_str(),
            ) == (distri, version, arch, flavor)
        })
    }
}

/// A change that is being put together.
pub(crate) struct Draft {
    pub(crate) catalog: Catalog,
    last: BTreeMap<EntryKind, i64>,
    changes: Vec<CatalogChange>,
}

impl Draft {
    /// One that is never stored; new entries have numbers that no stored one has.
    pub(crate) fn of(catalog: Catalog) -> Self {
        let most = |kind: EntryKind| (kind, i64::MAX / 2);
        let last = [EntryKind::JobTemplate, EntryKind::Group].map(most).into();
        Self { catalog, last, changes: Vec::new() }
    }

    /// A number that no entry of the kind ever had.
    pub(crate) fn new_id(&mut self, kind: EntryKind) -> i64 {
        let last = self.last.entry(kind).or_insert(0);
        *last += 1;
        *last
    }

    pub(crate) fn put(&mut self, row: CatalogRow) {
        self.catalog.put(row.clone());
        self.changes.push(CatalogChange::put(row));
    }

    pub(crate) fn remove(&mut self, kind: EntryKind, id: i64) {
        let entry = EntryId { kind, id };
        self.catalog.remove(entry);
        self.changes.push(CatalogChange::Remove(entry));
    }
}

/// How long what was done may wait for more of the kind before it is stored.
const MOMENT: Duration = Duration::from_millis(50);

/// The catalog and the way to change it.
pub(crate) struct Library {
    store: Arc<dyn Store>,
    epoch: Epoch,
    now: RwLock<Arc<Catalog>>,
    /// One change at a time; the last numbers given out.
    changing: tokio::sync::Mutex<BTreeMap<EntryKind, i64>>,
    /// What was done and is not stored yet.
    noted: Mutex<Vec<AuditEvent>>,
    /// Held by whoever stores them.
    noting: tokio::sync::Mutex<()>,
    /// For whoever decides by templates.
    pub(crate) changed: tokio::sync::Notify,
}

impl Library {
    pub(crate) async fn load(store: Arc<dyn Store>, epoch: Epoch) -> Result<Self, StoreError> {
        let (rows, last) = store.knowledge().catalog().await?;
        let mut catalog = Catalog::default();
        for row in rows {
            catalog.put(row);
        }
        let now = RwLock::new(Arc::new(catalog));
        let changing = tokio::sync::Mutex::new(last);
        let (noted, noting, changed) = Default::default();
        Ok(Self { store, epoch, now, changing, noted, noting, changed })
    }

    /// As it is now.
    pub(crate) fn now(&self) -> Arc<Catalog> {
        self.now.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts settings of all jobs in force.
    pub(crate) fn set_global(&self, global: SettingsMap) {
        let mut now = self.now.write().unwrap_or_else(PoisonError::into_inner);
        *now = Arc::new(Catalog { global: Arc::new(global), ..Catalog::clone(&now) });
    }

    /// Stores what `edit` makes of the catalog. If `edit` fails nothing is changed.
    pub(crate) async fn change<T, E: From<StoreError>>(
        &self,
        edit: impl FnOnce(&mut Draft) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut last = self.changing.lock().await;
        let catalog = Catalog::clone(&self.now());
        let mut draft = Draft { catalog, last: last.clone(), changes: Vec::new() };
        let made = edit(&mut draft)?;
        if !draft.changes.is_empty() {
            self.store.knowledge().change_catalog(self.epoch, &draft.changes).await?;
        }
        *last = draft.last;
        let mut now = self.now.write().unwrap_or_else(PoisonError::into_inner);
        // Which may have been read anew meanwhile.
        draft.catalog.global = now.global.clone();
        *now = Arc::new(draft.catalog);
        self.changed.notify_one();
        Ok(made)
    }

    /// What `edit` would come to. Nothing is changed.
    pub(crate) async fn preview<T, E>(&self, edit: impl FnOnce(&mut Draft) -> Result<T, E>) -> Result<T, E> {
        let last = self.changing.lock().await;
        let catalog = Catalog::clone(&self.now());
        edit(&mut Draft { catalog, last: last.clone(), changes: Vec::new() })
    }

    /// The term in which this server writes.
    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch
    }
}

impl App {
    /// Notes who did what, beside the request: what comes within a moment is stored at once.
    pub(crate) fn audit(self: &Arc<Self>, user: &str, event: &str, data: Value) {
        let event = AuditEvent {
            id: 0,
            at: self.clock.now(),
            user: user.to_owned(),
            event: event.to_owned(),
            data: data.to_string(),
        };
        let noted = || self.library.noted.lock().unwrap_or_else(PoisonError::into_inner);
        let first = {
            let mut noted = noted();
            noted.push(event);
            noted.len() == 1
        };
        if !first {
            return; // the first one's task takes it along
        }
        let app = self.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = app.shutdown.cancelled() => {}
                () = tokio::time::sleep(MOMENT) => {}
            }
            app.store_noted().await;
        });
    }

    /// Stores what was noted up to now: whoever reads the log finds what was done before.
    pub(crate) async fn store_noted(&self) {
        let _one_after_the_other = self.library.noting.lock().await;
        let events = std::mem::take(&mut *self.library.noted.lock().unwrap_or_else(PoisonError::into_inner));
        if events.is_empty() {
            return;
        }
        if let Err(error) = self.store.knowledge().audit(self.library.epoch(), &events).await {
            tracing::warn!(%error, events = events.len(), "who did what was not noted");
        }
    }
}
