//! FIF, the format of Fedora's templates: suites name profiles, and each profile is a machine with a product.

use super::{Changes, Grouped, Known, Loaded, Values, entries, literal, number, settings, tables};
use crate::diagnostic::{Place, Sink};
use crate::read::Reader;
use crate::yaml::{Dialect, Entry, Kind, Node, Scalar};
use assay_engine::product::{Machine, Medium, MediumKey, SettingsMap, Suite, Template};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Which templates belong to a group. What is empty fits everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GroupRule {
    /// Machines or architectures, one of which must fit.
    pub machines: Vec<String>,
    /// What the flavor must contain.
    pub flavor_has: String,
    /// The group.
    pub group: String,
}

/// How templates find their group: the first rule that fits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupRules {
    /// In this order.
    pub rules: Vec<GroupRule>,
    /// If none fits.
    pub otherwise: String,
}

impl GroupRules {
    /// All into one group.
    pub fn one(group: &str) -> Self {
        Self { rules: Vec::new(), otherwise: group.to_owned() }
    }

    /// Fedora's: by architecture, and updates apart.
    pub fn fedora() -> Self {
        let rule = |machines: &[&str], flavor: &str, group: &str| GroupRule {
            machines: machines.iter().map(|&name| name.to_owned()).collect(),
            flavor_has: flavor.to_owned(),
            group: group.to_owned(),
        };
        let (power, arm) = (["ppc64le"], ["aarch64", "ARM"]);
        Self {
            rules: vec![
                rule(&power, "updates", "Fedora PowerPC Updates"),
                rule(&power, "", "Fedora PowerPC"),
                rule(&arm, "updates", "Fedora AArch64 Updates"),
                rule(&arm, "", "Fedora AArch64"),
                rule(&[], "updates", "Fedora Updates"),
            ],
            otherwise: "fedora".to_owned(),
        }
    }

    fn group(&self, machine: &str, medium: &MediumKey) -> &str {
        let fits = |rule: &&GroupRule| {
            let named = |name: &String| name == machine || *name == medium.arch;
            (rule.machines.is_empty() || rule.machines.iter().any(named))
                && medium.flavor.contains(&rule.flavor_has)
        };
        self.rules.iter().find(fits).map_or(&self.otherwise, |rule| &rule.group)
    }
}

/// Reads files, each of which is laid over those before it.
pub fn load(sources: &[(&str, &str)], rules: &GroupRules, known: Option<&Known>) -> Loaded<Changes> {
    let (changes, sink) = load_into_sink(sources, rules, known);
    Loaded::new(changes, sink)
}

/// What can be read of a file whatever is wrong with the rest, for other files that name it.
pub fn readable(text: &str) -> Changes {
    load_into_sink(&[("", text)], &GroupRules::one(""), None).0
}

/// True if what the tables of a file hold stands below names, not in lists.
pub fn is_fif(text: &str) -> bool {
    let mut sink = Sink::default();
    let file = sink.add_file("", text);
    let root = literal::parse(text, file, &mut sink);
    let Some(Kind::Map(tables)) = root.as_ref().map(|root| &root.kind) else { return false };
    let by_name = ["Machines", "Products", "TestSuites", "Profiles"];
    tables.iter().any(|table| by_name.contains(&&*table.key.text) && matches!(table.value.kind, Kind::Map(_)))
}

fn load_into_sink<'t>(
    sources: &[(&str, &'t str)],
    rules: &GroupRules,
    known: Option<&Known>,
) -> (Changes, Sink<'t>) {
    let mut sink = Sink::default();
    let mut roots = Vec::new();
    for &(name, text) in sources {
        let file = sink.add_file(name, text);
        roots.extend(literal::parse(text, file, &mut sink));
    }
    let mut reader = Reader::new(&mut sink, Dialect::Yaml12);
    let mut all = All::default();
    for root in &roots {
        all.add(&mut reader, root);
    }
    let changes = all.finish(&mut reader, rules, known);
    (changes, sink)
}

/// A suite with all that files say about it.
#[derive(Default)]
struct SuiteParts<'n> {
    place: Place,
    description: Option<String>,
    settings: Option<SettingsMap>,
    profiles: BTreeMap<&'n str, (i32, Place)>,
    groups: BTreeMap<&'n str, (i32, Place)>,
}

struct Profile<'n> {
    machine: &'n str,
    product: &'n str,
    place: Place,
}

/// What all files together have.
#[derive(Default)]
struct All<'n> {
    machines: BTreeMap<&'n str, Machine>,
    products: BTreeMap<&'n str, Medium>,
    flavors: BTreeMap<&'n str, SettingsMap>,
    profiles: BTreeMap<&'n str, Profile<'n>>,
    groups: BTreeMap<&'n str, BTreeMap<&'n str, (i32, Place)>>,
    suites: BTreeMap<&'n str, SuiteParts<'n>>,
    templates: Vec<Grouped>,
}

impl<'n> All<'n> {
    fn add(&mut self, reader: &mut Reader<'_, '_>, root: &'n Node) {
        let Some(mut fields) = reader.fields(root, "a FIF file") else { return };
        let names = ["Machines", "Flavors", "Products", "Profiles", "ProfileGroups", "TestSuites"];
        let [machines, flavors, products, profiles, groups, suites] =
            names.map(|key| fields.get(key).map_or(&[][..], |node| entries(reader, node, key)));
        let defaults = fields.get("ProductDefaults");
        let templates = fields.get("JobTemplates");
        let own = fields.get("JobGroups");
        reader.finish(fields);
        if let Some(node) = own {
            let message = "groups with YAML are not read here; load them with their own file";
            reader.sink.warning("unused", node.place, message);
        }
        for entry in machines {
            if let Some(machine) = machine(reader, entry) {
                self.machines.insert(&entry.key.text, machine);
            }
        }
        for entry in flavors {
            if let Some(mut fields) = reader.fields(&entry.value, "a flavor") {
                let settings = settings(reader, fields.get("settings"), Values::Any);
                reader.finish(fields);
                self.flavors.insert(&entry.key.text, settings);
            }
        }
        for entry in products {
            if let Some(medium) = product(reader, entry, defaults) {
                self.products.insert(&entry.key.text, medium);
            }
        }
        for entry in profiles {
            if let Some(profile) = profile(reader, entry) {
                self.profiles.insert(&entry.key.text, profile);
            }
        }
        for entry in groups {
            let profiles = priorities(reader, &entry.value, "profiles of a group");
            self.groups.insert(&entry.key.text, profiles);
        }
        for entry in suites {
            self.suite(reader, entry);
        }
        for node in templates.map(|node| reader.list(node, "JobTemplates")).unwrap_or_default() {
            self.templates.extend(tables::job_template(reader, node, &HashMap::new(), None));
        }
    }

    /// Of a suite that is in several files, profiles are put together, and the rest is the last file's.
    fn suite(&mut self, reader: &mut Reader<'_, '_>, entry: &'n Entry) {
        let Some(mut fields) = reader.fields(&entry.value, "a test suite") else { return };
        let parts = self.suites.entry(&entry.key.text).or_default();
        if parts.place == Place::default() {
            parts.place = entry.key.place;
        }
        if let Some(node) = fields.get("description") {
            parts.description = reader.text(node, "description").map(str::to_owned);
        }
        if let Some(node) = fields.get("settings") {
            parts.settings = Some(settings(reader, Some(node), Values::Any));
        }
        if let Some(node) = fields.get("profiles") {
            parts.profiles.extend(priorities(reader, node, "profiles"));
        }
        if let Some(node) = fields.get("profile_groups") {
            parts.groups.extend(priorities(reader, node, "profile_groups"));
        }
        reader.finish(fields);
    }

    fn finish(mut self, reader: &mut Reader<'_, '_>, rules: &GroupRules, known: Option<&Known>) -> Changes {
        for medium in self.products.values_mut() {
            let shared = self.flavors.get(&*medium.key.flavor).into_iter().flatten();
            for (key, value) in shared {
                medium.settings.entry(key.clone()).or_insert_with(|| value.clone());
            }
        }
        self.check_profiles(reader);
        let mut templates = std::mem::take(&mut self.templates);
        for (name, parts) in &self.suites {
            templates.extend(self.templates_of(reader, name, parts, rules));
        }
        let mut changes = Changes { templates, ..Changes::default() };
        for (name, parts) in self.suites {
            if parts.settings.is_none() && parts.description.is_none() {
                if known.is_none_or(|known| !known.suites.contains(name)) {
                    let message = format!(
                        "the test suite `{name}` has profiles, but no file says what its settings are; load the file that does as well"
                    );
                    reader.sink.warning("incomplete", parts.place, message);
                }
                continue;
            }
            changes.suites.push(Suite {
                name: name.to_owned(),
                description: parts.description.unwrap_or_default(),
                settings: parts.settings.unwrap_or_default(),
            });
        }
        changes.machines = self.machines.into_values().collect();
        changes.media = self.products.into_values().collect();
        changes
    }

    /// Profiles must name machines and products of these files.
    fn check_profiles(&self, reader: &mut Reader<'_, '_>) {
        for profile in self.profiles.values() {
            let Profile { machine, product, place } = profile;
            if !self.machines.contains_key(machine) {
                let message = format!("the machine `{machine}` is not among `Machines`");
                reader.sink.unknown("unknown-name", *place, message, machine, self.machines.keys().copied());
            }
            if !self.products.contains_key(product) {
                let message = format!("the product `{product}` is not among `Products`");
                reader.sink.unknown("unknown-name", *place, message, product, self.products.keys().copied());
            }
        }
        for (profile, (_, place)) in self.groups.values().flatten() {
            self.check_profile(reader, profile, *place);
        }
    }

    fn check_profile(&self, reader: &mut Reader<'_, '_>, name: &str, place: Place) -> Option<&Profile<'n>> {
        let found = self.profiles.get(name);
        if found.is_none() {
            let message = format!("the profile `{name}` is not among `Profiles`");
            reader.sink.unknown("unknown-name", place, message, name, self.profiles.keys().copied());
        }
        found
    }

    /// One template for each profile; what a suite says itself wins over its groups of profiles.
    fn templates_of(
        &self,
        reader: &mut Reader<'_, '_>,
        name: &str,
        parts: &SuiteParts<'n>,
        rules: &GroupRules,
    ) -> Vec<Grouped> {
        let mut wanted: BTreeMap<&str, (i32, Place)> = BTreeMap::new();
        for (group, (base, place)) in &parts.groups {
            let Some(profiles) = self.groups.get(group) else {
                let message = format!("the group of profiles `{group}` is not among `ProfileGroups`");
                reader.sink.unknown("unknown-name", *place, message, group, self.groups.keys().copied());
                continue;
            };
            let sum = |more: &i32| base.saturating_add(*more);
            wanted.extend(profiles.iter().map(|(profile, (more, _))| (*profile, (sum(more), *place))));
        }
        wanted.extend(parts.profiles.iter().map(|(profile, priority)| (*profile, *priority)));
        if wanted.is_empty() {
            let message = format!("the test suite `{name}` has no profiles, so it is never scheduled");
            reader.sink.warning("unused", parts.place, message);
        }
        let mut templates = Vec::new();
        for (profile, (priority, place)) in wanted {
            let Some(profile) = self.check_profile(reader, profile, place) else { continue };
            let Some(medium) = self.products.get(profile.product) else { continue };
            templates.push(Grouped {
                group: rules.group(profile.machine, &medium.key).to_owned(),
                template: Template {
                    medium: medium.key.clone(),
                    machine: Some(profile.machine.to_owned()),
                    suite: Some(name.to_owned()),
                    // None at all: the group's.
                    priority: Some(priority).filter(|priority| *priority != 0),
                    ..Template::default()
                },
                at: reader.sink.at(place),
            });
        }
        templates
    }
}

fn machine(reader: &mut Reader<'_, '_>, entry: &Entry) -> Option<Machine> {
    let mut fields = reader.fields(&entry.value, "a machine")?;
    let backend = reader.required(&mut fields, "backend");
    let backend = backend.and_then(|node| reader.name(node, "backend")).unwrap_or_default().to_owned();
    let settings = settings(reader, fields.get("settings"), Values::Any);
    reader.finish(fields);
    Some(Machine { name: entry.key.text.to_string(), backend, settings, priority: None })
}

/// A product; what it does not say is said by the defaults of its file.
fn product(reader: &mut Reader<'_, '_>, entry: &Entry, defaults: Option<&Arc<Node>>) -> Option<Medium> {
    let mut fields = reader.fields(&entry.value, "a product")?;
    if let Some(defaults) = defaults {
        fields = fields.with_base(defaults);
    }
    let mut text = |key: &'static str| {
        let node = reader.required(&mut fields, key);
        node.and_then(|node| reader.name(node, key)).unwrap_or_default().to_owned()
    };
    let key = MediumKey {
        distri: text("distri").to_lowercase(),
        version: text("version"),
        flavor: text("flavor"),
        arch: text("arch"),
    };
    fields.get("name");
    let settings = settings(reader, fields.get("settings"), Values::Any);
    reader.finish(fields);
    Some(Medium { key, name: entry.key.text.to_string(), settings })
}

fn profile<'n>(reader: &mut Reader<'_, '_>, entry: &'n Entry) -> Option<Profile<'n>> {
    let mut fields = reader.fields(&entry.value, "a profile")?;
    let machine = reader.required(&mut fields, "machine");
    let machine = machine.and_then(|node| reader.name(node, "machine"));
    let product = reader.required(&mut fields, "product");
    let product = product.and_then(|node| reader.name(node, "product"));
    reader.finish(fields);
    Some(Profile { machine: machine?, product: product?, place: entry.key.place })
}

/// Names with a priority each.
fn priorities<'n>(
    reader: &mut Reader<'_, '_>,
    node: &'n Node,
    what: &str,
) -> BTreeMap<&'n str, (i32, Place)> {
    let mut all = BTreeMap::new();
    for entry in entries(reader, node, what) {
        let nothing = entry.value.scalar(Dialect::Yaml12) == Some(Scalar::Null);
        let priority = if nothing { Some(0) } else { number(reader, &entry.value, &entry.key.text) };
        if let Some(priority) = priority {
            all.insert(&*entry.key.text, (priority, entry.key.place));
        }
    }
    all
}
