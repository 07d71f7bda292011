//! The published epoch, and the readers that hold older ones.
//!
//! Boundary: epochs only. Whoever compacts relations asks [`Epochs::oldest_pinned`] how far back readers look.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::error::{Error, ErrorKind, Result};
use crate::time::Epoch;

/// The epochs that can be read: from the oldest kept one to the published one.
#[derive(Debug)]
pub struct Epochs {
    published: watch::Sender<Epoch>,
    pins: Mutex<Pins>,
    /// How far behind the published epoch `AS OF` reaches, in µs.
    retention: u64,
}

#[derive(Debug, Default)]
struct Pins {
    /// Readers per epoch.
    held: BTreeMap<Epoch, usize>,
    /// What has been given out as the oldest epoch: older ones may be gone.
    floor: Epoch,
}

impl Epochs {
    /// Begins with `published`; epochs up to `retention` µs behind the published one can still be pinned.
    pub fn new(published: Epoch, retention: u64) -> Arc<Epochs> {
        let pins = Pins { held: BTreeMap::new(), floor: published };
        Arc::new(Epochs { published: watch::Sender::new(published), pins: Mutex::new(pins), retention })
    }

    /// The newest closed epoch.
    pub fn published(&self) -> Epoch {
        *self.published.borrow()
    }

    /// Makes an epoch visible: everything of it has been applied. Earlier ones than the published are ignored.
    pub fn publish(&self, epoch: Epoch) {
        self.published.send_if_modified(|published| {
            let newer = epoch > *published;
            *published = epoch.max(*published);
            newer
        });
    }

    /// Holds the published epoch.
    pub fn pin(self: &Arc<Self>) -> EpochPin {
        let mut pins = self.pins.lock();
        let epoch = self.published();
        *pins.held.entry(epoch).or_default() += 1;
        EpochPin { epochs: self.clone(), epoch }
    }

    /// Holds an earlier epoch: fails when it is not published yet or no longer kept.
    pub fn pin_at(self: &Arc<Self>, epoch: Epoch) -> Result<EpochPin> {
        let mut pins = self.pins.lock();
        let published = self.published();
        if epoch > published {
            return Err(Error::new(ErrorKind::InvalidParameter, format!("epoch {epoch} is not closed yet"))
                .with_detail(format!("The newest closed epoch is {published}.")));
        }
        if epoch < pins.floor {
            return Err(Error::new(ErrorKind::ObjectNotInState, format!("epoch {epoch} is no longer kept"))
                .with_detail(format!("The oldest epoch that can be read is {}.", pins.floor)));
        }
        *pins.held.entry(epoch).or_default() += 1;
        Ok(EpochPin { epochs: self.clone(), epoch })
    }

    /// The oldest epoch that a reader holds or may still ask for. Never goes back.
    pub fn oldest_pinned(&self) -> Epoch {
        let mut pins = self.pins.lock();
        let kept = Epoch(self.published().0.saturating_sub(self.retention));
        let oldest = pins.held.keys().next().map_or(kept, |held| kept.min(*held));
        pins.floor = pins.floor.max(oldest);
        pins.floor
    }

    /// Waits until `epoch` is published.
    pub async fn wait_published(&self, epoch: Epoch) {
        let mut receiver = self.published.subscribe();
        // The sender lives in `self`, so the channel cannot close while this waits.
        let _ = receiver.wait_for(|published| *published >= epoch).await;
    }

    /// A receiver that sees every publication (the latest one, if it is slow).
    pub fn subscribe(&self) -> watch::Receiver<Epoch> {
        self.published.subscribe()
    }
}

/// Keeps the rows of an epoch readable while it lives.
#[derive(Debug)]
pub struct EpochPin {
    epochs: Arc<Epochs>,
    epoch: Epoch,
}

impl EpochPin {
    /// The epoch that is held.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }
}

impl Clone for EpochPin {
    fn clone(&self) -> Self {
        *self.epochs.pins.lock().held.entry(self.epoch).or_default() += 1;
        EpochPin { epochs: self.epochs.clone(), epoch: self.epoch }
    }
}

impl Drop for EpochPin {
    fn drop(&mut self) {
        let mut pins = self.epochs.pins.lock();
        if let Some(readers) = pins.held.get_mut(&self.epoch) {
            *readers -= 1;
            if *readers == 0 {
                pins.held.remove(&self.epoch);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_epoch_is_the_oldest_pin_and_never_goes_back() {
        let epochs = Epochs::new(Epoch(10), 0);
        let first = epochs.pin();
        epochs.publish(Epoch(20));
        epochs.publish(Epoch(15));
        assert_eq!(epochs.published(), Epoch(20));
        let again = first.clone();
        drop(first);
        assert_eq!(epochs.oldest_pinned(), Epoch(10));
        drop(again);
        assert_eq!(epochs.oldest_pinned(), Epoch(20));
        assert_eq!(epochs.pin_at(Epoch(15)).unwrap_err().kind(), ErrorKind::ObjectNotInState);
        assert_eq!(epochs.pin_at(Epoch(21)).unwrap_err().kind(), ErrorKind::InvalidParameter);
        assert_eq!(epochs.pin().epoch(), Epoch(20));
    }

    #[test]
    fn epochs_within_the_retention_can_be_pinned() {
        let epochs = Epochs::new(Epoch(10), 7);
        epochs.publish(Epoch(20));
        assert_eq!(epochs.oldest_pinned(), Epoch(13));
        assert_eq!(epochs.pin_at(Epoch(13)).unwrap().epoch(), Epoch(13));
    }

    #[tokio::test]
    async fn waiting_ends_when_the_epoch_is_published() {
        let epochs = Epochs::new(Epoch(1), 0);
        let waiting = tokio::spawn({
            let epochs = epochs.clone();
            async move { epochs.wait_published(Epoch(3)).await }
        });
        epochs.publish(Epoch(2));
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        epochs.publish(Epoch(3));
        waiting.await.unwrap();
        epochs.wait_published(Epoch(2)).await;
    }
}
