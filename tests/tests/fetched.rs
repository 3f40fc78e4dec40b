//! Tests and needles that are fetched: `CASEDIR=URL#REF`, by the real worker with the real git.

use assay_tests::{Place, Up, boot_sector};
use camino::Utf8Path;
use fs_err as fs;
use reqwest::Method;
use serde_json::Value;
use std::collections::BTreeMap;

/// Says `HELLO` on the serial port and stops.
const HELLO: &[u8] = &[
    0xfa, 0x31, 0xc0, 0x8e, 0xd8, 0xbe, 0x22, 0x7c, // cli; ds 0; mov si, text
    0xac, 0x84, 0xc0, 0x74, 0x12, 0x88, 0xc4, // say: lodsb; test al, al; jz end; mov ah, al
    0xba, 0xfd, 0x03, 0xec, 0xa8, 0x20, 0x74, 0xfb, // wait for the port
    0xba, 0xf8, 0x03, 0x88, 0xe0, 0xee, 0xeb, 0xe9, // out; jmp say
    0xf4, 0xeb, 0xfd, // end: hlt
    b'H', b'E', b'L', b'L', b'O', b'\r', b'\n', 0,
];

/// Commits all that is there, and answers the commit.
async fn commit(place: &Place, dir: &Utf8Path) -> String {
    place.git(dir, &["add", "."]).await;
    place.git(dir, &["commit", "-q", "-m", "x"]).await;
    place.git(dir, &["rev-parse", "HEAD"]).await
}

#[tokio::test]
async fn tests_come_from_a_commit_of_a_repository() {
    let place = Place::new();
    let (expects, hopes) = ("t.wait_serial(\"HELLO\", timeout = 60)", "t.fail(\"why\")");
    let suite = place.suite("tests.git").module("boot", "", expects).vars(&[("QEMU", "/bin/false")]);
    let dir = suite.join("");
    std::os::unix::fs::symlink("/etc/passwd", suite.join("out")).unwrap();
    place.git(&dir, &["init", "-q", "-b", "main"]).await;
    let good = commit(&place, &dir).await;
    place.git(&dir, &["tag", "v1"]).await;
    let suite = suite.module("boot", "", hopes);
    let bad = commit(&place, &dir).await;
    let needles = place.join("needles.git");
    fs::create_dir(&needles).unwrap();
    fs::write(needles.join("broken.json"), "{").unwrap();
    place.git(&needles, &["init", "-q", "-b", "main"]).await;
    let drawn = commit(&place, &needles).await;

    let up = Up::start(&place, &[]).await;
    up.upload("hello.img", &boot_sector(HELLO)).await;
    let address = format!("file://{}", suite.dir());
    let small = [("QEMURAM", "64"), ("QEMU_NO_KVM", "1"), ("HDD_1", "hello.img")];
    let run = async |casedir: &str, more: &[(&str, &str)]| {
        let id = up.post(&[&[("CASEDIR", casedir)], &small[..], more].concat()).await;
        let job = up.wait(id).await;
        (job.result.clone(), job.reason.unwrap_or_default(), up.stream(id, "autoinst-log.txt", None).await)
    };
    // Which commit, by which name, and what becomes of the job. A `vars.json` that is fetched is not read.
    for (reference, used, result) in [
        ("#v1".to_owned(), &good, "passed"),
        (format!("#{good}"), &good, "passed"),
        ("#main".to_owned(), &bad, "failed"),
        (String::new(), &bad, "failed"),
    ] {
        let (found, reason, log) = run(&format!("{address}{reference}"), &[]).await;
        assert_eq!(found, result, "{reference}: {reason}\n{log}");
        assert!(log.contains(&format!("tests commit: {used}")), "{reference}: {log}");
    }
    // What came between is known, though the server has no checkout.
    let found = place.run(&["job", "investigate", "3", "--json"]).await.expect(0).json();
    let log = &found["tests_log"];
    assert_eq!(
        (&log["commits"][0]["id"], log["commits"].as_array().map(Vec::len)),
        (&serde_json::json!(bad), Some(1)),
        "{found}"
    );
    assert_eq!(log["commits"][0]["files"], serde_json::json!(["tests/boot.star"]), "{found}");
    assert!(log["unknown"].is_null() && found["needles_log"]["commits"] == serde_json::json!([]), "{found}");
    // The branch has moved on. By openQA's API, which leaves names in double `%` to the worker.
    let suite =
        suite.module("boot", "", &format!("{expects}\nt.record_info(\"where\", t.get_var(\"WHERE\"))"));
    let newest = commit(&place, &dir).await;
    let mut settings: BTreeMap<&str, String> =
        small.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    settings.insert("TEST", "e2e".to_owned());
    settings.insert("CASEDIR", format!("{address}#main"));
    settings.insert("NEEDLES_DIR", format!("file://{needles}#main"));
    settings.insert("WHERE", "host <%%WORKER_HOSTNAME%%>".to_owned());
    let answer = up.request(Method::POST, "/api/v1/jobs").json(&settings).send().await.unwrap();
    let posted: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    let id = posted["id"].as_i64().unwrap_or_else(|| panic!("{posted}"));
    let job = up.wait(id).await;
    let log = up.stream(id, "autoinst-log.txt", None).await;
    assert_eq!(job.result, "passed", "{:?}\n{log}", job.reason);
    assert_eq!(job.settings["WHERE"].value, "host <%WORKER_HOSTNAME%>", "it stays as it was posted");
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let steps = up.get(&format!("jobs/{id}/steps")).await.to_string();
    assert!(steps.contains(&format!("host <{host}>")), "{steps}");
    assert!(log.contains(&format!("tests commit: {newest}")), "{log}");
    assert!(log.contains(&format!("needles commit: {drawn}")) && log.contains("broken.json"), "{log}");
    // One tree for each commit, without a repository and without links to the host's files.
    let trees = up.data().join("cache/trees");
    let tree = |commit: &str| {
        let entries = trees.read_dir_utf8().unwrap().map(|entry| entry.unwrap().path().to_owned());
        entries.filter(|path| path.as_str().ends_with(commit)).collect::<Vec<_>>()
    };
    let [one] = &tree(&good)[..] else { panic!("{:?}", tree(&good)) };
    assert!(one.join("tests/boot.star").is_file() && !one.join(".git").exists());
    assert!(one.join("out").symlink_metadata().is_err(), "a link out of the tree");

    for (casedir, needles, said) in [
        (format!("{address}#nowhere"), None, "the repository has no branch, tag or commit \"nowhere\""),
        (format!("file://{}/none.git", place.path()), None, "cannot be fetched from"),
        ("relative".to_owned(), None, "Give one, or an address"),
        ("ftp://h/x".to_owned(), None, "not by \"ftp\""),
        (format!("{address}#main"), Some("missing"), "NEEDLES_DIR=missing is no folder"),
    ] {
        let more: Vec<_> = needles.into_iter().map(|dir| ("NEEDLES_DIR", dir)).collect();
        let (result, reason, _) = run(&casedir, &more).await;
        assert!(result == "incomplete" && reason.contains(said), "{casedir}: {result} {reason}");
    }
    drop(suite);
    up.stop().await;
}
