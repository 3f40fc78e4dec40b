//! The pages of what was posted: what each post made, what it did not make, and what operators do with it.

use crate::common::{Server, client, has};
use crate::openqa::{PRODUCT, catalog};
use crate::people::{Key, with_form};
use reqwest::{Method, StatusCode, header};
use serde_json::{Value, json};

const POST: Method = Method::POST;

/// A page as somebody with this token sees it.
async fn page(server: &Server, token: &str, path: &str) -> String {
    let answer = client().get(server.url(path)).bearer_auth(token).send().await.unwrap();
    let (status, page) = (answer.status(), answer.text().await.unwrap());
    assert_eq!(status, StatusCode::OK, "{path}: {page}");
    page
}

/// A button; the status, and where it leads.
async fn press(server: &Server, token: &str, path: &str) -> (u16, String) {
    let request = with_form(client().post(server.url(path)).bearer_auth(token), &[]);
    let answer = request.send().await.unwrap();
    let to = answer.headers().get(header::LOCATION).map(|value| value.to_str().unwrap().to_owned());
    (answer.status().as_u16(), to.unwrap_or_default())
}

/// Posts the product with these settings besides; the answer.
async fn posted(server: &Server, by: &Key, more: &[(&str, &str)]) -> Value {
    let form: Vec<_> = PRODUCT.iter().chain(more).copied().collect();
    by.ask(server, POST, "/api/v1/isos", &form).await.1
}

#[tokio::test]
async fn a_post_tells_what_it_made_and_what_not() {
    let server = Server::start().await;
    let admin = Key::make(&server, "a", "admin", None).await;
    has(&server.page("/products").await.1, &["Nothing was posted", "assay product post"]);
    catalog(&server, &admin).await;
    let script = "<script>alert(1)</script>";
    let made = posted(&server, &admin, &[("NOTE", script), ("_SECRET_X", "s3cret")]).await;
    assert_eq!((&made["scheduled_product_id"], &made["count"]), (&json!(1), &json!(2)), "{made}");
    posted(&server, &admin, &[("TEST", "install"), ("BUILD", "<b>")]).await;
    posted(&server, &admin, &[("FLAVOR", "nothing")]).await;
    let note = json!({"note": format!("see {script}")});
    let (status, _) = server.ask(Method::PUT, "/api/assay/v1/products/1/note", Some(note)).await;
    assert_eq!(status, StatusCode::OK);

    let (_, list) = server.page("/products").await;
    has(
        &list,
        &[
            "href=\"/products/1\">fedora-43-universal-x86_64</a> <span class=\"quiet\">build 43.1 · #1",
            "build &#60;b&#62;",
            "see &#60;script&#62;",
            "href=\"/products/3\">fedora-43-nothing-x86_64",
        ],
    );
    assert!(!list.contains("<script>alert") && !list.contains("<b>"), "{list}");
    let (_, some) = server.page("/products?build=43.1&flavor=universal").await;
    assert!(some.contains("/products/1\"") && !some.contains("/products/2\""), "{some}");
    let (_, none) = server.page("/products?build=%3Ci%3E").await;
    has(&none, &["Nothing was posted that fits", "value=\"&#60;i&#62;\""]);

    let (_, first) = server.page("/products/1").await;
    has(
        &first,
        &[
            "<dd>a</dd>",
            "href=\"/jobs/1\">fedora-43-universal-x86_64-Build43.1-install@64bit</a>",
            "<td>***</td>",
        ],
    );
    assert!(!first.contains("<script>alert") && !first.contains("s3cret"), "{first}");
    assert!(!first.contains("id=\"cancel\"") && !first.contains("id=\"again\""), "others only look");
    has(
        &server.page("/products/2").await.1,
        &["id=\"left-out\"", "update@64bit", "href=\"/products?build=%3Cb%3E\""],
    );
    has(&server.page("/products/3").await.1, &["Nothing was made: ", "None was made."]);
    has(&server.page("/jobs/1").await.1, &["<a href=\"/products/1\">post 1</a>"]);
    for (path, to) in [("/admin/productlog?id=2", "/products/2"), ("/admin/productlog", "/products")] {
        let answer = client().get(server.url(path)).send().await.unwrap();
        assert_eq!(answer.headers()[header::LOCATION], to);
    }
    for path in ["/products/9", "/products/x"] {
        assert_eq!(server.page(path).await.0, StatusCode::NOT_FOUND, "{path}");
    }
    let (_, refused) = server.get("/api/assay/v1/products/3").await;
    assert!(refused["refused"].as_str().unwrap().contains("nothing"), "{refused}");
}

#[tokio::test]
async fn operators_cancel_a_post_and_post_it_again() {
    let server = Server::start().await;
    let admin = Key::make(&server, "a", "admin", None).await;
    let token = server.handle.admin_token.clone();
    catalog(&server, &admin).await;
    posted(&server, &admin, &[]).await;
    for (path, body) in [("result", Some(json!({"result": "failed"}))), ("restart", None)] {
        let (status, said) = server.ask(POST, &format!("/api/assay/v1/jobs/1/{path}"), body).await;
        assert_eq!(status, StatusCode::OK, "{said}");
    }
    // What was started anew stands for what was made.
    let stand = async || server.get("/api/assay/v1/products/1/jobs").await.1["jobs"].clone();
    let of = |jobs: &Value, field: &str| -> Vec<Value> {
        jobs.as_array().unwrap().iter().map(|job| job[field].clone()).collect()
    };
    let jobs = stand().await;
    assert_eq!(of(&jobs, "id"), [3, 4], "{jobs}");
    assert_eq!(of(&jobs, "state"), ["scheduled", "scheduled"], "{jobs}");
    has(&page(&server, &token, "/products/1").await, &["id=\"cancel\"", "id=\"again\"", "href=\"/jobs/3\""]);

    assert_eq!(client().post(server.url("/products/1/cancel")).send().await.unwrap().status(), 401);
    assert_eq!(client().post(server.url("/products/1/again")).send().await.unwrap().status(), 401);
    assert_eq!(press(&server, &token, "/products/1/cancel").await, (303, "/products/1".to_owned()));
    assert_eq!(of(&stand().await, "result"), ["user_cancelled", "user_cancelled"]);
    let seen = page(&server, &token, "/products/1").await;
    has(&seen, &["<dt>Cancelled by</dt>", "cancelled</span> 2"]);
    assert!(!seen.contains("id=\"cancel\""), "{seen}");

    assert_eq!(press(&server, &token, "/products/1/again").await, (303, "/products/2".to_owned()));
    let (_, again) = server.get("/api/assay/v1/products/2").await;
    assert_eq!((&again["settings"]["BUILD"], &again["jobs"]), (&json!("43.1"), &json!([5, 6])), "{again}");
    // A secret is not kept in clear, so it cannot be posted again from here.
    posted(&server, &admin, &[("_SECRET_X", "s3cret")]).await;
    assert_eq!(press(&server, &token, "/products/3/again").await.0, 400);
    assert_eq!(press(&server, &token, "/products/9/again").await.0, 404);
    let (_, audit) = server.get("/api/assay/v1/audit?event=iso_cancel").await;
    assert_eq!(audit["events"].as_array().map(Vec::len), Some(1), "{audit}");
}
