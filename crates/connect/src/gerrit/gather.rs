//! The facts of a change with everything that it needs and everything that needs it.
//!
//! The relatives are looked up level by level, one query for all of a level. A chain that turns out to be long is
//! fetched in one go: such chains are one author's, on one branch.

use super::cache::Told;
use super::convert;
use super::error::GerritError;
use super::parse::ChangeAttr;
use super::{Chains, Gerrit, Shared};
use crate::pace::Backoff;
use assay_engine::gate::change::{ChangeFacts, ChangeStatus, DependsOn};
use assay_engine::gate::config::EventKind;
use assay_engine::gate::ids::Patchset;
use assay_engine::gate::io::Event;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How far relatives are looked for.
#[derive(Debug, Clone, PartialEq)]
pub struct GatherOptions {
    /// The longest way from the change.
    pub depth: usize,
    /// The most changes.
    pub most: usize,
    /// How long an answer of Gerrit may be used again when no event says otherwise.
    pub life: Duration,
    /// How long to wait when Gerrit's index does not show yet what an event told, and how often.
    pub lag: Backoff,
    /// See `lag`.
    pub lag_tries: u32,
    /// Other names of this Gerrit in addresses of `Depends-On` footers: `review.example.org`.
    pub hosts: Vec<String>,
}

impl Default for GatherOptions {
    fn default() -> Self {
        Self {
            depth: 200,
            most: 1000,
            life: Duration::from_secs(10),
            lag: LAG,
            lag_tries: 4,
            hosts: Vec::new(),
        }
    }
}

/// Events come a moment before queries know of them.
const LAG: Backoff =
    Backoff { first: Duration::from_millis(100), factor: 2.0, most: Duration::from_secs(2), jitter: 0.2 };

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Gathered {
    /// The change first, if Gerrit knows it, then its relatives.
    pub changes: Vec<ChangeFacts>,
    /// There are more relatives than [`GatherOptions`] allows.
    pub cut_off: bool,
}

/// Terms of one query; Gerrit takes 1,000, and ours are long.
const TERMS: usize = 40;
/// From this level on a chain is long.
const LONG: usize = 3;

/// One thing to ask.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Ask {
    /// A change by number.
    Number(u64),
    /// Changes by Change-Id.
    Id(String),
    /// Open changes that name this one.
    Mentions(u64),
}

/// A search under way.
struct Search<'a> {
    gerrit: &'a Shared,
    /// What is known, from Gerrit or memory.
    told: BTreeMap<u64, Told>,
    /// Changes with a Change-Id.
    ids: BTreeMap<String, BTreeSet<u64>>,
    /// Changes that name a change.
    mentions: BTreeMap<u64, BTreeSet<u64>>,
    /// What was told of whole chains (REST).
    chains: Chains,
    /// What is part of the answer, and whether what needs it is too.
    reached: BTreeMap<u64, bool>,
}

impl Gerrit {
    /// The facts of a change, of what it needs while that is unmerged, and of what needs it.
    pub async fn facts(&self, number: u64) -> Result<Gathered, GerritError> {
        let mut search = Search {
            gerrit: &self.shared,
            told: BTreeMap::new(),
            ids: BTreeMap::new(),
            mentions: BTreeMap::new(),
            chains: Chains::new(),
            reached: BTreeMap::new(),
        };
        search.run(number).await
    }

    /// The facts that an event is to be judged by: asked again, a few times, while Gerrit's index lags behind the event.
    pub async fn facts_of(&self, event: &Event) -> Result<Gathered, GerritError> {
        let Some(patchset) = &event.change else { return Ok(Gathered::default()) };
        let number = patchset.change.number;
        let options = &self.shared.options.gather;
        let mut tries = 0;
        loop {
            let gathered = self.facts(number).await?;
            let shows = gathered.changes.first().is_some_and(|facts| shows(facts, event));
            if shows || tries >= options.lag_tries {
                return Ok(gathered);
            }
            tries += 1;
            tokio::time::sleep(options.lag.draw(tries)).await;
            self.shared.cache().void(number);
        }
    }

    /// The facts of these changes and their relatives, with nothing from memory.
    pub async fn refresh(&self, numbers: &[u64]) -> Result<Vec<ChangeFacts>, GerritError> {
        for number in numbers {
            self.shared.cache().void(*number);
        }
        let mut all: BTreeMap<u64, ChangeFacts> = BTreeMap::new();
        for number in numbers {
            for facts in self.facts(*number).await?.changes {
                all.insert(facts.id.number, facts);
            }
        }
        Ok(all.into_values().collect())
    }
}

impl Search<'_> {
    async fn run(&mut self, root: u64) -> Result<Gathered, GerritError> {
        let mut level = BTreeMap::from([(root, true)]);
        let mut cut_off = false;
        for depth in 0.. {
            if level.is_empty() {
                break;
            }
            if depth > self.gerrit.options.gather.depth
                || self.reached.len() >= self.gerrit.options.gather.most
            {
                cut_off = true;
                break;
            }
            self.load(level.iter().map(|(number, down)| (*number, *down))).await?;
            for (number, down) in &level {
                *self.reached.entry(*number).or_default() |= down;
            }
            if depth >= LONG {
                self.load_chain(&level).await?;
            }
            level = self.next(&level).await?;
        }
        Ok(Gathered { changes: self.answer(root), cut_off })
    }

    /// Makes sure that the changes are known, if Gerrit knows them.
    async fn load(&mut self, numbers: impl Iterator<Item = (u64, bool)>) -> Result<(), GerritError> {
        let mut asks = BTreeSet::new();
        for (number, down) in numbers {
            let enough = |told: &Told| told.whole || !down;
            if self.told.get(&number).is_some_and(enough) {
                continue;
            }
            let now = self.gerrit.clock.now();
            let remembered = self.gerrit.cache().change(number, now).filter(enough);
            match remembered {
                Some(told) => {
                    self.told.insert(number, told);
                }
                None => {
                    asks.insert(Ask::Number(number));
                }
            }
        }
        self.ask(asks).await
    }

    /// The level behind this one.
    async fn next(&mut self, level: &BTreeMap<u64, bool>) -> Result<BTreeMap<u64, bool>, GerritError> {
        let open: Vec<(u64, bool)> = level
            .iter()
            .map(|(number, down)| (*number, *down))
            .filter(|(number, _)| self.is_open(*number))
            .collect();
        self.search(&open).await?;
        let mut next: BTreeMap<u64, bool> = BTreeMap::new();
        for (number, down) in open {
            let Some(told) = self.told.get(&number).cloned() else { continue };
            for need in self.needs(&told.change) {
                next.entry(need).or_default();
            }
            if down {
                let children = told.change.needed_by.iter().map(|child| child.number);
                let named = self.mentions.get(&number).into_iter().flatten().copied();
                for other in children.chain(named) {
                    next.insert(other, true);
                }
            }
        }
        next.retain(|number, down| match self.reached.get(number) {
            None => true,
            Some(reached) => *down && !reached,
        });
        Ok(next)
    }

    fn is_open(&self, number: u64) -> bool {
        self.told.get(&number).is_some_and(|told| convert::status(&told.change).is_open())
    }

    /// Asks who has the Change-Ids that these changes need, and who names them.
    async fn search(&mut self, changes: &[(u64, bool)]) -> Result<(), GerritError> {
        let now = self.gerrit.clock.now();
        let mut asks = BTreeSet::new();
        for (number, down) in changes {
            let Some(told) = self.told.get(number) else { continue };
            for on in footers(&told.change) {
                if let DependsOn::ChangeId { id } = on
                    && !self.ids.contains_key(&id)
                {
                    match self.gerrit.cache().with_id(&id, now) {
                        Some(found) => drop(self.ids.insert(id, found)),
                        None => drop(asks.insert(Ask::Id(id))),
                    }
                }
            }
            if *down && !self.mentions.contains_key(number) {
                match self.gerrit.cache().mentions(*number, now) {
                    Some(found) => drop(self.mentions.insert(*number, found)),
                    None => drop(asks.insert(Ask::Mentions(*number))),
                }
            }
        }
        self.ask(asks).await
    }

    /// Everything that a change needs, by git and by footers.
    fn needs(&self, change: &ChangeAttr) -> Vec<u64> {
        let mut needs: Vec<u64> = change.depends_on.iter().map(|parent| parent.number).collect();
        for on in footers(change) {
            match on {
                DependsOn::ChangeId { id } => needs.extend(self.ids.get(&id).into_iter().flatten()),
                DependsOn::Url { url, number } if self.gerrit.is_ours(&url) => needs.push(number),
                DependsOn::Url { .. } => {}
            }
        }
        needs
    }

    /// Asks, in as few queries as possible, and sorts in what comes.
    async fn ask(&mut self, asks: BTreeSet<Ask>) -> Result<(), GerritError> {
        let asks: Vec<Ask> = asks.into_iter().collect();
        for some in asks.chunks(TERMS) {
            let (numbers, searches): (Vec<&Ask>, Vec<&Ask>) =
                some.iter().partition(|ask| !matches!(ask, Ask::Mentions(_)));
            let mut terms: Vec<String> = numbers.into_iter().flat_map(|ask| self.terms(ask)).collect();
            let mentions: Vec<String> = searches.into_iter().flat_map(|ask| self.terms(ask)).collect();
            if !mentions.is_empty() {
                terms.push(format!("(status:open ({}))", mentions.join(" OR ")));
            }
            if terms.is_empty() {
                continue;
            }
            let epoch = self.gerrit.cache().epoch();
            let at = self.gerrit.clock.now();
            let rows = self.fetch(&terms.join(" OR ")).await?;
            for ask in some {
                self.sort_in(ask, &rows, epoch, at);
            }
        }
        Ok(())
    }

    fn terms(&self, ask: &Ask) -> Vec<String> {
        match ask {
            Ask::Number(number) => vec![format!("change:{number}")],
            Ask::Id(id) => vec![format!("change:{id}")],
            Ask::Mentions(number) => {
                let Some(told) = self.told.get(number) else { return Vec::new() };
                let mut terms: Vec<String> = Vec::new();
                terms.extend(told.change.change_id.as_ref().map(|id| format!("message:{id}")));
                let addresses = self.gerrit.addresses(&told.change);
                terms.extend(addresses.into_iter().map(|address| format!("message:\"{address}\"")));
                terms
            }
        }
    }

    /// Rows of a query with their relatives, put into memory.
    async fn fetch(&mut self, query: &str) -> Result<Vec<u64>, GerritError> {
        let epoch = self.gerrit.cache().epoch();
        let at = self.gerrit.clock.now();
        let rows = self.gerrit.rows_with_relatives(query, &mut self.chains).await?;
        let mut numbers = Vec::with_capacity(rows.len());
        for (change, whole) in rows {
            let told = Told { change: change.into(), at, whole };
            numbers.push(told.change.number);
            self.gerrit.cache().put(epoch, told.clone());
            self.told.insert(told.change.number, told);
        }
        Ok(numbers)
    }

    fn sort_in(&mut self, ask: &Ask, rows: &[u64], epoch: u64, at: assay_engine::ids::Timestamp) {
        let told = &self.told;
        let changes = rows.iter().filter_map(|number| told.get(number)).map(|told| &told.change);
        match ask {
            Ask::Number(_) => {}
            Ask::Id(id) => {
                let has = |change: &&std::sync::Arc<ChangeAttr>| {
                    change.change_id.as_ref().is_some_and(|own| own.eq_ignore_ascii_case(id))
                };
                let found: BTreeSet<u64> = changes.filter(has).map(|change| change.number).collect();
                self.gerrit.cache().put_id(epoch, id, at, found.clone());
                self.ids.insert(id.clone(), found);
            }
            Ask::Mentions(number) => {
                let Some(named) = told.get(number).map(|told| told.change.clone()) else { return };
                let names = |change: &ChangeAttr| {
                    footers(change).iter().any(|on| match on {
                        DependsOn::ChangeId { id } => {
                            named.change_id.as_ref().is_some_and(|own| own.eq_ignore_ascii_case(id))
                        }
                        DependsOn::Url { url, number: other } => other == number && self.gerrit.is_ours(url),
                    })
                };
                let found: BTreeSet<u64> = changes
                    .filter(|change| change.number != *number && convert::status(change).is_open())
                    .filter(|change| names(change))
                    .map(|change| change.number)
                    .collect();
                self.gerrit.cache().put_mentions(epoch, *number, at, found.clone());
                self.mentions.insert(*number, found);
            }
        }
    }

    /// Fetches what a long chain consists of: the open changes of its author on its branch.
    async fn load_chain(&mut self, level: &BTreeMap<u64, bool>) -> Result<(), GerritError> {
        let mut queries = BTreeSet::new();
        for number in level.keys() {
            let Some(told) = self.told.get(number).filter(|told| told.whole) else { continue };
            let ahead = told.change.depends_on.iter().chain(&told.change.needed_by);
            let unknown = |number: u64| {
                !self.told.contains_key(&number)
                    && self.gerrit.cache().change(number, self.gerrit.clock.now()).is_none()
            };
            let owner = told.change.owner.username.as_ref().or(told.change.owner.email.as_ref());
            if let Some(owner) = owner.filter(|_| ahead.into_iter().any(|other| unknown(other.number))) {
                let ChangeAttr { project, branch, .. } = told.change.as_ref();
                queries.insert(format!(
                    "status:open project:\"{project}\" branch:\"{branch}\" owner:\"{owner}\""
                ));
            }
        }
        for query in queries {
            self.fetch(&query).await?;
        }
        // Who names the changes of this chain, all at once.
        let mut open: Vec<u64> = level.iter().filter(|(_, down)| **down).map(|(number, _)| *number).collect();
        let mut chain: BTreeMap<u64, bool> = BTreeMap::new();
        while let Some(number) = open.pop() {
            if chain.len() >= self.gerrit.options.gather.most || chain.insert(number, true).is_some() {
                continue;
            }
            if let Some(told) = self.recall(number).filter(|_| self.is_open(number)) {
                open.extend(told.change.needed_by.iter().map(|child| child.number));
            }
        }
        let chain: Vec<(u64, bool)> = chain.into_iter().filter(|(number, _)| self.is_open(*number)).collect();
        self.search(&chain).await
    }

    /// What is known of a change without asking.
    fn recall(&mut self, number: u64) -> Option<Told> {
        if let Some(told) = self.told.get(&number) {
            return Some(told.clone());
        }
        let told = self.gerrit.cache().change(number, self.gerrit.clock.now())?;
        self.told.insert(number, told.clone());
        Some(told)
    }

    /// The facts of all that was reached; the change itself first.
    fn answer(&self, root: u64) -> Vec<ChangeFacts> {
        let mut numbers: Vec<u64> = self.reached.keys().copied().collect();
        numbers.sort_by_key(|number| (*number != root, *number));
        numbers.into_iter().filter_map(|number| self.facts(number)).collect()
    }

    fn facts(&self, number: u64) -> Option<ChangeFacts> {
        let told = self.told.get(&number)?;
        let source = &self.gerrit.options.source;
        let mut facts = convert::facts(source, &told.change, self.gerrit.base_url(), told.at)?;
        for parent in &told.change.depends_on {
            let known = self.told.get(&parent.number);
            if known.is_some_and(|known| known.change.status.as_deref() == Some("MERGED")) {
                continue;
            }
            let current = || known.and_then(|known| Some(known.change.current_patchset.as_ref()?.number));
            let patchset = parent.patchset.or_else(current).unwrap_or(1);
            let change = convert::change_id(source, parent.number);
            facts.parents.push(Patchset { change, patchset });
        }
        Some(facts)
    }
}

fn footers(change: &ChangeAttr) -> Vec<DependsOn> {
    change.message.iter().flat_map(|message| message.lines()).filter_map(DependsOn::from_line).collect()
}

/// True if facts are not older than an event, as far as they show.
fn shows(facts: &ChangeFacts, event: &Event) -> bool {
    let Some(patchset) = &event.change else { return true };
    if facts.id != patchset.change || facts.current_patchset != patchset.patchset {
        return facts.id == patchset.change && facts.current_patchset > patchset.patchset;
    }
    match event.kind {
        EventKind::ChangeMerged => facts.status == ChangeStatus::Merged,
        EventKind::ChangeAbandoned => facts.status == ChangeStatus::Abandoned,
        EventKind::ChangeRestored => facts.status != ChangeStatus::Abandoned,
        // Newer versions tell all votes of the author with each comment.
        EventKind::CommentAdded => {
            event.approvals.iter().filter(|(_, value)| *value != 0).all(|(label, value)| {
                facts.approvals.iter().any(|vote| {
                    vote.label.as_ref() == Some(label)
                        && vote.value == *value
                        && vote.by.username == event.by.username
                })
            })
        }
        _ => true,
    }
}
