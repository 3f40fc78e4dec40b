//! Variables whose type contains itself, such as `lines = [(n, line) for n, line in enumerate(lines)]`.
//!
//! Starlark's type checker finds the types of local variables by going round until nothing changes, at most a hundred
//! times, and each round such a variable's type doubles: it would not come to an end. The checker is therefore shown a
//! text in which these variables are declared `typing.Any`; its findings are moved back to where they belong.

use crate::walk::parameters;
use starlark::codemap::{Pos, Span};
use starlark::syntax::AstModule;
use starlark::syntax::ast::{
    AssignTargetP, AstAssignTarget, AstExpr, AstNoPayload, AstStmt, ClauseP, DefP, ExprP, ForClauseP, StmtP,
};
use std::collections::{BTreeMap, BTreeSet};

/// Pieces that were put into a text: where, in the old text, and how long they are.
#[derive(Default)]
pub(super) struct Insertions(Vec<(u32, u32)>);

impl Insertions {
    /// Where a place of the new text is in the old one.
    pub(super) fn original(&self, span: Span) -> Span {
        let back = |pos: Pos| {
            let mut shift = 0;
            for (at, length) in &self.0 {
                if pos.get() < at + shift + length {
                    break;
                }
                shift += length;
            }
            Pos::new(pos.get() - shift)
        };
        let begin = back(span.begin());
        Span::new(begin, back(span.end()).max(begin))
    }
}

/// The text with declarations of the variables that would grow, if there are any.
pub(super) fn declared(ast: &AstModule, text: &str) -> Option<(String, Insertions)> {
    let mut pieces = Vec::new();
    functions(ast.statement(), &mut |def| {
        let mut flow = Flow::default();
        flow.def(def);
        let growing = flow.growing();
        if !growing.is_empty() {
            declare(def, &growing, text, &mut pieces);
        }
    });
    if pieces.is_empty() {
        return None;
    }
    pieces.sort();
    let (mut new, mut insertions, mut from) =
        (String::with_capacity(text.len() * 2), Insertions::default(), 0);
    for (at, piece) in pieces {
        new.push_str(text.get(from..at as usize)?);
        new.push_str(&piece);
        insertions.0.push((at, u32::try_from(piece.len()).ok()?));
        from = at as usize;
    }
    new.push_str(text.get(from..)?);
    Some((new, insertions))
}

/// The functions at the top of the file.
fn functions<'a>(statement: &'a AstStmt, found: &mut impl FnMut(&'a DefP<AstNoPayload>)) {
    match &statement.node {
        StmtP::Statements(all) => all.iter().for_each(|one| functions(one, found)),
        StmtP::Def(def) => found(def),
        _ => {}
    }
}

/// Puts the declarations before the first statement of each function that assigns such a variable.
fn declare(def: &DefP<AstNoPayload>, growing: &BTreeSet<&str>, text: &str, pieces: &mut Vec<(u32, String)>) {
    let mut own = Own::default();
    own.statement(&def.body);
    let names: Vec<&str> = own.assigned.intersection(growing).copied().collect();
    let mut first = &*def.body;
    while let StmtP::Statements(all) = &first.node {
        let Some(next) = all.first() else { break };
        first = next;
    }
    let at = first.span.begin().get();
    let before = text.get(..at as usize).unwrap_or_default();
    let indent = before.rsplit('\n').next().unwrap_or_default();
    // After `def f():` on the same line only simple statements stand, and a semicolon parts them.
    let end = if indent.trim().is_empty() { format!("\n{indent}") } else { "; ".to_owned() };
    if !names.is_empty() {
        pieces.push((at, names.iter().flat_map(|name| [*name, ": typing.Any = None", &end]).collect()));
    }
    for inner in own.functions {
        declare(inner, growing, text, pieces);
    }
}

/// What a function assigns itself, and the functions in it.
#[derive(Default)]
struct Own<'a> {
    assigned: BTreeSet<&'a str>,
    functions: Vec<&'a DefP<AstNoPayload>>,
}

impl<'a> Own<'a> {
    fn statement(&mut self, statement: &'a AstStmt) {
        match &statement.node {
            StmtP::Assign(assign) => targets(&assign.lhs, &mut |name| {
                self.assigned.insert(name);
            }),
            StmtP::AssignModify(target, _, _) => targets(target, &mut |name| {
                self.assigned.insert(name);
            }),
            StmtP::For(loop_) => {
                targets(&loop_.var, &mut |name| {
                    self.assigned.insert(name);
                });
                self.statement(&loop_.body);
            }
            StmtP::Def(def) => self.functions.push(def),
            StmtP::Statements(all) => all.iter().for_each(|one| self.statement(one)),
            StmtP::If(_, body) => self.statement(body),
            StmtP::IfElse(_, bodies) => {
                self.statement(&bodies.0);
                self.statement(&bodies.1);
            }
            _ => {}
        }
    }
}

fn targets<'a>(target: &'a AstAssignTarget, found: &mut impl FnMut(&'a str)) {
    match &target.node {
        AssignTargetP::Identifier(name) => found(&name.node.ident),
        AssignTargetP::Tuple(all) => all.iter().for_each(|one| targets(one, found)),
        AssignTargetP::Index(_) | AssignTargetP::Dot(..) => {}
    }
}

/// Which variable's type is made of which others, for a function and those in it. Names stand for variables: taking
/// two of one name for one only declares one too many.
#[derive(Default)]
struct Flow<'a> {
    /// To the names in its values.
    edges: BTreeMap<&'a str, BTreeMap<&'a str, Edge>>,
}

#[derive(Default)]
struct Edge {
    /// Within a list, tuple, dict or call.
    within: bool,
    /// So often.
    times: u64,
}

/// Types of more parts than this are given up: `b = (a, a)`, `c = (b, b)`, … doubles with each line.
const MAX_PARTS: u64 = 1000;

impl<'a> Flow<'a> {
    /// Variables that contain themselves (those with a step into a list, tuple or dict that leads back to them), and
    /// those whose type is made of too many parts.
    fn growing(&self) -> BTreeSet<&'a str> {
        let mut circles = Circles {
            edges: &self.edges,
            seen: BTreeMap::new(),
            waiting: Vec::new(),
            circle_of: BTreeMap::new(),
            finished: Vec::new(),
        };
        for name in self.edges.keys() {
            if !circles.seen.contains_key(name) {
                circles.visit(name);
            }
        }
        let same = |a: &str, b: &str| circles.circle_of.get(a) == circles.circle_of.get(b);
        let (mut growing, mut parts) = (BTreeSet::new(), BTreeMap::<&str, u64>::new());
        // What a variable is made of is finished before it.
        for name in circles.finished {
            let Some(to) = self.edges.get(name) else { continue };
            let grows = to.iter().any(|(next, edge)| edge.within && same(next, name));
            let size = to.iter().filter(|(next, _)| !same(next, name)).fold(1_u64, |size, (next, edge)| {
                size.saturating_add(edge.times.saturating_mul(parts.get(next).copied().unwrap_or(1)))
            });
            if grows || size > MAX_PARTS {
                growing.insert(name);
            } else {
                parts.insert(name, size);
            }
        }
        growing
    }

    fn def(&mut self, def: &'a DefP<AstNoPayload>) {
        // A parameter without a type is Any and does not grow; with one, it may.
        for param in parameters(&def.params) {
            self.edges.entry(param.name).or_default();
        }
        self.statement(&def.body);
    }

    fn statement(&mut self, statement: &'a AstStmt) {
        match &statement.node {
            StmtP::Statements(all) => all.iter().for_each(|one| self.statement(one)),
            StmtP::If(condition, body) => {
                self.looked_at(condition);
                self.statement(body);
            }
            StmtP::IfElse(condition, bodies) => {
                self.looked_at(condition);
                self.statement(&bodies.0);
                self.statement(&bodies.1);
            }
            StmtP::For(loop_) => {
                self.flows(&loop_.var, &loop_.over, false);
                self.statement(&loop_.body);
            }
            StmtP::Def(def) => self.def(def),
            StmtP::Assign(assign) => self.flows(&assign.lhs, &assign.rhs, false),
            StmtP::AssignModify(target, _, value) => self.flows(target, value, true),
            StmtP::Expression(expr) => self.looked_at(expr),
            StmtP::Return(value) => value.iter().for_each(|expr| self.looked_at(expr)),
            StmtP::Break | StmtP::Continue | StmtP::Pass | StmtP::Load(_) => {}
        }
    }

    fn flows(&mut self, target: &'a AstAssignTarget, value: &'a AstExpr, within: bool) {
        let mut into = Vec::new();
        targets(target, &mut |name| into.push(name));
        if let AssignTargetP::Index(place) = &target.node
            && let ExprP::Identifier(name) = &place.0.node
        {
            // `x[i] = value` puts the value into x.
            self.sources(name.node.ident.as_str(), value, true);
        }
        for name in into {
            self.sources(name, value, within);
        }
        self.looked_at(value);
    }

    /// Looks for what flows elsewhere: `x.append(value)`, and variables of comprehensions.
    fn looked_at(&mut self, expr: &'a AstExpr) {
        match &expr.node {
            ExprP::Call(callee, args) => {
                if let ExprP::Dot(receiver, _) = &callee.node
                    && let ExprP::Identifier(name) = &receiver.node
                {
                    for arg in &args.args {
                        self.sources(&name.node.ident, arg.node.expr(), true);
                    }
                }
            }
            ExprP::ListComprehension(_, first, clauses) | ExprP::DictComprehension(_, first, clauses) => {
                self.clause(first);
                for clause in clauses {
                    if let ClauseP::For(clause) = clause {
                        self.clause(clause);
                    }
                }
            }
            _ => {}
        }
        let mut inner = Vec::new();
        expr.node.visit_expr(|child| inner.push(child));
        for child in inner {
            self.looked_at(child);
        }
    }

    fn clause(&mut self, clause: &'a ForClauseP<AstNoPayload>) {
        let mut into = Vec::new();
        targets(&clause.var, &mut |name| into.push(name));
        for name in into {
            self.sources(name, &clause.over, false);
        }
    }

    /// Every name in `value` is a part of `name`; `within` once a list, tuple, dict or call is between.
    fn sources(&mut self, name: &'a str, value: &'a AstExpr, within: bool) {
        let holds = matches!(
            value.node,
            ExprP::Tuple(_)
                | ExprP::List(_)
                | ExprP::Dict(_)
                | ExprP::ListComprehension(..)
                | ExprP::DictComprehension(..)
                | ExprP::Call(..)
        );
        if let ExprP::Identifier(source) = &value.node {
            let edge = self.edges.entry(name).or_default().entry(&source.node.ident).or_default();
            edge.within |= within;
            edge.times += 1;
        }
        let mut inner = Vec::new();
        value.node.visit_expr(|child| inner.push(child));
        for child in inner {
            self.sources(name, child, within || holds);
        }
    }
}

/// Tarjan's strongly connected components: two variables are in one circle if each is part of the other.
struct Circles<'e, 'a> {
    edges: &'e BTreeMap<&'a str, BTreeMap<&'a str, Edge>>,
    /// Order of the first visit.
    seen: BTreeMap<&'a str, usize>,
    waiting: Vec<&'a str>,
    circle_of: BTreeMap<&'a str, usize>,
    /// All names, each after those that it leads to.
    finished: Vec<&'a str>,
}

impl<'a> Circles<'_, 'a> {
    /// The earliest variable that this one leads to and that is not in a finished circle.
    fn visit(&mut self, name: &'a str) -> usize {
        let order = self.seen.len();
        self.seen.insert(name, order);
        self.waiting.push(name);
        let mut lowest = order;
        for next in self.edges.get(name).into_iter().flat_map(BTreeMap::keys) {
            let low = match self.seen.get(next) {
                None => self.visit(next),
                Some(_) if self.circle_of.contains_key(next) => continue,
                Some(order) => *order,
            };
            lowest = lowest.min(low);
        }
        if lowest == order {
            while let Some(member) = self.waiting.pop() {
                self.circle_of.insert(member, order);
                self.finished.push(member);
                if member == name {
                    break;
                }
            }
        }
        lowest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::parse;

    fn shown(text: &str) -> Option<String> {
        let ast = parse("x", text.to_owned()).unwrap();
        declared(&ast, text).map(|(new, _)| new)
    }

    #[test]
    fn growing_variables_are_declared_where_they_live() {
        let text =
            "def f(t):\n    x = 1\n    def g():\n        y = (y,)\n    for i in [1]:\n        x = [(x, 2)]\n";
        let expected = "def f(t):\n    x: typing.Any = None\n    x = 1\n    def g():\n        y: typing.Any = None\n        \
                        y = (y,)\n    for i in [1]:\n        x = [(x, 2)]\n";
        assert_eq!(shown(text).as_deref(), Some(expected));
        assert_eq!(
            shown("def f(x): x = (x,)\n").as_deref(),
            Some("def f(x): x: typing.Any = None; x = (x,)\n")
        );
        let through_others = "def f():\n    a = 1\n    b = a\n    c = {1: b}\n    a = c\n";
        assert!(shown(through_others).unwrap().contains("c: typing.Any"));
    }

    #[test]
    fn types_of_too_many_parts_are_given_up() {
        let ladder = (1..30).fold("def f():\n    x0 = 1\n".to_owned(), |text, step| {
            text + &format!("    x{step} = (x{0}, x{0})\n", step - 1)
        });
        let shown = shown(&ladder).unwrap();
        let given_up: Vec<&str> =
            shown.lines().filter(|line| line.contains("typing.Any")).map(str::trim).collect();
        assert_eq!(given_up, ["x18: typing.Any = None", "x27: typing.Any = None", "x9: typing.Any = None"]);
    }

    #[test]
    fn other_variables_keep_their_types() {
        for body in [
            "x = x + 1",
            "x = 'a' + x",
            "x = [1]\n    y = (x, 1)\n    z = [y]",
            "for i in x:\n        y = [i]",
        ] {
            assert_eq!(shown(&format!("def f():\n    x = 1\n    {body}\n")), None, "{body}");
        }
    }

    #[test]
    fn places_are_moved_back() {
        let (text, piece) = ("def f():\n    x = (x,); t.nosuch\n", "x: typing.Any = None\n    ".len() as u32);
        let ast = parse("x", text.to_owned()).unwrap();
        let (new, insertions) = declared(&ast, text).unwrap();
        let begin = u32::try_from(new.find("t.nosuch").unwrap()).unwrap();
        let old = insertions.original(Span::new(Pos::new(begin), Pos::new(begin + 8)));
        assert_eq!(&text[old.begin().get() as usize..old.end().get() as usize], "t.nosuch");
        assert_eq!(new.len() as u32, text.len() as u32 + piece);
    }
}
