//! Rules of test modules: what a file must define, and that every machine says that it is one.

use super::File;
use crate::suggest::nearest;
use crate::walk::{Callee, FunctionDef, parameters};
use assay_proto::diagnostic::Diagnostic;

pub(super) fn check(file: &File<'_>, into: &mut Vec<Diagnostic>) {
    for function in &file.facts.functions {
        untyped_machine(file, function, into);
    }
    if file.is_test {
        declaration(file, into);
        entry_points(file, into);
    } else {
        for span in &file.facts.tests {
            let message = "`test` declares a module, and a file in lib/ is none";
            into.push(file.error("test-in-lib", *span, message).help("move it to a file in tests/"));
        }
    }
    unused_loads(file, into);
    for method in &file.facts.not_called {
        let message = format!("`{}` is named and not called", method.node);
        into.push(
            file.error("not-called", method.span, message).help(format!("write `t.{}(...)`", method.node)),
        );
    }
}

/// Without its type the checker lets every call on `t` pass.
fn untyped_machine(file: &File<'_>, function: &FunctionDef<'_>, into: &mut Vec<Diagnostic>) {
    let entry = function.top && file.is_test && matches!(function.name, "run" | "post_fail");
    for (index, param) in parameters(function.params).enumerate() {
        // The entry points have a message of their own.
        if param.name == "t" && param.ty.is_none() && !(entry && index == 0) {
            let message = format!("`t` of `{}` has no type, so its calls cannot be checked", function.name);
            into.push(file.error("untyped-machine", param.span, message).help("write `t: Machine`"));
        }
    }
}

fn declaration(file: &File<'_>, into: &mut Vec<Diagnostic>) {
    match file.facts.tests.as_slice() {
        [] => {
            let nested = file
                .facts
                .calls
                .iter()
                .find(|call| matches!(call.callee, Callee::Name(name) if name.node.ident == "test"));
            let help = "write `test(fatal = True)` at the top of the file";
            into.push(match nested {
                Some(call) => {
                    file.error("no-test", call.span, "`test` must stand at the top of the file").help(help)
                }
                None => {
                    Diagnostic::error("no-test", file.name, "the file does not declare its module").help(help)
                }
            });
        }
        [_] => {}
        [_, second, ..] => {
            let message = "`test` is called twice; a file is one module";
            into.push(
                file.error("two-tests", *second, message)
                    .help("put the second module into a file of its own"),
            );
        }
    }
}

fn entry_points(file: &File<'_>, into: &mut Vec<Diagnostic>) {
    let top: Vec<&FunctionDef<'_>> = file.facts.functions.iter().filter(|function| function.top).collect();
    if !top.iter().any(|function| function.name == "run") {
        let names = top.iter().map(|function| function.name);
        let help = match nearest("run", names) {
            Some(near) => format!("rename `{near}` to `run`"),
            None => "write `def run(t: Machine):`".to_owned(),
        };
        into.push(Diagnostic::error("no-run", file.name, "the file has no function `run`").help(help));
    }
    for function in top.iter().filter(|function| matches!(function.name, "run" | "post_fail")) {
        let params: Vec<_> = parameters(function.params).collect();
        let help = format!("write `def {}(t: Machine):`", function.name);
        let name = function.name;
        let wrong = match params.as_slice() {
            [] => Some((function.name_span, format!("`{name}` takes the machine"))),
            [first, ..] if first.ty.as_deref() != Some("Machine") => {
                let message = format!("`{}` of `{name}` must have the type Machine", first.name);
                Some((first.span, message))
            }
            [_, rest @ ..] => rest.iter().find(|param| param.required).map(|param| {
                (param.span, format!("`{name}` takes only the machine; nobody gives it `{}`", param.name))
            }),
        };
        if let Some((span, message)) = wrong {
            into.push(file.error("wrong-signature", span, message).help(help));
        }
    }
}

fn unused_loads(file: &File<'_>, into: &mut Vec<Diagnostic>) {
    for load in &file.facts.loads {
        if !file.facts.names.contains(load.local) {
            let message = format!("`{}` is loaded and never used", load.local);
            into.push(file.warning("unused-load", load.span, message).help("remove it from the `load`"));
        }
    }
}
