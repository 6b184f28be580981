//! Everything the simulator remembers.

use std::collections::{BTreeMap, HashMap, VecDeque};

use shared::random::Random;
use time::OffsetDateTime;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::challenges::Challenge;
use super::deliveries::{Delivery, Outgoing};
use super::faults::Fault;
use super::knobs::Knobs;
use super::signing::SigningKey;
use super::subscriptions::Subscription;
use super::user_tokens::IssuedToken;
use super::users::User;

pub(super) struct State {
    pub(super) api_key: String,
    /// The Circle account. All API keys of a simulator belong to the same one.
    pub(super) entity_id: Uuid,
    pub(super) users: BTreeMap<String, User>,
    /// Tokens that were issued and not forgotten, by `jti`.
    pub(super) user_tokens: HashMap<String, IssuedToken>,
    pub(super) challenges: HashMap<Uuid, Challenge>,
    /// The challenge that each idempotency key made.
    pub(super) idempotency_keys: HashMap<Uuid, Uuid>,
    /// The last one signs; all of them can be looked up.
    pub(super) signing_keys: Vec<SigningKey>,
    pub(super) subscriptions: Vec<Subscription>,
    pub(super) deliveries: VecDeque<Delivery>,
    /// Notifications that wait for a release or for enough others to be reordered with.
    pub(super) held: Vec<Outgoing>,
    /// Ends when the first attempt of the latest notification of a subscription has been made.
    pub(super) first_attempts: HashMap<Uuid, oneshot::Receiver<()>>,
    pub(super) knobs: Knobs,
    pub(super) faults: VecDeque<Fault>,
    pub(super) calls: BTreeMap<&'static str, u64>,
}

impl State {
    pub(super) fn new(random: &Random, now: OffsetDateTime) -> Self {
        Self {
            api_key: new_api_key(random),
            entity_id: random.uuid(),
            users: BTreeMap::new(),
            user_tokens: HashMap::new(),
            challenges: HashMap::new(),
            idempotency_keys: HashMap::new(),
            signing_keys: vec![SigningKey::generate(random.uuid(), now)],
            subscriptions: Vec::new(),
            deliveries: VecDeque::new(),
            held: Vec::new(),
            first_attempts: HashMap::new(),
            knobs: Knobs::default(),
            faults: VecDeque::new(),
            calls: BTreeMap::new(),
        }
    }
}

/// A key in the form of Circle's for its test network.
pub(super) fn new_api_key(random: &Random) -> String {
    format!("TEST_API_KEY:{}:{}", random.uuid().simple(), random.uuid().simple())
}
