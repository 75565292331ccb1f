//! The form of a scenario. What it says beyond its form is looked at in [`check`](super::check).

use std::collections::BTreeMap;

use ringmain::broker::{Jitter, WhenFull, WhileOpen};
use ringmain::message::Priority;
use serde::Deserialize;
use toml::Spanned;

use super::values::{Fails, FailsAs, KeyForm, Numbered, Time};

/// A whole file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a scenario")]
pub(super) struct Scenario {
    #[serde(default = "first_seed")]
    pub(super) seed: u64,
    pub(super) dead_letters: Option<Store>,
    /// Whether handlers are called with copies, as where consumers may be replaced.
    #[serde(default)]
    pub(super) rescuable: bool,
    #[serde(default, rename = "subscription")]
    pub(super) subscriptions: Vec<SubscriptionForm>,
    #[serde(default, rename = "step")]
    pub(super) steps: Vec<Spanned<Step>>,
}

fn first_seed() -> u64 {
    1
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct Store {
    pub(super) messages: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct SubscriptionForm {
    pub(super) name: Spanned<String>,
    pub(super) patterns: Spanned<Vec<Spanned<String>>>,
    pub(super) filter: Option<Spanned<FilterForm>>,
    pub(super) retry: Option<Spanned<RetryForm>>,
    pub(super) breaker: Option<Spanned<BreakerForm>>,
    pub(super) backlog: Option<Spanned<BacklogForm>>,
    pub(super) idempotent: Option<Spanned<IdempotencyForm>>,
    pub(super) manual: Option<Spanned<ManualForm>>,
    pub(super) time_limit: Option<Spanned<Time>>,
    #[serde(default)]
    pub(super) handler: HandlerForm,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct FilterForm {
    pub(super) header: Option<String>,
    pub(super) is: Option<String>,
    pub(super) priority_at_least: Option<Spanned<PriorityForm>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct RetryForm {
    pub(super) attempts: Option<u16>,
    pub(super) delay: Option<Time>,
    pub(super) schedule: Option<Schedule>,
    pub(super) factor: Option<Spanned<f64>>,
    pub(super) cap: Option<Time>,
    #[serde(default)]
    pub(super) jitter: JitterForm,
    #[serde(default)]
    pub(super) in_order: bool,
    pub(super) max_elapsed: Option<Time>,
}

/// How delays grow.
#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Schedule {
    Constant,
    Linear,
    Exponential,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum JitterForm {
    #[default]
    None,
    Full,
    Decorrelated,
}

impl From<JitterForm> for Jitter {
    fn from(form: JitterForm) -> Self {
        match form {
            JitterForm::None => Self::None,
            JitterForm::Full => Self::Full,
            JitterForm::Decorrelated => Self::Decorrelated,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct BreakerForm {
    pub(super) consecutive: Option<u32>,
    pub(super) rate: Option<f64>,
    pub(super) window: Option<Spanned<u32>>,
    pub(super) minimum: Option<Spanned<u32>>,
    pub(super) open: Option<Time>,
    pub(super) factor: Option<Spanned<f64>>,
    pub(super) cap: Option<Time>,
    pub(super) jitter: Option<Spanned<f64>>,
    pub(super) probes: Option<u32>,
    pub(super) while_open: Option<Spanned<WhileOpenForm>>,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(super) enum WhileOpenForm {
    Pause,
    DeadLetter,
    Refuse,
}

impl From<WhileOpenForm> for WhileOpen {
    fn from(form: WhileOpenForm) -> Self {
        match form {
            WhileOpenForm::Pause => Self::Pause,
            WhileOpenForm::DeadLetter => Self::DeadLetter,
            WhileOpenForm::Refuse => Self::Refuse,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct BacklogForm {
    pub(super) messages: Option<usize>,
    pub(super) when_full: Option<Spanned<WhenFullForm>>,
    pub(super) conflate_by: Option<Spanned<KeyForm>>,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(super) enum WhenFullForm {
    DeadLetter,
    DropOldest,
    DropNewest,
}

impl From<WhenFullForm> for WhenFull {
    fn from(form: WhenFullForm) -> Self {
        match form {
            WhenFullForm::DeadLetter => Self::DeadLetter,
            WhenFullForm::DropOldest => Self::DropOldest,
            WhenFullForm::DropNewest => Self::DropNewest,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct IdempotencyForm {
    pub(super) by: Spanned<KeyForm>,
    pub(super) keys: Option<usize>,
    #[serde(rename = "for")]
    pub(super) remembered_for: Option<Time>,
    #[serde(default)]
    pub(super) may_lose: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct ManualForm {
    pub(super) in_flight: Option<usize>,
    pub(super) limit: Option<Time>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum PriorityForm {
    Low,
    Normal,
    High,
}

impl From<PriorityForm> for Priority {
    fn from(form: PriorityForm) -> Self {
        match form {
            PriorityForm::Low => Self::Low,
            PriorityForm::Normal => Self::Normal,
            PriorityForm::High => Self::High,
        }
    }
}

/// What a handler does. What is absent is as it was, and at first: at once, and never failing.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct HandlerForm {
    pub(super) takes: Option<Time>,
    pub(super) fails: Option<Fails>,
    #[serde(rename = "as")]
    pub(super) fails_as: Option<FailsAs>,
}

/// A step: one of these.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct Step {
    pub(super) publish: Option<Spanned<PublishForm>>,
    pub(super) advance: Option<Spanned<Time>>,
    pub(super) pause: Option<Spanned<String>>,
    pub(super) resume: Option<Spanned<String>>,
    pub(super) unsubscribe: Option<Spanned<String>>,
    pub(super) breaker: Option<ForcedBreaker>,
    pub(super) handler: Option<ChangedHandler>,
    pub(super) settle: Option<SettleForm>,
    pub(super) replay: Option<Spanned<ReplayForm>>,
    pub(super) shutdown: Option<Spanned<Time>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct PublishForm {
    pub(super) topic: Spanned<Numbered>,
    pub(super) count: Option<Spanned<u64>>,
    pub(super) every: Option<Time>,
    pub(super) priority: Option<PriorityForm>,
    pub(super) ttl: Option<Time>,
    #[serde(default)]
    pub(super) headers: BTreeMap<String, Spanned<Numbered>>,
}

impl PublishForm {
    pub(super) fn count(&self) -> u64 {
        self.count.as_ref().map_or(1, |count| *count.get_ref())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct ForcedBreaker {
    pub(super) of: Spanned<String>,
    pub(super) to: Force,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Force {
    Open,
    Closed,
    Reset,
}

/// Settles tokens, from the oldest.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct SettleForm {
    pub(super) of: Spanned<String>,
    pub(super) count: Option<usize>,
    #[serde(rename = "as")]
    pub(super) settled_as: SettledAs,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum SettledAs {
    Ack,
    Fail,
    Forget,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct ChangedHandler {
    pub(super) of: Spanned<String>,
    pub(super) takes: Option<Time>,
    pub(super) fails: Option<Fails>,
    #[serde(rename = "as")]
    pub(super) fails_as: Option<FailsAs>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct ReplayForm {
    pub(super) of: Spanned<String>,
    pub(super) to: Option<Spanned<ReplayTo>>,
    pub(super) rate: Option<Spanned<u32>>,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(super) enum ReplayTo {
    Subscription,
    Topic,
}
