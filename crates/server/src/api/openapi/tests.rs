use super::*;
use crate::api;
use axum::Router;
use std::collections::BTreeMap;
use std::fmt::Write as _;

type Routes = BTreeMap<String, BTreeSet<String>>;

/// What a router has, from what axum tells about it.
fn routes(prefix: &str, router: &Router<Arc<App>>) -> Routes {
    let mut text = String::new();
    write!(text, "{router:?}").unwrap();
    // Methods by the router's number of the address …
    let mut methods: BTreeMap<usize, BTreeSet<String>> = BTreeMap::new();
    let end = text.find("fallback_router: ").expect("axum tells its fallback differently now");
    let text = &text[..end];
    let node = text.find("node: ").expect("axum tells its addresses differently now");
    for piece in text[..node].split("RouteId(").skip(1) {
        let Some((number, rest)) = piece.split_once(')') else { continue };
        let words = rest.split("allow_header: ").nth(1).and_then(|text| text.split('"').nth(1));
        if let (Ok(number), Some(words)) = (number.parse(), words) {
            let words = words.split(',').filter(|word| !word.is_empty() && *word != "HEAD");
            methods.insert(number, words.map(str::to_owned).collect());
        }
    }
    // … and its addresses, with the same numbers.
    let mut found = Routes::new();
    for piece in text[node..].split("RouteId(").skip(1) {
        let Some((number, rest)) = piece.split_once(')') else { continue };
        let path = rest.trim_start_matches([':', ' ', ',']);
        if let (Ok(number), Some(path)) = (number.parse::<usize>(), path.strip_prefix('"')) {
            let path = path.split('"').next().unwrap_or_default();
            let methods = methods.get(&number).cloned().unwrap_or_default();
            if path.contains("__private__") {
                continue;
            }
            found.entry(format!("{prefix}{path}")).or_default().extend(methods);
        }
    }
    found
}

fn there_is() -> Routes {
    let mut all = routes("/api/assay/v1", &api::router());
    all.extend(routes("/api/v1", &api::openqa::router()));
    all.extend(routes("", &api::openqa::files::router()));
    all.extend(routes("", &crate::events::api::hooks()));
    all.extend(routes("", &crate::reporting::people::router()));
    for path in ["/healthz", "/metrics"] {
        all.insert(path.to_owned(), BTreeSet::from(["GET".to_owned()]));
    }
    all
}

#[test]
fn every_address_is_described_and_none_is_made_up() {
    let there_is = there_is();
    assert!(there_is.len() > 100, "the routers cannot be read any more: {there_is:?}");
    let mut described = Routes::new();
    for endpoint in endpoints::checked() {
        let new = described.entry(endpoint.path.clone()).or_default().insert(endpoint.method.clone());
        assert!(new, "{} {} is described twice", endpoint.method, endpoint.path);
    }
    let pairs = |routes: &Routes| -> BTreeSet<String> {
        let of = |(path, methods): (&String, &BTreeSet<String>)| {
            methods.iter().map(|method| format!("{method} {path}")).collect::<Vec<_>>()
        };
        routes.iter().flat_map(of).collect()
    };
    let (there_is, described) = (pairs(&there_is), pairs(&described));
    let lacks: Vec<_> = there_is.difference(&described).collect();
    let made_up: Vec<_> = described.difference(&there_is).collect();
    assert!(
        lacks.is_empty() && made_up.is_empty(),
        "endpoints.txt lacks {lacks:#?} and makes up {made_up:#?}"
    );
}

#[test]
fn every_object_is_described() {
    let schemas = schema::all();
    for endpoint in endpoints::checked() {
        for body in [&endpoint.body, &endpoint.answer].into_iter().flatten() {
            if let Body::Object { name, .. } = body {
                assert!(
                    schemas.contains_key(name),
                    "{} {}: no object {name}",
                    endpoint.method,
                    endpoint.path
                );
            }
        }
        assert!(
            endpoint.summary.ends_with('.'),
            "{} {}: {:?}",
            endpoint.method,
            endpoint.path,
            endpoint.summary
        );
    }
    let text = serde_json::to_string(&document()).unwrap();
    for piece in text.split("#/components/schemas/").skip(1) {
        let name = piece.split('"').next().unwrap();
        assert!(schemas.contains_key(name), "nothing describes {name}");
    }
    let job = &schemas["Job"];
    assert_eq!(job["properties"]["id"]["type"], "integer");
    assert_eq!(job["properties"]["reason"]["type"], json!(["string", "null"]));
    assert!(job["required"].as_array().unwrap().contains(&json!("settings")));
    assert_eq!(schemas["EnqueueRef"]["properties"]["ref"]["type"], "string");
}

#[test]
fn operations_have_names_of_their_own() {
    let mut seen = BTreeSet::new();
    for endpoint in endpoints::checked() {
        let id = format!("{}{}", endpoint.operation_id(), endpoint.path.ends_with('/'));
        assert!(seen.insert(id.clone()), "{id} is the name of two operations");
    }
}

#[test]
fn the_committed_description_is_this_one() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/api/openapi.json");
    if std::env::var_os("ASSAY_WRITE").is_some() {
        fs_err::write(path, DOCUMENT.as_str()).unwrap();
    }
    let committed = fs_err::read_to_string(path).unwrap();
    assert!(
        committed == *DOCUMENT,
        "docs/api/openapi.json is of another time; write it anew with ASSAY_WRITE=1 cargo nextest run -p assay-server openapi"
    );
}

#[test]
fn broken_descriptions_are_found_with_their_line() {
    for (text, want) in [
        ("GET /x", "endpoints.txt:1: \"GET /x\" is not METHOD PATH ROLE"),
        ("GET /x nobody", "endpoints.txt:1: \"nobody\" is no role"),
        ("  alone", "endpoints.txt:1: there is no address above it"),
        ("GET /x public\n  >{\"a\"", "endpoints.txt:2: {\"a\""),
    ] {
        let error = endpoints::parse(text).unwrap_err();
        assert!(error.starts_with(want), "{error}");
    }
}
