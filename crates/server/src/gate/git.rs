//! `/git/PROJECT`: the repositories with the speculative states, for workers; git's smart HTTP protocol, to be read only.

use crate::app::App;
use crate::fault::Fault;
use assay_git::ProjectName;
use assay_git::serve::{Service, advertisement_head, upload_pack};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use flate2::read::GzDecoder;
use serde::Deserialize;
use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::io::ReaderStream;

/// The longest that one answer may take.
const DEADLINE: Duration = Duration::from_mins(30);
/// The most that a client may say in one round, packed or not.
const MOST: usize = 32 << 20;

pub(crate) fn router() -> Router<Arc<App>> {
    Router::new().route("/git/{*path}", get(advertise).post(fetch)).layer(DefaultBodyLimit::max(MOST))
}

#[derive(Debug, Deserialize)]
struct Asked {
    #[serde(default)]
    service: String,
}

/// `GET PROJECT/info/refs?service=git-upload-pack`
async fn advertise(
    State(app): State<Arc<App>>,
    Path(path): Path<String>,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
) -> Result<Response, Fault> {
    let Some(project) = path.strip_suffix("/info/refs") else { return Err(no_file(&path)) };
    match asked.service.as_str() {
        "git-upload-pack" => answer(&app, project, Service::Advertise, &headers, Bytes::new()),
        "git-receive-pack" => Err(Fault::new(
            StatusCode::FORBIDDEN,
            "These repositories can only be read.",
            "Push changes to the review system.",
        )),
        _ => Err(no_file(&path)),
    }
}

/// `POST PROJECT/git-upload-pack`
async fn fetch(
    State(app): State<Arc<App>>,
    Path(path): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Fault> {
    let Some(project) = path.strip_suffix("/git-upload-pack") else { return Err(no_file(&path)) };
    let packed = headers.get(header::CONTENT_ENCODING).is_some_and(|coding| coding == "gzip");
    let body = if packed { unpacked(&body)? } else { body };
    answer(&app, project, Service::Fetch, &headers, body)
}

/// What a client says of many refs, it packs.
fn unpacked(body: &[u8]) -> Result<Bytes, Fault> {
    let mut out = Vec::new();
    let read = GzDecoder::new(body).take(MOST as u64 + 1).read_to_end(&mut out);
    if let Err(error) = read {
        return Err(Fault::bad(format!("The request is not gzip: {error}."), "Use git 2.39 or newer."));
    }
    if out.len() > MOST {
        let error = format!("The request has more than {MOST} bytes.");
        return Err(Fault::new(StatusCode::PAYLOAD_TOO_LARGE, error, "Fetch fewer refs at once."));
    }
    Ok(out.into())
}

fn answer(
    app: &App,
    project: &str,
    service: Service,
    headers: &HeaderMap,
    body: Bytes,
) -> Result<Response, Fault> {
    let unknown = || {
        Fault::not_found(
            format!("There is no repository of project {project:?} here."),
            "Repositories appear with the first change of a project that is gated.",
        )
    };
    let project: ProjectName =
        project.trim_matches('/').trim_end_matches(".git").parse().map_err(|_| unknown())?;
    let repositories = app.gate.repositories().ok_or_else(unknown)?;
    repositories.repos.path(&project).map_err(|_| unknown())?;
    let protocol = headers.get("git-protocol").and_then(|protocol| protocol.to_str().ok());
    let body = std::io::Cursor::new(body);
    let said = upload_pack(&repositories.repos, &project, service, protocol, body, DEADLINE);
    let said = said.map_err(|error| Fault::later(format!("{error}."), 5))?;
    let fields = [(header::CONTENT_TYPE, service.content_type()), (header::CACHE_CONTROL, "no-cache")];
    let body = match service {
        // Version 2 begins with the capabilities; the versions before it with a line that names the service.
        Service::Advertise if !protocol.is_some_and(|protocol| protocol.contains("version=2")) => {
            Body::from_stream(ReaderStream::new(tokio::io::AsyncReadExt::chain(advertisement_head(), said)))
        }
        Service::Advertise | Service::Fetch => Body::from_stream(ReaderStream::new(said)),
    };
    Ok((fields, body).into_response())
}

fn no_file(path: &str) -> Fault {
    Fault::not_found(
        format!("There is no file {path:?} for git."),
        "Use git with this server's address, /git/ and the project's name; it speaks the smart protocol.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn packed_requests_are_bounded() {
        let packed = |bytes: &[u8]| {
            let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            packer.write_all(bytes).unwrap();
            packer.finish().unwrap()
        };
        assert_eq!(unpacked(&packed(b"0032want")).unwrap(), &b"0032want"[..]);
        assert_eq!(unpacked(b"0032want").unwrap_err().status, StatusCode::BAD_REQUEST);
        let bomb = packed(&vec![0; MOST + 10]);
        assert!(bomb.len() < 1 << 20);
        assert_eq!(unpacked(&bomb).unwrap_err().status, StatusCode::PAYLOAD_TOO_LARGE);
    }
}
