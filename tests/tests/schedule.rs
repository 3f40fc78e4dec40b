//! Composes, updates and candidates: what is scheduled for them, by messages and by their names alone.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use assay_fakes::bodhi::FakeBodhi;
use assay_fakes::copr::FakeCopr;
use assay_fakes::koji::{FakeKoji, TaskState};
use assay_tests::events::{RULES, SECRET, configure, load_templates, until};
use assay_tests::{Place, Up, asking, repository, signature};
use fs_err as fs;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

async fn a_candidate_and_a_build_of_coreos(place: &Place, up: &Up<'_>, info: &Value, images: &Value) {
    // A candidate: its group's page says so, once.
    let candidate = place.join("candidate/metadata");
    fs::create_dir_all(&candidate).unwrap();
    let of_candidate = |text: &Value| {
        text.to_string()
            .replace("Fedora-Rawhide-20261121.n.0", "Fedora-45-20261013.0")
            .replace("nightly", "production")
    };
    fs::write(candidate.join("composeinfo.json"), of_candidate(info)).unwrap();
    fs::write(candidate.join("images.json"), of_candidate(images)).unwrap();
    let address = format!("file://{}", place.join("candidate"));
    for known in [false, true] {
        let ended =
            place.run(&["compose", "schedule", &address, "--flavors", "Server-dvd-iso", "--json"]).await;
        let posts = ended.expect(0).json()["posts"].clone();
        let what = "comment on fedora: tag:Fedora-45-20261013.0:important:candidate";
        let said = posts.as_array().unwrap().iter().find(|post| post["what"] == what).unwrap();
        assert_eq!((&said["state"], &said["known"]), (&json!("done"), &json!(known)), "{said}");
    }
    let comments = up.anonymous(Method::GET, "/api/v1/groups/1/comments").send().await.unwrap();
    let comments = comments.json::<Value>().await.unwrap();
    assert_eq!(comments.as_array().unwrap().len(), 1, "{comments}");
    assert_eq!(comments[0]["text"], "tag:Fedora-45-20261013.0:important:candidate");

    // A build of CoreOS has its own metadata.
    let meta = json!({"buildid": "46.20261121.91.0", "coreos-assembler.basearch": "x86_64", "images": {"live-iso": {"path": "live.iso"}}});
    fs::create_dir(place.join("coreos")).unwrap();
    fs::write(place.join("coreos/meta.json"), meta.to_string()).unwrap();
    let address = format!("file://{}", place.join("coreos"));
    let ended = place.run(&["compose", "schedule", &address, "--dry-run"]).await;
    // Its flavor has no product here.
    let said = &ended.expect(1).stdout;
    assert!(said.contains("Fedora-CoreOS-46.20261121.91.0") && said.contains("would be refused"), "{said}");
    let ended = place.run(&["compose", "schedule", &address]).await;
    assert!(ended.expect(1).stdout.contains("1 post, 1 refused"), "{}", ended.stdout);
}

/// What cannot be chosen, in words.
async fn wrong_choices(place: &Place, location: &str) {
    let wrong = place.run(&["compose", "schedule", location, "--flavors", "Server-dvd"]).await;
    assert!(wrong.expect(2).stderr.contains("as the flavor \"Server-dvd\""), "{}", wrong.stderr);
    for key in ["arch", "FLAVOR"] {
        let set = format!("{key}=x");
        let wrong = place.run(&["compose", "schedule", location, "--set", &set]).await;
        assert!(wrong.expect(2).stderr.contains("is what the posts differ in"), "{}", wrong.stderr);
    }
    let wrong = place.run(&["compose", "schedule", location, "--set", "GRUBADD"]).await;
    assert!(wrong.expect(2).stderr.contains("expected KEY=VALUE"), "{}", wrong.stderr);
}

async fn what_it_has_nothing_of(place: &Place, location: &str) {
    let two = place.run(&["compose", "schedule", location, "--flavors", "server-dvd-iso,KDE-live-iso"]).await;
    assert!(two.expect(0).stdout.contains("nothing of it is wanted as KDE-live-iso"), "{}", two.stdout);
    let none = place.run(&["compose", "schedule", location, "--arches", "sparc"]).await;
    assert!(none.expect(1).stdout.ends_with(": 0 posts\n"), "{}", none.stdout);
}

#[tokio::test]
async fn hooks_composes_and_updates() {
    let place = Place::new();
    fs::write(place.join("secret"), SECRET).unwrap();
    let example = fs::read_to_string(repository().join("examples/fedora/schedule.yaml")).unwrap();
    fs::write(place.join("schedule.yaml"), example).unwrap();
    let rules = format!(
        "{RULES}\n  - name: compose\n    when: {{topic: 'forge.push', body.location: {{exists: true}}}}\n    run: {{compose: {{location: '{{body.location}}'}}}}\n"
    );
    let hook = "[source.forge]\ndriver = \"webhook\"\nsecret-file = \"secret\"\ntopic = \"forge\"\ntopic-header = \"x-github-event\"\n";
    let config = configure(&place, hook, &rules);
    let up = Up::start_as(&place, "server", &["--config", &config]).await;
    load_templates(&place).await;

    let metadata = place.join("compose/metadata");
    fs::create_dir_all(&metadata).unwrap();
    let id = "Fedora-Rawhide-20261121.n.0";
    let compose = json!({"id": id, "date": "20261121", "type": "nightly", "respin": 0});
    let tree = json!({"Everything": {"paths": {"os_tree": {"x86_64": "Everything/x86_64/os"}}}});
    let info = json!({"payload": {"compose": compose, "release": {"name": "Fedora", "short": "Fedora", "version": "Rawhide"}, "variants": tree}});
    let image = |subvariant: &str, kind: &str, arch: &str| json!({"path": format!("{subvariant}/{arch}/iso/{subvariant}-{kind}-{arch}.iso"), "type": kind, "format": "iso", "arch": arch, "subvariant": subvariant});
    let images = json!({"payload": {"compose": compose, "images": {
        "Server": {"x86_64": [image("Server", "dvd", "x86_64")], "s390x": [image("Server", "dvd", "s390x")]},
    }}});
    fs::write(metadata.join("composeinfo.json"), info.to_string()).unwrap();
    let location = format!("file://{}", place.join("compose"));
    let broken = place.run(&["compose", "schedule", &location]).await;
    assert_eq!(broken.code, Some(4), "{}", broken.stderr);
    assert!(broken.stderr.contains("there is no metadata/images.json in file://"), "{}", broken.stderr);
    fs::write(metadata.join("images.json"), images.to_string()).unwrap();

    let schedule = async |more: &[&str]| -> Value {
        let ended = place.run(&[&["compose", "schedule", &location, "--json"], more].concat()).await;
        ended.expect(0).json()["posts"].clone()
    };
    let dry = schedule(&["--dry-run"]).await;
    let flavors: Vec<&str> =
        dry.as_array().unwrap().iter().map(|post| post["settings"]["FLAVOR"].as_str().unwrap()).collect();
    assert_eq!(flavors, ["Server-dvd-iso", "Workstation-upgrade", "universal"]);
    let settings = &dry[0]["settings"];
    assert_eq!(settings["ISO"], place.join("compose/Server/x86_64/iso/Server-dvd-x86_64.iso").as_str());
    let refused = |post: &Value| post["why"].as_str().is_some_and(|why| why.contains("there is no product"));
    let posts = dry.as_array().unwrap();
    assert_eq!(posts.iter().map(refused).collect::<Vec<_>>(), [false, true, true], "{dry}");
    assert_eq!(
        (&settings["BUILD"], &settings["VERSION"], &settings["SUBVARIANT"]),
        (&json!(id), &json!("Rawhide"), &json!("Server"))
    );
    assert_eq!(up.get("jobs").await["jobs"], json!([]));

    // The message and the command line mean the same compose: it is scheduled once.
    let body = json!({"location": location}).to_string();
    let send = |signature: String, delivery: &str| {
        let request = up.anonymous(Method::POST, "/api/assay/v1/hooks/forge").body(body.clone());
        request
            .header("x-gitlab-token", "t0psecret")
            .header("x-api-key", "t0psecret")
            .header("x-github-event", "push")
            .header("x-github-delivery", delivery)
            .header("x-hub-signature-256", signature)
            .send()
    };
    assert_eq!(send("sha256=00".to_owned(), "d1").await.unwrap().status(), StatusCode::FORBIDDEN);
    for new in [true, false] {
        let answer = send(signature(SECRET, &body), "d1").await.unwrap();
        assert_eq!(answer.status(), StatusCode::ACCEPTED);
        assert_eq!(answer.json::<Value>().await.unwrap()["new"], new);
    }
    until("the compose's job", async || up.get("jobs").await["jobs"].as_array().unwrap().len() == 1).await;
    let hooked = up.events().await.into_iter().find(|event| event["key"] == "d1").unwrap();
    let headers = up.get(&format!("inbox/{}", hooked["id"])).await["headers"].to_string();
    assert!(headers.contains("x-github-event"), "{headers}");
    for word in ["t0psecret", "x-gitlab-token", "x-hub-signature-256"] {
        assert!(!headers.contains(word), "who sent it stays with them: {headers}");
    }
    let again = schedule(&[]).await;
    let one =
        again.as_array().unwrap().iter().find(|post| post["settings"]["FLAVOR"] == "Server-dvd-iso").unwrap();
    assert_eq!((&one["known"], &one["state"], &one["jobs"]), (&json!(true), &json!("done"), &json!([1])));
    let other =
        again.as_array().unwrap().iter().find(|post| post["settings"]["FLAVOR"] == "universal").unwrap();
    assert_eq!(other["state"], "refused");
    assert!(other["why"].as_str().unwrap().contains("there is no product"), "{other}");
    what_it_has_nothing_of(&place, &location).await;
    let forced = schedule(&["--force", "--flavors", "Server-dvd-iso"]).await;
    assert_eq!((&forced[0]["known"], &forced[0]["jobs"]), (&json!(false), &json!([2])));

    place.run(&["audit", "list", "--event", "schedule"]).await.says("\"posts\"");

    // Settings of somebody's own make another build; a misspelt flavor is named.
    let set = ["--set", "grubadd=inst.updates=https://x/u.img", "--flavors", "server-dvd-iso", "--dry-run"];
    let extra = schedule(&set).await;
    assert_eq!(
        (&extra[0]["known"], &extra[0]["settings"]["BUILD"]),
        (&json!(false), &json!(format!("{id}-EXTRA")))
    );
    assert_eq!(extra[0]["settings"]["GRUBADD"], "inst.updates=https://x/u.img");
    let own = schedule(&["--set", "BUILD=mine", "--dry-run"]).await;
    assert_eq!(own[0]["settings"]["BUILD"], "mine-EXTRA");
    wrong_choices(&place, &location).await;

    a_candidate_and_a_build_of_coreos(&place, &up, &info, &images).await;

    let update = [
        "update",
        "schedule",
        "FEDORA-2026-1",
        "F44",
        "--build",
        "bash-5-1",
        "--group",
        "critical-path-base",
        "--flavors",
        "updates-server",
        "--json",
    ];
    let ended = place.run(&update).await;
    ended.expect(0);
    let posts: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(posts["posts"][0]["jobs"], json!([4]), "{posts}");
    assert_eq!(
        (&posts["posts"][0]["settings"]["ADVISORY_NVRS_1"], &posts["posts"][0]["settings"]["VERSION"]),
        (&json!("bash-5-1"), &json!("44"))
    );
    assert_eq!(
        place.run(&["update", "schedule", "FEDORA-2026-2", "F44", "--build", "nothing-1-1"]).await.code,
        Some(1)
    );
    let releases = place.run(&["compose", "releases"]).await.expect(0).stdout.clone();
    assert!(releases.contains("rawhide") && releases.contains("F45"), "{releases}");
    up.stop().await;
}

/// Updates, tasks, tags and projects are named; what they are made of, and which releases there are, is asked outside.
#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one story from its beginning to its end")]
async fn what_is_scheduled_by_its_name_alone() {
    let place = Place::new();
    let (bodhi, koji, copr) = (
        FakeBodhi::start().await.unwrap(),
        FakeKoji::start().await.unwrap(),
        FakeCopr::start().await.unwrap(),
    );
    for (release, state) in [("F42", "archived"), ("F43", "current"), ("F45", "pending"), ("F44F", "current")]
    {
        bodhi.release(release, state);
    }
    bodhi.update("FEDORA-2026-1", "F44", &["zsh-5-1.fc44", "bash-5-1.fc44"]);
    bodhi.change("FEDORA-2026-1", "critpath_groups", json!("critical-path-base core"));
    bodhi.update("FEDORA-2026-2", "F44", &["nothing-1-1.fc44"]);
    bodhi.update("FEDORA-2026-3", "F42", &["podman-1-1.fc42"]);
    bodhi.update("FEDORA-2026-4", "F44", &["podman-1-1.fc44"]);
    bodhi.change("FEDORA-2026-4", "status", json!("obsolete"));
    koji.tag("f44-build-side-1", &[]);
    koji.tag("f44-build-side-2", &[]);
    for nvr in ["zsh-5-1.fc44", "bash-5-1.fc44"] {
        koji.build(nvr, 0, &["x86_64"]);
        koji.put("f44-build-side-1", nvr);
    }
    let (good, bad) =
        (koji.task("build", TaskState::Closed, None), koji.task("build", TaskState::Failed, None));
    copr.project("@qa/nightly", &[7, 3]);
    copr.project("alice/empty", &[]);
    let example = fs::read_to_string(repository().join("examples/fedora/schedule.yaml")).unwrap();
    let (before, rest) = example.split_once("releases:\n").unwrap();
    let rest = rest.split_once("\nsettings:").unwrap().1;
    fs::write(place.join("schedule.yaml"), format!("{before}settings:{rest}")).unwrap();
    let config = place.join("assay.toml");
    let text = format!(
        "[events]\nschedule = \"schedule.yaml\"\nbodhi = {:?}\ncopr = {:?}\n[tasks]\nkoji-hub = {:?}\n",
        bodhi.url(),
        copr.url(),
        koji.hub()
    );
    fs::write(&config, text).unwrap();
    let up = Up::start_as(&place, "server", &["--config", config.as_str()]).await;
    load_templates(&place).await;
    let run = async |words: &str| -> Value {
        let ended = place.run(&words.split(' ').chain(["--json"]).collect::<Vec<_>>()).await;
        ended.expect(0).json()
    };
    let posts = async |words: &str| -> Vec<Value> { run(words).await["posts"].as_array().unwrap().clone() };
    let releases = run("compose releases").await;
    let lives: Vec<Value> = releases["releases"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| json!([one["name"], one["life"]]))
        .collect();
    let expected = [["F42", "ended"], ["F43", "current"], ["F44", "current"], ["F45", "rawhide"]];
    assert_eq!(json!(lives), json!(expected));

    let dry = posts("update schedule FEDORA-2026-1 --dry-run").await;
    let flavors: Vec<&str> = dry.iter().map(|post| post["settings"]["FLAVOR"].as_str().unwrap()).collect();
    assert_eq!(
        flavors,
        [
            "updates-container",
            "updates-everything-boot-iso",
            "updates-kde",
            "updates-kde-live-iso",
            "updates-server",
            "updates-server-upgrade",
            "updates-silverblue-dvd_ostree-iso",
            "updates-workstation",
            "updates-workstation-live-iso",
            "updates-workstation-upgrade"
        ]
    );
    for (key, value) in [
        ("VERSION", "44"),
        ("CURRREL", "44"),
        ("PREVREL", "43"),
        ("RAWREL", "45"),
        ("UP1REL", "43"),
        ("UP2REL", "42"),
        ("ADVISORY_NVRS_1", "bash-5-1.fc44 zsh-5-1.fc44"),
        ("ITEM_TYPE", "bodhi_update"),
    ] {
        assert_eq!(dry[0]["settings"][key], value, "{key}");
    }
    assert!(dry.iter().all(|post| post["state"].is_null() && post["known"] == false));
    let first = posts("update schedule FEDORA-2026-1 --flavors updates-server").await;
    assert_eq!(
        (&first[0]["state"], &first[0]["known"], first[0]["jobs"].as_array().unwrap().len()),
        (&json!("done"), &json!(false), 1)
    );
    // Once, however it is named; anew by force, and when its builds are others.
    for words in [
        "FEDORA-2026-1",
        "FEDORA-2026-1 F44",
        "FEDORA-2026-1 F44 --build zsh-5-1.fc44 --build bash-5-1.fc44 --group core",
    ] {
        let again = posts(&format!("update schedule {words} --flavors updates-server")).await;
        assert_eq!((&again[0]["known"], &again[0]["jobs"]), (&json!(true), &first[0]["jobs"]), "{words}");
    }
    for words in ["FEDORA-2026-1 --force", "FEDORA-2026-1 F44 --build bash-6-1.fc44"] {
        let anew = posts(&format!("update schedule {words} --group core --flavors updates-server")).await;
        assert_eq!(anew[0]["known"], false, "{words}");
        assert_ne!(anew[0]["jobs"], first[0]["jobs"], "{words}");
    }

    let task = posts(&format!("koji-task schedule {good} F44 --flavors updates-server --dry-run")).await;
    let (settings, id) = (&task[0]["settings"], good.to_string());
    assert_eq!(
        (&settings["BUILD"], &settings["KOJITASK"]),
        (&json!(format!("Kojitask-{id}-NOREPORT")), &json!(id))
    );
    // The first job of a task downloads its packages and serves them to the others, as with updates.
    assert_eq!(
        (&settings["ADVISORY"], &settings["UPDATE_OR_TAG_REPO"]),
        (&Value::Null, &json!("nfs://172.16.2.110:/mnt/update_repo"))
    );
    let side = "koji-tag schedule f44-build-side-1 F44 --flavors updates-server";
    let tag = posts(side).await;
    let settings = &tag[0]["settings"];
    assert_eq!(
        (&settings["BUILD"], &settings["TAG"]),
        (&json!("TAG_f44-build-side-1-NOREPORT"), &json!("f44-build-side-1"))
    );
    assert_eq!(
        settings["UPDATE_OR_TAG_REPO"],
        "https://kojipkgs.fedoraproject.org/repos/f44-build-side-1/latest/x86_64"
    );
    assert_eq!(posts(side).await[0]["known"], true);
    koji.build("zsh-6-1.fc44", 0, &["x86_64"]);
    koji.put("f44-build-side-1", "zsh-6-1.fc44");
    assert_eq!(posts(side).await[0]["known"], false, "it has another build");
    let project = "copr schedule @qa/nightly F45 --flavors updates-server";
    let built = posts(project).await;
    let settings = &built[0]["settings"];
    assert_eq!(
        (&settings["BUILD"], &settings["VERSION"]),
        (&json!("COPR_@qa/nightly-NOREPORT"), &json!("45"))
    );
    assert_eq!(settings["ITEM_REVISION"], "7");
    assert!(
        settings["UPDATE_OR_TAG_REPO"].as_str().unwrap().ends_with("/results/@qa/nightly/fedora-45-x86_64")
    );
    assert_eq!(posts(project).await[0]["known"], true);
    copr.project("@qa/nightly", &[7, 3, 8]);
    assert_eq!(posts(project).await[0]["known"], false);

    let table = [
        ("update schedule FEDORA-2026-9".to_owned(), 4, "Bodhi has no update \"FEDORA-2026-9\""),
        ("update schedule FEDORA-2026-1 F43".to_owned(), 2, "FEDORA-2026-1 is of F44, not of F43"),
        ("update schedule FEDORA-2026-3".to_owned(), 2, "the release F42 has ended"),
        ("update schedule FEDORA-2026-4".to_owned(), 2, "FEDORA-2026-4 is obsolete"),
        (
            "update schedule FEDORA-2026-1 F99 --build a-1-1".to_owned(),
            2,
            "there is no release \"F99\"; there are F42, F43",
        ),
        (format!("koji-task schedule {bad} F44"), 2, "(build) has failed"),
        ("koji-task schedule 5 F44".to_owned(), 4, "No such task: 5"),
        ("koji-task schedule five F44".to_owned(), 2, "invalid value 'five'"),
        ("koji-tag schedule f44-none F44".to_owned(), 4, "No such tagInfo: 'f44-none'"),
        ("koji-tag schedule f44-build-side-2 F44".to_owned(), 2, "there is no build in the tag"),
        ("copr schedule alice/none F44".to_owned(), 4, "COPR has no project \"alice/none\""),
        ("copr schedule alice/empty F44".to_owned(), 2, "nothing has been built"),
        ("copr schedule alice F44".to_owned(), 2, "expected OWNER/PROJECT"),
        ("update schedule FEDORA-2026-2".to_owned(), 1, ""),
    ];
    for (words, code, why) in table {
        let ended = place.run(&words.split(' ').collect::<Vec<_>>()).await;
        assert!(
            ended.code == Some(code) && ended.stderr.contains(why),
            "{words}: {:?} {}",
            ended.code,
            ended.stderr
        );
    }
    // Its flavor has no product.
    let ended = place.run(&["update", "schedule", "FEDORA-2026-3", "--force", "--dry-run", "--json"]).await;
    assert_eq!(ended.expect(1).json()["posts"].as_array().unwrap().len(), 1);
    koji.offline(true);
    let ended = place.run(&side.split(' ').collect::<Vec<_>>()).await;
    assert!(ended.expect(3).stderr.contains("database outage"), "{}", ended.stderr);
    up.stop().await;
}

/// A large update: by two rules, by hand and by Bodhi's wish to have its tests triggered again. What was known before is
/// shown with the event that wanted it too.
#[tokio::test]
async fn an_update_is_scheduled_once_unless_somebody_wants_it_again() {
    let place = Place::new();
    fs::write(place.join("secret"), SECRET).unwrap();
    let example = fs::read_to_string(repository().join("examples/fedora/schedule.yaml")).unwrap();
    fs::write(place.join("schedule.yaml"), example).unwrap();
    let shipped = fs::read_to_string(repository().join("examples/rules/fedora.yaml")).unwrap();
    let (_, update_rule) = shipped.split_once("\n  - name: update\n").unwrap();
    let rules = format!(
        "rules:\n  - name: update\n{update_rule}  - name: 'another #1'\n{}",
        update_rule.replace("status.testing.koji-build-group.build.complete", "request.testing")
    );
    let hook = "[source.bus]\ndriver = \"webhook\"\nsecret-file = \"secret\"\ntopic = \"org.fedoraproject.prod.bodhi.update\"\n\
        topic-header = \"x-topic\"\n";
    let config = configure(&place, hook, &rules);
    let up = Up::start_as(&place, "server", &["--config", &config]).await;
    load_templates(&place).await;
    let nvrs: Vec<String> = (0..40).map(|number| format!("gnome-package-{number:02}-50.1-1.fc44")).collect();
    let message = |again: bool, groups: Value| {
        let builds: Vec<Value> = nvrs.iter().map(|nvr| json!({"nvr": nvr})).collect();
        let release = json!({"name": "F44", "version": "44", "id_prefix": "FEDORA"});
        let update = json!({"alias": "FEDORA-2026-1", "critpath": true, "critpath_groups": groups, "builds": builds, "release": release});
        json!({"agent": "bodhi", "re-trigger": again, "artifact": {"builds": []}, "update": update})
            .to_string()
    };
    let send = async |topic: &str, delivery: &str, body: String| -> Value {
        up.hooked(topic, delivery, body).await;
        asking("the event is done with", async || {
            let all = up.events().await;
            let id = all.iter().find(|event| event["key"] == delivery)?["id"].clone();
            let shown = up.get(&format!("inbox/{id}")).await;
            let effects = shown["effects"].as_array().unwrap();
            let done = effects.len() > 1 && effects.iter().all(|effect| effect["state"] != "waiting");
            done.then_some(shown)
        })
        .await
    };
    let ready = "status.testing.koji-build-group.build.complete";
    // Of the critical path without groups: all flavors.
    let server = |event: &Value| {
        let effects = event["effects"].as_array().unwrap();
        assert_eq!(effects.len(), 1 + 10, "{event}");
        let found = effects
            .iter()
            .find(|effect| effect["what"] == "product fedora-44-updates-server-x86_64-Update-FEDORA-2026-1");
        let found = found.unwrap();
        (found["event"].clone(), found["jobs"].clone())
    };
    let first = send(ready, "d1", message(false, json!(null))).await;
    assert_eq!(server(&first), (first["id"].clone(), json!([1])));
    // The same by another rule: its event shows the same parts, and nothing is done.
    let same = send("request.testing", "d2", message(false, json!(null))).await;
    assert_eq!(server(&same), (first["id"].clone(), json!([1])));
    let shown = place.run(&["event", "show", &same["id"].to_string()]).await.expect(0).stdout.clone();
    let before = format!("(done, known before by event {}, jobs 1)", first["id"]);
    assert!(shown.contains(&before), "{shown}");
    // By hand.
    let mut words =
        vec!["update", "schedule", "FEDORA-2026-1", "F44", "--critpath", "--flavors", "server", "--json"];
    for nvr in &nvrs {
        words.extend(["--build", nvr]);
    }
    let posts = place.run(&words).await.expect(0).json()["posts"].clone();
    assert_eq!((&posts[0]["known"], &posts[0]["jobs"]), (&json!(true), &json!([1])), "{posts}");
    // Once more, as often as somebody wants it, and not twice for one message.
    for (delivery, job) in [("d3", 2), ("d4", 3), ("d4", 3)] {
        let again = send(ready, delivery, message(true, json!(null))).await;
        assert_eq!(server(&again), (again["id"].clone(), json!([job])), "{delivery}");
    }
    // A replay by force of the first is another time of it.
    place.run(&["event", "replay", &first["id"].to_string(), "--force"]).await.expect(0);
    until("one job more", async || up.get("jobs?limit=500").await["jobs"].as_array().unwrap().len() == 4)
        .await;
    let wrong = place
        .run(&["update", "schedule", "FEDORA-2026-1", "F44", "--build", "a-1-1", "--flavors", "servr"])
        .await;
    assert!(
        wrong.expect(2).stderr.contains("there is no flavor \"servr\" of updates; there are container,"),
        "{}",
        wrong.stderr
    );
    let unknown =
        place.run(&["update", "schedule", "FEDORA-2026-1", "ELN", "--build", "a-1-1", "--force"]).await;
    assert!(unknown.expect(2).stderr.contains("there is no release \"ELN\""), "{}", unknown.stderr);
    up.stop().await;
}
