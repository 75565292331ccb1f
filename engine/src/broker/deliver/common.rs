//! What the consumers of a broker share of it.

use crate::broker::dead_letters::SharedStore;
use crate::broker::id::BrokerId;
use crate::broker::lifecycle::threads::ThreadRegistry;
use crate::broker::subscribe::registry::Registry;
use crate::clock::Clock;
use crate::message::Origin;
use crate::routing::Routes;
use crate::sync::Process;
use std::sync::Arc;

/// What the consumers of a broker share of it.
#[derive(Clone)]
pub(crate) struct Common<P> {
    pub(crate) id: BrokerId,
    pub(crate) origin: Origin,
    pub(crate) clock: Clock,
    pub(crate) process: Process,
    pub(crate) routes: Arc<Routes>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) threads: Arc<ThreadRegistry<P>>,
    pub(crate) dead_letters: Option<Arc<SharedStore<P>>>,
}
