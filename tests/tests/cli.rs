//! The command line against a server that answers: what each command says, with which exit code, and as JSON.

use assay_tests::{Place, Up};
use fs_err as fs;
use reqwest::Method;
use serde_json::{Value, json};

/// Whether a command may be given once more, to see its JSON.
#[derive(Clone, Copy, PartialEq)]
enum Again {
    Yes,
    No,
}
use Again::{No, Yes};

/// A command, its exit code, and what it says.
type Row<'a> = (&'a str, i32, &'a str, Again);

async fn all(place: &Place, rows: &[Row<'_>]) {
    for (line, code, said, again) in rows {
        let words: Vec<&str> = line.split(' ').collect();
        let ended = place.run(&words).await;
        let (out, told) = (&ended.stdout, format!("{}{}", ended.stdout, ended.stderr));
        assert_eq!(ended.code, Some(*code), "assay {line}: {told}");
        assert!(told.contains(said), "assay {line}: {said:?} is not in\n{told}");
        assert!(!told.contains(".;") && !told.contains(".."), "assay {line}: a doubled mark in\n{told}");
        assert!(*code != 0 || !out.trim().is_empty(), "assay {line} says nothing");
        if *again == Yes {
            let ended = place.run(&[&words[..], &["--json"]].concat()).await;
            assert_eq!(ended.code, Some(*code), "assay {line} --json: {}", ended.stderr);
            let told = serde_json::from_str::<Value>(&ended.stdout);
            assert!(
                told.is_ok() || matches!(code, 1 | 2),
                "assay {line} --json is no JSON:\n{}",
                ended.stdout
            );
            assert!(*code != 4 || told.is_ok_and(|told| told["error"].is_string()), "assay {line} --json");
        }
    }
}

#[tokio::test]
async fn jobs() {
    let place = Place::new();
    let up = Up::start(&place, &[]).await;
    for (result, id) in [("passed", 1), ("failed", 2)] {
        up.post(&[("BACKEND", "dummy"), ("TEST", "a"), ("DUMMY_RESULT", result)]).await;
        assert_eq!(up.wait(id).await.result, result);
    }
    all(
        &place,
        &[
            ("job post BACKEND=dummy TEST=b WORKER_CLASS=nobody", 0, "job 3: http", No),
            ("job list --state scheduled", 0, "b", Yes),
            ("job list -q b --test a,b --machine= --build=", 0, "b", Yes),
            ("job list --result not_ok,odd", 2, "\"odd\" is not a result", Yes),
            ("job list --group nobody", 4, "There is no group \"nobody\"", Yes),
            ("job why 3", 0, "no online worker offers class nobody", Yes),
            ("job why 1", 0, "job 1 is passed", Yes),
            ("job why 999", 4, "There is no job 999. ", Yes),
            ("job show 1 --explain", 0, "the request", Yes),
            ("job show 999", 4, "There is no job 999. ", Yes),
            ("job restart 2 --plan", 0, "2 (a) would be cloned, because it was asked for", Yes),
            ("job restart 3 --plan", 0, "3 (b) stays: it has not begun yet", Yes),
            ("job restart 999 --plan", 4, "There is no job 999. See", Yes),
            ("job restart 2 --plan --group nobody", 4, "there is no group \"nobody\"", Yes),
            ("job restart 2 --plan --group 0 --comment boo#6", 0, "2 (a) would be cloned", Yes),
            ("job prio 3 -5", 0, "job 3 has priority -5", Yes),
            ("job prio 999 1", 4, "There is no job 999. ", Yes),
            ("job prio 3 high", 2, "invalid value 'high'", No),
            ("job comment 2 boo#7", 0, "boo#7", No),
            ("job comment 2", 0, "boo#7", Yes),
            ("job investigate 2", 0, "last good  1 (passed)", Yes),
            ("job investigate 2 --against first_bad", 0, "first bad  2 (failed)", Yes),
            ("job investigate 1 --against first_bad", 4, "has failed since it last passed", Yes),
            ("job investigate 2 --against odd", 2, "invalid value 'odd'", No),
            ("job investigate 999", 4, "There is no job 999. ", Yes),
            ("job cleanup --dry-run", 0, "would be freed", Yes),
            ("job clone 2 NOTE=x", 0, "2 (a) is cloned as http", No),
            ("job cancel 3", 0, "job 3 is cancelled", Yes),
            ("job wait 1 2", 1, "failed", Yes),
            ("job log 1", 0, "dummy attempt", Yes),
            ("audit list --event jobs_restart", 0, "{\"2\":4}", Yes),
            ("audit list --event job_cancel --user admin", 0, "{\"id\":3,\"name\":\"b\"}", Yes),
            ("audit list --limit many", 2, "invalid value 'many'", No),
        ],
    )
    .await;
    up.stop().await;
}

#[tokio::test]
async fn files_workers_and_keys() {
    let place = Place::new();
    let up = Up::start(&place, &[]).await;
    up.until_online().await;
    fs::write(place.join("a.iso"), "the bytes of it").unwrap();
    let worker = up.get("workers").await["workers"][0]["name"].as_str().unwrap().to_owned();
    let made = place.run(&["key", "create", "--user", "ann", "--role", "operator", "--json"]).await;
    let key = made.expect(0).json()["key"].as_str().unwrap().to_owned();
    let [drain, end, forget, revoke] = [
        format!("worker drain {worker}"),
        format!("worker drain {worker} --end"),
        format!("worker forget {worker}"),
        format!("key revoke {key}"),
    ];
    all(
        &place,
        &[
            ("asset list", 0, "NUMBER", Yes),
            ("asset upload a.iso", 0, "iso/a.iso: number 1", No),
            ("asset upload none.iso", 4, "there is no file none.iso", Yes),
            ("asset list a --type iso", 0, "a.iso", Yes),
            ("asset show iso/a.iso", 0, "15", Yes),
            ("asset show iso/none.iso", 4, "There is no asset iso/none.iso. ", Yes),
            ("asset fix iso/a.iso", 0, "fixed", Yes),
            ("asset unfix iso/a.iso", 0, "1", Yes),
            ("asset download iso/a.iso --out b.iso", 0, "b.iso: number 1", No),
            ("asset cleanup --dry-run", 0, "would be freed", Yes),
            ("asset delete iso/none.iso", 4, "There is no asset iso/none.iso. ", Yes),
            ("asset delete iso/a.iso", 0, "removed", No),
            ("worker list", 0, "idle", Yes),
            (&drain, 0, "drained by admin", Yes),
            (&end, 0, "idle", Yes),
            ("worker drain nobody", 4, "nobody", Yes),
            (&forget, 2, &worker, Yes),
            ("worker forget nobody", 4, "nobody", Yes),
            ("key list", 0, "ann", Yes),
            (&revoke, 0, "is revoked", No),
            ("key revoke 0123456789ABCDEF", 4, "0123456789ABCDEF", Yes),
            ("key revoke x/y", 2, "is no key", Yes),
            ("key setup-token ann", 0, "ann (operator) signs in at http", Yes),
            ("key role ann viewer", 0, "ann is viewer", Yes),
            ("key role nobody viewer", 4, "There is no user \"nobody\". See", Yes),
            ("key role ann king", 2, "invalid value 'king'", No),
            ("key sign-out ann", 0, "ann", Yes),
            ("key sign-out nobody", 4, "nobody", Yes),
        ],
    )
    .await;
    assert_eq!(fs::read_to_string(place.join("b.iso")).unwrap(), "the bytes of it");
    up.stop().await;
}

/// A product with two suites; `update` starts after `install`.
fn tables() -> Value {
    let product = json!({"arch": "x86_64", "distri": "demo", "flavor": "dvd", "version": "*"});
    let template = |suite: &str| json!({"group_name": "demo", "machine": {"name": "64bit"}, "product": product, "test_suite": {"name": suite}});
    let after = json!([{"key": "START_AFTER_TEST", "value": "install"}]);
    json!({
        "Machines": [{"name": "64bit", "backend": "dummy", "settings": [{"key": "QEMURAM", "value": "1024"}]}],
        "TestSuites": [{"name": "install", "settings": []}, {"name": "update", "settings": after}],
        "Products": [{"name": "", "distri": "demo", "version": "*", "flavor": "dvd", "arch": "x86_64", "settings": []}],
        "JobTemplates": [template("install"), template("update")],
    })
}

const HEAD: &str = "products:\n  d:\n    distri: demo\n    version: '*'\n    flavor: net\n";
const GROUP: &str = "defaults:\n  x86_64:\n    machine: 64bit\n    priority: 50\nscenarios:\n  x86_64:\n    d:\n    - install\n    \
                     - aa:\n        testsuite: null\n        settings:\n          START_AFTER_TEST: bb\n    \
                     - bb:\n        testsuite: null\n        settings:\n          START_AFTER_TEST: aa\n    \
                     - cc:\n        testsuite: null\n        settings:\n          START_AFTER_TEST: nowhere\n";
const SCENARIOS: &str = "products:\n  d: {distri: demo, version: '1', flavor: repo, arch: x86_64}\nmachines:\n  m: {backend: dummy}\n\
                         job_templates:\n  one: {product: d, machine: m}\n  two: {product: d, machine: m, settings: {START_AFTER_TEST: oen}}\n";
const FIF: &str = r#"{"Machines": {"64bit": {"backend": "dummy", "settings": {}}},
"Products": {"p": {"distri": "demo", "version": "*", "flavor": "fif", "arch": "x86_64", "settings": {}}},
"Profiles": {"q": {"machine": "64bit", "product": "p"}},
"TestSuites": {"instal": {"profiles": {"q": 40}}}}"#;

#[tokio::test]
async fn templates_and_products() {
    let place = Place::new();
    let up = Up::start(&place, &[]).await;
    let net = json!({"Products": [{"name": "", "distri": "demo", "version": "*", "flavor": "net", "arch": "x86_64", "settings": []}]});
    for (name, text) in [
        ("tables.json", tables().to_string()),
        ("net.json", net.to_string()),
        ("group.yaml", format!("{HEAD}{GROUP}")),
        ("smaller.yaml", format!("{HEAD}{}", GROUP.split("    - cc").next().unwrap())),
        ("scenarios.yaml", SCENARIOS.to_owned()),
        ("wrong.yaml", SCENARIOS.replace("product: d", "product: e")),
        ("profiles.json", FIF.to_owned()),
    ] {
        fs::write(place.join(name), text).unwrap();
    }
    let product = "DISTRI=demo VERSION=1 FLAVOR=dvd ARCH=x86_64 BUILD=7";
    let [plan, slip, unknown, post, nothing] = [
        format!("product plan {product}"),
        format!("product plan {product} TEST=instal"),
        format!("product plan {}", product.replace("demo", "dmo")),
        format!("product post {product} TEST=install QEMURAM=2048"),
        format!("product post {product} TEST=instal"),
    ];
    let refused = format!("product post {}", product.replace("demo", "dmo"));
    let waiting = format!("product post {product} +WORKER_CLASS=nobody");
    let next = product.replace("BUILD=7", "BUILD=8 _OBSOLETE=1");
    let [next_plan, next_post] = [format!("product plan {next} _OBSOLTE=1"), format!("product post {next}")];
    let beside = "--scenarios scenarios.yaml DISTRI=demo VERSION=1 FLAVOR=repo ARCH=x86_64";
    let [beside_plan, beside_post] = ["plan", "post"].map(|verb| format!("product {verb} {beside}"));
    let wrong = beside_plan.replace("scenarios.yaml", "wrong.yaml");
    all(
        &place,
        &[
            ("template check tables.json", 0, "6 would be new, 0 would be changed, 0 as they were", Yes),
            ("template load tables.json", 0, "6 new, 0 changed, 0 as they were", No),
            ("template load net.json", 0, "1 new, 0 changed, 0 as they were", No),
            ("template check tables.json", 0, "0 would be new, 0 would be changed, 6 as they were", Yes),
            ("template check group.yaml", 0, "4 would be new, 0 would be changed, 0 as they were", Yes),
            ("template check group.yaml", 0, "group.yaml:14:7: warning: aa@64bit: ", Yes),
            ("template check group.yaml", 0, "group.yaml:22:7: warning: cc@64bit: ", Yes),
            ("template load group.yaml", 0, "4 new, 0 changed, 0 as they were", No),
            ("template check group.yaml", 0, "0 would be new, 0 would be changed, 4 as they were", Yes),
            (
                "template check --group other smaller.yaml",
                2,
                "smaller.yaml:13:7: error: install@64bit for demo-*-net-x86_64 is in group \"group\" already",
                Yes,
            ),
            (
                "template check --group other smaller.yaml",
                2,
                "smaller.yaml:18:7: error: bb@64bit for demo-*-net-x86_64 is in group \"group\" already",
                Yes,
            ),
            (
                "template check --group group smaller.yaml",
                0,
                "0 would be new, 0 would be changed, 3 as they were, 1 would be removed",
                Yes,
            ),
            (
                "template check --group group smaller.yaml",
                0,
                "removed: job template cc@64bit for demo-*-net-x86_64",
                Yes,
            ),
            ("template check profiles.json", 2, "there is no test suite instal (did you mean install?)", Yes),
            (
                "template check profiles.json",
                2,
                "profiles.json:4:16: warning: the test suite `instal` has profiles",
                Yes,
            ),
            ("template check scenarios.yaml", 0, "demo-1-repo-x86_64: 2 jobs of 2 scenarios", Yes),
            ("template check scenarios.yaml", 0, "scenarios.yaml:7:3: warning: two@m: ", Yes),
            ("template check wrong.yaml", 2, "wrong.yaml:6:18: error: the product `e` is not among", Yes),
            ("template load scenarios.yaml", 2, "product post --scenarios", Yes),
            ("template dump", 0, "\"TestSuites\"", No),
            (&plan, 0, "install@64bit", Yes),
            (&slip, 1, "no jobs", Yes),
            (&slip, 1, "did you mean install", Yes),
            (&unknown, 1, "refused: ", Yes),
            (&post, 0, "product 1: 1 job\n", No),
            (&nothing, 1, "product 2: 0 jobs", No),
            ("job show 1 --explain", 0, "over \"1024\" from machine 64bit", Yes),
            ("product list --build 7", 0, "demo-1-dvd-x86_64", Yes),
            ("product show 1", 0, "left out: update@64bit: ", Yes),
            ("product show 1", 0, "  TEST=install\n", Yes),
            ("product show 99", 4, "There is no post of a product \"99\". ", Yes),
            (&beside_plan, 0, "not as it was meant: two@m: ", Yes),
            (&wrong, 2, "wrong.yaml:6:18: error: the product `e` is not among", Yes),
            (&beside_post, 0, "product 3: 2 jobs", No),
            (&refused, 4, "There is no product dmo-1-dvd-x86_64 ", No),
            ("product show 4", 0, "\nrefused: there is no product dmo-1-dvd-x86_64 ", Yes),
            ("product list", 0, "refused", Yes),
            (&waiting, 0, "product 5: 2 jobs", No),
            (&next_plan, 0, ", install@64bit of build 7, would end as obsoleted", Yes),
            (&next_plan, 0, "note: _OBSOLTE is no flag", Yes),
            (&next_post, 0, "ended, or stepped back: ", No),
            ("audit list --event iso_create", 0, "\"scheduled_product_id\":3", Yes),
        ],
    )
    .await;
    let page = up.anonymous(Method::GET, "/tests/1").send().await.unwrap().text().await.unwrap();
    assert!(page.contains("in place of <s>1024</s> from machine 64bit"), "{page}");
    // A refused plan and an empty one have no table.
    for line in [&unknown, &slip] {
        let said = place.run(&line.split(' ').collect::<Vec<_>>()).await;
        assert!(!said.stdout.contains("priority"), "{}", said.stdout);
    }
    up.stop().await;
}
