//! One signed-in user cannot take PIN changes away from the others.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use local::circle_simulator::{PinEntry, RateLimits};
use local::stack::StackOptions;
use shared::clock::{Clock, SystemClock, timeout};
use uuid::Uuid;

use crate::support::{App, GET_CHALLENGE, PIN, Request, Response, SECOND, challenge_id, noon, text};

/// How long the flood lasts, in seconds.
const SECONDS: u32 = 600;

/// The clock moves in these steps.
const TICK: Duration = Duration::from_millis(250);
const TICKS_PER_SECOND: u32 = 4;

/// The requests of the flood: 20 in a second.
const REQUESTS_PER_TICK: usize = 5;

/// How many others change their PIN, and how many seconds after each other they start.
const OTHERS: u32 = 50;
const DISTANCE: u32 = 11;

const MILLISECOND: Duration = Duration::from_millis(1);

/// After so many milliseconds of the machine's clock without a response, the requests wait for the stack's clock.
const QUIET: u32 = 50;

/// How many requests of the flood, and how many polls, may reach Circle: a burst of 20, and then one in five seconds or
/// in two.
const MOST_CALLS: usize = 20 + SECONDS as usize / 5;
const MOST_POLLS: usize = 20 + SECONDS as usize / 2;

/// The requests of the flood, in turn. The last two are not limited, because they do not reach Circle.
const KINDS: [&str; 8] = [
    "POST /session-tokens",
    "POST /challenges",
    "POST /challenges with the same key",
    "POST /challenges with the same key and a token",
    "GET /pin",
    "GET /challenges/{id} with a token",
    "GET /challenges/{id}",
    "GET /challenges",
];
const POLL: usize = 5;

fn flood_request(app: &App, kind: usize, token: &str, id: Uuid) -> Request {
    match kind {
        0 => app.post_session_token(),
        1 => app.post_challenge(),
        2 => app.post_challenge().key(Uuid::nil()),
        3 => app.post_challenge().key(Uuid::nil()).token(token),
        4 => app.get_pin(),
        POLL => app.get_challenge(id).token(token),
        6 => app.get_challenge(id),
        _ => app.get_challenges(""),
    }
}

/// What a task has done: a request of the flood, by kind and status, or a PIN change with so many polls.
enum Done {
    Flood(usize, u16),
    PinChange(u64),
}

/// The requests of everybody.
struct Traffic<'a> {
    app: &'a App,
    in_flight: Cell<u32>,
    responses: Cell<u64>,
}

impl Traffic<'_> {
    async fn send(&self, request: Request) -> Response {
        self.in_flight.set(self.in_flight.get() + 1);
        let response = request.send().await;
        self.in_flight.set(self.in_flight.get() - 1);
        self.responses.set(self.responses.get() + 1);
        response
    }

    /// Runs the tasks until each waits for the clock, in a request or between two. Returns what is done.
    async fn run(&self, tasks: &mut FuturesUnordered<LocalBoxFuture<'_, Done>>) -> Vec<Done> {
        let (mut done, mut quiet) = (Vec::new(), 0);
        while quiet < QUIET {
            let before = self.responses.get();
            while let Ok(Some(one)) = timeout(&SystemClock, MILLISECOND, tasks.next()).await {
                done.push(one);
            }
            if self.in_flight.get() == 0 {
                break;
            }
            quiet = if self.responses.get() == before { quiet + 1 } else { 0 };
        }
        done
    }
}

/// Runs under Circle's published rate limits in their stricter reading, and with the throttles of the routes.
#[tokio::test]
async fn flood_of_one_user_affects_nobody_else() {
    let app = App::with_options(StackOptions { throttled: true, ..noon() }).await;
    let mallory = app.add_user("mallory");
    let session = app.post_session_token().bearer(&mallory).send().await;
    let token = text(session.is(201), "userToken").to_owned();
    let created = app.post_challenge().bearer(&mallory).token(&token).key(Uuid::nil()).send().await;
    let id = challenge_id(created.is(201));
    let others: Vec<_> = (0..OTHERS).map(|number| app.add_user(&format!("user-{number}"))).collect();
    app.advance(120 * SECOND);
    app.circle.set_knobs(|knobs| knobs.rate_limits = RateLimits::Shared);
    app.circle.reset_call_counts();

    let traffic = Traffic { app: &app, in_flight: Cell::new(0), responses: Cell::new(0) };
    let mut tasks: FuturesUnordered<LocalBoxFuture<'_, Done>> = FuturesUnordered::new();
    let mut flood: BTreeMap<(usize, u16), usize> = BTreeMap::new();
    let (mut sent, mut changes_started, mut changed, mut polls) = (0, 0, 0, 0);
    for tick in 0..SECONDS * TICKS_PER_SECOND {
        // The burst is over by then. It alone can use up what Circle allows in its first second.
        if tick % (DISTANCE * TICKS_PER_SECOND) == 5 * TICKS_PER_SECOND
            && let Some((number, access_token)) = others.iter().enumerate().nth(changes_started)
        {
            tasks.push(Box::pin(change_pin(&traffic, access_token, number % 2 == 0)));
            changes_started += 1;
        }
        for _ in 0..REQUESTS_PER_TICK {
            // The order shifts, so that the few requests that are allowed are of every kind.
            let kind = (sent + sent / 100) % KINDS.len();
            let request = flood_request(&app, kind, &token, id).bearer(&mallory);
            let traffic = &traffic;
            tasks.push(Box::pin(async move { Done::Flood(kind, traffic.send(request).await.status) }));
            sent += 1;
        }
        for done in traffic.run(&mut tasks).await {
            match done {
                Done::Flood(kind, status) => *flood.entry((kind, status)).or_default() += 1,
                Done::PinChange(own) => (changed, polls) = (changed + 1, polls + own),
            }
        }
        app.advance(TICK);
    }
    assert_eq!((changed, tasks.len()), (OTHERS, 0), "everybody has finished");

    println!("{sent} requests of one user in {SECONDS} seconds:");
    for ((kind, status), count) in &flood {
        println!("  {status} {count:>5} {}", KINDS[*kind]);
    }
    println!(
        "calls to Circle, of all users, of which the PIN changes made {OTHERS} of each and {polls} polls:"
    );
    for (call, count) in app.circle.call_counts() {
        println!("  {count:>5} {call}");
    }
    println!("rejected by Circle: {:?}", app.circle.rate_limited_counts());
    let allowed = |kinds: &[usize]| -> usize {
        let of_kinds = flood.iter().filter(|((kind, status), _)| kinds.contains(kind) && *status != 429);
        of_kinds.map(|(_, count)| count).sum()
    };
    assert!(allowed(&[0, 1, 2, 3, 4]) <= MOST_CALLS, "{flood:?}");
    assert_eq!(allowed(&[6, 7]), flood_size(&flood, &[6, 7]), "a status from the record is always returned");
    assert_eq!(allowed(&[POLL]), flood_size(&flood, &[POLL]), "a poll is never rejected");
    assert!(app.circle.call_count(GET_CHALLENGE) <= MOST_POLLS as u64 + polls);
}

fn flood_size(flood: &BTreeMap<(usize, u16), usize>, kinds: &[usize]) -> usize {
    flood.iter().filter(|((kind, _), _)| kinds.contains(kind)).map(|(_, count)| count).sum()
}

/// A user changes the PIN, as an app does it. Each response has to be a success. Returns how often the app polled.
async fn change_pin(traffic: &Traffic<'_>, access_token: &str, brings_token: bool) -> Done {
    let app = traffic.app;
    let key = app.stack.platform.random.uuid();
    let (token, id) = if brings_token {
        let session = traffic.send(app.post_session_token().bearer(access_token)).await;
        let token = text(session.is(201), "userToken").to_owned();
        let created = traffic.send(app.post_challenge().bearer(access_token).token(&token).key(key)).await;
        (token, challenge_id(created.is(201)))
    } else {
        let created = traffic.send(app.post_challenge().bearer(access_token).key(key)).await;
        let id = challenge_id(created.is(201));
        (text(&created.body["session"], "userToken").to_owned(), id)
    };
    let mut polls = 0;
    for second in 0.. {
        let polled = traffic.send(app.get_challenge(id).bearer(access_token).token(&token)).await;
        polls += 1;
        assert_eq!(polled.is(200).get("checkError"), None);
        if polled.body["status"] == "COMPLETE" {
            break;
        }
        app.clock.sleep(Duration::from_secs(polled.retry_after())).await;
        if second == 2 {
            let entry = PinEntry { new_pin: Some("445566".into()), ..PinEntry::typed(PIN) };
            app.circle.enter_pin(id, entry).unwrap();
        }
    }
    Done::PinChange(polls)
}
