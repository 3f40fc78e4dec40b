//! Which stanzas for many jobs a name fits, without trying them all.
//!
//! A real layout has hundreds of expressions and ten thousand names. Of most expressions a literal is known that every
//! match contains; one search of a name for all literals at once leaves the few that must be tried.

use super::job::Stanza;
use aho_corasick::{AhoCorasick, MatchKind};
use assay_engine::gate::pattern::Pattern;
use regex_syntax::hir::{Hir, HirKind};

/// Literals of one expression; more are not worth their place in the automaton.
const MAX_LITERALS: usize = 16;

/// The stanzas for many jobs, by their position in the file.
pub(super) struct Metajobs<'l> {
    all: Vec<(usize, &'l Stanza, &'l Pattern)>,
    /// Positions in `all` that have no literal.
    always: Vec<usize>,
    literals: Option<AhoCorasick>,
    /// By literal, the position in `all`.
    of_literal: Vec<usize>,
    candidates: Vec<usize>,
}

impl<'l> Metajobs<'l> {
    pub(super) fn new(stanzas: &'l [Stanza]) -> Self {
        let metas = stanzas.iter().enumerate();
        let all: Vec<_> =
            metas.filter_map(|(at, stanza)| Some((at, stanza, stanza.meta.as_ref()?))).collect();
        let (mut always, mut words, mut of_literal) = (Vec::new(), Vec::new(), Vec::new());
        for (at, (_, _, pattern)) in all.iter().enumerate() {
            match required_literals(pattern.as_str()) {
                Some(literals) => {
                    of_literal.extend(literals.iter().map(|_| at));
                    words.extend(literals);
                }
                None => always.push(at),
            }
        }
        let literals = AhoCorasick::builder().match_kind(MatchKind::Standard).build(&words).ok();
        if literals.is_none() {
            // Too large for an automaton: every expression is tried.
            always = (0..all.len()).collect();
        }
        Self { all, always, literals, of_literal, candidates: Vec::new() }
    }

    /// The stanzas that `name` fits, with their positions, in the order of the file.
    pub(super) fn fitting(&mut self, name: &str) -> impl Iterator<Item = (usize, &'l Stanza)> {
        self.candidates.clone_from(&self.always);
        if let Some(literals) = &self.literals {
            let found = literals.find_overlapping_iter(name);
            self.candidates.extend(found.map(|found| self.of_literal[found.pattern().as_usize()]));
        }
        self.candidates.sort_unstable();
        self.candidates.dedup();
        let fits = |at: &usize| self.all[*at].2.matches_start(name);
        self.candidates.iter().filter(move |at| fits(at)).map(|at| (self.all[*at].0, self.all[*at].1))
    }
}

/// Literals of which every match holds one. None if nothing is known.
fn required_literals(pattern: &str) -> Option<Vec<Vec<u8>>> {
    // What needs lookaround or back-references is not understood here, and is always tried.
    of_hir(&regex_syntax::parse(pattern).ok()?)
}

fn of_hir(hir: &Hir) -> Option<Vec<Vec<u8>>> {
    match hir.kind() {
        HirKind::Literal(literal) => Some(vec![literal.0.to_vec()]),
        HirKind::Capture(capture) => of_hir(&capture.sub),
        HirKind::Repetition(repetition) if repetition.min > 0 => of_hir(&repetition.sub),
        // The best of the parts: they must all match.
        HirKind::Concat(parts) => parts.iter().filter_map(of_hir).max_by_key(|literals| worth(literals)),
        // One of the branches matches, whichever: what all of them need.
        HirKind::Alternation(branches) => {
            let mut all = Vec::new();
            for branch in branches {
                all.extend(of_hir(branch)?);
                if all.len() > MAX_LITERALS {
                    return None;
                }
            }
            Some(all)
        }
        _ => None,
    }
}

/// Long literals are rare in names, few are better than many.
fn worth(literals: &[Vec<u8>]) -> (usize, usize) {
    (literals.iter().map(Vec::len).min().unwrap_or(0), usize::MAX - literals.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn literals(pattern: &str) -> Option<Vec<String>> {
        let found = required_literals(pattern)?;
        Some(found.into_iter().map(|literal| String::from_utf8(literal).expect("text")).collect())
    }

    #[test]
    fn literals_that_every_match_holds() {
        let some = |words: &[&str]| Some(words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        for (pattern, expected) in [
            ("^gate-.*-(python33|pypy)$", some(&["gate-"])),
            ("^.*-(jenkinsci|mavencentral|pypi)-upload$", some(&["-upload"])),
            ("^(gate|check)-tempest-dsvm$", some(&["-tempest-dsvm"])),
            ("^(gate|check)$", some(&["gate", "check"])),
            ("^.*$", None),
            ("^(a|)$", None),
            ("^(?!x).*-abc$", None),
            ("^(?i)abc", None),
            ("^(abc)+d?", some(&["abc"])),
        ] {
            assert_eq!(literals(pattern), expected, "{pattern}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        /// The search leaves out nothing that fits.
        #[test]
        fn as_if_all_were_tried(
            patterns in prop::collection::vec("\\^(a|ab|\\(a\\|b\\)|\\(b\\|ca\\)\\+|\\.\\*|c\\?|-){0,5}\\$?", 0..12),
            names in prop::collection::vec("[abc-]{0,6}", 0..8),
        ) {
            let stanzas: Vec<Stanza> = patterns
                .iter()
                .map(|pattern| Stanza {
                    name: pattern.as_str().into(),
                    place: crate::diagnostic::Place::default(),
                    meta: Pattern::new(pattern).ok(),
                    set: super::super::job::Attributes::default(),
                })
                .collect();
            let mut metajobs = Metajobs::new(&stanzas);
            for name in &names {
                let found: Vec<usize> = metajobs.fitting(name).map(|(at, _)| at).collect();
                let fits = |at: &usize| stanzas[*at].meta.as_ref().is_some_and(|meta| meta.matches_start(name));
                let naive: Vec<usize> = (0..stanzas.len()).filter(fits).collect();
                prop_assert_eq!(found, naive);
            }
        }
    }
}
