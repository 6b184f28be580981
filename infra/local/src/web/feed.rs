//! What happens in the stack, for the time line of the demo app: webhooks, records and events, as server-sent events. The
//! page knows its own requests.

use std::convert::Infallible;

use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::Stream as Events;
use futures_util::stream;
use serde_json::Value;

use crate::activity::{Activity, News};

/// Everything that happens from now on.
pub(super) fn feed(activity: Activity) -> Sse<impl Events<Item = Result<Event, Infallible>>> {
    let batches = stream::unfold(activity, async |mut activity| {
        let news = activity.next().await;
        Some((stream::iter(news.iter().filter_map(event).map(Ok).collect::<Vec<_>>()), activity))
    });
    Sse::new(futures_util::StreamExt::flatten(batches)).keep_alive(KeepAlive::default())
}

fn event(news: &News) -> Option<Event> {
    let (name, data): (_, &Value) = match news {
        News::Webhook(webhook) => ("webhook", webhook),
        News::Record { new, .. } => ("record", new),
        News::Event(event) => ("event", event),
        News::Request(_) | News::Problem { .. } | News::Failure(_) => return None,
    };
    Some(Event::default().event(name).data(data.to_string()))
}
