use assay_records::receipt::{
    Envelope, Expected, PAYLOAD_TYPE, Receipt, Signer, TrustFile, Waiver, Way, pae, verify,
};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use proptest::prelude::*;

use super::{id, point, receipt, signer, trust, with};

fn check(bytes: &[u8]) -> Result<Receipt, String> {
    verify(bytes, &trust(), &with(&id('c'), &id('d'))).map_err(|problem| {
        assert!(problem.remedy().ends_with('.'), "{problem}");
        problem.to_string()
    })
}

fn envelope() -> Envelope {
    serde_json::from_slice(&receipt().sign(&signer())).expect("an envelope")
}

/// Makes a receipt claim something else.
type Edit = fn(&mut Receipt);

/// The vector of DSSE's own specification.
#[test]
fn pre_authentication_encoding() {
    assert_eq!(
        pae("http://example.com/HelloWorld", b"hello world"),
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    );
}

/// The same receipt and key always give these bytes; later versions have to accept them.
#[test]
fn the_stored_form() {
    let golden = include_bytes!("../corpus/receipt-v1.json");
    assert_eq!(String::from_utf8_lossy(&receipt().sign(&signer())), String::from_utf8_lossy(golden));
    assert_eq!(check(golden), Ok(receipt()));
}

#[test]
fn what_is_claimed_must_agree() {
    let table: [(&str, Edit, &str); 17] = [
        ("another project", |r| r.project = "x".into(), "the receipt is for x@refs/heads/master "),
        (
            "another branch",
            |r| r.branch = "stable".into(),
            "the receipt is for openstack/nova@refs/heads/stable ",
        ),
        (
            "another commit",
            |r| r.landed.commit = id('9'),
            "the receipt is for openstack/nova@refs/heads/master 9999",
        ),
        (
            "another tree",
            |r| r.landed.tree = id('9'),
            "the receipt says tree 9999999999999999999999999999999999999999 landed",
        ),
        (
            "not the tested tree",
            |r| r.tested.tree = id('9'),
            "tree 9999999999999999999999999999999999999999 was tested",
        ),
        (
            "not the tested commit",
            |r| r.tested.commit = id('9'),
            "commit 9999999999999999999999999999999999999999 was tested, but",
        ),
        ("the branch had moved", |r| r.predecessor = point('9', 'b'), "the tests were made on top of aaaa"),
        ("its tree had changed", |r| r.predecessor.tree = id('9'), "the tests were made on top of bbbb"),
        (
            "a tree had changed at submit",
            |r| (r.way, r.predecessor) = (Way::Submit, point('8', '9')),
            "the tests were made on top of bbbb",
        ),
        ("an unknown way", |r| r.way = Way::Other("teleport".into()), "it landed in the way `teleport`"),
        (
            "a failed job",
            |r| r.jobs[0].outcome = "failed".into(),
            "voting job gate-unit ended as `failed` and nobody waived it",
        ),
        (
            "an unknown outcome",
            |r| r.jobs[0].outcome = "PASSED".into(),
            "voting job gate-unit ended as `PASSED`",
        ),
        ("a job on another tree", |r| r.jobs[1].tree = id('9'), "voting job gate-docs ran on tree 9999"),
        (
            "an expired waiver",
            |r| {
                r.jobs[0].outcome = "failed".into();
                r.waivers[0] = waiver(Some("2026-11-21T12:10:01Z"));
            },
            "voting job gate-unit ended as `failed`",
        ),
        (
            "a waiver until some day",
            |r| {
                r.jobs[0].outcome = "failed".into();
                r.waivers[0] = waiver(Some("some day"));
            },
            "voting job gate-unit ended as `failed`",
        ),
        (
            "a waiver for a job on another tree",
            |r| {
                (r.jobs[0].outcome, r.jobs[0].tree) = ("failed".into(), id('9'));
                r.waivers[0] = waiver(None);
            },
            "voting job gate-unit ran on tree 9999",
        ),
        ("a commit that is only in the predicate", |r| r.tested.tree = id('0'), "tree 0000"),
    ];
    for (name, change, want) in table {
        let mut receipt = receipt();
        change(&mut receipt);
        let found = check(&receipt.sign(&signer())).expect_err(name);
        assert!(found.starts_with(want), "{name}: {found}");
    }
}

fn waiver(expires: Option<&str>) -> Waiver {
    Waiver {
        job: "gate-unit".into(),
        by: "ptl".into(),
        reason: "r".into(),
        expires: expires.map(str::to_owned),
    }
}

#[test]
fn what_may_differ() {
    let table: [(&str, Edit); 5] = [
        ("a submit makes a commit of its own", |r| {
            (r.way, r.tested.commit, r.base.commit) = (Way::Submit, id('9'), id('8'));
        }),
        ("a waiver", |r| {
            r.jobs[0].outcome = "failed".into();
            r.waivers[0] = waiver(Some("2026-11-21T12:10:02Z"));
        }),
        ("a job that only advises", |r| r.jobs[2].tree = id('9')),
        ("nothing was required", |r| r.jobs.clear()),
        ("no options", |r| {
            r.approvals.clear();
            r.waivers.clear();
            r.members.clear();
        }),
    ];
    for (name, change) in table {
        let mut receipt = receipt();
        change(&mut receipt);
        assert_eq!(check(&receipt.sign(&signer())), Ok(receipt), "{name}");
    }
}

#[test]
fn envelopes() {
    let other = Signer::from_seed(&[8; 32]);
    let edit = |change: &dyn Fn(&mut Envelope)| {
        let mut envelope = envelope();
        change(&mut envelope);
        envelope.to_bytes()
    };
    let signed = |payload: &[u8]| signer().sign(PAYLOAD_TYPE, payload).to_bytes();
    let payload = String::from_utf8(receipt().payload()).expect("JSON");
    let table = [
        (b"".to_vec(), "the receipt is not a DSSE envelope: "),
        (b"[]".to_vec(), "the receipt is not a DSSE envelope: "),
        (vec![b' '; 9 << 20], "the receipt is too large"),
        (edit(&|e| e.payload_type = "text/plain".into()), "the envelope holds `text/plain`"),
        (edit(&|e| e.payload = "%".into()), "the receipt's payload is not base64"),
        (edit(&|e| e.signatures.clear()), "the receipt has no signature"),
        (edit(&|e| e.signatures[0].sig = "?".into()), "the receipt's signature is not base64"),
        (edit(&|e| e.signatures[0].sig = STANDARD.encode([0; 64])), "the signature of key gate is wrong"),
        (edit(&|e| e.signatures[0].sig = STANDARD.encode([0; 63])), "the signature of key gate is wrong"),
        (edit(&|e| e.signatures = vec![e.signatures[0].clone(); 33]), "the receipt is too large"),
        (receipt().sign(&other), "the receipt is signed by a key that is not trusted: "),
        (edit(&|e| e.payload_type.push(' ')), "the envelope holds `"),
        (signed(b"{}"), "the signed text is not a receipt: missing field"),
        (
            signed(payload.replace("Statement/v1", "Statement/v9").as_bytes()),
            "the signed text is not a receipt: its type is",
        ),
        (
            signed(payload.replace("receipt/v1", "receipt/v2").as_bytes()),
            "the signed statement is a `https://assay.dev/receipt/v2`",
        ),
        (
            signed(payload.replacen("cccc", "Cccc", 1).as_bytes()),
            "the receipt is for openstack/nova@refs/heads/master Cccc",
        ),
        (
            signed(payload.replacen("gitTree", "gitTroe", 1).as_bytes()),
            "the signed text is not a receipt: its subject has no tree",
        ),
        (
            signed(payload.replacen("\"item\":\"41\"", "\"item\":\"41\",\"item\":\"42\"", 1).as_bytes()),
            "the signed text is not a receipt: duplicate field",
        ),
        (
            signed(
                payload
                    .replacen(
                        "}],\"predicateType\"",
                        "},{\"name\":\"x\",\"digest\":{}}],\"predicateType\"",
                        1,
                    )
                    .as_bytes(),
            ),
            "the signed text is not a receipt: it has 2 subjects",
        ),
    ];
    for (bytes, want) in table {
        let found = check(&bytes).expect_err(want);
        assert!(found.starts_with(want), "{want}: {found}");
    }
    // The key id is a hint; either alphabet of base64 will do; later versions may add fields; one good signature counts.
    let accepted = [
        edit(&|e| e.signatures[0].keyid.clear()),
        edit(&|e| {
            e.signatures[0].sig = URL_SAFE.encode(STANDARD.decode(&e.signatures[0].sig).expect("base64"));
        }),
        edit(&|e| {
            e.signatures.insert(0, other.sign(PAYLOAD_TYPE, &receipt().payload()).signatures[0].clone());
        }),
        signed(payload.replacen("\"item\":", "\"later\":{\"x\":1.5},\"item\":", 1).as_bytes()),
    ];
    for bytes in accepted {
        assert_eq!(check(&bytes), Ok(receipt()));
    }
}

#[test]
fn a_key_for_other_projects() {
    let bytes = receipt().sign(&signer());
    let line = signer().public_key().to_trust_line("gate");
    for (projects, accepted) in
        [("openstack/*", true), ("x,openstack/nova", true), ("openstack/no", false), ("x/*", false)]
    {
        let trust = TrustFile::parse(&format!("{line} projects={projects}")).expect("a trust file");
        let (commit, tree) = (id('c'), id('d'));
        let found = verify(&bytes, &trust, &with(&commit, &tree));
        assert_eq!(found.is_ok(), accepted, "{projects}");
        // The project is the one that is asked for, not one that the receipt names.
        let found = verify(&bytes, &trust, &Expected { project: "x/y", ..with(&commit, &tree) });
        assert!(found.is_err(), "{projects}");
    }
}

#[test]
fn every_byte_of_the_payload_is_signed() {
    let payload = receipt().payload();
    for at in 0..payload.len() {
        let mut envelope = envelope();
        let mut other = payload.clone();
        other[at] ^= 1;
        envelope.payload = STANDARD.encode(other);
        assert_eq!(check(&envelope.to_bytes()), Err("the signature of key gate is wrong".into()), "{at}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is done to the stored bytes: it is refused, or it says the same.
    #[test]
    fn damaged_envelopes(at in any::<prop::sample::Index>(), cut in 0..6_usize, put in proptest::collection::vec(any::<u8>(), 0..6)) {
        let mut bytes = receipt().sign(&signer());
        let at = at.index(bytes.len());
        bytes.splice(at..(at + cut).min(receipt().sign(&signer()).len()), put);
        if let Ok(found) = check(&bytes) {
            prop_assert_eq!(found, receipt());
        }
    }

    #[test]
    fn any_payload(payload in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(check(&payload).is_err());
        prop_assert!(check(&signer().sign(PAYLOAD_TYPE, &payload).to_bytes()).is_err());
    }
}
