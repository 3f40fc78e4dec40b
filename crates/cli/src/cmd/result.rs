//! `assay result …`: the store of results.

use crate::client::{Client, encoded};
use crate::exit::{CliError, Code};
use crate::{Common, ui};
use assay_formats::result_yaml;
use assay_records::results::{self, Format, TestStatus};
use camino::Utf8PathBuf;
use fs_err as fs;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

const API: &str = "/api/v2.0/results";

/// Results of tests.
#[derive(clap::Subcommand)]
pub(crate) enum ResultCommand {
    /// List results, the newest first.
    #[command(
        after_help = "Examples:\n  assay result list --item Fedora-Rawhide-20230502.n.0\n  assay result list --testcase 'update.*' --outcome FAILED\n  \
                      assay result list --item bash-5.2.26-1.fc40 --latest --json\n  assay result list scenario=fedora.Server-dvd.x86_64.64bit"
    )]
    List(List),
    /// Post one result.
    #[command(
        after_help = "Examples:\n  assay result post dist.rpmlint PASSED --item bash-5.2.26-1.fc40 --type koji_build arch=x86_64\n  \
                      assay result post compose.manual FAILED --item Fedora-40-20240401.0 --type compose --note 'no sound'"
    )]
    Post(Post),
    /// Import a file of results: JUnit, TAP, subunit or ResultYAML. The same file imported again changes nothing.
    #[command(
        after_help = "Examples:\n  assay result import report.xml --item bash-5.2.26-1.fc40 --type koji_build --prefix unit\n  \
                      assay result import results.yaml\n  prove -v | assay result import - --format tap --item x-1-1 --prefix prove"
    )]
    Import(Import),
}

#[derive(clap::Args)]
pub(crate) struct List {
    /// What was tested.
    #[arg(long)]
    item: Option<String>,
    /// The kind of what was tested: compose, koji_build, bodhi_update, …
    #[arg(long = "type")]
    kind: Option<String>,
    /// The test case; `*` stands for anything.
    #[arg(long)]
    testcase: Option<String>,
    /// One of the outcomes, or several with commas.
    #[arg(long)]
    outcome: Option<String>,
    /// Not older than this: 2024-06-01T12:00:00.
    #[arg(long)]
    since: Option<String>,
    /// Only the newest of each test case, scenario and architecture.
    #[arg(long)]
    latest: bool,
    /// At most so many.
    #[arg(long, default_value_t = 50)]
    limit: u32,
    /// Further conditions on the data.
    #[arg(value_name = "KEY=VALUE")]
    pairs: Vec<String>,
}

#[derive(clap::Args)]
pub(crate) struct Post {
    /// The test case.
    testcase: String,
    /// PASSED, INFO, FAILED, NEEDS_INSPECTION, or another one that the server knows.
    outcome: String,
    /// What was tested.
    #[arg(long)]
    item: String,
    /// The kind of what was tested.
    #[arg(long = "type", default_value = "build")]
    kind: String,
    /// A remark.
    #[arg(long)]
    note: Option<String>,
    /// Where the logs are.
    #[arg(long)]
    ref_url: Option<String>,
    /// More about it: scenario=…, arch=…
    #[arg(value_name = "KEY=VALUE")]
    pairs: Vec<String>,
}

#[derive(clap::Args)]
pub(crate) struct Import {
    /// The file; `-` reads standard input.
    file: Utf8PathBuf,
    /// What it is; found out by itself where that is possible.
    #[arg(long)]
    format: Option<FileFormat>,
    /// What was tested; ResultYAML says so itself.
    #[arg(long)]
    item: Option<String>,
    /// The kind of what was tested.
    #[arg(long = "type", default_value = "build")]
    kind: String,
    /// What test cases are called before the name of the test.
    #[arg(long)]
    prefix: Option<String>,
    /// Where the logs are.
    #[arg(long)]
    ref_url: Option<String>,
    /// Post skipped tests too, with this outcome; without it they are left out, for a skipped test has no result.
    #[arg(long)]
    skipped: Option<String>,
    /// More about all of them: scenario=…, arch=…
    #[arg(value_name = "KEY=VALUE")]
    pairs: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum FileFormat {
    Junit,
    Tap,
    Subunit,
    SubunitV1,
    Resultyaml,
}

impl ResultCommand {
    pub(crate) fn run(self, common: &Common) -> Result<Code, CliError> {
        let client = Client::new(common)?;
        match self {
            Self::List(list) => list.run(common, &client),
            Self::Post(post) => post.run(common, &client),
            Self::Import(import) => import.run(common, &client),
        }
    }
}

fn pair(text: &str) -> Result<(&str, &str), CliError> {
    text.split_once('=')
        .filter(|(key, _)| !key.is_empty())
        .ok_or_else(|| CliError::usage(format!("{text:?} is no KEY=VALUE; write for example arch=x86_64")))
}

fn first<'v>(result: &'v Value, key: &str) -> &'v str {
    result["data"][key][0].as_str().unwrap_or_default()
}

impl List {
    fn run(&self, common: &Common, client: &Client) -> Result<Code, CliError> {
        let mut parts = vec![format!("limit={}", self.limit)];
        let mut add = |key: &str, value: &str| parts.push(format!("{}={}", encoded(key), encoded(value)));
        for (key, value) in
            [("item", &self.item), ("type", &self.kind), ("outcome", &self.outcome), ("since", &self.since)]
        {
            if let Some(value) = value {
                add(key, value);
            }
        }
        if let Some(testcase) = &self.testcase {
            add(if testcase.contains('*') { "testcases:like" } else { "testcases" }, testcase);
        }
        for text in &self.pairs {
            let (key, value) = pair(text)?;
            add(key, value);
        }
        let parts = parts.join("&");
        let path = if self.latest {
            format!("{API}/latest?{parts}&_distinct_on=scenario,system_architecture")
        } else {
            format!("{API}?{parts}")
        };
        let found: Value = client.get(&path)?;
        if common.json {
            ui::print_json(&found);
            return Ok(Code::Ok);
        }
        let list = found["data"].as_array().cloned().unwrap_or_default();
        let rows = list.iter().map(|result| {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            vec![
                result["id"].to_string(),
                text(&result["submit_time"]).chars().take(19).collect(),
                text(&result["outcome"]),
                text(&result["testcase"]["name"]),
                first(result, "item").to_owned(),
                first(result, "scenario").to_owned(),
                text(&result["note"]),
            ]
        });
        println!("{}", ui::table(&["ID", "WHEN", "OUTCOME", "TEST CASE", "ITEM", "SCENARIO", "NOTE"], rows));
        if found["next"].is_string() {
            eprintln!("there are more; see --limit");
        }
        Ok(Code::Ok)
    }
}

impl Post {
    fn run(&self, common: &Common, client: &Client) -> Result<Code, CliError> {
        let mut data = Map::new();
        for text in &self.pairs {
            let (key, value) = pair(text)?;
            data.insert(key.to_owned(), json!(value));
        }
        data.insert("item".into(), json!(self.item));
        data.insert("type".into(), json!(self.kind));
        let body = json!({
            "testcase": self.testcase, "outcome": self.outcome, "note": self.note, "ref_url": self.ref_url, "data": data,
        });
        let stored: Value = client.post(API, &body)?;
        if common.json {
            ui::print_json(&stored);
        } else {
            println!("{}", stored["id"]);
        }
        Ok(Code::Ok)
    }
}

/// What a file becomes: bodies of posts with their places in it, how many tests were skipped, and what was odd.
struct Read {
    bodies: Vec<(String, Value)>,
    skipped: usize,
    problems: Vec<String>,
    /// All tests are in it, as far as the file itself says.
    whole: bool,
}

impl Import {
    fn run(&self, common: &Common, client: &Client) -> Result<Code, CliError> {
        let bytes = self.bytes()?;
        let read = self.read(&bytes)?;
        for problem in &read.problems {
            eprintln!("{}: {problem}", self.file);
        }
        let (mut new, mut known, mut bad) = (0, 0, 0);
        for (number, (place, body)) in read.bodies.iter().enumerate() {
            let mut hash = Sha256::new();
            hash.update(&bytes);
            hash.update(number.to_le_bytes());
            hash.update(body.to_string());
            let once = format!("import-{}", hex::encode(&hash.finalize()[..20]));
            let outcome = body["outcome"].as_str().unwrap_or_default();
            let hint = if outcome == "WAIVED" {
                ". Post what was found, and waive it: assay waiver create"
            } else {
                ""
            };
            let posted = client.post_once(API, body, &once).map_err(|error| CliError {
                message: format!("{place}: {}{hint}", error.message.trim_end_matches('.')),
                ..error
            })?;
            if posted {
                new += 1;
            } else {
                known += 1;
            }
            bad += usize::from(!matches!(outcome, "PASSED" | "INFO"));
        }
        if common.json {
            let report = json!({
                "new": new, "known": known, "skipped": read.skipped, "not_passed": bad, "problems": read.problems,
            });
            ui::print_json(&report);
        } else {
            let skipped =
                if read.skipped > 0 { format!(", {} skipped left out", read.skipped) } else { String::new() };
            println!("{new} new, {known} known before, {bad} not passed{skipped}");
        }
        // A stream that was cut off or given up says nothing of the tests that are missing.
        Ok(if read.whole { Code::Ok } else { Code::Negative })
    }

    fn bytes(&self) -> Result<Vec<u8>, CliError> {
        if self.file == "-" {
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut std::io::stdin().lock(), &mut bytes)?;
            return Ok(bytes);
        }
        fs::read(&self.file).map_err(|error| CliError::unreadable(&self.file, &error))
    }

    fn read(&self, bytes: &[u8]) -> Result<Read, CliError> {
        let yaml = matches!(self.file.extension(), Some("yaml" | "yml"));
        let format = match self.format {
            Some(FileFormat::Junit) => Some(Format::Junit),
            Some(FileFormat::Tap) => Some(Format::Tap),
            Some(FileFormat::Subunit) => Some(Format::SubunitV2),
            Some(FileFormat::SubunitV1) => Some(Format::SubunitV1),
            Some(FileFormat::Resultyaml) => None,
            None if yaml => None,
            None => Some(results::detect(self.file.as_str(), bytes).ok_or_else(|| {
                CliError::usage(format!(
                    "{} does not look like JUnit, TAP, subunit or ResultYAML; say with --format what it is",
                    self.file
                ))
            })?),
        };
        match format {
            Some(format) => self.tests(&results::parse(format, bytes)),
            None => self.yaml(bytes),
        }
    }

    fn body(&self, mut data: Map<String, Value>, mut body: Value) -> Result<Value, CliError> {
        for text in &self.pairs {
            let (key, value) = pair(text)?;
            data.insert(key.to_owned(), json!(value));
        }
        if let Some(item) = &self.item {
            data.insert("item".into(), json!(item));
            data.entry("type").or_insert_with(|| json!(self.kind));
        }
        if !data.contains_key("item") {
            return Err(CliError::usage("the file does not say what was tested; say so with --item"));
        }
        body["data"] = Value::Object(data);
        if let Some(url) = &self.ref_url {
            body["ref_url"] = json!(url);
        }
        Ok(body)
    }

    fn tests(&self, report: &results::Report) -> Result<Read, CliError> {
        let mut read = Read {
            bodies: Vec::new(),
            skipped: 0,
            problems: report.problems.iter().map(ToString::to_string).collect(),
            whole: report.problems.is_empty(),
        };
        if report.cases.is_empty() {
            let why = read.problems.join("; ");
            return Err(CliError::usage(format!("{} has no tests; {why}", self.file)));
        }
        for case in &report.cases {
            let outcome = match (case.status, &self.skipped) {
                (TestStatus::Passed, _) => "PASSED",
                // It is known not to work: nothing that stops anybody, and no pass.
                (TestStatus::ExpectedFailure, _) => "INFO",
                (TestStatus::Failed | TestStatus::UnexpectedSuccess, _) => "FAILED",
                (TestStatus::Error, _) => "CRASHED",
                (TestStatus::Running, _) => "NEEDS_INSPECTION",
                (TestStatus::Skipped, Some(outcome)) => outcome.as_str(),
                (TestStatus::Skipped, None) => {
                    read.skipped += 1;
                    continue;
                }
            };
            let parts = [self.prefix.as_deref(), case.classname.as_deref(), Some(case.name.as_str())];
            let name =
                parts.into_iter().flatten().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(".");
            let note = Some(case.message.as_str()).filter(|text| !text.is_empty());
            let body = json!({ "testcase": name, "outcome": outcome, "note": note });
            let place = format!("{}: {name}", self.file);
            read.bodies.push((place, self.body(Map::new(), body)?));
        }
        Ok(read)
    }

    fn yaml(&self, bytes: &[u8]) -> Result<Read, CliError> {
        let text =
            std::str::from_utf8(bytes).map_err(|_| CliError::usage(format!("{} is not UTF-8", self.file)))?;
        let (found, diagnostics) = result_yaml::load(self.file.as_str(), text);
        let lines: Vec<String> = diagnostics.iter().map(ToString::to_string).collect();
        let found = found.ok_or_else(|| CliError::usage(lines.join("\n")))?;
        let mut read = Read { bodies: Vec::new(), skipped: 0, problems: lines, whole: true };
        for result in found {
            let testcase = result.testcase.or_else(|| self.prefix.clone()).ok_or_else(|| {
                CliError::usage(format!(
                    "{}: the result names no test case; add `testcase` (or `checkname`), or say --prefix",
                    result.place
                ))
            })?;
            let data = result.data.into_iter().map(|(key, values)| (key, json!(values))).collect();
            let body = json!({
                "testcase": testcase, "outcome": result.outcome, "note": result.note, "ref_url": result.ref_url,
            });
            let place = result.place;
            let body = self
                .body(data, body)
                .map_err(|error| CliError { message: format!("{place}: {}", error.message), ..error })?;
            read.bodies.push((place, body));
        }
        Ok(read)
    }
}
