//! The static check of one file: Starlark's type checker, its lints, and the rules that make both worth their name.

mod growth;
mod literals;
mod rules;
mod typing;

pub use literals::TagUse;

use crate::parse::{one_line, place};
use crate::walk::{Facts, FunctionDef, parameters};
use assay_proto::diagnostic::Diagnostic;
use starlark::analysis::AstModuleLint as _;
use starlark::codemap::{CodeMap, Span};
use starlark::syntax::AstModule;
use starlark::typing::Interface;
use std::collections::{BTreeMap, HashMap};

/// A check of a literal: `Err` says what is wrong with it.
pub type LiteralCheck = fn(&str) -> Result<(), String>;

/// Checks of literals that only others can make: the machine's driver knows its keys, the serial console its patterns.
#[derive(Debug, Clone, Copy, Default)]
pub struct Checks {
    /// Of `send_key` and its relatives.
    pub key: Option<LiteralCheck>,
    /// Of `wait_serial`, unless `no_regex`.
    pub pattern: Option<LiteralCheck>,
}

/// Parameter names of the functions that a file defines at its top; without those that take any argument.
pub(crate) type Functions = BTreeMap<String, Vec<String>>;

/// What a file that was loaded offers.
pub(crate) struct Offer {
    pub(crate) interface: Interface,
    pub(crate) functions: Functions,
}

/// The file under test.
pub(crate) struct File<'a> {
    pub(crate) name: &'a str,
    pub(crate) codemap: &'a CodeMap,
    pub(crate) facts: &'a Facts<'a>,
    /// In `tests/`, where `test()` and `run` must be.
    pub(crate) is_test: bool,
    /// By the name that `load` uses.
    pub(crate) loads: &'a HashMap<String, Offer>,
}

impl File<'_> {
    fn error(&self, code: &str, span: Span, message: impl Into<String>) -> Diagnostic {
        let (line, column) = place(self.codemap, span);
        Diagnostic::error(code, self.name, message).at(line, column)
    }

    fn warning(&self, code: &str, span: Span, message: impl Into<String>) -> Diagnostic {
        let (line, column) = place(self.codemap, span);
        Diagnostic::warning(code, self.name, message).at(line, column)
    }

    /// The parameter names of a function that is called by its plain name.
    fn parameters_of(&self, name: &str) -> Option<Vec<String>> {
        let own = self.facts.functions.iter().rev().find(|function| function.name == name);
        if let Some(own) = own {
            return closed_parameters(own);
        }
        let load = self.facts.loads.iter().find(|load| load.local == name)?;
        self.loads.get(load.file)?.functions.get(name).cloned()
    }
}

/// What came of the check.
pub(crate) struct Checked {
    pub(crate) diagnostics: Vec<Diagnostic>,
    pub(crate) tags: Vec<TagUse>,
    pub(crate) offer: Offer,
}

/// Checks one file; everything is reported at once.
pub(crate) fn check(file: &File<'_>, ast: &AstModule, checks: &Checks) -> Checked {
    let (mut diagnostics, interface) = typing::check(file, ast);
    rules::check(file, &mut diagnostics);
    lints(file, ast, &mut diagnostics);
    let tags = literals::check(file, checks, &mut diagnostics);
    let functions = file.facts.functions.iter().filter(|function| function.top);
    let functions = functions
        .filter_map(|function| Some((function.name.to_owned(), closed_parameters(function)?)))
        .collect();
    Checked { diagnostics, tags, offer: Offer { interface, functions } }
}

/// The parameter names, unless the function takes any by `*args` or `**kwargs`.
fn closed_parameters(function: &FunctionDef<'_>) -> Option<Vec<String>> {
    parameters(function.params).map(|param| (!param.rest).then(|| param.name.to_owned())).collect()
}

/// Starlark's own lints, as far as they find mistakes and not matters of taste.
fn lints(file: &File<'_>, ast: &AstModule, into: &mut Vec<Diagnostic>) {
    for lint in ast.lint(None) {
        let help = match lint.short_name.as_str() {
            "no-effect" => "remove it, or use its value",
            "unreachable" => "remove it, or what ends the function before it",
            "missing-return" => "end every way through the function with `return`",
            "duplicate-key" => "remove one of the two",
            _ => continue,
        };
        let message = match lint.short_name.as_str() {
            "no-effect" => format!("`{}` does nothing", one_line(&lint.original)),
            "unreachable" => "this line is never reached".to_owned(),
            _ => one_line(&lint.problem),
        };
        into.push(file.warning(&lint.short_name, lint.location.span, message).help(help));
    }
}
