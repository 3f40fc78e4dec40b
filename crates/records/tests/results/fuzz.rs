//! Any bytes give a report within its bounds; so do the samples with any bytes put into them.

use assay_records::results::{Format, Report, detect, parse};
use proptest::prelude::*;

const ALL: [Format; 4] = [Format::Junit, Format::Tap, Format::SubunitV1, Format::SubunitV2];

const SAMPLES: [(Format, &[u8]); 5] = [
    (Format::Junit, include_bytes!("../corpus/pytest.xml")),
    (Format::Tap, include_bytes!("../corpus/perl.tap")),
    (Format::SubunitV1, include_bytes!("../corpus/words.subunit1")),
    (Format::SubunitV2, include_bytes!("../corpus/words.subunit2")),
    (Format::SubunitV2, include_bytes!("../corpus/interleaved.subunit2")),
];

/// Pieces that the parsers look for.
const PIECES: [&[u8]; 44] = [
    b"<testsuites>",
    b"<testsuite name='s' tests='2'>",
    b"<testcase name='a'>",
    b"<failure>",
    b"</failure>",
    b"<skipped/>",
    b"</testcase>",
    b"</testsuite>",
    b"<system-out>",
    b"<![CDATA[",
    b"]]>",
    b"<!--",
    b"<!DOCTYPE x [",
    b"&amp;",
    b"&#xD800;",
    b"&",
    b"<",
    b"'",
    b"TAP version 14\n",
    b"1..3\n",
    b"ok 1 - a\n",
    b"not ok 2 # TODO\n",
    b"  ---\n",
    b"  ...\n",
    b"    ",
    b"# Subtest: x\n",
    b"Bail out!\n",
    b"test: a\n",
    b"failure: a [\n",
    b"failure: a [ multipart\n",
    b"Content-Type: text/plain\n",
    b"]\n",
    b"3\r\n",
    b"0\r\n",
    b"time: 2026-11-21 12:00:00Z\n",
    b"tags: x -y\n",
    b"success: a\n",
    b"\xb3\x29\x06\x10",
    b"\xb3\x2b\x7f\x80\xff\xff",
    b"\xb3\x20\x03\x08",
    b"\x01a",
    b"\0",
    b"\n",
    b"\xff\xfe",
];

fn check(report: &Report, input: &[u8]) -> Result<(), TestCaseError> {
    prop_assert!(report.problems.len() <= 103);
    // Nothing in a report is longer than what it was made from, but for the few words of ours.
    let size: usize = report.cases.iter().flat_map(|case| &case.logs).map(|log| log.text.len()).sum();
    prop_assert!(size <= input.len() * 4 + 64 * report.cases.len(), "{size} of {}", input.len());
    prop_assert!(report.cases.iter().all(|case| !case.name.contains('\0') && case.attempts > 0));
    Ok(())
}

/// Inputs whose cost would grow with their square, or that would grow in memory, if something were not bounded.
#[test]
fn much_of_the_same() {
    let long = "n".repeat(5000);
    let join = |range: std::ops::Range<usize>, line: &dyn Fn(usize) -> String| {
        range.map(line).collect::<Vec<_>>().concat()
    };
    let suites = format!("<testsuite name='{long}'>").repeat(150);
    let opening = join(0..20, &|depth| format!("{}ok\n", " ".repeat(depth)));
    let closing = join(0..20, &|depth| format!("{}ok - {long}\n", " ".repeat(19 - depth)));
    let part =
        |n: usize| format!("test: {n}\nfailure: {n} [ multipart\nContent-Type: text/plain\n{n}\n0\r\n]\n");
    let table: [(Format, String, &str); 10] = [
        (Format::Junit, "<testcase/>".repeat(100_050), "50 more tests are left out"),
        (Format::Junit, format!("{suites}{}", "<testcase/>".repeat(5_000)), "the file ends within"),
        (Format::Junit, "<testcase".repeat(100_000), "not XML"),
        (Format::Junit, "<failure>&#".repeat(50_000), "nested more than"),
        (
            Format::Tap,
            format!("{opening}{}{closing}", format!("{:19}ok\n", "").repeat(5_000)),
            "there is no plan",
        ),
        (Format::Tap, join(1..60_000, &|number| format!("ok {}\n", number * 2)), "there is no plan"),
        (Format::Tap, "ok # \\# # # \\\\".repeat(100_000), "no plan"),
        (
            Format::SubunitV1,
            format!("tags: {}\n{}", "a b c d ".repeat(50_000), "test: a\nsuccess: a\n".repeat(30_000)),
            "",
        ),
        (Format::SubunitV1, join(0..60_000, &part), ""),
        (Format::SubunitV2, "\u{e000}".repeat(1000), "no subunit packet"),
    ];
    for (format, input, want) in table {
        let report = parse(format, input.as_bytes());
        let found = report.problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        assert!(found.contains(want), "{format:?} {want}: {found:.2000}");
        assert!(report.cases.len() <= 200_000);
        assert!(
            report.cases.iter().all(|case| case.classname.as_ref().is_none_or(|class| class.len() < 2100))
        );
    }
    // A packet that claims much, at every sixth byte.
    let packets = b"\xb3\x20\x00\xa0\xff\xff".repeat(200_000);
    let report = parse(Format::SubunitV2, &packets);
    assert!(report.cases.is_empty() && !report.problems.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        detect("x", &bytes);
        for format in ALL {
            check(&parse(format, &bytes), &bytes)?;
        }
    }

    #[test]
    fn any_pieces(pieces in proptest::collection::vec(proptest::sample::select(&PIECES[..]), 0..60)) {
        let bytes = pieces.concat();
        detect("x", &bytes);
        for format in ALL {
            check(&parse(format, &bytes), &bytes)?;
        }
    }

    #[test]
    fn damaged_samples(
        sample in 0..SAMPLES.len(),
        at in any::<prop::sample::Index>(),
        cut in 0..200_usize,
        put in proptest::collection::vec(any::<u8>(), 0..20),
    ) {
        let (format, bytes) = SAMPLES[sample];
        let mut bytes = bytes.to_vec();
        let at = at.index(bytes.len());
        let end = (at + cut).min(bytes.len());
        bytes.splice(at..end, put);
        check(&parse(format, &bytes), &bytes)?;
    }
}
