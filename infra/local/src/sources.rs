//! Where a running stack shows what it does, for those who watch it.

use std::collections::BTreeMap;

use dynoxide::Database;
use shared::clock::AdjustableClock;
use shared::platform::Platform;

use crate::circle_simulator::CircleSimulator;
use crate::event_bus::EventReader;
use crate::log::Log;

/// Handles to the parts of a stack. They do not keep it running.
#[derive(Clone)]
pub(crate) struct Sources {
    pub(crate) clock: AdjustableClock,
    pub(crate) circle: CircleSimulator,
    pub(crate) database: Database,
    pub(crate) events: EventReader,
    pub(crate) log: Log,
    /// Whether this process runs reconciliation on its schedule.
    pub(crate) reconciles: bool,
    /// What the functions run on.
    pub(crate) platform: Platform,
    /// The environment variables of the functions.
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) api_url: String,
    pub(crate) issuer_url: String,
    pub(crate) pin_page_url: String,
}
