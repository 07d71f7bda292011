//! Sequences: values are handed out from memory, in blocks that the log knows of.
//!
//! Before the first value of a block is handed out, the end of the block is in the log and synced: a crash may skip
//! values and never repeats one. An orderly end logs how far each sequence really is.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::catalog::{Object, ObjectBody, ObjectId, SequenceSpec, SequenceValue};
use crate::coord::Shared;
use crate::coord::command::Command;
use crate::error::{Error, ErrorKind, Result};
use crate::sql::bind::SequenceSource;
use crate::types::PgType;

/// Values of the first block of a sequence; later ones grow with use.
const FIRST_BLOCK: i64 = 32;
/// Values of a block at most.
const GREATEST_BLOCK: i64 = 1 << 16;

/// A sequence in use.
struct State {
    value: SequenceValue,
    /// The last value that the log knows of, as far as the sequence has come there.
    reserved: Option<i64>,
    block: i64,
}

/// The sequences in use.
#[derive(Default)]
pub struct Sequences {
    states: Mutex<BTreeMap<ObjectId, Arc<Mutex<State>>>>,
    /// The server is ending: what is logged now is final.
    closed: Mutex<bool>,
}

impl Sequences {
    fn state(&self, id: ObjectId, value: impl FnOnce() -> SequenceValue) -> Arc<Mutex<State>> {
        self.states
            .lock()
            .entry(id)
            .or_insert_with(|| {
                let value = value();
                let reserved = value.called.then_some(value.last);
                Arc::new(Mutex::new(State { value, reserved, block: FIRST_BLOCK }))
            })
            .clone()
    }

    /// How far a sequence in use has come.
    pub fn value(&self, id: ObjectId) -> Option<SequenceValue> {
        let state = self.states.lock().get(&id).cloned()?;
        let value = state.lock().value;
        Some(value)
    }

    /// A durable definition says where the sequence stands.
    pub fn set(&self, id: ObjectId, value: SequenceValue) {
        let state = self.state(id, || value);
        let mut state = state.lock();
        state.value = value;
        state.reserved = value.called.then_some(value.last);
    }

    /// The sequence has been dropped.
    pub fn forget(&self, id: ObjectId) {
        self.states.lock().remove(&id);
    }

    /// Ends all sequences; answers how far they have come.
    pub fn close(&self) -> Vec<(ObjectId, SequenceValue)> {
        *self.closed.lock() = true;
        self.states.lock().iter().map(|(id, s)| (*id, s.lock().value)).collect()
    }
}

/// Where a sequence starts.
pub fn first(spec: &SequenceSpec) -> SequenceValue {
    SequenceValue { last: spec.start, called: false }
}

/// The value after `value`.
fn following(name: &str, spec: &SequenceSpec, value: SequenceValue) -> Result<i64> {
    if !value.called {
        return Ok(value.last);
    }
    let next = value.last.checked_add(spec.increment).filter(|n| (spec.min..=spec.max).contains(n));
    match next {
        Some(next) => Ok(next),
        None if spec.cycle => Ok(if spec.increment > 0 { spec.min } else { spec.max }),
        None => {
            let (what, bound) =
                if spec.increment > 0 { ("maximum", spec.max) } else { ("minimum", spec.min) };
            Err(Error::new(
                ErrorKind::SequenceLimit,
                format!("nextval: reached {what} value of sequence \"{name}\" ({bound})"),
            ))
        }
    }
}

/// The sequences as one session sees them.
pub struct SessionSequences {
    shared: Arc<Shared>,
    /// What this session was given last: of any sequence, and of each.
    given: Mutex<(Option<ObjectId>, BTreeMap<ObjectId, i64>)>,
}

impl SessionSequences {
    /// Those of a session that has been given nothing yet.
    pub fn new(shared: Arc<Shared>) -> Self {
        SessionSequences { shared, given: Mutex::default() }
    }

    /// DISCARD SEQUENCES.
    pub fn discard(&self) {
        *self.given.lock() = (None, BTreeMap::new());
    }

    fn state(&self, object: &Object, spec: &SequenceSpec) -> Result<Arc<Mutex<State>>> {
        if *self.shared.sequences.closed.lock() {
            return Err(Error::new(ErrorKind::AdminShutdown, "the server is shutting down"));
        }
        let known = self.shared.world().catalog.sequence(object.id);
        Ok(self.shared.sequences.state(object.id, || known.unwrap_or_else(|| first(spec))))
    }

    /// Whether nobody else knows the sequence yet: its values are logged when its transaction commits.
    fn is_own(&self, id: ObjectId) -> bool {
        self.shared.world().catalog.get(id).is_none()
    }

    fn log(&self, id: ObjectId, value: SequenceValue) -> Result<()> {
        let (reply, answer) = oneshot::channel();
        self.shared.send(Command::Sequence { id, value, reply })?;
        // The coordinator has a thread of its own, so waiting here is short and cannot deadlock.
        futures::executor::block_on(answer)
            .map_err(|_| Error::new(ErrorKind::AdminShutdown, "the server is shutting down"))?
            .map(drop)
    }
}

fn spec_of(object: &Object) -> Result<&SequenceSpec> {
    match &object.body {
        ObjectBody::Sequence(spec) => Ok(spec),
        _ => Err(Error::new(ErrorKind::WrongObjectType, format!("\"{}\" is not a sequence", object.name))),
    }
}

impl SequenceSource for SessionSequences {
    fn next(&self, object: &Object, count: usize) -> Result<Vec<i64>> {
        let spec = spec_of(object)?;
        let state = self.state(object, spec)?;
        let mut state = state.lock();
        let own = self.is_own(object.id);
        let mut values = Vec::with_capacity(count);
        for done in 0..count {
            let next = following(&object.name, spec, state.value)?;
            let within = state.reserved.is_some_and(|end| {
                // A cycle begins a new block.
                if spec.increment > 0 {
                    next <= end && (!state.value.called || next > state.value.last)
                } else {
                    next >= end && (!state.value.called || next < state.value.last)
                }
            });
            if !within && !own {
                let more = i64::try_from(count - done).unwrap_or(i64::MAX).max(state.block);
                let steps = spec.increment.saturating_mul(more - 1);
                let end = next.saturating_add(steps).clamp(spec.min, spec.max);
                self.log(object.id, SequenceValue { last: end, called: true })?;
                state.reserved = Some(end);
                state.block = (state.block * 2).min(GREATEST_BLOCK);
            }
            state.value = SequenceValue { last: next, called: true };
            values.push(next);
        }
        if let Some(last) = values.last() {
            let mut given = self.given.lock();
            given.0 = Some(object.id);
            given.1.insert(object.id, *last);
        }
        Ok(values)
    }

    fn current(&self, object: &Object) -> Result<i64> {
        spec_of(object)?;
        self.given.lock().1.get(&object.id).copied().ok_or_else(|| {
            Error::new(
                ErrorKind::ObjectNotInState,
                format!("currval of sequence \"{}\" is not yet defined in this session", object.name),
            )
        })
    }

    fn last(&self) -> Result<i64> {
        let given = self.given.lock();
        given.0.and_then(|id| given.1.get(&id).copied()).ok_or_else(|| {
            Error::new(ErrorKind::ObjectNotInState, "lastval is not yet defined in this session")
        })
    }

    fn set(&self, object: &Object, last: i64, called: bool) -> Result<()> {
        let spec = spec_of(object)?;
        if !(spec.min..=spec.max).contains(&last) {
            return Err(Error::new(
                ErrorKind::NumericOutOfRange,
                format!(
                    "setval: value {last} is out of bounds for sequence \"{}\" ({}..{})",
                    object.name, spec.min, spec.max
                ),
            ));
        }
        let state = self.state(object, spec)?;
        let mut state = state.lock();
        let value = SequenceValue { last, called };
        if !self.is_own(object.id) {
            self.log(object.id, value)?;
        }
        state.value = value;
        state.reserved = called.then_some(last);
        if called {
            self.given.lock().1.insert(object.id, last);
        }
        Ok(())
    }
}

/// The least and greatest value of a sequence's type.
pub fn bounds(type_oid: u32) -> Option<(i64, i64)> {
    Some(match PgType::of(type_oid) {
        PgType::INT2 => (i16::MIN.into(), i16::MAX.into()),
        PgType::INT4 => (i32::MIN.into(), i32::MAX.into()),
        PgType::INT8 => (i64::MIN, i64::MAX),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(increment: i64, min: i64, max: i64, cycle: bool) -> SequenceSpec {
        let start = if increment > 0 { min } else { max };
        SequenceSpec {
            type_oid: PgType::INT8.oid,
            start,
            increment,
            min,
            max,
            cache: 1,
            cycle,
            owned_by: None,
        }
    }

    #[test]
    fn a_sequence_ends_or_begins_anew() {
        let up = spec(2, 1, 4, false);
        let one = following("s", &up, first(&up)).unwrap();
        let three = following("s", &up, SequenceValue { last: one, called: true }).unwrap();
        assert_eq!((one, three), (1, 3));
        assert!(following("s", &up, SequenceValue { last: three, called: true }).is_err());
        let down = spec(-1, 1, 2, true);
        assert_eq!(following("s", &down, SequenceValue { last: 1, called: true }).unwrap(), 2);
    }
}
