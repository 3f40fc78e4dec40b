//! The YAML of a job group: openQA's schema `JobTemplates-01`.

use super::{Known, Loaded, Once, Values, check_name, entries, names, number, settings};
use crate::assay::emit::Yaml;
use crate::diagnostic::{Place, Sink};
use crate::read::Reader;
use crate::yaml::{self, Dialect, Entry, Kind, Node, Scalar};
use assay_engine::product::{MediumKey, SettingsMap, Template};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

/// The name of the schema, as clients post it.
pub const SCHEMA: &str = "JobTemplates-01.yaml";

/// Reads a group's templates. Names that they use must be `known`, if that is given.
pub fn load(name: &str, text: &str, known: Option<&Known>) -> Loaded<Vec<Template>> {
    let Loaded { value, diagnostics } = load_placed(name, text, known);
    let templates = value.map(|all| all.into_iter().map(|(template, _)| template).collect());
    Loaded { value: templates, diagnostics }
}

/// The same, each with the place of its scenario.
pub fn load_placed(name: &str, text: &str, known: Option<&Known>) -> Loaded<Vec<(Template, Place)>> {
    let mut sink = Sink::default();
    let file = sink.add_file(name, text);
    let root = yaml::parse(text, file, yaml::Rules::plain(Dialect::Yaml12), &mut sink);
    let mut templates = Vec::new();
    if let Some(root) = &root {
        let mut reader = Reader::new(&mut sink, Dialect::Yaml12);
        templates = Group::default().read(&mut reader, root, known);
    } else if !sink.has_errors() {
        let place = Place { file, line: 0, column: 0 };
        sink.error("empty", place, "there is nothing in it; expected `products` and `scenarios`");
    }
    Loaded::new(templates, sink)
}

/// A product of the file, by its alias.
#[derive(Default)]
struct Product {
    distri: String,
    flavor: String,
    version: String,
    settings: SettingsMap,
    place: Place,
}

/// What holds for an architecture.
#[derive(Default)]
struct Defaults<'n> {
    machines: Vec<(&'n str, Place)>,
    priority: Option<i32>,
    settings: SettingsMap,
}

/// What stands before the scenarios.
#[derive(Default)]
struct Group<'n> {
    products: HashMap<&'n str, Product>,
    defaults: HashMap<&'n str, Defaults<'n>>,
}

impl<'n> Group<'n> {
    fn read(
        mut self,
        reader: &mut Reader<'_, '_>,
        root: &'n Node,
        known: Option<&Known>,
    ) -> Vec<(Template, Place)> {
        let Some(mut fields) = reader.fields(root, "a job group") else { return Vec::new() };
        let products = reader.required(&mut fields, "products");
        let defaults = fields.get("defaults");
        let scenarios = reader.required(&mut fields, "scenarios");
        fields.skip_hidden();
        reader.finish(fields);
        for entry in products.map_or(&[][..], |node| entries(reader, node, "products")) {
            self.product(reader, entry);
        }
        for entry in defaults.map_or(&[][..], |node| entries(reader, node, "defaults")) {
            check_arch(reader, entry);
            let defaults = Defaults::read(reader, &entry.value, known);
            self.defaults.insert(&entry.key.text, defaults);
        }
        let mut templates = Vec::new();
        let mut once = Once::new();
        let mut used = HashSet::new();
        for arch in scenarios.map_or(&[][..], |node| entries(reader, node, "scenarios")) {
            check_arch(reader, arch);
            for product in entries(reader, &arch.value, &arch.key.text) {
                used.insert(&*product.key.text);
                templates.extend(self.scenarios(reader, &arch.key.text, product, known, &mut once));
            }
        }
        for (alias, product) in self.products.iter().filter(|(alias, _)| !used.contains(*alias)) {
            let message = format!("the product `{alias}` has no scenarios");
            reader.sink.warning("unused", product.place, message);
        }
        templates
    }

    /// What stands below a product of an architecture.
    fn scenarios(
        &self,
        reader: &mut Reader<'_, '_>,
        arch: &str,
        product: &Entry,
        known: Option<&Known>,
        once: &mut Once<(MediumKey, String, String)>,
    ) -> Vec<(Template, Place)> {
        let alias = &*product.key.text;
        let unknown = Product::unknown(alias);
        let medium = self.products.get(alias).unwrap_or_else(|| {
            let message = format!("the product `{alias}` is not among `products`; expected one that is");
            let aliases = self.products.keys().copied();
            reader.sink.unknown("unknown-name", product.key.place, message, alias, aliases);
            &unknown
        });
        let key = medium.key(arch);
        if let Some(known) = known {
            known.medium(reader.sink, &key, product.key.place);
        }
        let none = Defaults::default();
        let defaults = self.defaults.get(arch).unwrap_or(&none);
        let mut templates = Vec::new();
        for node in reader.list(&product.value, alias) {
            for (template, place) in scenario(reader, node, defaults, medium, &key, known) {
                let machine = template.machine.clone().unwrap_or_default();
                let message = || {
                    format!(
                        "the scenario `{}` is there twice for {alias} on {machine}; give one of them another name, with `testsuite: {}`",
                        template.test(),
                        template.suite.as_deref().unwrap_or("null")
                    )
                };
                let unique = (key.clone(), machine.clone(), template.test().to_owned());
                if once.add(reader.sink, unique, place, message) {
                    templates.push((template, place));
                }
            }
        }
        templates
    }

    fn product(&mut self, reader: &mut Reader<'_, '_>, entry: &'n Entry) {
        check_name(reader, "product", &entry.key.text, entry.key.place);
        let Some(mut fields) = reader.fields(&entry.value, "a product") else { return };
        let mut text = |reader: &mut Reader<'_, '_>, key: &'static str| {
            let node = reader.required(&mut fields, key)?;
            Some(reader.name(node, key)?.to_owned())
        };
        let (distri, flavor, version) =
            (text(reader, "distri"), text(reader, "flavor"), text(reader, "version"));
        let settings = settings(reader, fields.get("settings"), Values::Text);
        reader.finish(fields);
        let (distri, flavor, version) = (
            distri.unwrap_or_default().to_lowercase(),
            flavor.unwrap_or_default(),
            version.unwrap_or_default(),
        );
        let product = Product { distri, flavor, version, settings, place: entry.key.place };
        self.products.insert(&entry.key.text, product);
    }
}

impl Product {
    /// In the place of a product that is not there: what is wrong below its alias is to be said as well.
    fn unknown(alias: &str) -> Self {
        // Without a distribution it is like no medium, and the alias keeps one from another.
        Self { flavor: alias.to_owned(), ..Self::default() }
    }

    fn key(&self, arch: &str) -> MediumKey {
        MediumKey {
            distri: self.distri.clone(),
            version: self.version.clone(),
            flavor: self.flavor.clone(),
            arch: arch.to_owned(),
        }
    }
}

impl<'n> Defaults<'n> {
    fn read(reader: &mut Reader<'_, '_>, node: &'n Node, known: Option<&Known>) -> Self {
        let Some(mut fields) = reader.fields(node, "the default of an architecture") else {
            return Self::default();
        };
        let machines = reader.required(&mut fields, "machine");
        let machines = machines.map(|node| machines_of(reader, node, known)).unwrap_or_default();
        let priority = reader.required(&mut fields, "priority");
        let priority = priority.and_then(|node| number(reader, node, "priority"));
        let settings = settings(reader, fields.get("settings"), Values::Text);
        reader.finish(fields);
        Self { machines, priority, settings }
    }
}

fn machines_of<'n>(
    reader: &mut Reader<'_, '_>,
    node: &'n Node,
    known: Option<&Known>,
) -> Vec<(&'n str, Place)> {
    let machines = names(reader, node, "machine");
    for (name, place) in &machines {
        if let Some(known) = known {
            known.machine(reader.sink, name, *place);
        }
    }
    machines
}

fn check_arch(reader: &mut Reader<'_, '_>, entry: &Entry) {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let arch = &entry.key.text;
    if arch.is_empty() || !arch.chars().all(fits) {
        let message =
            format!("`{arch}` is no architecture; expected small letters, digits and `_`, as in `x86_64`");
        reader.sink.error("name", entry.key.place, message);
    }
}

/// One entry of a product's list: a template for each of its machines.
fn scenario(
    reader: &mut Reader<'_, '_>,
    node: &Node,
    defaults: &Defaults<'_>,
    product: &Product,
    key: &MediumKey,
    known: Option<&Known>,
) -> Vec<(Template, Place)> {
    let (name, place, body) = match &node.kind {
        Kind::Map(entries) => {
            let [one] = entries.as_slice() else {
                let message = "expected one scenario for each `-`; indent what belongs to it further";
                reader.sink.error("scenario", node.place, message);
                return Vec::new();
            };
            (&*one.key.text, one.key.place, Some(&one.value))
        }
        _ => match reader.name(node, "scenario") {
            Some(name) => (name, node.place, None),
            None => return Vec::new(),
        },
    };
    check_name(reader, "scenario", name, place);
    let mut template = Template { medium: key.clone(), priority: defaults.priority, ..Template::default() };
    template.settings = defaults.settings.clone();
    template.settings.extend(product.settings.clone());
    let mut suite = Some((name, place));
    let mut machines = defaults.machines.clone();
    // `- name:` with nothing behind it is the suite of that name.
    let body = body.filter(|body| body.scalar(Dialect::Yaml12) != Some(Scalar::Null));
    if let Some(body) = body {
        let Some(mut fields) = reader.fields(body, "a scenario") else { return Vec::new() };
        if let Some(node) = fields.get("machine") {
            machines = machines_of(reader, node, known);
        }
        if let Some(node) = fields.get("priority") {
            template.priority = number(reader, node, "priority");
        }
        template.settings.extend(settings(reader, fields.get("settings"), Values::Text));
        if let Some(node) = fields.get("description") {
            reader.text(node, "description").unwrap_or_default().clone_into(&mut template.description);
        }
        if let Some(node) = fields.get("testsuite") {
            suite = suite_of(reader, node);
            if suite.is_none_or(|(suite, _)| suite != name) {
                name.clone_into(&mut template.name);
            }
        }
        reader.finish(fields);
    }
    if let (Some(known), Some((suite, place))) = (known, suite) {
        known.suite(reader.sink, suite, place);
    }
    template.suite = suite.map(|(suite, _)| suite.to_owned());
    if machines.is_empty() {
        let message = format!(
            "the scenario `{name}` has no machine, and `defaults` of {} has none; add `machine`",
            key.arch
        );
        reader.sink.error("missing-key", place, message);
    }
    let on = |(machine, _): (&str, Place)| Template { machine: Some(machine.to_owned()), ..template.clone() };
    machines.into_iter().map(|machine| (on(machine), place)).collect()
}

fn suite_of<'n>(reader: &mut Reader<'_, '_>, node: &'n Arc<Node>) -> Option<(&'n str, Place)> {
    if node.scalar(Dialect::Yaml12) == Some(Scalar::Null) {
        return None;
    }
    reader.name(node, "testsuite").map(|name| (name, node.place))
}

/// Writes templates as openQA does: what is most frequent for an architecture becomes its default.
pub fn dump(templates: &[Template]) -> String {
    let mut arches: BTreeMap<&str, Vec<&Template>> = BTreeMap::new();
    let aliases = aliases(templates);
    for template in templates {
        arches.entry(&template.medium.arch).or_default().push(template);
    }
    let mut defaults = Vec::new();
    let mut scenarios = Vec::new();
    for (arch, templates) in &arches {
        let usual = Usual::of(templates);
        if let Some(usual) = &usual {
            let entry = vec![
                ("machine".to_owned(), Yaml::text(&usual.machine)),
                ("priority".to_owned(), Yaml::word(usual.priority)),
            ];
            defaults.push(((*arch).to_owned(), Yaml::Map(entry)));
        }
        let mut lists: BTreeMap<String, Vec<Yaml>> = BTreeMap::new();
        for template in templates {
            let list = lists.entry(aliases[&template.medium].clone()).or_default();
            list.push(entry(template, usual.as_ref()));
        }
        let lists = lists.into_iter().map(|(alias, list)| (alias, Yaml::List(list))).collect();
        scenarios.push(((*arch).to_owned(), Yaml::Map(lists)));
    }
    let product = |(key, alias): (&MediumKey, String)| {
        let fields = [("distri", &key.distri), ("flavor", &key.flavor), ("version", &key.version)];
        let fields = fields.map(|(name, value)| (name.to_owned(), Yaml::text(value)));
        (alias, Yaml::Map(fields.into()))
    };
    let products: Vec<_> = aliases.into_iter().map(product).collect();
    let mut sections = Vec::new();
    if !defaults.is_empty() {
        sections.push(("defaults".to_owned(), Yaml::Map(defaults)));
    }
    sections.push(("products".to_owned(), Yaml::Map(products)));
    sections.push(("scenarios".to_owned(), Yaml::Map(scenarios)));
    Yaml::Map(sections).document()
}

/// A name for each product, as openQA makes them; products that would have the same one get a number.
fn aliases(templates: &[Template]) -> BTreeMap<&MediumKey, String> {
    let keys: BTreeSet<&MediumKey> = templates.iter().map(|template| &template.medium).collect();
    let mut taken = HashSet::new();
    let mut aliases = BTreeMap::new();
    for key in keys {
        let plain: String =
            key.to_string().chars().map(|c| if super::name_fits(&c.to_string()) { c } else { '_' }).collect();
        let numbered = (2..).map(|number| format!("{plain}_{number}"));
        let alias = std::iter::once(plain.clone()).chain(numbered).find(|alias| taken.insert(alias.clone()));
        aliases.insert(key, alias.unwrap_or(plain));
    }
    aliases
}

/// What is most frequent for an architecture.
struct Usual {
    machine: String,
    priority: i32,
}

impl Usual {
    /// None if some template has no priority of its own: it must not get one from here.
    fn of(templates: &[&Template]) -> Option<Self> {
        let mut counts: BTreeMap<(&str, i32), usize> = BTreeMap::new();
        for template in templates {
            *counts.entry((template.machine.as_deref()?, template.priority?)).or_default() += 1;
        }
        let ((machine, priority), _) = counts.into_iter().max_by_key(|(_, count)| *count)?;
        Some(Self { machine: machine.to_owned(), priority })
    }
}

fn entry(template: &Template, usual: Option<&Usual>) -> Yaml {
    let mut body = Vec::new();
    let machine = template.machine.as_deref().unwrap_or_default();
    if usual.is_none_or(|usual| usual.machine != machine) {
        body.push(("machine".to_owned(), Yaml::text(machine)));
    }
    if let Some(priority) = template.priority
        && usual.is_none_or(|usual| usual.priority != priority)
    {
        body.push(("priority".to_owned(), Yaml::word(priority)));
    }
    if !template.settings.is_empty() {
        let all = template.settings.iter().map(|(key, value)| (key.clone(), Yaml::text(value)));
        body.push(("settings".to_owned(), Yaml::Map(all.collect())));
    }
    match &template.suite {
        None => body.push(("testsuite".to_owned(), Yaml::word("null"))),
        Some(suite) if suite != template.test() => {
            body.push(("testsuite".to_owned(), Yaml::text(suite)));
        }
        Some(_) => {}
    }
    if !template.description.is_empty() {
        body.push(("description".to_owned(), Yaml::text(&template.description)));
    }
    if body.is_empty() {
        return Yaml::text(template.test());
    }
    Yaml::Map(vec![(template.test().to_owned(), Yaml::Map(body))])
}
