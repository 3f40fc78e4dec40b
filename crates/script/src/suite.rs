//! A test directory, loaded and checked.

use crate::api::{Declaration, Loading, declared, globals};
use crate::check::{Checked, Checks, File, Offer, TagUse, check};
use crate::evaluate;
use crate::external::{self, External};
use crate::host::{Function, Host, Limits, RunError};
use crate::layout::{Layout, has_extension};
use crate::parse::{from_starlark, parse, place};
use crate::walk::Facts;
use assay_proto::diagnostic::Diagnostic;
use assay_proto::driver::ModuleFlags;
use camino::{Utf8Path, Utf8PathBuf};
use starlark::codemap::Span;
use starlark::environment::{FrozenModule, Module as StarlarkModule};
use starlark::eval::{Evaluator, ReturnFileLoader};
use starlark::syntax::AstModule;
use starlark::typing::{Interface, Ty};
use std::collections::{BTreeMap, HashMap};

/// Parser, checker and compiler recurse over the syntax tree; see the bounds in `depth`. Only what is used of it is
/// ever backed by memory.
const LOADER_STACK: usize = 256 << 20;

/// Turns of loops and calls while a file is loaded: tables are made there, nothing is computed.
const LOAD_TICKS: u64 = 200_000;

/// A test directory, loaded and checked. Cheap to share between threads; nothing in it changes by running it.
#[derive(Debug)]
pub struct Suite {
    root: Utf8PathBuf,
    modules: Vec<Module>,
    tags: Vec<TagUse>,
    limits: Limits,
    external: External,
}

/// A test module: one file in `tests/`.
#[derive(Debug, Clone)]
pub struct Module {
    /// Unique in the suite: letters, digits, `_`, `-`, `.`.
    pub name: String,
    /// Relative to the test directory.
    pub file: String,
    /// What its result means for the run.
    pub flags: ModuleFlags,
    /// Seconds it may take, if the module says so.
    pub timeout: Option<f64>,
    /// Has it a function `post_fail`?
    pub has_post_fail: bool,
    pub(crate) kind: Kind,
}

/// What runs it.
#[derive(Debug, Clone)]
pub(crate) enum Kind {
    /// Starlark, in this process.
    Starlark(FrozenModule),
    /// A program of its own.
    External,
}

impl Module {
    /// Is it run by a program of its own instead of in this process?
    pub fn is_external(&self) -> bool {
        matches!(self.kind, Kind::External)
    }
}

impl Suite {
    /// Loads and checks the test directory `dir`. `schedule` names the modules to run, in order; without it all
    /// files of `tests/` run, by name. Gives the warnings along, or all errors and warnings at once.
    pub fn load(
        dir: &Utf8Path,
        schedule: Option<&[String]>,
    ) -> Result<(Self, Vec<Diagnostic>), Vec<Diagnostic>> {
        Self::load_with(dir, schedule, &Checks::default())
    }

    /// As [`Suite::load`], with checks of literals.
    pub fn load_with(
        dir: &Utf8Path,
        schedule: Option<&[String]>,
        checks: &Checks,
    ) -> Result<(Self, Vec<Diagnostic>), Vec<Diagnostic>> {
        let internal = |message: String| {
            let help = "please report it with the file that causes it";
            vec![Diagnostic::error("internal", dir.as_str(), message).help(help)]
        };
        std::thread::scope(|scope| {
            let loader = std::thread::Builder::new().name("suite-loader".to_owned()).stack_size(LOADER_STACK);
            let thread = loader.spawn_scoped(scope, || load(dir, schedule, checks));
            let thread =
                thread.map_err(|e| internal(format!("cannot start a thread to load the tests: {e}")))?;
            thread.join().unwrap_or_else(|_| Err(internal("the checker itself failed".to_owned())))
        })
    }

    /// Bounds for Starlark modules other than the default ones.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// How modules in other languages are run.
    #[must_use]
    pub fn external(mut self, external: External) -> Self {
        self.external = external;
        self
    }

    /// The modules, in the order in which they run.
    pub fn modules(&self) -> &[Module] {
        &self.modules
    }

    /// The test directory, without symbolic links.
    pub fn root(&self) -> &Utf8Path {
        &self.root
    }

    /// Every call that looks for needles, by file and line. A module in another language is one use whose tags are
    /// unknown.
    pub fn screen_tags(&self) -> &[TagUse] {
        &self.tags
    }

    /// Starts each module that is a program of its own, up to its first answer, and ends it again: finds its syntax
    /// errors, a missing interpreter and a missing sandbox before a machine boots.
    pub fn check_external(&self) -> Vec<Diagnostic> {
        let programs = self.modules.iter().filter(|module| module.is_external());
        programs.filter_map(|module| external::probe(&self.root, module, &self.external).err()).collect()
    }

    /// Runs a function of a module; it must be one of this suite. Blocks until the function ends. The calling thread
    /// needs a stack of [`crate::STACK_SIZE`].
    pub fn run(&self, module: &Module, function: Function, host: &mut dyn Host) -> Result<(), RunError> {
        match &module.kind {
            Kind::Starlark(code) => evaluate::run(code, function, host, self.limits),
            Kind::External => external::run(&self.root, module, function, host, &self.external),
        }
    }
}

type Loaded = (Suite, Vec<Diagnostic>);

fn load(dir: &Utf8Path, schedule: Option<&[String]>, checks: &Checks) -> Result<Loaded, Vec<Diagnostic>> {
    let layout = Layout::open(dir).map_err(|e| vec![e])?;
    let files = layout.modules(schedule)?;
    let mut loader = Loader {
        layout: &layout,
        checks,
        diagnostics: Vec::new(),
        tags: Vec::new(),
        libraries: BTreeMap::new(),
        under_way: Vec::new(),
    };
    let modules: Vec<Module> = files.iter().filter_map(|file| loader.module(file)).collect();
    loader.unique_names(&modules);
    let Loader { mut diagnostics, mut tags, .. } = loader;
    diagnostics.sort_by(|a, b| {
        (&a.file, a.line, a.column, &a.message).cmp(&(&b.file, b.line, b.column, &b.message))
    });
    diagnostics.dedup();
    if diagnostics.iter().any(Diagnostic::is_error) {
        return Err(diagnostics);
    }
    tags.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
    let root = layout.root().to_owned();
    let suite = Suite { root, modules, tags, limits: Limits::default(), external: External::default() };
    Ok((suite, diagnostics))
}

/// A file of lib/: what it offers, and its code if it is free of errors.
struct Library {
    offer: Offer,
    code: Option<FrozenModule>,
}

struct Loader<'a> {
    layout: &'a Layout,
    checks: &'a Checks,
    diagnostics: Vec<Diagnostic>,
    tags: Vec<TagUse>,
    /// By path; `None` when it cannot be used at all.
    libraries: BTreeMap<String, Option<Library>>,
    /// Files that wait for what they load; a file that appears twice loads itself.
    under_way: Vec<String>,
}

impl Loader<'_> {
    fn module(&mut self, file: &str) -> Option<Module> {
        let text = self.keep(self.layout.read(file))?;
        let stem = Utf8Path::new(file).file_stem().unwrap_or_default().to_owned();
        let (declaration, has_post_fail, kind) = if has_extension(file, "py") {
            self.tags.push(TagUse {
                tags: Vec::new(),
                literal: false,
                call: String::new(),
                file: file.to_owned(),
                line: 0,
                column: 0,
            });
            let (declaration, has_post_fail) = self.keep(external::declaration(file, &text))?;
            (declaration, has_post_fail, Kind::External)
        } else {
            let ast = self.keep(parse(file, text))?;
            let (code, declaration, _) = self.starlark(file, &ast, true);
            let code = code?;
            let has_post_fail = code.get("post_fail").is_ok();
            (declaration?, has_post_fail, Kind::Starlark(code))
        };
        let Declaration { name, flags, timeout } = declaration;
        let name = name.unwrap_or(stem);
        self.valid_name(file, &name);
        Some(Module { name, file: file.to_owned(), flags, timeout, has_post_fail, kind })
    }

    fn keep<T>(&mut self, result: Result<T, Diagnostic>) -> Option<T> {
        result.map_err(|diagnostic| self.diagnostics.push(diagnostic)).ok()
    }

    /// Names become parts of addresses and file names.
    fn valid_name(&mut self, file: &str, name: &str) {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if name.is_empty() || name.len() > 100 || name.starts_with('.') || !name.chars().all(plain) {
            let message = format!("{name:?} cannot be a module's name");
            let help = "use letters, digits, `_`, `-` and `.`, at most 100";
            self.diagnostics.push(Diagnostic::error("module-name", file, message).help(help));
        }
    }

    fn unique_names(&mut self, modules: &[Module]) {
        let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
        for module in modules {
            if let Some(first) = seen.insert(&module.name, &module.file) {
                let message = format!("{first} has the module name `{}` too", module.name);
                let found = Diagnostic::error("module-name", module.file.as_str(), message);
                self.diagnostics.push(found.help("give one of them another `name` in `test(...)`"));
            }
        }
    }

    /// Loads what the file loads, checks it, and runs its top if all is well.
    fn starlark(
        &mut self,
        file: &str,
        ast: &AstModule,
        is_test: bool,
    ) -> (Option<FrozenModule>, Option<Declaration>, Offer) {
        self.under_way.push(file.to_owned());
        let mut paths: Vec<(String, String)> = Vec::new();
        let mut sound = true;
        for load in ast.loads() {
            match self.library(file, &load.span, load.module_id) {
                Some(path) => paths.push((load.module_id.to_owned(), path)),
                None => sound = false,
            }
        }
        self.under_way.pop();
        let facts = Facts::of(ast);
        let offers: HashMap<String, Offer> =
            ast.loads().iter().map(|load| (load.module_id.to_owned(), self.offer(&paths, load))).collect();
        let codemap_span = ast.file_span(Span::default());
        let context =
            File { name: file, codemap: &codemap_span.file, facts: &facts, is_test, loads: &offers };
        let Checked { diagnostics, tags, offer } = check(&context, ast, self.checks);
        sound &= !diagnostics.iter().any(Diagnostic::is_error);
        self.diagnostics.extend(diagnostics);
        self.tags.extend(tags);
        if !sound {
            return (None, None, offer);
        }
        let mut code: HashMap<&str, &FrozenModule> = HashMap::new();
        for (module, path) in &paths {
            match self.libraries.get(path).and_then(Option::as_ref).and_then(|library| library.code.as_ref())
            {
                Some(library) => code.insert(module, library),
                // Its errors are reported already.
                None => return (None, None, offer),
            };
        }
        let (evaluated, declaration) = declared(|loading| evaluate_top(file, ast.clone(), &code, loading));
        (self.keep(evaluated), declaration, offer)
    }

    /// What a loaded file offers; of a broken one, every name that is asked for, so that one error stays one.
    fn offer(&self, paths: &[(String, String)], load: &starlark::syntax::AstLoad<'_>) -> Offer {
        let path = paths.iter().find(|(module, _)| module == load.module_id).map(|(_, path)| path);
        let library = path.and_then(|path| self.libraries.get(path)).and_then(Option::as_ref);
        if let Some(Library { offer, .. }) = library {
            return Offer { interface: offer.interface.clone(), functions: offer.functions.clone() };
        }
        let any = load.symbols.values().map(|their| ((*their).to_owned(), Ty::any())).collect();
        Offer { interface: Interface::new(any), functions: BTreeMap::new() }
    }

    /// Loads a file of lib/ for `file`; its path, or `None` after reporting why not.
    fn library(&mut self, file: &str, span: &starlark::codemap::FileSpan, module: &str) -> Option<String> {
        let (line, column) = place(&span.file, span.span);
        let refuse = |message: String| Diagnostic::error("load", file, message).at(line, column);
        let path = match self.layout.loadable(module) {
            Ok(path) => path,
            Err((message, help)) => {
                self.diagnostics.push(refuse(message).help(help));
                return None;
            }
        };
        if let Some(begin) = self.under_way.iter().position(|waiting| *waiting == path) {
            let mut circle = self.under_way[begin..].to_vec();
            circle.push(path);
            let message = format!("files load each other in a circle: {}", circle.join(" -> "));
            self.diagnostics.push(refuse(message).help("move what both need into a third file"));
            return None;
        }
        if !self.libraries.contains_key(&path) {
            let library = self.keep(self.layout.read(&path)).and_then(|text| self.keep(parse(&path, text)));
            let library = library.map(|ast| self.starlark(&path, &ast, false));
            let library = library.map(|(code, _, offer)| Library { offer, code });
            self.libraries.insert(path.clone(), library);
        }
        Some(path)
    }
}

/// Runs the top of a file: definitions, constants, `test(...)`.
fn evaluate_top(
    file: &str,
    ast: AstModule,
    loads: &HashMap<&str, &FrozenModule>,
    loading: &Loading,
) -> Result<FrozenModule, Diagnostic> {
    let limits = Limits::default();
    StarlarkModule::with_temp_heap(|module| {
        let loader = ReturnFileLoader { modules: loads };
        {
            let mut eval = Evaluator::new(&module);
            eval.set_loader(&loader);
            eval.extra = Some(loading);
            let set = eval
                .set_max_heap_size(limits.heap)
                .and_then(|()| eval.set_max_callstack_size(limits.depth))
                .and_then(|()| eval.set_max_tick_count(LOAD_TICKS));
            set.map_err(|e| Diagnostic::error("internal", file, e.to_string()))?;
            eval.eval_module(ast, globals()).map_err(|error| load_error(file, &error))?;
        }
        module.freeze().map_err(|error| Diagnostic::error("load", file, error.err_msg))
    })
}

fn load_error(file: &str, error: &starlark::Error) -> Diagnostic {
    let found = from_starlark("load", file, error);
    if found.message.contains("ticks has been exceeded") {
        let message = "loading the file computes without end".to_owned();
        return Diagnostic { message, ..found }.help("move the work into a function that `run` calls");
    }
    if found.message.contains("Heap memory limit") {
        let message = "loading the file takes too much memory".to_owned();
        return Diagnostic { message, ..found }.help("move the work into a function that `run` calls");
    }
    found
}
