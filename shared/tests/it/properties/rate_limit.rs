use std::collections::HashMap;
use std::time::Duration;

use proptest::prelude::*;
use shared::clock::{AdjustableClock, Clock};
use shared::rate_limit::{Bucket, RateLimit, RateLimits};
use shared::user_hash::UserHashKey;
use uuid::Uuid;

use super::{check, runtime};
use crate::support::{NOON, table};

const INTERVAL: i64 = 5_000;
const BURST: i64 = 4;

#[derive(Debug, Clone)]
enum Step {
    /// Calls of one of two users at once.
    Call { user: u8, times: u8 },
    /// Milliseconds that pass.
    Wait(u64),
    /// The wall clock jumps by milliseconds.
    Jump(i64),
    /// The wall clock jumps to where the first user's time is just not wrong, or by a millisecond more.
    Brink(i64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..2u8, 1..7u8).prop_map(|(user, times)| Step::Call { user, times }),
        2 => prop_oneof![0..12_000u64, Just(INTERVAL as u64), 0..4_000_000u64].prop_map(Step::Wait),
        1 => prop_oneof![-30_000..30_000i64, -4_000_000..4_000_000i64].prop_map(Step::Jump),
        1 => (0..=1i64).prop_map(Step::Brink),
    ]
}

/// A bucket that leaks: how many milliseconds of work are in it. It has room for a burst.
#[derive(Default)]
struct LeakyBucket(Option<i64>);

impl LeakyBucket {
    const ROOM: i64 = INTERVAL * (BURST - 1);

    /// More than a burst and a minute can only come from a clock that was ahead.
    const MOST: i64 = INTERVAL + Self::ROOM + 60_000;

    /// The milliseconds until the call is allowed; zero if it is, and then it is in the bucket.
    fn call(&mut self) -> i64 {
        let work = self.0.filter(|work| *work <= Self::MOST).unwrap_or(0).max(0);
        if work <= Self::ROOM {
            self.0 = Some(work + INTERVAL);
        }
        (work - Self::ROOM).max(0)
    }
}

#[test]
fn limit_on_calls_is_a_leaky_bucket_whatever_the_clock_does() {
    let runtime = runtime();
    let clock = AdjustableClock::frozen(NOON);
    let (platform, _client) = runtime.block_on(table("rate-limits", "limitKey", &clock));
    let hash_key = UserHashKey::new("test key of 32 characters or more").unwrap();
    let limits = RateLimits::new(&platform, "rate-limits".into(), hash_key);
    let bucket = Bucket::calls(BURST as u32, Duration::from_millis(INTERVAL as u64));
    let inputs = (any::<u128>(), prop::collection::vec(step(), 1..20));
    check(25, &inputs, |(run, steps)| {
        // Earlier runs may have left the clock far from noon.
        clock.jump_wall_clock(NOON - clock.now());
        let mut model: HashMap<u8, LeakyBucket> = HashMap::new();
        for step in steps {
            let passed = match step {
                Step::Wait(wait) => {
                    clock.advance(Duration::from_millis(wait));
                    wait as i64
                }
                Step::Jump(by) => {
                    clock.jump_wall_clock(time::Duration::milliseconds(by));
                    by
                }
                Step::Brink(more) => {
                    let work = model.get(&0).and_then(|bucket| bucket.0).unwrap_or(0);
                    let by = work - LeakyBucket::MOST - more;
                    clock.jump_wall_clock(time::Duration::milliseconds(by));
                    by
                }
                Step::Call { user, times } => {
                    let id = format!("{}-{user}", Uuid::from_u128(run)).parse().unwrap();
                    for _ in 0..times {
                        let wait = model.entry(user).or_default().call();
                        let expected = match wait {
                            0 => RateLimit::Allowed,
                            wait => RateLimit::Exceeded {
                                until: clock.now() + Duration::from_millis(wait as u64),
                            },
                        };
                        let counted = runtime.block_on(limits.count_call(&id, bucket, false));
                        prop_assert_eq!(counted.unwrap(), expected);
                    }
                    0
                }
            };
            model.values_mut().for_each(|bucket| bucket.0 = bucket.0.map(|work| work - passed));
        }
        Ok(())
    });
}
