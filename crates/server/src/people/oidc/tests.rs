//! The client against a provider that signs for real and does wrong what it is told to.

use super::*;
use assay_engine::ids::Timestamp;
use assay_fakes::oidc::{Algorithm, CLIENT, FakeProvider, Person, SECRET, Trouble};
use assay_proto::clock::ManualClock;
use camino::Utf8PathBuf;
use openidconnect::url::Url;
use serde_json::json;

const HERE: &str = "http://127.0.0.1:8484";

struct World {
    clock: Arc<ManualClock>,
    fake: FakeProvider,
    settings: ProviderSettings,
    providers: Providers,
    _keep: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp(1_795_219_200_000_000)));
        let fake = FakeProvider::start(clock.clone()).await.unwrap();
        let keep = tempfile::tempdir().unwrap();
        let secret = Utf8PathBuf::from_path_buf(keep.path().join("secret")).unwrap();
        fs_err::write(&secret, format!("{SECRET}\n")).unwrap();
        let settings = ProviderSettings {
            issuer: fake.issuer().to_owned(),
            client_id: CLIENT.to_owned(),
            client_secret_file: secret,
            title: "Fedora".to_owned(),
            scopes: vec!["profile".to_owned(), "groups".to_owned()],
            name_claim: "preferred_username".to_owned(),
            groups_claim: "groups".to_owned(),
            roles: [("qa".to_owned(), UserRole::Operator), ("qa-admins".to_owned(), UserRole::Admin)].into(),
            ca_file: None,
        };
        let mut world = Self { providers: Providers::new(clock.clone()), clock, fake, settings, _keep: keep };
        world.set(|_| {});
        world
    }

    fn set(&mut self, change: impl FnOnce(&mut ProviderSettings)) {
        change(&mut self.settings);
        self.providers.set([("fedora".to_owned(), self.settings.clone())].into(), HERE);
    }

    async fn sign_in(&self) -> Result<Known, OidcError> {
        let begun = self.providers.begin("fedora", "/jobs/3").await?;
        let returned = visit(&begun.address).await;
        let (known, next) = self.providers.finish("fedora", returned, Some(&begun.browser)).await?;
        assert_eq!(next, "/jobs/3");
        Ok(known)
    }
}

/// What a browser does with the address.
async fn visit(address: &str) -> Returned {
    let client = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .timeout(Duration::from_secs(30))
        .build()
        .unwrap();
    let answer = client.get(address).send().await.unwrap();
    assert_eq!(answer.status(), 302, "{address}");
    let location = Url::parse(answer.headers()["location"].to_str().unwrap()).unwrap();
    assert_eq!(location.path(), "/login/oidc/fedora/callback");
    let value =
        |key: &str| location.query_pairs().find(|(name, _)| name == key).map(|(_, value)| value.into_owned());
    let (state, code) = (value("state").unwrap_or_default(), value("code").unwrap_or_default());
    Returned { state, code, error: value("error") }
}

#[tokio::test]
async fn people_come_in_with_the_role_of_their_groups() {
    let mut world = World::new().await;
    for (algorithm, by_user_info, groups, role) in [
        (Algorithm::Rs256, false, &["qa", "x"][..], UserRole::Operator),
        (Algorithm::Rs256, true, &["qa", "qa-admins"], UserRole::Admin),
        (Algorithm::Es256, false, &["x"], UserRole::Viewer),
        (Algorithm::EdDsa, true, &[], UserRole::Viewer),
    ] {
        // The old keys are in the cache: each time they have to be asked for anew.
        world.fake.rotate(algorithm).unwrap();
        world.fake.set_by_user_info(by_user_info);
        world.fake.set_person(Person::new("1001", "ann", groups));
        let known = world.sign_in().await.unwrap();
        let groups = groups.iter().map(ToString::to_string).collect();
        let identity = Identity { issuer: world.fake.issuer().to_owned(), subject: "1001".to_owned() };
        let (provider, title, name) = ("fedora".to_owned(), "Fedora".to_owned(), "ann@fedora".to_owned());
        assert_eq!(known, Known { provider, title, identity, name, groups, role }, "{algorithm:?}");
    }
    // One at the beginning, one for each new key after it.
    assert_eq!(world.fake.discoveries(), 4);
    world.sign_in().await.unwrap();
    assert_eq!(world.fake.discoveries(), 4);
    world.clock.advance(3_600_000_000);
    world.sign_in().await.unwrap();
    assert_eq!(world.fake.discoveries(), 5, "a key that was taken back is not trusted for ever");

    world
        .fake
        .set_person(Person::new("7", "bob", &[]).with("groups", json!("qa")).with("upn", json!("bob@x.org")));
    world.set(|settings| settings.name_claim = "upn".to_owned());
    let known = world.sign_in().await.unwrap();
    assert_eq!((known.name.as_str(), known.role), ("bob@x.org@fedora", UserRole::Operator));
}

#[tokio::test]
async fn whatever_is_wrong_is_refused_with_its_own_words() {
    let world = World::new().await;
    let issuer = world.fake.issuer().to_owned();
    for algorithm in [Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa] {
        world.fake.rotate(algorithm).unwrap();
        world.fake.set_trouble(None);
        world.sign_in().await.unwrap();
        world.fake.set_trouble(Some(Trouble::Forged));
        let refused = world.sign_in().await.unwrap_err();
        assert!(matches!(refused, OidcError::Signature { .. }), "{algorithm:?}: {refused:?}");
    }
    let mut texts = std::collections::BTreeSet::new();
    for (trouble, expected, help) in [
        (Trouble::WrongNonce, "Fedora's ID token belongs to another sign-in.", "Do not go on"),
        (Trouble::WrongAudience, "is not for this server alone", "client-id"),
        (Trouble::Expired, "Fedora's ID token has expired.", "clock"),
        (Trouble::Forged, "The signature of Fedora's ID token is wrong", "Do not go on"),
        (Trouble::SharedSecret, "algorithm `HS256` is not one of", "RS256, ES256 or EdDSA"),
        (Trouble::UnpublishedKey, "a key that Fedora does not publish", "tell an admin"),
        (Trouble::WrongIssuer, "is from another issuer", "issuer"),
        (Trouble::NoIdToken, "its answer has no ID token", "scope openid"),
        (Trouble::Garbage, "cannot be read", "log"),
        (Trouble::Declined, "Fedora did not let you in: access_denied.", "ask the provider's people"),
    ] {
        world.fake.set_trouble(Some(trouble));
        let refused = world.sign_in().await.unwrap_err();
        let text = refused.to_string();
        assert!(text.contains(expected), "{trouble:?}: {text}");
        assert!(refused.help().contains(help), "{trouble:?}: {}", refused.help());
        assert!(texts.insert(text), "{trouble:?} says the same as another");
    }
    for (trouble, expected) in [
        (Trouble::NoNonce, "belongs to another sign-in"),
        (Trouble::TwoAudiences, "not for this server alone"),
        (Trouble::Unsigned, "signature"),
    ] {
        world.fake.set_trouble(Some(trouble));
        let text = world.sign_in().await.unwrap_err().to_string();
        assert!(text.contains(expected), "{trouble:?}: {text}");
    }
    world.fake.set_by_user_info(true);
    world.fake.set_trouble(Some(Trouble::OtherPerson));
    let refused = world.sign_in().await.unwrap_err();
    assert!(matches!(refused, OidcError::UserInfo { .. }), "{refused:?}");
    world.fake.set_trouble(None);
    assert!(world.sign_in().await.is_ok(), "{issuer} is well again");
}

#[tokio::test]
async fn a_provider_that_is_down_or_another_holds_up_nobody() {
    let mut world = World::new().await;
    world.fake.set_trouble(Some(Trouble::Broken));
    let refused = world.sign_in().await.unwrap_err();
    assert_eq!(refused.to_string(), "Fedora does not answer: it says 500 Internal Server Error.");
    world.fake.set_trouble(Some(Trouble::WrongDiscovery));
    let refused = world.sign_in().await.unwrap_err().to_string();
    assert!(refused.contains("https://elsewhere.example"), "{refused}");

    // It breaks while somebody signs in.
    world.fake.set_trouble(None);
    let begun = world.providers.begin("fedora", "/").await.unwrap();
    let returned = visit(&begun.address).await;
    world.fake.set_trouble(Some(Trouble::Broken));
    let refused = world.providers.finish("fedora", returned, Some(&begun.browser)).await.unwrap_err();
    assert!(matches!(refused, OidcError::Unreachable { .. }), "{refused:?}");

    // What nobody answers is not waited for.
    world.fake.set_trouble(Some(Trouble::Silent));
    let mut hasty = Providers::new(world.clock.clone());
    hasty.deadline = Duration::from_millis(20);
    hasty.set([("fedora".to_owned(), world.settings.clone())].into(), HERE);
    let refused = hasty.begin("fedora", "/").await.unwrap_err();
    assert_eq!(refused.to_string(), "Fedora does not answer: nothing came within 20ms.");

    let refused = world.providers.begin("nobody", "/").await.unwrap_err();
    assert_eq!(refused, OidcError::UnknownProvider("nobody".to_owned()));
    world.fake.set_trouble(None);
    world.set(|settings| settings.client_secret_file = "/nonexistent/secret".into());
    let refused = world.sign_in().await.unwrap_err();
    assert!(refused.to_string().contains("/nonexistent/secret"), "{refused}");
    world.set(|settings| settings.issuer = "http://127.0.0.1:1".to_owned());
    let refused = world.sign_in().await.unwrap_err();
    assert!(matches!(refused, OidcError::Unreachable { .. }), "{refused:?}");
}

#[tokio::test]
async fn an_attempt_is_finished_once_by_the_browser_that_began_it() {
    let mut world = World::new().await;
    let begun = world.providers.begin("fedora", "/").await.unwrap();
    let asked = Url::parse(&begun.address).unwrap();
    let asked: BTreeMap<_, _> = asked.query_pairs().into_owned().collect();
    assert_eq!(asked["scope"], "openid profile groups");
    assert_eq!((asked["code_challenge_method"].as_str(), asked["response_type"].as_str()), ("S256", "code"));
    assert_eq!(asked["redirect_uri"], format!("{HERE}/login/oidc/fedora/callback"));

    let returned = visit(&begun.address).await;
    for browser in [None, Some("another")] {
        let refused = world.providers.finish("fedora", returned.clone(), browser).await.unwrap_err();
        assert_eq!(refused, OidcError::OtherBrowser);
    }
    world.providers.finish("fedora", returned.clone(), Some(&begun.browser)).await.unwrap();
    let again = world.providers.finish("fedora", returned, Some(&begun.browser)).await.unwrap_err();
    assert_eq!(again, OidcError::NoAttempt);

    // The code of another's sign-in, put into one's own: PKCE and the nonce are of this one.
    let (mine, other) = (
        world.providers.begin("fedora", "/").await.unwrap(),
        world.providers.begin("fedora", "/").await.unwrap(),
    );
    let (returned, stolen) = (visit(&mine.address).await, visit(&other.address).await);
    let mixed = Returned { code: stolen.code, ..returned };
    let refused = world.providers.finish("fedora", mixed, Some(&mine.browser)).await.unwrap_err();
    assert!(refused.to_string().contains("the verifier of the challenge"), "{refused}");

    let begun = world.providers.begin("fedora", "/").await.unwrap();
    let returned = visit(&begun.address).await;
    world.clock.advance(600_000_000);
    let late = world.providers.finish("fedora", returned, Some(&begun.browser)).await.unwrap_err();
    assert_eq!(late, OidcError::NoAttempt);

    let begun = world.providers.begin("fedora", "/").await.unwrap();
    let returned = visit(&begun.address).await;
    let secret = world.settings.client_secret_file.clone();
    fs_err::write(&secret, "another\n").unwrap();
    world.set(|_| {});
    let refused = world.providers.finish("fedora", returned, Some(&begun.browser)).await.unwrap_err();
    assert!(matches!(refused, OidcError::Code { .. }), "{refused:?}");
}

#[tokio::test]
async fn names_are_those_of_one_provider() {
    let mut world = World::new().await;
    let long = "x".repeat(81);
    for bad in ["ann bob", "ann:key", "a\u{202e}nna", "<b>", "a/b", "a\nb", long.as_str()] {
        world.fake.set_person(Person::new("1", bad, &[]));
        let refused = world.sign_in().await.unwrap_err();
        assert!(matches!(refused, OidcError::BadName { .. }), "{bad:?}: {refused:?}");
    }
    for missing in [json!(null), json!(""), json!(5)] {
        world.fake.set_person(Person::new("1", "ann", &[]).with("upn", missing.clone()));
        world.set(|settings| settings.name_claim = "upn".to_owned());
        let refused = world.sign_in().await.unwrap_err();
        assert!(matches!(refused, OidcError::NoName { .. }), "{missing}: {refused:?}");
    }
    world.set(|settings| settings.name_claim = "email".to_owned());
    let ann = Person::new("1", "ann", &[]).with("email", json!("ann@x.org"));
    world.fake.set_person(ann.clone().with("email_verified", json!(false)));
    assert!(world.sign_in().await.is_err(), "anybody can say that an address is theirs");
    world.fake.set_person(ann.with("email_verified", json!(true)));
    assert_eq!(world.sign_in().await.unwrap().name, "ann@x.org@fedora");
}
