//! The golden file of a task, and what is refused.

use assay_proto::task::{PhaseName, Secret, Task, Tree};
use std::collections::BTreeMap;

const GOLDEN: &str = include_str!("task.json");

fn golden() -> Task {
    serde_json::from_str(GOLDEN).expect("a task")
}

#[test]
fn the_golden_file_is_read_and_written() {
    let task = golden();
    assert_eq!(format!("{}\n", serde_json::to_string_pretty(&task).unwrap()), GOLDEN);
    assert_eq!(task.run.steps[0].name.as_deref(), Some("unit tests"));
    assert_eq!((task.pre.budget_s, task.pre.grace_s), (1800, 30), "defaults");
    assert_eq!(task.workspace.as_ref().unwrap().projects[1].tree, Tree::Old);
    task.check().unwrap();
}

#[test]
fn secrets_travel_apart_from_the_task() {
    let task = golden();
    let settings = task.to_settings().unwrap();
    assert_eq!(settings["BACKEND"], "shell");
    assert_eq!(settings["_SECRET_TOKEN"], "open sesame");
    assert!(!settings["TASK"].contains("sesame"), "{}", settings["TASK"]);
    assert_eq!(Task::from_settings(&settings).unwrap(), task);
    assert!(!format!("{task:?}").contains("sesame"));
}

#[test]
fn what_cannot_be_meant_is_refused_with_a_sentence() {
    let refused = |change: &dyn Fn(&mut Task)| {
        let mut task = golden();
        change(&mut task);
        task.check().unwrap_err().to_string()
    };
    let none = refused(&|task| {
        for phase in [&mut task.pre, &mut task.run, &mut task.post, &mut task.collect] {
            phase.steps.clear();
        }
    });
    assert!(none.contains("no phase has a step"), "{none}");
    let named = refused(&|task| {
        task.env.insert("A=B".into(), String::new());
    });
    assert!(named.contains("\"A=B\" is no name"), "{named}");
    let unknown = refused(&|task| task.post.secrets.push("OTHER".into()));
    assert!(unknown.contains("post asks for the secret OTHER"), "{unknown}");
    let collect = refused(&|task| task.collect.secrets.push("TOKEN".into()));
    assert!(collect.contains("only pre, run and post"), "{collect}");
    for name in ["../x", "a//b", "-x", "a b", "", "a/../../b"] {
        let project =
            refused(&|task| name.clone_into(&mut task.workspace.as_mut().unwrap().projects[0].name));
        assert!(project.contains("is no name of a project"), "{name}: {project}");
    }
    let twice = refused(&|task| task.workspace.as_mut().unwrap().projects[1].dest = Some("new/nova".into()));
    assert!(twice.contains("two trees go to \"new/nova\""), "{twice}");

    let from = |text: &str| {
        Task::from_settings(&BTreeMap::from([("TASK".into(), text.into())])).unwrap_err().to_string()
    };
    assert!(from("").contains("the job has no TASK"));
    assert!(from("https://git.example.org/checks").contains("or say BACKEND=task"));
    assert!(from("{\"name\": \"x\", \"runs\": {}}").contains("unknown field `runs`"));
    let open = from(GOLDEN);
    assert!(open.contains("_SECRET_TOKEN") && !open.contains("sesame"), "{open}");
    let secret = Secret("x".into());
    assert_eq!(serde_json::to_string(&secret).unwrap(), "\"x\"");
    assert_eq!(PhaseName::ALL.map(PhaseName::word), ["pre", "run", "post", "collect"]);
}
