//! Topics and patterns: their grammar, their limits, and matching one against one.
//!
//! A *topic* says what a message is about: 1 to [`MAX_WORDS`] words joined by `.`, at most
//! [`MAX_BYTES`] bytes of UTF-8, compared byte by byte. Case matters and nothing is normalised: two
//! spellings of one accented letter are two words. A word may hold any character but `.`, `*`, `#`,
//! Unicode white space and control characters.
//!
//! A *pattern* says which topics are wanted. It is written like a topic, and two words are special
//! in it: `*` stands for exactly one word, `#` for zero or more. Both may stand anywhere and more
//! than once, each as a word of its own. This is the grammar of AMQP 0-9-1's topic exchange.
//!
//! | pattern | matches | does not match |
//! |---|---|---|
//! | `orders.*.created` | `orders.eu.created` | `orders.created`, `orders.eu.de.created` |
//! | `orders.#` | `orders`, `orders.eu`, `orders.eu.created` | `order`, `eu.orders` |
//! | `#.created` | `created`, `orders.eu.created` | `orders.created.late` |
//! | `#` | every topic | |
//!
//! Both types are checked once, at creation, and cheap to clone. Matching many patterns at once is
//! the [routing trie](crate::routing::Trie)'s work.
//!
//! ```
//! use ringmain::topic::{Pattern, Topic};
//!
//! let pattern = Pattern::new("orders.*.created")?;
//! assert!(pattern.matches(&Topic::new("orders.eu.created")?));
//! assert!(!pattern.matches(&Topic::new("orders.created")?));
//! # Ok::<(), ringmain::topic::TopicError>(())
//! ```

#![forbid(unsafe_code)]

mod automaton;
mod error;
mod grammar;
mod limits;
mod name;
mod pattern;
mod segment;

pub use error::{Subject, TopicError, TopicErrorKind};
pub use grammar::validate;
pub use limits::{MAX_BYTES, MAX_WORDS};
pub use name::Topic;
pub use pattern::Pattern;
pub use segment::Segment;
