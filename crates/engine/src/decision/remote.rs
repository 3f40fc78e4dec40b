//! Rules that packages bring themselves: a `!RemoteRule` stands for the policies of a file in the package's repository.
//!
//! Where such a file is, what is required because of it, and what is said of the file itself. Who fetches it hands over
//! what came of that, with everything else that is known of the subject.

use super::judge::{taken, waiver};
use super::{
    GatingFile, Known, Policies, Policy, Question, Requirement, Rule, Subject, SubjectType, Verdict,
};
use crate::address::encoded;
use std::collections::BTreeSet;

/// The policies of a file that the package brings.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct RemoteRule {
    /// Templates of the addresses where it may be, the first that has it counts; empty: those that are configured.
    pub sources: Vec<String>,
    /// There has to be one.
    pub required: bool,
}

/// What came of looking for a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RemoteFile {
    /// There is none at any of these addresses.
    Absent {
        /// Where it was looked for.
        sources: Vec<String>,
    },
    /// It was read.
    Read {
        /// Where it is.
        source: String,
        /// What it says.
        policies: Vec<Policy>,
    },
    /// It cannot be read as policies.
    Invalid {
        /// Where it is.
        source: String,
        /// Everything that is wrong with it.
        why: String,
    },
    /// Nobody can say whether there is one.
    Unreachable {
        /// Where it was looked for.
        sources: Vec<String>,
        /// What went wrong.
        why: String,
    },
}

/// What has to be known of a subject from elsewhere before a question about it can be decided.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Needs<'a> {
    /// When it was built: rules begin or end to count some day.
    pub built_at: bool,
    /// What came of looking at these sources.
    pub files: BTreeSet<&'a [String]>,
}

impl Needs<'_> {
    /// Nothing.
    pub fn is_empty(&self) -> bool {
        !self.built_at && self.files.is_empty()
    }
}

/// What a question about a subject needs from elsewhere.
pub fn needs<'a>(policies: &'a Policies, question: &'a Question, subject: &Subject) -> Needs<'a> {
    let mut needs = Needs::default();
    let kind = policies.subject_type(&subject.kind);
    let of_policies = policies.applicable(subject, &question.product_version, &question.contexts);
    for (_, rule) in taken(&of_policies, question, subject, &kind) {
        // The rules of a file may be dated, too.
        needs.built_at |= rule.asks_elsewhere();
        if let Rule::Remote(rule) = rule {
            needs.files.insert(&rule.sources);
        }
    }
    needs
}

/// Where a package comes from, as Koji tells of its build: `git+https://src.fedoraproject.org/rpms/bash.git#1a2b3c`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// `rpms`; empty if there is none.
    pub namespace: String,
    /// `bash`
    pub package: String,
    /// The commit.
    pub revision: String,
}

impl Origin {
    /// Reads the source of a build; none if it names no commit of a repository.
    pub fn of(source: &str) -> Option<Self> {
        let (place, revision) = source.split_once('#')?;
        let (_, path) = place.split_once("://")?.1.split_once('/')?;
        let path = path.split('?').next().unwrap_or_default().trim_matches('/');
        let path = path.strip_suffix(".git").unwrap_or(path);
        let (before, package) = path.rsplit_once('/').unwrap_or(("", path));
        let namespace = before.rsplit('/').next().unwrap_or_default();
        let good = |part: &str| !matches!(part, "." | "..") && !part.contains(char::is_whitespace);
        let named = !package.is_empty() && !revision.is_empty();
        (named && [package, namespace, revision].into_iter().all(good)).then(|| Self {
            namespace: namespace.to_owned(),
            package: package.to_owned(),
            revision: revision.to_owned(),
        })
    }
}

const PACKAGE: &str = "{pkg_name}";
const NAMESPACE: &str = "{pkg_namespace}";
const REVISION: &str = "{rev}";
const SUBJECT: &str = "{subject_id}";

/// What is wrong with the template of an address.
pub fn wrong_template(template: &str) -> Option<String> {
    if !template.starts_with("http://") && !template.starts_with("https://") {
        return Some(format!("{template:?} is no address; it begins with http:// or https://"));
    }
    let known = [PACKAGE, NAMESPACE, REVISION, SUBJECT];
    let left = known.into_iter().fold(template.to_owned(), |text, name| text.replace(name, ""));
    left.contains(['{', '}']).then(|| {
        format!(
            "{template:?} has braces around something else than {}",
            known.map(|name| &name[1..name.len() - 1]).join(", ")
        )
    })
}

/// True if an address can only be known if it is known where the package comes from.
pub fn needs_origin(template: &str) -> bool {
    [PACKAGE, NAMESPACE, REVISION].iter().any(|name| template.contains(name))
}

/// The address of a subject's file; none if it is not known where the package comes from.
pub fn address(template: &str, subject: &Subject, origin: Option<&Origin>) -> Option<String> {
    let item = subject.item.strip_prefix("sha256:").unwrap_or(&subject.item);
    let mut address = template.replace(SUBJECT, &encoded(item));
    if needs_origin(template) {
        let origin = origin?;
        let namespace =
            if origin.namespace.is_empty() { String::new() } else { encoded(&origin.namespace) + "/" };
        for (name, value) in [
            (PACKAGE, encoded(&origin.package)),
            (NAMESPACE, namespace),
            (REVISION, encoded(&origin.revision)),
        ] {
            address = address.replace(name, &value);
        }
    }
    Some(address)
}

/// Rules with the names of the policies that they are of, and what is required of files themselves.
pub(super) struct Expanded<'a> {
    pub(super) rules: Vec<(&'a str, &'a Rule)>,
    pub(super) files: Vec<Requirement>,
}

/// A file that is looked at, because of which policies, and whether it has to be there.
struct Wanted<'a> {
    sources: &'a [String],
    required: bool,
    policies: Vec<String>,
}

/// Puts what files say in the place of the rules that stand for them. Rules of no policy are those of the question itself.
pub(super) fn expand<'a>(
    rules: Vec<(Option<&'a Policy>, &'a Rule)>,
    subject: &Subject,
    kind: &SubjectType,
    known: &'a Known,
    question: &Question,
) -> Expanded<'a> {
    let mut expanded = Expanded { rules: Vec::new(), files: Vec::new() };
    let mut wanted: Vec<Wanted<'_>> = Vec::new();
    for (policy, rule) in rules {
        let id = policy.map_or("", |policy| policy.id.as_str());
        let Rule::Remote(remote) = rule else {
            expanded.rules.push((id, rule));
            continue;
        };
        match wanted.iter_mut().find(|one| *one.sources == *remote.sources) {
            Some(one) => {
                one.required |= remote.required;
                one.policies.push(id.to_owned());
            }
            None => wanted.push(Wanted {
                sources: &remote.sources,
                required: remote.required,
                policies: vec![id.to_owned()],
            }),
        }
        if let Some(RemoteFile::Read { policies, .. }) = known.remote.get(&remote.sources) {
            for own in policies.iter().filter(|own| counts(own, policy, subject, kind, question)) {
                let id = if own.id.is_empty() { id } else { &own.id };
                expanded.rules.extend(own.rules.iter().map(|rule| (id, rule)));
            }
        }
    }
    for mut one in wanted {
        one.policies.retain(|policy| !policy.is_empty());
        expanded.files.extend(of_file(&one, subject, known, question));
    }
    expanded
}

/// A policy of a file counts for what it shares with the one that the file is read because of.
fn counts(
    own: &Policy,
    because_of: Option<&Policy>,
    subject: &Subject,
    kind: &SubjectType,
    question: &Question,
) -> bool {
    let contexts: Vec<String> = match because_of {
        None => own.contexts.clone(),
        Some(policy) => {
            question.contexts.iter().filter(|context| policy.contexts.contains(context)).cloned().collect()
        }
    };
    own.applies(kind, &question.product_version, &contexts) && own.takes_in(kind, subject)
}

/// What is required of a file: nothing if there is none and none has to be there.
fn of_file(
    wanted: &Wanted<'_>,
    subject: &Subject,
    known: &Known,
    question: &Question,
) -> Option<Requirement> {
    let (verdict, sources, why) = match known.remote.get(wanted.sources) {
        Some(RemoteFile::Absent { .. }) if !wanted.required => return None,
        Some(RemoteFile::Absent { sources }) => (Verdict::FileMissing, sources.clone(), None),
        Some(RemoteFile::Read { source, .. }) => (Verdict::FileFetched, vec![source.clone()], None),
        Some(RemoteFile::Invalid { source, why }) => {
            (Verdict::FileInvalid, vec![source.clone()], Some(why.clone()))
        }
        Some(RemoteFile::Unreachable { sources, why }) => {
            (Verdict::FileUnreachable, sources.clone(), Some(why.clone()))
        }
        None => (Verdict::FileUnreachable, Vec::new(), Some("nobody has looked for it".to_owned())),
    };
    let mut requirement = Requirement::untested(subject, verdict, wanted.policies.clone());
    if verdict != Verdict::FileFetched {
        requirement.waiver = waiver(&requirement.testcase, None, &known.waivers, question);
    }
    requirement.file = Some(GatingFile { sources, why });
    Some(requirement)
}

#[cfg(test)]
mod tests {
    use super::super::PassingRule;
    use super::super::judge::decide;
    use super::*;
    use crate::decision::{Found, Waived};
    use crate::ids::Timestamp;

    type Made = fn((String, String)) -> RemoteFile;

    #[test]
    fn where_a_package_comes_from() {
        for (source, wanted) in [
            ("git+https://src.fedoraproject.org/rpms/bash.git#1a2b", Some(("rpms", "bash", "1a2b"))),
            ("git://pkgs.example.org/rpms/c++?#1a2b", Some(("rpms", "c++", "1a2b"))),
            ("git+https://x/a/b/modules/perl#1", Some(("modules", "perl", "1"))),
            ("https://x/bash#1", Some(("", "bash", "1"))),
            ("git+https://x/rpms/bash", None),
            ("git+https://x/rpms/bash#", None),
            ("git+https://x/../..#1", None),
            ("bash-5.3-1.src.rpm", None),
            ("cli-build/170.1/bash-5.3-1.src.rpm#", None),
        ] {
            let found = Origin::of(source);
            let found = found.as_ref().map(|one| (&*one.namespace, &*one.package, &*one.revision));
            assert_eq!(found, wanted, "{source}");
        }
    }

    #[test]
    fn addresses_are_made_of_templates() {
        let origin = Origin { namespace: "rpms".into(), package: "c++".into(), revision: "1a".into() };
        let subject = |item: &str| Subject { kind: "koji_build".into(), item: item.into() };
        let fedora = "https://src.example.org/{pkg_namespace}{pkg_name}/raw/{rev}/f/gating.yaml";
        let of =
            |template: &str, item: &str, origin: Option<&Origin>| address(template, &subject(item), origin);
        let wanted = Some("https://src.example.org/rpms/c%2B%2B/raw/1a/f/gating.yaml".to_owned());
        assert_eq!(of(fedora, "c++-1-1", Some(&origin)), wanted);
        assert_eq!(of(fedora, "c++-1-1", None), None);
        let image = of("http://x/{subject_id}", "sha256:ab/../c?d", None);
        assert_eq!(image.as_deref(), Some("http://x/ab%2F..%2Fc%3Fd"));
        assert_eq!(wrong_template(fedora), None);
        assert!(wrong_template("src.example.org/{rev}").is_some_and(|why| why.contains("is no address")));
        assert!(wrong_template("http://x/{branch}").is_some_and(|why| why.contains("pkg_namespace, rev")));
    }

    fn passing(testcase: &str, since: Option<i64>) -> Rule {
        let valid_since = since.map(Timestamp);
        Rule::Passing(PassingRule { testcase: testcase.into(), valid_since, ..PassingRule::default() })
    }

    fn policy(id: &str, contexts: &[&str], rules: Vec<Rule>) -> Policy {
        Policy {
            id: id.into(),
            product_versions: vec!["*".into()],
            contexts: contexts.iter().map(|context| (*context).to_owned()).collect(),
            subject_types: vec!["*".into()],
            rules,
            ..Policy::default()
        }
    }

    fn question(context: &str) -> Question {
        Question {
            product_version: "fedora-44".into(),
            contexts: vec![context.into()],
            subjects: vec![Subject { kind: "koji_build".into(), item: "bash-5-1".into() }],
            at: Timestamp(1_000),
            ..Question::default()
        }
    }

    fn remote(required: bool) -> Rule {
        Rule::Remote(RemoteRule { sources: Vec::new(), required })
    }

    fn known(file: RemoteFile) -> Known {
        Known { remote: [(Vec::new(), file)].into(), ..Known::default() }
    }

    fn said(policies: &Policies, question: &Question, known: Known) -> (String, Vec<String>) {
        let decision = decide(policies, question, &[known], &[]);
        let words = decision
            .requirements
            .iter()
            .map(|one| format!("{} {} by {}", one.word(), one.testcase, one.policies.join(" ")));
        (decision.summary(), words.collect())
    }

    #[test]
    fn a_package_brings_its_own_rules() {
        let policies = |required| Policies {
            policies: vec![
                policy("all", &["push", "other"], vec![passing("dist.lint", None), remote(required)]),
                policy("again", &["push"], vec![remote(false)]),
            ],
            ..Policies::default()
        };
        let own = vec![
            policy("", &["push"], vec![passing("pkg.unit", None)]),
            policy("mine", &["other"], vec![passing("pkg.other", None)]),
            Policy {
                product_versions: vec!["fedora-43".into()],
                ..policy("", &["push"], vec![passing("old", None)])
            },
        ];
        let read = known(RemoteFile::Read { source: "http://x".into(), policies: own });
        let fetched = "fetched-gating-yaml fetched-gating-yaml by all";
        let (summary, words) = said(&policies(true), &question("push"), read.clone());
        assert_eq!(summary, "Of 2 required tests, 2 results missing");
        let unit = "test-result-missing pkg.unit by all again";
        let fetched = format!("{fetched} again");
        assert_eq!(words, [fetched.as_str(), "test-result-missing dist.lint by all", unit]);
        let (_, words) = said(&policies(true), &question("other"), read);
        assert_eq!(
            words[1..],
            ["test-result-missing dist.lint by all", "test-result-missing pkg.other by mine"]
        );

        let absent = || known(RemoteFile::Absent { sources: vec!["http://x".into()] });
        let (summary, words) = said(&policies(false), &question("push"), absent());
        assert_eq!((summary.as_str(), words.len()), ("Of 1 required test, 1 result missing", 1));
        let (summary, words) = said(&policies(true), &question("push"), absent());
        assert_eq!(summary, "1 error due to missing remote rule file. Of 1 required test, 1 result missing");
        assert_eq!(words[0], "missing-gating-yaml missing-gating-yaml by all again");
    }

    #[test]
    fn a_broken_file_stops_until_somebody_waives_it() {
        let policies =
            Policies { policies: vec![policy("p", &["push"], vec![remote(false)])], ..Policies::default() };
        let why = || ("http://x".to_owned(), "it is broken".to_owned());
        let table: [(&str, Made, &str); 2] = [
            (
                "invalid-gating-yaml",
                |(source, why)| RemoteFile::Invalid { source, why },
                "invalid remote rule file",
            ),
            (
                "failed-fetch-gating-yaml",
                |(source, why)| RemoteFile::Unreachable { sources: vec![source], why },
                "failed fetch of remote rule file",
            ),
        ];
        for (word, file, words) in table {
            let (summary, found) = said(&policies, &question("push"), known(file(why())));
            assert_eq!(summary, format!("1 error due to {words}. No tests are required"));
            assert_eq!(found, [format!("{word} {word} by p")]);
            let waived = Waived {
                id: 1,
                testcase: word.into(),
                product_version: "fedora-44".into(),
                waived: true,
                ..Waived::default()
            };
            let known = Known { waivers: vec![waived], ..known(file(why())) };
            let decision = decide(&policies, &question("push"), &[known], &[]);
            assert!(decision.is_satisfied(), "{decision:?}");
            assert_eq!(decision.requirements[0].word(), format!("{word}-waived"));
            assert_eq!(decision.summary(), "No tests are required");
        }
        let (_, found) = said(&policies, &question("push"), Known::default());
        assert_eq!(found, ["failed-fetch-gating-yaml failed-fetch-gating-yaml by p"], "nobody has looked");
    }

    /// What was built before a rule was there need not fulfil it, whenever it is decided about.
    #[test]
    fn rules_count_by_the_time_of_the_build() {
        let dated = vec![passing("t", Some(500)), remote(false)];
        let policies = Policies { policies: vec![policy("p", &["push"], dated)], ..Policies::default() };
        let own = RemoteFile::Read {
            source: "http://x".into(),
            policies: vec![policy("", &["push"], vec![passing("own", Some(700))])],
        };
        let required = |built_at: Option<i64>| {
            let known = Known { built_at: built_at.map(Timestamp), ..known(own.clone()) };
            let (_, words) = said(&policies, &question("push"), known);
            words.len() - 1
        };
        assert_eq!([Some(499), Some(500), Some(700), None].map(required), [0, 1, 2, 2]);
        let question = question("push");
        let found = needs(&policies, &question, &question.subjects[0]);
        assert_eq!((found.built_at, found.files.len()), (true, 1));
        let plain = Policies {
            policies: vec![policy("p", &["push"], vec![passing("t", None)])],
            ..Policies::default()
        };
        assert!(needs(&plain, &question, &question.subjects[0]).is_empty());
        let asked = Question { rules: Some(vec![remote(true)]), contexts: Vec::new(), ..question };
        assert!(!needs(&plain, &asked, &asked.subjects[0]).is_empty());
        let found = Found { testcase: "own".into(), outcome: "PASSED".into(), ..Found::default() };
        let known = Known { results: vec![found], ..known(own) };
        let decision = decide(&plain, &asked, &[known], &[]);
        assert!(decision.is_satisfied() && decision.requirements.len() == 2, "{decision:?}");
    }
}
