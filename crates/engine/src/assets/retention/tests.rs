use super::*;
use crate::assets::AssetKind;
use proptest::prelude::*;

const NOW: Timestamp = Timestamp(1_800_000_000_000_000);
const GB: u64 = 1_000_000_000;

fn asset(id: i64, bytes: u64, users: &[(usize, i64)]) -> AssetFact {
    AssetFact {
        id,
        asset: AssetKey { kind: AssetKind::Hdd, name: format!("{id}.qcow2").parse().expect("a name") },
        bytes,
        used_at: NOW.plus_seconds(-id * DAY),
        fixed: false,
        needed_by: None,
        users: users.iter().map(|(group, job)| (*group, JobId(*job))).collect(),
    }
}

fn budgets(sizes: &[u64]) -> Vec<Budget> {
    let budget = |(number, bytes): (usize, &u64)| Budget { name: format!("group {number}"), bytes: *bytes };
    sizes.iter().enumerate().map(budget).collect()
}

#[test]
fn assets_within_budgets() {
    let facts = AssetFacts {
        budgets: budgets(&[10 * GB, 3 * GB]),
        assets: vec![
            asset(1, 4 * GB, &[(0, 90)]),
            asset(2, 4 * GB, &[(0, 80)]),
            asset(3, 4 * GB, &[(0, 70)]),
            asset(4, 2 * GB, &[(0, 60), (1, 10)]),
            AssetFact { fixed: true, ..asset(5, 50 * GB, &[(1, 5)]) },
            AssetFact { needed_by: Some(JobId(99)), ..asset(6, GB, &[(1, 4)]) },
            asset(7, GB, &[]),
            asset(20, GB, &[]),
        ],
        untracked: 14,
    };
    let said: Vec<_> = assets(&facts, NOW)
        .iter()
        .map(|verdict| {
            format!("{} {} {}", verdict.what.id, if verdict.keep { "stays" } else { "goes" }, verdict.why)
        })
        .collect();
    assert_eq!(
        said,
        [
            "1 stays within the budget of group 0, which has 6.0 GB left",
            "2 stays within the budget of group 0, which has 2.0 GB left",
            "3 goes more than the budget of group 0, which has 2.0 GB left",
            "4 stays within the budget of group 0, which has 0.0 GB left",
            "5 stays its name is fixed",
            "6 stays job 99 has not ended and needs it",
            "7 stays no job of a group uses it; it goes in 7 days",
            "20 goes no job of a group has used it for 14 days",
        ]
    );
}

#[test]
fn parts_of_jobs_by_age() {
    let ages = Ages { usual: [10, 400, 20, 100], important: [30, 0, 0, 5] };
    let fact = |job, age: i64, important: Option<&str>| JobFact {
        job: JobId(job),
        ended_at: Some(NOW.plus_seconds(-age * DAY)),
        ages,
        important: important.map(str::to_owned),
        parent_of: None,
        has: vec![Part::Logs, Part::Screenshots, Part::Results],
    };
    let facts = [
        fact(1, 15, None),
        fact(2, 50, Some("GM")),
        fact(3, 500, None),
        JobFact { ended_at: None, has: vec![Part::Logs], ..fact(4, 500, None) },
        JobFact { parent_of: Some(JobId(9)), has: vec![], ..fact(5, 500, None) },
    ];
    let said: Vec<_> = jobs(&facts, NOW)
        .iter()
        .map(|verdict| {
            let (job, part) = verdict.what;
            format!("{job} {} {} {}", part.word(), if verdict.keep { "stays" } else { "goes" }, verdict.why)
        })
        .collect();
    assert_eq!(
        said,
        [
            "1 logs goes older than 10 days",
            // No longer than the results that show them.
            "1 screenshots stays it goes in 5 days",
            "1 results stays it goes in 5 days",
            "1 job stays it goes in 85 days",
            // Important builds are kept at least as long as the others.
            "2 logs goes older than 10 days, important (GM)",
            "2 screenshots goes older than 20 days, important (GM)",
            "2 results goes older than 20 days, important (GM)",
            "2 job stays it goes in 50 days, important (GM)",
            "3 logs goes older than 10 days",
            "3 screenshots goes older than 20 days",
            "3 results goes older than 20 days",
            "3 job goes older than 100 days",
            "4 logs stays the job has not ended",
            "4 job stays the job has not ended",
            "5 job stays job 9 has not ended and builds on it",
        ]
    );
    assert_eq!(Part::ALL.map(|part| Ages::default().limit(part, false)), [30, 365, 365, 730]);
    assert_eq!(Part::ALL.map(|part| Ages::default().limit(part, true)), [120, 0, 0, 0]);
}

fn any_asset() -> impl Strategy<Value = AssetFact> {
    (
        0..50_u64,
        0..30_i64,
        prop::bool::weighted(0.1),
        prop::option::weighted(0.1, 1..100_i64),
        prop::collection::btree_map(0..4_usize, 1..100_i64, 0..3),
    )
        .prop_map(|(size, age, fixed, needed, users)| AssetFact {
            used_at: NOW.plus_seconds(-age * DAY),
            fixed,
            needed_by: needed.map(JobId),
            users: users.into_iter().map(|(group, job)| (group, JobId(job))).collect(),
            ..asset(0, size, &[])
        })
}

proptest! {
    #[test]
    fn every_asset_has_one_verdict_and_no_budget_is_exceeded(
        found in prop::collection::vec(any_asset(), 0..40),
        sizes in prop::collection::vec(0..200_u64, 4),
        untracked in 0..20_u32,
    ) {
        let found: Vec<_> =
            found.into_iter().enumerate().map(|(id, fact)| AssetFact { id: id as i64, ..fact }).collect();
        let facts = AssetFacts { budgets: budgets(&sizes), assets: found, untracked };
        let verdicts = assets(&facts, NOW);
        let mut ids: Vec<_> = verdicts.iter().map(|verdict| verdict.what.id).collect();
        ids.sort_unstable();
        prop_assert_eq!(ids, (0..facts.assets.len() as i64).collect::<Vec<_>>());
        let mut kept: BTreeMap<String, u64> = BTreeMap::new();
        for verdict in &verdicts {
            let fact = verdict.what;
            if fact.fixed || fact.needed_by.is_some() {
                prop_assert!(verdict.keep, "{verdict:?}");
            }
            if let Why::InBudget { group, .. } = &verdict.why {
                *kept.entry(group.clone()).or_default() += fact.bytes;
            }
            if let Why::OverBudget { left, .. } = &verdict.why {
                prop_assert!(fact.bytes > *left);
            }
            if !verdict.keep && fact.users.is_empty() {
                prop_assert!(untracked > 0 && fact.used_at.plus_seconds(i64::from(untracked) * DAY) <= NOW);
            }
        }
        for budget in &facts.budgets {
            prop_assert!(kept.get(&budget.name).copied().unwrap_or(0) <= budget.bytes);
        }
        // A second cleaning right after the first finds nothing more to remove.
        let left = verdicts.iter().filter(|verdict| verdict.keep).map(|verdict| verdict.what.clone()).collect();
        let again = AssetFacts { assets: left, ..facts.clone() };
        prop_assert!(assets(&again, NOW).iter().all(|verdict| verdict.keep));
    }

    #[test]
    fn what_goes_has_gone_before_what_outlives_it(
        usual in prop::array::uniform4(0..40_u32),
        important in prop::array::uniform4(0..40_u32),
        is_important: bool,
        age in 0..50_i64,
    ) {
        let fact = JobFact {
            job: JobId(1),
            ended_at: Some(NOW.plus_seconds(-age * DAY)),
            ages: Ages { usual, important },
            important: is_important.then(|| "GM".to_owned()),
            parent_of: None,
            has: vec![Part::Logs, Part::Screenshots, Part::Results],
        };
        let verdicts = jobs(std::slice::from_ref(&fact), NOW);
        let keeps: Vec<_> = verdicts.iter().map(|verdict| verdict.keep).collect();
        prop_assert!(keeps.is_sorted(), "{verdicts:?}");
        let plain = jobs(&[JobFact { important: None, ..fact.clone() }], NOW);
        for (verdict, plain) in verdicts.iter().zip(plain) {
            prop_assert!(verdict.keep || !plain.keep, "important parts stay at least as long: {verdict:?}");
        }
    }
}
