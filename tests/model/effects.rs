//! What each step does to the state.

use reconcile_challenges::Policy;
use shared::challenge::{Creation, Status};
use shared::challenge_store::AbandonReason;
use time::OffsetDateTime;

use crate::state::{Broken, Check, DAY, Event, Failure, Poll, Record, Seen, Stage, State};
use crate::steps::{Bug, IsTrusted, Service, Step};

impl Service {
    /// Takes a step.
    pub(crate) fn take(&self, state: &mut State, step: Step) {
        state.seen = None;
        match step {
            Step::CircleMoves(status) => state.move_circle(status, self.copies),
            Step::WebhookArrives(status) => {
                take_webhook(state, &status);
                if state.record.as_ref().is_none_or(|record| !record.is_requested) && state.is_asked_for {
                    state.see(Seen::WebhookBeforeRecord);
                }
                if !status.replaces(state.status()) {
                    state.see(Seen::StaleWebhook);
                }
                self.apply(state, status);
            }
            Step::WebhookIsLost(status) => take_webhook(state, &status),
            Step::WebhookIsDropped(status) => {
                state.faults_left -= 1;
                take_webhook(state, &status);
                state.has_heard_complete |= status == Status::Complete;
            }
            Step::Request => self.request(state),
            Step::RecordCreation => self.record_creation(state),
            Step::RecordCreationOfSettled => self.record_creation_of_settled(state),
            Step::CrashOfCreation => {
                state.faults_left -= 1;
                state.creating -= 1;
            }
            Step::CrashOfCreationOfSettled => {
                state.faults_left -= 1;
                state.creating_settled -= 1;
            }
            Step::PollReads => {
                state.polls_left -= 1;
                state.poll = state.status().cloned().map(Poll::Read);
            }
            Step::CircleRespondsToPoll => {
                let said = state.circle.last().cloned();
                if let (Some(Poll::Read(read)), Some(said)) = (state.poll.take(), said) {
                    state.poll = Some(Poll::Responded { read, said });
                }
            }
            Step::PollWrites => {
                let Some(Poll::Responded { read, said }) = state.poll.take() else { return };
                if said.is_final() && said.replaces(state.status()) {
                    state.see(Seen::SettledByPoll);
                }
                self.store(state, &read, said);
            }
            Step::CrashOfPoll => {
                state.faults_left -= 1;
                state.poll = None;
            }
            Step::Announce { changes, failed_event } => {
                state.faults_left -= u8::from(failed_event.is_some());
                self.announce(state, changes, failed_event);
            }
            Step::CrashOfAnnouncement { changes } => {
                state.faults_left -= 1;
                publish(state, changes, None);
            }
            step => self.reconcile(state, step),
        }
    }

    /// `ChallengeStore::apply`.
    fn apply(&self, state: &mut State, status: Status) {
        state.has_heard_complete |= status == Status::Complete;
        let mut is_written = status.replaces(state.status());
        if self.bug == Some(Bug::FailureIsLast) {
            is_written &= state.status().is_none_or(|recorded| !recorded.is_final());
        }
        if !is_written && self.bug != Some(Bug::ApplyWithoutCondition) {
            return;
        }
        state.since_heard = 0;
        let mut record = state.record.clone().unwrap_or_else(|| new_record(&status));
        if status.is_final() {
            record.is_due = None;
            if record.abandoned.is_some() {
                state.see(Seen::SettledAfterAbandonment);
            }
        }
        state.write(Record { status, since_checked: 0, not_found: Vec::new(), ..record });
    }

    /// What a poll and a check do with Circle's response: `apply` or `confirm`.
    fn store(&self, state: &mut State, read: &Status, said: Status) {
        // The write follows Circle's response within seconds.
        state.since_heard = 0;
        if self.bug == Some(Bug::ForgetResponse) {
            return;
        }
        if said.replaces(Some(read)) {
            self.apply(state, said);
        } else if let Some(record) = state.record.clone()
            && !record.status.is_final()
        {
            state.write(Record { since_checked: 0, not_found: Vec::new(), ..record });
        }
    }

    fn request(&self, state: &mut State) {
        state.requests_left -= 1;
        state.is_asked_for = true;
        state.creating += 1;
        if self.bug == Some(Bug::RecordBeforeCircle) {
            self.record_creation(state);
        } else if state.circle.is_empty() {
            // A retry with the same key gets the same challenge.
            state.move_circle(Status::Pending, self.copies);
        }
    }

    /// The first write of `ChallengeStore::create`.
    fn record_creation(&self, state: &mut State) {
        state.creating -= 1;
        let is_requested = state.record.as_ref().is_some_and(|record| record.is_requested);
        match Creation::on(state.status(), is_requested) {
            Creation::Open => {
                let record = state.record.clone().unwrap_or_else(|| new_record(&Status::Pending));
                let claim = if record.is_due.is_some() { record.claim } else { state.new_claim() };
                let is_due = record.is_due.or(Some(false));
                let not_found = Vec::new();
                state.write(Record {
                    is_requested: true,
                    is_due,
                    claim,
                    abandoned: None,
                    not_found,
                    ..record
                });
                state.is_answered = true;
            }
            Creation::Settled if self.bug == Some(Bug::NoCreationOfSettled) => state.is_answered = true,
            Creation::Settled => state.creating_settled += 1,
            Creation::Unchanged => state.is_answered = true,
        }
    }

    /// The second write of `ChallengeStore::create`.
    fn record_creation_of_settled(&self, state: &mut State) {
        state.creating_settled -= 1;
        state.is_answered = true;
        if let Some(record) = state.record.clone()
            && Creation::on(Some(&record.status), record.is_requested) == Creation::Settled
        {
            state.see(Seen::CreationOfSettledChallenge);
            state.write(Record { is_requested: true, ..record });
        }
    }

    fn reconcile(&self, state: &mut State, step: Step) {
        let claim = state.new_claim();
        match step {
            Step::CircleRespondsToCheck(index) => {
                if let Some(said) = state.circle.last() {
                    state.checks[index].stage = Stage::Responded(said.clone());
                }
            }
            Step::CircleDoesNotKnow(index) => {
                state.faults_left -= 1;
                state.since_heard = 0;
                state.checks[index].stage = Stage::NotFound;
            }
            Step::CheckFails(index, failure) => {
                state.faults_left -= 1;
                if failure == Failure::Other {
                    state.since_heard = 0;
                }
                state.checks[index].stage = Stage::Failed(failure);
            }
            Step::CheckWrites(index, is_trusted) => self.write_check(state, index, is_trusted),
            Step::CrashOfCheck(index) => {
                state.faults_left -= 1;
                state.checks.remove(index);
            }
            Step::DayPasses => state.tick(),
            _ => {
                let Some(record) = state.record.clone() else { return };
                match step {
                    Step::Claim => {
                        let (read, since_checked) = (record.status.clone(), record.since_checked);
                        state.checks.push(Check {
                            claim,
                            read,
                            since_checked,
                            is_old: false,
                            stage: Stage::Claimed,
                        });
                        state.write(Record { is_due: Some(false), claim, ..record });
                    }
                    Step::Defer => {
                        state.deferrals_left -= 1;
                        state.write(Record { is_due: Some(false), claim, ..record });
                    }
                    Step::Resume => {
                        state.resumes_left -= 1;
                        state.see(Seen::Resume);
                        let is_due = (self.bug != Some(Bug::ResumeWithoutIndex)).then_some(true);
                        let not_found = Vec::new();
                        state.write(Record { is_due, claim, abandoned: None, not_found, ..record });
                    }
                    step => unreachable!("{step:?} is not a step of reconciliation"),
                }
            }
        }
    }

    /// The writes of a check after Circle's response or an error.
    fn write_check(&self, state: &mut State, index: usize, is_trusted: IsTrusted) {
        let mut check = state.checks.remove(index);
        let policy = self.policy();
        let Some(record) = state.record.clone() else { return };
        let age = DAY * record.age.into();
        let is_latest = record.is_due.is_some() && record.claim == check.claim;
        if !is_latest {
            state.see(Seen::LateWriteOfOldCheck);
        }
        let reason = match check.stage.clone() {
            Stage::Claimed => return,
            Stage::Responded(said) => {
                if said.is_final() && said.replaces(state.status()) {
                    state.see(Seen::SettledByCheck);
                }
                let is_final = said.is_final();
                self.store(state, &check.read, said);
                if !is_final {
                    check.stage = Stage::StoredOpen;
                    state.checks.insert(index, check);
                }
                return;
            }
            Stage::StoredOpen => policy.abandon_open(age),
            Stage::NotFound => {
                let mut not_found = Vec::new();
                if is_trusted && is_latest {
                    let record = state.record.as_mut().expect("the record exists");
                    record.not_found.insert(0, 0);
                    record.not_found.truncate(4);
                    not_found.clone_from(&record.not_found);
                }
                let noon = OffsetDateTime::UNIX_EPOCH + 100 * DAY;
                let times: Vec<_> = not_found.iter().map(|&days| noon - DAY * days.into()).collect();
                policy.abandon_not_found(&times, age)
            }
            Stage::Failed(failure) if policy.reschedules(failure.kind(), false, age) => {
                if is_latest {
                    let claim = state.new_claim();
                    state.write(Record { is_due: Some(true), claim, ..record });
                }
                return;
            }
            Stage::Failed(failure) => {
                let since_checked = match self.bug {
                    Some(Bug::AbandonUnchecked) => 0,
                    _ => check.since_checked,
                };
                policy.abandon_failed(failure.kind(), age, DAY * since_checked.into())
            }
        };
        if let Some(reason) = reason {
            self.abandon(state, is_latest, reason);
        }
    }

    /// `ChallengeStore::abandon`.
    fn abandon(&self, state: &mut State, is_latest: bool, reason: AbandonReason) {
        let Some(record) = state.record.clone() else { return };
        if !(is_latest || self.bug == Some(Bug::AbandonWithoutCondition)) {
            return;
        }
        if state.since_heard > 1 {
            state.broken.push(Broken::AbandonedUnchecked);
        }
        if record.status.is_final() {
            state.broken.push(Broken::AbandonedSettled);
        }
        state.write(Record { is_due: None, abandoned: Some(reason.into()), ..record });
    }

    /// `announce-challenges` handles a batch. The stream goes on at the first change that failed.
    fn announce(&self, state: &mut State, changes: usize, failed_event: Option<usize>) {
        let failed_change = publish(state, changes, failed_event);
        let done = match failed_change {
            Some(change) if self.bug != Some(Bug::SkipFailedEvents) => change,
            _ => changes,
        };
        state.stream.drain(..done);
    }

    fn policy(&self) -> Policy {
        Policy { abandon_after: DAY * self.abandon_after_days.into() }
    }
}

/// Publishes the events of the first changes, but for one. Returns the change of that one.
fn publish(state: &mut State, changes: usize, failed_event: Option<usize>) -> Option<usize> {
    let events = state.stream[..changes].iter().enumerate();
    let events = events.flat_map(|(change, it)| it.iter().cloned().map(move |event| (change, event)));
    let events: Vec<(usize, Event)> = events.collect();
    let mut failed_change = None;
    for (index, (change, event)) in events.into_iter().enumerate() {
        if failed_event == Some(index) {
            failed_change = Some(change);
            continue;
        }
        match state.sent.iter_mut().find(|(sent, _)| *sent == event) {
            Some((_, times)) => *times = 2,
            None => state.sent.push((event.clone(), 1)),
        }
        state.last_sent = Some(event);
    }
    failed_change
}

fn take_webhook(state: &mut State, status: &Status) {
    let Some(index) = state.webhooks.iter().position(|(it, _)| it == status) else { return };
    state.webhooks[index].1 -= 1;
    if state.webhooks[index].1 == 0 {
        state.webhooks.remove(index);
    }
}

fn new_record(status: &Status) -> Record {
    Record {
        status: status.clone(),
        is_requested: false,
        is_due: None,
        claim: 0,
        abandoned: None,
        age: 0,
        since_checked: 0,
        not_found: Vec::new(),
    }
}
