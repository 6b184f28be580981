//! The end of a run: nothing goes wrong any more, and time passes until everything is settled or abandoned.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::world::World;

/// After so many runs of reconciliation, nothing has to be open any more.
const MAX_RUNS: usize = 120;

/// How often Circle tries to deliver a webhook, and how long that takes at most, in hours.
const CIRCLE_ATTEMPTS: usize = 12;
const MAX_HOURS: u32 = 40;

/// After so many steps, everything that is under way has to have ended.
const MAX_STEPS_OF_ENDING: usize = 5000;

/// The choice of a user who leaves a challenge open.
const WALKS_AWAY: usize = 9;

impl World {
    /// Lets everything come to its end, and checks it.
    pub(crate) async fn end(&mut self) {
        self.log("nothing goes wrong any more");
        self.plan.troubles = 0;
        self.plan.requests = 0;
        self.is_ending = true;
        self.circle.set_knobs(|knobs| knobs.lose_webhooks = 0);
        self.finish().await;
        for challenge in self.open_at_circle() {
            let action = self.choices.weighted(&[60, 0, 10, 5, 3, 3, 3, 3, 5, 8]);
            if action == WALKS_AWAY {
                self.count("user walked away");
            } else {
                self.act_on_device(&challenge, action);
            }
            self.finish().await;
        }
        self.deliver_all().await;
        self.reconcile_until_nothing_is_open().await;
        if self.has_abandoned && self.choices.chance(50) {
            self.count("users came back");
            // An operator lets their challenges be checked again.
            for challenge in self.open_at_circle() {
                self.act_on_device(&challenge, 0);
            }
            self.resume().await;
            self.reconcile_until_nothing_is_open().await;
        }
        self.everybody_lists().await;
        self.finish().await;
        self.check_end();
    }

    async fn reconcile_until_nothing_is_open(&mut self) {
        self.finish().await;
        let mut runs = 0;
        while let Some(next) = self.next_check() {
            runs += 1;
            if runs > MAX_RUNS {
                self.violation(format!(
                    "after {MAX_RUNS} runs of reconciliation, challenges are still checked"
                ));
                break;
            }
            let wait = next - self.time.now().unix_timestamp();
            self.pass(Duration::from_secs(u64::try_from(wait).unwrap_or(0) + 301));
            self.finish().await;
        }
    }

    /// Everything that is under way ends.
    async fn finish(&mut self) {
        for _ in 0..MAX_STEPS_OF_ENDING {
            self.wait_until_quiet().await;
            if !self.progress().await {
                return;
            }
        }
        self.violation(format!("after {MAX_STEPS_OF_ENDING} steps, something is still under way"));
    }

    /// Time passes until Circle has delivered each webhook, or has made its last attempt.
    async fn deliver_all(&mut self) {
        for _ in 0..MAX_HOURS {
            if self.circle_has_delivered() {
                return;
            }
            self.pass(Duration::from_secs(3600));
            self.finish().await;
        }
        if !self.circle_has_delivered() {
            self.violation("Circle could not deliver its webhooks".to_owned());
        }
    }

    fn circle_has_delivered(&self) -> bool {
        let mut latest = BTreeMap::new();
        for delivery in self.circle.deliveries() {
            // The attempt 0 stands for a webhook that the simulator loses.
            let is_over = delivery.attempt == 0 || delivery.attempt >= CIRCLE_ATTEMPTS;
            let is_delivered = delivery.status.is_some_and(|status| status < 300);
            latest.insert(delivery.notification_id, is_over || is_delivered);
        }
        latest.into_values().all(|is_done| is_done)
    }
}
