//! The demo app: a web page that changes a PIN with Circle's own Web SDK, and shows what happens in the stack.
//!
//! It has an origin of its own, as an app has. Besides the app's files, this server offers what the page shows (`feed`)
//! and passes on the simulator's control API, which has no CORS. It also answers the commands that look into a running stack.

mod bundle;
mod feed;

#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::io;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{any, get, post};
use axum::{Json, Router};
use futures_util::stream;
use http::header::CACHE_CONTROL;
use http::{HeaderMap, Method, StatusCode, Uri};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use uuid::Uuid;

use self::bundle::{Bundle, Bundler};
use crate::activity::Activity;
use crate::incidents::Incident;
use crate::server::{self, Server};
use crate::sources::Sources;
use crate::story;

#[derive(Clone)]
struct Web {
    sources: Sources,
    bundler: Bundler,
    /// Held while an incident is played, because each restores what it has changed.
    incident: Arc<tokio::sync::Mutex<()>>,
}

/// Serves the app on `listener`. Needs a tokio runtime. The server stops when it is dropped.
pub(crate) fn serve(listener: TcpListener, sources: Sources) -> io::Result<Server> {
    Server::start(listener, router(Web { sources, bundler: Bundler::default(), incident: Arc::default() }))
}

fn router(web: Web) -> Router {
    Router::new()
        .route("/", get(async |state: State<Web>| file(state, Path("index.html".to_owned())).await))
        .route("/config.json", get(config))
        .route("/feed", get(async |State(web): State<Web>| feed::feed(Activity::of(web.sources))))
        .route("/control", any(control))
        .route("/control/{*path}", any(control))
        .route("/stories/{id}", get(story))
        .route("/incidents/{name}", post(incident))
        .route("/{name}", get(file))
        .with_state(web)
}

/// The page loads its own files only, frames the page for the PIN only, and calls the API and the issuer.
fn policy(Sources { api_url, issuer_url, pin_page_url, .. }: &Sources) -> String {
    format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; \
         connect-src 'self' {api_url} {issuer_url}; frame-src {pin_page_url} https://pw-auth.circle.com; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}

async fn config(State(Web { sources, .. }): State<Web>) -> Response {
    Json(json!({
        "apiUrl": sources.api_url,
        "issuerUrl": sources.issuer_url,
        "pinPageUrl": sources.pin_page_url,
    }))
    .into_response()
}

/// The content type of a file of the app. The others have none: a name from a URL can have an encoded slash in it, and
/// would then lead out of the app's folder.
fn content_type(name: &str) -> Option<&'static str> {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
    let (_, extension) = name.rsplit_once('.').filter(|_| name.chars().all(is_plain))?;
    Some(match extension {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "map" => "application/json",
        _ => return None,
    })
}

async fn file(State(web): State<Web>, Path(name): Path<String>) -> Response {
    let Some(content_type) = content_type(&name) else { return StatusCode::NOT_FOUND.into_response() };
    match web.bundler.bundle() {
        Bundle::Ready(folder) => match tokio::fs::read(folder.join(&name)).await {
            Ok(content) => server::file(content_type, &policy(&web.sources), content),
            Err(_) => StatusCode::NOT_FOUND.into_response(),
        },
        Bundle::Building(step) => notice(step, true),
        Bundle::Failed(problem) => notice(&problem, false),
    }
}

/// A page that says why the app is not there yet. It loads itself again while the app is being built.
fn notice(text: &str, is_temporary: bool) -> Response {
    let refresh = if is_temporary { r#"<meta http-equiv="refresh" content="1">"# } else { "" };
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    let page = format!(
        r#"<!doctype html><html lang="en"><meta charset="utf-8">{refresh}<title>Demo app</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">
<p role="status">{text}</p></html>"#
    );
    (StatusCode::SERVICE_UNAVAILABLE, [(CACHE_CONTROL, "no-store")], Html(page)).into_response()
}

/// The story of a challenge, for `cargo local inspect`.
async fn story(State(Web { sources, .. }): State<Web>, Path(id): Path<Uuid>) -> Response {
    match story::story(&sources, id) {
        Ok(Some(story)) => Json(story).into_response(),
        Ok(None) => error(StatusCode::NOT_FOUND, "the stack does not know this challenge"),
        Err(failure) => error(StatusCode::INTERNAL_SERVER_ERROR, &failure.to_string()),
    }
}

/// Plays an incident, for `cargo local incident`. The response has a line of JSON for each step, as it happens.
async fn incident(State(web): State<Web>, Path(name): Path<String>) -> Response {
    let Some(incident) = Incident::find(&name) else {
        return error(StatusCode::NOT_FOUND, "the stack does not know this incident");
    };
    let (steps, received) = mpsc::unbounded_channel();
    // It is played to its end even if the caller hangs up.
    tokio::spawn(async move {
        let _alone = web.incident.lock().await;
        incident.play(&web.sources, steps).await;
    });
    Body::from_stream(stream::unfold(received, async |mut received| {
        let message = received.recv().await?;
        Some((Ok::<_, Infallible>(format!("{message}\n")), received))
    }))
    .into_response()
}

fn error(status: StatusCode, text: &str) -> Response {
    (status, Json(json!({ "error": text }))).into_response()
}

async fn control(
    State(Web { sources, .. }): State<Web>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    sources.circle.control(&method, uri.path(), &headers, &body)
}
