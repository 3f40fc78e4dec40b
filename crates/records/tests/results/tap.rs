use assay_records::results::{TestStatus, tap};

use super::{case, log, problems, show};

#[test]
fn perl() {
    let report = tap(include_bytes!("../corpus/perl.tap"));
    assert_eq!(
        show(&report),
        [
            "passed passes | ",
            "failed fails | Failed test 'fails'",
            "skipped test 3 | no such machine",
            "expected_failure expected | known",
            "unexpected_success bonus | known",
            "passed inner #1 :: deep | ",
            "failed inner #1 :: deep too | Failed test 'deep too'",
            "failed inner #1 | Failed test 'inner #1'",
        ]
    );
    assert_eq!(problems(&report), [""; 0]);
    assert!(log(case(&report, "fails"), "diagnostics").contains("expected: 'two'"));
}

#[test]
fn tap_14_with_everything() {
    let report = tap(br"TAP version 14
pragma +strict
1..4
ok 1 - escaped \# and \\ # time=12.5ms
not ok 2 - with yaml
  ---
  message: 'it is wrong'
  duration_ms: 250
  stack: |
    ok 99 - not a test
    at a.js:3
  ...
some output of the program
# Subtest: outer
    # Subtest: inner
        1..1
        not ok 1 - leaf
          ---
          error: deep
          ...
    not ok 1 - inner
    1..1
not ok 3 - outer
not ok 4 - later # ToDo: soon
");
    assert_eq!(
        show(&report),
        [
            "passed escaped # and \\ | ",
            "failed with yaml | it is wrong",
            "failed outer / inner :: leaf | deep",
            "failed outer :: inner | ",
            "failed outer | ",
            "expected_failure later | soon",
        ]
    );
    assert_eq!(problems(&report), [""; 0]);
    assert_eq!(case(&report, "escaped # and \\").duration_us, Some(12_500));
    assert_eq!(case(&report, "with yaml").duration_us, Some(250_000));
    assert!(log(case(&report, "with yaml"), "yaml").contains("ok 99"));
    assert_eq!(report.logs[0].text, "some output of the program");
}

#[test]
fn plans_and_other_trouble() {
    let table: [(&str, &[&str], &[&str]); 15] = [
        ("", &[], &["line 0: there is no TAP in it"]),
        ("hello\n", &[], &["line 1: there is no TAP in it"]),
        ("ok\nnot ok\nok\n1..3\n", &["passed test 1 | ", "failed test 2 | ", "passed test 3 | "], &[]),
        (
            "1..9\nok 2\nok 5 - five\n",
            &["passed test 2 | ", "passed five | "],
            &["line 1: the plan is 1..9; tests 1, 3-4, 6-9 never came"],
        ),
        ("ok 1\n", &["passed test 1 | "], &["line 1: there is no plan; tests may be missing"]),
        (
            "1..1\nok 1\nok 2\n",
            &["passed test 1 | ", "passed test 2 | "],
            &["line 3: test 2 is beyond the plan 1..1", "line 1: the plan is 1..1; there are 2 tests"],
        ),
        (
            "1..2\nok 1 a\nnot ok 1 b\n1..7\n",
            &["passed a | ", "failed b | "],
            &[
                "line 3: test 1 is there twice",
                "line 4: there is a second plan",
                "line 1: the plan is 1..2; tests 2 never came",
            ],
        ),
        (
            "1..3\nok 1\nBail out! the disk is gone\n",
            &["passed test 1 | "],
            &[
                "line 3: the run was given up: the disk is gone",
                "line 1: the plan is 1..3; tests 2-3 never came",
            ],
        ),
        ("1..0 # SKIP no such machine\n", &[], &[]),
        ("1..4294967295\n", &[], &["line 1: the plan is 1..4294967295; tests 1-4294967295 never came"]),
        (
            "1..1\nnot ok 1 - a",
            &["failed a | "],
            &["line 2: the last line has no end; the stream may be cut off"],
        ),
        (
            "1..2\nok 1\n  ---\n  message: never closed\nnot ok 2 - hidden\n",
            &["passed test 1 | never closed", "failed hidden | "],
            &["line 3: this YAML block has no end"],
        ),
        (
            "1..1\n    1..2\n    not ok 1 - deep\n",
            &["failed subtest :: deep | "],
            &[
                "line 3: subtest `` never ended",
                "line 2: the plan is 1..2; tests 2 never came",
                "line 1: the plan is 1..1; tests 1 never came",
            ],
        ),
        (
            "TAP version 13\n1..1\nok 1 - a\nTAP version 13\n1..1\nok 1 - b\n",
            &["passed a | ", "passed b | "],
            &[],
        ),
        (
            "1..2\nokay 1\nok 2 - a # SKIPPED: b\nnot ok 1 - # TODO\n",
            &["skipped a | b", "expected_failure test 1 | "],
            &[],
        ),
    ];
    for (text, cases, wrong) in table {
        let report = tap(text.as_bytes());
        assert_eq!(show(&report), cases, "{text}");
        assert_eq!(problems(&report), wrong, "{text}");
    }
}

/// Wherever a stream is cut off, each test that had failed in a whole line is still there.
#[test]
fn cut_off_anywhere() {
    let whole = include_str!("../corpus/perl.tap");
    for end in 0..whole.len() {
        let report = tap(&whole.as_bytes()[..end]);
        let complete = whole[..end].contains("not ok 6 - inner \\#1\n") && whole[..end].ends_with('\n');
        assert_eq!(report.problems.is_empty(), complete, "{end}");
        let lines = whole[..end].split_inclusive('\n').filter(|line| line.ends_with('\n'));
        let bad =
            lines.filter(|line| line.trim_start().starts_with("not ok") && !line.contains("# TODO")).count();
        let found = report.cases.iter().filter(|case| case.status == TestStatus::Failed).count();
        assert!(found >= bad, "{end}: {:?}", show(&report));
    }
}
