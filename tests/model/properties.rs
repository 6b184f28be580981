//! What has to hold in each state, and what has to happen in some.

use shared::challenge::Status;
use stateright::{Model, Property};

use crate::state::{Abandoned, Broken, Event, Seen, State};
use crate::steps::{Service, Step};

impl Model for Service {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        self.start()
    }

    fn actions(&self, state: &State, actions: &mut Vec<Step>) {
        self.steps(state, actions);
    }

    fn next_state(&self, state: &State, step: Step) -> Option<State> {
        let mut next = state.clone();
        self.take(&mut next, step);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        [always(), sometimes()].concat()
    }
}

/// The invariants. Those that begin with "in the end" look at states in which nothing is under way.
fn always() -> Vec<Property<Service>> {
    let always = Property::<Service>::always;
    vec![
        always("the rank never falls, and FAILED and EXPIRED change only to COMPLETE", |_, state| {
            !state.broken.contains(&Broken::Rank)
        }),
        always("a COMPLETE is never lost", |_, state| {
            !state.has_heard_complete || state.status() == Some(&Status::Complete)
        }),
        always("the record says only what Circle has said", |_, state| {
            state.status().is_none_or(|status| state.circle.contains(status))
        }),
        always("callers see only challenges that Circle made and a caller requested", |_, state| {
            !is_requested(state) || (!state.circle.is_empty() && state.is_asked_for)
        }),
        always("a caller who has a challenge can read it", |_, state| {
            !state.is_answered || is_requested(state)
        }),
        always("reconciliation lists exactly the requested challenges that are open", |_, state| {
            let Some(record) = &state.record else { return true };
            let is_listed = record.is_due.is_some();
            is_listed == (record.is_requested && !record.status.is_final() && record.abandoned.is_none())
        }),
        always("no challenge is abandoned without word from Circle within a day", |_, state| {
            !state.broken.contains(&Broken::AbandonedUnchecked)
        }),
        always("no settled challenge is abandoned", |_, state| {
            !state.broken.contains(&Broken::AbandonedSettled)
        }),
        always("events say only what the record has said", |_, state| {
            let is_true = |event: &Event| match event {
                Event::Requested => is_requested(state),
                Event::Settled(status) => is_requested(state) && state.circle.contains(status),
            };
            state.sent.iter().all(|(event, _)| is_true(event))
        }),
        always("without more faults, everything comes to its end", |model, state| {
            model.checks_at_once == 0 || model.end(state).is_some()
        }),
        always("without more faults, what Circle settled is recorded", |model, state| {
            let is_settled = state.circle.last().is_some_and(Status::is_final);
            let is_listed = state.record.as_ref().is_some_and(|record| record.is_due.is_some());
            if model.checks_at_once == 0 || !is_settled || !is_listed || !state.checks.is_empty() {
                return true;
            }
            model.end(state).is_some_and(|end| end.status().is_some_and(Status::is_final))
        }),
        always("in the end, a request and its ending are announced, the newest last", |_, state| {
            if !state.is_at_rest() || !is_requested(state) {
                return true;
            }
            let is_sent = |event: &Event| state.sent.iter().any(|(sent, _)| sent == event);
            let status = state.status().filter(|status| status.is_final());
            let newest = status.map_or(Event::Requested, |status| Event::Settled(status.clone()));
            is_sent(&Event::Requested) && state.last_sent == Some(newest)
        }),
    ]
}

/// What the runs of the model show. Without them, it might hold only because nothing happens.
fn sometimes() -> Vec<Property<Service>> {
    let sometimes = Property::<Service>::sometimes;
    vec![
        sometimes("PENDING is recorded", |_, state| state.status() == Some(&Status::Pending)),
        sometimes("IN_PROGRESS is recorded", |_, state| state.status() == Some(&Status::InProgress)),
        sometimes("FAILED is recorded", |_, state| state.status() == Some(&Status::Failed)),
        sometimes("EXPIRED is recorded", |_, state| state.status() == Some(&Status::Expired)),
        sometimes("COMPLETE is recorded", |_, state| state.status() == Some(&Status::Complete)),
        sometimes("a webhook comes before the record", |_, state| saw(state, Seen::WebhookBeforeRecord)),
        sometimes("a webhook is stale", |_, state| saw(state, Seen::StaleWebhook)),
        sometimes("a creation finds a settled record", |_, state| {
            saw(state, Seen::CreationOfSettledChallenge)
        }),
        sometimes("a poll settles a challenge", |_, state| saw(state, Seen::SettledByPoll)),
        sometimes("a check settles a challenge", |_, state| saw(state, Seen::SettledByCheck)),
        sometimes("a challenge is abandoned and then settled", |_, state| {
            saw(state, Seen::SettledAfterAbandonment)
        }),
        sometimes("an abandoned challenge is resumed", |_, state| saw(state, Seen::Resume)),
        sometimes("an old check writes after a newer claim", |_, state| {
            saw(state, Seen::LateWriteOfOldCheck)
        }),
        sometimes("an open challenge is abandoned", |_, state| is_abandoned(state, Abandoned::StillOpen)),
        sometimes("a challenge whose checks fail is abandoned", |_, state| {
            is_abandoned(state, Abandoned::ChecksFailed)
        }),
        sometimes("an unknown challenge is abandoned", |_, state| is_abandoned(state, Abandoned::NotFound)),
        sometimes("an event is sent twice", |_, state| state.sent.iter().any(|(_, times)| *times > 1)),
        sometimes("COMPLETE is announced after FAILED", |_, state| {
            let settled = |status| Event::Settled(status);
            state.sent.iter().any(|(event, _)| *event == settled(Status::Failed))
                && state.last_sent == Some(settled(Status::Complete))
        }),
        sometimes("a challenge of another app is recorded and not visible", |_, state| {
            !state.is_asked_for && state.record.is_some() && state.is_at_rest()
        }),
        sometimes("a request of a caller stays unrecorded after a crash", |_, state| {
            state.is_asked_for && state.requests_left == 0 && state.is_at_rest() && !is_requested(state)
        }),
    ]
}

fn is_requested(state: &State) -> bool {
    state.record.as_ref().is_some_and(|record| record.is_requested)
}

fn is_abandoned(state: &State, why: Abandoned) -> bool {
    state.record.as_ref().is_some_and(|record| record.abandoned == Some(why))
}

fn saw(state: &State, seen: Seen) -> bool {
    state.seen == Some(seen)
}
