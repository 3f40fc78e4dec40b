use assay_records::results::{Format, Report, TestStatus, parse, subunit_v1, subunit_v2};

use super::{case, log, problems, show};

const WORDS_2: &[u8] = include_bytes!("../corpus/words.subunit2");
const WORDS_1: &[u8] = include_bytes!("../corpus/words.subunit1");
const INTERLEAVED: &[u8] = include_bytes!("../corpus/interleaved.subunit2");

fn sorted(report: &Report) -> Vec<String> {
    let mut lines = show(report);
    lines.sort();
    lines
}

#[test]
fn stestr_and_testrepository() {
    let want = [
        "expected_failure sample.test_words.Words.test_expected | ",
        "failed sample.test_words.Words.test_breaks | RuntimeError: ünïcode",
        "failed sample.test_words.Words.test_fails | testtools.matchers._impl.MismatchError: 'one' != 'two'",
        "failed sample.test_words.Words.test_picture | AssertionError: see the picture",
        "failed setUpClass (sample.test_words.SetUp) | RuntimeError: the class cannot be set up",
        "passed sample.test_words.Words.test_passes | ",
        "skipped sample.test_words.Words.test_skips | no such machine",
        "unexpected_success sample.test_words.Words.test_unexpected | ",
    ];
    for (format, bytes) in [(Format::SubunitV2, WORDS_2), (Format::SubunitV1, WORDS_1)] {
        let report = parse(format, bytes);
        assert_eq!(sorted(&report), want, "{format:?}");
        assert_eq!(problems(&report), [""; 0], "{format:?}");
        let fails = case(&report, "sample.test_words.Words.test_fails");
        assert_eq!(log(fails, "note"), "a note\n]\nwith brackets", "{format:?}");
        assert!(log(fails, "traceback").starts_with("Traceback"), "{format:?}");
        assert!(fails.duration_us.is_some_and(|us| (1..1_000_000).contains(&us)), "{format:?} {fails:?}");
        assert_eq!(fails.tags.len(), 1, "{format:?} {:?}", fails.tags);
        let picture = case(&report, "sample.test_words.Words.test_picture");
        assert_eq!(log(picture, "picture"), "[7 bytes of image/png]", "{format:?}");
    }
}

#[test]
fn packets_between_other_output() {
    let report = subunit_v2(INTERLEAVED);
    assert_eq!(
        show(&report),
        [
            "passed a | ",
            "failed a | ValueError: part two",
            "running b | ",
            "skipped skip | because",
            "expected_failure xfail | because",
            "unexpected_success uxsuccess | because",
            "failed big | ",
            "failed a | ",
        ]
    );
    let [first, second, ..] = &report.cases[..] else { panic!("two") };
    assert_eq!((first.duration_us, second.duration_us), (Some(250_000), Some(1_500_000)));
    assert_eq!(
        (&first.tags[..], &second.tags[..]),
        (&["slow".into(), "worker-0".into()][..], &["worker-1".into()][..])
    );
    assert_eq!(log(second, "traceback"), "Traceback\n  part one\nValueError: part two");
    assert_eq!(log(second, "late"), "comes after the end");
    assert!(log(case(&report, "big"), "log").ends_with("xend"));
    let output: Vec<_> = report.logs.iter().map(|log| (log.name.as_str(), log.text.as_str())).collect();
    assert_eq!(output.len(), 2, "{output:?}");
    assert!(output[0].1.starts_with("before: ó …"), "{output:?}");
    assert_eq!(output[1], ("stdout", "of no test"));
    let found = problems(&report);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].ends_with("a packet's contents do not fit its length"), "{found:?}");
    assert!(found[1].ends_with("1 announced tests never ran, among them never"), "{found:?}");
}

/// Any byte may be damaged: at most the test of that packet is lost, and it is said.
#[test]
fn any_damaged_byte() {
    let whole = subunit_v2(WORDS_2);
    for at in 0..WORDS_2.len() {
        let mut bytes = WORDS_2.to_vec();
        bytes[at] ^= 0x40;
        let report = subunit_v2(&bytes);
        assert!(!report.problems.is_empty() || !report.logs.is_empty(), "{at}");
        let same = whole.cases.iter().filter(|case| report.cases.contains(case)).count();
        assert!(same + 1 >= whole.cases.len(), "{at}: {:?}", show(&report));
    }
}

#[test]
fn cut_off_anywhere() {
    for (format, bytes) in [(Format::SubunitV2, WORDS_2), (Format::SubunitV1, WORDS_1)] {
        let whole = parse(format, bytes);
        let mut before = 0;
        for end in 0..bytes.len() {
            let report = parse(format, &bytes[..end]);
            let failed = |report: &Report| {
                report.cases.iter().filter(|case| case.status == TestStatus::Failed).count()
            };
            assert!(failed(&report) <= failed(&whole), "{format:?} {end}");
            // The words behind the name of a test may be cut off; then it is still running.
            if format == Format::SubunitV2 || bytes[..end].ends_with(b"\n") {
                assert!(failed(&report) >= before, "{format:?} {end}: {:?}", show(&report));
                before = failed(&report);
            }
            // What is there has the names that it has in the whole.
            for (found, want) in report.cases.iter().zip(&whole.cases) {
                assert!(want.name.starts_with(&found.name), "{format:?} {end}: {} {}", found.name, want.name);
            }
        }
        assert_eq!(before, 4, "{format:?}");
    }
}

#[test]
fn lines_between_other_output() {
    let table: [(&str, &[&str], &[&str]); 11] = [
        ("", &[], &["line 0: there is no subunit in it"]),
        ("hello: world\n", &[], &["line 1: there is no subunit in it"]),
        (
            "test: a\nsuccess: a\ntest: b [\nfailure: b [ [\nwhy\n ]\n]\n",
            &["passed a | ", "failed b [ | ]"],
            &[],
        ),
        ("test: a\nerror: not a test\nprogress: +1\nprogress: push\nsuccessful a\n", &["passed a | "], &[]),
        ("test: a\n", &["running a | "], &[]),
        ("testing: a\ntest: b\nfailure: b\nsuccess: a\n", &["passed a | ", "failed b | "], &[]),
        (
            "failure: lost [\nTraceback\nE: no\n]\n",
            &["failed lost | E: no"],
            &["line 1: test `lost` ends without having begun"],
        ),
        (
            "test: a\nerror: a [\nhalf",
            &["error a | half"],
            &["line 3: the stream ends within the details of test `a`"],
        ),
        (
            "test: a\nfailure: a [ multipart\nContent-Type: text/plain\nnote\nZZ\r\nx\n]\ntest: b\nfailure: b\n",
            &["failed a | ", "failed b | "],
            &["line 5: the details of test `a` have a wrong length"],
        ),
        (
            "test: a\nfailure: a [ multipart\nnonsense\nnote\n]\ntest: b\nskip: b [\nreason\n]\n",
            &["failed a | ", "skipped b | reason"],
            &["line 4: the details of test `a` cannot be read"],
        ),
        (
            "test: a\nfailure: a [ multipart\nContent-Type: text/plain\nnote\nFFFFFFFFFFFFFFFF\r\nx",
            &["failed a | "],
            &["line 5: the stream ends within the details of test `a`"],
        ),
    ];
    for (text, cases, wrong) in table {
        let report = subunit_v1(text.as_bytes());
        assert_eq!(show(&report), cases, "{text}");
        assert_eq!(problems(&report), wrong, "{text}");
    }
    let report = subunit_v1(
        b"tags: all gone\ntime: 2026-11-21 12:00:00Z\ntest: a\ntags: own -gone\ntime: 2026-11-21 12:00:01.5Z\nxfail: a\ntest: b\nuxsuccess: b\n",
    );
    assert_eq!(show(&report), ["expected_failure a | ", "unexpected_success b | "]);
    assert_eq!(report.cases[0].duration_us, Some(1_500_000));
    assert_eq!(
        (report.cases[0].tags.join(" "), report.cases[1].tags.join(" ")),
        ("all own".into(), "all gone".into())
    );
}
