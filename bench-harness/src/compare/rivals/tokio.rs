//! tokio's broadcast channel, without a runtime. It never waits for slow receivers but overwrites
//! what they have not read; so that nothing is lost here, its sender asks how many events are still
//! to be read before it sends as many as are free.

use tokio::sync::broadcast::{self, error::TryRecvError};

use super::super::channel::{Receiver, Sender, Setup};
use super::super::drive::{Outcome, Task, drive, receiving, sending};
use super::super::event::Handle;
use crate::error::Error;

const W: usize = 8;

struct Sending {
    sender: broadcast::Sender<[u64; W]>,
    capacity: usize,
    room: usize,
}

impl Sender<W> for Sending {
    #[inline(always)]
    fn try_send(&mut self, event: [u64; W]) -> bool {
        if self.room == 0 {
            self.room = self.capacity.saturating_sub(self.sender.len());
        }
        let sent = self.room > 0 && self.sender.send(event).is_ok();
        self.room -= usize::from(sent);
        sent
    }
}

impl Receiver<W> for broadcast::Receiver<[u64; W]> {
    #[inline(always)]
    fn poll(&mut self, most: usize, handler: &mut impl Handle<W>) -> usize {
        let mut count = 0;
        while count < most {
            match self.try_recv() {
                Ok(event) => handler.handle(&event),
                // What was overwritten is missing in the count, and found there.
                Err(TryRecvError::Lagged(_)) => continue,
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
            count += 1;
        }
        count
    }

    fn lag(&self) -> Option<u64> {
        Some(self.len() as u64)
    }
}

/// A section in which every receiver gets every event.
pub(in crate::compare) fn broadcast(setup: &Setup, task: &Task) -> Result<Outcome, Error> {
    let (sender, first) = broadcast::channel(setup.capacity);
    let others = (1..setup.shape.receivers()).map(|_| sender.subscribe()).collect::<Vec<_>>();
    let receivers = std::iter::once(first).chain(others).map(receiving).collect();
    let sender = Sending { sender, capacity: setup.capacity, room: 0 };
    drive(setup, task, vec![sending(sender)], receivers)
}
