//! The steps of the model, and when each can happen. A step is one call or one write of the service, of Circle or of a
//! caller.

use shared::challenge::Status;

use crate::state::{Failure, Poll, Stage, State};

/// The model: its bounds, and a bug to plant.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    /// The statuses that Circle gives the challenge after PENDING.
    pub(crate) statuses: &'static [Status],
    /// The caller's requests with one key: the first and its retries.
    pub(crate) requests: u8,
    /// How often Circle delivers each webhook.
    pub(crate) copies: u8,
    pub(crate) polls: u8,
    /// Crashes, and calls that fail.
    pub(crate) faults: u8,
    pub(crate) checks_at_once: usize,
    pub(crate) resumes: u8,
    pub(crate) deferrals: u8,
    pub(crate) abandon_after_days: u8,
    pub(crate) bug: Option<Bug>,
}

/// A mistake that the service does not make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    /// A report is written without its condition.
    ApplyWithoutCondition,
    /// FAILED and EXPIRED are as final as COMPLETE.
    FailureIsLast,
    /// A webhook gets 200 before its report is stored.
    AcknowledgeBeforeStoring,
    /// A creation whose record is settled already is not recorded.
    NoCreationOfSettled,
    /// A creation is recorded before Circle has made the challenge.
    RecordBeforeCircle,
    /// A change whose event could not be published counts as done.
    SkipFailedEvents,
    /// Checks that fail lead to abandonment however long ago Circle responded.
    AbandonUnchecked,
    /// A check and a poll do not store Circle's response.
    ForgetResponse,
    /// An abandonment is written without its condition.
    AbandonWithoutCondition,
    /// A resumed challenge is not put on the index.
    ResumeWithoutIndex,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Circle settles the challenge, or the user begins.
    CircleMoves(Status),
    WebhookArrives(Status),
    WebhookIsLost(Status),
    /// With a webhook that is answered first: the process ends before the write.
    WebhookIsDropped(Status),
    Request,
    RecordCreation,
    RecordCreationOfSettled,
    CrashOfCreation,
    CrashOfCreationOfSettled,
    PollReads,
    CircleRespondsToPoll,
    PollWrites,
    CrashOfPoll,
    Claim,
    Defer,
    CircleRespondsToCheck(usize),
    CircleDoesNotKnow(usize),
    CheckFails(usize, Failure),
    CheckWrites(usize, IsTrusted),
    CrashOfCheck(usize),
    Resume,
    DayPasses,
    /// The first changes of the stream are announced. The event with this index is not accepted.
    Announce {
        changes: usize,
        failed_event: Option<usize>,
    },
    /// The events are published, and the process ends before it says so.
    CrashOfAnnouncement {
        changes: usize,
    },
}

/// More steps than any run without faults needs.
const STEPS_TO_REST: usize = 60;

impl Step {
    /// Whether the step happens by itself, and is neither a fault nor a beginning.
    fn is_due(&self) -> bool {
        match self {
            Self::WebhookArrives(_)
            | Self::RecordCreation
            | Self::RecordCreationOfSettled
            | Self::CircleRespondsToPoll
            | Self::PollWrites
            | Self::Claim
            | Self::CircleRespondsToCheck(_)
            | Self::CheckWrites(..)
            | Self::DayPasses => true,
            Self::Announce { failed_event, .. } => failed_event.is_none(),
            _ => false,
        }
    }
}

/// Whether the run believes that Circle does not know a challenge.
pub(crate) type IsTrusted = bool;

impl Service {
    pub(crate) fn start(&self) -> Vec<State> {
        let nothing = State {
            circle: Vec::new(),
            webhooks: Vec::new(),
            requests_left: self.requests,
            is_asked_for: false,
            creating: 0,
            creating_settled: 0,
            is_answered: false,
            record: None,
            poll: None,
            polls_left: self.polls,
            checks: Vec::new(),
            stream: Vec::new(),
            sent: Vec::new(),
            last_sent: None,
            faults_left: self.faults,
            resumes_left: self.resumes,
            deferrals_left: self.deferrals,
            since_heard: 0,
            has_heard_complete: false,
            broken: Vec::new(),
            seen: None,
        };
        // Another app on the same Circle account has created the challenge.
        let mut others = State { requests_left: 0, ..nothing.clone() };
        others.move_circle(Status::Pending, self.copies);
        vec![nothing, others]
    }

    pub(crate) fn steps(&self, state: &State, steps: &mut Vec<Step>) {
        let may_fail = state.faults_left > 0;
        let next: &[Status] = match state.circle.last() {
            Some(Status::Pending) => &[Status::InProgress, Status::Complete, Status::Failed, Status::Expired],
            Some(Status::InProgress) => &[Status::Complete, Status::Failed, Status::Expired],
            // Against Circle's guide.
            Some(Status::Failed | Status::Expired) => &[Status::Complete],
            _ => &[],
        };
        let next = next.iter().filter(|status| self.statuses.contains(status));
        steps.extend(next.cloned().map(Step::CircleMoves));
        for (status, _) in &state.webhooks {
            steps.push(Step::WebhookArrives(status.clone()));
            steps.push(Step::WebhookIsLost(status.clone()));
            if self.bug == Some(Bug::AcknowledgeBeforeStoring) && may_fail {
                steps.push(Step::WebhookIsDropped(status.clone()));
            }
        }
        if state.requests_left > 0 && state.creating + state.creating_settled < 2 {
            steps.push(Step::Request);
        }
        if state.creating > 0 {
            steps.push(Step::RecordCreation);
            steps.extend(may_fail.then_some(Step::CrashOfCreation));
        }
        if state.creating_settled > 0 {
            steps.push(Step::RecordCreationOfSettled);
            steps.extend(may_fail.then_some(Step::CrashOfCreationOfSettled));
        }
        match &state.poll {
            None => {
                let is_open =
                    state.record.as_ref().is_some_and(|it| it.is_requested && !it.status.is_final());
                steps.extend((state.polls_left > 0 && is_open).then_some(Step::PollReads));
            }
            Some(poll) => {
                steps.push(match poll {
                    Poll::Read(_) => Step::CircleRespondsToPoll,
                    Poll::Responded { .. } => Step::PollWrites,
                });
                steps.extend(may_fail.then_some(Step::CrashOfPoll));
            }
        }
        self.reconciliation_steps(state, steps);
        for changes in 1..=state.stream.len() {
            steps.push(Step::Announce { changes, failed_event: None });
            if may_fail {
                let events: usize = state.stream[..changes].iter().map(Vec::len).sum();
                let failed = (0..events).map(|event| Step::Announce { changes, failed_event: Some(event) });
                steps.extend(failed);
                steps.push(Step::CrashOfAnnouncement { changes });
            }
        }
    }

    fn reconciliation_steps(&self, state: &State, steps: &mut Vec<Step>) {
        let may_fail = state.faults_left > 0;
        for (index, check) in state.checks.iter().enumerate() {
            match check.stage {
                Stage::Claimed => {
                    steps.push(Step::CircleRespondsToCheck(index));
                    if may_fail {
                        steps.push(Step::CircleDoesNotKnow(index));
                        steps.extend(Failure::ALL.map(|failure| Step::CheckFails(index, failure)));
                    }
                }
                Stage::NotFound => {
                    steps.extend([true, false].map(|is_trusted| Step::CheckWrites(index, is_trusted)));
                }
                _ => steps.push(Step::CheckWrites(index, true)),
            }
            steps.extend(may_fail.then_some(Step::CrashOfCheck(index)));
        }
        let Some(record) = &state.record else { return };
        if record.is_due == Some(true) && state.checks.len() < self.checks_at_once {
            steps.push(Step::Claim);
            steps.extend((state.deferrals_left > 0).then_some(Step::Defer));
        }
        if state.resumes_left > 0 && record.abandoned.is_some() && !record.status.is_final() {
            steps.push(Step::Resume);
        }
        // A request ends long before a day has passed. A check may be under way for a day, which is far longer than any
        // process lives, so that a later one can overtake it.
        let has_requests = state.creating + state.creating_settled > 0 || state.poll.is_some();
        let has_old_check = state.checks.iter().any(|check| check.is_old);
        if record.is_due.is_some() && !has_requests && !has_old_check {
            let mut later = state.clone();
            later.tick();
            steps.extend((later != *state).then_some(Step::DayPasses));
        }
    }

    /// How everything under way ends if no more faults happen and nobody begins anything; `None` if it does not end.
    pub(crate) fn end(&self, state: &State) -> Option<State> {
        let mut state = state.clone();
        let mut steps = Vec::new();
        for _ in 0..STEPS_TO_REST {
            if state.is_at_rest() {
                return Some(state);
            }
            steps.clear();
            self.steps(&state, &mut steps);
            let step = steps.drain(..).find(Step::is_due)?;
            self.take(&mut state, step);
        }
        None
    }
}
