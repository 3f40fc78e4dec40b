//! Job groups and parent groups: what counts for them, and how admins change them. Both APIs and the pages end here.

use crate::api::openqa::Wrong;
use crate::app::App;
use crate::auth::Sender;
use crate::catalog::{Catalog, Draft};
use crate::fault::Fault;
use assay_store::{CatalogRow, EntryKind, Group, GroupProperties, ParentGroup, StoreError};
use axum::http::StatusCode;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// What a group says that nobody says anything about.
const DEFAULTS: [(&str, i64); 11] = [
    ("size_limit_gb", 100),
    ("keep_logs_in_days", 30),
    ("keep_important_logs_in_days", 120),
    ("keep_results_in_days", 365),
    ("keep_important_results_in_days", 0),
    ("keep_jobs_in_days", 730),
    ("keep_important_jobs_in_days", 0),
    ("default_priority", 50),
    ("build_version_sort", 1),
    ("carry_over_bugrefs", 1),
    ("ignore_on_dashboard", 0),
];
/// Pairs of what goes first and what stays longer.
const AGES: [(&str, &str); 4] = [
    ("keep_logs_in_days", "keep_results_in_days"),
    ("keep_results_in_days", "keep_jobs_in_days"),
    ("keep_important_logs_in_days", "keep_important_results_in_days"),
    ("keep_important_results_in_days", "keep_important_jobs_in_days"),
];
/// The longest name, bytes.
const LONGEST: usize = 255;

/// Properties by their names.
pub(crate) fn fields(properties: &GroupProperties) -> Map<String, Value> {
    match serde_json::to_value(properties) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    }
}

/// What counts where this is said: what is inherited and the defaults fill what is null.
pub(crate) fn effective(own: &GroupProperties, parent: Option<&GroupProperties>) -> Map<String, Value> {
    let inherited = parent.map(fields).unwrap_or_default();
    let mut said = fields(own);
    for (name, value) in &mut said {
        // The size of assets is not inherited.
        if value.is_null() && name != "size_limit_gb" {
            *value = inherited.get(name).cloned().unwrap_or_default();
        }
        if value.is_null() {
            *value = DEFAULTS.iter().find(|(known, _)| known == name).map(|(_, value)| *value).into();
        }
    }
    said
}

/// What the parent of a group says, if it has one.
pub(crate) fn inherited<'c>(catalog: &'c Catalog, group: &Group) -> Option<&'c GroupProperties> {
    group.parent.and_then(|id| catalog.parents.get(&id)).map(|parent| &parent.properties)
}

/// The priority of a group's jobs if nobody says another.
pub(crate) fn usual_priority(catalog: &Catalog, group: &Group) -> Option<i32> {
    let inherited = inherited(catalog, group).and_then(|parent| parent.default_priority);
    group.properties.default_priority.or(inherited).map(|priority| priority as i32)
}

/// How many days a group keeps its jobs; `None` is for ever.
pub(crate) fn keeps_jobs(app: &App, id: i64) -> Option<i64> {
    let catalog = app.library.now();
    let group = catalog.groups.get(&id)?;
    let days = effective(&group.properties, inherited(&catalog, group)).get("keep_jobs_in_days")?.as_i64()?;
    (days > 0).then_some(days)
}

/// Why something is not done to a group.
#[derive(Debug)]
pub(crate) enum Refused {
    /// There is no such group, or no such parent group.
    Absent {
        what: &'static str,
        id: i64,
    },
    /// The name is empty, too long, or no line of text.
    Name,
    /// The group that is to be its parent is not there.
    NoParent(i64),
    /// A number that cannot be, and what it may be.
    Number {
        name: String,
        may_be: &'static str,
    },
    /// Something would be kept longer than what it belongs to.
    Ages {
        shorter: &'static str,
        longer: &'static str,
        days: (i64, i64),
        group: Option<String>,
    },
    /// Another one has the name.
    Taken {
        what: &'static str,
        name: String,
    },
    /// Jobs or groups are in it.
    NotEmpty {
        what: &'static str,
        id: i64,
    },
    /// What was sent cannot be read.
    Unreadable(String),
    Store(StoreError),
}

const GROUP: &str = "job group";
const PARENT: &str = "parent group";

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Refused {
    /// A name that is there already, told as such.
    fn named(self, what: &'static str, name: &str) -> Self {
        match self {
            Self::Store(StoreError::Duplicate { .. }) => Self::Taken { what, name: name.to_owned() },
            other => other,
        }
    }

    fn ages(shorter: &str, longer: &str, (short, long): (i64, i64)) -> String {
        let for_ever = |days: i64| if days == 0 { "for ever".to_owned() } else { days.to_string() };
        format!(
            "{shorter} would be {}, {longer} is {}; logs are kept no longer than results, and results no longer than jobs",
            for_ever(short),
            for_ever(long),
        )
    }
}

impl From<Refused> for Wrong {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Absent { .. } => Self::not_found("Group does not exist"),
            Refused::Name => Self::parameters(&[], &["name"]),
            Refused::NoParent(_) => Self::parameters(&[], &["parent_id"]),
            Refused::Number { name, .. } => Self::parameters(&[], &[name.as_str()]),
            Refused::Ages { shorter, longer, days, group } => {
                let why = Refused::ages(shorter, longer, days);
                let wrong = Self::bad(format!("Erroneous parameters ({shorter} invalid): {why}"));
                match group {
                    Some(group) => wrong.with("job_group", group),
                    None => wrong,
                }
            }
            // openQA's clients look at `already_exists`.
            Refused::Taken { what, name } => {
                Self::new(StatusCode::CONFLICT, format!("There is a {what} {name:?} already."))
                    .with("already_exists", true)
            }
            Refused::NotEmpty { what, id } => {
                let what = if what == PARENT { "Parent group" } else { "Job group" };
                Self::new(StatusCode::CONFLICT, format!("{what} {id} is not empty"))
            }
            Refused::Unreadable(why) => Self::bad(why),
            Refused::Store(error) => error.into(),
        }
    }
}

impl From<Refused> for Fault {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Absent { what, id } => Self::no_group(what, id),
            Refused::Name => Self::bad(
                "A group needs a name.",
                format!("Send \"name\": one line of at most {LONGEST} bytes."),
            ),
            Refused::NoParent(id) => Self::bad(
                format!("There is no parent group {id}."),
                "Send \"parent\": null, or a number of GET /api/assay/v1/parent-groups.",
            ),
            Refused::Number { name, may_be } => {
                Self::bad(format!("{name} cannot be that number."), format!("Send {may_be}, or null."))
            }
            Refused::Ages { shorter, longer, days, group } => {
                let within = group.map(|name| format!("In the group {name:?}: ")).unwrap_or_default();
                let why = Refused::ages(shorter, longer, days);
                Self::bad(
                    format!("{within}{why}."),
                    format!("Lower {shorter}, or raise {longer}; 0 is for ever."),
                )
            }
            Refused::Taken { what, name } => Self::new(
                StatusCode::CONFLICT,
                format!("There is a {what} {name:?} already."),
                "Choose another name, or change that one.",
            ),
            Refused::NotEmpty { what, id } => Self::new(
                StatusCode::CONFLICT,
                format!("The {what} {id} is not empty."),
                if what == PARENT {
                    "Move its groups to another parent, or delete them."
                } else {
                    "Delete its jobs, or move them to another group."
                },
            ),
            Refused::Unreadable(why) => Self::bad(
                format!("The request cannot be read: {why}."),
                r#"Send for example {"name": "fedora", "properties": {"keep_jobs_in_days": 90}}."#,
            ),
            Refused::Store(error) => error.into(),
        }
    }
}

impl Fault {
    /// `what` is the kind of group.
    fn no_group(what: &str, id: i64) -> Self {
        let list = if what == PARENT { "parent-groups" } else { "groups" };
        Self::not_found(
            format!("There is no {what} {id}."),
            format!("GET /api/assay/v1/{list} has those that there are."),
        )
    }
}

/// The group of that number.
pub(crate) fn found(catalog: &Catalog, id: i64) -> Result<&Arc<Group>, Refused> {
    catalog.groups.get(&id).ok_or(Refused::Absent { what: GROUP, id })
}

/// The parent group of that number.
pub(crate) fn found_parent(catalog: &Catalog, id: i64) -> Result<&Arc<ParentGroup>, Refused> {
    catalog.parents.get(&id).ok_or(Refused::Absent { what: PARENT, id })
}

/// A name without the blanks around it.
fn named(name: &str) -> Result<String, Refused> {
    let name = name.trim();
    if name.is_empty() || name.len() > LONGEST || name.chars().any(char::is_control) {
        return Err(Refused::Name);
    }
    Ok(name.to_owned())
}

/// Numbers are such as are counted with; logs go before results, and results before jobs, and 0 is for ever. What a group
/// does not say itself counts as well.
fn numbers(properties: &GroupProperties, parent: Option<&GroupProperties>) -> Result<(), Refused> {
    let counts = effective(properties, parent);
    let days = |name: &str| counts.get(name).and_then(Value::as_i64).unwrap_or_default();
    for (name, value) in counts.iter().filter_map(|(name, value)| Some((name, value.as_i64()?))) {
        let kept = name.starts_with("keep_") || name.ends_with("_gb");
        let (fits, may_be) = if kept {
            (u32::try_from(value).is_ok(), "a number from 0 to 4294967295")
        } else {
            (i32::try_from(value).is_ok(), "a number from -2147483648 to 2147483647")
        };
        if !fits {
            return Err(Refused::Number { name: name.clone(), may_be });
        }
    }
    for (shorter, longer) in AGES {
        let (short, long) = (days(shorter), days(longer));
        if long != 0 && (short == 0 || short > long) {
            return Err(Refused::Ages { shorter, longer, days: (short, long), group: None });
        }
    }
    Ok(())
}

/// The group as it may be stored.
pub(crate) fn fitting(catalog: &Catalog, group: Group) -> Result<Group, Refused> {
    if let Some(parent) = group.parent.filter(|id| !catalog.parents.contains_key(id)) {
        return Err(Refused::NoParent(parent));
    }
    numbers(&group.properties, inherited(catalog, &group))?;
    Ok(Group { name: named(&group.name)?, ..group })
}

/// Makes a group; its number and its templates are not the request's.
pub(crate) async fn make(app: &Arc<App>, admin: &Sender, wanted: Group) -> Result<i64, Refused> {
    let name = wanted.name.trim().to_owned();
    let made = |draft: &mut Draft| -> Result<i64, Refused> {
        let id = draft.new_id(EntryKind::Group);
        let group = fitting(&draft.catalog, Group { id, template: None, ..wanted })?;
        draft.put(CatalogRow::Group(group));
        Ok(id)
    };
    let id = app.library.change(made).await.map_err(|refused| refused.named(GROUP, &name))?;
    app.audit(&admin.name, "jobgroup_create", json!({"id": id, "name": name}));
    Ok(id)
}

/// Changes a group: `edit` makes of what it is what it is to be. Its number and its templates stay.
pub(crate) async fn change(
    app: &Arc<App>,
    admin: &Sender,
    id: i64,
    edit: impl FnOnce(&Group) -> Result<Group, Refused>,
) -> Result<(), Refused> {
    let mut name = String::new();
    let put = |draft: &mut Draft| -> Result<(), Refused> {
        let group = changed(&draft.catalog, id, edit)?;
        name.clone_from(&group.name);
        draft.put(CatalogRow::Group(group));
        Ok(())
    };
    let done = app.library.change(put).await;
    done.map_err(|refused| refused.named(GROUP, &name))?;
    app.audit(&admin.name, "jobgroup_update", json!({"id": id, "name": name}));
    Ok(())
}

/// A group as somebody wants it.
fn changed(
    catalog: &Catalog,
    id: i64,
    edit: impl FnOnce(&Group) -> Result<Group, Refused>,
) -> Result<Group, Refused> {
    let before = found(catalog, id)?;
    let wanted = Group { id, template: before.template.clone(), ..edit(before)? };
    fitting(catalog, wanted)
}

/// Why a change would be refused, if it would; nothing is changed.
pub(crate) fn check(
    catalog: &Catalog,
    id: i64,
    edit: impl FnOnce(&Group) -> Result<Group, Refused>,
) -> Result<(), Refused> {
    let group = changed(catalog, id, edit)?;
    let alike = |other: &&Arc<Group>| (other.parent, &other.name) == (group.parent, &group.name);
    if catalog.groups.values().filter(alike).any(|other| other.id != id) {
        return Err(Refused::Taken { what: GROUP, name: group.name });
    }
    Ok(())
}

/// Removes a group in which there are no jobs, with its templates.
pub(crate) async fn remove(app: &Arc<App>, admin: &Sender, id: i64) -> Result<(), Refused> {
    if app.group_has_jobs(id).await? {
        return Err(Refused::NotEmpty { what: GROUP, id });
    }
    let removed = |draft: &mut Draft| -> Result<String, Refused> {
        let name = found(&draft.catalog, id)?.name.clone();
        let templates = draft.catalog.templates.values().filter(|template| template.group == id);
        for template in templates.map(|template| template.id).collect::<Vec<_>>() {
            draft.remove(EntryKind::JobTemplate, template);
        }
        draft.remove(EntryKind::Group, id);
        Ok(name)
    };
    let name = app.library.change(removed).await?;
    app.audit(&admin.name, "jobgroup_delete", json!({"id": id, "name": name}));
    Ok(())
}

/// The parent group as it may be stored: what its groups have from it must fit what they say themselves.
fn fitting_parent(catalog: &Catalog, parent: ParentGroup) -> Result<ParentGroup, Refused> {
    numbers(&parent.properties, None)?;
    for group in catalog.groups.values().filter(|group| group.parent == Some(parent.id)) {
        numbers(&group.properties, Some(&parent.properties)).map_err(|refused| match refused {
            Refused::Ages { shorter, longer, days, .. } => {
                Refused::Ages { shorter, longer, days, group: Some(group.name.clone()) }
            }
            other => other,
        })?;
    }
    Ok(ParentGroup { name: named(&parent.name)?, ..parent })
}

/// Makes a parent group; its number is not the request's.
pub(crate) async fn make_parent(app: &Arc<App>, admin: &Sender, wanted: ParentGroup) -> Result<i64, Refused> {
    let name = wanted.name.trim().to_owned();
    let made = |draft: &mut Draft| -> Result<i64, Refused> {
        let id = draft.new_id(EntryKind::ParentGroup);
        let parent = fitting_parent(&draft.catalog, ParentGroup { id, ..wanted })?;
        draft.put(CatalogRow::ParentGroup(parent));
        Ok(id)
    };
    let id = app.library.change(made).await.map_err(|refused| refused.named(PARENT, &name))?;
    app.audit(&admin.name, "jobgroup_create", json!({"parent_group": id, "name": name}));
    Ok(id)
}

/// Changes a parent group: `edit` makes of what it is what it is to be.
pub(crate) async fn change_parent(
    app: &Arc<App>,
    admin: &Sender,
    id: i64,
    edit: impl FnOnce(&ParentGroup) -> Result<ParentGroup, Refused>,
) -> Result<(), Refused> {
    let mut name = String::new();
    let changed = |draft: &mut Draft| -> Result<(), Refused> {
        let wanted = ParentGroup { id, ..edit(found_parent(&draft.catalog, id)?)? };
        wanted.name.trim().clone_into(&mut name);
        let parent = fitting_parent(&draft.catalog, wanted)?;
        draft.put(CatalogRow::ParentGroup(parent));
        Ok(())
    };
    let done = app.library.change(changed).await;
    done.map_err(|refused| refused.named(PARENT, &name))?;
    app.audit(&admin.name, "jobgroup_update", json!({"parent_group": id, "name": name}));
    Ok(())
}

/// Removes a parent group that has no groups.
pub(crate) async fn remove_parent(app: &Arc<App>, admin: &Sender, id: i64) -> Result<(), Refused> {
    let removed = |draft: &mut Draft| -> Result<String, Refused> {
        let name = found_parent(&draft.catalog, id)?.name.clone();
        if draft.catalog.groups.values().any(|group| group.parent == Some(id)) {
            return Err(Refused::NotEmpty { what: PARENT, id });
        }
        draft.remove(EntryKind::ParentGroup, id);
        Ok(name)
    };
    let name = app.library.change(removed).await?;
    app.audit(&admin.name, "jobgroup_delete", json!({"parent_group": id, "name": name}));
    Ok(())
}
