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
