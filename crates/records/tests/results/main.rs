//! Results of other programs: what each dialect becomes, what is left of a file that is cut off, and any bytes at all.

mod fuzz;
mod junit;
mod subunit;
mod tap;

use assay_records::results::{Format, Report, TestCase, detect, parse};

/// A line for each case: status, tries if more than one, class, name, message.
fn show(report: &Report) -> Vec<String> {
    let line = |case: &TestCase| {
        let tries = if case.attempts > 1 { format!(" x{}", case.attempts) } else { String::new() };
        let class = case.classname.as_ref().map(|class| format!("{class} :: ")).unwrap_or_default();
        let message = case.message.lines().next().unwrap_or_default();
        format!("{}{tries} {class}{} | {message}", case.status.word(), case.name)
    };
    report.cases.iter().map(line).collect()
}

fn problems(report: &Report) -> Vec<String> {
    report.problems.iter().map(ToString::to_string).collect()
}

fn case<'r>(report: &'r Report, name: &str) -> &'r TestCase {
    report.cases.iter().find(|case| case.name == name).unwrap_or_else(|| panic!("{name} in {report:#?}"))
}

fn log<'c>(case: &'c TestCase, name: &str) -> &'c str {
    &case.logs.iter().find(|log| log.name == name).unwrap_or_else(|| panic!("{name} in {case:#?}")).text
}

#[test]
fn formats_are_told_apart() {
    let corpus: [(&str, &[u8], Option<Format>); 15] = [
        ("words.subunit2", include_bytes!("../corpus/words.subunit2"), Some(Format::SubunitV2)),
        ("0", include_bytes!("../corpus/interleaved.subunit2"), Some(Format::SubunitV2)),
        ("testrepository.subunit", include_bytes!("../corpus/words.subunit1"), Some(Format::SubunitV1)),
        ("TEST-a.xml", include_bytes!("../corpus/pytest.xml"), Some(Format::Junit)),
        ("output.txt", include_bytes!("../corpus/perl.tap"), Some(Format::Tap)),
        ("a.tap", b"", Some(Format::Tap)),
        ("a.subunit", b"", Some(Format::SubunitV1)),
        ("pom.xml", b"<project/>", None),
        ("u.xml", b"\xff\xfe<\0t\0e\0s\0t\0s\0u\0i\0t\0e\0", Some(Format::Junit)),
        ("log", b"ok this is fine\n", None),
        ("log", b"1..3 of them\nstrange\n", None),
        ("log", b"1..1\nok 1\n", Some(Format::Tap)),
        ("log", b"\xb3\xb3\xb3", None),
        ("log", b"", None),
        ("photo.png", b"\x89PNG\r\n\x1a\n", None),
    ];
    for (name, bytes, want) in corpus {
        assert_eq!(
            detect(name, bytes),
            want,
            "{name} {:?}",
            String::from_utf8_lossy(&bytes[..bytes.len().min(30)])
        );
    }
}

#[test]
fn a_report_is_the_same_after_json() {
    let report = parse(Format::SubunitV2, include_bytes!("../corpus/interleaved.subunit2"));
    let json = serde_json::to_string(&report).expect("a report is JSON");
    assert_eq!(serde_json::from_str::<Report>(&json).expect("it comes back"), report);
}
