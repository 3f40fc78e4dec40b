//! Starlark's type checker, with messages that name the remedy; and the same questions for lambdas, whose bodies
//! the type checker does not enter.

use super::{File, growth};
use crate::api::globals;
use crate::parse::{from_starlark, parse, place};
use crate::reference::{self, ABSENT};
use crate::suggest::did_you_mean;
use crate::walk::{CallSite, Callee, bind};
use assay_proto::diagnostic::Diagnostic;
use starlark::codemap::Span;
use starlark::syntax::AstModule;
use starlark::syntax::ast::{ArgumentP, AstLiteral, ExprP};
use starlark::typing::{AstModuleTypecheck as _, Interface};
use std::collections::HashMap;

pub(super) fn check(file: &File<'_>, ast: &AstModule) -> (Vec<Diagnostic>, Interface) {
    let loads: HashMap<String, Interface> =
        file.loads.iter().map(|(name, offer)| (name.clone(), offer.interface.clone())).collect();
    let widened = growth::declared(ast, file.codemap.source());
    let widened = widened.and_then(|(text, insertions)| Some((parse(file.name, text).ok()?, insertions)));
    let (shown, insertions) = widened.unwrap_or_else(|| (ast.clone(), growth::Insertions::default()));
    let (errors, _, interface, _) = shown.typecheck(globals(), &loads);
    let mut diagnostics: Vec<Diagnostic> = errors
        .iter()
        .map(|error| {
            let span = error.span().map(|span| insertions.original(span.span));
            explain(file, error, span)
        })
        .collect();
    for call in file.facts.calls.iter().filter(|call| call.unchecked) {
        unchecked_call(file, call, &mut diagnostics);
    }
    (diagnostics, interface)
}

/// The pieces of `text` that stand in backticks.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// Starlark's sentence in the words of a test author.
fn explain(file: &File<'_>, error: &starlark::Error, span: Option<Span>) -> Diagnostic {
    let (line, column) = span.map_or((0, 0), |span| place(file.codemap, span));
    let plain = from_starlark("type", file.name, error).at(line, column);
    let text = plain.message.trim_start_matches("Internal error: ").to_owned();
    let words = quoted(&text);
    let new = |code: &str, message: String| Diagnostic::error(code, file.name, message).at(line, column);
    match (words.as_slice(), text.split('`').next().unwrap_or_default().trim_end()) {
        ([attr, "Machine", ..], "The attribute") => unknown_call(new, attr),
        ([attr, ty, ..], "The attribute") => {
            new("unknown-attribute", format!("{} has no `{attr}`", article(ty)))
                .maybe_help(did_you_mean(attr, attributes(ty)))
        }
        ([name, ..], "Unexpected parameter named") => {
            let call = span.and_then(|span| enclosing(file, span));
            let known = call.and_then(|call| known_parameters(file, call)).unwrap_or_default();
            let of = call.and_then(callee_name).map(|name| format!("`{name}`"));
            let of = of.unwrap_or_else(|| "the function".to_owned());
            new("unknown-argument", format!("{of} has no argument `{name}`"))
                .maybe_help(did_you_mean(name, known.iter().map(String::as_str)))
        }
        ([name, ..], "Missing required parameter") => {
            let call = span.and_then(|span| file.facts.calls.iter().find(|call| call.span == span));
            let of = call.and_then(callee_name).unwrap_or("the function");
            new("missing-argument", format!("`{of}` needs the argument `{name}`"))
                .maybe_help(call.and_then(|call| signature(file, call)))
        }
        ([], "Too many positional arguments") => {
            let call = span.and_then(|span| enclosing(file, span));
            let of = call.and_then(callee_name).unwrap_or("the function");
            new("too-many-arguments", format!("`{of}` takes fewer arguments"))
                .maybe_help(call.and_then(|call| signature(file, call)))
        }
        ([want, got], "Expected type") => wrong_type(file, span, &new, want, got),
        ([name, rest @ ..], "Variable") => {
            // Starlark's own nearest name knows the variables of the function; ours knows the calls of the machine.
            let machine = reference::names().chain(ABSENT.iter().copied()).any(|call| call == *name);
            let help = match rest {
                _ if machine => Some(format!("calls are made to the machine: `t.{name}(...)`")),
                [near, ..] => Some(format!("did you mean `{near}`?")),
                [] => did_you_mean(name, file.facts.functions.iter().map(|function| function.name)),
            };
            new("unknown-name", format!("there is no `{name}`")).maybe_help(help)
        }
        ([name, rest @ ..], "Module has no symbol") => {
            new("unknown-load", format!("the file has no `{name}`"))
                .maybe_help(rest.first().map(|near| format!("did you mean `{near}`?")))
        }
        (_, "Multiple arguments bound to parameter") => {
            new("twice", "an argument is given twice, by place and by name".to_owned())
                .help("remove one of the two")
        }
        _ => plain,
    }
}

trait MaybeHelp {
    fn maybe_help(self, help: Option<String>) -> Self;
}

impl MaybeHelp for Diagnostic {
    fn maybe_help(self, help: Option<String>) -> Self {
        match help {
            Some(help) => self.help(help),
            None => self,
        }
    }
}

/// `an int`, `a Match`.
fn article(ty: &str) -> String {
    let vowel = ty.starts_with(['a', 'e', 'i', 'o', 'A', 'E']);
    format!("{} {ty}", if vowel { "an" } else { "a" })
}

fn unknown_call(new: impl Fn(&str, String) -> Diagnostic, name: &str) -> Diagnostic {
    let found = new("unknown-call", format!("the machine has no call `{name}`"));
    if ABSENT.contains(&name) {
        return found
            .help("openQA has it, Assay does not yet; use type_string or enter_cmd with wait_serial");
    }
    found.maybe_help(did_you_mean(name, reference::names()))
}

/// What can be asked of our own values; Starlark's types keep their secrets.
fn attributes(ty: &str) -> Vec<&'static str> {
    let of = |one: &str| -> &'static [&'static str] {
        match one {
            "Match" => &["needle", "tags", "error", "areas"],
            "Area" => &["x", "y", "w", "h", "similarity"],
            "Attempt" => &["ok", "value", "error"],
            "str" => &[
                "capitalize",
                "count",
                "endswith",
                "find",
                "format",
                "index",
                "isalnum",
                "isalpha",
                "isdigit",
                "islower",
                "isspace",
                "istitle",
                "isupper",
                "join",
                "lower",
                "lstrip",
                "partition",
                "removeprefix",
                "removesuffix",
                "replace",
                "rfind",
                "rindex",
                "rpartition",
                "rsplit",
                "rstrip",
                "split",
                "splitlines",
                "startswith",
                "strip",
                "title",
                "upper",
            ],
            _ if one.starts_with("list") => {
                &["append", "clear", "extend", "index", "insert", "pop", "remove"]
            }
            _ if one.starts_with("dict") => {
                &["clear", "get", "items", "keys", "pop", "setdefault", "update", "values"]
            }
            _ => &[],
        }
    };
    ty.split(" | ").flat_map(of).copied().collect()
}

fn wrong_type(
    file: &File<'_>,
    span: Option<Span>,
    new: &impl Fn(&str, String) -> Diagnostic,
    want: &str,
    got: &str,
) -> Diagnostic {
    let argument = span.and_then(|span| argument_at(file, span));
    let message = match argument {
        Some((call, parameter)) => format!("`{parameter}` of `{call}` must be {want}, not {got}"),
        None => format!("this must be {want}, not {got}"),
    };
    let found = new("wrong-type", message);
    if want.contains("Callable") {
        return found.help("give the function itself, without calling it: `lambda: t.check_screen(\"tag\")`");
    }
    match (want.contains("str"), want.contains("int") || want.contains("float"), got) {
        (true, _, "int" | "float") => found.help("put it into quotes"),
        (false, true, "str") => found.help("write the number without quotes"),
        _ if got.contains("None") => found.help("test it for `None` first"),
        _ => found,
    }
}

fn callee_name<'a>(call: &CallSite<'a>) -> Option<&'a str> {
    match &call.callee {
        Callee::Machine(method) => Some(&method.node),
        Callee::Name(name) => Some(&name.node.ident),
        Callee::Other => None,
    }
}

/// The names of the parameters of whatever is called here.
fn known_parameters(file: &File<'_>, call: &CallSite<'_>) -> Option<Vec<String>> {
    match &call.callee {
        Callee::Machine(method) => {
            Some(reference::find(&method.node)?.params().map(|(name, _)| name.to_owned()).collect())
        }
        Callee::Name(name) if name.node.ident == "test" => {
            Some(["name", "fatal", "ignore_failure", "always_run", "timeout"].map(str::to_owned).to_vec())
        }
        Callee::Name(name) => file.parameters_of(&name.node.ident),
        Callee::Other => None,
    }
}

fn signature(file: &File<'_>, call: &CallSite<'_>) -> Option<String> {
    Some(format!("its arguments are: {}", known_parameters(file, call)?.join(", ")))
}

/// The innermost call whose argument list has this span.
fn enclosing<'f, 'a>(file: &'f File<'a>, span: Span) -> Option<&'f CallSite<'a>> {
    let has =
        |call: &&CallSite<'a>| call.args.iter().any(|arg| arg.span == span || arg.node.expr().span == span);
    file.facts.calls.iter().filter(has).max_by_key(|call| call.span.begin())
}

/// Call and parameter to which the expression at `span` is given.
fn argument_at(file: &File<'_>, span: Span) -> Option<(String, String)> {
    let call = enclosing(file, span)?;
    let known = known_parameters(file, call)?;
    let names: Vec<&str> = known.iter().map(String::as_str).collect();
    let (parameter, _) = bind(call.args, &names).into_iter().find(|(_, expr)| {
        // The checker marks a named argument as a whole.
        let whole = call.args.iter().find(|arg| arg.node.expr().span == expr.span).map(|arg| arg.span);
        expr.span == span || whole == Some(span)
    })?;
    Some((callee_name(call)?.to_owned(), parameter.to_owned()))
}

/// Names of call and arguments, number of arguments, and types of literals, for a call that the type checker misses.
fn unchecked_call(file: &File<'_>, call: &CallSite<'_>, into: &mut Vec<Diagnostic>) {
    let at = |span: Span| {
        let (line, column) = place(file.codemap, span);
        move |code: &str, message: String| Diagnostic::error(code, file.name, message).at(line, column)
    };
    let info = match &call.callee {
        Callee::Machine(method) => match reference::find(&method.node) {
            Some(info) => Some(info),
            None => return into.push(unknown_call(at(method.span), &method.node)),
        },
        _ => None,
    };
    let (Some(known), Some(of)) = (known_parameters(file, call), callee_name(call)) else { return };
    let spread = call.args.iter().any(|arg| matches!(arg.node, ArgumentP::Args(_) | ArgumentP::KwArgs(_)));
    let positional = call.args.iter().filter(|arg| matches!(arg.node, ArgumentP::Positional(_)));
    let (allowed, message) = match of {
        "test" => (0, "`test` takes named arguments only".to_owned()),
        _ => (known.len(), format!("`{of}` takes fewer arguments")),
    };
    if let Some(extra) = positional.clone().nth(allowed) {
        into.push(at(extra.span)("too-many-arguments", message).maybe_help(signature(file, call)));
    }
    let names: Vec<&str> = known.iter().map(String::as_str).collect();
    let bound = bind(call.args, &names);
    for arg in call.args {
        if let ArgumentP::Named(name, _) = &arg.node
            && !names.contains(&name.node.as_str())
        {
            let found = at(name.span)("unknown-argument", format!("`{of}` has no argument `{}`", name.node));
            into.push(found.maybe_help(did_you_mean(&name.node, names.iter().copied())));
        }
    }
    let Some(info) = info else { return };
    for (parameter, expr) in &bound {
        if let Some(kind) = literal_kind(&expr.node)
            && !reference::accepts(info.name, parameter, kind)
        {
            into.push(at(expr.span)(
                "wrong-type",
                format!("`{parameter}` of `{of}` must not be {}", article(kind)),
            ));
        }
    }
    let missing =
        info.params().find(|(name, default)| default.is_none() && !bound.iter().any(|(b, _)| b == name));
    if let (Some((name, _)), false) = (missing, spread) {
        let found = at(call.span)("missing-argument", format!("`{of}` needs the argument `{name}`"));
        into.push(found.maybe_help(signature(file, call)));
    }
}

fn literal_kind(expr: &ExprP<starlark::syntax::ast::AstNoPayload>) -> Option<&'static str> {
    match expr {
        ExprP::Literal(AstLiteral::String(_)) | ExprP::FString(_) => Some("str"),
        ExprP::Literal(AstLiteral::Int(_)) => Some("int"),
        ExprP::Literal(AstLiteral::Float(_)) => Some("float"),
        ExprP::Identifier(name) if matches!(name.node.ident.as_str(), "True" | "False") => Some("bool"),
        ExprP::List(_) => Some("list"),
        ExprP::Dict(_) => Some("dict"),
        _ => None,
    }
}
