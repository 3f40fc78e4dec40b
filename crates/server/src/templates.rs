//! Templates from files: what a file says, put into the catalog.

use crate::api::openqa::scheduling::yaml_of;
use crate::catalog::{Catalog, Draft};
use crate::fault::Fault;
use crate::groups;
use crate::products::{for_planning, medium_key};
use assay_engine::product::{self, MediumKey, Template};
use assay_engine::settings::{COVERED, is_covered, is_secret_name};
use assay_formats::diagnostic::{Diagnostic, Place, Sink};
use assay_formats::openqa::{Changes, GroupFacts, Known};
use assay_proto::api::templates::{EntryChange, TemplateChange};
use assay_store::{
    CatalogRow, EntryKind, Group, GroupProperties, JobTemplate, Machine, ParentGroup, Product, SettingsMap,
    TestSuite,
};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// So many changes at once are named in the audit log.
const MOST_NAMED: usize = 200;

/// Covers the secrets among settings; true if there were some.
pub(crate) fn cover(settings: &mut SettingsMap) -> bool {
    let mut any = false;
    for (key, value) in settings.iter_mut().filter(|(key, _)| is_secret_name(key)) {
        any |= !key.is_empty();
        COVERED.clone_into(value);
    }
    any
}

/// Whether a text may have the names of secrets in it.
pub(crate) fn names_secrets(text: &str) -> bool {
    text.contains("_SECRET_") || text.contains("PASSWORD")
}

/// What somebody has read who may not see secrets is no template to be loaded: the secrets would be lost.
pub(crate) fn not_covered<'s>(all: impl IntoIterator<Item = &'s SettingsMap>) -> Result<(), String> {
    let covered = |settings: &&SettingsMap| {
        settings.iter().find(|(key, value)| is_covered(key, value)).map(|(key, _)| key.clone())
    };
    match all.into_iter().find_map(|settings| covered(&settings)) {
        Some(key) => Err(format!(
            "{key} has the value {COVERED}, which only covers a secret; give the secret, or take what an operator dumps"
        )),
        None => Ok(()),
    }
}

/// What the catalog has, for files that name it.
pub(crate) fn known(catalog: &Catalog) -> Known {
    let media = for_planning(catalog).media.into_keys().map(|key| key.to_string()).collect();
    Known {
        machines: catalog.machines.values().map(|row| row.name.clone()).collect(),
        suites: catalog.suites.values().map(|row| row.name.clone()).collect(),
        media,
    }
}

fn identity(row: &JobTemplate) -> (i64, i64, Option<i64>, String) {
    (row.product, row.machine, row.test_suite, row.name.clone())
}

/// The template as a row without a number, or what of it there is not.
fn row_of(catalog: &Catalog, group: i64, template: &Template) -> Result<JobTemplate, String> {
    let key = &template.medium;
    let product = catalog.product_like(&key.distri, &key.version, &key.arch, &key.flavor);
    let machine = template.machine.as_deref().and_then(|name| catalog.machine_named(name));
    let suite = template.suite.as_deref().map(|name| catalog.suite_named(name).map(|suite| suite.id));
    let (Some(product), Some(machine), None | Some(Some(_))) = (product, machine, suite) else {
        return Err(absent(catalog, template));
    };
    Ok(JobTemplate {
        id: 0,
        group,
        product: product.id,
        machine: machine.id,
        test_suite: suite.flatten(),
        name: template.name.clone(),
        prio: template.priority,
        description: Some(template.description.clone()).filter(|text| !text.is_empty()),
        settings: template.settings.clone(),
    })
}

/// What of a template there is not, each with the name that was probably meant.
fn absent(catalog: &Catalog, template: &Template) -> String {
    let known = known(catalog);
    let (medium, machine) = (template.medium.to_string(), template.machine.as_deref().unwrap_or_default());
    let suite = template.suite.as_deref();
    let named =
        [("product", Some(medium.as_str()), &known.media), ("machine", Some(machine), &known.machines)];
    let lacks = |(what, name, known): (&str, Option<&str>, &BTreeSet<String>)| {
        let name = name.filter(|name| !known.contains(*name))?;
        Some(match name {
            "" => format!("no {what} is named"),
            name => format!(
                "there is no {what} {name}{}",
                product::nearest(name, known.iter().map(String::as_str))
            ),
        })
    };
    let all = named.into_iter().chain([("test suite", suite, &known.suites)]).filter_map(lacks);
    let job = product::label(template.test(), machine);
    format!("{job} for {medium}: {}", all.collect::<Vec<_>>().join("; "))
}

/// What posts of their products would not make of these templates, or not as it is meant: circles, parents that there
/// are not. Each with its place among the templates.
pub(crate) fn impossible(catalog: &Catalog, templates: &[&Template]) -> Vec<(usize, String)> {
    tried(&for_planning(catalog), templates).impossible
}

/// What posts of the products of some templates come to.
#[derive(Default)]
pub(crate) struct Tried<'t> {
    /// The places of templates that cannot be made as they are meant, and why.
    pub(crate) impossible: Vec<(usize, String)>,
    /// How many jobs each product makes.
    pub(crate) made: BTreeMap<&'t MediumKey, usize>,
}

/// Plans each product of some templates from a catalog as it is.
pub(crate) fn tried<'t>(planned: &product::Catalog, templates: &[&'t Template]) -> Tried<'t> {
    let media: BTreeSet<_> = templates.iter().map(|template| &template.medium).collect();
    let mut found = Tried::default();
    for medium in media {
        let posted = [
            ("DISTRI", &medium.distri),
            ("VERSION", &medium.version),
            ("FLAVOR", &medium.flavor),
            ("ARCH", &medium.arch),
        ];
        let Ok(request) = product::Request::parse(posted) else { continue };
        let plan = product::plan(planned, &request);
        found.made.insert(medium, plan.jobs.len());
        for failed in plan.failed {
            let is_meant = |template: &&Template| {
                let label = product::label(template.test(), template.machine.as_deref().unwrap_or_default());
                template.medium == *medium && label == failed.job
            };
            if let Some(place) = templates.iter().position(is_meant) {
                let sentence = |problem: &String| (place, format!("{}: {problem}", failed.job));
                found.impossible.extend(failed.problems.iter().map(sentence));
            }
        }
    }
    found.impossible.sort();
    found
}

/// What was found about templates, as findings in the text that they were read from.
fn findings(
    (file, text): (&str, &str),
    places: &[Place],
    found: Vec<(usize, String)>,
    say: fn(&mut Sink<'_>, Place, String),
) -> Vec<Diagnostic> {
    let mut sink = Sink::default();
    let number = sink.add_file(file, text);
    for (at, why) in found {
        let place = places.get(at).map_or(Place::default(), |place| Place { file: number, ..*place });
        say(&mut sink, place, why);
    }
    sink.finish()
}

/// What would not be made of templates.
pub(crate) fn warnings(
    file: &str,
    text: &str,
    places: &[Place],
    impossible: Vec<(usize, String)>,
) -> Vec<Diagnostic> {
    findings((file, text), places, impossible, |sink, place, why| sink.warning("impossible", place, why))
}

/// Why templates are refused.
pub(crate) fn refusals(
    file: &str,
    text: &str,
    places: &[Place],
    wrong: Vec<(usize, String)>,
) -> Vec<Diagnostic> {
    findings((file, text), places, wrong, |sink, place, why| sink.error("refused", place, why))
}

/// The template that is for the same suite, machine and product as a row.
pub(crate) fn same_scenario<'c>(catalog: &'c Catalog, row: &JobTemplate) -> Option<&'c Arc<JobTemplate>> {
    catalog.templates.values().find(|other| identity(other) == identity(row))
}

/// That there is a template for the same suite, machine and product: which, and in which group.
pub(crate) fn taken(catalog: &Catalog, other: &JobTemplate) -> String {
    let group = catalog.groups.get(&other.group).map_or("?", |group| group.name.as_str());
    format!(
        "{} is in group {group:?} already; take it out there, or give this one another name",
        scenario_of(catalog, other)
    )
}

/// For example `install@64bit for fedora-43-Server-x86_64`.
fn scenario_of(catalog: &Catalog, row: &JobTemplate) -> String {
    let suite = row.test_suite.and_then(|id| catalog.suites.get(&id)).map_or("?", |suite| &suite.name);
    let test = if row.name.is_empty() { suite } else { &row.name };
    let machine = catalog.machines.get(&row.machine).map_or("?", |machine| &machine.name);
    let medium =
        catalog.products.get(&row.product).map_or_else(|| "?".to_owned(), |row| medium_key(row).to_string());
    format!("{} for {medium}", product::label(test, machine))
}

/// What the audit log says of a template: what it is for, by names, which stay when its number is gone.
pub(crate) fn noted(catalog: &Catalog, row: &JobTemplate) -> Value {
    let suite = row.test_suite.and_then(|id| catalog.suites.get(&id));
    let mut noted = json!({
        "id": row.id,
        "group": catalog.groups.get(&row.group).map(|group| &group.name),
        "product": catalog.products.get(&row.product).map(|product| medium_key(product).to_string()),
        "machine": catalog.machines.get(&row.machine).map(|machine| &machine.name),
        "test_suite": suite.map(|suite| &suite.name),
    });
    if !row.name.is_empty() {
        noted["name"] = json!(row.name);
    }
    noted
}

/// Adds the names of what was changed to what the audit log says.
pub(crate) fn note_changes(noted: &mut Value, changes: &[TemplateChange]) {
    let mut names: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for one in changes.iter().take(MOST_NAMED) {
        names.entry(format!("{} {}", one.change.word(), one.kind)).or_default().push(&one.name);
    }
    noted["changes"] = json!(names);
    noted["not_named"] = json!(changes.len().saturating_sub(MOST_NAMED));
}

/// What people know an entry by.
fn name_of(catalog: &Catalog, row: &CatalogRow) -> String {
    match row {
        CatalogRow::Machine(row) => row.name.clone(),
        CatalogRow::TestSuite(row) => row.name.clone(),
        CatalogRow::Product(row) => medium_key(row).to_string(),
        CatalogRow::JobTemplate(row) => scenario_of(catalog, row),
        CatalogRow::Group(row) => row.name.clone(),
        CatalogRow::ParentGroup(row) => row.name.clone(),
    }
}

/// Puts these templates in the place of those that the group has. One that says the same keeps its number. What is
/// wrong is told with its place among the templates.
pub(crate) fn replace(
    draft: &mut Draft,
    group: &Group,
    templates: &[Template],
    counts: &mut Counts,
) -> Result<Vec<i64>, Vec<(usize, String)>> {
    let rows = templates.iter().map(|template| row_of(&draft.catalog, group.id, template));
    let (mut wanted, mut wrong) = (Vec::new(), Vec::new());
    for (at, row) in rows.enumerate() {
        match row {
            Ok(row) => wanted.push((at, row)),
            Err(why) => wrong.push((at, why)),
        }
    }
    let mut there: BTreeMap<_, Arc<JobTemplate>> =
        draft.catalog.templates.values().map(|row| (identity(row), row.clone())).collect();
    for (at, row) in &wanted {
        if let Some(other) = there.get(&identity(row)).filter(|other| other.group != group.id) {
            wrong.push((*at, taken(&draft.catalog, other)));
        }
    }
    if !wrong.is_empty() {
        return Err(wrong);
    }
    let wanted: Vec<_> = wanted.into_iter().map(|(_, row)| row).collect();
    let kept: Vec<_> = wanted.iter().filter_map(|row| there.remove(&identity(row))).collect();
    let kept: BTreeMap<_, _> = kept.into_iter().map(|row| (identity(&row), row)).collect();
    for row in there.into_values().filter(|row| row.group == group.id) {
        draft.remove(EntryKind::JobTemplate, row.id);
        counts.note(&draft.catalog, EntryChange::Removed, &CatalogRow::JobTemplate(JobTemplate::clone(&row)));
    }
    let mut made = Vec::new();
    for row in wanted {
        let before = kept.get(&identity(&row)).map(|row| JobTemplate::clone(row));
        let id = before.as_ref().map_or_else(|| draft.new_id(EntryKind::JobTemplate), |row| row.id);
        made.push(id);
        let row = CatalogRow::JobTemplate(JobTemplate { id, ..row });
        counts.put(draft, before.map(CatalogRow::JobTemplate), row);
    }
    Ok(made)
}

/// Whether a template is written in the YAML of its group.
fn by_yaml(catalog: &Catalog, template: &JobTemplate) -> bool {
    catalog.groups.get(&template.group).is_some_and(|group| group.template.is_some())
}

/// What putting a file into the catalog came to.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Entries that were there as they should be.
    pub(crate) same: usize,
    pub(crate) changes: Vec<TemplateChange>,
}

impl Counts {
    /// Puts a row in place unless it is there already as it should be.
    fn put(&mut self, draft: &mut Draft, before: Option<CatalogRow>, row: CatalogRow) {
        if before.as_ref() == Some(&row) {
            self.same += 1;
            return;
        }
        let change = if before.is_some() { EntryChange::Changed } else { EntryChange::New };
        self.note(&draft.catalog, change, &row);
        draft.put(row);
    }

    fn note(&mut self, catalog: &Catalog, change: EntryChange, row: &CatalogRow) {
        let kind = row.id().kind.word().to_owned();
        self.changes.push(TemplateChange { change, kind, name: name_of(catalog, row) });
    }
}

/// The templates of a group's YAML, with the file and where they stand in it.
pub(crate) struct Placed {
    pub(crate) group: String,
    pub(crate) file: String,
    pub(crate) text: String,
    pub(crate) templates: Vec<(Template, Place)>,
}

/// Puts everything that a file says into the catalog; what is there of the same name is changed. What is wrong with a
/// group's YAML is told with its place.
pub(crate) fn load(draft: &mut Draft, changes: &Changes, placed: &[Placed]) -> Result<Counts, Vec<String>> {
    let own = (changes.machines.iter().map(|one| &one.settings))
        .chain(changes.suites.iter().map(|one| &one.settings))
        .chain(changes.media.iter().map(|one| &one.settings))
        .chain(changes.templates.iter().map(|one| &one.template.settings))
        .chain(changes.groups.iter().flat_map(|file| &file.templates).map(|one| &one.settings));
    not_covered(own).map_err(|why| vec![why])?;
    let mut counts = Counts::default();
    for machine in &changes.machines {
        let before = draft.catalog.machine_named(&machine.name).cloned();
        let id = before.as_ref().map_or_else(|| draft.new_id(EntryKind::Machine), |row| row.id);
        let (name, backend, settings) =
            (machine.name.clone(), machine.backend.clone(), machine.settings.clone());
        let before = before.map(|row| CatalogRow::Machine(Machine::clone(&row)));
        counts.put(draft, before, CatalogRow::Machine(Machine { id, name, backend, settings }));
    }
    for suite in &changes.suites {
        let before = draft.catalog.suite_named(&suite.name).cloned();
        let id = before.as_ref().map_or_else(|| draft.new_id(EntryKind::TestSuite), |row| row.id);
        let description = Some(suite.description.clone()).filter(|text| !text.is_empty());
        let row = TestSuite { id, name: suite.name.clone(), description, settings: suite.settings.clone() };
        let before = before.map(|row| CatalogRow::TestSuite(TestSuite::clone(&row)));
        counts.put(draft, before, CatalogRow::TestSuite(row));
    }
    for medium in &changes.media {
        let key = &medium.key;
        let before = draft.catalog.product_like(&key.distri, &key.version, &key.arch, &key.flavor).cloned();
        let id = before.as_ref().map_or_else(|| draft.new_id(EntryKind::Product), |row| row.id);
        let row = Product {
            id,
            name: medium.name.clone(),
            distri: key.distri.clone(),
            version: key.version.clone(),
            arch: key.arch.clone(),
            flavor: key.flavor.clone(),
            description: before.as_ref().and_then(|row| row.description.clone()),
            settings: medium.settings.clone(),
        };
        let before = before.map(|row| CatalogRow::Product(Product::clone(&row)));
        counts.put(draft, before, CatalogRow::Product(row));
    }
    for facts in &changes.facts {
        load_facts(draft, facts, &mut counts)?;
    }
    load_templates(draft, changes, placed, &mut counts)?;
    Ok(counts)
}

/// What a group keeps, and where it stands.
fn load_facts(draft: &mut Draft, facts: &GroupFacts, counts: &mut Counts) -> Result<(), Vec<String>> {
    let parent = match &facts.parent {
        None => None,
        Some(name) => {
            let there = draft.catalog.parents.values().find(|parent| parent.name == *name);
            Some(if let Some(parent) = there {
                parent.id
            } else {
                let id = draft.new_id(EntryKind::ParentGroup);
                let parent = ParentGroup { id, name: name.clone(), ..ParentGroup::default() };
                draft.put(CatalogRow::ParentGroup(parent));
                id
            })
        }
    };
    let there = draft.catalog.group_named(&facts.name).map(|group| Group::clone(group));
    let id = there.as_ref().map_or_else(|| draft.new_id(EntryKind::Group), |group| group.id);
    let properties = serde_json::to_value(&facts.numbers)
        .and_then(serde_json::from_value::<GroupProperties>)
        .map_err(|error| vec![format!("group {:?}: {error}", facts.name)])?;
    let group = Group {
        id,
        parent,
        name: facts.name.clone(),
        description: facts.description.clone(),
        sort_order: facts.sort_order,
        template: there.as_ref().and_then(|group| group.template.clone()),
        properties,
    };
    // The name stays as the file has it: its templates are put into the group by that name.
    groups::fitting(&draft.catalog, group.clone())
        .map_err(|refused| vec![format!("group {:?}: {}", facts.name, Fault::from(refused).error)])?;
    counts.put(draft, there.map(CatalogRow::Group), CatalogRow::Group(group));
    Ok(())
}

fn facts_of(catalog: &Catalog, group: &Group) -> GroupFacts {
    let said = serde_json::to_value(&group.properties).unwrap_or_default();
    let said = said.as_object().into_iter().flatten();
    GroupFacts {
        name: group.name.clone(),
        parent: group.parent.and_then(|id| catalog.parents.get(&id)).map(|parent| parent.name.clone()),
        description: group.description.clone(),
        sort_order: group.sort_order,
        numbers: said.filter_map(|(key, value)| Some((key.clone(), value.as_i64()?))).collect(),
    }
}

/// The group of that name, made if there is none.
fn group_named(draft: &mut Draft, name: &str) -> Group {
    if let Some(group) = draft.catalog.group_named(name) {
        return Group::clone(group);
    }
    let group = Group { id: draft.new_id(EntryKind::Group), name: name.to_owned(), ..Group::default() };
    draft.put(CatalogRow::Group(group.clone()));
    group
}

/// A finding with its place before it, if it has one.
pub(crate) fn located(at: &str, finding: &str) -> String {
    if at.is_empty() { finding.to_owned() } else { format!("{at}: {finding}") }
}

fn load_templates(
    draft: &mut Draft,
    changes: &Changes,
    placed: &[Placed],
    counts: &mut Counts,
) -> Result<(), Vec<String>> {
    let mut wrong = Vec::new();
    let mut there: BTreeMap<_, JobTemplate> =
        draft.catalog.templates.values().map(|row| (identity(row), JobTemplate::clone(row))).collect();
    for grouped in &changes.templates {
        let group = group_named(draft, &grouped.group);
        if group.template.is_some() {
            wrong.push(format!("group {:?} has its templates as YAML; load that instead", group.name));
            continue;
        }
        match row_of(&draft.catalog, group.id, &grouped.template) {
            Ok(row) => {
                let before = there.get(&identity(&row)).cloned();
                let elsewhere = before.as_ref().filter(|other| other.group != group.id);
                if let Some(other) = elsewhere.filter(|other| by_yaml(&draft.catalog, other)) {
                    let why = format!("error: {}", taken(&draft.catalog, other));
                    wrong.push(located(&grouped.at, &why));
                    continue;
                }
                let id = before.as_ref().map_or_else(|| draft.new_id(EntryKind::JobTemplate), |row| row.id);
                let row = JobTemplate { id, ..row };
                there.insert(identity(&row), row.clone());
                counts.put(draft, before.map(CatalogRow::JobTemplate), CatalogRow::JobTemplate(row));
            }
            Err(why) => wrong.push(located(&grouped.at, &format!("error: {why}"))),
        }
    }
    for file in &changes.groups {
        let group = Group { template: Some(file.text.clone()), ..group_named(draft, &file.name) };
        match replace(draft, &group, &file.templates, counts) {
            Ok(_) => draft.put(CatalogRow::Group(group)),
            Err(found) => {
                let known = placed.iter().find(|one| one.group == file.name && one.text == file.text);
                if let Some(Placed { file, text, templates, .. }) = known {
                    let places: Vec<_> = templates.iter().map(|(_, place)| *place).collect();
                    wrong.extend(refusals(file, text, &places, found).iter().map(ToString::to_string));
                } else {
                    let refused = found.iter().map(|(_, why)| located(&file.at, &format!("error: {why}")));
                    wrong.extend(refused);
                }
            }
        }
    }
    wrong.dedup();
    if wrong.is_empty() { Ok(()) } else { Err(wrong) }
}

/// Everything that the catalog has, as a file says it; without secrets their values are covered.
pub(crate) fn all(catalog: &Catalog, secrets: bool) -> Changes {
    let mut changes = everything(catalog);
    if secrets {
        return changes;
    }
    let own = (changes.machines.iter_mut().map(|one| &mut one.settings))
        .chain(changes.suites.iter_mut().map(|one| &mut one.settings))
        .chain(changes.media.iter_mut().map(|one| &mut one.settings))
        .chain(changes.templates.iter_mut().map(|one| &mut one.template.settings))
        .chain(changes.groups.iter_mut().flat_map(|file| &mut file.templates).map(|one| &mut one.settings));
    for settings in own {
        cover(settings);
    }
    for file in &mut changes.groups {
        if let Some(group) = catalog.group_named(&file.name) {
            file.text = yaml_of(catalog, group, false);
        }
    }
    changes
}

fn everything(catalog: &Catalog) -> Changes {
    let planned = for_planning(catalog);
    let mut changes = Changes {
        machines: planned.machines.into_values().collect(),
        media: planned.media.into_values().collect(),
        suites: planned.suites.into_values().collect(),
        ..Changes::default()
    };
    let with_yaml: BTreeMap<i64, &Arc<Group>> = catalog
        .groups
        .values()
        .filter(|group| group.template.is_some())
        .map(|group| (group.id, group))
        .collect();
    let mut of_yaml: BTreeMap<i64, Vec<Template>> = BTreeMap::new();
    for template in planned.templates.into_values().flatten() {
        let Some(group) = template.group.map(|group| group.0) else { continue };
        if with_yaml.contains_key(&group) {
            of_yaml.entry(group).or_default().push(Template { group: None, ..template });
        } else if let Some(named) = catalog.groups.get(&group) {
            let template = Template { group: None, ..template };
            changes.templates.push(assay_formats::openqa::Grouped {
                group: named.name.clone(),
                template,
                at: String::new(),
            });
        }
    }
    changes.facts = catalog.groups.values().map(|group| facts_of(catalog, group)).collect();
    for (id, group) in with_yaml {
        changes.groups.push(assay_formats::openqa::GroupFile {
            name: group.name.clone(),
            text: group.template.clone().unwrap_or_default(),
            templates: of_yaml.remove(&id).unwrap_or_default(),
            at: String::new(),
        });
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use assay_formats::openqa::GROUP_NUMBERS;

    #[test]
    fn files_may_say_every_number_of_a_group() {
        let fields = groups::fields(&GroupProperties::default());
        let known: BTreeSet<&str> = GROUP_NUMBERS.into();
        assert_eq!(known, fields.keys().map(String::as_str).collect());
    }
}
