//! Who sleeps at a spot, and whom a piece of news calls. A list that knows no thread: its users hold
//! it under a lock.
//!
//! A sleeper has a bell of its own, so that whoever is called is woken and nobody else. It is
//! *asleep* until it is *called*. Those who are called are *due* until somebody rings their bells.
//! The caller rings for one of them, and whoever gets up for [`AT_ONCE`] more before it does anything
//! else. So who publishes to many sleepers pays for one, and the work of waking them is spread over
//! all cores. What is due is in one heap from which everybody takes, the next publisher too: a thread
//! that was rung for and does not get its core holds up nobody while another one gets its.
//!
//! Members of a *crew* share work: of what is new any one of them can take care. News calls one of
//! them and marks it as *under way*. It looks for work after that mark was taken away, so more news
//! meanwhile calls nobody. In return it makes sure, before it begins, that what it does not take
//! finds others: see [`Sleepers::call_more`]. That one is the last that went to sleep, whose caches
//! are warmest.

use crate::sync::{Condvar, edge, unique_number};
use std::sync::Arc;

/// How many sleepers a thread that gets up rings for. A model has no threads for more.
pub(super) const AT_ONCE: usize = if cfg!(ringmain_loom) { 1 } else { 2 };

/// What has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// Something that everybody is to look at: mail, a switch of the strategy, the end.
    ForEverybody,
    /// An event was published.
    Published,
    /// A consumer has moved on. Its own crew has nothing to gain from that.
    Moved(Option<Crew>),
}

/// Threads that share their work, each of which goes on to look for work when it is woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Crew(u64);

impl Crew {
    /// A crew like no other in this process.
    pub(crate) fn new() -> Self {
        Self(unique_number())
    }
}

/// What a sleeper is to be called for, beside news for everybody.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sleeper {
    /// Whether it waits for other consumers too, and not for events alone.
    pub(crate) awaits_moves: bool,
    /// Its crew. A sleeper without one is called for each piece of news.
    pub(crate) crew: Option<Crew>,
}

impl Sleeper {
    /// A sleeper of whom nothing is known, and who is called for everything.
    pub(crate) const ANY: Self = Self { awaits_moves: true, crew: None };

    fn is_concerned(&self, news: News) -> bool {
        match news {
            News::ForEverybody | News::Published => true,
            News::Moved(by) => self.awaits_moves && (self.crew.is_none() || self.crew != by),
        }
    }
}

/// What a sleeper is woken by.
pub(super) type Bell = Arc<Condvar>;

/// Bells to ring.
pub(super) type Due = [Option<Bell>; AT_ONCE];

/// Those who sleep at one spot.
#[derive(Debug, Default)]
pub(super) struct Sleepers {
    /// Nobody has called them. In the order in which they went to sleep.
    asleep: Vec<(Bell, Sleeper)>,
    /// They were called, and nobody has rung for them.
    due: Vec<Bell>,
    /// Members of crews that were called for work and do not know it yet.
    under_way: Vec<(Bell, Crew)>,
    /// Bells that nobody waits for.
    spare: Vec<Bell>,
}

impl Sleepers {
    /// Lists a sleeper. Returns its bell.
    pub(super) fn lie_down(&mut self, sleeper: Sleeper) -> Bell {
        let bell = self.spare.pop().unwrap_or_else(|| Arc::new(Condvar::new()));
        self.asleep.push((bell.clone(), sleeper));
        bell
    }

    /// Returns whether nobody has called this sleeper.
    pub(super) fn is_asleep(&self, bell: &Bell) -> bool {
        self.asleep.iter().any(|(other, _)| Arc::ptr_eq(other, bell))
    }

    /// Takes a sleeper off all lists, called or not, by itself or by its bell. The caller rings for
    /// those who are [due](Self::take_due).
    pub(super) fn get_up(&mut self, bell: &Bell) {
        self.asleep.retain(|(other, _)| !Arc::ptr_eq(other, bell));
        self.due.retain(|other| !Arc::ptr_eq(other, bell));
        if !edge::left_out("up-and-under-way") {
            self.under_way.retain(|(other, _)| !Arc::ptr_eq(other, bell));
        }
        self.spare.push(bell.clone());
    }

    /// Calls all whom it concerns, and of each crew one at most.
    pub(super) fn call(&mut self, news: News) {
        for at in (0..self.asleep.len()).rev() {
            let sleeper = self.asleep[at].1;
            match sleeper.crew {
                _ if !sleeper.is_concerned(news) => {}
                Some(crew) if news != News::ForEverybody => {
                    if self.under_way(crew) == 0 {
                        self.send(at, crew);
                    }
                }
                _ => {
                    let (bell, _) = self.asleep.remove(at);
                    self.due.push(bell);
                }
            }
        }
    }

    /// Calls members of a crew for what is there beyond what the calling member takes, and those
    /// who are under way: `is_there` is asked whether there is something beside the work of so many.
    pub(super) fn call_more(&mut self, crew: Crew, is_there: impl Fn(u64) -> bool) {
        for _ in 0..AT_ONCE {
            let Some(at) = self.asleep.iter().rposition(|(_, sleeper)| sleeper.crew == Some(crew)) else {
                return;
            };
            if !is_there(1 + self.under_way(crew)) {
                return;
            }
            self.send(at, crew);
        }
    }

    fn under_way(&self, crew: Crew) -> u64 {
        self.under_way.iter().filter(|(_, other)| *other == crew).count() as u64
    }

    fn send(&mut self, at: usize, crew: Crew) {
        let (bell, _) = self.asleep.remove(at);
        self.under_way.push((bell.clone(), crew));
        self.due.push(bell);
    }

    /// Takes the next bells to ring, so many at most.
    pub(super) fn take_due(&mut self, most: usize) -> Due {
        std::array::from_fn(|place| if place < most { self.due.pop() } else { None })
    }

    /// Returns whether anybody sleeps who is still to be called or rung for.
    pub(super) fn has_any(&self) -> bool {
        !self.asleep.is_empty() || !self.due.is_empty()
    }

    /// Returns whether anybody whom nobody has called waits for other consumers.
    pub(super) fn await_moves(&self) -> bool {
        self.asleep.iter().any(|(_, sleeper)| sleeper.awaits_moves)
    }

    /// Returns how many sleep whom nobody has called.
    #[cfg(all(test, not(ringmain_loom)))]
    pub(super) fn count(&self) -> usize {
        self.asleep.len()
    }
}

#[cfg(all(test, not(ringmain_loom)))]
mod tests {
    use super::*;

    const FIRST_STAGE: Sleeper = Sleeper { awaits_moves: false, crew: None };

    fn member(crew: Crew) -> Sleeper {
        Sleeper { awaits_moves: false, crew: Some(crew) }
    }

    /// Everybody who is rung for gets up, and rings for others. Returns how many there were.
    fn ring_all(sleepers: &mut Sleepers) -> usize {
        let mut due: Vec<Bell> = sleepers.take_due(1).into_iter().flatten().collect();
        let mut woken = 0;
        while let Some(bell) = due.pop() {
            woken += 1;
            sleepers.get_up(&bell);
            due.extend(sleepers.take_due(AT_ONCE).into_iter().flatten());
        }
        woken
    }

    #[test]
    fn a_publication_calls_all_who_are_alone() {
        for count in [1, 2, 3, 64] {
            let mut sleepers = Sleepers::default();
            let bells: Vec<Bell> = (0..count).map(|_| sleepers.lie_down(FIRST_STAGE)).collect();
            sleepers.call(News::Published);
            assert!(sleepers.has_any(), "they are to be rung for");
            assert!(!bells.iter().any(|bell| sleepers.is_asleep(bell)));
            assert_eq!(ring_all(&mut sleepers), count);
            assert!(!sleepers.has_any());
        }
    }

    #[test]
    fn who_moves_calls_those_who_wait_for_it() {
        let mut sleepers = Sleepers::default();
        let first = sleepers.lie_down(FIRST_STAGE);
        sleepers.lie_down(Sleeper::ANY);
        assert!(sleepers.await_moves());
        sleepers.call(News::Moved(None));
        assert!(!sleepers.await_moves());
        assert!(sleepers.is_asleep(&first));
        assert_eq!(ring_all(&mut sleepers), 1);
    }

    #[test]
    fn a_member_that_moves_does_not_call_its_own_crew() {
        let (own, other) = (Crew::new(), Crew::new());
        for (by, called) in [(Some(own), 0), (Some(other), 1), (None, 1)] {
            let mut sleepers = Sleepers::default();
            sleepers.lie_down(Sleeper { awaits_moves: true, crew: Some(own) });
            sleepers.call(News::Moved(by));
            assert_eq!(ring_all(&mut sleepers), called);
        }
    }

    #[test]
    fn of_each_crew_one_is_called_until_it_is_up() {
        let crews = [Crew::new(), Crew::new()];
        let mut sleepers = Sleepers::default();
        for member in crews.iter().flat_map(|&crew| [member(crew); 3]) {
            sleepers.lie_down(member);
        }
        for _ in 0..2 {
            sleepers.call(News::Published);
            assert_eq!(sleepers.count(), 4, "one of each crew is under way");
        }
        assert_eq!(ring_all(&mut sleepers), 2);
        sleepers.call(News::Published);
        assert_eq!(ring_all(&mut sleepers), 2);
        sleepers.call(News::ForEverybody);
        assert_eq!(ring_all(&mut sleepers), 2);
    }

    #[test]
    fn who_gets_up_by_itself_is_not_under_way_any_more() {
        let crew = Crew::new();
        let mut sleepers = Sleepers::default();
        let bells = [(); 2].map(|()| sleepers.lie_down(member(crew)));
        sleepers.call(News::Published);
        let called = bells.iter().find(|bell| !sleepers.is_asleep(bell)).expect("one was called");
        sleepers.get_up(called);
        assert!(sleepers.take_due(AT_ONCE).iter().all(Option::is_none), "nobody is to be rung for");
        sleepers.call(News::Published);
        assert_eq!(ring_all(&mut sleepers), 1);
    }

    #[test]
    fn as_many_are_called_for_more_as_there_is_work_beside_that_of_others() {
        let crew = Crew::new();
        for work in 0..5_u64 {
            let mut sleepers = Sleepers::default();
            (0..8).for_each(|_| drop(sleepers.lie_down(member(crew))));
            let mut called = 0;
            // One who is awake takes one, and so does each of the others, when all are awake.
            for _ in 0..8 {
                sleepers.call_more(crew, |ahead| ahead < work);
                called = 8 - sleepers.count() as u64;
            }
            assert_eq!(called, work.saturating_sub(1));
        }
    }
}
