//! Scenario definitions beside the tests: openQA's schema `JobScenarios-01`.

use super::{Loaded, Once, Values, check_name, entries, names, number, settings};
use crate::diagnostic::{Place, Sink};
use crate::read::Reader;
use crate::yaml::{self, Dialect, Entry, Node};
use assay_engine::product::{Catalog, Machine, Medium, MediumKey, Origin, Template};
use std::collections::HashMap;

/// The name of the schema.
pub const SCHEMA: &str = "JobScenarios-01.yaml";

/// Reads definitions as a catalog of their own, without the server's settings, groups and priority rules.
pub fn load(name: &str, text: &str) -> Loaded<Catalog> {
    let Loaded { value, diagnostics } = load_placed(name, text);
    Loaded { value: value.map(|(catalog, _)| catalog), diagnostics }
}

/// The same, with all its templates and the place of each.
pub fn load_placed(name: &str, text: &str) -> Loaded<(Catalog, Vec<(Template, Place)>)> {
    let mut sink = Sink::default();
    let file = sink.add_file(name, text);
    let root = yaml::parse(text, file, yaml::Rules::plain(Dialect::Yaml12), &mut sink);
    let mut catalog = Catalog { origin: Origin::Scenarios, ..Catalog::default() };
    let mut placed = Vec::new();
    if let Some(root) = &root {
        placed = read(&mut Reader::new(&mut sink, Dialect::Yaml12), root, &mut catalog);
    } else if !sink.has_errors() {
        let place = Place { file, line: 0, column: 0 };
        sink.error("empty", place, "there is nothing in it; expected `products` and `job_templates`");
    }
    Loaded::new((catalog, placed), sink)
}

fn read(reader: &mut Reader<'_, '_>, root: &Node, catalog: &mut Catalog) -> Vec<(Template, Place)> {
    let Some(mut fields) = reader.fields(root, "a file of scenarios") else { return Vec::new() };
    let products = fields.get("products");
    let machines = fields.get("machines");
    let templates = reader.required(&mut fields, "job_templates");
    fields.skip_hidden();
    reader.finish(fields);
    for entry in machines.map_or(&[][..], |node| entries(reader, node, "machines")) {
        if let Some(machine) = machine(reader, entry) {
            catalog.add_machine(machine);
        }
    }
    let mut media: HashMap<&str, MediumKey> = HashMap::new();
    let mut once = Once::new();
    for entry in products.map_or(&[][..], |node| entries(reader, node, "products")) {
        let Some(medium) = product(reader, entry) else { continue };
        let message = || format!("the product `{}` is what another one is already", entry.key.text);
        once.add(reader.sink, medium.key.clone(), entry.key.place, message);
        media.insert(&entry.key.text, medium.key.clone());
        catalog.add_medium(medium);
    }
    let mut placed = Vec::new();
    for entry in templates.map_or(&[][..], |node| entries(reader, node, "job_templates")) {
        for template in template(reader, entry, &media, catalog) {
            catalog.add_template(template.clone());
            placed.push((template, entry.key.place));
        }
    }
    placed
}

fn machine(reader: &mut Reader<'_, '_>, entry: &Entry) -> Option<Machine> {
    check_name(reader, "machine", &entry.key.text, entry.key.place);
    let mut fields = reader.fields(&entry.value, "a machine")?;
    let backend = reader.required(&mut fields, "backend");
    let backend = backend.and_then(|node| reader.name(node, "backend")).unwrap_or_default().to_owned();
    let priority = fields.get("priority").and_then(|node| number(reader, node, "priority"));
    let settings = settings(reader, fields.get("settings"), Values::Text);
    reader.finish(fields);
    Some(Machine { name: entry.key.text.to_string(), backend, settings, priority })
}

fn product(reader: &mut Reader<'_, '_>, entry: &Entry) -> Option<Medium> {
    check_name(reader, "product", &entry.key.text, entry.key.place);
    let mut fields = reader.fields(&entry.value, "a product")?;
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
    let settings = settings(reader, fields.get("settings"), Values::Text);
    reader.finish(fields);
    Some(Medium { key, name: entry.key.text.to_string(), settings })
}

/// One template for each of its machines.
fn template(
    reader: &mut Reader<'_, '_>,
    entry: &Entry,
    media: &HashMap<&str, MediumKey>,
    catalog: &Catalog,
) -> Vec<Template> {
    // `name@(variant)` lets one scenario stand there several times.
    let written = &*entry.key.text;
    let name =
        written.strip_suffix(')').and_then(|text| text.split_once("@(")).map_or(written, |(name, _)| name);
    check_name(reader, "job template", name, entry.key.place);
    let Some(mut fields) = reader.fields(&entry.value, "a job template") else { return Vec::new() };
    let product = fields.get("product").and_then(|node| Some((reader.name(node, "product")?, node.place)));
    let machines = fields.get("machine").map(|node| names(reader, node, "machine")).unwrap_or_default();
    let mut template = Template { name: name.to_owned(), ..Template::default() };
    template.priority = fields.get("priority").and_then(|node| number(reader, node, "priority"));
    template.settings = settings(reader, fields.get("settings"), Values::Text);
    if let Some(node) = fields.get("description") {
        reader.text(node, "description").unwrap_or_default().clone_into(&mut template.description);
    }
    reader.finish(fields);
    for (machine, place) in &machines {
        if !catalog.machines.is_empty() && !catalog.machines.contains_key(*machine) {
            let message =
                format!("the machine `{machine}` is not among `machines`; its jobs get nothing but its name");
            reader.sink.warning("unknown-name", *place, message);
        }
    }
    let Some((product, place)) = product else {
        let message = format!("`{name}` has no product, so it is never scheduled");
        reader.sink.warning("unused", entry.key.place, message);
        return Vec::new();
    };
    let Some(medium) = media.get(product) else {
        let message = format!("the product `{product}` is not among `products`; expected one that is");
        reader.sink.unknown("unknown-name", place, message, product, media.keys().copied());
        return Vec::new();
    };
    template.medium = medium.clone();
    if machines.is_empty() {
        return vec![template];
    }
    let on = |(machine, _)| Template { machine: Some(String::from(machine)), ..template.clone() };
    machines.into_iter().map(on).collect()
}
