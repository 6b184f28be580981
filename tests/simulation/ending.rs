//! The end of a run: nothing goes wrong any more, and time passes until everything is settled or given up.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::world::World;

/// How often reconciliation may run at most until nothing is open.
const MAX_RUNS: usize = 120;

impl World {
    /// Lets everything come to its end, and checks it.
    pub(crate) async fn end(&mut self) {
        self.log("nothing goes wrong any more");
        self.plan.troubles = 0;
        self.plan.requests = 0;
        self.finish().await;
        for challenge in self.open_at_circle() {
            // Some users walk away.
            let action = self.choices.weighted(&[60, 0, 15, 5, 5, 0, 15]);
            if action < 6 {
                self.act_on_device(&challenge, action);
            }
            self.finish().await;
        }
        self.deliver_all().await;
        for _ in 0..MAX_RUNS {
            let next = self
                .records()
                .values()
                .filter(|record| record.get("openShard").is_some())
                .filter_map(|record| record["nextCheckAt"].as_i64())
                .min();
            let Some(next) = next else { break };
            let wait = next - self.time.now().unix_timestamp();
            self.pass(Duration::from_secs(u64::try_from(wait).unwrap_or(0) + 301));
            self.finish().await;
        }
        self.check_end();
    }

    /// Everything that is under way ends.
    async fn finish(&mut self) {
        loop {
            self.settle().await;
            if !self.progress().await {
                return;
            }
        }
    }

    /// Time passes until Circle has delivered each webhook, or has given up.
    async fn deliver_all(&mut self) {
        for _ in 0..40 {
            let is_waiting = {
                let mut last = BTreeMap::new();
                for delivery in self.circle.deliveries() {
                    last.insert(
                        delivery.notification_id,
                        delivery.status.is_some_and(|status| status < 300) || delivery.attempt >= 12,
                    );
                }
                last.values().any(|is_done| !is_done)
            };
            if !is_waiting {
                return;
            }
            self.pass(Duration::from_secs(3600));
            self.finish().await;
        }
    }
}
