//! Builds of groups, and what became of them.

use crate::codec::Fields;
use crate::error::StoreError;
use crate::jobs::Select;
use crate::sql::{Statement, Value};
use crate::types::{BuildTally, GroupBuild};
use assay_engine::ids::{GroupId, JobId};
use assay_engine::job::StateWord;
use assay_engine::outcome::Outcome;
use std::collections::BTreeMap;

/// The numbers come from the index alone; a row is read per build, not per job.
pub(crate) fn of_groups(groups: &[GroupId]) -> Statement {
    let mut select = Select::new(
        "SELECT b.group_id, j.version, b.build, b.newest, b.oldest FROM (SELECT group_id, build, MAX(id) AS newest, \
         MIN(id) AS oldest FROM jobs WHERE build IS NOT NULL AND "
            .to_owned(),
    );
    if groups.is_empty() {
        select.sql.push_str("group_id IS NOT NULL");
    } else {
        select.one_of("group_id", groups.iter().map(|group| group.0.into()));
    }
    select
        .sql
        .push_str(" GROUP BY group_id, build) AS b JOIN jobs AS j ON j.id = b.newest ORDER BY b.newest DESC");
    select.statement()
}

pub(crate) fn group_build(row: Vec<Value>) -> Result<GroupBuild, StoreError> {
    let mut fields = Fields::new("jobs", row);
    Ok(GroupBuild {
        group: GroupId(fields.int()?),
        version: fields.optional_text()?,
        build: fields.text()?,
        newest: JobId(fields.int()?),
        oldest: JobId(fields.int()?),
    })
}

pub(crate) fn tallies(builds: &[(GroupId, String)]) -> Statement {
    let mut by_group: BTreeMap<GroupId, Vec<&str>> = BTreeMap::new();
    for (group, build) in builds {
        by_group.entry(*group).or_default().push(build);
    }
    let mut select = Select::new(
        "SELECT group_id, distri, version, build, state, outcome, COUNT(*), SUM(CASE WHEN EXISTS (SELECT 1 FROM comments \
         WHERE target_kind = 'job' AND target = jobs.id) THEN 1 ELSE 0 END), MAX(created_at) FROM jobs WHERE id IN \
         (SELECT MAX(id) FROM jobs WHERE "
            .to_owned(),
    );
    let mut before = "(";
    for (group, builds) in by_group {
        select.sql.push_str(before);
        select.sql.push_str("(group_id = ");
        select.value(group.0.into());
        select.sql.push_str(" AND ");
        select.one_of("build", builds.into_iter().map(Into::into));
        select.sql.push(')');
        before = " OR ";
    }
    select.sql.push_str(
        ") GROUP BY group_id, build, distri, version, flavor, arch, test, machine) \
         GROUP BY group_id, distri, version, build, state, outcome",
    );
    select.statement()
}

pub(crate) fn tally(row: Vec<Value>) -> Result<BuildTally, StoreError> {
    let mut fields = Fields::new("jobs", row);
    Ok(BuildTally {
        group: GroupId(fields.int()?),
        distri: fields.optional_text()?,
        version: fields.optional_text()?,
        build: fields.text()?,
        state: fields.word(StateWord::from_word)?,
        outcome: fields.optional_word(Outcome::from_openqa)?,
        jobs: fields.unsigned()?,
        remarked: fields.unsigned()?,
        newest_at: fields.time()?,
    })
}
