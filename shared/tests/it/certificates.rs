//! Which servers the HTTP client trusts.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use shared::config::Environment;
use shared::http_client::HttpClient;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// A server on loopback whose certificate a new authority has issued. Returns its URL and the authority's certificate in PEM.
async fn start() -> (String, String) {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["localhost".to_owned()]).unwrap();
    let certificate = certificate.signed_by(&key, &authority).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key.into())
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}/", listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        loop {
            let (connection, _) = listener.accept().await.unwrap();
            // A client that does not trust the certificate ends the handshake.
            let Ok(mut connection) = acceptor.accept(connection).await else { continue };
            let mut request = [0; 4096];
            let _ = connection.read(&mut request).await.unwrap();
            connection.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n").await.unwrap();
            connection.shutdown().await.unwrap();
        }
    });
    (url, authority.pem())
}

async fn status(url: &str, environment: &Environment) -> Result<u16, String> {
    let client = HttpClient::new(environment).unwrap();
    let request = client.request(reqwest::Method::GET, url.parse().unwrap()).build().unwrap();
    let response = client.send(request).await;
    response.map(|response| response.status().as_u16()).map_err(|error| format!("{error:?}"))
}

#[tokio::test]
async fn a_server_is_trusted_if_its_authority_is() {
    let (url, authority) = start().await;
    let error = status(&url, &Environment::default()).await.unwrap_err();
    assert!(error.contains("UnknownIssuer"), "{error}");

    let folder = std::env::temp_dir().join(format!("certificates-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("authority.pem");
    std::fs::write(&file, authority).unwrap();
    let file = Environment::from([("SSL_CERT_FILE", file.to_str().unwrap())]);
    assert_eq!(status(&url, &file).await, Ok(204));
    let folder_name = Environment::from([("SSL_CERT_DIR", folder.to_str().unwrap())]);
    assert_eq!(status(&url, &folder_name).await, Ok(204));

    let unusable = folder.join("unusable.pem");
    std::fs::write(&unusable, "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n").unwrap();
    let error = HttpClient::new(&Environment::from([("SSL_CERT_FILE", unusable.to_str().unwrap())]));
    let error = error.unwrap_err().to_string();
    assert_eq!(error, "SSL_CERT_FILE must be a file of certificates in PEM");
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn certificates_that_cannot_be_read_are_named_by_their_setting() {
    for setting in ["SSL_CERT_FILE", "SSL_CERT_DIR"] {
        let error = HttpClient::new(&Environment::from([(setting, "/no/such/path")])).unwrap_err();
        assert!(error.to_string().starts_with(&format!("{setting} must be a f")), "{error}");
    }
}
