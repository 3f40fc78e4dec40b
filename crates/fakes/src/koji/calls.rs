//! The calls of the hub, with the names of their arguments in their order.

use super::Fault;
use super::model::{Build, Hub, Listing, Tag, Task};
use serde_json::{Map, Value, json};

type Call = fn(&Hub, &Map<String, Value>) -> Result<Value, Fault>;

/// Names, arguments, and what answers.
const CALLS: &[(&str, &[&str], Call)] = &[
    ("getAPIVersion", &[], |_, _| Ok(json!(1))),
    ("getKojiVersion", &[], |_, _| Ok(json!(super::VERSION))),
    ("getLastEvent", &["before"], |hub, _| Ok(json!({"id": hub.last_event(), "ts": 0.0}))),
    (
        "queryHistory",
        &[
            "tables",
            "tag",
            "build",
            "package",
            "user",
            "active",
            "after",
            "before",
            "afterEvent",
            "beforeEvent",
            "queryOpts",
        ],
        query_history,
    ),
    ("getBuild", &["buildInfo", "strict"], get_build),
    (
        "listBuilds",
        &[
            "packageID",
            "userID",
            "taskID",
            "prefix",
            "state",
            "volumeID",
            "source",
            "createdBefore",
            "createdAfter",
            "completeBefore",
            "completeAfter",
            "type",
            "typeInfo",
            "queryOpts",
            "pattern",
            "cgID",
            "draft",
        ],
        |hub, given| Ok(list_builds(hub, given)),
    ),
    ("listBuildRPMs", &["build"], |hub, given| {
        Ok(Value::from(find(hub, &given["build"], true)?.map_or(Vec::new(), Build::rpms)))
    }),
    (
        "listRPMs",
        &[
            "buildID",
            "buildrootID",
            "imageID",
            "componentBuildrootID",
            "hostID",
            "arches",
            "queryOpts",
            "draft",
        ],
        list_rpms,
    ),
    (
        "listTagged",
        &[
            "tag", "event", "inherit", "prefix", "latest", "package", "owner", "type", "strict", "extra",
            "draft",
        ],
        list_tagged,
    ),
    ("getLatestBuilds", &["tag", "event", "package", "type", "draft"], latest_builds),
    ("getTag", &["tagInfo", "strict", "event", "blocked"], get_tag),
    ("listTags", &["build", "package", "perms", "queryOpts", "pattern"], list_tags),
    ("getTaskInfo", &["task_id", "request", "strict"], task_info),
    ("getTaskRequest", &["taskId"], |hub, given| Ok(task(hub, &given["taskId"])?.request.clone())),
    ("getTaskChildren", &["task_id", "request", "strict"], task_children),
    ("getPackageID", &["name", "strict"], |hub, given| {
        let of = |build: &Build| build.info()["package_id"].clone();
        Ok(hub.builds.iter().find(|build| given["name"] == build.name.as_str()).map_or(Value::Null, of))
    }),
    // Builds of packages have none of these.
    ("getMavenBuild", &["buildInfo", "strict"], |_, _| Ok(Value::Null)),
    ("getWinBuild", &["buildInfo", "strict"], |_, _| Ok(Value::Null)),
    ("listArchives", &["buildID", "buildrootID", "componentBuildrootID", "hostID", "type"], |_, _| {
        Ok(json!([]))
    }),
    ("queryRPMSigs", &["rpm_id", "sigkey", "queryOpts"], |_, _| Ok(json!([]))),
];

/// Answers one call.
pub(super) fn call(hub: &mut Hub, method: &str, arguments: Vec<Value>) -> Result<Value, Fault> {
    hub.called.push(method.to_owned());
    if method == "echo" {
        return Ok(Value::Array(arguments));
    }
    if method == "system.listMethods" {
        return Ok(CALLS.iter().map(|(name, ..)| Value::from(*name)).collect());
    }
    let Some((_, names, answer)) = CALLS.iter().find(|(name, ..)| *name == method) else {
        return Err(Fault::new(format!("Invalid method: {method}")));
    };
    answer(hub, &named(method, names, arguments)?)
}

/// Arguments by their names: those in their order first, then those that the last one names.
fn named(method: &str, names: &[&str], mut arguments: Vec<Value>) -> Result<Map<String, Value>, Fault> {
    let starred = |value: &Value| value["__starstar"] == true;
    let more = match arguments.last() {
        Some(last) if starred(last) => arguments.pop().and_then(|last| last.as_object().cloned()),
        _ => None,
    };
    if arguments.len() > names.len() {
        return Err(Fault(1019, format!("{method}() takes {} arguments", names.len())));
    }
    let mut given: Map<String, Value> = names.iter().map(|name| ((*name).to_owned(), Value::Null)).collect();
    given.extend(names.iter().zip(arguments).map(|(name, value)| ((*name).to_owned(), value)));
    for (name, value) in more.unwrap_or_default() {
        if name != "__starstar" && given.insert(name.clone(), value).is_none() {
            return Err(Fault(1019, format!("{method}() got an unexpected keyword argument '{name}'")));
        }
    }
    Ok(given)
}

/// A value as Python shows it.
fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), |text| format!("'{text}'"))
}

/// A build by its number, its name, or its parts.
fn find<'h>(hub: &'h Hub, wanted: &Value, strict: bool) -> Result<Option<&'h Build>, Fault> {
    let part = |key: &str| wanted[key].as_str().unwrap_or_default();
    let nvr = match wanted {
        Value::String(nvr) => nvr.clone(),
        Value::Object(_) => [part("name"), part("version"), part("release")].join("-"),
        _ => String::new(),
    };
    let found = hub.builds.iter().find(|build| wanted.as_i64() == Some(build.id) || build.nvr() == nvr);
    if strict && found.is_none() {
        return Err(Fault::new(format!("No such build: {}", shown(wanted))));
    }
    Ok(found)
}

fn get_build(hub: &Hub, given: &Map<String, Value>) -> Result<Value, Fault> {
    Ok(find(hub, &given["buildInfo"], given["strict"] == true)?.map_or(Value::Null, Build::info))
}

/// Sorts and cuts as `queryOpts` says.
fn cut(mut rows: Vec<Value>, options: &Value) -> Value {
    if let Some(order) = options["order"].as_str() {
        let (key, falling) = order.strip_prefix('-').map_or((order, false), |key| (key, true));
        rows.sort_by_key(|row| row[key].as_i64());
        if falling {
            rows.reverse();
        }
    }
    let number = |key: &str| options[key].as_u64().map(|number| number as usize);
    let rows = rows.into_iter().skip(number("offset").unwrap_or(0));
    Value::Array(rows.take(number("limit").unwrap_or(usize::MAX)).collect())
}

fn list_builds(hub: &Hub, given: &Map<String, Value>) -> Value {
    let fits = |build: &&Build| {
        let info = build.info();
        let same = |key: &str, of: &str| given[key].is_null() || given[key] == info[of];
        let time = |key: &str| given[key].as_f64();
        same("packageID", "package_id")
            && same("taskID", "task_id")
            && same("state", "state")
            && given["prefix"].as_str().is_none_or(|prefix| build.name.starts_with(prefix))
            && time("completeAfter").is_none_or(|after| build.completed as f64 > after)
            && time("completeBefore").is_none_or(|before| (build.completed as f64) < before)
    };
    cut(hub.builds.iter().filter(fits).map(Build::info).collect(), &given["queryOpts"])
}

fn list_rpms(hub: &Hub, given: &Map<String, Value>) -> Result<Value, Fault> {
    let Some(build) = find(hub, &given["buildID"], false)? else { return Ok(json!([])) };
    let arches = &given["arches"];
    let fits = |rpm: &Value| {
        arches.is_null()
            || *arches == rpm["arch"]
            || arches.as_array().is_some_and(|arches| arches.contains(&rpm["arch"]))
    };
    Ok(cut(build.rpms().into_iter().filter(fits).collect(), &given["queryOpts"]))
}

fn tag<'h>(hub: &'h Hub, wanted: &Value) -> Result<&'h Tag, Fault> {
    let fits = |tag: &&Tag| wanted.as_str() == Some(&tag.name) || wanted.as_i64() == Some(tag.id);
    let no = || Fault::new(format!("No such tagInfo: {}", shown(wanted)));
    hub.tags.iter().find(fits).ok_or_else(no)
}

/// Builds of a tag, the newest first; so many of each package.
fn tagged(hub: &Hub, name: &Value, inherit: bool, package: &Value, most: usize) -> Result<Vec<Value>, Fault> {
    let tag = tag(hub, name)?;
    let line = if inherit { hub.line(&tag.name) } else { vec![tag] };
    let mut found: Vec<(&Build, Value)> = Vec::new();
    for tag in line {
        for build in tag.builds.iter().filter_map(|id| hub.build(*id)) {
            let wanted = package.is_null() || *package == build.name.as_str();
            let so_far = found.iter().filter(|(known, _)| known.name == build.name).count();
            if wanted && so_far < most && found.iter().all(|(known, _)| known.id != build.id) {
                found.push((build, build.tagged(tag)));
            }
        }
    }
    Ok(found.into_iter().map(|(_, info)| info).collect())
}

fn list_tagged(hub: &Hub, given: &Map<String, Value>) -> Result<Value, Fault> {
    if given["strict"] == false && tag(hub, &given["tag"]).is_err() {
        return Ok(json!([]));
    }
    let most = match &given["latest"] {
        Value::Bool(true) => 1,
        Value::Number(number) => {
            number.as_u64().filter(|most| *most > 0).map_or(usize::MAX, |most| most as usize)
        }
        _ => usize::MAX,
    };
    let inherit = given["inherit"] == true;
    let mut found = tagged(hub, &given["tag"], inherit, &given["package"], most)?;
    let prefix = given["prefix"].as_str().unwrap_or_default();
    found.retain(|build| build["name"].as_str().is_some_and(|name| name.starts_with(prefix)));
    Ok(Value::from(found))
}

/// The history of tags; that of other things is empty.
fn query_history(hub: &Hub, given: &Map<String, Value>) -> Result<Value, Fault> {
    let wanted = match &given["tag"] {
        Value::Null => None,
        name => Some(tag(hub, name)?.id),
    };
    let build = find(hub, &given["build"], !given["build"].is_null())?.map(|build| build.id);
    let number = |key: &str| given[key].as_f64();
    let fits = |line: &Value| {
        let any = |of: [&str; 2], good: &dyn Fn(f64) -> bool| {
            of.iter().any(|key| line[*key].as_f64().is_some_and(good))
        };
        let (events, times) = (["create_event", "revoke_event"], ["create_ts", "revoke_ts"]);
        number("afterEvent").is_none_or(|limit| any(events, &|event| event > limit))
            && number("beforeEvent").is_none_or(|limit| any(events, &|event| event < limit))
            && number("after").is_none_or(|limit| any(times, &|time| time > limit))
            && number("before").is_none_or(|limit| any(times, &|time| time < limit))
            && (given["package"].is_null() || given["package"] == line["name"])
            && given["active"].as_bool().is_none_or(|active| active == (line["active"] == true))
    };
    let line = |listing: &Listing| {
        if wanted.is_some_and(|tag| tag != listing.tag) || build.is_some_and(|build| build != listing.build) {
            return None;
        }
        let tag = hub.tags.iter().find(|tag| tag.id == listing.tag)?;
        Some(listing.line(tag, hub.build(listing.build)?))
    };
    let lines: Vec<Value> = hub.listings.iter().filter_map(line).filter(fits).collect();
    let mut tables = Map::new();
    let asked = given["tables"].as_array().cloned().unwrap_or_else(|| vec![json!("tag_listing")]);
    for table in asked.iter().filter_map(Value::as_str) {
        let lines = if table == "tag_listing" { json!(lines) } else { json!([]) };
        tables.insert(table.to_owned(), lines);
    }
    Ok(Value::Object(tables))
}

fn latest_builds(hub: &Hub, given: &Map<String, Value>) -> Result<Value, Fault> {
    Ok(Value::from(tagged(hub, &given["tag"], true, &given["package"], 1)?))
}

fn get_tag(hub: &Hub, given: &Map<String, Value>) -> Result<Value, Fault> {
    match tag(hub, &given["tagInfo"]) {
        Ok(tag) => Ok(tag.info()),
        Err(fault) if given["strict"] == true => Err(fault),
        Err(_) => Ok(Value::Null),
    }
}

fn list_tags(hub: &Hub, given: &Map<String, Value>) -> Result<Value, Fault> {
    let build = match &given["build"] {
        Value::Null => None,
        wanted => find(hub, wanted, true)?,
    };
    let holds = |tag: &&Tag| build.is_none_or(|build| tag.builds.contains(&build.id));
    Ok(hub.tags.iter().filter(holds).map(Tag::info).collect())
}

fn task<'h>(hub: &'h Hub, id: &Value) -> Result<&'h Task, Fault> {
    let found = hub.tasks.iter().find(|task| id.as_i64() == Some(task.id));
    found.ok_or_else(|| Fault::new(format!("No such task: {id}")))
}

fn task_info(hub: &Hub, given: &Map<String, Value>) -> Result<Value, Fault> {
    let with_request = given["request"] == true;
    if let Value::Array(ids) = &given["task_id"] {
        return ids.iter().map(|id| Ok(task(hub, id)?.info(with_request))).collect();
    }
    match task(hub, &given["task_id"]) {
        Ok(task) => Ok(task.info(with_request)),
        Err(fault) if given["strict"] == true => Err(fault),
        Err(_) => Ok(Value::Null),
    }
}

fn task_children(hub: &Hub, given: &Map<String, Value>) -> Result<Value, Fault> {
    let parent = task(hub, &given["task_id"])?;
    let children = hub.tasks.iter().filter(|task| task.parent == Some(parent.id));
    Ok(children.map(|task| task.info(given["request"] == true)).collect())
}
