//! Which stanzas for many jobs a name fits, without trying them all.
//!
//! A real layout has hundreds of expressions and ten thousand names. Of most expressions a literal is known that every
//! match contains; one search of a name for all literals at once leaves the few that must be tried.

use super::job::Stanza;
use aho_corasick::{AhoCorasick, MatchKind};
use assay_engine::gate::pattern::Pattern;
use regex_syntax::hir::{Hir, HirKind};
use std::collections::HashMap;

/// Literals of one expression; more are not worth their place in the automaton.
const MAX_LITERALS: usize = 16;

/// Expressions that every name fits.
const EVERYTHING: [&str; 4] = ["^", "^.*", "^.*$", "^(.*)$"];

/// The stanzas for many jobs, by their position in the file.
pub(super) struct Metajobs<'l> {
    all: Vec<(usize, &'l Stanza, &'l Pattern)>,
    /// Positions in `all` that have no literal.
    always: Vec<usize>,
    literals: Option<AhoCorasick>,
    /// By literal, the positions in `all`.
    of_literal: Vec<Vec<usize>>,
    candidates: Vec<usize>,
}

impl<'l> Metajobs<'l> {
    pub(super) fn new(stanzas: &'l [Stanza]) -> Self {
        let metas = stanzas.iter().enumerate();
        let all: Vec<_> =
            metas.filter_map(|(at, stanza)| Some((at, stanza, stanza.meta.as_ref()?))).collect();
        let choices: Vec<Vec<Literals>> =
            all.iter().map(|(_, _, pattern)| choices(pattern.as_str())).collect();
        // What many expressions have in common, many names have.
        let mut popularity: HashMap<&[u8], usize> = HashMap::new();
        for literal in choices.iter().flatten().flatten() {
            *popularity.entry(literal).or_default() += 1;
        }
        let mut always = Vec::new();
        let mut by_text: HashMap<&[u8], Vec<usize>> = HashMap::new();
        for (at, choices) in choices.iter().enumerate() {
            match choices.iter().min_by_key(|literals| cost(literals, &popularity)) {
                Some(literals) => {
                    for literal in literals {
                        by_text.entry(literal).or_default().push(at);
                    }
                }
                None => always.push(at),
            }
        }
        let (words, of_literal): (Vec<&[u8]>, Vec<Vec<usize>>) = by_text.into_iter().unzip();
        let literals = AhoCorasick::builder().match_kind(MatchKind::Standard).build(words).ok();
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
            for found in literals.find_overlapping_iter(name) {
                self.candidates.extend(&self.of_literal[found.pattern().as_usize()]);
            }
        }
        self.candidates.sort_unstable();
        self.candidates.dedup();
        let fits = |at: &usize| {
            let pattern = self.all[*at].2;
            EVERYTHING.contains(&pattern.as_str()) && !name.contains('\n') || pattern.matches_start(name)
        };
        self.candidates.iter().filter(move |at| fits(at)).map(|at| (self.all[*at].0, self.all[*at].1))
    }
}

/// Literals of which every match holds one.
type Literals = Vec<Vec<u8>>;

/// All that is known of an expression's matches.
fn choices(pattern: &str) -> Vec<Literals> {
    let mut found = Vec::new();
    // What needs lookaround or back-references is not understood here, and is always tried.
    if let Ok(hir) = regex_syntax::parse(pattern) {
        of_hir(&hir, &mut found);
    }
    found
}

/// Adds what every match of `hir` holds; each entry by itself is true of every match.
fn of_hir(hir: &Hir, found: &mut Vec<Literals>) {
    match hir.kind() {
        HirKind::Literal(literal) => found.push(vec![literal.0.to_vec()]),
        HirKind::Capture(capture) => of_hir(&capture.sub, found),
        HirKind::Repetition(repetition) if repetition.min > 0 => of_hir(&repetition.sub, found),
        HirKind::Concat(parts) => parts.iter().for_each(|part| of_hir(part, found)),
        // One of the branches matches, whichever: the longest of each.
        HirKind::Alternation(branches) => {
            let mut all = Vec::new();
            for branch in branches {
                let mut inner = Vec::new();
                of_hir(branch, &mut inner);
                let shortest = |literals: &Literals| literals.iter().map(Vec::len).min();
                let Some(best) = inner.into_iter().max_by_key(shortest) else { return };
                all.extend(best);
                if all.len() > MAX_LITERALS {
                    return;
                }
            }
            found.push(all);
        }
        _ => {}
    }
}

/// Less for what fewer names hold: literals of some length, that few expressions have in common.
fn cost(literals: &Literals, popularity: &HashMap<&[u8], usize>) -> (bool, usize, usize) {
    let shortest = literals.iter().map(Vec::len).min().unwrap_or(0);
    let popular = literals.iter().filter_map(|literal| popularity.get(literal.as_slice())).sum();
    (shortest < 3, popular, usize::MAX - shortest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn literals(pattern: &str) -> Vec<String> {
        let text = |literal: &Vec<u8>| String::from_utf8(literal.clone()).expect("text");
        let choice = |literals: &Literals| literals.iter().map(text).collect::<Vec<_>>().join("|");
        choices(pattern).iter().map(choice).collect()
    }

    #[test]
    fn literals_that_every_match_holds() {
        for (pattern, expected) in [
            ("^gate-.*-(python33|pypy)$", &["gate-", "-", "python33|pypy"] as &[&str]),
            ("^.*-(jenkinsci|mavencentral|pypi)-upload$", &["-", "jenkinsci|mavencentral|pypi", "-upload"]),
            ("^(gate|check)-tempest-dsvm$", &["gate|check", "-tempest-dsvm"]),
            ("^.*$", &[]),
            ("^(a|)$", &[]),
            ("^(?!x).*-abc$", &[]),
            ("^(?i)abc", &[]),
            ("^(abc)+d?", &["abc"]),
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
