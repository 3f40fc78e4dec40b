//! The gate's sources, by their names.

use super::ports::{Facts, Reviews, Standing, Submitted, Told, Trouble};
use super::settings::Connection;
use assay_connect::gerrit::parse::ChangeAttr;
use assay_connect::gerrit::{
    Gerrit, GerritError, GerritOptions, HostKeys, Merging, RestLogin, RestOptions, SshOptions, SubmitOutcome,
};
use assay_connect::{Delivery, Reporter as _};
use assay_engine::gate::change::{ChangeFacts, Subject};
use assay_engine::gate::config::{ReportAction, normal_label};
use assay_engine::gate::ids::{ChangeId, Oid, Patchset, ProjectName, SourceName};
use assay_engine::gate::io::Report;
use assay_proto::clock::Clock;
use camino::{Utf8Path, Utf8PathBuf};
use std::collections::{BTreeMap, BTreeSet};
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
        for (name, prepared) in connections.prepare(settings)? {
            connections.put(name, prepared.gerrit);
        }
        Ok(connections)
    }

    /// Makes clients for these sources, all or none. None is in use yet.
    pub(crate) fn prepare(
        &self,
        wanted: &BTreeMap<SourceName, Connection>,
    ) -> Result<BTreeMap<SourceName, Prepared>, GerritError> {
        let prepare = |(name, connection): (&SourceName, &Connection)| {
            let files = secrets(connection);
            let gerrit = Gerrit::new(options(name, connection, &self.state), self.clock.clone())?;
            Ok((name.clone(), Prepared { gerrit, files }))
        };
        wanted.iter().map(prepare).collect()
    }

    /// Puts a client in the place of the one that has this name.
    pub(crate) fn put(&self, name: SourceName, gerrit: Gerrit) {
        self.gerrits.write().unwrap_or_else(PoisonError::into_inner).insert(name, gerrit);
    }

    /// Forgets a source.
    pub(crate) fn remove(&self, name: &SourceName) {
        self.gerrits.write().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// How changes of a project are merged; `None` if their source does not say.
    pub(crate) async fn merging(
        &self,
        source: &SourceName,
        project: &ProjectName,
    ) -> Result<Option<Merging>, Trouble> {
        let found = self.get(source)?.merging(project.as_str()).await;
        found.map_err(|error| Trouble(error.to_string()))
    }

    fn get(&self, name: &SourceName) -> Result<Gerrit, Trouble> {
        let missing =
            || Trouble(format!("there is no connection {name}; add [connection.{name}] to assay.toml"));
        let gerrits = self.gerrits.read().unwrap_or_else(PoisonError::into_inner);
        gerrits.get(name).cloned().ok_or_else(missing)
    }
}

/// A client that can be put in use.
pub(crate) struct Prepared {
    pub(crate) gerrit: Gerrit,
    /// What was in the files that the client was made of: with other contents it has to be made anew.
    pub(crate) files: Files,
}

/// The contents of files; none of one that cannot be read.
pub(crate) type Files = Vec<Option<Vec<u8>>>;

fn secrets(connection: &Connection) -> Files {
    let files =
        [&connection.password_file, &connection.token_file, &connection.ca_file, &connection.known_hosts];
    files.into_iter().flatten().map(|file| fs_err::read(file).ok()).collect()
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

    async fn open(&self, source: &SourceName, project: &ProjectName) -> Result<Vec<Patchset>, Trouble> {
        let found = self.get(source)?.query(&format!("project:\"{project}\" status:open")).await;
        let rows = match found {
            Ok(rows) => rows,
            Err(error) if error.is_temporary() => return Err(Trouble(error.to_string())),
            Err(error) => {
                tracing::warn!(%project, %error, "the open changes of a project cannot be listed");
                Vec::new()
            }
        };
        let newest = |row: &ChangeAttr| {
            let change = ChangeId { source: source.clone(), number: row.number };
            Some(Patchset { change, patchset: row.current_patchset.as_ref()?.number })
        };
        Ok(rows.iter().filter_map(newest).collect())
    }
}

#[async_trait::async_trait]
impl Reviews for Connections {
    async fn standing(&self, change: &ChangeId) -> Result<Option<Standing>, Trouble> {
        let found = self.get(&change.source)?.change_status(change.number).await;
        let found = found.map_err(|error| Trouble(error.to_string()))?;
        Ok(found.map(|found| Standing { status: found.status, patchset: found.patchset }))
    }

    async fn would_refuse(
        &self,
        patchset: &Patchset,
        merge: bool,
        granted: &BTreeSet<String>,
    ) -> Result<Option<String>, Trouble> {
        let gerrit = self.get(&patchset.change.source)?;
        let found = gerrit.would_refuse(patchset.change.number, patchset.patchset, merge, granted).await;
        found.map_err(|error| Trouble(error.to_string()))
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
        Ok(all_stand(labels, &votes))
    }

    async fn tell(&self, report: &Report, look: bool) -> Told {
        let ReportAction::Review { source, .. } = &report.action else {
            return Told::Never("only reviews can be told to a source of changes".to_owned());
        };
        let gerrit = match self.get(source) {
            Ok(gerrit) => gerrit,
            // It may come back with the next configuration.
            Err(Trouble(why)) => return Told::Later(why),
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

/// True if votes have what is wanted. Layouts write labels in lower case; of a zero nothing is kept.
fn all_stand(wanted: &[(String, i32)], votes: &[(String, i32)]) -> bool {
    let given = |label: &str| {
        let same = |(other, _): &&(String, i32)| normal_label(other) == normal_label(label);
        votes.iter().find(same).map_or(0, |(_, value)| *value)
    };
    wanted.iter().all(|(label, value)| given(label) == *value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use assay_engine::gate::ids::ItemId;
    use assay_proto::clock::SystemClock;

    fn connections(dir: &Utf8Path, settings: &BTreeMap<SourceName, Connection>) -> Connections {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        Connections::new(settings, dir, &clock).unwrap()
    }

    fn review() -> Report {
        let change = ChangeId { source: "gerrit".into(), number: 1 };
        let source = "gerrit".into();
        Report {
            id: (ItemId(1), 1),
            about: Subject::Change(Patchset { change, patchset: 1 }),
            project: "p".into(),
            pipeline: "gate".into(),
            action: ReportAction::Review { source, labels: Vec::new(), submit: false, flags: Vec::new() },
            message: "Build succeeded.".to_owned(),
        }
    }

    #[tokio::test]
    async fn what_is_told_to_a_source_that_is_not_there_waits_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(dir.path()).unwrap();
        let told = connections(dir, &BTreeMap::new()).tell(&review(), false).await;
        assert!(matches!(&told, Told::Later(why) if why.contains("[connection.gerrit]")), "{told:?}");
    }

    #[test]
    fn clients_are_made_all_or_none_and_anew_with_another_password() {
        let dir = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(dir.path()).unwrap();
        let (first, second) = (dir.join("first"), dir.join("second"));
        let connection = |file: &Utf8Path| Connection {
            host: "127.0.0.1".to_owned(),
            port: 29418,
            user: "zuul".to_owned(),
            url: Some("http://127.0.0.1:1".to_owned()),
            password_file: Some(file.to_owned()),
            ..Connection::default()
        };
        fs_err::write(&first, "one").unwrap();
        let mut wanted = BTreeMap::from([("a".into(), connection(&first))]);
        let connections = connections(dir, &wanted);
        let files = |wanted: &BTreeMap<SourceName, Connection>| {
            connections.prepare(wanted).map(|all| all[&SourceName::from("a")].files.clone())
        };
        let before = files(&wanted).unwrap();
        assert_eq!(files(&wanted).unwrap(), before);
        fs_err::write(&first, "two").unwrap();
        assert_ne!(files(&wanted).unwrap(), before);
        wanted.insert("b".into(), connection(&second));
        assert!(files(&wanted).is_err(), "the password of the second is not there");
        assert!(connections.get(&"a".into()).is_ok() && connections.get(&"b".into()).is_err());
    }

    #[test]
    fn votes_stand_whatever_the_case_of_their_labels() {
        let votes = |list: &[(&str, i32)]| -> Vec<(String, i32)> {
            list.iter().map(|(label, value)| ((*label).to_owned(), *value)).collect()
        };
        let given = votes(&[("Verified", 2), ("Code-Review", 1)]);
        for (wanted, stand) in [
            (&[("Verified", 2)][..], true),
            (&[("verified", 2)], true),
            (&[("code review", 1), ("VERIFIED", 2)], true),
            (&[("verified", 1)], false),
            (&[("Workflow", 0)], true),
            (&[("Workflow", 1)], false),
            (&[("Verified", 0)], false),
            (&[], true),
        ] {
            assert_eq!(all_stand(&votes(wanted), &given), stand, "{wanted:?}");
        }
    }
}
