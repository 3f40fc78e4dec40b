//! `assay test …`

use crate::exit::{CliError, Code};
use crate::{Common, paths, ui};
use assay_proto::diagnostic::Diagnostic;
use assay_script::Suite;
use assay_worker::suite::{NeedleStore, default_settings, load_tests};
use camino::{Utf8Path, Utf8PathBuf};
use serde::Serialize;
use std::collections::BTreeSet;

/// Test directories.
#[derive(clap::Subcommand)]
pub(crate) enum Test {
    /// Check a test directory without starting anything: calls and types, needles, unused and missing tags.
    #[command(
        after_help = "Example:\n  assay test check examples/grub\n\nExit code 2 if there is an error; warnings alone are 0."
    )]
    Check {
        /// The test directory.
        dir: Utf8PathBuf,
    },
}

#[derive(Serialize)]
struct Checked {
    modules: Vec<String>,
    needles: usize,
    errors: usize,
    warnings: usize,
    findings: Vec<Diagnostic>,
}

impl Test {
    pub(crate) fn run(self, common: &Common) -> Result<Code, CliError> {
        match self {
            Self::Check { dir } => {
                let dir = paths::absolute(&dir)?;
                if !dir.is_dir() {
                    return Err(CliError::not_found(format!("there is no directory {dir}")));
                }
                let client = paths::host_options(&paths::data_dir(common)?, false).run;
                fs_err::create_dir_all(&client)?;
                let findings = check(&dir, &client);
                let _ = fs_err::remove_dir_all(&client);
                let code = if findings.errors > 0 { Code::Usage } else { Code::Ok };
                if common.json {
                    ui::print_json(&findings);
                } else {
                    show(&findings);
                }
                Ok(code)
            }
        }
    }
}

fn check(dir: &Utf8Path, client: &Utf8Path) -> Checked {
    let mut findings = Vec::new();
    let mut modules = Vec::new();
    let (needles, broken) = NeedleStore::load(dir);
    findings.extend(broken);
    for needle in needles.all() {
        if let Err(why) = needles.ready(needle) {
            let file = needle.png_path.strip_prefix(dir).unwrap_or(&needle.png_path).to_string();
            findings.push(Diagnostic::error("broken-needle", file, why));
        }
        findings.extend(needle.json.warnings.iter().map(|warning| {
            let file = needle.png_path.with_extension("json");
            Diagnostic::warning(
                "needle",
                file.strip_prefix(dir).unwrap_or(&file).to_string(),
                warning.clone(),
            )
        }));
    }
    if let Err(finding) = default_settings(dir) {
        findings.push(finding);
    }
    match load_tests(dir, None, client, false) {
        Err(errors) => findings.extend(errors),
        Ok((suite, warnings)) => {
            findings.extend(warnings);
            modules = suite.modules().iter().map(|module| module.name.clone()).collect();
            findings.extend(check_tags(dir, &suite, &needles));
        }
    }
    findings.sort_by(|a, b| {
        (&a.file, a.line, a.column, &a.message).cmp(&(&b.file, b.line, b.column, &b.message))
    });
    let errors = findings.iter().filter(|finding| finding.is_error()).count();
    Checked { modules, needles: needles.all().len(), errors, warnings: findings.len() - errors, findings }
}

/// Tags that the tests look for and no needle carries, and needles that no test looks for.
fn check_tags(dir: &Utf8Path, suite: &Suite, needles: &NeedleStore) -> Vec<Diagnostic> {
    let mut findings = Vec::new();
    let mut used: BTreeSet<String> = BTreeSet::new();
    let mut some_unknown = false;
    let known: Vec<&str> = needles.tags().into_iter().collect();
    for tag in suite.screen_tags() {
        some_unknown |= !tag.literal;
        for set in &tag.tags {
            let matching = needles.with_tags(std::slice::from_ref(set));
            used.extend(matching.iter().map(|needle| needle.name.clone()));
            if matching.is_empty() {
                let message = format!("no needle carries the tags {set:?}");
                let help = match assay_script::nearest(set, known.iter().copied()) {
                    Some(near) => format!("did you mean {near:?}?"),
                    None => "make the needle with `assay needle new`, or correct the tag".to_owned(),
                };
                let finding = Diagnostic::error("missing-tag", &tag.file, message);
                findings.push(finding.at(tag.line, tag.column).help(help));
            }
        }
    }
    if some_unknown {
        // Computed tags may use any needle: nothing can be said about unused ones.
        return findings;
    }
    for needle in needles.all().iter().filter(|needle| !used.contains(&needle.name)) {
        let file = needle.png_path.with_extension("json");
        let file = file.strip_prefix(dir).unwrap_or(&file).to_string();
        let message = format!("no test looks for the tags {:?}", needle.json.tags.join(" "));
        findings
            .push(Diagnostic::warning("unused-needle", file, message).help("remove the needle, or use it"));
    }
    findings
}

fn show(findings: &Checked) {
    for finding in &findings.findings {
        println!("{finding}");
    }
    println!(
        "{}, {}: {}, {}",
        ui::count(findings.modules.len(), "module"),
        ui::count(findings.needles, "needle"),
        ui::count(findings.errors, "error"),
        ui::count(findings.warnings, "warning")
    );
}
