//! Literals that can be checked without a machine: keys, patterns, words of fixed lists; and the tags in use.

use super::{Checks, File};
use crate::parse::place;
use crate::reference;
use crate::suggest::did_you_mean;
use crate::walk::{CallSite, Callee, bind};
use crate::words;
use assay_proto::diagnostic::Diagnostic;
use serde::Serialize;
use starlark::syntax::ast::{AstExpr, AstLiteral, ExprP};

/// A call that looks for needles, found without running the test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TagUse {
    /// The tag sets that can be read off the source; each is words separated by blanks.
    pub tags: Vec<String>,
    /// True if these are all; false if some are computed, so that nothing can be said about needles that seem unused.
    pub literal: bool,
    /// The call, for example `assert_screen`.
    pub call: String,
    /// Relative to the test directory.
    pub file: String,
    /// From 1.
    pub line: u32,
    /// From 1.
    pub column: u32,
}

pub(super) fn check(file: &File<'_>, checks: &Checks, into: &mut Vec<Diagnostic>) -> Vec<TagUse> {
    let mut tags = Vec::new();
    for call in &file.facts.calls {
        let Callee::Machine(method) = &call.callee else { continue };
        let Some(info) = reference::find(&method.node) else { continue };
        let names: Vec<&str> = info.params().map(|(name, _)| name).collect();
        let bound = bind(call.args, &names);
        for (parameter, expr) in &bound {
            literal(file, checks, &bound, parameter, expr, into);
        }
        let looked: Vec<&AstExpr> = bound
            .iter()
            .filter(|(name, expr)| names_tags(info.name, name, expr))
            .map(|(_, expr)| *expr)
            .collect();
        if !looked.is_empty() {
            tags.push(tag_use(file, call, info.name, &looked));
        }
    }
    tags
}

/// Does this argument name needles by their tags?
fn names_tags(call: &str, parameter: &str, expr: &AstExpr) -> bool {
    match parameter {
        "tags" | "tag" => true,
        "start" | "end" if call == "mouse_drag" => !matches!(expr.node, ExprP::Tuple(_)),
        _ => false,
    }
}

fn tag_use(file: &File<'_>, call: &CallSite<'_>, name: &str, looked: &[&AstExpr]) -> TagUse {
    let (mut tags, mut literal) = (Vec::new(), true);
    for expr in looked {
        let (texts, complete) = file.facts.texts(expr);
        tags.extend(texts.into_iter().map(|(text, _)| text));
        literal &= complete;
    }
    let (line, column) = place(file.codemap, call.span);
    TagUse { tags, literal, call: name.to_owned(), file: file.name.to_owned(), line, column }
}

fn is_true(expr: &AstExpr) -> bool {
    matches!(&expr.node, ExprP::Identifier(name) if name.node.ident == "True")
}

fn literal(
    file: &File<'_>,
    checks: &Checks,
    bound: &[(&str, &AstExpr)],
    parameter: &str,
    expr: &AstExpr,
    into: &mut Vec<Diagnostic>,
) {
    if let (Some(known), ExprP::Literal(AstLiteral::String(word))) = (words::allowed(parameter), &expr.node)
        && !known.contains(&word.node.as_str())
    {
        let message = format!("`{parameter}` cannot be {:?}", word.node);
        let found = file.error("unknown-word", word.span, message);
        into.push(match did_you_mean(&word.node, known.iter().copied()) {
            Some(help) => found.help(help),
            None => found,
        });
    }
    let plain = bound.iter().any(|(name, expr)| *name == "no_regex" && is_true(expr));
    let (check, code) = match parameter {
        "key" => (checks.key, "unknown-key"),
        "patterns" if !plain => (checks.pattern, "wrong-pattern"),
        _ => return,
    };
    let Some(check) = check else { return };
    for (text, span) in file.facts.texts(expr).0 {
        if let Err(message) = check(&text) {
            into.push(file.error(code, span, message));
        }
    }
}
