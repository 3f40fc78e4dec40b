//! Policies of decisions in Greenwave's YAML: documents with the tags `!Policy` and `!SubjectType`, rules with
//! `!PassingTestCaseRule` and `!RemoteRule`, which stands for a file that the package brings, and Assay's own
//! `!JobTemplates`, which requires what the job templates make.

use crate::diagnostic::{Diagnostic, Place, Sink};
use crate::read::{Fields, Reader, one_or_more};
use crate::yaml::{self, Dialect, Kind, Node, Rules, Scalar};
use assay_engine::decision::{
    PassingRule, Policies, Policy, RemoteRule, Rule, SubjectType, TemplateRule, wrong_template,
};
use assay_engine::ids::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What was read.
#[derive(Debug, Clone)]
pub struct LoadedPolicies {
    /// None if there is an error.
    pub policies: Option<Policies>,
    /// Everything that was found, in the order of the files.
    pub diagnostics: Vec<Diagnostic>,
}

/// What is known besides the files, so that rules which nothing can fulfil are found.
#[derive(Debug, Clone, Default)]
pub struct KnownTests {
    /// The names of all test cases that there are results of or that a job template makes.
    pub testcases: BTreeSet<String>,
}

/// Reads files: names and texts. With `known` tests that nobody knows are warnings.
pub fn load(sources: &[(&str, &str)], known: Option<&KnownTests>) -> LoadedPolicies {
    read(sources, known, false)
}

/// Reads a file that a package brings (`gating.yaml`). Its policies may leave out what goes without saying: their names, and
/// for which releases and kinds of subjects they are. They stand for no further files.
pub fn load_remote(name: &str, text: &str, known: Option<&KnownTests>) -> LoadedPolicies {
    read(&[(name, text)], known, true)
}

fn read(sources: &[(&str, &str)], known: Option<&KnownTests>, remote: bool) -> LoadedPolicies {
    let mut sink = Sink::default();
    let mut documents = Vec::new();
    for (name, text) in sources {
        let file = sink.add_file(name, text);
        for document in documents_of(text) {
            let rules = Rules { dialect: Dialect::Yaml12, own_tags: true };
            documents.extend(yaml::parse(&document, file, rules, &mut sink));
        }
    }
    let mut reader = Reader::new(&mut sink, Dialect::Yaml12);
    let mut found = Found { known, remote, ..Found::default() };
    for document in &documents {
        found.document(&mut reader, document);
    }
    let Found { mut types, policies, named_types, .. } = found;
    types.extend(SubjectType::shipped());
    doubt_types(&mut sink, &types, &named_types);
    let policies = (!sink.has_errors()).then_some(Policies { subject_types: types, policies });
    LoadedPolicies { policies, diagnostics: sink.finish() }
}

/// Reads the rules of a question that brings its own: a JSON or YAML list.
pub fn load_rules(name: &str, text: &str) -> (Option<Vec<Rule>>, Vec<Diagnostic>) {
    let mut sink = Sink::default();
    let file = sink.add_file(name, text);
    let rules = Rules { dialect: Dialect::Yaml12, own_tags: true };
    let root = yaml::parse(text, file, rules, &mut sink);
    let mut reader = Reader::new(&mut sink, Dialect::Yaml12);
    let mut found = Found::default();
    let read = root.map(|root| {
        let nodes = reader.list(&root, "rules").to_vec();
        nodes.iter().filter_map(|node| found.rule(&mut reader, node)).collect()
    });
    let failed = sink.has_errors();
    (read.filter(|_| !failed), sink.finish())
}

/// Each document of a file with as many empty lines before it as there are lines, so that places stay right.
fn documents_of(text: &str) -> Vec<String> {
    let mut documents = Vec::new();
    let mut document = String::new();
    let mut blank = true;
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let ends = line.trim_end() == "---" || line.starts_with("--- ");
        if ends {
            if !blank {
                documents.push(std::mem::take(&mut document));
            }
            document = "\n".repeat(number);
            blank = true;
            let rest = line.strip_prefix("---").unwrap_or_default();
            if !rest.trim().is_empty() {
                blank = false;
            }
            document.push_str("   ");
            document.push_str(rest);
            continue;
        }
        blank &= line.trim().is_empty() || line.trim_start().starts_with('#');
        document.push_str(line);
    }
    if !blank {
        documents.push(document);
    }
    documents
}

#[derive(Default)]
struct Found<'k> {
    known: Option<&'k KnownTests>,
    /// A package brings it.
    remote: bool,
    /// Where each policy is.
    ids: BTreeMap<String, Place>,
    types: Vec<SubjectType>,
    /// The kinds of subjects that policies name, each where it is.
    named_types: Vec<(String, Place)>,
    policies: Vec<Policy>,
}

/// What messages, forges and Taskotron call the kinds of what was tested; see also [`SubjectType::shipped`].
const TYPES: [&str; 15] = [
    "koji_tag",
    "koji_task",
    "koji_build_pair",
    "copr",
    "git_branch",
    "git_commit",
    "dist_git_commit",
    "fcosbuild",
    "build",
    "change",
    "yum_repository",
    "docker_image",
    "module_build",
    "github_pull_request",
    "pagure_git_receive",
];

/// A policy for subjects of a kind that nobody knows is never asked.
fn doubt_types(sink: &mut Sink<'_>, types: &[SubjectType], named: &[(String, Place)]) {
    let own = types.iter().flat_map(|kind| std::iter::once(&kind.id).chain(&kind.aliases));
    let known: BTreeSet<&str> = own.map(String::as_str).chain(TYPES).collect();
    for (name, place) in named {
        if !known.contains(name.as_str()) && !name.contains(['*', '?', '[']) {
            let message = format!(
                "nobody knows the subject type `{name}`; one of your own is said with `!SubjectType`"
            );
            sink.doubt("unknown-type", *place, message, name, known.iter().copied());
        }
    }
}

fn texts(reader: &mut Reader<'_, '_>, node: Option<&Arc<Node>>, what: &str) -> Vec<String> {
    node.map(|node| reader.texts(node, what)).unwrap_or_default().into_iter().map(str::to_owned).collect()
}

impl Found<'_> {
    fn document(&mut self, reader: &mut Reader<'_, '_>, node: &Node) {
        match node.tag.as_deref() {
            Some("!Policy") | None => {
                let policy = self.policy(reader, node);
                self.policies.extend(policy);
            }
            Some(tag) if self.remote => unknown_tag(reader, node.place, tag, &["!Policy"]),
            Some("!SubjectType") => self.types.extend(subject_type(reader, node)),
            Some(tag) => unknown_tag(reader, node.place, tag, &["!Policy", "!SubjectType"]),
        }
    }

    fn policy(&mut self, reader: &mut Reader<'_, '_>, node: &Node) -> Option<Policy> {
        let mut fields = reader.fields(node, "a policy")?;
        let mut must = |reader: &mut Reader<'_, '_>, key| {
            if self.remote { fields.get(key) } else { reader.required(&mut fields, key) }
        };
        let id = must(reader, "id");
        let product_versions = must(reader, "product_versions").cloned();
        let id = id.and_then(|node| reader.name(node, "id")).unwrap_or_default();
        if let Some(first) = self.ids.insert(id.to_owned(), fields.place).filter(|_| !id.is_empty()) {
            let message =
                format!("the policy `{id}` is there twice; the first is at {}", reader.sink.show(first));
            reader.sink.error("twice", fields.place, message);
        }
        let mut contexts = texts(reader, fields.get("decision_contexts"), "decision_contexts");
        contexts.extend(texts(reader, fields.get("decision_context"), "decision_context"));
        let mut subject_types = texts(reader, fields.get("subject_types"), "subject_types");
        subject_types.extend(texts(reader, fields.get("subject_type"), "subject_type"));
        self.named_types.extend(subject_types.iter().map(|name| (name.clone(), fields.place)));
        let mut product_versions = texts(reader, product_versions.as_ref(), "product_versions");
        for list in [&mut product_versions, &mut subject_types] {
            if self.remote && list.is_empty() {
                list.push("*".to_owned());
            }
        }
        for (what, list) in [("decision_context", &contexts), ("subject_type", &subject_types)] {
            if list.is_empty() {
                reader.sink.error("missing-key", fields.place, format!("a policy needs the key `{what}`"));
            }
        }
        let rules = match reader.required(&mut fields, "rules") {
            Some(node) => reader.list(node, "rules").to_vec(),
            None => Vec::new(),
        };
        let packages = texts(reader, fields.get("packages"), "packages");
        let excluded_packages = texts(reader, fields.get("excluded_packages"), "excluded_packages");
        // Known to Greenwave; says which of several policies is meant, which is not needed here.
        let _ = (fields.get("relevance_key"), fields.get("relevance_value"), fields.get("blacklist"));
        reader.finish(fields);
        Some(Policy {
            id: id.to_owned(),
            product_versions,
            contexts,
            subject_types,
            packages,
            excluded_packages,
            rules: rules.iter().filter_map(|node| self.rule(reader, node)).collect(),
        })
    }

    fn rule(&mut self, reader: &mut Reader<'_, '_>, node: &Node) -> Option<Rule> {
        const TAGS: &[&str] = &["!PassingTestCaseRule", "!JobTemplates", "!RemoteRule"];
        let tags = if self.remote { &TAGS[..2] } else { TAGS };
        // In JSON, which has no tags, the key `type` says what it is.
        let kind = node.get("type").and_then(|node| reader.text(node, "type")).map(|kind| format!("!{kind}"));
        let tag = node.tag.as_deref().map(str::to_owned).or(kind);
        match tag.as_deref() {
            Some("!PassingTestCaseRule") => self.passing(reader, node),
            Some("!JobTemplates") => templates(reader, node),
            Some("!RemoteRule") if self.remote => {
                let message =
                    "a file that a package brings cannot stand for another one; write its rules here";
                reader.sink.error("remote-rule", node.place, message);
                None
            }
            Some("!RemoteRule") => remote(reader, node),
            Some(tag @ ("!PackageSpecificBuild" | "!FedoraAtomicCi")) => {
                let message =
                    format!("`{tag}` is obsolete; use `!PassingTestCaseRule` and `packages` of the policy");
                reader.sink.error("obsolete", node.place, message);
                None
            }
            Some(tag) => {
                unknown_tag(reader, node.place, tag, tags);
                None
            }
            None => {
                let message = format!("a rule needs a tag; expected {}", crate::read::or(tags));
                reader.sink.error("missing-tag", node.place, message);
                None
            }
        }
    }

    fn passing(&mut self, reader: &mut Reader<'_, '_>, node: &Node) -> Option<Rule> {
        let mut fields = reader.fields(node, "a rule")?;
        let _ = fields.get("type");
        let name = reader.required(&mut fields, "test_case_name");
        let testcase = name.and_then(|node| reader.name(node, "test_case_name"));
        if let (Some(known), Some(name), Some(testcase)) = (self.known, name, testcase)
            && !known.testcases.contains(testcase)
        {
            let message = format!(
                "nobody knows the test case `{testcase}`: there is no result of it, and no job template makes one"
            );
            let near = known.testcases.iter().map(String::as_str);
            let nearest = near
                .map(|known| (strsim::jaro_winkler(known, testcase), known))
                .filter(|(likeness, _)| *likeness > 0.9)
                .max_by(|a, b| a.0.total_cmp(&b.0));
            let message = match nearest {
                Some((_, near)) => format!("{message}; did you mean `{near}`?"),
                None => message,
            };
            reader.sink.warning("unknown-testcase", name.place, message);
        }
        let scenario = fields.get("scenario").and_then(|node| match &node.kind {
            Kind::Scalar { text, plain: true } if matches!(&**text, "" | "~" | "null") => None,
            _ => reader.text(node, "scenario").map(str::to_owned),
        });
        let valid_since = moment(reader, &mut fields, "valid_since");
        let valid_until = moment(reader, &mut fields, "valid_until");
        if let (Some(since), Some(until)) = (valid_since, valid_until)
            && since >= until
        {
            reader.sink.error(
                "never",
                fields.place,
                "`valid_since` is not before `valid_until`: it is never valid",
            );
        }
        reader.finish(fields);
        Some(Rule::Passing(PassingRule {
            testcase: testcase?.to_owned(),
            scenario,
            valid_since,
            valid_until,
        }))
    }
}

/// True for a rule that is its tag and nothing else.
fn is_bare(node: &Node) -> bool {
    matches!(&node.kind, Kind::Scalar { text, .. } if text.is_empty())
}

fn remote(reader: &mut Reader<'_, '_>, node: &Node) -> Option<Rule> {
    if is_bare(node) {
        return Some(Rule::Remote(RemoteRule::default()));
    }
    let mut fields = reader.fields(node, "a rule")?;
    let _ = fields.get("type");
    let required = fields.get("required").and_then(|node| reader.boolean(node, "required")).unwrap_or(false);
    let place = fields.place;
    let sources = texts(reader, fields.get("sources"), "sources");
    for why in sources.iter().filter_map(|source| wrong_template(source)) {
        reader.sink.error("url", place, why);
    }
    reader.finish(fields);
    Some(Rule::Remote(RemoteRule { sources, required }))
}

fn templates(reader: &mut Reader<'_, '_>, node: &Node) -> Option<Rule> {
    if is_bare(node) {
        return Some(Rule::Templates(TemplateRule::default()));
    }
    let mut fields = reader.fields(node, "a rule")?;
    let _ = fields.get("type");
    let mut text =
        |key: &'static str| fields.get(key).and_then(|node| reader.name(node, key)).map(str::to_owned);
    let rule = TemplateRule {
        group: text("group"),
        distri: text("distri"),
        version: text("version"),
        flavor: text("flavor"),
        arch: text("arch"),
        test: text("test"),
    };
    reader.finish(fields);
    Some(Rule::Templates(rule))
}

fn subject_type(reader: &mut Reader<'_, '_>, node: &Node) -> Option<SubjectType> {
    let mut fields = reader.fields(node, "a subject type")?;
    let id = reader.required(&mut fields, "id").and_then(|node| reader.name(node, "id"));
    let aliases = texts(reader, fields.get("aliases"), "aliases");
    let flag = |reader: &mut Reader<'_, '_>, fields: &mut Fields<'_>, key| {
        fields.get(key).and_then(|node| reader.boolean(node, key)).unwrap_or(false)
    };
    let is_nvr = flag(reader, &mut fields, "is_nvr");
    let is_koji_build = flag(reader, &mut fields, "is_koji_build");
    let ignore_missing_policy = flag(reader, &mut fields, "ignore_missing_policy");
    let item_key = fields.get("item_key").and_then(|node| reader.name(node, "item_key")).map(str::to_owned);
    let mut result_queries = Vec::new();
    if let Some(list) = fields.get("result_queries") {
        for query in reader.list(list, "result_queries") {
            let Some(mut query_fields) = reader.fields(query, "a query") else { continue };
            let mut pairs = BTreeMap::new();
            for entry in query_fields.rest() {
                let values = one_or_more(&entry.value).into_iter();
                let values = values.filter_map(|node| match node.scalar(reader.dialect) {
                    Some(Scalar::Null) => Some(""),
                    _ => reader.text(node, &entry.key.text),
                });
                // Greenwave writes `koji_build,brew-build`, and `{item}` or an empty value for the item.
                let values = values.flat_map(|text| text.split(',')).map(|text| match text.trim() {
                    "" | "{subject_id}" => "{item}".to_owned(),
                    text => text.to_owned(),
                });
                pairs.insert(entry.key.text.to_string(), values.collect());
            }
            result_queries.push(pairs);
        }
    }
    // How Greenwave finds a release by itself, and how it writes an item; here both come with the question.
    for key in
        ["product_version", "product_version_match", "product_version_from_koji_build_target", "item_dict"]
    {
        let _ = fields.get(key);
    }
    reader.finish(fields);
    Some(SubjectType {
        id: id?.to_owned(),
        aliases,
        is_nvr: is_nvr || is_koji_build,
        ignore_missing_policy,
        item_key,
        result_queries,
    })
}

fn unknown_tag(reader: &mut Reader<'_, '_>, place: Place, tag: &str, known: &[&'static str]) {
    let message = format!("there is no tag `{tag}` here; expected {}", crate::read::or(known));
    reader.sink.unknown("unknown-tag", place, message, tag, known.iter().copied());
}

fn moment(reader: &mut Reader<'_, '_>, fields: &mut Fields<'_>, key: &'static str) -> Option<Timestamp> {
    let node = fields.get(key)?;
    let Kind::Scalar { text, .. } = &node.kind else {
        reader.expected(node, key, "a date such as 2024-06-01");
        return None;
    };
    let parsed = parse_moment(text);
    if parsed.is_none() {
        let message =
            format!("`{key}` is `{text}`; expected a date such as 2024-06-01 or 2024-06-01T12:00:00Z");
        reader.sink.error("date", node.place, message);
    }
    parsed
}

/// `2024-06-01`, `2024-06-01T12:00:00Z`, `2024-06-01 12:00:00`; always UTC.
fn parse_moment(text: &str) -> Option<Timestamp> {
    let (date, time) = text.split_once(['T', ' ']).unwrap_or((text, "00:00:00"));
    let number = |text: &str, from: i64, to: i64| {
        let digits = !text.is_empty() && text.len() <= 4 && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|number: &i64| digits && (from..=to).contains(number))
    };
    let mut date = date.split('-');
    let (year, month, day) =
        (number(date.next()?, 1, 9999)?, number(date.next()?, 1, 12)?, number(date.next()?, 1, 31)?);
    let time = time.trim_end_matches('Z').trim_end_matches("+00:00");
    let mut time = time.split('.').next()?.split(':');
    let (hour, minute, second) = (
        number(time.next()?, 0, 23)?,
        number(time.next()?, 0, 59)?,
        number(time.next().unwrap_or("0"), 0, 60)?,
    );
    if date.next().is_some() || time.next().is_some() {
        return None;
    }
    // Days since 1970 of the Gregorian calendar, with years that begin in March.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719_468;
    Some(Timestamp((((days * 24 + hour) * 60 + minute) * 60 + second) * 1_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "\
# Fedora's
--- !Policy
id: update_push
product_versions: [fedora-*]
decision_contexts: [bodhi_update_push_testing, bodhi_update_push_stable]
subject_type: bodhi_update
rules:
  - !PassingTestCaseRule {test_case_name: update.base_selinux, scenario: fedora.updates-server.x86_64.64bit}
  - !PassingTestCaseRule
    test_case_name: update.late
    scenario: null
    valid_since: 2024-06-01
    valid_until: 2024-06-01T12:00:00Z
  - !JobTemplates {group: fedora, flavor: updates-*}
---
id: builds
product_versions: ['*']
decision_context: koji_build_push
subject_type: koji_build
excluded_packages: [kernel*]
rules: []
--- !SubjectType
id: iot
aliases: [edge]
result_queries:
  - type: iot,edge
    item:
";

    #[test]
    fn policies_are_read() {
        let loaded = load(&[("p.yaml", GOOD)], None);
        let policies = loaded.policies.unwrap_or_else(|| panic!("{:#?}", loaded.diagnostics));
        let [first, second] = &policies.policies[..] else { panic!("{policies:#?}") };
        assert_eq!((first.id.as_str(), first.contexts.len(), first.rules.len()), ("update_push", 2, 3));
        let Rule::Passing(late) = &first.rules[1] else { panic!("{first:?}") };
        assert_eq!(late.valid_since, Some(Timestamp(1_717_200_000_000_000)));
        assert_eq!(late.valid_until, Some(Timestamp(1_717_243_200_000_000)));
        assert_eq!(late.scenario, None);
        assert_eq!((second.rules.len(), &second.excluded_packages[..]), (0, &["kernel*".to_owned()][..]));
        let iot = policies.subject_type("edge");
        assert_eq!(iot.queries("x")[0]["type"], ["iot", "edge"]);
        assert_eq!(iot.queries("x")[0]["item"], ["x"]);
        assert!(policies.subject_type("bodhi_update").ignore_missing_policy);
    }

    #[test]
    fn everything_wrong_is_said_at_once_with_its_place() {
        let text = "\
--- !Policy
id: a
product_version: [x]
decision_context: c
subject_type: s
rules:
  - !PassingTestCaseRule {test_case_nam: t}
  - !PasingTestCaseRule {test_case_name: t}
  - !RemoteRule {require: false, sources: [src.example.org]}
  - !FedoraAtomicCi {test_case_name: t}
  - {test_case_name: t}
  - !PassingTestCaseRule {test_case_name: t, valid_since: yesterday}
--- !Policy
id: a
product_versions: [x]
decision_context: c
subject_type: s
rules: none
--- !Polic
id: b
";
        let loaded = load(&[("p.yaml", text)], None);
        assert!(loaded.policies.is_none());
        let found: Vec<String> = loaded.diagnostics.iter().map(ToString::to_string).collect();
        for (place, part) in [
            ("p.yaml:3:1", "unknown key `product_version` of a policy; did you mean `product_versions`?"),
            ("p.yaml:7:", "unknown key `test_case_nam`"),
            (
                "p.yaml:8:",
                "no tag `!PasingTestCaseRule` here; expected !PassingTestCaseRule, !JobTemplates or !RemoteRule; did you mean",
            ),
            ("p.yaml:9:", "unknown key `require`"),
            ("p.yaml:9:", "\"src.example.org\" is no address"),
            ("p.yaml:10:", "`!FedoraAtomicCi` is obsolete"),
            ("p.yaml:11:", "a rule needs a tag"),
            ("p.yaml:12:", "`valid_since` is `yesterday`; expected a date"),
            ("p.yaml:13:", "the policy `a` is there twice; the first is at p.yaml:1"),
            ("p.yaml:18:", "`rules`: expected a list, found text"),
            ("p.yaml:19:", "no tag `!Polic`"),
        ] {
            assert!(
                found.iter().any(|one| one.starts_with(place) && one.contains(part)),
                "{place} {part}\n{found:#?}"
            );
        }
    }

    #[test]
    fn kinds_that_nobody_knows_are_doubted() {
        let policy = |kinds: &str| {
            format!(
                "--- !Policy\nid: a\nproduct_versions: [x]\ndecision_context: c\nsubject_types: [{kinds}]\nrules: []\n\
                 --- !SubjectType\nid: iot\naliases: [edge]\n"
            )
        };
        let right =
            load(&[("p.yaml", &policy("koji_build, brew-build, koji_tag, iot, edge, 'redhat-*'"))], None);
        assert_eq!(right.diagnostics, []);
        let loaded = load(&[("p.yaml", &policy("koji_bild, compose"))], None);
        assert!(loaded.policies.is_some());
        let [found] = &loaded.diagnostics[..] else { panic!("{:#?}", loaded.diagnostics) };
        let found = found.to_string();
        for part in ["p.yaml:1:", "warning", "subject type `koji_bild`", "did you mean `koji_build`?"] {
            assert!(found.contains(part), "{part} is not in {found}");
        }
    }

    #[test]
    fn packages_bring_policies_that_say_less() {
        let own = "--- !Policy\ndecision_context: push\nrules:\n  - !PassingTestCaseRule {test_case_name: t}\n---\n\
                   id: x\nproduct_versions: [fedora-44]\nsubject_type: koji_build\ndecision_contexts: [a, b]\nrules: []\n";
        let loaded = load_remote("gating.yaml", own, None);
        let policies = loaded.policies.unwrap_or_else(|| panic!("{:#?}", loaded.diagnostics)).policies;
        let [first, second] = &policies[..] else { panic!("{policies:#?}") };
        assert_eq!((first.id.as_str(), &first.product_versions[..]), ("", &["*".to_owned()][..]));
        assert_eq!((&first.subject_types[..], first.rules.len()), (&["*".to_owned()][..], 1));
        assert_eq!((second.id.as_str(), &second.subject_types[..]), ("x", &["koji_build".to_owned()][..]));
        assert!(load(&[("p.yaml", own)], None).policies.is_none(), "a policy of the server says more");
        for (text, part) in [
            ("--- !Policy\nrules: []\n", "a policy needs the key `decision_context`"),
            (
                "--- !Policy\ndecision_context: push\nrules: [!RemoteRule {}]\n",
                "cannot stand for another one",
            ),
            ("--- !SubjectType\nid: a\n", "expected !Policy"),
            ("<html>", "gating.yaml:1:"),
        ] {
            let loaded = load_remote("gating.yaml", text, None);
            let found: Vec<String> = loaded.diagnostics.iter().map(ToString::to_string).collect();
            let said = found.iter().any(|one| one.contains(part));
            assert!(loaded.policies.is_none() && said, "{text:?}: {found:#?}");
        }
    }

    #[test]
    fn rules_stand_for_files_of_packages() {
        let text = GOOD.replace(
            "  - !JobTemplates {group: fedora, flavor: updates-*}",
            "  - !RemoteRule {required: true}\n  - !RemoteRule",
        );
        let policies = load(&[("p.yaml", &text)], None).policies.unwrap_or_else(|| panic!("{text}"));
        let remote = |required| Rule::Remote(RemoteRule { required, ..RemoteRule::default() });
        assert_eq!(policies.policies[0].rules[2..], [remote(true), remote(false)]);
        let asked = r#"[{"type": "RemoteRule", "required": true, "sources": ["http://x/{rev}"]}]"#;
        let sources = vec!["http://x/{rev}".to_owned()];
        assert_eq!(
            load_rules("rules", asked).0,
            Some(vec![Rule::Remote(RemoteRule { sources, required: true })])
        );
    }

    #[test]
    fn tests_that_nobody_knows_are_warned_of() {
        let known = KnownTests { testcases: ["update.base_selinux".to_owned()].into() };
        let text = GOOD.replace("base_selinux,", "base_selinx,");
        let loaded = load(&[("p.yaml", &text)], Some(&known));
        assert!(loaded.policies.is_some());
        let found: Vec<String> = loaded.diagnostics.iter().map(ToString::to_string).collect();
        assert!(
            found[0].contains("p.yaml:8:") && found[0].contains("did you mean `update.base_selinux`?"),
            "{found:#?}"
        );
        assert_eq!(found.len(), 2);
    }

    proptest::proptest! {
        #[test]
        fn anything_may_stand_in_a_file(text in "(--- !Policy\n|id: a\n|rules:\n|  - !JobTemplates\n|---\n|\\PC{0,20}\n| |x: \\[){0,12}") {
            let _ = load(&[("p.yaml", &text)], Some(&KnownTests::default()));
            let _ = load_remote("gating.yaml", &text, None);
            let _ = load_rules("rules", &text);
            let _ = parse_moment(&text);
        }
    }
}
