//! ResultsDB's own client (`resultsdb_api`, `resultsdb_conventions` from PyPI) on an Assay server, the results of jobs,
//! waivers and decisions.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use assay_tests::{Ended, Place, Up};
use fs_err as fs;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

/// Prints one JSON document about everything that it saw; what must hold by itself it asserts itself.
const CLIENT: &str = r#"
import json, sys
import requests
from resultsdb_api import ResultsDBapi, ResultsDBAuth, ResultsDBapiException
from resultsdb_conventions.base import Result
from resultsdb_conventions.prodmd import ProductmdComposeResult, ProductmdImageResult
url, user, password = sys.argv[1:4]
api = ResultsDBapi(url + "/api/v2.0/", request_auth=ResultsDBAuth.basic_auth(user, password))
stranger = ResultsDBapi(url + "/api/v2.0")
said = {}

def refused(call):
    try:
        call()
    except ResultsDBapiException as error:
        return [error.response.status_code, error.message]
    return None

case = api.create_testcase("update.base/selinux", "http://cases/selinux")
assert case["href"].endswith("/testcases/update.base/selinux"), case
assert api.update_testcase("update.base/selinux", "http://cases/2")["ref_url"] == "http://cases/2"
assert api.get_testcase("update.base/selinux")["ref_url"] == "http://cases/2"
group = api.create_group(description="mine", ref_url="http://g")
assert api.update_group(group["uuid"], description="renamed")["description"] == "renamed"
assert api.get_group(group["uuid"])["ref_url"] == "http://g"
for number in range(4):
    api.create_result("PASSED" if number else "failed", {"name": "update.base/selinux"}, [group["uuid"]],
                      note="n%d" % number, ref_url="http://r/%d" % number, item=["da", "db"], type="koji_build",
                      number=number, flag=True)
page = api.get_results(item=["da", "db"], limit=3)
assert [r["data"]["number"] for r in page["data"]] == [["3"], ["2"], ["1"]], page
rest = requests.get(page["next"]).json()
assert [r["data"]["number"] for r in rest["data"]] == [["0"]] and rest["next"] is None, rest
assert requests.get(rest["prev"]).json()["data"] == page["data"]
assert api.get_group(group["uuid"])["results_count"] == 4
first = rest["data"][0]
assert first["outcome"] == "FAILED" and first["data"]["flag"] == ["True"], first
assert api.get_result(first["id"]) == first
assert len(api.get_results(outcome="FAILED", testcases="update.base/selinux")["data"]) == 1
assert len(api.get_results(testcases_like="update.*", item_like="d*")["data"]) == 4
assert len(api.get_results(groups=[group["uuid"]], since="2020-01-01T00:00:00")["data"]) == 4
assert [t["name"] for t in api.get_testcases(name_like="*selinux")["data"]] == ["update.base/selinux"]
assert [g["uuid"] for g in api.get_groups(description="renamed")["data"]] == [group["uuid"]]

get = lambda path: requests.get(url + "/api/v2.0" + path)
latest = get("/results/latest?item=da&_distinct_on=scenario").json()["data"]
assert [r["data"]["number"] for r in latest] == [["3"]], latest
latest = get("/results/latest?item=da&outcome=FAILED").json()["data"]
assert [r["data"]["number"] for r in latest] == [["0"]], latest
assert len(get("/testcases/update.base/selinux/results").json()["data"]) == 4
assert len(get("/groups/%s/results" % group["uuid"]).json()["data"]) == 4
index = requests.get(url + "/api/v2.0/", allow_redirects=False)
assert index.status_code == 300 and "QUEUED" in index.json()["outcomes"], index.text
said["statuses"] = [get(path).status_code for path in (
    "/healthcheck", "/results/abc", "/results/999", "/groups/" + "x" * 300, "/testcases/none", "/nowhere",
    "/results?limit=x", "/results?outcome=GOOD", "/results/latest?_distinct_on=a", "/results?limit=0")]
said["refused"] = [
    refused(lambda: api.create_result("GOOD", "t")),
    refused(lambda: api.create_result("PASSED", "t", **{"a:b": "c"})),
    refused(lambda: api.create_result("PASSED", "t", log="x" * 1000000)),
    refused(lambda: stranger.create_result("PASSED", "t")),
    refused(lambda: ResultsDBapi(url + "/api/v2.0", request_auth=ResultsDBAuth.basic_auth(user, "K:S")).create_testcase("t")),
]
auth = (user, password)
broken = requests.post(url + "/api/v2.0/results", data="{", headers={"Content-Type": "application/json"}, auth=auth)
plain = requests.post(url + "/api/v2.0/results", data="a=b", auth=auth)
said["bodies"] = [broken.status_code, plain.status_code]
once = {"Idempotency-Key": "k1"}
body = {"outcome": "PASSED", "testcase": "once", "submit_time": 1700000000000}
again = [requests.post(url + "/api/v2.0/results", json=body, headers=once, auth=auth) for _ in range(2)]
assert [a.status_code for a in again] == [201, 200] and again[0].json() == again[1].json(), again[1].text
assert again[0].json()["submit_time"] == "2023-11-14T22:13:20", again[0].text

result = Result("PASSED", "compose.base", note="", ref_url="http://job", source="openqa")
result.extradata.update({"item": "x", "type": "y"})
result.report(api)
stored = api.get_results(testcases="compose.base")["data"][0]
assert stored["groups"] == ["0f3309ea-6d4c-59b2-b422-d73e9b8511f3"], stored
assert stored["data"]["meta.conventions"] == ["result"] and stored["testcase"]["ref_url"] is None, stored
info = {"header": {"version": "1.2", "type": "productmd.composeinfo"}, "payload": {
    "compose": {"id": "Fedora-Rawhide-20230502.n.0", "date": "20230502", "type": "nightly", "respin": 0},
    "release": {"name": "Fedora", "short": "Fedora", "version": "Rawhide", "type": "ga", "internal": False}, "variants": {}}}
compose = ProductmdComposeResult(info, "INFO", "compose.whole", source="openqa")
compose.report(api)
stored = api.get_results(item="Fedora-Rawhide-20230502.n.0", type="compose")["data"][0]
assert "0c35b550-fbc4-5f9c-bec0-eedf1c240ebb" in stored["groups"], stored
assert stored["data"]["productmd.compose.short"] == ["Fedora"], stored
print(json.dumps(said))
"#;

/// A new key: the user's name, and key and secret as a password.
async fn key(place: &Place, user: &str, role: &str) -> (String, String) {
    let made = place.run(&["key", "create", "--user", user, "--role", role, "--json"]).await;
    let made = made.expect(0).json();
    (user.to_owned(), format!("{}:{}", made["key"].as_str().unwrap(), made["secret"].as_str().unwrap()))
}

#[tokio::test]
async fn resultsdb_clients() {
    let place = Place::new();
    let up = Up::start(&place, &[]).await;
    let (user, password) = key(&place, "ann", "operator").await;
    let script = place.join("script.py");
    fs::write(&script, CLIENT).unwrap();
    let mut command = place.command(&place.python().await);
    command.args([script.as_str(), &up.url, &user, &password]);
    let said: Ended = place.run_command(command).await;
    let said = said.expect(0).json();
    assert_eq!(said["statuses"], json!([200, 404, 404, 404, 404, 404, 400, 400, 400, 200]));
    assert_eq!(said["bodies"], json!([400, 415]));
    let refused = |number: usize, status: u16, part: &str| {
        let entry = &said["refused"][number];
        assert_eq!(entry[0], json!(status), "{entry}");
        assert!(entry[1].as_str().unwrap().contains(part), "{entry}");
    };
    refused(0, 400, "outcome: must be one of: PASSED, INFO, FAILED, NEEDS_INSPECTION, QUEUED");
    refused(1, 400, "Colon not allowed in key name: ['a:b']");
    refused(2, 413, "data.log: 1000000 bytes are too long");
    refused(3, 401, "This needs the role operator");
    refused(4, 403, "");
    up.stop().await;
}

/// A proxy on the way that loses answers, and the client that tries again by itself.
const LOSING: &str = r#"
import json, sys, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
import requests
from resultsdb_api import ResultsDBapi, ResultsDBAuth
url, user, password, said = sys.argv[1:5]
lost = []

class Proxy(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {key: self.headers[key] for key in ("Content-Type", "Authorization")}
        answer = requests.post(url + self.path, data=body, headers=headers)
        lost.append(answer.status_code)
        # Two of three answers get lost.
        good = len(lost) % 3 == 0
        self.send_response(answer.status_code if good else 502)
        self.send_header("Content-Length", str(len(answer.content) if good else 0))
        self.end_headers()
        self.wfile.write(answer.content if good else b"")
    def log_message(self, *_):
        pass

proxy = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
threading.Thread(target=proxy.serve_forever, daemon=True).start()
api = ResultsDBapi("http://127.0.0.1:%d/api/v2.0" % proxy.server_port, request_auth=ResultsDBAuth.basic_auth(user, password))
post = lambda note: api.create_result("PASSED", "lossy", [{"description": "no name"}, "named"], note=note, item="x", type="y")["id"]
print(json.dumps({"ids": [post("first"), post(said), post("first")], "statuses": lost}))
"#;

/// Whoever posts a result again because the answer got lost has posted it once, also when the server was another one.
#[tokio::test]
async fn a_post_whose_answer_gets_lost_is_stored_once() {
    let place = Place::new();
    let up = Up::start(&place, &[]).await;
    let (user, password) = key(&place, "ann", "operator").await;
    let post = async |up: &Up<'_>, said: &str| {
        let mut command = place.command(&place.python().await);
        command.args(["-c", LOSING, &up.url, &user, &password, said]);
        place.run_command(command).await.expect(0).json()
    };
    let first = post(&up, "second").await;
    let ids: Vec<i64> = first["ids"].as_array().unwrap().iter().map(|id| id.as_i64().unwrap()).collect();
    assert_eq!(ids[2], ids[0]);
    assert_eq!(first["statuses"], json!([201, 200, 200, 201, 200, 200, 200, 200, 200]));
    up.stop().await;
    let up = Up::start(&place, &[]).await;
    let second = post(&up, "third").await;
    assert_eq!((&second["ids"][0], &second["statuses"][0]), (&json!(ids[0]), &json!(200)));
    assert_eq!(results(&up, "testcases=lossy").await.len(), 3);
    up.stop().await;
}

/// What `resultsdb_conventions` posts for the jobs that were posted here, with the numbers of those jobs.
const CONVENTIONS: &str = r#"
import sys
from resultsdb_api import ResultsDBapi, ResultsDBAuth
from resultsdb_conventions.fedora import FedoraBodhiResult, FedoraComposeResult, FedoraImageResult
from resultsdb_conventions.fedoracoreos import FedoraCoreOSBuildResult, FedoraCoreOSImageResult
url, user, password, cid = sys.argv[1:5]
jobs = ["%s/jobs/%s" % (url, job) for job in sys.argv[5:]]
api = ResultsDBapi(url + "/api/v2.0", request_auth=ResultsDBAuth.basic_auth(user, password))

class Release:
    "What fedfind finds of the compose."
    location = "https://kojipkgs.example.org/compose/rawhide/%s/compose" % cid
    metadata = {"composeinfo": {"header": {"version": "1.2", "type": "productmd.composeinfo"}, "payload": {
        "compose": {"id": cid, "date": "20230502", "type": "nightly", "respin": 0},
        "release": {"name": "Fedora", "short": "Fedora", "version": "Rawhide", "type": "ga", "internal": False}, "variants": {}}}}

def of(known, *args, **kwargs):
    result = known.__new__(known)
    result.__dict__["ffrel"] = Release
    result.__init__(*args, **kwargs)
    return result

def image(name, subvariant, kind, form):
    return {"path": "Server/x86_64/iso/" + name, "subvariant": subvariant, "type": kind, "format": form, "arch": "x86_64", "disc_number": 1}

iso, raw = "Fedora-Server-dvd-x86_64-Rawhide-20230502.n.0.iso", "Fedora-Minimal-Rawhide.x86_64.raw.xz"
posted = lambda test: {"outcome": "QUEUED", "tc_name": test, "source": "assay"}
results = [
    of(FedoraComposeResult, cid, **posted("compose.whole")),
    of(FedoraImageResult, iso, cid, image(iso, "Server", "dvd", "iso"), **posted("compose.install_default")),
    of(FedoraImageResult, raw, cid, image(raw, "Minimal", "raw-xz", "raw.xz"), **posted("compose.base_selinux")),
    FedoraBodhiResult("FEDORA-2024-0a1b", **posted("update.base_selinux")),
    FedoraCoreOSBuildResult("44.20260101.3.0", "stable", **posted("fcosbuild.whole")),
    FedoraCoreOSImageResult("metal", "fcos.iso", "iso", "x86_64", "44.20260101.3.0", "stable", **posted("fcosbuild.install")),
]
for job, result in zip(jobs, results):
    result.ref_url = job
    result.extradata["firmware"] = "uefi" if job == jobs[1] else "bios"
    result.extradata["arch"] = "x86_64"
    result.report(api)
"#;

type Pairs<'a> = &'a [(&'a str, &'a str)];

#[tokio::test]
async fn jobs_are_results_as_resultsdb_conventions_posts_them() {
    const COMPOSE: &str = "Fedora-Rawhide-20230502.n.0";
    let place = Place::new();
    let up = Up::start(&place, &[]).await;
    let (user, password) = key(&place, "ann", "operator").await;
    let location = format!("https://kojipkgs.example.org/compose/rawhide/{COMPOSE}/compose");
    let of_compose = [("BUILD", COMPOSE), ("LOCATION", location.as_str())];
    let of_coreos = [("BUILD", "Fedora-CoreOS-44.20260101.3.0")];
    // What all jobs of the build have, what the job has, the test case.
    let jobs: [(Pairs<'_>, Pairs<'_>, &str); 6] = [
        (&of_compose, &[("TEST", "whole"), ("TEST_TARGET", "COMPOSE")], "compose.whole"),
        (
            &of_compose,
            &[
                ("TEST", "install_default"),
                ("TEST_TARGET", "ISO"),
                ("ISO", "Fedora-Server-dvd-x86_64-Rawhide-20230502.n.0.iso"),
                ("FLAVOR", "Server-dvd-iso"),
                ("SUBVARIANT", "Server"),
                ("IMAGETYPE", "dvd"),
                ("UEFI", "1"),
            ],
            "compose.install_default",
        ),
        (
            &of_compose,
            &[
                ("TEST", "base_selinux"),
                ("TEST_TARGET", "HDD_2"),
                ("HDD_2", "Fedora-Minimal-Rawhide.x86_64.raw"),
                ("FLAVOR", "Minimal-raw_xz-raw.xz"),
            ],
            "compose.base_selinux",
        ),
        (&[("BUILD", "Update-FEDORA-2024-0a1b")], &[("TEST", "base_selinux")], "update.base_selinux"),
        (&of_coreos, &[("TEST", "whole")], "fcosbuild.whole"),
        (
            &of_coreos,
            &[
                ("TEST", "install"),
                ("TEST_TARGET", "ISO"),
                ("ISO", "fcos.iso"),
                ("FLAVOR", "CoreOS-colive-iso"),
            ],
            "fcosbuild.install",
        ),
    ];
    let mut ids = Vec::new();
    for (of, settings, _) in jobs {
        let nobody = [("WORKER_CLASS", "nobody"), ("ARCH", "x86_64"), ("BACKEND", "dummy")];
        ids.push(up.post(&[of, settings, &nobody].concat()).await.to_string());
    }
    let mut command = place.command(&place.python().await);
    command.args(["-c", CONVENTIONS, &up.url, &user, &password, COMPOSE]).args(&ids);
    place.run_command(command).await.expect(0);
    for ((.., testcase), id) in jobs.iter().zip(&ids) {
        let query = format!("testcases={testcase}");
        // That a job is queued is stored a moment later.
        let found = assay_tests::asking("both results", async || {
            Some(results(&up, &query).await).filter(|found| found.len() == 2)
        })
        .await;
        let is_ours = |one: &&Value| one["data"]["job"] == json!([id]);
        let ours = found.iter().find(is_ours).unwrap();
        let theirs = found.iter().find(|one| !is_ours(one)).unwrap();
        for key in ["outcome", "testcase", "note", "ref_url", "groups"] {
            let empty = |value: &Value| if value == "" { Value::Null } else { value.clone() };
            assert_eq!(empty(&ours[key]), empty(&theirs[key]), "{testcase}: {key}");
        }
        for (key, value) in theirs["data"].as_object().unwrap() {
            assert_eq!(&ours["data"][key], value, "{testcase}: {key}");
        }
    }
    // As Greenwave asks for what it knows of a compose, and where the groups lead.
    let found = results(&up, &format!("productmd.compose.id={COMPOSE}&job={}", ids.join(","))).await;
    assert_eq!(found.len(), 3);
    let groups = up.request(
        Method::GET,
        &format!("/api/v2.0/groups?description=compose.{COMPOSE},bodhi.FEDORA-2024-0a1b"),
    );
    let groups: Value = groups.send().await.unwrap().json().await.unwrap();
    let urls: Vec<&str> =
        groups["data"].as_array().unwrap().iter().map(|group| group["ref_url"].as_str().unwrap()).collect();
    let bodhi = "https://bodhi.fedoraproject.org/updates/FEDORA-2024-0a1b";
    assert!(urls.len() == 2 && urls.contains(&location.as_str()) && urls.contains(&bodhi), "{urls:?}");
    up.stop().await;
}

async fn results(up: &Up<'_>, query: &str) -> Vec<Value> {
    let answer = up.request(Method::GET, &format!("/api/v2.0/results?{query}")).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK, "{query}");
    answer.json::<Value>().await.unwrap()["data"].as_array().unwrap().clone()
}

#[tokio::test]
async fn every_job_becomes_results() {
    let place = Place::new();
    let up = Up::start(&place, &[]).await;
    let settings = [
        ("BACKEND", "dummy"),
        ("DISTRI", "fedora"),
        ("FLAVOR", "Server-dvd"),
        ("ARCH", "x86_64"),
        ("MACHINE", "64bit"),
        ("BUILD", "Fedora-Rawhide-20230502.n.0"),
    ];
    let job = up.post(&settings).await;
    assert_eq!(up.wait(job).await.result, "passed");
    let query = "item=Fedora-Rawhide-20230502.n.0&type=compose&testcases=compose.e2e&_sort=asc:submit_time";
    let found = results(&up, query).await;
    let outcomes: Vec<&str> = found.iter().map(|result| result["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["QUEUED", "RUNNING", "PASSED"]);
    let last = found.last().unwrap();
    assert_eq!(last["data"]["scenario"], json!(["fedora.Server-dvd.x86_64.64bit"]));
    assert_eq!((&last["data"]["arch"], &last["data"]["source"]), (&json!(["x86_64"]), &json!(["assay"])));
    assert_eq!(last["ref_url"], json!(format!("{}/jobs/{job}", up.url)));
    assert_eq!(last["testcase"]["ref_url"], last["ref_url"]);
    // After a restart, and after another change of the job, nothing is there twice.
    up.stop().await;
    let up = Up::start(&place, &[]).await;
    let again = place.run(&["job", "restart", &job.to_string()]).await;
    again.expect(0);
    assert_eq!(up.wait(job + 1).await.result, "passed");
    assert_eq!(results(&up, query).await.len(), 6);
    up.stop().await;
}

const POLICY: &str = "\
--- !Policy
id: push
product_versions: [fedora-*]
decision_context: compose_release
subject_type: compose
rules:
  - !PassingTestCaseRule {test_case_name: compose.install}
  - !PassingTestCaseRule {test_case_name: compose.upgrade, scenario: s1}
";

#[tokio::test]
async fn waivers_and_decisions() {
    let place = Place::new();
    fs::write(place.join("policy.yaml"), POLICY).unwrap();
    let config = place.join("assay.toml");
    let may = "[results]\npolicies = \"policy.yaml\"\n[results.may-waive.qa]\ntestcases = [\"compose.*\"]\nusers = [\"ann\"]\n";
    fs::write(&config, may).unwrap();
    let up = Up::start(&place, &["--config", config.as_str()]).await;
    let (ann, password) = key(&place, "ann", "operator").await;
    let (bob, bobs) = key(&place, "bob", "operator").await;
    let post = async |path: &str, who: (&str, &str), body: &Value| {
        let request = up.anonymous(Method::POST, path).basic_auth(who.0, Some(who.1)).json(body);
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };
    let by_ann = (ann.as_str(), password.as_str());
    let decide = async || {
        let body = json!({
            "product_version": "fedora-40", "decision_context": "compose_release",
            "subject_type": "compose", "subject_identifier": "F-40-20240601.0",
        });
        let (status, decision) = post("/api/v1.0/decision", by_ann, &body).await;
        assert_eq!(status, 200, "{decision}");
        let words = |key: &str| -> Vec<String> {
            let list = decision[key].as_array().unwrap().iter();
            list.map(|one| format!("{} {}", one["type"].as_str().unwrap(), one["testcase"].as_str().unwrap()))
                .collect()
        };
        let lists = [words("satisfied_requirements"), words("unsatisfied_requirements")];
        (decision["summary"].as_str().unwrap().to_owned(), lists)
    };
    assert_eq!(decide().await.0, "Of 2 required tests, 2 results missing");
    let data = json!({"item": "F-40-20240601.0", "type": "compose", "scenario": "s1"});
    for (testcase, outcome) in [("compose.install", "PASSED"), ("compose.upgrade", "FAILED")] {
        let body = json!({"outcome": outcome, "testcase": testcase, "data": data});
        let (status, answer) = post("/api/v2.0/results", by_ann, &body).await;
        assert_eq!(status, 201, "{answer}");
    }
    let (summary, [satisfied, unsatisfied]) = decide().await;
    assert_eq!(summary, "Of 2 required tests, 1 test failed");
    assert_eq!(
        (&satisfied[..], &unsatisfied[..]),
        (
            &["test-result-passed compose.install".to_owned()][..],
            &["test-result-failed compose.upgrade".to_owned()][..],
        )
    );
    let waiver = json!({
        "subject_type": "compose", "subject_identifier": "F-40-20240601.0", "testcase": "compose.upgrade",
        "product_version": "fedora-40", "comment": "known", "scenario": "s1",
    });
    let (status, answer) = post("/api/v1.0/waivers/", (&bob, &bobs), &waiver).await;
    assert_eq!(status, 403, "{answer}");
    assert!(answer["message"].as_str().unwrap().contains("those of qa may"), "{answer}");
    for (change, part) in [
        (json!({"comment": ""}), "comment should not be empty"),
        (json!({"expires": "2001-01-01T00:00:00"}), "still to come"),
        (json!({"testcase": null}), "testcase should not be empty"),
        (json!({"username": "carol"}), "proxyuser"),
    ] {
        let mut wrong = waiver.clone();
        wrong.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let (status, answer) = post("/api/v1.0/waivers/", by_ann, &wrong).await;
        assert!(
            (400..404).contains(&status) && answer["message"].as_str().unwrap().contains(part),
            "{part}: {answer}"
        );
    }
    let (status, answer) = post("/api/v1.0/waivers/", by_ann, &waiver).await;
    assert_eq!((status, &answer["username"], &answer["waived"]), (201, &json!("ann"), &json!(true)));
    let (summary, [satisfied, _]) = decide().await;
    assert_eq!(summary, "All required tests (2 total) have passed or been waived");
    assert!(satisfied.contains(&"test-result-failed-waived compose.upgrade".to_owned()));
    let listed = up.request(Method::GET, "/api/v1.0/waivers/?testcase=compose.upgrade").send().await.unwrap();
    assert_eq!(listed.json::<Value>().await.unwrap()["data"][0]["comment"], "known");
    let back =
        json!({"result_id": 2, "waived": false, "comment": "not any more", "product_version": "fedora-40"});
    let (status, answer) = post("/api/v1.0/waivers/", by_ann, &back).await;
    assert_eq!((status, &answer["scenario"]), (201, &json!("s1")));
    assert_eq!(decide().await.0, "Of 2 required tests, 1 test failed");
    for (body, status, part) in [
        (json!({}), 400, "product version"),
        (
            json!({"product_version": "fedora-40", "decision_context": "x", "rules": [{"type": "PassingTestCaseRule", "test_case_name": "t"}]}),
            400,
            "both",
        ),
        (
            json!({"product_version": "x", "decision_context": "compose_release", "subject_type": "compose", "subject_identifier": "a"}),
            404,
            "no applicable policies",
        ),
        (
            json!({"product_version": "x", "rules": [{"type": "RemoteRule"}], "subject_type": "compose", "subject_identifier": "a"}),
            400,
            "[results.remote-rules]",
        ),
    ] {
        let (found, answer) = post("/api/v1.0/decision", by_ann, &body).await;
        assert_eq!(found, status, "{answer}");
        assert!(answer["message"].as_str().unwrap().contains(part), "{part}: {answer}");
    }
    up.stop().await;
}

/// Writes a stream of subunit's second version into a file: of each test an id and what became of it.
const SUBUNIT: &str = "
import struct, sys, zlib
def packet(status, test):
    content = struct.pack('>BHBB', 0xb3, 0x2800 | status, 9 + len(test), len(test)) + test.encode()
    return content + struct.pack('>I', zlib.crc32(content))
BEGAN, PASSED, SKIPPED, FAILED = 2, 3, 5, 6
said = [(BEGAN, 'sub.one'), (BEGAN, 'sub.two'), (PASSED, 'sub.one'), (FAILED, 'sub.two'), (SKIPPED, 'sub.three')]
with open(sys.argv[1], 'wb') as out:
    out.write(b''.join(packet(status, test) for status, test in said))
";

/// Streams of subunit: found out by themselves or named, from a file or by a pipe, cut off in the middle.
#[tokio::test]
async fn subunit_by_hand() {
    let place = Place::new();
    let up = Up::start(&place, &[]).await;
    let stream = place.join("tests.subunit");
    let mut command = place.command("python3");
    command.args(["-c", SUBUNIT, stream.as_str()]);
    place.run_command(command).await.expect(0);
    let import = async |more: &[&str]| {
        let item = ["--item", "a-1-1", "--type", "koji_build", "--prefix", "unit", "--json"];
        place.run(&[&["result", "import"][..], more, &item[..]].concat()).await
    };
    let counts =
        |said: &Value| ["new", "known", "skipped", "not_passed"].map(|key| said[key].as_i64().unwrap());
    for wanted in [[2, 0, 1, 1], [0, 2, 1, 1]] {
        assert_eq!(counts(&import(&[stream.as_str()]).await.expect(0).json()), wanted);
    }
    // Skipped tests only if they are wanted; the other two are known by the same bytes.
    let said = import(&[stream.as_str(), "--format", "subunit", "--skipped", "INFO"]).await.expect(0).json();
    assert_eq!(counts(&said)[2], 0, "{said}");
    let found = results(&up, "testcases:like=unit.*&item=a-1-1").await;
    let mut outcomes: Vec<String> = found
        .iter()
        .map(|one| {
            format!("{} {}", one["testcase"]["name"].as_str().unwrap(), one["outcome"].as_str().unwrap())
        })
        .collect();
    outcomes.sort();
    outcomes.dedup();
    assert_eq!(outcomes, ["unit.sub.one PASSED", "unit.sub.three INFO", "unit.sub.two FAILED"]);
    // A pipe whose writer died in the middle of a packet: what came is taken, and what is wrong is said.
    let bytes = fs::read(&stream).unwrap();
    let cut = place.join("cut");
    fs::write(&cut, &bytes[..bytes.len() - 3]).unwrap();
    let mut command =
        place.assay(&["result", "import", "-", "--format", "subunit", "--item", "b-1-1", "--json"]);
    command.stdin(fs::File::open(&cut).unwrap().into_parts().0);
    let said = place.run_command(command).await.expect(1).json();
    assert_eq!(counts(&said), [2, 0, 0, 1], "{said}");
    assert!(!said["problems"].as_array().unwrap().is_empty(), "{said}");
    let old = place.join("old.txt");
    fs::write(&old, "test: old.one\nsuccess: old.one\ntest: old.two\nfailure: old.two [\nno\n]\n").unwrap();
    let said = import(&[old.as_str(), "--format", "subunit-v1"]).await.expect(0).json();
    assert_eq!(counts(&said), [2, 0, 0, 1], "{said}");
    // Of the wrong version nothing can be read.
    import(&[old.as_str(), "--format", "subunit"]).await.expect(2).says("has no tests");
    up.stop().await;
}

/// What a person does: import files, look, waive, ask; and the pages.
#[tokio::test]
async fn by_hand() {
    let place = Place::new();
    let file = |name: &str, text: &str| {
        let path = place.join(name);
        fs::write(&path, text).unwrap();
        path.to_string()
    };
    let policy = file("policy.yaml", POLICY);
    let config = file("assay.toml", "[results]\npolicies = \"policy.yaml\"\n");
    let up = Up::start(&place, &["--config", &config]).await;
    let junit = file(
        "report.xml",
        "<testsuite name=\"s\"><testcase classname=\"a.B\" name=\"one\"/><testcase name=\"two\"><failure message=\"no\"/>\
         </testcase><testcase name=\"three\"><skipped/></testcase></testsuite>",
    );
    let import = async |more: &[&str]| place.run(&[&["result", "import", "--json"], more].concat()).await;
    let of_item = ["--item", "F-40-20240601.0", "--type", "compose", "--prefix", "unit"];
    for (new, known) in [(2, 0), (0, 2)] {
        let said = import(&[&[junit.as_str()], &of_item[..]].concat()).await.expect(0).json();
        assert_eq!((&said["new"], &said["known"], &said["skipped"]), (&json!(new), &json!(known), &json!(1)));
    }
    let tap = file("x.tap", "1..2\nok 1 - first\nnot ok 2 - second\n");
    let said = import(&[&[tap.as_str()], &of_item[..], &["arch=s390x"][..]].concat()).await.expect(0).json();
    assert_eq!((&said["new"], &said["not_passed"]), (&json!(2), &json!(1)));
    let yaml = "results:\n  - {item: F-40-20240601.0, type: compose, testcase: compose.install, outcome: PASSED, arch: x86_64}\n  \
                - {item: F-40-20240601.0, type: compose, testcase: compose.upgrade, outcome: FAILED, scenario: s1}\n";
    let said = import(&[file("results.yaml", yaml).as_str()]).await.expect(0).json();
    assert_eq!(said["new"], json!(2));
    import(&[file("wrong.yaml", "results:\n  - {item: a}\n").as_str()])
        .await
        .expect(2)
        .says("wrong.yaml:2:5: error: a result needs");
    import(&[file("x.txt", "hello").as_str()]).await.expect(2).says("does not look like JUnit");
    import(&["/nonexistent.xml"]).await.expect(4);
    import(&[tap.as_str()]).await.expect(2).says("say so with --item");
    place.run(&["result", "post", "t", "GOOD", "--item", "x"]).await.expect(2).says("must be one of: PASSED");
    let listed = place.run(&["result", "list", "--testcase", "unit.*", "--outcome", "FAILED"]).await;
    listed.expect(0).says("unit.second").says("unit.s.two");

    let ask = async || {
        let subject = ["F-40-20240601.0", "--type", "compose", "--product-version", "fedora-40"];
        place.run(&[&["decision", "ask", "--context", "compose_release"], &subject[..]].concat()).await
    };
    ask().await.expect(1).says("Of 2 required tests, 1 test failed");
    let waiting =
        async |code: i32| place.run(&["decision", "waiting", "fedora-40"]).await.expect(code).stdout.clone();
    let said = waiting(1).await;
    assert!(
        said.contains("F-40-20240601.0 (compose_release)")
            && said.contains("test-result-failed compose.upgrade"),
        "{said}"
    );
    let release =
        up.request(Method::GET, "/release?version=fedora-40").send().await.unwrap().text().await.unwrap();
    assert!(release.contains("What fedora-40 waits for") && release.contains("compose.upgrade"), "{release}");
    place
        .run(&["decision", "waiting", "fedora-4"])
        .await
        .expect(4)
        .says("Nothing was decided about the release");
    let waive = ["waiver", "create", "compose.upgrade", "--item", "F-40-20240601.0", "--type", "compose"];
    let why = ["--product-version", "fedora-40", "--comment", "known <b>bug</b>"];
    place.run(&[&waive[..], &why[..]].concat()).await.expect(0);
    place
        .run(&[&waive[..], &why[..], &["--expires", "2001-01-01"][..]].concat())
        .await
        .expect(2)
        .says("still to come");
    ask().await.expect(0).says("All required tests (2 total) have passed or been waived");
    assert_eq!(waiting(0).await, "");
    place.run(&["decision", "waiting"]).await.expect(0).says("fedora-40");
    place.run(&["waiver", "list", "--item", "F-40-20240601.0"]).await.expect(0).says("compose.upgrade");
    place.run(&["decision", "check", &policy]).await.expect(0).says("1 policy");
    // Which tests there are the server knows: results of these were imported, and of others nobody has heard.
    place.run(&["decision", "check", "--known", &policy]).await.expect(0).says("1 policy");
    let misspelt = file("misspelt.yaml", &POLICY.replace("compose.upgrade", "compose.upgrad"));
    place.run(&["decision", "check", &misspelt]).await.expect(0);
    let said = place.run(&["decision", "check", "--known", &misspelt]).await;
    said.expect(1).says("misspelt.yaml:8:").says("did you mean `compose.upgrade`?");
    let wrong = file("wrong-policy.yaml", "--- !Policy\nid: a\nrules:\n  - !Passing {}\n");
    place.run(&["decision", "check", &wrong]).await.expect(2).says("wrong-policy.yaml:4:");

    let page = async |path: &str| {
        let answer = up.request(Method::GET, path).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let (status, html) = page("/item?type=compose&item=F-40-20240601.0").await;
    assert_eq!(status, 200);
    for part in [
        "All required tests (2 total)",
        "Of 2 required tests, 1 test failed",
        "known &#60;b&#62;bug&#60;/b&#62;",
        "s390x",
        "unit.second",
    ] {
        assert!(html.contains(part), "{part}: {html}");
    }
    assert_eq!(page("/item?type=compose&item=none").await.0, 404);
    let (_, html) = page("/results?item=F-40*&outcome=FAILED").await;
    assert!(html.contains("unit.s.two") && !html.contains("unit.first"), "{html}");
    up.stop().await;
}
