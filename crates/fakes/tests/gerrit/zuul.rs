//! Zuul's own client code: its Gerrit driver and merger.

use crate::common::{Place, python_program};
use anyhow::Context as _;
use camino::Utf8Path;
use serde_json::{Value, json};

/// What Zuul's code made of a server, by this way of talking.
async fn told_by(way: &str, place: &Place) -> anyhow::Result<Value> {
    let zuul = place.person("zuul").await?;
    let python = python_program("python").await?;
    let script = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gerrit/zuul_client.py");
    let (port, key) = (zuul.port.to_string(), zuul.home.join(".ssh/key"));
    let args = [script.as_str(), way, &zuul.host, &port, key.as_str(), "z-secret", &place.gerrit.url()];
    let told = zuul.run(&zuul.home, python.as_str(), &args).await?;
    serde_json::from_str(told.trim()).context(told)
}

/// What it says by each way.
fn expected(way: &str, place: &Place) -> Value {
    let mut told = json!({
        "branches": ["master"],
        "version": if way == "ssh" { [0, 0, 0] } else { [3, 9, 1] },
        "child": {
            "project": "demo", "branch": "master", "id": true, "commit": true, "ref": "refs/changes/03/3/1",
            "current": true, "open": true, "status": "NEW", "files": ["/COMMIT_MSG", "child.txt"],
            "needs": ["2"], "depends": ["1"], "missing": ["Code-Review", "Verified", "Workflow"], "may": false,
        },
        "needed_by": ["3"],
        // Asked by REST, Zuul counts a change itself among those that need it.
        "git_needed_by": if way == "ssh" { json!(["3"]) } else { json!(["3", "2"]) },
        "depending": ["3"],
        "by_url": ["1", "1", "1"],
        "open": 9,
        "required": [true, false],
        "may_after": [false, true],
        // Asked by REST, Zuul writes a refusal into its log.
        "refused": way == "ssh",
        "merged_too_early": false,
        "url": match way {
            "ssh" => format!("ssh://zuul@{}/demo", place.gerrit.ssh()),
            _ => format!("{}/demo", place.gerrit.url().replace("://", "://zuul:z-secret@")),
        },
        "files": { "a.txt": "First\n", "parent.txt": "Parent\n", "child.txt": "Child\n" },
        "merged": true,
        "landed": true,
    });
    if way == "poll" {
        told["moved"] = true.into();
    } else {
        told["event"] = json!(["demo", "master", "refs/changes/02/2/1", "alice"]);
        told["approvals"] = json!([["Code-Review", "2"], ["Workflow", "1"]]);
        told["triggered"] = json!([true]);
        told["started"] = json!(["zuul", "Patch Set 1: Verified+1\n\nStarting gate jobs."]);
    }
    told
}

#[tokio::test]
async fn zuuls_own_driver_and_merger_work_over_ssh_and_rest() -> anyhow::Result<()> {
    for way in ["ssh", "http", "poll"] {
        let place = Place::with(|mut options| {
            options.page = 4;
            options
        })
        .await?;
        let told = told_by(way, &place).await.with_context(|| format!("by {way}"))?;
        assert_eq!(told, expected(way, &place), "by {way}");

        let (first, child) = (place.gerrit.change(1).await?, place.gerrit.change(3).await?);
        let said = |change: &assay_fakes::gerrit::Change| {
            change.comments.iter().map(|one| (one.by.clone(), one.text.clone())).collect::<Vec<_>>()
        };
        let succeeded = "Patch Set 1: Verified+2\n\nBuild succeeded (it's \"quoted\" & 100 %).";
        assert!(
            said(&first).iter().any(|(by, text)| by == "zuul" && text.trim_end() == succeeded),
            "{:?}",
            said(&first)
        );
        // What Zuul says of files needs REST; a file that the change does not have is left out.
        let inline: Vec<(&str, u64, &str)> = (child.comments.iter())
            .flat_map(|one| &one.inline)
            .map(|one| (one.file.as_str(), one.line, one.message.as_str()))
            .collect();
        let wanted: &[(&str, u64, &str)] = if way == "ssh" { &[] } else { &[("child.txt", 1, "spelling")] };
        assert_eq!(inline, wanted, "by {way}: {:?}", said(&child));
        assert_eq!((first.status.word(), child.status.word()), ("MERGED", "NEW"));
    }
    Ok(())
}
