//! Receipts: what is signed, what is accepted, and what a walk along a branch finds.

mod audit;
mod keys;
mod verify;

use assay_records::receipt::{
    Approval, Change, Expected, Job, Member, ObjectId, Point, Receipt, ReusedFrom, Server, Signer, Times,
    TrustFile, Waiver, Way,
};

/// An object id of one digit.
fn id(digit: char) -> ObjectId {
    digit.to_string().repeat(40).parse().expect("40 digits")
}

fn point(commit: char, tree: char) -> Point {
    Point { commit: id(commit), tree: id(tree) }
}

fn signer() -> Signer {
    Signer::from_seed(&[7; 32])
}

fn trust() -> TrustFile {
    TrustFile::parse(&signer().public_key().to_trust_line("gate")).expect("one key")
}

/// The landing of commit `c` with tree `d` on commit `a` with tree `b`.
fn receipt() -> Receipt {
    let job = |name: &str, outcome: &str, voting| Job {
        name: name.into(),
        uuid: "0123456789abcdef0123456789abcdef".into(),
        outcome: outcome.into(),
        voting,
        attempts: 1,
        log_url: Some("https://gate.example.org/logs/1/".into()),
        tree: id('d'),
        started: Some("2026-11-21T12:00:00Z".into()),
        ended: Some("2026-11-21T12:10:00Z".into()),
        reused_from: None,
    };
    let mut reused = job("gate-docs", "softfailed", true);
    reused.reused_from = Some(ReusedFrom { uuid: "f".repeat(32), item: "40".into() });
    Receipt {
        server: Server { id: "https://gate.example.org".into(), version: "0.1.0".into() },
        project: "openstack/nova".into(),
        branch: "master".into(),
        item: "41".into(),
        changes: vec![Change {
            number: 1234,
            patchset: 5,
            revision: id('e'),
            change_id: "I0123456789012345678901234567890123456789".into(),
            project: "openstack/nova".into(),
            branch: "master".into(),
        }],
        base: point('a', 'b'),
        tested: point('c', 'd'),
        landed: point('c', 'd'),
        predecessor: point('a', 'b'),
        way: Way::Push,
        mode: "merge-resolve".into(),
        pipeline: "gate".into(),
        queue: "integrated".into(),
        policy: "sha256:00".into(),
        jobs: vec![job("gate-unit", "passed", true), reused, job("gate-new", "failed", false)],
        approvals: vec![Approval {
            change: 1234,
            patchset: 5,
            label: "Approved".into(),
            value: 1,
            by: "ü".into(),
        }],
        waivers: vec![Waiver {
            job: "gate-old".into(),
            by: "ptl".into(),
            reason: "bug 1".into(),
            expires: None,
        }],
        times: Times {
            enqueued: "2026-11-21T11:59:00Z".into(),
            decided: "2026-11-21T12:10:00Z".into(),
            landed: "2026-11-21T12:10:01Z".into(),
        },
        members: vec![Member {
            project: "openstack/neutron".into(),
            branch: "master".into(),
            tested: point('1', '2'),
            landed: None,
        }],
    }
}

fn with<'a>(commit: &'a ObjectId, tree: &'a ObjectId) -> Expected<'a> {
    Expected { project: "openstack/nova", branch: "master", commit, tree }
}
