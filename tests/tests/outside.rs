//! The fakes of what is outside are good enough for its real clients: `koji`, `bodhi-client`, `fedfind` and
//! `fedora-messaging` see in them what Assay's own sources see.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use assay_connect::events::Incoming;
use assay_connect::events::bodhi::Bodhi;
use assay_connect::events::composes::Composes;
use assay_connect::events::datagrepper::Datagrepper;
use assay_connect::events::json::Hope;
use assay_connect::events::koji::Koji;
use assay_connect::events::poll::Poller;
use assay_engine::ids::Timestamp;
use assay_fakes::bodhi::{FakeBodhi, TOKEN, UPDATE};
use assay_fakes::composes::{FakeComposes, Image};
use assay_fakes::datagrepper::FakeDatagrepper;
use assay_fakes::koji::{FakeKoji, TaskState};
use assay_tests::{Broker, Place};
use fs_err as fs;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// 2026-11-21 12:00:00 UTC.
const NOW: i64 = 1_795_262_400;

/// What a source finds at its first look, or with cursors of before.
async fn polled(source: &dyn Poller, since: &[(&str, &str)]) -> Vec<Incoming> {
    let mut cursors: BTreeMap<String, String> =
        since.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let mut messages: Vec<Incoming> = Vec::new();
    loop {
        // Our own clock is of no consequence.
        let found = source.poll(&cursors, Timestamp(0)).await.unwrap();
        // As an inbox does, which knows a message by its key.
        let known: Vec<String> = messages.iter().map(|message| message.key.clone()).collect();
        let new = found.received.messages.into_iter().filter(|message| !known.contains(&message.key));
        messages.extend(new);
        if !found.more {
            return messages;
        }
        cursors.extend(found.received.cursors.into_iter().filter_map(|(name, value)| Some((name, value?))));
    }
}

fn bodies(messages: &[Incoming]) -> Vec<Value> {
    messages.iter().map(|message| serde_json::from_str(&message.body).unwrap()).collect()
}

/// A program that stands beside Python.
async fn program(place: &Place, name: &str) -> String {
    let python = place.python().await;
    let (folder, _) = python.rsplit_once('/').unwrap();
    format!("{folder}/{name}")
}

/// Runs a program with the real clients; what it prints.
async fn python(place: &Place, program: &str, arguments: &[&str]) -> Value {
    let mut command = place.command(&place.python().await);
    command.args(["-c", program]).args(arguments);
    place.run_command(command).await.expect(0).json()
}

const KOJI: &str = r#"
import json, sys
import koji
session = koji.ClientSession(sys.argv[1])
assert session.getAPIVersion() == koji.API_VERSION
assert session.hub_version_str == "1.36.1", session.hub_version_str
build = session.getBuild("bash-5.3-1.fc44", strict=True)
rpms = session.listBuildRPMs("bash-5.3-1.fc44")
assert [rpm["arch"] for rpm in session.listRPMs(buildID=build["id"], arches=["src"])] == ["src"]
assert koji.TASK_STATES[session.getTaskInfo(build["task_id"])["state"]] == "CLOSED"
assert session.getBuild("nothing-1-1") is None
for call in [lambda: session.getBuild("nothing-1-1", strict=True), lambda: session.listTagged("f99"), lambda: session.listTaged("f44")]:
    try:
        call()
        raise SystemExit("it should be refused")
    except koji.GenericError as error:
        print(type(error).__name__, error, file=sys.stderr)
try:
    session.getBuild(number=1)
    raise SystemExit("there is no such argument")
except koji.ParameterError:
    pass
with session.multicall() as many:
    calls = [many.listTagged("f44-updates", latest=True), many.getLatestBuilds("f44-updates", package="bash"), many.listTagged("f44")]
builds = session.listBuilds(completeAfter=float(sys.argv[2]), state=koji.BUILD_STATES["COMPLETE"],
    queryOpts={"order": "-build_id", "limit": 2})
print(json.dumps({
    "build": build, "arches": [rpm["arch"] for rpm in rpms],
    "tagged": [[one["nvr"] for one in call.result] for call in calls],
    "inherited": [one["nvr"] for one in session.listTagged("f44-updates", inherit=True)],
    "builds": [one["nvr"] for one in builds],
    "history": [[line["name"], line["tag.name"], line["build_id"], bool(line["active"])]
        for line in session.queryHistory(tables=["tag_listing"], tag="f44-updates", after=int(sys.argv[2]))["tag_listing"]],
    "later": session.queryHistory(tables=["tag_listing"], tag="f44-updates", afterEvent=session.getLastEvent()["id"]),
}))
"#;

#[tokio::test]
async fn the_client_of_koji_and_assay_see_the_same_builds() {
    let place = Place::new();
    let koji = FakeKoji::start().await.unwrap();
    koji.says_it_is(NOW);
    koji.tag("f44", &[]);
    koji.tag("f44-updates", &["f44"]);
    for (nvr, tag, completed) in [
        ("bash-5.2-1.fc44", "f44", NOW - 100_000),
        ("sed-4.9-1.fc44", "f44", NOW - 90_000),
        ("bash-5.3-1.fc44", "f44-updates", NOW - 300),
        ("c++-1.0-1.fc44", "f44-updates", NOW - 200),
    ] {
        koji.build(nvr, completed, &["src", "x86_64", "noarch"]);
        koji.put(tag, nvr);
    }
    // One was there for a while.
    let gone = koji.build("gone-1-1.fc44", NOW - 100_000, &["noarch"]);
    koji.put("f44-updates", "gone-1-1.fc44");
    koji.take("f44-updates", "gone-1-1.fc44");
    let hub = koji.hub();
    let seen = python(&place, KOJI, &[&hub, &(NOW - 600).to_string()]).await;
    assert_eq!(seen["arches"], json!(["src", "x86_64", "noarch"]));
    let tagged = json!([
        ["c++-1.0-1.fc44", "bash-5.3-1.fc44"],
        ["bash-5.3-1.fc44"],
        ["sed-4.9-1.fc44", "bash-5.2-1.fc44"]
    ]);
    assert_eq!(seen["tagged"], tagged);
    assert_eq!(
        seen["inherited"],
        json!(["c++-1.0-1.fc44", "bash-5.3-1.fc44", "sed-4.9-1.fc44", "bash-5.2-1.fc44"])
    );
    let source = Koji::new(&hub, "org.x").unwrap();
    let found = polled(&source, &[]).await;
    let mut mine: Vec<String> = bodies(&found)
        .iter()
        .map(|body| ["name", "version", "release"].map(|part| body[part].as_str().unwrap()).join("-"))
        .collect();
    mine.reverse();
    assert_eq!(seen["builds"], json!(mine), "the newest first");
    assert_eq!(bodies(&found)[0]["task_id"], seen["build"]["task_id"]);
    let before = async |other: &str| source.before("f44-updates", "bash", other).await;
    assert_eq!(before("bash-5.4-1.fc44").await.unwrap().as_deref(), Some("bash-5.3-1.fc44"));
    assert_eq!(before("bash-5.3-1.fc44").await.unwrap(), None);
    let built = source.build("bash-5.3-1.fc44").await.unwrap().unwrap();
    assert_eq!(built.created, Some(Timestamp((NOW - 300) * 1_000_000)));
    assert_eq!(built.source, seen["build"]["source"].as_str().map(str::to_owned));
    assert_eq!(source.build("nothing-1-1").await.unwrap(), None);
    // What was done to tags, as its history has it; one that is not there holds nobody up.
    assert_eq!(seen["history"][2], json!(["gone", "f44-updates", gone, false]), "{}", seen["history"]);
    assert_eq!(seen["later"], json!({"tag_listing": []}));
    let tags = ["f99".to_owned(), "f44-updates".to_owned()];
    let looked = Koji::new(&hub, "org.x").unwrap().with_tags(&tags);
    let found = looked.poll(&BTreeMap::new(), Timestamp(0)).await.unwrap();
    let done: Vec<(&str, &str)> = found
        .received
        .messages
        .iter()
        .filter_map(|one| Some((one.topic.strip_prefix("org.x.buildsys.")?, one.body.as_str())))
        .filter(|(topic, _)| *topic != "build.state.change")
        .collect();
    let done: Vec<(&str, Value)> = done
        .iter()
        .map(|(topic, body)| (*topic, serde_json::from_str::<Value>(body).unwrap()["name"].clone()))
        .collect();
    let wanted = [("tag", "bash"), ("tag", "c++"), ("tag", "gone"), ("untag", "gone")];
    assert_eq!(done, wanted.map(|(topic, name)| (topic, json!(name))));
    assert_eq!(found.trouble.as_deref(), Some("tag f99: Koji refuses: No such tagInfo: 'f99' (1000)"));
    let cursors: Vec<&str> = found.received.cursors.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(cursors, ["completed", "tag/f44-updates"], "the other is looked at from the beginning");
    let refused = source.before("f99", "bash", "").await.unwrap_err();
    assert!(
        refused.hope == Hope::Never && refused.why == "Koji refuses: No such tagInfo: 'f99' (1000)",
        "{}",
        refused.why
    );
    let scratch = koji.task("build", TaskState::Failed, None);
    assert_eq!(source.task(scratch as u64).await.unwrap().trouble(), Some("has failed"));
    assert_eq!(source.task(7).await.unwrap_err().hope, Hope::Never);

    // The program `koji` itself.
    fs::create_dir_all(place.join("home/.koji")).unwrap();
    fs::write(place.join("home/.koji/config"), format!("[koji]\nserver = {hub}\n")).unwrap();
    let program = program(&place, "koji").await;
    let run = async |arguments: &[&str]| {
        let mut command = place.command(&program);
        command.arg("--noauth").args(arguments);
        place.run_command(command).await
    };
    let listed = run(&["list-tagged", "--quiet", "f44-updates"]).await;
    let listed = &listed.expect(0).stdout;
    assert!(listed.contains("bash-5.3-1.fc44") && listed.contains("f44-updates"), "{listed}");
    let info = run(&["buildinfo", "bash-5.3-1.fc44"]).await;
    let info = &info.expect(0).stdout;
    assert!(info.contains("State: COMPLETE") && info.contains("bash-5.3-1.fc44.noarch.rpm"), "{info}");

    koji.offline(true);
    let failed = source.poll(&BTreeMap::new(), Timestamp(NOW * 1_000_000)).await.unwrap_err();
    assert_eq!(failed, "Koji refuses: database outage (1014)");
    assert_eq!(source.before("f44", "bash", "").await.unwrap_err().hope, Hope::Mended, "an outage ends");
}

const BODHI: &str = r#"
import json, sys
from bodhi.client.bindings import BodhiClient, BodhiClientException
url, token, update = sys.argv[1:4]
# As if somebody had logged in: the rest is the client's own.
json.dump({"tokens": {url: {"access_token": token, "token_type": "Bearer"}}}, open("client.json", "w"))
client = BodhiClient(base_url=url, id_provider=url, oidc_storage_path="client.json")
found, page = [], 1
while True:
    answer = client.query(releases="F44", status="pending,testing", rows_per_page=2, page=page)
    found += [one.alias for one in answer.updates]
    if page >= answer.pages:
        break
    page += 1
since = client.query(modified_since="2026-11-21 11:00:00", rows_per_page=100)
for bad in [{"status": "wrong"}, {"releases": "F99"}, {"rows_per_page": 1000}]:
    try:
        client.query(**bad)
        raise SystemExit(f"{bad} should be refused")
    except BodhiClientException as error:
        assert "errors" in str(error), error
text = client.update_str(client.query(updateid=update).updates[0])
assert "Fedora 44" in text and update in text, text
comment = client.comment(update, "it works", karma=1)
client.waive(update, "known", tests=["update.a", "update.b"])
for post in [lambda: client.comment("FEDORA-2026-0", "x"), lambda: client.waive("FEDORA-2026-0", "x")]:
    try:
        post()
        raise SystemExit("there is no such update")
    except BodhiClientException:
        pass
print(json.dumps({
    "found": found, "since": [one.alias for one in since.updates], "comment": comment.comment.id,
    "releases": [[one.name, one.state] for one in client.get_releases(exclude_archived=True).releases],
    "package": [one.alias for one in client.query(packages="sed").updates],
}))
"#;

#[tokio::test]
async fn the_client_of_bodhi_and_assay_see_the_same_updates() {
    let place = Place::new();
    let bodhi = FakeBodhi::start().await.unwrap();
    bodhi.says_it_is(NOW);
    bodhi.release("F42", "archived");
    bodhi.release("F45", "pending");
    for (alias, release, nvrs) in [
        ("FEDORA-2026-aaaaaaaaaa", "F44", &["sed-4.9-1.fc44", "grep-3-1.fc44"][..]),
        ("FEDORA-2026-bbbbbbbbbb", "F44", &["vim-9-1.fc44"]),
        ("FEDORA-2026-cccccccccc", "F45", &["sed-4.9-1.fc45"]),
        ("FEDORA-2026-dddddddddd", "F44", &["done-1-1.fc44"]),
        ("FEDORA-2026-eeeeeeeeee", "F45", &["soon-1-1.fc45"]),
    ] {
        bodhi.update(alias, release, nvrs);
    }
    bodhi.change("FEDORA-2026-dddddddddd", "status", json!("stable"));
    for alias in ["FEDORA-2026-aaaaaaaaaa", "FEDORA-2026-cccccccccc"] {
        bodhi.modified(alias, NOW - 1_800);
    }
    let seen = python(&place, BODHI, &[bodhi.url(), TOKEN, UPDATE]).await;
    assert_eq!(seen["found"], json!(["FEDORA-2026-bbbbbbbbbb", "FEDORA-2026-aaaaaaaaaa", UPDATE]));
    assert_eq!(seen["since"], json!(["FEDORA-2026-cccccccccc", "FEDORA-2026-aaaaaaaaaa"]));
    assert_eq!(seen["releases"], json!([["F44", "current"], ["F45", "pending"]]));
    assert_eq!(seen["package"], json!(["FEDORA-2026-cccccccccc", "FEDORA-2026-aaaaaaaaaa"]));
    assert_eq!(bodhi.comments(), ["it works"]);
    assert_eq!(bodhi.waived(), [json!({"comment": "known", "tests": ["update.a", "update.b"]})]);

    // What is submitted for stable is found whenever it was modified.
    let submitted = polled(&Bodhi::new(bodhi.url(), &["F45".to_owned()], "org.x").unwrap(), &[]).await;
    assert_eq!(submitted.len(), 1, "{submitted:?}");
    bodhi.change("FEDORA-2026-eeeeeeeeee", "request", json!("stable"));
    let submitted = polled(&Bodhi::new(bodhi.url(), &["F45".to_owned()], "org.x").unwrap(), &[]).await;
    let told: Vec<&str> = submitted.iter().map(|one| one.topic.as_str()).collect();
    let testing = "org.x.bodhi.update.status.testing.koji-build-group.build.complete";
    assert_eq!(told, [testing, "org.x.bodhi.update.request.stable"]);
    assert_eq!(bodies(&submitted)[1]["update"]["alias"], "FEDORA-2026-eeeeeeeeee");
    bodhi.change("FEDORA-2026-eeeeeeeeee", "request", json!("testing"));

    let aliases = async |releases: &[&str]| {
        let releases: Vec<String> = releases.iter().map(|name| (*name).to_owned()).collect();
        let found = polled(&Bodhi::new(bodhi.url(), &releases, "org.x").unwrap(), &[]).await;
        bodies(&found).iter().map(|body| body["update"]["alias"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(json!(aliases(&[]).await), seen["since"]);
    assert_eq!(aliases(&["F45"]).await, ["FEDORA-2026-cccccccccc"]);
    for number in 0..230 {
        bodhi.update(&format!("FEDORA-2026-{number}"), "F44", &[&format!("p-{number}-1.fc44")]);
        bodhi.modified(&format!("FEDORA-2026-{number}"), NOW - 900);
    }
    assert_eq!(aliases(&[]).await.len(), 232, "page by page");
    let wrong = Bodhi::new(bodhi.url(), &["F99".to_owned()], "org.x").unwrap();
    let refused = wrong.poll(&BTreeMap::new(), Timestamp(NOW * 1_000_000)).await.unwrap_err();
    assert!(refused.contains("Invalid releases specified: F99"), "{refused}");
}

const FEDFIND: &str = r#"
import json, sys
import fedfind.const, fedfind.release
base, location = sys.argv[1:3]
# Fedora's own servers are written in there.
fedfind.const.NIGHTLY_BASE = base
fedfind.const.MD_ARCHIVE = base + "/metadata-archive"
release = fedfind.release.get_release(url=location)
assert type(release).__name__ == "RawhideNightly", release
assert release.location == location
running = fedfind.release.get_release(cid="Fedora-Rawhide-20261121.n.1")
assert (running.exists, running.done) == (True, False)
assert not fedfind.release.get_release(cid="Fedora-Rawhide-20261121.n.2").exists
print(json.dumps({
    "cid": release.cid, "status": release.status, "type": release.type, "previous": release.previous_release.cid,
    "images": sorted([image["subvariant"], image["type"], image["format"], image["arch"], image["url"]] for image in release.all_images),
}))
"#;

#[tokio::test]
async fn fedfind_and_assay_see_the_same_compose() {
    let place = Place::new();
    let server = FakeComposes::start().await.unwrap();
    let images = [
        Image { subvariant: "Server", kind: "dvd", format: "iso", arch: "x86_64" },
        Image { subvariant: "Workstation", kind: "live", format: "iso", arch: "aarch64" },
        Image { subvariant: "Cloud_Base", kind: "qcow2", format: "qcow2", arch: "x86_64" },
    ];
    server.compose("rawhide", "Fedora-Rawhide-20261120.n.0", "FINISHED", &[]).unwrap();
    let location =
        server.compose("rawhide", "Fedora-Rawhide-20261121.n.0", "FINISHED_INCOMPLETE", &images).unwrap();
    server.compose("rawhide", "Fedora-Rawhide-20261121.n.1", "STARTED", &[]).unwrap();
    let seen = python(&place, FEDFIND, &[&server.url(), &location]).await;
    assert_eq!(seen["cid"], "Fedora-Rawhide-20261121.n.0");
    assert_eq!(
        (&seen["type"], &seen["previous"]),
        (&json!("nightly"), &json!("Fedora-Rawhide-20261120.n.0"))
    );

    let source = Composes::new(&format!("{}/rawhide", server.url()), &[], "org.x").unwrap();
    assert_eq!(polled(&source, &[]).await, [], "what was finished before anybody listened is no news");
    let found = bodies(&polled(&source, &[("seen", "")]).await);
    let ids: Vec<&Value> = found.iter().map(|body| &body["compose_id"]).collect();
    assert_eq!(ids, ["Fedora-Rawhide-20261120.n.0", "Fedora-Rawhide-20261121.n.0"]);
    assert_eq!((&found[1]["status"], &found[1]["location"]), (&seen["status"], &json!(location)));

    let fetcher = assay_connect::events::json::Fetcher::new(&location).unwrap();
    let get = async |file: &str| fetcher.get(&format!("{location}/metadata/{file}.json")).await.unwrap();
    let compose =
        assay_engine::compose::Compose::read(&get("composeinfo").await, &get("images").await).unwrap();
    let mut mine: Vec<Value> = compose
        .images
        .iter()
        .map(|image| {
            json!([
                image.subvariant,
                image.kind,
                image.format,
                image.arch,
                format!("{location}/{}", image.path)
            ])
        })
        .collect();
    mine.sort_by_key(ToString::to_string);
    assert_eq!(seen["images"], json!(mine));
    assert_eq!(compose.id, "Fedora-Rawhide-20261121.n.0");
}

#[tokio::test]
async fn fedora_messaging_and_assay_find_the_same_backlog() {
    let place = Place::new();
    let grepper = FakeDatagrepper::start().await.unwrap();
    grepper.says_it_is(NOW);
    let ids: Vec<String> = (0..230).map(|number| format!("00000000-0000-4000-8000-{number:012}")).collect();
    for (number, id) in ids.iter().enumerate() {
        grepper.carried(id, "org.t.build", json!({"number": number}), NOW - 3_000 + number as i64);
    }
    grepper.carried("00000000-0000-4000-8000-aaaaaaaaaaaa", "org.t.other", json!({}), NOW - 1_000);
    let minutes = |minutes| Duration::from_mins(minutes);
    let topics = ["org.t.build".to_owned()];
    let source = Datagrepper::new(grepper.url(), &topics, minutes(1), minutes(1)).unwrap();
    let found = polled(&source, &[]).await;
    assert_eq!(
        found.iter().map(|message| message.key.as_str()).collect::<Vec<_>>(),
        ids,
        "page by page, in order"
    );
    assert_eq!(found[7].sent_at, Some(Timestamp((NOW - 2_993) * 1_000_000)));
    // With a cursor only what came later, and a little of before.
    assert_eq!(polled(&source, &[("until", &(NOW - 2_780).to_string())]).await.len(), 70);

    // The client hands a message of the past to its consumer, and publishes it again.
    fs::write(
        place.join("look.py"),
        "import json\ndef look(message):\n    print(json.dumps([message.topic, message.id, message.body]))\n",
    )
    .unwrap();
    let broker = Broker::start(&place).await;
    fs::write(
        place.join("conf.toml"),
        format!("amqp_url = {:?}\npublish_exchange = \"amq.topic\"\n", broker.url),
    )
    .unwrap();
    let program = program(&place, "fedora-messaging").await;
    let run = async |arguments: &[&str]| {
        let mut command = place.command(&program);
        command.env("FEDORA_MESSAGING_CONF", place.join("conf.toml")).args(arguments);
        command.args(["--datagrepper-url", grepper.url(), &ids[7]]);
        place.run_command(command).await.expect(0).stdout.clone()
    };
    let said = run(&["reconsume", "--callback-file", "look.py:look"]).await;
    let heard: Value = said.lines().find_map(|line| serde_json::from_str(line).ok()).unwrap();
    let mine = &found[7];
    assert_eq!(heard, json!([mine.topic, mine.key, bodies(&found)[7]]), "{said}");
    let replayed = run(&["replay"]).await;
    assert!(replayed.contains("successfully replayed"), "{replayed}");
    broker.stop().await;
}
