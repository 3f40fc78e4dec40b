//! HTTPS with certificates of one's own: what is trusted, what is refused, and how it is said.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use assay_connect::http::{Http, NoAnswer};
use camino::{Utf8Path, Utf8PathBuf};
use hyper::{Method, Request, StatusCode};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A server with a certificate for these names; its port.
async fn server(names: &[&str], issuer: &CertifiedIssuer<'_, KeyPair>, is_over: bool) -> (u16, JoinSet<()>) {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    if is_over {
        (params.not_before, params.not_after) =
            (rcgen::date_time_ymd(2001, 1, 1), rcgen::date_time_ymd(2002, 1, 1));
    }
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, issuer).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            // A client that refuses the certificate goes away.
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(stream.read_u8().await.unwrap());
            }
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi")
                .await
                .unwrap();
            stream.shutdown().await.unwrap();
        }
    });
    (port, serving)
}

async fn ask(ca_file: &Utf8Path, host: &str, port: u16) -> Result<(StatusCode, Vec<u8>), NoAnswer> {
    let http = Http::new(true, Some(ca_file), 1024).unwrap();
    let request =
        Request::builder().method(Method::GET).uri(format!("https://{host}:{port}/a")).body(Vec::new());
    let answer = http.send(request.unwrap()).await?;
    Ok((answer.status(), answer.into_body()))
}

fn trust(dir: &tempfile::TempDir, name: &str, pem: &str) -> Utf8PathBuf {
    let file = Utf8Path::from_path(dir.path()).unwrap().join(name);
    fs_err::write(&file, pem).unwrap();
    file
}

#[tokio::test]
async fn only_what_the_named_authority_signed_is_trusted() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, other) = (authority("ours"), authority("other"));
    let ca_file = trust(&dir, "ca.pem", &ours.pem());
    let (good, _serving) = server(&["localhost"], &ours, false).await;
    assert_eq!(ask(&ca_file, "localhost", good).await, Ok((StatusCode::OK, b"hi".to_vec())));
    let bad = [
        (server(&["localhost"], &other, false).await, "UnknownIssuer"),
        (server(&["elsewhere.example"], &ours, false).await, "not valid for name"),
        (server(&["localhost"], &ours, true).await, "expired"),
    ];
    for ((port, _serving), why) in bad {
        let refused = ask(&ca_file, "localhost", port).await.unwrap_err();
        assert!(refused.why.contains(why) && !refused.sent, "{why}: {refused:?}");
    }
}

#[test]
fn files_that_are_no_certificates_are_named() {
    let dir = tempfile::tempdir().unwrap();
    for (name, text, why) in [
        ("empty.pem", "", "there is none in it"),
        ("text.pem", "hello", "there is none in it"),
        ("cut.pem", "-----BEGIN CERTIFICATE-----\nMIIB", "cut.pem cannot be used"),
        (
            "other.pem",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "other.pem cannot be used",
        ),
    ] {
        let refused = Http::new(true, Some(&trust(&dir, name, text)), 1024).unwrap_err();
        assert!(refused.contains(name) && refused.contains(why), "{refused}");
    }
    let none = trust(&dir, "none.pem", "");
    fs_err::remove_file(&none).unwrap();
    assert!(Http::new(true, Some(&none), 1024).unwrap_err().contains("none.pem"));
}
