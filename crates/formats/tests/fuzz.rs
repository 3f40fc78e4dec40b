//! Whatever is thrown at the readers: they end, soon, without panic, and say why they refuse.

use assay_formats::diagnostic::{Diagnostic, Sink};
use assay_formats::yaml::{Dialect, Rules, parse};
use assay_formats::{assay, task_header, zuul};
use proptest::prelude::*;

const LAYOUT: &str = include_str!("layouts/everything.yaml");
const WRONG: &str = include_str!("layouts/wrong.yaml");
const GATING: &str = include_str!("../../../docs/gating.md");

/// All readers; what they refuse they explain, and what they take they can write.
fn read(text: &str) {
    let explained = |taken: bool, found: &[Diagnostic]| {
        assert_eq!(taken, !found.iter().any(Diagnostic::is_error), "{found:#?}");
        for diagnostic in found {
            assert!(
                !diagnostic.message.is_empty()
                    && diagnostic.excerpt.as_ref().is_none_or(|it| it.len() < 2000)
            );
        }
    };
    let import = zuul::import(text, "f", &zuul::Options::default());
    explained(import.config.is_some(), &import.diagnostics);
    let loaded = assay::load(&[("f", text)]);
    explained(loaded.config.is_some(), &loaded.diagnostics);
    for config in [import.config, loaded.config].into_iter().flatten() {
        let files = assay::to_files(&config);
        let sources: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
        let again = assay::load(&sources);
        let read = again.config.unwrap_or_else(|| panic!("{files:#?}\n{:#?}", again.diagnostics));
        assert_eq!(
            (read.pipelines, read.projects, read.jobs),
            (config.pipelines, config.projects, config.jobs)
        );
    }
    let (header, found) = task_header::load("f", text);
    explained(header.is_some(), &found);
    for dialect in [Dialect::Yaml11, Dialect::Yaml12] {
        let mut sink = Sink::default();
        let file = sink.add_file("f", text);
        parse(text, file, Rules { dialect, own_tags: true }, &mut sink);
    }
}

/// A file with some of its lines, or pieces of them, replaced, doubled, moved or left out.
fn mutated(text: &'static str) -> impl Strategy<Value = String> {
    let edit = (
        any::<prop::sample::Index>(),
        0..9_u8,
        any::<prop::sample::Index>(),
        "[-:{}\\[\\]&*!|>'\" a1#,?\t\u{0}é]{0,4}",
    );
    prop::collection::vec(edit, 1..6).prop_map(move |edits| {
        let mut lines: Vec<String> = text.lines().map(ToOwned::to_owned).collect();
        for (at, kind, other, piece) in edits {
            let (at, other) = (at.index(lines.len()), other.index(lines.len()));
            match kind {
                0 => {
                    lines.remove(at);
                }
                1 => lines.insert(at, lines[other].clone()),
                2 => lines.swap(at, other),
                3 => lines[at] = piece,
                4 => lines[at] = lines[at].trim_start().into(),
                5 => lines[at].insert_str(0, "  "),
                6 => lines[at] += &piece,
                _ => {
                    let cut = lines[at].char_indices().map(|(at, _)| at).nth(other % 20).unwrap_or(0);
                    lines[at].insert_str(cut, &piece);
                }
            }
            if lines.is_empty() {
                lines.push(String::new());
            }
        }
        lines.join("\n")
    })
}

fn example() -> &'static str {
    GATING.split("```yaml\n").nth(2).and_then(|block| block.split("```").next()).expect("an example")
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn any_text(text in "[ -~\n\t\r\u{0}\u{85}é\u{feff}]{0,400}") {
        read(&text);
    }

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        read(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn yaml_like_text(text in "([ -]{0,4}(a|b|&x|\\*x|<<|'|\"|\\{|\\}|\\[|\\]|: |,|\\||>|!t|#|\\?|%|---|\\.\\.\\.|\n){1,6}\n){0,30}") {
        read(&text);
    }

    #[test]
    fn mutated_layouts(text in mutated(LAYOUT)) {
        read(&text);
    }

    #[test]
    fn mutated_wrong_layouts(text in mutated(WRONG)) {
        read(&text);
    }

    #[test]
    fn mutated_examples(text in mutated(example())) {
        read(&text);
    }

    /// Any text survives being written and read, wherever it stands.
    #[test]
    fn texts_survive(text in "[ -~\n\t\r\u{1}\u{7f}\u{85}é\u{2028}\u{feff}]{0,40}", words in "[ a-z:#'\\-\n]{0,30}") {
        for text in [text, words] {
            let quoted = serde_json::Value::from(text.as_str()).to_string();
            let source = format!("pipelines:\n- name: p\n  manager: serial\n  trigger: []\n  description: {quoted}\n  messages: {{footer: {quoted}}}\n");
            read(&source);
        }
    }
}

/// The lines of so many numbers.
fn each(many: usize, line: impl Fn(usize) -> String) -> String {
    (0..many).map(line).collect::<Vec<_>>().concat()
}

/// Inputs whose reading could cost far more than their size.
#[test]
fn what_grows() {
    let many = 20_000;
    let bomb = (1..40).fold("a0: &a0 [x, x]\n".to_owned(), |text, at| {
        text + &format!("a{at}: &a{at} [*a{0}, *a{0}]\n", at - 1)
    });
    let merges = (1..60).fold("m0: &m0 {k0: 1}\n".to_owned(), |text, at| {
        text + &format!("m{at}: &m{at} {{<<: [*m{0}, *m{0}], k{at}: 1}}\n", at - 1)
    });
    let unknown = each(many, |at| format!("key{at}: 1\n"));
    let misspelt = each(many, |at| format!("  - jub{at}\n"));
    let jobs = each(many, |at| format!("  job{at}: {{run: x}}\n"));
    let level = each(many, |at| format!("    - j{at}\n"));
    let pipelines = "pipelines:\n- {name: check, manager: IndependentPipelineManager, trigger: {}}\n";
    for text in [
        bomb,
        merges,
        unknown,
        format!("pipelines: [check]\nprojects:\n  p:\n   check:\n{misspelt}jobs:\n{jobs}"),
        format!("{pipelines}projects:\n- name: p\n  check:\n{level}"),
        format!("{pipelines}jobs:\n- name: ^((a{{1000}}){{1000}}){{1000}}$\nprojects: []\n"),
        format!(
            "{pipelines}jobs:\n- name: ^(?=(a+)+b)\nprojects:\n- {{name: p, check: [{}]}}\n",
            "a".repeat(3000)
        ),
        "[".repeat(many),
        "{a: ".repeat(many),
        "- ".repeat(many),
        "? ".repeat(many),
        "&a ".repeat(many),
        "a:\n".repeat(many),
        "\"".to_owned() + &"\\".repeat(many),
        "'".repeat(many),
        "a: |\n".to_owned() + &" \n".repeat(many),
        "#".repeat(many),
        "\t".repeat(many),
        "--- ".repeat(many),
        "%YAML 1.1\n".repeat(many),
        "*a ".repeat(many),
        "!".repeat(many),
        "a ".repeat(many),
    ] {
        read(&text);
    }
}
