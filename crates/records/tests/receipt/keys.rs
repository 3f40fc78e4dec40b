use assay_records::receipt::{KeyFileError, ObjectId, PublicKey, Signer, TrustError, TrustFile};
use proptest::prelude::*;

use super::{id, signer};

const SEED: &str = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";

#[test]
fn key_files() {
    let read = Signer::parse(&signer().to_key_file()).expect("our own key file");
    assert_eq!(read.public_key(), signer().public_key());
    assert!(signer().to_key_file().ends_with(&format!("ed25519-private {SEED}\n")));
    assert_eq!(format!("{read:?}"), format!("Signer {{ key_id: {:?}, .. }}", read.key_id()));
    for (text, want) in [
        (String::new(), KeyFileError::Empty),
        ("# ed25519-private\n".into(), KeyFileError::Empty),
        (SEED.into(), KeyFileError::Word(1)),
        ("\n-----BEGIN PRIVATE KEY-----".into(), KeyFileError::Word(2)),
        ("ed25519-private".into(), KeyFileError::Seed(1)),
        (format!("ed25519-private {SEED} {SEED}"), KeyFileError::Seed(1)),
        (format!("ed25519-private {}", &SEED[4..]), KeyFileError::Seed(1)),
        (format!("ed25519-private {SEED}\n\ned25519-private {SEED}"), KeyFileError::Second(3)),
    ] {
        let found = Signer::parse(&text).expect_err("a bad file");
        assert_eq!(found, want, "{text}");
        assert!(!found.to_string().contains(&SEED[4..]));
    }
}

#[test]
fn trust_files() {
    let key = signer().public_key().to_base64();
    let other = Signer::from_seed(&[8; 32]).public_key().to_base64();
    let commit = id('a');
    let text = format!(
        "# Keys\n\ned25519 {key} gate projects=openstack/*,x # ours\n  ed25519 {other}\nstart openstack/nova refs/heads/master {commit}\nstart x stable {commit}\n"
    );
    let trust = TrustFile::parse(&text).expect("a good file");
    let covers = |at: usize, project| trust.keys[at].covers(project);
    assert!(covers(0, "openstack/nova") && covers(0, "x") && !covers(0, "y") && covers(1, "y"));
    assert_eq!(
        (trust.keys[0].display_name(), trust.keys[1].display_name()),
        ("gate", &*trust.keys[1].key_id)
    );
    assert_eq!(trust.start("openstack/nova", "master"), Some(&commit));
    assert_eq!(trust.start("x", "master"), None);

    // The identity point: a key for which anybody can sign.
    let weak = format!("AQ{}=", "A".repeat(41));
    let bad = format!(
        "ed25519\ned25519 AAAA\ned25519 {weak}\nrsa {key}\ned25519 {key} a b\ned25519 {key} projects=\ned25519 {key} color=red\n\
         ed25519 {key}\ned25519 {key} again\nstart x\nstart x y z\nstart x y {commit}\nstart x refs/heads/y {commit}\n"
    );
    let errors = TrustFile::parse(&bad).expect_err("a bad file");
    let found: Vec<String> = errors.iter().map(ToString::to_string).collect();
    let key_form = "write it as `ed25519 PUBLIC-KEY [NAME] [projects=PATTERN,…]`";
    assert_eq!(
        found,
        [
            format!("line 1: {key_form}"),
            "line 2: this is not 32 bytes in base64; copy the line from the server again".into(),
            "line 3: these bytes are not a public key of ed25519; copy the line from the server again".into(),
            "line 4: `rsa` is unknown; a line is `ed25519 PUBLIC-KEY [NAME] [projects=PATTERN,…]` or `start PROJECT BRANCH COMMIT`".into(),
            format!("line 5: {key_form}"),
            format!("line 6: {key_form}"),
            format!("line 7: {key_form}"),
            "line 9 repeats line 8; delete one of them".into(),
            "line 10: write it as `start PROJECT BRANCH COMMIT`".into(),
            "line 11: `z` is not an object id; write all 40 or 64 hexadecimal digits in lower case".into(),
            "line 13 repeats line 12; delete one of them".into(),
        ]
    );
    assert_eq!(TrustFile::parse("# nothing\n"), Err(vec![TrustError::NoKey]));
}

#[test]
fn object_ids() {
    for (text, good) in [
        ("a".repeat(40), true),
        ("0".repeat(64), true),
        ("A".repeat(40), false),
        ("a".repeat(41), false),
        ("g".repeat(40), false),
    ] {
        assert_eq!(text.parse::<ObjectId>().is_ok(), good, "{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever a file is that has the seed somewhere in it: no message shows it.
    #[test]
    fn no_message_shows_the_seed(before in "[a-z0-9 \n#-]{0,30}", after in "[A-Za-z \n=]{0,10}") {
        for text in [format!("{before}{SEED}{after}"), format!("ed25519-private {before}{SEED}{after}")] {
            if let Err(error) = Signer::parse(&text) {
                let shown = format!("{error} {error:?}");
                prop_assert!(!shown.contains("BwcH"));
            }
        }
    }

    #[test]
    fn any_text(text in "\\PC{0,80}", lines in proptest::collection::vec("(ed25519|start|#)? ?[a-zA-Z0-9+/=*, ]{0,60}", 0..5)) {
        let _ = PublicKey::parse(&text);
        for text in [text, lines.join("\n")] {
            if let Err(errors) = TrustFile::parse(&text) {
                prop_assert!(!errors.is_empty());
            }
        }
    }
}
