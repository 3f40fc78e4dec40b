//! The gate's sources, by their names.

use super::ports::{Facts, Reviews, Standing, Submitted, Told, Trouble};
use super::settings::Connection;
use assay_connect::gerrit::{
    Gerrit, GerritError, GerritOptions, HostKeys, RestLogin, RestOptions, SshOptions, SubmitOutcome,
};
use assay_connect::{Delivery, Reporter as _};
use assay_engine::gate::change::{ChangeFacts, Subject};
use assay_engine::gate::config::ReportAction;
use assay_engine::gate::ids::{ChangeId, Oid, Patchset, SourceName};
use assay_engine::gate::io::Report;
use assay_proto::clock::Clock;
use camino::{Utf8Path, Utf8PathBuf};
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

/// All sources. Clones are the same sources, also after one of them was replaced.
#[derive(Clone)]
pub(crate) struct Connections {
    gerrits: Arc<RwLock<BTreeMap<SourceName, Gerrit>>>,
    state: Utf8PathBuf,
    clock: Arc<dyn Clock>,
}

impl Connections {
    /// Prepares them; nothing is connected yet. `state` is where keys of hosts are kept that nobody has pinned.
    pub(crate) fn new(
        settings: &BTreeMap<SourceName, Connection>,
        state: &Utf8Path,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self, GerritError> {
        let connections = Self { gerrits: Arc::default(), state: state.to_owned(), clock: clock.clone() };
        for (name, connection) in settings {
            connections.replace(name, connection)?;
        }
        Ok(connections)
    }

    /// Puts a source in the place of the one that has this name.
    pub(crate) fn replace(&self, name: &SourceName, connection: &Connection) -> Result<Gerrit, GerritError> {
        let gerrit = Gerrit::new(options(name, connection, &self.state), self.clock.clone())?;
        let mut gerrits = self.gerrits.write().unwrap_or_else(PoisonError::into_inner);
        gerrits.insert(name.clone(), gerrit.clone());
        Ok(gerrit)
    }

    /// Forgets a source.
    pub(crate) fn remove(&self, name: &SourceName) {
        self.gerrits.write().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    fn get(&self, name: &SourceName) -> Result<Gerrit, Trouble> {
        let missing =
            || Trouble(format!("there is no connection {name}; add [connection.{name}] to assay.toml"));
        let gerrits = self.gerrits.read().unwrap_or_else(PoisonError::into_inner);
        gerrits.get(name).cloned().ok_or_else(missing)
    }
}

fn options(name: &SourceName, connection: &Connection, state: &Utf8Path) -> GerritOptions {
    let host_keys = match &connection.known_hosts {
        Some(file) => HostKeys::Pinned(file.clone()),
        None => HostKeys::TrustOnFirstUse(state.join("known_hosts")),
    };
    let mut ssh = SshOptions::new(&connection.host, &connection.user, connection.key.clone(), host_keys);
    ssh.port = connection.port;
    let mut options = GerritOptions::new(name.as_str(), ssh);
    options.gather.hosts.clone_from(&connection.hosts);
    options.rest = connection.url.as_ref().map(|url| {
        let login = match (&connection.password_file, &connection.token_file) {
            (Some(file), _) => RestLogin::Basic(connection.user.clone(), file.clone()),
            (None, Some(file)) => RestLogin::Bearer(file.clone()),
            (None, None) => RestLogin::Anonymous,
        };
        let mut rest = RestOptions::new(url, login);
        rest.ca_file.clone_from(&connection.ca_file);
        rest
    });
    options
}

#[async_trait::async_trait]
impl Facts for Connections {
    async fn facts(&self, change: &ChangeId) -> Result<Vec<ChangeFacts>, Trouble> {
        let gathered = self.get(&change.source)?.facts(change.number).await;
        let gathered = gathered.map_err(|error| Trouble(error.to_string()))?;
        if gathered.cut_off {
            tracing::warn!(%change, "the change has more relatives than are looked at");
        }
        Ok(gathered.changes)
    }
}

#[async_trait::async_trait]
impl Reviews for Connections {
    async fn standing(&self, change: &ChangeId) -> Result<Standing, Trouble> {
        let found = self.get(&change.source)?.change_status(change.number).await;
        match found.map_err(|error| Trouble(error.to_string()))? {
            Some(found) => Ok(Standing { status: found.status, patchset: found.patchset }),
            None => Err(Trouble(format!("{} does not know change {change}", change.source))),
        }
    }

    async fn submit(&self, patchset: &Patchset, revision: &Oid) -> Submitted {
        let gerrit = match self.get(&patchset.change.source) {
            Ok(gerrit) => gerrit,
            Err(Trouble(why)) => return Submitted::InDoubt(why),
        };
        match gerrit.submit(patchset.change.number, patchset.patchset, revision).await {
            SubmitOutcome::Submitted | SubmitOutcome::AlreadyMerged => Submitted::Done,
            SubmitOutcome::Refused(why) => Submitted::Refused(why),
            SubmitOutcome::InDoubt(why) => Submitted::InDoubt(why),
        }
    }

    async fn stands(&self, report: &Report) -> Result<bool, Trouble> {
        let (Subject::Change(patchset), ReportAction::Review { source, labels, .. }) =
            (&report.about, &report.action)
        else {
            return Ok(true);
        };
        let votes = self.get(source)?.own_votes(patchset.change.number, patchset.patchset).await;
        let votes = votes.map_err(|error| Trouble(error.to_string()))?;
        Ok(labels.iter().all(|wanted| votes.contains(wanted)))
    }

    async fn tell(&self, report: &Report, look: bool) -> Told {
        let ReportAction::Review { source, .. } = &report.action else {
            return Told::Never("only reviews can be told to a source of changes".to_owned());
        };
        let gerrit = match self.get(source) {
            Ok(gerrit) => gerrit,
            Err(Trouble(why)) => return Told::Never(why),
        };
        if look {
            match gerrit.is_delivered(report).await {
                Ok(true) => return Told::Done(None),
                Ok(false) => {}
                Err(why) => return Told::Later(why),
            }
        }
        match gerrit.report(report).await {
            Delivery::Delivered => Told::Done(None),
            Delivery::Refused(why) => Told::Never(why),
            Delivery::NotNow(why) | Delivery::InDoubt(why) => Told::Later(why),
        }
    }
}
