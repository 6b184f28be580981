//! Where a running stack shows what it does, for those who watch it.

use dynoxide::Database;

use crate::circle_simulator::CircleSimulator;
use crate::event_bus::EventReader;
use crate::log::Log;

/// Handles to the parts of a stack. They do not keep it running.
#[derive(Clone)]
pub(crate) struct Sources {
    pub(crate) circle: CircleSimulator,
    pub(crate) database: Database,
    pub(crate) events: EventReader,
    pub(crate) log: Log,
    pub(crate) api_url: String,
    pub(crate) issuer_url: String,
    pub(crate) pin_page_url: String,
}
