use std::collections::BTreeMap;

use assay_records::receipt::{Audit, CommitFacts, ObjectId, Point, Receipt, TrustFile, Way, audit};

use super::{id, point, receipt, signer, trust};

struct Commit {
    tree: ObjectId,
    parents: Vec<ObjectId>,
    receipt: Option<Vec<u8>>,
}

/// A small repository: commit `x` has tree `x` unless it says otherwise.
#[derive(Default)]
struct Repository {
    commits: BTreeMap<ObjectId, Commit>,
}

impl Repository {
    fn commit(mut self, commit: char, parents: &str) -> Self {
        self.commits.insert(
            id(commit),
            Commit { tree: id(commit), parents: parents.chars().map(id).collect(), receipt: None },
        );
        self
    }

    fn tree(mut self, commit: char, tree: char) -> Self {
        self.commits.get_mut(&id(commit)).expect("a commit").tree = id(tree);
        self
    }

    /// A push of the commit onto `before`.
    fn pushed(self, commit: char, before: char) -> Self {
        self.landed(commit, before, |_| {})
    }

    fn landed(mut self, commit: char, before: char, change: impl Fn(&mut Receipt)) -> Self {
        let point = |commit| Point { commit: id(commit), tree: self.commits[&id(commit)].tree.clone() };
        let mut receipt = receipt();
        receipt.jobs.iter_mut().for_each(|job| job.tree = point(commit).tree);
        (receipt.tested, receipt.landed) = (point(commit), point(commit));
        (receipt.base, receipt.predecessor) = (point(before), point(before));
        change(&mut receipt);
        self.commits.get_mut(&id(commit)).expect("a commit").receipt = Some(receipt.sign(&signer()));
        self
    }

    fn is_ancestor(&self, a: &ObjectId, b: &ObjectId) -> bool {
        let parents = self.commits.get(b).map(|commit| &commit.parents[..]).unwrap_or_default();
        a == b || parents.iter().any(|parent| self.is_ancestor(a, parent))
    }

    fn audit_with(&self, tip: char, trust: &TrustFile) -> Result<Audit, String> {
        let lookup = |commit: &ObjectId| {
            let Commit { tree, parents, receipt } = self.commits.get(commit).ok_or("no such commit")?;
            Ok(CommitFacts {
                tree: tree.clone(),
                first_parent: parents.first().cloned(),
                receipt: receipt.clone(),
            })
        };
        let is_ancestor = |a: &ObjectId, b: &ObjectId| Ok(self.is_ancestor(a, b));
        audit("openstack/nova", "master", &id(tip), trust, lookup, is_ancestor)
    }

    /// The covered commits, then each uncovered one with its problem.
    fn audit(&self, tip: char, start: Option<char>) -> (String, Vec<String>) {
        let mut text = signer().public_key().to_trust_line("gate");
        if let Some(start) = start {
            text = format!("{text}\nstart openstack/nova master {}", id(start));
        }
        let audit = self
            .audit_with(tip, &TrustFile::parse(&text).expect("a trust file"))
            .expect("all commits are there");
        let first = |commit: &ObjectId| commit.as_str()[..1].to_owned();
        let covered = audit.covered.iter().map(|covered| first(&covered.commit)).collect();
        let uncovered: Vec<String> = audit
            .uncovered
            .iter()
            .map(|uncovered| format!("{}: {}", first(&uncovered.commit), uncovered.problem))
            .collect();
        assert_eq!(audit.is_clean(), uncovered.is_empty());
        (covered, uncovered)
    }
}

/// `0 - 1 - 2 - 4 - 5`, where 4 merges 3, which was made on 1.
fn history() -> Repository {
    Repository::default()
        .commit('0', "")
        .commit('1', "0")
        .commit('2', "1")
        .commit('3', "1")
        .commit('4', "23")
        .commit('5', "4")
}

const MISSING: &str = "there is no receipt for this commit";

#[test]
fn walks() {
    let all = history().pushed('1', '0').pushed('2', '1').pushed('4', '2').pushed('5', '4');
    assert_eq!(all.audit('5', Some('0')), ("5421".into(), vec![]));
    assert_eq!(all.audit('5', Some('2')), ("54".into(), vec![]));
    assert_eq!(all.audit('5', Some('5')), (String::new(), vec![]));
    // Without a start the root has to have a receipt as well.
    assert_eq!(all.audit('5', None), ("5421".into(), vec![format!("0: {MISSING}")]));

    let gap = history().pushed('2', '1').pushed('5', '4');
    assert_eq!(gap.audit('5', Some('1')), ("52".into(), vec![format!("4: {MISSING}")]));

    // A landing of several commits covers those between.
    let several = history().pushed('5', '1');
    assert_eq!(several.audit('5', Some('1')), ("5".into(), vec![]));
    // A landing that goes past the start ends there as well.
    let past = history().pushed('5', '0');
    assert_eq!(past.audit('5', Some('2')), ("5".into(), vec![]));
    // A start on the merged side: what it does not contain is still looked at.
    assert_eq!(all.audit('5', Some('3')), ("542".into(), vec![]));
}

#[test]
fn branches_that_were_tampered_with() {
    let all = || history().pushed('1', '0').pushed('2', '1').pushed('4', '2').pushed('5', '4');
    // Set back to before its start.
    let (covered, uncovered) = all().audit('1', Some('2'));
    assert_eq!(covered, "1");
    assert!(uncovered[0].starts_with("1: the branch does not contain 2222"), "{uncovered:?}");
    // A commit pushed by hand.
    assert_eq!(all().commit('6', "5").audit('6', Some('4')), ("5".into(), vec![format!("6: {MISSING}")]));
    // Other contents than the receipt says.
    let (covered, uncovered) = all().tree('4', 'f').audit('5', Some('2'));
    assert_eq!(covered, "");
    assert!(
        uncovered[0].starts_with("5: the tests were made on top of 4444")
            && uncovered[1].starts_with("4: the receipt says tree 4444")
    );
    // A predecessor that is no ancestor, or the commit itself.
    for before in ['3', '2'] {
        let odd = history().commit('6', "1").pushed('6', before);
        let (_, uncovered) = odd.audit('6', Some('1'));
        assert!(uncovered[0].starts_with("6: the receipt says the branch was at"), "{uncovered:?}");
    }
    let (_, uncovered) = history().pushed('5', '5').audit('5', Some('4'));
    assert_eq!(uncovered.len(), 1, "{uncovered:?}");
    // The receipt of another commit.
    let mut copied = all().commit('6', "5");
    let receipt = copied.commits[&id('5')].receipt.clone();
    copied.commits.get_mut(&id('6')).expect("a commit").receipt = receipt;
    let (covered, uncovered) = copied.audit('6', Some('4'));
    assert_eq!(covered, "5");
    assert!(
        uncovered[0].starts_with("6: the receipt is for openstack/nova@refs/heads/master 5555"),
        "{uncovered:?}"
    );
}

/// The review system made commit 5 itself, on a commit 4 of its own with the tree that the tests were made on.
#[test]
fn submits() {
    let repository = history().landed('5', '4', |receipt| {
        (receipt.way, receipt.base, receipt.tested) = (Way::Submit, point('a', '4'), point('b', '5'));
    });
    assert_eq!(repository.audit('5', Some('4')), ("5".into(), vec![]));
}

#[test]
fn a_repository_that_cannot_be_read_or_goes_in_circles() {
    let broken = Repository::default().commit('5', "4");
    assert_eq!(broken.audit_with('5', &trust()), Err("no such commit".into()));
    let circle = Repository::default().commit('5', "5");
    assert_eq!(circle.audit('5', None), (String::new(), vec![format!("5: {MISSING}")]));
}
