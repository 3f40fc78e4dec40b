//! Facts about a change and its relatives, the same over SSH and REST.

use crate::common::{QUICK, World};
use assay_connect::gerrit::{GatherOptions, Gathered, Gerrit};
use assay_engine::gate::change::{ChangeFacts, ChangeStatus, SubmitRecord};
use assay_engine::gate::config::EventKind;
use assay_engine::gate::io::Event;
use assay_fakes::gerrit::{Numbers, Upload, Uploaded};

fn numbers(gathered: &Gathered) -> Vec<u64> {
    let mut numbers: Vec<u64> = gathered.changes.iter().map(|facts| facts.id.number).collect();
    numbers.sort_unstable();
    numbers
}

async fn facts(gerrit: &Gerrit, number: u64) -> Gathered {
    gerrit.facts(number).await.unwrap_or_else(|error| panic!("{error}"))
}

/// What does not depend on the way and the time.
fn bare(gathered: Gathered) -> Vec<ChangeFacts> {
    let mut list = gathered.changes;
    for facts in &mut list {
        facts.as_of = assay_engine::ids::Timestamp(0);
        facts.submit_records.iter_mut().for_each(|record| {
            if let SubmitRecord::NotReady { labels } = record {
                labels.retain(|label| label.label != "Approved");
                labels.sort_by(|a, b| a.label.cmp(&b.label));
            }
        });
        facts.approvals.sort_by(|a, b| a.label.cmp(&b.label));
        if facts.status != ChangeStatus::New {
            facts.submit_records.clear();
        }
    }
    list
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn relatives_are_found_in_both_directions() {
    let world = World::new(Numbers::Integers).await;
    let fake = &world.fake;
    let put = async |project: &str, subject: &str, on: Option<&Uploaded>, footer: Option<String>| {
        let mut upload = Upload::new(project, "master", subject, subject, "1\n");
        upload.on = on.map(|parent| parent.revision.clone());
        upload.footers.extend(footer);
        fake.upload("alice", &upload).await.expect("an upload")
    };
    let merged = put("org/a", "merged", None, None).await;
    world.approve(merged.number).await;
    fake.submit("ci", merged.number).await.expect("merged");
    let parent = put("org/a", "parent", Some(&merged), None).await;
    let other = put("org/b", "other", None, None).await;
    let by_url = put("org/b", "by-url", None, None).await;
    let root = put("org/a", "root", Some(&parent), Some(format!("Depends-On: {}", other.change_id))).await;
    let url = format!("Depends-On: {}/c/org/b/+/{}", fake.url(), by_url.number);
    let child = put("org/a", "child", Some(&root), Some(url)).await;
    let names_root = put("org/b", "names-root", None, Some(format!("Depends-On: {}", root.change_id))).await;
    let needs_more = put("org/b", "needs-more", Some(&names_root), None).await;
    let unrelated = put("org/a", "unrelated", Some(&parent), None).await;
    fake.vote("carol", root.number, &[("Code-Review", 1)]).await.expect("a vote");

    let related = [&merged, &parent, &other, &by_url, &root, &child, &names_root, &needs_more]
        .map(|change| change.number);
    let by_ssh = world.client(false, |options| options.gather.hosts.push(fake.url().replace("http://", "")));
    let by_rest = world.client(true, |_| {});
    let mut told = Vec::new();
    for gerrit in [&by_ssh, &by_rest] {
        let gathered = facts(gerrit, root.number).await;
        assert!(!gathered.cut_off);
        assert_eq!(gathered.changes[0].id.number, root.number);
        // What stands on the merged change's other children is none of our business.
        let mut expected: Vec<u64> = related.to_vec();
        expected.sort_unstable();
        assert_eq!(numbers(&gathered), expected, "without {}", unrelated.number);
        let of =
            |number: u64| gathered.changes.iter().find(|facts| facts.id.number == number).expect("there");
        let parents = |number: u64| of(number).parents.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(parents(root.number), [format!("{},1", parent.number)]);
        assert_eq!(parents(child.number), [format!("{},1", root.number)]);
        assert!(parents(parent.number).is_empty(), "its parent is merged");
        assert_eq!(of(merged.number).status, ChangeStatus::Merged);
        assert_eq!(of(root.number).approvals.len(), 1);
        assert_eq!(of(root.number).files, Some(vec!["root".to_owned()]));
        let asked = gerrit.asked();
        facts(gerrit, root.number).await;
        assert_eq!(gerrit.asked(), asked, "the second time it is known");
        told.push(bare(gathered));
    }
    let rest = told.pop();
    assert_eq!(told.pop(), rest, "SSH and REST");

    // A new vote is seen by who does not ask memory.
    fake.vote("ci", root.number, &[("Verified", 2)]).await.expect("a vote");
    let fresh = by_ssh.refresh(&[root.number]).await.expect("facts");
    let root_facts = fresh.iter().find(|facts| facts.id.number == root.number).expect("there");
    assert_eq!(root_facts.approvals.len(), 2);
    assert!(facts(&by_ssh, 4711).await.changes.is_empty());
    // What the index does not show yet is asked for again.
    let mut event = Event::new("gerrit".into(), EventKind::CommentAdded);
    event.change = Some(root_facts.patchset());
    event.by.username = Some("ci".to_owned());
    let lagging = world.client(false, |options| options.gather.lag = QUICK);
    let mut costs = Vec::new();
    for value in [2, 1] {
        event.approvals = vec![("Verified".to_owned(), value)];
        lagging.forget();
        let asked = lagging.asked();
        lagging.facts_of(&event).await.expect("facts");
        costs.push(lagging.asked() - asked);
    }
    let tries = u64::from(GatherOptions::default().lag_tries);
    assert!(costs[1] >= costs[0] + tries, "{costs:?}");
    // Bounds hold.
    let bounded = world.client(false, |options| options.gather.depth = 0);
    let gathered = facts(&bounded, root.number).await;
    assert!(gathered.cut_off);
    assert_eq!(numbers(&gathered), [root.number]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_chain_costs_few_queries() {
    const LENGTH: usize = 40;
    let world = World::new(Numbers::Integers).await;
    let mut chain: Vec<Uploaded> = Vec::new();
    for at in 0..LENGTH {
        let name = format!("link-{at}");
        let mut upload = Upload::new("org/a", "master", &name, &name, "1\n");
        upload.on = chain.last().map(|parent| parent.revision.clone());
        chain.push(world.fake.upload("alice", &upload).await.expect("an upload"));
    }
    for rest in [false, true] {
        let gerrit = world.client(rest, |_| {});
        let gathered = facts(&gerrit, chain[LENGTH / 2].number).await;
        assert_eq!(gathered.changes.len(), LENGTH, "rest: {rest}");
        let first = gerrit.asked();
        for link in &chain {
            facts(&gerrit, link.number).await;
        }
        let all = gerrit.asked();
        assert!(first <= 12 && all <= 20, "rest: {rest}, {first} for one, {all} for all of {LENGTH}");
    }
}
