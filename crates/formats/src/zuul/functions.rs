//! What Zuul's Python parameter functions do to a job, as data.

use crate::diagnostic::{Diagnostic, Sink};
use crate::read::{Reader, one_or_more};
use crate::yaml::{self, Dialect, Kind, Node};
use assay_engine::gate::config::JobDef;
use assay_engine::gate::pattern::Pattern;
use std::collections::{BTreeMap, BTreeSet};

/// The variable by which OpenStack's functions ask Jenkins to use a worker once.
const OFFLINE: &str = "OFFLINE_NODE_WHEN_COMPLETE";
/// Jobs whose worker OpenStack's `set_node_options` keeps.
const KEPT: &str = r"^.*(merge-release-tags|(propose|upstream)-.*-(constraints.*|updates?))$|^.*-(forge|jenkinsci|mavencentral|npm|pypi)(-\w+)?-upload$|^hook-.*-rtfd$|^wheel-mirror-";

/// What is done to the jobs whose names fit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ParameterRule {
    /// For the job's name, matched from the start; none for every job.
    pub jobs: Option<Pattern>,
    /// What a worker must offer.
    pub labels: BTreeSet<String>,
    /// Variables.
    pub env: BTreeMap<String, String>,
    /// The worker is used once.
    pub single_use: bool,
}

/// The functions that are known. Of a function's rules the first that fits the job counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Functions(BTreeMap<String, Vec<ParameterRule>>);

impl Default for Functions {
    /// OpenStack's.
    fn default() -> Self {
        let once = ParameterRule {
            single_use: true,
            env: BTreeMap::from([(OFFLINE.to_owned(), "1".to_owned())]),
            ..ParameterRule::default()
        };
        let kept = ParameterRule { jobs: Pattern::new(KEPT).ok(), ..ParameterRule::default() };
        Self(BTreeMap::from([
            ("single_use_node".to_owned(), vec![once.clone()]),
            ("reusable_node".to_owned(), vec![ParameterRule::default()]),
            ("set_node_options".to_owned(), vec![kept, once]),
        ]))
    }
}

impl Functions {
    /// Adds the functions of a YAML file, in place of those of the same names:
    ///
    /// ```yaml
    /// set_node:
    ///   - jobs: ^gate-.*-dsvm
    ///     labels: [devstack]
    ///     single-use: true
    ///   - env: {FAST: "1"}
    /// ```
    pub fn extend(&mut self, text: &str, file: &str) -> Result<(), Vec<Diagnostic>> {
        let mut sink = Sink::default();
        let index = sink.add_file(file, text);
        if let Some(root) = yaml::parse(text, index, yaml::Rules::plain(Dialect::Yaml12), &mut sink) {
            let mut reader = Reader::new(&mut sink, Dialect::Yaml12);
            if let Some(mut fields) = reader.fields(&root, "parameter functions") {
                for entry in fields.rest() {
                    let rules =
                        one_or_more(&entry.value).into_iter().filter_map(|node| rule(&mut reader, node));
                    self.0.insert(entry.key.text.to_string(), rules.collect());
                }
            }
        }
        if sink.has_errors() { Err(sink.finish()) } else { Ok(()) }
    }

    /// The names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Does to a job what its function does. False if nobody knows what that is.
    pub fn apply(&self, name: &str, job: &mut JobDef) -> bool {
        let Some(rules) = self.0.get(name) else { return false };
        let fits = |rule: &&ParameterRule| {
            rule.jobs.as_ref().is_none_or(|jobs| jobs.matches_start(job.name.as_str()))
        };
        if let Some(rule) = rules.iter().find(fits) {
            job.labels.extend(rule.labels.iter().cloned());
            job.env.extend(rule.env.iter().map(|(name, value)| (name.clone(), value.clone())));
            job.single_use |= rule.single_use;
        }
        true
    }
}

fn rule(reader: &mut Reader<'_, '_>, node: &Node) -> Option<ParameterRule> {
    let mut fields = reader.fields(node, "a parameter rule")?;
    let mut rule = ParameterRule::default();
    if let Some(node) = fields.get("jobs") {
        rule.jobs = reader.pattern(node, "jobs");
    }
    if let Some(node) = fields.get("labels") {
        rule.labels = reader.texts(node, "labels").into_iter().map(ToOwned::to_owned).collect();
    }
    if let Some(node) = fields.get("single-use") {
        rule.single_use = reader.boolean(node, "single-use").unwrap_or_default();
    }
    if let Some(node) = fields.get("env") {
        if let Kind::Map(entries) = &node.kind {
            for entry in entries {
                if let Some(value) = reader.text(&entry.value, &entry.key.text) {
                    rule.env.insert(entry.key.text.to_string(), value.to_owned());
                }
            }
        } else {
            reader.expected(node, "env", "a mapping");
        }
    }
    reader.finish(fields);
    Some(rule)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(functions: &Functions, function: &str, job: &str) -> Option<JobDef> {
        let mut job = JobDef::new(job);
        functions.apply(function, &mut job).then_some(job)
    }

    #[test]
    fn openstacks_functions_and_ones_own() {
        let mut functions = Functions::default();
        let job = applied(&functions, "single_use_node", "a").expect("known");
        assert!(job.single_use && job.env[OFFLINE] == "1");
        assert_eq!(applied(&functions, "reusable_node", "a"), Some(JobDef::new("a")));
        assert!(applied(&functions, "set_node_options", "gate-nova-pep8").is_some_and(|job| job.single_use));
        let kept = applied(&functions, "set_node_options", "propose-nova-updates");
        assert!(kept.is_some_and(|job| !job.single_use));
        assert_eq!(applied(&functions, "mine", "a"), None);

        let text = "mine:\n  - jobs: ^gate-\n    labels: [big]\n    single-use: true\n  - env: {N: 1}\n";
        assert_eq!(functions.extend(text, "f.yaml"), Ok(()));
        let gate = applied(&functions, "mine", "gate-x").expect("known");
        assert!(gate.single_use && gate.labels.contains("big") && gate.env.is_empty());
        assert_eq!(applied(&functions, "mine", "x").expect("known").env["N"], "1");

        let wrong = functions.extend("a: {job: x, single-use: 3}\n", "f.yaml").expect_err("wrong");
        let said: Vec<String> = wrong.iter().map(ToString::to_string).collect();
        assert_eq!(said[0], "f.yaml:1:5: error: unknown key `job` of a parameter rule; did you mean `jobs`?");
        assert!(said[1].starts_with("f.yaml:1:25: error: `single-use`: expected true or false"), "{said:?}");
    }
}
