//! A payment service whose bank fails in every way that banks do, and an account at the end in which each order was
//! charged once.
//!
//! `billing` is retried, has a breaker, and drops what the shops send twice. What it cannot handle is looked at, mended
//! and delivered again. `journal` has the same consumer thread, and notices nothing of it.

use ringmain::broker::dead_letters::{self, DeadLetterOptions, Replay, Selection};
use ringmain::broker::{
    Breaker, BreakerState, FailureKind, HandlerError, Idempotency, Jitter, Permanent, PublishOptions, Retry,
    RetryAfter, Subscription, Term, key,
};
use ringmain::{Broker, message::Message, message::Payload};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// An error that may pass from thread to thread.
type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

const LIMIT: Duration = Duration::from_secs(30);
/// Orders of each shop in the morning, and as many in the afternoon.
const ORDERS: u32 = 100;
const SHOPS: [&str; 2] = ["eu", "us"];
const ALL_ORDERS: u64 = 2 * ORDERS as u64 * SHOPS.len() as u64;
/// Customers whose card the bank does not know before the customer has called.
const UNKNOWN_CARDS: [&str; 3] = ["eu-11", "us-22", "us-33"];
/// The order that nobody thought of when the handler was written.
const POISONED: &str = "eu-66";

fn main() -> Outcome<()> {
    hide_the_expected_panic();
    let bank = Arc::new(Bank::default());
    bank.books().unknown_cards.extend(UNKNOWN_CARDS);
    let broker = Broker::builder().dead_letters(DeadLetterOptions::new()).build()?;

    let (sender, journal_entries) = mpsc::channel();
    let journal = broker.subscription().name("journal").pattern("orders.#").subscribe(move |message| {
        let order = message.headers().get_str("order").unwrap_or_default();
        sender.send((message.topic().to_string(), message.sequence(), order.to_owned()))
    })?;
    let billing = subscribe_billing(&broker, Arc::clone(&bank))?;

    println!("Morning: the bank is busy now and then, and does not know {} cards.", UNKNOWN_CARDS.len());
    let mut published = open_shops(&broker, 0..ORDERS)?;
    broker.drain(LIMIT)?; // waits for retries as well
    let charged_before = bank.books().charged.len();
    println!("  {published} orders came, some of them twice; {charged_before} were charged.");

    println!("Afternoon: the bank is down.");
    bank.books().is_down = true;
    published += open_shops(&broker, ORDERS..2 * ORDERS)?;
    wait_until("the breaker opens, and the journal has all", || {
        billing.status().breaker == Some(BreakerState::Open) && journal.delivered() == published
    })?;
    let status = billing.status();
    let waiting = status.backlogged + status.retrying;
    println!("  The journal has all orders; the breaker of billing is open, and {waiting} orders wait.");
    assert_eq!(bank.books().charged.len(), charged_before, "nothing is charged while the bank is down");
    bank.books().is_down = false;
    broker.drain(LIMIT)?;
    println!("  The bank is up again: {} orders are charged.", bank.books().charged.len());

    published += mend_dead_letters(&broker, &bank)?;

    // A shop is impatient, and repeats what was charged long ago: the order is known by its number.
    let repeated = PublishOptions::new().header("order", "eu-5")?;
    let _ = broker.publisher("orders.eu")?.publish_with(order_text("eu-5"), &repeated)?;
    published += 1;
    broker.drain(LIMIT)?;

    assert_eq!(billing.status().breaker, Some(BreakerState::Closed));
    check_accounts(&broker, &bank.books(), published)?;
    let report = broker.shutdown(LIMIT)?;
    assert!(report.undelivered.is_empty() && report.abandoned.is_empty() && report.dead.is_empty());
    assert!(report.ledger.is_balanced());
    check_journal(journal_entries.try_iter(), published);
    println!("{ALL_ORDERS} orders, each charged once; {published} messages, each accounted for.");
    Ok(())
}

/// Subscribes what charges the orders.
fn subscribe_billing(broker: &Broker, bank: Arc<Bank>) -> Outcome<Subscription> {
    // A bank that does not answer is waited for, longer than anything else: that costs nobody anything. What is not
    // known here, a panic for instance, is tried three times.
    let backoff =
        || Retry::exponential(Duration::from_millis(2)).cap(Duration::from_millis(20)).jitter(Jitter::Full);
    // An order that the bank was down for at first may find it busy later, so that these attempts are as many: they
    // are counted together, and a `RetryAfter` is an error of its own, whatever it was made of.
    let is_of_bank = |error: &HandlerError| error.is::<BankError>() || error.is::<RetryAfter>();
    let retry = backoff().attempts(3).when(is_of_bank, backoff().attempts(30));
    let billing = broker
        .subscription()
        .name("billing")
        .pattern("orders.#")
        .idempotent(Idempotency::by(key::header("order")))
        .retry(retry)
        // Five failures in a row: the bank is left alone, and asked again after 20 ms, 40 ms, and so on. Two good
        // answers, and all goes through again.
        .breaker(
            Breaker::consecutive(5)
                .open_for(Duration::from_millis(20)..=Duration::from_millis(500))
                .probes(2),
        )
        .subscribe(move |message| charge(&bank, message))?;
    Ok(billing)
}

/// The handler of billing. It asks the bank last: what has failed before is safe to be tried again.
fn charge(bank: &Bank, message: &Message<'_, Payload>) -> Result<(), HandlerError> {
    let order = message.headers().get_str("order").ok_or_else(|| Permanent::new("no order number"))?;
    let text = message.as_str().ok_or_else(|| Permanent::new("an order is text"))?;
    let [cents, instalments] = numbers(text).ok_or_else(|| Permanent::new("not an order"))?;
    let rate = cents / instalments; // panics where there are none

    match bank.charge(order, rate) {
        Ok(()) => Ok(()),
        Err(busy @ BankError::Busy(time)) => Err(RetryAfter::new(time, busy).into()),
        Err(unknown @ BankError::UnknownCard) => Err(Permanent::new(unknown).into()),
        Err(down @ BankError::Down) => Err(down.into()),
    }
}

/// Reads `1200 cents in 2 instalments`.
fn numbers(text: &str) -> Option<[u64; 2]> {
    let (cents, instalments) = text.strip_suffix(" instalments")?.split_once(" cents in ")?;
    Some([cents.parse().ok()?, instalments.parse().ok()?])
}

/// What is in the order of that number.
fn order_text(order: &str) -> String {
    format!("1200 cents in {} instalments", if order == POISONED { 0 } else { 2 })
}

/// Looks at what became a dead letter, and sees to it that all orders are charged. Returns how many messages it has
/// published for that.
fn mend_dead_letters(broker: &Broker, bank: &Bank) -> Outcome<u64> {
    println!("Evening: what became a dead letter?");
    let dead = broker.dead_letters().ok_or("this broker keeps dead letters")?;
    for group in dead.groups(&Selection::all()) {
        println!("  {} of kind {:?}: {}", group.count, group.kind, group.sample.as_deref().unwrap_or("-"));
    }
    let letters = dead.query(&Selection::all());
    let mut export = Vec::new(); // a file, or what else is `Write`
    let lines = dead_letters::write_json_lines(letters.iter().cloned(), &mut export)?;
    assert_eq!((letters.len(), lines), (UNKNOWN_CARDS.len() + 1, letters.len() as u64));
    assert_eq!(export.iter().filter(|byte| **byte == b'\n').count(), letters.len());

    // The customers have called: their letters are delivered once more, as they are. Their fingerprint tells them from
    // others.
    let unknown = letters.iter().find(|letter| letter.kind == FailureKind::Handler).ok_or("a letter")?;
    bank.books().unknown_cards.clear();
    let start = Instant::now();
    let replaying = dead
        .replay(&Selection::all().fingerprint(unknown.fingerprint()), Replay::to_subscription().rate(20))?;
    broker.drain(LIMIT)?;
    println!("  {} letters are replayed, at a limited rate: {:.1?}.", replaying.letters, start.elapsed());
    assert_eq!(replaying.letters, UNKNOWN_CARDS.len());

    let mut published = 0;
    // The poisoned order has to be another message to be handled. It keeps its header: it is the same order. Its letter
    // has to go, since a replay is not asked for its key.
    let poisoned = Selection::all().kind(FailureKind::Panic);
    for letter in dead.query(&poisoned) {
        let number = letter.message.headers.get_str("order").ok_or("the order's number")?;
        assert_eq!((number, letter.attempts.len()), (POISONED, 3));
        let corrected =
            letter.message.payload.as_str().ok_or("text")?.replace("0 instalments", "1 instalments");
        let options = PublishOptions::new().header("order", number)?;
        let _ = broker.publisher(letter.message.topic.as_str())?.publish_with(corrected, &options)?;
        published += 1;
    }
    broker.drain(LIMIT)?;
    assert_eq!(dead.purge(&poisoned), 1);
    Ok(published)
}

/// Checks the account of the bank, and that of the broker, to the message.
fn check_accounts(broker: &Broker, books: &Books, published: u64) -> Outcome<()> {
    // Each order once, says the bank.
    let orders = ALL_ORDERS;
    assert_eq!(books.charged.len() as u64, orders);
    let more_than_once: Vec<_> = books.charged.iter().filter(|(_, times)| **times > 1).collect();
    assert!(more_than_once.is_empty(), "{more_than_once:?}");

    // And so says the ledger: every message that was routed or replayed is delivered, a duplicate, or a dead letter.
    let ledger = broker.audit();
    assert!(ledger.is_balanced(), "{ledger:?}");
    let account =
        |name| ledger.subscriptions.iter().find(|account| account.name == name).ok_or("its account");
    let (unknown, busy, down) =
        (UNKNOWN_CARDS.len() as u64, books.busy.len() as u64, books.refused_while_down);
    let billed = account("billing")?;
    assert_eq!((ledger.published, billed.routed, billed.replayed), (published, published, unknown));
    assert_eq!(billed.delivered(), orders);
    assert_eq!(billed.count(Term::DeadLettered), unknown + 1);
    assert_eq!(billed.count(Term::Duplicate), published - orders - 1, "all but the order that was poisoned");
    assert_eq!(billed.accounted(), published + unknown);
    assert_eq!(billed.failures_of(FailureKind::Panic), 3);
    assert_eq!(billed.failures_of(FailureKind::Handler), unknown + busy + down);
    assert_eq!(billed.retries, busy + down + 2, "what is permanent, and the last panic, are not tried again");

    let dead = broker.dead_letters().ok_or("this broker keeps dead letters")?;
    let counts = dead.counts();
    assert!(counts.is_balanced(), "{counts:?}");
    assert_eq!((counts.taken, counts.replayed, counts.purged, counts.held), (unknown + 1, unknown, 1, 0));

    // The journal has every message once, in its publisher's order, and nothing of it has failed.
    let journaled = account("journal")?;
    assert_eq!((journaled.routed, journaled.delivered()), (published, published));
    assert_eq!((journaled.replayed, journaled.failures(), journaled.retries), (0, 0, 0));
    Ok(())
}

/// Has each shop publish orders, on a thread of its own, and every tenth of them twice. Returns how many messages there
/// were.
fn open_shops(broker: &Broker, orders: std::ops::Range<u32>) -> Outcome<u64> {
    let shops = SHOPS.map(|shop| {
        let (broker, orders) = (broker.clone(), orders.clone());
        thread::spawn(move || -> Outcome<u64> {
            let mut publisher = broker.publisher(&format!("orders.{shop}"))?;
            let mut published = 0;
            for number in orders {
                let order = format!("{shop}-{number}");
                let options = PublishOptions::new().header("order", &order)?;
                for _ in 0..if number % 10 == 0 { 2 } else { 1 } {
                    let _ = publisher.publish_with(order_text(&order), &options)?;
                    published += 1;
                }
            }
            Ok(published)
        })
    });
    let mut published = 0;
    for shop in shops {
        published += shop.join().map_err(|_| "a shop has panicked")??;
    }
    Ok(published)
}

/// Checks that each publisher's messages came in its order, and none is missing.
fn check_journal(entries: impl Iterator<Item = (String, u64, String)>, published: u64) {
    let mut last = BTreeMap::new();
    let mut count = 0;
    let mut previous_numbers: BTreeMap<String, u32> = BTreeMap::new();
    for (topic, sequence, order) in entries {
        count += 1;
        let number: u32 = order.split_once('-').and_then(|(_, number)| number.parse().ok()).unwrap_or(0);
        // A publisher's sequence begins with 0: what came later in the day was another publisher's.
        if sequence > 0 {
            assert_eq!(last.get(&topic), Some(&(sequence - 1)), "{topic}");
            assert!(previous_numbers.get(&topic).is_some_and(|before| *before <= number), "{topic}");
        }
        last.insert(topic.clone(), sequence);
        previous_numbers.insert(topic, number);
    }
    assert_eq!(count, published);
}

/// A bank with the usual moods, and its own books.
#[derive(Default)]
struct Bank(Mutex<Books>);

#[derive(Default)]
struct Books {
    /// How often each order was charged.
    charged: BTreeMap<String, u32>,
    /// The orders that it was too busy for at first.
    busy: BTreeSet<String>,
    unknown_cards: BTreeSet<&'static str>,
    is_down: bool,
    refused_while_down: u64,
}

#[derive(Debug)]
enum BankError {
    Busy(Duration),
    UnknownCard,
    Down,
}

impl Bank {
    fn books(&self) -> MutexGuard<'_, Books> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn charge(&self, order: &str, _cents: u64) -> Result<(), BankError> {
        let mut books = self.books();
        if books.is_down {
            books.refused_while_down += 1;
            return Err(BankError::Down);
        }
        if books.unknown_cards.contains(order) {
            return Err(BankError::UnknownCard);
        }
        if order.ends_with('5') && books.busy.insert(order.to_owned()) {
            return Err(BankError::Busy(Duration::from_millis(5)));
        }
        *books.charged.entry(order.to_owned()).or_default() += 1;
        Ok(())
    }
}

impl std::fmt::Display for BankError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Busy(time) => write!(f, "the bank is busy: come back in {time:?}"),
            Self::UnknownCard => f.write_str("the bank does not know the card"),
            Self::Down => f.write_str("the bank does not answer"),
        }
    }
}

impl std::error::Error for BankError {}

/// The engine catches a handler's panic; what the standard library prints of it is in this story's way.
fn hide_the_expected_panic() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !info.payload_as_str().is_some_and(|text| text.contains("divide by zero")) {
            default(info);
        }
    }));
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) -> Result<(), String> {
    let start = Instant::now();
    while !is_so() {
        if start.elapsed() > LIMIT {
            return Err(format!("waited in vain until {what}"));
        }
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}
