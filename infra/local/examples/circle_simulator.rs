//! The Circle simulator alone, on a free port, for test suites in other languages.
//!
//! It prints one line of JSON with its URL and API key. It runs until its standard input closes or it
//! receives a signal, so that it never outlives the process that started it.

use std::io::Read;
use std::sync::Arc;

use local::circle_simulator::{CircleOptions, CircleSimulator, UserTokenKey};
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
        user_token_key: UserTokenKey::generate_in_background(),
        on_api_key_change: None,
    })
    .await;
    // Listens before anything is printed, because a script may send the signal as soon as it has read the
    // output.
    let mut terminated = signal(SignalKind::terminate())?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    println!("{}", json!({"url": circle.url(), "apiKey": circle.api_key()}));

    let (closed, input_closed) = oneshot::channel();
    std::thread::spawn(move || {
        // The end of the input and an error mean the same.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        let _ = closed.send(());
    });
    tokio::select! {
        _ = input_closed => {}
        _ = terminated.recv() => {}
        _ = interrupted.recv() => {}
    }
    circle.stop().await;
    Ok(())
}
