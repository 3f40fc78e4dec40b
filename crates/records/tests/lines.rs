//! Every kind of line comes back as it was written.

use assay_records::journal::{Entry, FrameRect, Line};
use assay_records::step::{
    AreaHit, Artifact, FailingCase, ModuleFlags, ModulePlan, ModuleResult, NeedleHit, Picture, Record,
    Source, Step, StepBody, StepResult, TestCases,
};

fn step(body: StepBody) -> Record {
    Record::Step(Box::new(Step {
        module: "boot".into(),
        number: 1,
        at_us: 1_082_143,
        duration_us: 884_753,
        call: "assert_screen".into(),
        source: Some(Source { file: "tests/boot.star".into(), line: 4 }),
        result: StepResult::Ok,
        screenshot: Some(Picture { sha256: "ab".repeat(32), width: 1024, height: 768 }),
        body,
    }))
}

fn hit() -> NeedleHit {
    let areas = vec![AreaHit { x: 1, y: 2, w: 3, h: 4, similarity: 0.987_654_321, ok: true }];
    NeedleHit {
        name: "n".into(),
        tags: vec!["a".into()],
        error: 0.0,
        json: None,
        png: Some("c".into()),
        areas,
    }
}

#[test]
fn records() {
    let records = [
        Record::Plan {
            modules: vec![ModulePlan {
                name: "m".into(),
                file: "tests/m.star".into(),
                flags: ModuleFlags::default(),
            }],
        },
        Record::Environment { facts: vec![("qemu".into(), "7.2".into())] },
        Record::ModuleStarted { module: "m".into(), at_us: 0 },
        step(StepBody::Look {
            tags: vec!["t".into()],
            timeout_s: 60.0,
            matched: Some(hit()),
            candidates: vec![hit()],
        }),
        step(StepBody::Screenshot),
        step(StepBody::Text { title: "t".into(), output: "a\nb \u{1f980}".into() }),
        step(StepBody::Serial {
            patterns: vec!["x".into()],
            found: None,
            timeout_s: 0.5,
            expect_not_found: true,
        }),
        Record::ModuleEnded {
            module: "m".into(),
            result: ModuleResult::Softfailed,
            at_us: 5,
            duration_us: 5,
        },
        Record::Artifact(Artifact {
            path: "logs/a b.txt".into(),
            size: 1 << 40,
            sha256: "cd".repeat(32),
            content_type: "text/plain; charset=utf-8".into(),
            at_us: 6,
        }),
        Record::TestCases(TestCases {
            file: "junit.xml".into(),
            format: "junit".into(),
            counts: [("passed".to_owned(), 3), ("failed".to_owned(), 2)].into(),
            failing: vec![FailingCase {
                name: "a.B.c".into(),
                status: "failed".into(),
                duration_us: None,
                message: "no".into(),
            }],
            failing_left_out: 1,
            cases: "ef".repeat(32),
            problems: vec!["line 3: cut off".into()],
            at_us: 7,
        }),
    ];
    for record in records {
        let line = serde_json::to_string(&record).unwrap();
        assert!(!line.contains('\n'));
        assert_eq!(serde_json::from_str::<Record>(&line).unwrap(), record, "{line}");
    }
}

#[test]
fn journal() {
    let entries = [
        Entry::Frame { seq: 1, w: 2, h: 3, rects: vec![FrameRect { x: 0, y: 1, png: "AA==".into() }] },
        Entry::Serial { offset: 7, len: 9 },
        Entry::Keys { keys: "ctrl-alt-f2".into() },
        Entry::Pointer { x: 1, y: 2, buttons: 1 },
        Entry::Machine { action: "power off".into() },
        Entry::Call { name: "n".into(), args: serde_json::json!({"timeout": 1.5}) },
        Entry::Answer { name: "n".into(), error: Some("e".into()) },
    ];
    for entry in entries {
        let line = Line { t: 3, entry };
        let text = serde_json::to_string(&line).unwrap();
        assert_eq!(serde_json::from_str::<Line>(&text).unwrap(), line, "{text}");
    }
}
