use assay_records::results::{MAX_BYTES, TestStatus, junit};

use super::{case, log, problems, show};

#[test]
fn pytest() {
    let report = junit(include_bytes!("../corpus/pytest.xml"));
    assert_eq!(
        show(&report),
        [
            "passed test_words_pytest :: test_passes | ",
            "failed test_words_pytest :: test_fails | assert 1 == 2",
            "skipped test_words_pytest :: test_skips | no such machine",
            "expected_failure test_words_pytest :: test_expected | known",
            "unexpected_success test_words_pytest :: test_strict | [XPASS(strict)] known",
            "error test_words_pytest :: test_error | failed on setup with \"RuntimeError: #x1B[1mno fixture#x1B[0m\"",
            "failed test_words_pytest :: test_both | assert False",
            "error test_words_pytest :: test_both | failed on teardown with \"RuntimeError: cannot clean up\"",
        ]
    );
    assert_eq!(problems(&report), [""; 0]);
    assert!(log(case(&report, "test_fails"), "failure").contains(">       assert 1 == 2"));
}

#[test]
fn surefire_with_reruns() {
    let report = junit(
        br#"<?xml version="1.0" encoding="UTF-8"?>
<testsuite xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" name="org.example.AppTest" time="1,234.567" tests="4" errors="1" skipped="0" failures="1">
  <properties><property name="a" value="b"/></properties>
  <testcase name="flaky" classname="org.example.AppTest" time="0,25">
    <flakyFailure message="first &lt;try&gt;" type="java.lang.AssertionError"><stackTrace><![CDATA[at <A>]]></stackTrace><system-out>said</system-out></flakyFailure>
    <flakyError type="java.lang.NullPointerException"><stackTrace>at B</stackTrace></flakyError>
  </testcase>
  <testcase name="broken" classname="org.example.AppTest" time="1,001.5">
    <failure message="no" type="java.lang.AssertionError">at C</failure>
    <rerunFailure message="still no" type="x"><stackTrace>at D</stackTrace></rerunFailure>
    <rerunError message="no again" type="x"/>
  </testcase>
  <testcase name="npe" classname="org.example.AppTest"><error type="java.lang.NullPointerException">at E</error></testcase>
  <testcase name="good" classname="org.example.AppTest" time="0"/>
</testsuite>"#,
    );
    assert_eq!(
        show(&report),
        [
            "passed x3 org.example.AppTest :: flaky | passed in try 3; before: first <try>",
            "failed x3 org.example.AppTest :: broken | no",
            "error org.example.AppTest :: npe | java.lang.NullPointerException",
            "passed org.example.AppTest :: good | ",
        ]
    );
    assert_eq!(problems(&report), [""; 0]);
    assert_eq!(case(&report, "flaky").duration_us, Some(250_000));
    assert_eq!(case(&report, "broken").duration_us, Some(1_001_500_000));
    assert_eq!(log(case(&report, "flaky"), "flakyFailure"), "at <A>");
    assert_eq!(log(case(&report, "flaky"), "system-out"), "said");
    assert_eq!(log(case(&report, "broken"), "rerunFailure"), "at D");
    assert_eq!((report.counts().flaky, report.counts().failed, report.counts().error), (1, 1, 1));
}

#[test]
fn googletest_nextest_gotestsum_and_nested_suites() {
    let report = junit(
        r#"<testsuites tests="9" failures="3" name="AllTests">
<testsuite name="Math" tests="3" failures="1" disabled="1">
  <testcase name="Adds" file="m.cc" line="7" status="run" result="completed" time="0.001" classname="Math"/>
  <testcase name="Divides/0" value_param="0" status="run" result="completed" classname="Math">
    <failure message="m.cc:9&#x0A;Expected: 1" type=""><![CDATA[m.cc:9
Expected: 1]]></failure><failure message="second" type=""/>
  </testcase>
  <testcase name="DISABLED_Waits" status="notrun" result="suppressed" classname="Math"/>
</testsuite>
<testsuite name="crate::bin" tests="2" failures="1">
  <testcase name="tests::slow" classname="crate::bin" timestamp="2026-11-21T03:30:08Z" time="60.010">
    <flakyFailure timestamp="2026-11-21T03:29:08Z" time="60.0" type="test timeout"/><system-err>stderr ü</system-err></testcase>
  <testcase name="tests::bad" classname="crate::bin"><failure type="test failure">thread panicked at x.rs
left: 1 &amp; right: &undefined; &#0;</failure></testcase>
</testsuite>
<testsuite name="example.org/pkg" tests="2" failures="1">
  <testcase classname="example.org/pkg" name="TestA/sub_test" time="0.000000"><failure message="Failed" type="">=== RUN   TestA</failure></testcase>
  <testcase classname="example.org/pkg" name="TestB" time="0.010000"><skipped message="=== RUN   TestB&#xA;    b_test.go:3: short"></skipped></testcase>
</testsuite>
<testsuite name="outer"><testsuite name="inner" tests="2">
  <testcase name="no class"/>
  <testcase name="says so itself" status="failed"/>
</testsuite></testsuite>
</testsuites>"#
            .as_bytes(),
    );
    assert_eq!(
        show(&report),
        [
            "passed Math :: Adds | ",
            "failed Math :: Divides/0 | m.cc:9",
            "skipped Math :: DISABLED_Waits | ",
            "passed x2 crate::bin :: tests::slow | passed in try 2; before: test timeout",
            "failed crate::bin :: tests::bad | test failure",
            "failed example.org/pkg :: TestA/sub_test | Failed",
            "skipped example.org/pkg :: TestB | === RUN   TestB",
            "passed AllTests / outer / inner :: no class | ",
            "failed AllTests / outer / inner :: says so itself | ",
        ]
    );
    assert_eq!(problems(&report), [""; 0]);
    assert_eq!(log(case(&report, "tests::slow"), "system-err"), "stderr ü");
    assert!(log(case(&report, "tests::bad"), "failure").ends_with("left: 1 & right: &undefined; \u{fffd}"));
}

/// Wherever a file is cut off, each test that had failed by then is still there.
#[test]
fn cut_off_anywhere() {
    let whole = include_bytes!("../corpus/pytest.xml");
    for end in 0..whole.len() {
        let report = junit(&whole[..end]);
        assert!(!report.problems.is_empty(), "{end}");
        let text = String::from_utf8_lossy(&whole[..end]);
        // A tag counts when it is whole.
        let whole_tags = |name: &str| text.split(name).skip(1).filter(|rest| rest.contains('>')).count();
        let bad = whole_tags("<failure ") + whole_tags("<error ");
        let failing =
            report.cases.iter().filter(|case| case.status.is_failure() && case.status != TestStatus::Running);
        assert_eq!(failing.count(), bad, "{end}: {:?}", show(&report));
    }
}

#[test]
fn what_does_not_add_up() {
    let table: [(&[u8], &[&str], &[&str]); 11] = [
        (b"", &[], &["line 1: there is no <testsuite> or <testcase> in it"]),
        (
            b"<testsuite name='s' tests='3' failures='1'>\n<testcase name='a'/></testsuite>",
            &["passed s :: a | "],
            &[
                "line 1: suite `s` says it has 3 tests; 1 are in the file",
                "line 1: suite `s` says it has 1 failures and errors; 0 are in the file",
            ],
        ),
        (
            b"<testsuite name='s'>\n<error message='cannot import'>Traceback</error></testsuite>",
            &["error s :: s | cannot import"],
            &[],
        ),
        (
            b"<testsuite name='s'><testcase name='a'><failure>x</testcase><testcase name='b'></testsuite>",
            &["failed s :: a | x", "running s :: b | "],
            &["line 1: <failure> does not end before </testcase>", "line 1: <testcase> does not end before </testsuite>"],
        ),
        (
            b"<testsuite name='s'><testcase name='a'/></oops></testsuite>",
            &["passed s :: a | "],
            &["line 1: </oops> ends nothing"],
        ),
        (
            b"<testsuite name='s'>\n<testcase name='a' broken oops><failure/></testcase>\n<!ODD>\n<testcase name='b'/></testsuite>",
            &["failed s :: a | ", "passed s :: b | "],
            &["line 2: not all attributes of <testcase> can be read", "line 3: this is not XML: "],
        ),
        (
            b"<testsuite name='s'><testcase name='a &amp b & c &lt;'/></testsuite>",
            &["passed s :: a &amp b & c < | "],
            &[],
        ),
        (
            b"<?xml version='1.0' encoding='ISO-8859-1'?><testsuite name='s'><testcase name='\xfc'/></testsuite>",
            &["passed s :: ü | "],
            &[],
        ),
        (
            b"<testsuite name='s'>\n<testcase name='\xfc'/></testsuite>",
            &["passed s :: \u{fffd} | "],
            &["line 2: this is not UTF-8; the bytes that are not are replaced"],
        ),
        (b"\xff\xfe<\0t\0e\0s\0t\0c\0a\0s\0e\0/\0>\0", &["passed  | "], &[]),
        (b"<testcase name='a\x1b[1m\0b'/>", &["passed a [1m b | "], &[]),
    ];
    for (bytes, cases, wrong) in table {
        let report = junit(bytes);
        let text = String::from_utf8_lossy(bytes);
        assert_eq!(show(&report), cases, "{text}");
        let found = problems(&report);
        assert_eq!(found.len(), wrong.len(), "{text}: {found:?}");
        for (found, wrong) in found.iter().zip(wrong) {
            assert!(found.starts_with(wrong), "{text}: {found}");
        }
    }
}

#[test]
fn hostile() {
    let bomb = b"<!DOCTYPE t [<!ENTITY a 'aaaaaaaaaa'><!ENTITY b '&a;&a;&a;'><!ENTITY x SYSTEM 'file:///etc/passwd'>]>
<testsuite name='s'><testcase name='&b;&x;'><failure>&b;&x;</failure></testcase></testsuite>";
    let report = junit(bomb);
    assert_eq!(show(&report), ["failed s :: &b;&x; | &b;&x;"]);
    assert_eq!(problems(&report), ["line 1: it declares entities; they are not expanded"]);

    let deep = junit("<testsuite name='n'>".repeat(100_000).as_bytes());
    assert!(problems(&deep)[0].contains("nested more than 200 deep"), "{:?}", problems(&deep));

    let long = format!(
        "<testsuite><testcase name='a'><failure>{}END</failure></testcase></testsuite>",
        "x".repeat(1 << 20)
    );
    let report = junit(long.as_bytes());
    let log = &report.cases[0].logs[0];
    assert!(log.text.len() < 40_000 && log.text.ends_with("END") && log.omitted > 1_000_000);

    let mut huge = b"<testsuite><testcase name='first'><failure/></testcase>".to_vec();
    huge.resize(MAX_BYTES + 10, b' ');
    let report = junit(&huge);
    assert_eq!(show(&report), ["failed first | "]);
    assert!(problems(&report)[0].contains("is not read"), "{:?}", problems(&report));

    // Reading goes on behind what is not XML, but not for ever.
    let report = junit("<testcase name='a'><failure/></testcase><!-- <testcase".repeat(1000).as_bytes());
    assert!(case(&report, "a").status == TestStatus::Failed);
    let report = junit("<!ODD><testcase name='a'/>".repeat(1000).as_bytes());
    assert!(problems(&report).last().is_some_and(|last| last.contains("the rest is not read")));
}
