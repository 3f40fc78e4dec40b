//! `@test(...)` of a Python module, read without running it: its arguments are literals, and written like Starlark's.

use crate::api::{Declaration, timeout_seconds, valid_timeout};
use crate::parse::{parse, place};
use crate::suggest::did_you_mean;
use assay_proto::diagnostic::Diagnostic;
use assay_proto::driver::ModuleFlags;
use starlark::syntax::AstModule;
use starlark::syntax::ast::{ArgumentP, AstArgument, AstExpr, AstLiteral, ExprP, StmtP};

const KNOWN: [&str; 5] = ["name", "fatal", "ignore_failure", "always_run", "timeout"];

/// What the file declares, and whether it has a `@post_fail`.
pub(crate) fn declaration(file: &str, text: &str) -> Result<(Declaration, bool), Diagnostic> {
    let mut found = None;
    let mut offset = 0;
    for (number, line) in text.split_inclusive('\n').enumerate() {
        if decorator(line, "@test") {
            let at = u32::try_from(number).unwrap_or(u32::MAX).saturating_add(1);
            if found.replace((number, offset)).is_some() {
                let message = "@test is used twice; a file is one module";
                return Err(Diagnostic::error("two-tests", file, message)
                    .at(at, 1)
                    .help("put it into another file"));
            }
        }
        offset += line.len();
    }
    let Some((line, offset)) = found else {
        let help = "write `@test(fatal=True)` above `def run(t: Machine):`";
        return Err(Diagnostic::error("no-test", file, "the file does not declare its module").help(help));
    };
    let post_fail = text.lines().any(|line| decorator(line, "@post_fail"));
    Ok((arguments(file, line, call_text(&text[offset + 1..]))?, post_fail))
}

/// Decorators of functions at the top of the file stand at the beginning of a line.
fn decorator(line: &str, name: &str) -> bool {
    line.strip_prefix(name).is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
}

/// From `test` to the bracket that closes its arguments, over texts and comments.
fn call_text(text: &str) -> &str {
    let (mut depth, mut quote, mut escaped, mut comment) = (0_usize, None, false, false);
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (_, '\n') if comment => comment = false,
            _ if comment => {}
            (Some(_), _) if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(open), _) if c == open => quote = None,
            (None, '"' | '\'') => quote = Some(c),
            (None, '#') => comment = true,
            (None, '(' | '[' | '{') => depth += 1,
            (None, ')' | ']' | '}') => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return &text[..=at];
                }
            }
            (None, '\n') if depth == 0 => return &text[..at],
            _ => {}
        }
    }
    text
}

fn arguments(file: &str, line: usize, call: &str) -> Result<Declaration, Diagnostic> {
    // Line feeds before the call give its parts the line numbers of the file; `@` is one column.
    let ast = parse(file, format!("{}{call}\n", "\n".repeat(line)))?;
    let refuse = |expr: &AstExpr, message: String| {
        let (line, column) = place(&ast.file_span(expr.span).file, expr.span);
        Diagnostic::error("declaration", file, message).at(line, column + 1)
    };
    let at = u32::try_from(line).unwrap_or(u32::MAX).saturating_add(1);
    let Some(args) = call_arguments(&ast) else {
        let message = "`@test` is written with parentheses: `@test()`";
        return Err(Diagnostic::error("declaration", file, message).at(at, 1));
    };
    let mut declared = Declaration {
        name: None,
        flags: ModuleFlags { fatal: true, ..ModuleFlags::default() },
        timeout: None,
    };
    for arg in args {
        let ArgumentP::Named(name, value) = &arg.node else {
            let help = format!("its arguments are: {}", KNOWN.join(", "));
            return Err(refuse(arg.node.expr(), "`@test` takes named arguments only".to_owned()).help(help));
        };
        let literal = literal(value);
        let wrong = |want: &str| {
            refuse(value, format!("`{}` of `@test` must be {want}, written out", name.node))
                .help("it is read before the file is run, so it cannot be computed")
        };
        match (name.node.as_str(), literal) {
            ("name" | "timeout", Some(Literal::None)) => {}
            ("name", Some(Literal::Text(text))) => declared.name = Some(text),
            ("fatal", Some(Literal::Bool(value))) => declared.flags.fatal = value,
            ("ignore_failure", Some(Literal::Bool(value))) => declared.flags.ignore_failure = value,
            ("always_run", Some(Literal::Bool(value))) => declared.flags.always_run = value,
            ("timeout", Some(Literal::Text(text))) => {
                declared.timeout = Some(timeout_seconds(&text).map_err(|e| refuse(value, e))?);
            }
            ("timeout", Some(Literal::Number(seconds))) => {
                declared.timeout = Some(valid_timeout(seconds).map_err(|e| refuse(value, e))?);
            }
            ("name", _) => return Err(wrong("a text")),
            ("fatal" | "ignore_failure" | "always_run", _) => return Err(wrong("True or False")),
            ("timeout", _) => return Err(wrong("a number of seconds or a text such as \"45m\"")),
            (unknown, _) => {
                let found = refuse(value, format!("`@test` has no argument `{unknown}`"));
                return Err(found.help(did_you_mean(unknown, KNOWN).unwrap_or_default()));
            }
        }
    }
    Ok(declared)
}

fn call_arguments(ast: &AstModule) -> Option<&[AstArgument]> {
    let mut statement = ast.statement();
    while let StmtP::Statements(all) = &statement.node {
        statement = all.first()?;
    }
    match &statement.node {
        StmtP::Expression(expr) => match &expr.node {
            ExprP::Call(_, args) => Some(&args.args),
            _ => None,
        },
        _ => None,
    }
}

enum Literal {
    None,
    Bool(bool),
    Text(String),
    Number(f64),
}

fn literal(expr: &AstExpr) -> Option<Literal> {
    match &expr.node {
        ExprP::Literal(AstLiteral::String(text)) => Some(Literal::Text(text.node.clone())),
        ExprP::Literal(AstLiteral::Float(number)) => Some(Literal::Number(number.node)),
        ExprP::Literal(AstLiteral::Int(number)) => number.node.to_string().parse().ok().map(Literal::Number),
        ExprP::Identifier(name) => match name.node.ident.as_str() {
            "True" => Some(Literal::Bool(true)),
            "False" => Some(Literal::Bool(false)),
            "None" => Some(Literal::None),
            _ => None,
        },
        _ => None,
    }
}
