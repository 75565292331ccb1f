//! Explanations for people: where a message to a topic would go, and why.

use super::account::term::Term;
use super::core::Core;
use super::handle::Broker;
use super::id::SubscriptionId;
use super::subscribe::registry::SubscriptionState;
use crate::message::MessagePayload;
use crate::topic::{Pattern, Segment, Topic, TopicError};
use std::collections::HashSet;
use std::fmt;

/// The most patterns that are compared with a topic that nobody wants.
const MAX_COMPARED: usize = 10_000;
/// The most near misses that are named.
const MAX_NAMED: usize = 5;
/// The most words that a near miss is off; it also has a word in common with the topic.
const MAX_WORDS_OFF: usize = 2;

/// A subscription as it is at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SubscriptionInfo {
    /// The subscription's number.
    pub id: SubscriptionId,
    /// The subscription's name.
    pub name: String,
    /// The subscription's patterns.
    pub patterns: Vec<Pattern>,
    /// The dispatcher that delivers to it.
    pub dispatcher: String,
    /// The stage of that dispatcher, from 0.
    pub stage: usize,
    /// The name of the thread that calls the handler.
    pub consumer: String,
    /// Calls of the handler that have returned without an error.
    pub delivered: u64,
}

/// A subscription that a topic reaches.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Match {
    /// The subscription.
    pub subscription: SubscriptionInfo,
    /// Those of its patterns that match. It gets each message once, however many do.
    pub patterns: Vec<Pattern>,
}

/// A pattern that nearly matches a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NearMiss {
    /// The pattern.
    pub pattern: Pattern,
    /// The name of the oldest subscription that has it.
    pub subscription: String,
    /// Words of the topic that would have to be replaced, removed or added for a match.
    pub words_off: usize,
}

/// The answer of [`Broker::explain`](super::Broker::explain). Displayed, it is a few lines of text.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Explanation {
    /// The topic.
    pub topic: Topic,
    /// The subscriptions that it reaches. A consumer calls them in this order, and an earlier stage
    /// comes before a later one. Dispatchers promise no order between each other.
    pub matches: Vec<Match>,
    /// Where it reaches none: the patterns that miss by the fewest words, at most five, of the
    /// 10,000 patterns that were subscribed first.
    pub near_misses: Vec<NearMiss>,
}

impl SubscriptionInfo {
    pub(super) fn of<P>(core: &Core<P>, state: &SubscriptionState) -> Self {
        let dispatcher = &core.dispatchers[usize::from(state.destination.consumer.dispatcher)];
        let consumer = usize::from(state.destination.consumer.number);
        let stage = dispatcher.stages.iter().position(|stage| stage.contains(&consumer));
        Self {
            id: SubscriptionId(state.id),
            name: state.name.to_string(),
            patterns: state.patterns.clone(),
            dispatcher: dispatcher.name.to_string(),
            stage: stage.unwrap_or_else(|| unreachable!("every consumer has a stage")),
            consumer: dispatcher.consumers[consumer].thread.clone(),
            delivered: state.tally.get(Term::Delivered),
        }
    }
}

impl<P: MessagePayload> Broker<P> {
    /// Returns how many subscriptions a message to this topic would reach at this moment.
    ///
    /// # Errors
    /// A malformed topic.
    pub fn match_count(&self, topic: &str) -> Result<usize, TopicError> {
        crate::topic::validate(topic)?;
        let mut found = Vec::new();
        self.core().table.load().trie.matches(topic, &mut found);
        Ok(found.len())
    }

    /// Returns whether a message to this topic would reach any subscription at this moment.
    ///
    /// # Errors
    /// A malformed topic.
    pub fn has_subscribers(&self, topic: &str) -> Result<bool, TopicError> {
        Ok(self.match_count(topic)? > 0)
    }

    /// Lists the subscriptions of this moment, by number. Allocates and locks briefly.
    pub fn subscriptions(&self) -> Vec<SubscriptionInfo> {
        let core = self.core();
        core.registry.snapshot().live().map(|state| SubscriptionInfo::of(core, state)).collect()
    }

    /// Explains which subscriptions a message to this topic would reach at this moment, by which of
    /// their patterns, and where. If it reaches none, names the patterns that miss it by least.
    /// Allocates and locks briefly.
    ///
    /// ```
    /// # use ringmain::broker::Broker;
    /// let broker = Broker::builder().build()?;
    /// let billing = broker.subscription().name("billing").pattern("orders.*.created");
    /// let _billing = billing.subscribe(|_| ())?;
    ///
    /// let explanation = broker.explain("orders.eu.created")?;
    /// assert_eq!(explanation.matches[0].subscription.name, "billing");
    ///
    /// let explanation = broker.explain("orders.eu.crated")?;
    /// assert!(explanation.matches.is_empty());
    /// assert_eq!(explanation.near_misses[0].pattern.as_str(), "orders.*.created");
    /// println!("{explanation}");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// A malformed topic.
    pub fn explain(&self, topic: &str) -> Result<Explanation, TopicError> {
        Ok(explain(self.core(), Topic::new(topic)?))
    }
}

pub(super) fn explain<P>(core: &Core<P>, topic: Topic) -> Explanation {
    let mut found = Vec::new();
    core.table.load().trie.matches(topic.as_str(), &mut found);
    let states = found.iter().filter_map(|to| core.registry.find(to.subscription));
    let matches: Vec<_> = states
        .map(|state| Match {
            subscription: SubscriptionInfo::of(core, &state),
            patterns: state.patterns.iter().filter(|pattern| pattern.matches(&topic)).cloned().collect(),
        })
        .collect();
    let near_misses = if matches.is_empty() { near_misses(core, &topic) } else { Vec::new() };
    Explanation { topic, matches, near_misses }
}

fn near_misses<P>(core: &Core<P>, topic: &Topic) -> Vec<NearMiss> {
    let most_words_off = MAX_WORDS_OFF.min(topic.words().count() - 1);
    let subscriptions = core.registry.snapshot();
    let patterns =
        subscriptions.live().flat_map(|state| state.patterns.iter().map(move |pattern| (pattern, state)));
    let mut seen = HashSet::new();
    let distinct = patterns.filter(|(pattern, _)| seen.insert(*pattern)).take(MAX_COMPARED);
    let mut nearest: Vec<NearMiss> = Vec::new();
    for (pattern, state) in distinct {
        let words_off = words_off(pattern, topic);
        if words_off > most_words_off {
            continue;
        }
        let at = nearest.partition_point(|near| near.words_off <= words_off);
        if at < MAX_NAMED {
            nearest.truncate(MAX_NAMED - 1);
            let subscription = state.name.to_string();
            nearest.insert(at, NearMiss { pattern: pattern.clone(), subscription, words_off });
        }
    }
    nearest
}

/// Returns how many words of a topic would have to be replaced, removed or added for the pattern to
/// match it (V. Levenshtein, 1966, on words; `*` is any one word and `#` any number).
fn words_off(pattern: &Pattern, topic: &Topic) -> usize {
    // Element `n`: the distance between the pattern so far and the topic's first `n` words.
    let mut off: Vec<usize> = (0..=topic.words().count()).collect();
    for segment in pattern.segments() {
        let mut diagonal = off[0];
        off[0] += usize::from(segment != Segment::Hash);
        for (n, word) in topic.words().enumerate() {
            let above = off[n + 1];
            off[n + 1] = match segment {
                Segment::Hash => above.min(off[n]),
                Segment::Star => diagonal.min(above + 1).min(off[n] + 1),
                Segment::Word(wanted) => {
                    (diagonal + usize::from(wanted != word)).min(above + 1).min(off[n] + 1)
                }
            };
            diagonal = above;
        }
    }
    off[off.len() - 1]
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { topic, matches, near_misses } = self;
        match matches.len() {
            0 => write!(f, "{topic} reaches no subscription")?,
            1 => write!(f, "{topic} reaches 1 subscription:")?,
            count => write!(f, "{topic} reaches {count} subscriptions:")?,
        }
        for Match { subscription, patterns } in matches {
            let SubscriptionInfo { name, dispatcher, stage, consumer, .. } = subscription;
            let patterns: Vec<_> = patterns.iter().map(Pattern::as_str).collect();
            let patterns = patterns.join(", ");
            write!(f, "\n  {name}: {patterns}; on {dispatcher}, stage {stage}, {consumer}")?;
        }
        if !near_misses.is_empty() {
            f.write_str("; the nearest patterns are:")?;
        }
        for NearMiss { pattern, subscription, words_off } in near_misses {
            let words = if *words_off == 1 { "word" } else { "words" };
            write!(f, "\n  {pattern} of {subscription}: {words_off} {words} off")?;
        }
        Ok(())
    }
}

#[cfg(all(test, not(ringmain_loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_words_that_a_pattern_is_off_are_counted() {
        let off = |pattern: &str, topic: &str| {
            words_off(&Pattern::new(pattern).unwrap(), &Topic::new(topic).unwrap())
        };
        assert_eq!(off("orders.*.created", "orders.eu.created"), 0);
        assert_eq!(off("orders.*.created", "orders.eu.crated"), 1);
        assert_eq!(off("orders.*.created", "orders.created"), 1);
        assert_eq!(off("orders.*.created", "orders.eu.de.created"), 1);
        assert_eq!(off("orders.eu.*", "order.eu"), 2);
        assert_eq!(off("#.created", "orders.eu.crated"), 1);
        assert_eq!(off("#", "orders.eu.crated"), 0);
        assert_eq!(off("a.#.b.#.c", "a.x.b.y.z.c"), 0);
        assert_eq!(off("a.#.b.#.c", "a.x.y.z"), 2);
        assert_eq!(off("a.b.c.d", "x"), 4);
    }
}
