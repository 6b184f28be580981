use std::collections::HashMap;
use std::time::Duration;

use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;
use shared::clock::{AdjustableClock, Clock};
use shared::webhook::{KeyError, PublicKeys};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{check, runtime};
use crate::forgery::signer::{KeyServer, signers};

/// How many of the ids have a key.
const KEYS: u128 = 4;

#[derive(Debug, Clone)]
enum Step {
    /// Asks for a key, or for that many ids that nobody has asked for.
    Get(u128),
    Flood(u8),
    /// Milliseconds that pass.
    Wait(u64),
    /// The wall clock jumps by milliseconds.
    Jump(i64),
}

fn step() -> impl Strategy<Value = Step> {
    const DAY: u64 = 24 * 3_600_000;
    prop_oneof![
        6 => (0..2 * KEYS).prop_map(Step::Get),
        1 => (1..30u8).prop_map(Step::Flood),
        3 => prop_oneof![0..2_000u64, 0..90_000u64, 0..2 * DAY, Just(60_000), Just(59_999), Just(DAY), Just(DAY - 1)]
            .prop_map(Step::Wait),
        1 => (-100_000..100_000i64).prop_map(Step::Jump),
    ]
}

/// The two clocks, in milliseconds.
#[derive(Clone, Copy)]
struct Times(OffsetDateTime, Duration);

impl Times {
    fn now(clock: &AdjustableClock) -> Self {
        Self(clock.now(), clock.monotonic())
    }

    /// The larger of the two ages, in milliseconds.
    fn age(self, clock: &AdjustableClock) -> u128 {
        let by_wall = (clock.now() - self.0).whole_milliseconds().max(0) as u128;
        by_wall.max((clock.monotonic() - self.1).as_millis())
    }
}

/// What the cache should know, without a limit on its size.
struct Model {
    fetched: HashMap<Uuid, Times>,
    left: u128,
    since: Times,
}

impl Model {
    /// Whether the id is fetched; `None` if it may not be.
    fn get(&mut self, id: Uuid, clock: &AdjustableClock) -> Option<bool> {
        let lifetime = if id.as_u128() < KEYS { 24 * 3_600_000 } else { 60_000 };
        if self.fetched.get(&id).is_some_and(|at| at.age(clock) < lifetime) {
            return Some(false);
        }
        let earned = self.since.age(clock) / 200;
        if earned > 0 {
            (self.left, self.since) = ((self.left + earned).min(20), Times::now(clock));
        }
        self.left = self.left.checked_sub(1)?;
        self.fetched.insert(id, Times::now(clock));
        Some(true)
    }
}

#[test]
fn keys_are_fetched_when_the_model_says_and_never_faster_than_five_a_second() {
    let runtime = runtime();
    let webhooks = signers(&mut StdRng::seed_from_u64(1));
    let server = runtime.block_on(KeyServer::start());
    for id in 0..KEYS {
        server.publish(Uuid::from_u128(id), webhooks[id as usize].published());
    }
    check(60, &prop::collection::vec(step(), 1..40), |steps| {
        let (keys, clock) = server.instance();
        let mut model = Model { fetched: HashMap::new(), left: 20, since: Times::now(&clock) };
        let mut strangers = 1_000..;
        let get = |id, keys: &PublicKeys, model: &mut Model| {
            let (before, id) = (server.fetches(), Uuid::from_u128(id));
            let result = runtime.block_on(keys.get(id));
            let fetched = server.fetches() - before;
            match model.get(id, &clock) {
                None => {
                    prop_assert!(matches!(result, Err(KeyError::RateLimited)), "{id}");
                    prop_assert_eq!(fetched, 0);
                }
                Some(is_fetched) => {
                    prop_assert_eq!(result.unwrap().is_some(), id.as_u128() < KEYS);
                    prop_assert_eq!(fetched, u32::from(is_fetched));
                }
            }
            Ok(())
        };
        for step in steps {
            match step {
                Step::Get(id) => get(id, &keys, &mut model)?,
                Step::Flood(ids) => {
                    for id in strangers.by_ref().take(ids.into()) {
                        get(id, &keys, &mut model)?;
                    }
                }
                Step::Wait(wait) => clock.advance(Duration::from_millis(wait)),
                Step::Jump(by) => clock.jump_wall_clock(time::Duration::milliseconds(by)),
            }
        }
        Ok(())
    });
}
