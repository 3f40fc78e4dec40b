//! A large layout made by rule: used by the tests here and by `cargo xtask bench import`.

use std::fmt::Write;

/// Stanzas for many jobs, as many as OpenStack had in 2017.
const STANZAS: usize = 350;
/// Kinds of jobs that templates name.
const KINDS: [&str; 6] = ["pep8", "docs", "python27", "python35", "coverage", "releasenotes"];

/// A layout of so many projects, each with a template; some share jobs with their neighbours.
pub(crate) fn layout(projects: usize) -> String {
    let mut text = String::from(HEAD);
    for kind in KINDS {
        let _ = write!(
            text,
            "  - name: {kind}-jobs\n    check:\n      - gate-{{name}}-{kind}\n      - gate-{{name}}-unit\n"
        );
        let _ = write!(text, "    gate:\n      - gate-{{name}}-{kind}\n      - gate-{{name}}-unit\n");
        let _ =
            write!(text, "    post:\n      - '{{name}}-{kind}-publish':\n          - '{{name}}-announce'\n");
    }
    text += "jobs:\n  - name: ^.*$\n    parameter-function: single_use_node\n";
    for number in 0..STANZAS {
        let kind = KINDS[number % KINDS.len()];
        let _ = match number % 4 {
            0 => writeln!(text, "  - name: ^gate-p{number}(1|2|3).*-{kind}$\n    voting: false"),
            1 => writeln!(text, "  - name: ^(gate|check)-p{number}-.*$\n    branch: ^(?!stable/{number}).*$"),
            2 => writeln!(text, "  - name: ^.*-p{number}-{kind}(-nv)?$\n    files:\n      - ^src{number}/"),
            _ => writeln!(text, "  - name: ^p{number}-.*-publish$\n    tags: t{number}"),
        };
    }
    text += "projects:\n";
    for number in 0..projects {
        let kind = KINDS[number % KINDS.len()];
        let _ = write!(text, "  - name: org/p{number}\n    template:\n      - name: {kind}-jobs\n");
        // Groups of five share a queue.
        if number % 50 < 5 {
            let _ = write!(text, "    gate:\n      - integrated-{}\n", number / 50);
        }
    }
    text
}

const HEAD: &str = "\
pipelines:
  - name: check
    manager: IndependentPipelineManager
    trigger:
      gerrit:
        - event: patchset-created
    success:
      gerrit: {verified: 1}
    failure:
      gerrit: {verified: -1}
  - name: gate
    manager: DependentPipelineManager
    trigger:
      gerrit:
        - event: comment-added
          approval:
            - approved: 1
    success:
      gerrit: {verified: 2, submit: true}
    failure:
      gerrit: {verified: -2}
  - name: post
    manager: IndependentPipelineManager
    trigger:
      gerrit:
        - event: ref-updated
          ref: ^(?!refs/).*$
project-templates:
";
