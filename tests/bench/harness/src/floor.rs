//! What a part of the work costs by itself: a TLS handshake, and the verification of a signature. In this process, in CPU
//! time of one thread.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ParsedPublicKey};
use nix::time::ClockId;
use rustls::client::Resumption;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde::Serialize;

use crate::canned::Signer;
use crate::statistics::median;
use crate::upstreams::Upstreams;

#[derive(Debug, Serialize)]
pub(crate) struct Floor {
    /// CPU of the client for a full TLS 1.3 handshake and an empty response, in milliseconds.
    pub(crate) handshake_cpu_ms: f64,
    /// CPU of a verification of an ECDSA signature (P-256, SHA-256) over a webhook, in milliseconds.
    pub(crate) verification_cpu_ms: f64,
}

pub(crate) async fn measure(upstreams: &Upstreams, signer: &Signer) -> Result<Floor> {
    let (url, root) = (upstreams.circle_url.clone(), upstreams.root_der.clone());
    let handshake = tokio::task::spawn_blocking(move || handshakes(&url, root)).await??;
    upstreams.sightings.take();
    Ok(Floor { handshake_cpu_ms: handshake, verification_cpu_ms: verifications(signer)? })
}

fn handshakes(url: &str, root: Vec<u8>) -> Result<f64> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(root))?;
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.resumption = Resumption::disabled();
    let config = Arc::new(config);
    let address = url.trim_start_matches("https://").to_owned();
    let handshake = || -> Result<()> {
        let stream = TcpStream::connect(&address)?;
        let connection = ClientConnection::new(Arc::clone(&config), "localhost".try_into()?)?;
        let mut tls = StreamOwned::new(connection, stream);
        tls.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
        let mut response = Vec::new();
        // The server may leave out the end of the TLS session.
        let _ = tls.read_to_end(&mut response);
        anyhow::ensure!(!response.is_empty(), "no response to a request after a handshake");
        Ok(())
    };
    cpu_of_one(100, handshake)
}

fn verifications(signer: &Signer) -> Result<f64> {
    let body = [b'x'; 420];
    let signature = signer.sign(&body);
    let key = ParsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, signer.public_key())?;
    cpu_of_one(1000, || Ok(key.verify_sig(&body, &signature)?))
}

/// The median CPU time of this thread for one call, in milliseconds.
fn cpu_of_one(calls: usize, mut call: impl FnMut() -> Result<()>) -> Result<f64> {
    let now = || ClockId::CLOCK_THREAD_CPUTIME_ID.now().map(Duration::from);
    let mut times = Vec::with_capacity(calls);
    for _ in 0..calls {
        let before = now()?;
        call()?;
        times.push((now()? - before).as_secs_f64() * 1000.0);
    }
    Ok(median(times))
}
