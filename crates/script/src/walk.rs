//! What the syntax tree says without being run: calls, functions, names.

use starlark::codemap::Span;
use starlark::syntax::AstModule;
use starlark::syntax::ast::{
    ArgumentP, AssignTargetP, AstArgument, AstAssignTarget, AstExpr, AstIdent, AstLiteral, AstNoPayload,
    AstParameter, AstStmt, AstString, BinOp, DefP, ExprP, ParameterP, StmtP,
};
use std::collections::{BTreeMap, BTreeSet};

/// Whom a call is made to.
pub(crate) enum Callee<'a> {
    /// A method of a parameter that is annotated `Machine`.
    Machine(&'a AstString),
    /// A plain name.
    Name(&'a AstIdent),
    /// Anything else.
    Other,
}

/// A call.
pub(crate) struct CallSite<'a> {
    pub(crate) callee: Callee<'a>,
    pub(crate) args: &'a [AstArgument],
    /// The whole call.
    pub(crate) span: Span,
    /// Starlark's type checker does not see it: it is in a lambda, or in no function at all.
    pub(crate) unchecked: bool,
}

/// A function.
pub(crate) struct FunctionDef<'a> {
    pub(crate) name: &'a str,
    pub(crate) name_span: Span,
    pub(crate) params: &'a [AstParameter],
    /// Directly in the file, not within another function.
    pub(crate) top: bool,
}

/// A `load` of one name.
pub(crate) struct LoadedName<'a> {
    pub(crate) local: &'a str,
    pub(crate) span: Span,
    pub(crate) file: &'a str,
}

/// Everything that the checks need from one file.
#[derive(Default)]
pub(crate) struct Facts<'a> {
    pub(crate) calls: Vec<CallSite<'a>>,
    pub(crate) functions: Vec<FunctionDef<'a>>,
    /// Statements `test(...)` at the top.
    pub(crate) tests: Vec<Span>,
    pub(crate) loads: Vec<LoadedName<'a>>,
    /// Methods of the machine that are named where a call must be meant.
    pub(crate) not_called: Vec<&'a AstString>,
    /// Names that are read somewhere.
    pub(crate) names: BTreeSet<&'a str>,
    /// `NAME = …` at the top, where that is the name's only value.
    constants: BTreeMap<&'a str, Option<&'a AstExpr>>,
    /// Parameters of the functions around, and whether each is a machine.
    scopes: Vec<BTreeMap<&'a str, bool>>,
    lambdas: usize,
}

impl<'a> Facts<'a> {
    pub(crate) fn of(ast: &'a AstModule) -> Self {
        let mut facts = Self::default();
        facts.top(ast.statement());
        facts
    }

    fn top(&mut self, statement: &'a AstStmt) {
        match &statement.node {
            StmtP::Statements(all) => all.iter().for_each(|one| self.top(one)),
            StmtP::Expression(expr) => {
                if let ExprP::Call(callee, _) = &expr.node
                    && matches!(&callee.node, ExprP::Identifier(name) if name.node.ident == "test")
                {
                    self.tests.push(expr.span);
                }
                self.statement(statement);
            }
            StmtP::Assign(assign) => {
                if let AssignTargetP::Identifier(name) = &assign.lhs.node {
                    let name = name.node.ident.as_str();
                    // A second value makes it unknown.
                    let value = if self.constants.contains_key(name) { None } else { Some(&assign.rhs) };
                    self.constants.insert(name, value);
                }
                self.statement(statement);
            }
            _ => self.statement(statement),
        }
    }

    fn statement(&mut self, statement: &'a AstStmt) {
        match &statement.node {
            StmtP::Def(def) => self.def(def),
            StmtP::Load(load) => {
                for arg in &load.args {
                    let local = arg.local.node.ident.as_str();
                    self.loads.push(LoadedName {
                        local,
                        span: arg.their.span,
                        file: load.module.node.as_str(),
                    });
                }
            }
            StmtP::Statements(all) => all.iter().for_each(|one| self.statement(one)),
            StmtP::If(condition, body) => {
                self.expression(condition);
                self.statement(body);
            }
            StmtP::IfElse(condition, bodies) => {
                self.expression(condition);
                self.statement(&bodies.0);
                self.statement(&bodies.1);
            }
            StmtP::For(loop_) => {
                self.target(&loop_.var);
                self.expression(&loop_.over);
                self.statement(&loop_.body);
            }
            StmtP::Return(value) => value.iter().for_each(|expr| self.expression(expr)),
            StmtP::Expression(expr) => {
                self.idle(expr);
                self.expression(expr);
            }
            StmtP::Assign(assign) => {
                self.target(&assign.lhs);
                assign.ty.iter().for_each(|ty| self.expression(&ty.node.expr));
                self.expression(&assign.rhs);
            }
            StmtP::AssignModify(target, _, value) => {
                self.target(target);
                if let AssignTargetP::Identifier(name) = &target.node {
                    self.names.insert(&name.node.ident);
                }
                self.expression(value);
            }
            StmtP::Break | StmtP::Continue | StmtP::Pass => {}
        }
    }

    /// Places such as `list[i]` and `value.field` read names as well.
    fn target(&mut self, target: &'a AstAssignTarget) {
        let mut inner = Vec::new();
        target.node.visit_expr(|expr| inner.push(expr));
        for expr in inner {
            self.expression(expr);
        }
    }

    fn def(&mut self, def: &'a DefP<AstNoPayload>) {
        self.functions.push(FunctionDef {
            name: &def.name.node.ident,
            name_span: def.name.span,
            params: &def.params,
            top: self.scopes.is_empty(),
        });
        self.parameters(&def.params);
        if let Some(ty) = &def.return_type {
            self.expression(&ty.node.expr);
        }
        self.scopes.push(scope(&def.params));
        self.statement(&def.body);
        self.scopes.pop();
    }

    /// Types and defaults belong to the scope outside.
    fn parameters(&mut self, params: &'a [AstParameter]) {
        for param in params {
            let mut inner = Vec::new();
            param.node.visit_expr(|expr| inner.push(expr));
            for expr in inner {
                self.expression(expr);
            }
        }
    }

    fn expression(&mut self, expr: &'a AstExpr) {
        match &expr.node {
            ExprP::Identifier(name) => {
                self.names.insert(&name.node.ident);
            }
            ExprP::Lambda(lambda) => {
                self.parameters(&lambda.params);
                self.scopes.push(scope(&lambda.params));
                self.lambdas += 1;
                self.idle(&lambda.body);
                self.expression(&lambda.body);
                self.lambdas -= 1;
                self.scopes.pop();
                return;
            }
            ExprP::Call(callee, args) => self.calls.push(CallSite {
                callee: self.callee(callee),
                args: &args.args,
                span: expr.span,
                unchecked: self.lambdas > 0 || self.scopes.is_empty(),
            }),
            _ => {}
        }
        let mut inner = Vec::new();
        expr.node.visit_expr(|child| inner.push(child));
        for child in inner {
            self.expression(child);
        }
    }

    /// `t.save_screenshot` as a statement, or as all that a lambda does.
    fn idle(&mut self, expr: &'a AstExpr) {
        if let Callee::Machine(method) = self.callee(expr) {
            self.not_called.push(method);
        }
    }

    fn callee(&self, callee: &'a AstExpr) -> Callee<'a> {
        match &callee.node {
            ExprP::Identifier(name) => Callee::Name(name),
            ExprP::Dot(receiver, method) => match &receiver.node {
                ExprP::Identifier(name) if self.is_machine(&name.node.ident) => Callee::Machine(method),
                _ => Callee::Other,
            },
            _ => Callee::Other,
        }
    }

    fn is_machine(&self, name: &str) -> bool {
        self.scopes.iter().rev().find_map(|scope| scope.get(name)).copied().unwrap_or(false)
    }

    /// The texts that an expression can stand for, and whether these are all.
    pub(crate) fn texts(&self, expr: &'a AstExpr) -> (Vec<(String, Span)>, bool) {
        let mut texts = Vec::new();
        let complete = self.collect_texts(expr, 0, &mut texts);
        (texts, complete)
    }

    fn collect_texts(&self, expr: &'a AstExpr, depth: usize, into: &mut Vec<(String, Span)>) -> bool {
        match &expr.node {
            ExprP::Literal(AstLiteral::String(text)) => {
                into.push((text.node.clone(), text.span));
                true
            }
            ExprP::List(items) | ExprP::Tuple(items) => {
                // All of them, also after one that cannot be read.
                let known = items.iter().filter(|item| self.collect_texts(item, depth, into));
                known.count() == items.len()
            }
            ExprP::If(parts) => {
                let (_, yes, no) = &**parts;
                let yes = self.collect_texts(yes, depth, into);
                self.collect_texts(no, depth, into) && yes
            }
            ExprP::Op(left, BinOp::Add, right) => self.joined(left, right, expr.span, depth, into),
            ExprP::Identifier(name) if depth < 8 && !self.is_parameter(&name.node.ident) => {
                match self.constants.get(name.node.ident.as_str()) {
                    Some(Some(value)) => self.collect_texts(value, depth + 1, into),
                    _ => false,
                }
            }
            _ => false,
        }
    }

    /// `"a" + "b"` is one text; `["a"] + ["b"]` is two.
    fn joined(
        &self,
        left: &'a AstExpr,
        right: &'a AstExpr,
        span: Span,
        depth: usize,
        into: &mut Vec<(String, Span)>,
    ) -> bool {
        let (mut l, mut r) = (Vec::new(), Vec::new());
        let complete = self.collect_texts(left, depth, &mut l) && self.collect_texts(right, depth, &mut r);
        let lists = [left, right].iter().any(|side| matches!(side.node, ExprP::List(_) | ExprP::Tuple(_)));
        if lists {
            into.extend(l);
            into.extend(r);
            return complete;
        }
        if let ([(l, _)], [(r, _)], true) = (l.as_slice(), r.as_slice(), complete) {
            into.push((format!("{l}{r}"), span));
            return true;
        }
        false
    }

    /// A parameter of some function hides a constant; which one is in force here is not known any more.
    fn is_parameter(&self, name: &str) -> bool {
        self.functions.iter().any(|function| parameters(function.params).any(|param| param.name == name))
    }
}

/// A parameter of a `def`.
pub(crate) struct Param<'a> {
    pub(crate) name: &'a str,
    pub(crate) span: Span,
    /// As written.
    pub(crate) ty: Option<String>,
    pub(crate) required: bool,
    /// `*args` or `**kwargs`.
    pub(crate) rest: bool,
}

/// The named parameters.
pub(crate) fn parameters(params: &[AstParameter]) -> impl Iterator<Item = Param<'_>> {
    params.iter().filter_map(|param| {
        let (ident, ty, required, rest) = match &param.node {
            ParameterP::Normal(ident, ty, default) => (ident, ty, default.is_none(), false),
            ParameterP::Args(ident, ty) | ParameterP::KwArgs(ident, ty) => (ident, ty, false, true),
            ParameterP::NoArgs | ParameterP::Slash => return None,
        };
        let ty = ty.as_ref().map(|ty| ty.node.to_string());
        Some(Param { name: &ident.node.ident, span: ident.span, ty, required, rest })
    })
}

fn scope(params: &[AstParameter]) -> BTreeMap<&str, bool> {
    parameters(params).map(|param| (param.name, param.ty.as_deref() == Some("Machine"))).collect()
}

/// Pairs the arguments of a call with parameter names: `names[i]` for the `i`th positional one.
pub(crate) fn bind<'a, 'n>(args: &'a [AstArgument], names: &[&'n str]) -> Vec<(&'n str, &'a AstExpr)>
where
    'a: 'n,
{
    let mut positional = names.iter().copied();
    args.iter()
        .filter_map(|arg| match &arg.node {
            ArgumentP::Positional(expr) => positional.next().map(|name| (name, expr)),
            ArgumentP::Named(name, expr) => Some((name.node.as_str(), expr)),
            ArgumentP::Args(_) | ArgumentP::KwArgs(_) => None,
        })
        .collect()
}
