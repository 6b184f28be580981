//! Only the Circle simulator, on a free port, for suites in other languages.
//!
//! Prints one line of JSON with its URL and API key, and runs until its standard input closes or it is told to
//! stop, so that it never outlives whoever started it.

use std::io::Read;
use std::sync::Arc;

use local::circle_simulator::{CircleOptions, CircleSimulator};
use serde_json::json;
use shared::clock::AdjustableClock;
use shared::random::Random;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let circle = CircleSimulator::start(CircleOptions {
        listener: TcpListener::bind("127.0.0.1:0").await?,
        clock: AdjustableClock::running(),
        random: Arc::new(Random::from_system()),
        on_api_key_change: None,
    })
    .await;
    println!("{}", json!({"url": circle.url(), "apiKey": circle.api_key()}));

    let (closed, input_closed) = oneshot::channel();
    std::thread::spawn(move || {
        // Whatever comes, and even a failure to read, ends where the input ends.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        let _ = closed.send(());
    });
    let mut terminated = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = input_closed => {}
        _ = terminated.recv() => {}
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    circle.stop().await;
    Ok(())
}
