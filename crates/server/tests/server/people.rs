//! Keys, signatures and roles.

use crate::common::{BEGINNING, Server, client};
use assay_engine::ids::Timestamp;
use assay_fakes::oidc::{CLIENT, FakeProvider, Person, SECRET, Trouble};
use assay_proto::clock::ManualClock;
use hmac_of::signature;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::sync::Arc;

/// openQA's signature, made here by hand: another hand than the server's.
mod hmac_of {
    use sha1::{Digest as _, Sha1};

    pub(crate) fn signature(secret: &str, message: &str) -> String {
        let mut key = [0; 64];
        key[..secret.len()].copy_from_slice(secret.as_bytes());
        let pad = |with: u8| key.map(|byte| byte ^ with);
        let inner = Sha1::new().chain_update(pad(0x36)).chain_update(message).finalize();
        hex::encode(Sha1::new().chain_update(pad(0x5c)).chain_update(inner).finalize())
    }
}

/// A request with a form as its body.
pub(crate) fn with_form(request: reqwest::RequestBuilder, form: &[(&str, &str)]) -> reqwest::RequestBuilder {
    let escaped = |text: &str| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<Vec<_>>().concat();
    let pairs: Vec<_> =
        form.iter().map(|(key, value)| format!("{}={}", escaped(key), escaped(value))).collect();
    request.header("content-type", "application/x-www-form-urlencoded").body(pairs.join("&"))
}

/// A form.
pub(crate) type Form<'a> = &'a [(&'a str, &'a str)];

/// A key of the server.
pub(crate) struct Key {
    pub(crate) user: String,
    pub(crate) public: String,
    pub(crate) secret: String,
}

impl Key {
    pub(crate) async fn make(server: &Server, user: &str, role: &str, days: Option<u32>) -> Self {
        let body = json!({"user": user, "role": role, "expires_days": days});
        let (status, made) = server.ask(Method::POST, "/api/assay/v1/keys", Some(body)).await;
        assert_eq!(status, StatusCode::CREATED, "{made}");
        let text = |name: &str| made[name].as_str().unwrap().to_owned();
        Self { user: text("user"), public: text("key"), secret: text("secret") }
    }

    /// A request signed at `at`, seconds.
    pub(crate) fn signed(
        &self,
        server: &Server,
        method: Method,
        path: &str,
        at: &str,
    ) -> reqwest::RequestBuilder {
        let hash = signature(&self.secret, &format!("{path}{at}"));
        client()
            .request(method, server.url(path))
            .header("accept", "json")
            .header("x-api-key", &self.public)
            .header("x-api-microtime", at)
            .header("x-api-hash", hash)
    }

    /// The answer of Assay's own API, asked with the key as a token.
    pub(crate) async fn own(
        &self,
        server: &Server,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> (u16, Value) {
        let token = format!("{}:{}:{}", self.user, self.public, self.secret);
        let url = server.url(&format!("/api/assay/v1/{path}"));
        let mut request = client().request(method, url).bearer_auth(token);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap();
        let (status, text) = (answer.status().as_u16(), answer.text().await.unwrap());
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// The answer to a request signed now, with a form as its body.
    pub(crate) async fn ask(
        &self,
        server: &Server,
        method: Method,
        path: &str,
        form: &[(&str, &str)],
    ) -> (u16, Value) {
        let now = (server.clock_micros() / 1_000_000).to_string();
        let mut request = self.signed(server, method, path, &now);
        if !form.is_empty() {
            request = with_form(request, form);
        }
        let answer = request.send().await.unwrap();
        let (status, text) = (answer.status().as_u16(), answer.text().await.unwrap());
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }
}

#[tokio::test]
async fn only_what_was_signed_here_and_now_counts() {
    let server = Server::start().await;
    let key = Key::make(&server, "ann", "operator", Some(1)).await;
    let stranger =
        Key { secret: "0123456789ABCDEF".to_owned(), public: key.public.clone(), user: "ann".to_owned() };
    let unknown =
        Key { secret: key.secret.clone(), public: "0123456789ABCDEF".to_owned(), user: "ann".to_owned() };
    let now = BEGINNING / 1_000_000;
    let time = |seconds: i64| (now + seconds).to_string();
    let skewed =
        "timestamp mismatch - check whether clocks on the local host and the web UI host are in sync";
    let cases = [
        (&key, time(0), 200, "ok"),
        (&key, format!("{now}.25"), 200, "ok"),
        (&key, time(299), 200, "ok"),
        (&key, time(-299), 200, "ok"),
        (&key, time(301), 403, skewed),
        (&key, time(-301), 403, skewed),
        (&stranger, time(0), 403, "invalid signature"),
        (&unknown, time(0), 403, "api key unknown"),
    ];
    for (key, time, status, error) in cases {
        let answer = key.signed(&server, Method::GET, "/api/v1/auth", &time).send().await.unwrap();
        let (got, text) = (answer.status().as_u16(), answer.text().await.unwrap());
        let said = serde_json::from_str::<Value>(&text)
            .map_or(text, |body| body["error"].as_str().unwrap().to_owned());
        assert_eq!((got, said.as_str()), (status, error), "{time}");
    }
    // A proxy asks whether somebody may do what they have signed for another address.
    let wanted = "/elsewhere/a%20b?c=d%20e~";
    let asked = async |key: &Key, original: Option<&str>| {
        let hash = signature(&key.secret, &format!("{wanted}{now}"));
        let request = client().get(server.url("/api/v1/auth")).header("x-api-key", &key.public);
        let request = request.header("x-api-microtime", now.to_string()).header("x-api-hash", hash);
        let request = original.into_iter().fold(request, |one, uri| one.header("x-original-uri", uri));
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(asked(&key, Some(wanted)).await, 200);
    assert_eq!(asked(&key, Some("/elsewhere/other")).await, 403);
    assert_eq!(asked(&key, None).await, 403);
    assert_eq!(asked(&stranger, Some(wanted)).await, 403);
    let own = key.signed(&server, Method::GET, "/api/v1/isos/1", &time(0)).header("x-original-uri", wanted);
    assert_eq!(own.send().await.unwrap().status().as_u16(), 404, "elsewhere the signature is of the request");
    let none = client().get(server.url("/api/v1/auth")).send().await.unwrap();
    assert_eq!(
        (none.status().as_u16(), none.json::<Value>().await.unwrap()),
        (403, json!({"error": "no api key"}))
    );
    let public = stranger.signed(&server, Method::GET, "/api/v1/jobs", &time(0)).send().await.unwrap();
    assert_eq!(public.status(), StatusCode::OK, "reading is open");

    server.pass(24 * 3600).await;
    let (status, body) = key.ask(&server, Method::GET, "/api/v1/auth", &[]).await;
    assert_eq!((status, body), (403, json!({"error": "api key expired"})));
}

#[tokio::test]
async fn personal_tokens_and_their_end() {
    let server = Server::start().await;
    let key = Key::make(&server, "ann", "operator", None).await;
    let ask = async |token: String, more: &[(&str, &str)]| {
        let mut request = client().get(server.url("/api/v1/auth")).bearer_auth(token);
        for (name, value) in more {
            request = request.header(*name, *value);
        }
        request.send().await.unwrap().status().as_u16()
    };
    let token = format!("{}:{}:{}", key.user, key.public, key.secret);
    assert_eq!(ask(token.clone(), &[]).await, 200);
    assert_eq!(
        ask(token.clone(), &[("x-forwarded-for", "192.0.2.7")]).await,
        403,
        "by a proxy without HTTPS"
    );
    let by_https = [("x-forwarded-for", "192.0.2.7"), ("x-forwarded-proto", "https")];
    assert_eq!(ask(token.clone(), &by_https).await, 200);
    for wrong in [
        format!("bob:{}:{}", key.public, key.secret),
        format!("ann:{}:0123456789ABCDEF", key.public),
        format!("ann:0123456789ABCDEF:{}", key.secret),
        "ann::".to_owned(),
    ] {
        assert_eq!(ask(wrong.clone(), &[]).await, 403, "{wrong}");
    }
    let basic = client()
        .get(server.url("/api/v1/auth"))
        .basic_auth("ann", Some(format!("{}:{}", key.public, key.secret)));
    assert_eq!(basic.send().await.unwrap().status(), StatusCode::OK);

    // Keys outlive the process, and nobody reads their secrets from the database.
    let server = server.stop_and_restart().await;
    let database = fs_err::read(server.dir.join("assay.db")).unwrap();
    assert!(!database.windows(16).any(|bytes| bytes == key.secret.as_bytes()));
    let (status, _) = key.ask(&server, Method::GET, "/api/v1/auth", &[]).await;
    assert_eq!(status, 200);
    let (_, users) = server.get("/api/assay/v1/users").await;
    assert_eq!(users["users"][0]["keys"][0]["key"], json!(key.public));
    assert!(!users.to_string().contains(&key.secret));
    let (status, _) = server.ask(Method::DELETE, &format!("/api/assay/v1/keys/{}", key.public), None).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(key.ask(&server, Method::GET, "/api/v1/auth", &[]).await.0, 403);
}

#[tokio::test]
async fn roles() {
    let server = Server::start().await;
    let viewer = Key::make(&server, "v", "viewer", None).await;
    let operator = Key::make(&server, "o", "operator", None).await;
    let admin = Key::make(&server, "a", "admin", None).await;
    let job = [("TEST", "x"), ("BACKEND", "dummy")];
    let machine = [("name", "64bit"), ("backend", "qemu")];
    let (post, get) = (Method::POST, Method::GET);
    let cases: [(&Method, &str, Form<'_>, [u16; 3]); 8] = [
        (&get, "/api/v1/jobs", &[], [200, 200, 200]),
        (&post, "/api/v1/jobs", &job, [403, 200, 200]),
        (&post, "/api/v1/jobs/1/comments", &[("text", "hello")], [200, 200, 200]),
        (&post, "/api/v1/jobs/1/cancel", &[], [403, 200, 200]),
        (&post, "/api/v1/machines", &machine, [403, 403, 200]),
        (&post, "/api/v1/job_groups", &[("name", "g")], [403, 403, 200]),
        (&Method::DELETE, "/api/v1/jobs/1/comments/1", &[], [403, 403, 200]),
        (&get, "/api/v1/isos/1", &[], [403, 404, 404]),
    ];
    for (method, path, form, want) in cases {
        for (key, want) in [&viewer, &operator, &admin].into_iter().zip(want) {
            if path.contains("comments") && want == 200 && key.user == "v" {
                // The viewer comes first, before there is a job.
                continue;
            }
            let (status, body) = key.ask(&server, method.clone(), path, form).await;
            assert_eq!(status, want, "{} {method} {path}: {body}", key.user);
        }
    }
    let (_, body) = operator.ask(&server, Method::POST, "/api/v1/machines", &machine).await;
    assert_eq!(body, json!({"error": "Administrator level required"}));
    let (_, body) = viewer.ask(&server, Method::POST, "/api/v1/jobs", &job).await;
    assert_eq!(body, json!({"error": "Operator level required"}));
    // The same roles in Assay's API.
    let body = json!({"settings": {"TEST": "x", "BACKEND": "dummy"}});
    for (key, want) in [(&viewer, 403), (&operator, 201)] {
        let token = format!("{}:{}:{}", key.user, key.public, key.secret);
        let request = client().post(server.url("/api/assay/v1/jobs")).bearer_auth(token).json(&body);
        assert_eq!(request.send().await.unwrap().status().as_u16(), want, "{}", key.user);
    }
    let token = format!("{}:{}:{}", operator.user, operator.public, operator.secret);
    let users = client().get(server.url("/api/assay/v1/users")).bearer_auth(token).send().await.unwrap();
    assert_eq!(users.status(), StatusCode::FORBIDDEN);
}

/// A browser: it follows no redirects by itself, and keeps its cookie in our hands.
pub(crate) async fn browser(
    server: &Server,
    method: Method,
    path: &str,
    cookie: Option<&str>,
    origin: Option<&str>,
    form: Form<'_>,
) -> reqwest::Response {
    let client =
        reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let mut request = client.request(method, server.url(path));
    if let Some(cookie) = cookie {
        request = request.header("cookie", format!("other=1; {cookie}"));
    }
    if let Some(origin) = origin {
        request = request.header("origin", origin);
    }
    with_form(request, form).send().await.unwrap()
}

async fn setup_token(server: &Server, user: &str, role: &str) -> String {
    let body = json!({"user": user, "role": role});
    let (status, made) = server.ask(Method::POST, "/api/assay/v1/setup-tokens", Some(body)).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    made["token"].as_str().unwrap().to_owned()
}

/// Signs in with a token; the cookie without its attributes, and with them.
async fn sign_in(server: &Server, token: &str) -> (String, String) {
    let answer =
        browser(server, Method::POST, "/login", None, None, &[("token", token), ("next", "//evil.example")])
            .await;
    assert_eq!(
        (answer.status(), &answer.headers()["location"]),
        (StatusCode::SEE_OTHER, &"/".parse().unwrap())
    );
    let whole = answer.headers()["set-cookie"].to_str().unwrap().to_owned();
    (whole.split(';').next().unwrap().to_owned(), whole)
}

/// The cookie of somebody who has signed in.
pub(crate) async fn cookie_of(server: &Server, user: &str, role: &str) -> String {
    sign_in(server, &setup_token(server, user, role).await).await.0
}

#[tokio::test]
async fn people_sign_in_on_the_pages() {
    let server = Server::start().await;
    let token = setup_token(&server, "Ann <b>", "operator").await;
    let wrong = browser(&server, Method::POST, "/login", None, None, &[("token", "0000")]).await;
    assert_eq!(wrong.status(), StatusCode::FORBIDDEN);
    assert!(wrong.text().await.unwrap().contains("no setup token"));

    let (cookie, attributes) = sign_in(&server, &token).await;
    for part in ["HttpOnly", "SameSite=Lax", "Path=/", "Max-Age=1209600"] {
        assert!(attributes.contains(part), "{attributes}");
    }
    assert!(!attributes.contains("Secure"), "the browser does not speak HTTPS here");
    let again = browser(&server, Method::POST, "/login", None, None, &[("token", &token)]).await;
    assert_eq!(again.status(), StatusCode::FORBIDDEN, "a token is good for one sign-in");

    let page = async |cookie: &str| {
        browser(&server, Method::GET, "/gate", Some(cookie), None, &[]).await.text().await.unwrap()
    };
    let shown = page(&cookie).await;
    assert!(shown.contains("Ann &#60;b&#62;") && !shown.contains("Sign in"), "{shown}");
    assert!(page("assay_session=00").await.contains("Sign in"));

    // An operator posts jobs, but makes no keys; and only this server's own pages may make a browser do so.
    let own = server.url("");
    let own = own.trim_end_matches('/');
    let post = async |path: &str, origin: Option<&str>| {
        browser(&server, Method::POST, path, Some(&cookie), origin, &[("TEST", "t"), ("DISTRI", "d")])
            .await
            .status()
    };
    assert_eq!(post("/api/v1/jobs", Some(own)).await, StatusCode::OK);
    assert_eq!(post("/api/v1/jobs", Some("https://evil.example")).await, StatusCode::FORBIDDEN);
    assert_eq!(post("/api/v1/jobs", None).await, StatusCode::FORBIDDEN, "whose page is it?");
    assert_eq!(post("/api/assay/v1/keys", Some(own)).await, StatusCode::FORBIDDEN);

    // A session outlives the server, and ends when its owner or an admin ends it.
    let server = server.stop_and_restart().await;
    let alive = async |cookie: &str| {
        let page =
            browser(&server, Method::GET, "/login", Some(cookie), None, &[]).await.text().await.unwrap();
        page.contains("Sign out")
    };
    assert!(alive(&cookie).await);
    let own = server.url("");
    let out =
        browser(&server, Method::POST, "/logout", Some(&cookie), Some(own.trim_end_matches('/')), &[]).await;
    assert!(out.headers()["set-cookie"].to_str().unwrap().contains("Max-Age=0"));
    assert!(!alive(&cookie).await);
    let (second, _) = sign_in(&server, &setup_token(&server, "Ann <b>", "operator").await).await;
    assert!(alive(&second).await);
    let (status, _) = server.ask(Method::DELETE, "/api/assay/v1/users/Ann%20%3Cb%3E/sessions", None).await;
    assert_eq!((status, alive(&second).await), (StatusCode::OK, false));
}

/// Goes to the provider and back; the answer to the callback, and the cookie of the attempt.
async fn through_provider(server: &Server, start: &str) -> (reqwest::Response, String) {
    let begun = browser(server, Method::GET, start, None, None, &[]).await;
    assert_eq!(begun.status(), StatusCode::SEE_OTHER);
    let cookie = begun.headers()["set-cookie"].to_str().unwrap().to_owned();
    for part in ["HttpOnly", "SameSite=Lax", "Path=/login/oidc", "Max-Age=600"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    let cookie = cookie.split(';').next().unwrap().to_owned();
    let provider = client().get(begun.headers()["location"].to_str().unwrap()).send().await.unwrap();
    let back = provider.headers()["location"].to_str().unwrap().to_owned();
    let path =
        back.strip_prefix(&server.url("")).unwrap_or_else(|| panic!("{back} is not this server")).to_owned();
    (browser(server, Method::GET, &path, Some(&cookie), None, &[]).await, path)
}

#[tokio::test]
async fn people_sign_in_with_a_provider() {
    let clock = Arc::new(ManualClock::new(Timestamp(BEGINNING)));
    let fake = FakeProvider::start(clock).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let dir = camino::Utf8Path::from_path(dir.path()).unwrap();
    fs_err::write(dir.join("secret"), SECRET).unwrap();
    let file = dir.join("assay.toml");
    let text = format!(
        "[sign-in.fedora]\nissuer = \"{}\"\nclient-id = \"{CLIENT}\"\nclient-secret-file = \"secret\"\n\
         name = \"Fedora <3\"\nroles = {{ qa = \"operator\" }}\n",
        fake.issuer()
    );
    fs_err::write(&file, text).unwrap();
    let server = Server::start_with(|config| config.config = Some(file.clone())).await;
    let (_, page) = server.page("/login?next=/jobs/3%3Fx=1").await;
    assert!(page.contains(r#"href="/login/oidc/fedora?next=%2Fjobs%2F3%3Fx%3D1""#), "{page}");
    assert!(page.contains("Sign in with Fedora &#60;3"), "{page}");

    fake.set_person(Person::new("1001", "ann", &["qa"]));
    let (answer, path) = through_provider(&server, "/login/oidc/fedora?next=%2Fjobs%2F3%3Fx%3D1").await;
    assert_eq!(answer.status(), StatusCode::SEE_OTHER);
    assert_eq!(answer.headers()["location"], "/jobs/3?x=1");
    let cookies: Vec<_> =
        answer.headers().get_all("set-cookie").iter().map(|c| c.to_str().unwrap()).collect();
    assert!(cookies.iter().any(|cookie| cookie.starts_with("assay_sign_in=;")), "{cookies:?}");
    let session = cookies.iter().find(|cookie| cookie.starts_with("assay_session=")).unwrap();
    let session = session.split(';').next().unwrap();
    let shown = browser(&server, Method::GET, "/login", Some(session), None, &[]).await.text().await.unwrap();
    assert!(shown.contains("<h1>ann@fedora</h1>") && shown.contains("<b>operator</b>"), "{shown}");

    // Whoever is given the address of somebody's callback is not signed in as them.
    let stolen = browser(&server, Method::GET, &path, None, None, &[]).await;
    assert_eq!(stolen.status(), StatusCode::BAD_REQUEST);
    assert!(stolen.headers().get("set-cookie").is_none());

    // Out of the group, and no operator from the next sign-in on; a link leads nowhere else.
    fake.set_person(Person::new("1001", "ann", &[]));
    let (answer, _) = through_provider(&server, "/login/oidc/fedora?next=//evil.example").await;
    assert_eq!(answer.headers()["location"], "/");
    let (_, users) = server.get("/api/assay/v1/users").await;
    assert_eq!(users["users"].as_array().unwrap().len(), 1, "{users}");
    assert_eq!(
        (&users["users"][0]["name"], &users["users"][0]["role"]),
        (&json!("ann@fedora"), &json!("viewer"))
    );

    // A person is who the provider says, whatever the name: it may change, and another person may have it.
    let names = async |server: &Server| {
        let (_, users) = server.get("/api/assay/v1/users").await;
        let users = users["users"].as_array().unwrap().iter();
        users
            .map(|user| format!("{} {}", user["name"].as_str().unwrap(), user["role"].as_str().unwrap()))
            .collect::<Vec<_>>()
    };
    fake.set_person(Person::new("1001", "anna", &["qa"]));
    let (answer, _) = through_provider(&server, "/login/oidc/fedora").await;
    assert_eq!(answer.status(), StatusCode::SEE_OTHER);
    assert_eq!(names(&server).await, ["ann@fedora operator"]);
    let server = server.kill_and_restart_with(|config| config.config = Some(file)).await;
    fake.set_person(Person::new("2002", "ann", &["qa"]));
    let (answer, _) = through_provider(&server, "/login/oidc/fedora").await;
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    assert!(
        answer
            .headers()
            .get("set-cookie")
            .is_none_or(|cookie| !cookie.to_str().unwrap().contains("assay_session"))
    );
    let text = answer.text().await.unwrap();
    assert!(
        text.contains("ann@fedora is another person here") && text.contains("an admin removes that user"),
        "{text}"
    );
    // Somebody from before there were bindings, or made by hand, is whoever comes first with the name.
    let made = json!({"user": "bea@fedora", "role": "operator"});
    assert_eq!(server.ask(Method::POST, "/api/assay/v1/keys", Some(made)).await.0, StatusCode::CREATED);
    for (subject, status) in
        [("3003", StatusCode::SEE_OTHER), ("4004", StatusCode::FORBIDDEN), ("3003", StatusCode::SEE_OTHER)]
    {
        fake.set_person(Person::new(subject, "bea", &["qa"]));
        assert_eq!(through_provider(&server, "/login/oidc/fedora").await.0.status(), status, "{subject}");
    }
    assert_eq!(server.ask(Method::DELETE, "/api/assay/v1/users/ann@fedora", None).await.0, StatusCode::OK);
    fake.set_person(Person::new("2002", "ann", &["qa"]));
    assert_eq!(through_provider(&server, "/login/oidc/fedora").await.0.status(), StatusCode::SEE_OTHER);
    assert_eq!(names(&server).await, ["ann@fedora operator", "bea@fedora operator"]);

    fake.set_trouble(Some(Trouble::Forged));
    let (answer, _) = through_provider(&server, "/login/oidc/fedora").await;
    assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
    assert!(answer.headers().get("set-cookie").is_none());
    let text = answer.text().await.unwrap();
    assert!(text.contains("ID token is wrong") && text.contains("Do not go on from this network"), "{text}");
    let (status, page) = server.page("/login/oidc/nobody").await;
    assert_eq!(status, StatusCode::NOT_FOUND, "{page}");
}

#[tokio::test]
async fn a_request_that_says_so_counts_once() {
    let server = Server::start().await;
    let key = Key::make(&server, "ann", "operator", None).await;
    let token = format!("{}:{}:{}", key.user, key.public, key.secret);
    let now = server.clock_micros() / 1_000_000;
    let post = async |path: &str, once: &str| {
        let request = client().post(server.url(path)).bearer_auth(&token).header("assay-once", once);
        let answer =
            request.json(&json!({"settings": {"TEST": "t", "BACKEND": "dummy"}})).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let (ours, theirs) = ("/api/assay/v1/jobs", "/api/v1/jobs?TEST=t");
    for (path, at, random, want, text) in [
        (ours, now, "aaaaaaaaaaaaaaaa", 201, "jobs"),
        (ours, now, "aaaaaaaaaaaaaaaa", 409, "has come before"),
        (theirs, now, "aaaaaaaaaaaaaaaa", 409, "has come before"),
        (theirs, now, "bbbbbbbbbbbbbbbb", 200, "id"),
        (ours, now - 1000, "cccccccccccccccc", 403, "too far off"),
        (ours, now, "short", 400, "cannot be read"),
    ] {
        let (status, body) = post(path, &format!("{at}-{random}")).await;
        assert_eq!(status, want, "{path} {random}: {body}");
        assert!(body.contains(text), "{path} {random}: {body}");
    }
    let (_, jobs) = server.get("/api/v1/jobs").await;
    assert_eq!(jobs["jobs"].as_array().unwrap().len(), 2, "each once");
}

/// With a file for the server, and a secret beside it.
async fn configured(text: &str) -> (Server, tempfile::TempDir) {
    let place = tempfile::tempdir().unwrap();
    let dir = camino::Utf8Path::from_path(place.path()).unwrap();
    fs_err::write(dir.join("secret"), SECRET).unwrap();
    let file = dir.join("assay.toml");
    fs_err::write(&file, text).unwrap();
    (Server::start_with(|config| config.config = Some(file)).await, place)
}

#[tokio::test]
async fn several_providers_are_kept_apart() {
    let clock = Arc::new(ManualClock::new(Timestamp(BEGINNING)));
    let fakes =
        [FakeProvider::start(clock.clone()).await.unwrap(), FakeProvider::start(clock).await.unwrap()];
    let section = |name: &str, fake: &FakeProvider, role: &str| {
        format!(
            "[sign-in.{name}]\nissuer = \"{}\"\nclient-id = \"{CLIENT}\"\nclient-secret-file = \"secret\"\nroles = {{ qa = \"{role}\" }}\n",
            fake.issuer()
        )
    };
    let text = section("fedora", &fakes[0], "operator") + &section("suse", &fakes[1], "admin");
    let (server, _place) = configured(&text).await;
    let (_, page) = server.page("/login").await;
    for (name, fake, role) in [("fedora", &fakes[0], "operator"), ("suse", &fakes[1], "admin")] {
        let start = format!("/login/oidc/{name}");
        assert!(page.contains(&start), "{page}");
        // The same person to both, and two people here.
        fake.set_person(Person::new("1001", "ann", &["qa"]));
        let (answer, _) = through_provider(&server, &start).await;
        let cookies: Vec<_> =
            answer.headers().get_all("set-cookie").iter().map(|c| c.to_str().unwrap()).collect();
        let session = cookies.iter().find(|cookie| cookie.starts_with("assay_session=")).unwrap();
        let session = session.split(';').next().unwrap();
        let shown =
            browser(&server, Method::GET, "/login", Some(session), None, &[]).await.text().await.unwrap();
        let (who, may) = (format!("<h1>ann@{name}</h1>"), format!("<b>{role}</b>"));
        assert!(shown.contains(&who) && shown.contains(&may), "{shown}");
    }
    let (_, users) = server.get("/api/assay/v1/users").await;
    let mut known: Vec<_> =
        users["users"].as_array().unwrap().iter().map(|user| (&user["name"], &user["role"])).collect();
    known.sort_by_key(|(name, _)| name.as_str());
    assert_eq!(known, [(&json!("ann@fedora"), &json!("operator")), (&json!("ann@suse"), &json!("admin"))]);
    // What one says of somebody is worth nothing at the address of the other.
    let begun = browser(&server, Method::GET, "/login/oidc/fedora", None, None, &[]).await;
    let cookie = begun.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    let provider = client().get(begun.headers()["location"].to_str().unwrap()).send().await.unwrap();
    let back = provider.headers()["location"].to_str().unwrap().replace("/oidc/fedora/", "/oidc/suse/");
    let path = back.strip_prefix(&server.url("")).unwrap();
    let crossed = browser(&server, Method::GET, path, Some(&cookie), None, &[]).await;
    assert!(crossed.status().is_client_error(), "{}", crossed.status());
    assert!(
        crossed
            .headers()
            .get_all("set-cookie")
            .iter()
            .all(|c| !c.to_str().unwrap().starts_with("assay_session="))
    );
}

#[tokio::test]
async fn a_server_may_demand_that_changes_by_a_token_count_once() {
    let (server, _place) = configured("[tokens]\nonce = true\n").await;
    let now = server.clock_micros() / 1_000_000;
    let send = async |method: Method, path: &str, token: &str, once: Option<&str>| {
        let mut request = client().request(method, server.url(path)).bearer_auth(token);
        if let Some(once) = once {
            request = request.header("assay-once", format!("{now}-{once}"));
        }
        let request = request.json(&json!({"user": "ann", "role": "operator", "expires_days": null}));
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.json::<serde_json::Value>().await.unwrap_or_default())
    };
    let admin = server.handle.admin_token.clone();
    let (status, made) = send(Method::POST, "/api/assay/v1/keys", &admin, Some("aaaaaaaaaaaaaaaa")).await;
    assert_eq!(status, 201, "{made}");
    let text = |name: &str| made[name].as_str().unwrap().to_owned();
    let key = Key { user: text("user"), public: text("key"), secret: text("secret") };
    let own = format!("{}:{}:{}", key.user, key.public, key.secret);
    let keys = "/api/assay/v1/keys";
    for (method, path, token, once, want) in [
        (Method::POST, keys, &admin, None, 403),
        (Method::POST, keys, &admin, Some("aaaaaaaaaaaaaaaa"), 409),
        (Method::POST, keys, &admin, Some("bbbbbbbbbbbbbbbb"), 201),
        (Method::POST, "/api/v1/jobs?TEST=t", &own, None, 403),
        (Method::POST, "/api/v1/jobs?TEST=t", &own, Some("cccccccccccccccc"), 200),
        (Method::GET, "/api/assay/v1/users", &admin, None, 200),
    ] {
        let (status, body) = send(method, path, token, once).await;
        assert_eq!(status, want, "{path} {once:?}: {body}");
        assert!(status != 403 || body.to_string().contains("Assay-Once"), "{body}");
    }
    // openQA's signatures have their own window, and workers theirs.
    let (status, body) = key.ask(&server, Method::POST, "/api/v1/jobs", &[("TEST", "t")]).await;
    assert_eq!(status, 200, "{body}");
    assert!(server.worker("w").connect(&[]).await.is_ok());
}
