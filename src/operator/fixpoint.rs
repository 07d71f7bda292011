//! WITH RECURSIVE kept up to date: the rows that a start and a linear step derive, with inserts and deletes exact.
//!
//! The step is a small graph of stateless operators and joins that takes rows of the recursion with the iteration
//! they belong to and gives what is derived of them, one iteration later. For every row the operator keeps how often
//! it is derived in each iteration. With UNION a row has its *place* in the first iteration that derives it, and only
//! from there derives others: so support is well-founded, and rows that derive each other in a circle go when nothing
//! else derives them. Changes are worked off iteration by iteration: a row that loses its place is looked at again in
//! the next iteration that derives it, not before. With UNION ALL every derivation counts.
//!
//! Rows beyond the last iteration derive nothing and are reported as errors while they are there.
//!
//! Boundary: one worker has all of it; the inputs of the step that do not recurse are maintained outside.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{Int64Type, SchemaRef};

use crate::error::{Error, ErrorKind, Result};
use crate::expr::eval_error;
use crate::operator::rows::{RowCodec, RowIndex};
use crate::operator::{Operator, Output, Progress, TimeFacts};
use crate::zset::builder::compact_weights;
use crate::zset::{TARGET_ROWS, ZBatch};

/// Iterations of a recursion with UNION.
pub const LAST_ITERATION: u32 = 100_000;
/// Iterations of a recursion with UNION ALL, which never finds an end by itself where rows repeat.
pub const LAST_ITERATION_ALL: u32 = 10_000;

/// What a node of the step does.
pub enum StepKind {
    /// Passes rows on under its own names.
    Pass,
    /// Passes rows on with the opposite weight.
    Negate,
    /// Anything that computes without waiting for the end of an epoch.
    Operator(Box<dyn Operator>),
}

/// A node of the step.
pub struct StepNode {
    /// What it does.
    pub kind: StepKind,
    /// Columns of its output.
    pub schema: SchemaRef,
    /// (node, port) of its users; nodes are numbered after the ports, the result is `usize::MAX`.
    pub consumers: Vec<(usize, usize)>,
}

/// The operator. See the module documentation.
pub struct Fixpoint {
    /// Columns of the result; rows of the step have the iteration after them.
    schema: SchemaRef,
    /// Columns of the rows that the step takes.
    work_schema: SchemaRef,
    all: bool,
    last: u32,
    /// The ports of the step: 0 is the recursion itself.
    ports: Vec<Vec<(usize, usize)>>,
    nodes: Vec<StepNode>,
    codec: RowCodec,
    index: RowIndex,
    /// By slot: (iteration, derivations), ascending.
    counts: Vec<Vec<(u32, i64)>>,
    /// By slot: the iteration a row has its place in.
    places: Vec<Option<u32>>,
    /// By slot, rows changed in this epoch: how often they were shown before it.
    before: Vec<Option<i64>>,
    changed: Vec<u32>,
    /// By iteration: changes of counts, and rows to look at (weight 0).
    pending: BTreeMap<u32, Vec<(u32, i64)>>,
    result: Vec<ZBatch>,
}

impl std::fmt::Debug for Fixpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fixpoint")
            .field("all", &self.all)
            .field("rows", &self.index.len())
            .finish_non_exhaustive()
    }
}

impl Fixpoint {
    /// A recursion with rows of `schema`. `ports[0]` are the users of its rows in the step (of `work_schema`: the
    /// same columns and the iteration, int8), the others those of the operator's inputs from 1 on.
    pub fn new(
        schema: SchemaRef,
        work_schema: SchemaRef,
        all: bool,
        ports: Vec<Vec<(usize, usize)>>,
        nodes: Vec<StepNode>,
    ) -> Result<Fixpoint> {
        Ok(Fixpoint {
            codec: RowCodec::new(&schema)?,
            schema,
            work_schema,
            all,
            last: if all { LAST_ITERATION_ALL } else { LAST_ITERATION },
            ports,
            nodes,
            index: RowIndex::new(),
            counts: vec![],
            places: vec![],
            before: vec![],
            changed: vec![],
            pending: BTreeMap::new(),
            result: vec![],
        })
    }

    /// Sends a batch through the step and notes what is derived.
    fn derive(&mut self, port: usize, batch: ZBatch, out: &mut Output) -> Result<()> {
        enum Work {
            Push(usize, usize, ZBatch),
            Resume(usize),
        }
        let base = self.ports.len();
        let mut work: Vec<Work> =
            self.ports[port].iter().map(|(n, p)| Work::Push(*n, *p, batch.clone())).collect();
        let mut scratch = Output::default();
        while let Some(next) = work.pop() {
            let (n, progress) = match next {
                Work::Push(usize::MAX, _, batch) => {
                    self.result.push(batch);
                    continue;
                }
                Work::Push(n, p, batch) => match &mut self.nodes[n - base].kind {
                    StepKind::Pass => {
                        let schema = &self.nodes[n - base].schema;
                        let rows = RecordBatch::try_new(schema.clone(), batch.columns().to_vec())?;
                        scratch.push(batch.with_rows(rows)?);
                        (n, Progress::Done)
                    }
                    StepKind::Negate => {
                        scratch.push(batch.negate());
                        (n, Progress::Done)
                    }
                    StepKind::Operator(op) => (n, op.absorb(p, batch, &mut scratch)?),
                },
                Work::Resume(n) => match &mut self.nodes[n - base].kind {
                    StepKind::Operator(op) => (n, op.resume(&mut scratch)?),
                    _ => (n, Progress::Done),
                },
            };
            if progress == Progress::More {
                work.push(Work::Resume(n));
            }
            out.errors.append(&mut scratch.errors);
            for batch in scratch.rows.drain(..) {
                for (to, p) in &self.nodes[n - base].consumers {
                    work.push(Work::Push(*to, *p, batch.clone()));
                }
            }
        }
        for batch in std::mem::take(&mut self.result) {
            let width = self.schema.fields().len();
            let iterations = batch.column(width).as_primitive::<Int64Type>().clone();
            self.note(&batch, |row| u32::try_from(iterations.value(row)).unwrap_or(u32::MAX))?;
        }
        Ok(())
    }

    /// Enters changes of derivations.
    fn note(&mut self, batch: &ZBatch, iteration: impl Fn(usize) -> u32) -> Result<()> {
        self.codec.encode(&batch.columns()[..self.schema.fields().len()])?;
        for row in 0..batch.num_rows() {
            let (slot, _) = self.index.find_or_insert(self.codec.row(row));
            let s = slot as usize;
            if s >= self.counts.len() {
                self.counts.resize(s + 1, vec![]);
                self.places.resize(s + 1, None);
                self.before.resize(s + 1, None);
            }
            if self.before[s].is_none() {
                self.before[s] = Some(self.shown(slot));
                self.changed.push(slot);
            }
            self.pending.entry(iteration(row)).or_default().push((slot, batch.weight(row)));
        }
        Ok(())
    }

    /// How often a row is in the result.
    fn shown(&self, slot: u32) -> i64 {
        let s = slot as usize;
        if self.all {
            self.counts[s].iter().map(|(_, n)| n).sum()
        } else {
            i64::from(self.places[s].is_some())
        }
    }

    fn add(&mut self, slot: u32, iteration: u32, weight: i64) -> Result<()> {
        if weight == 0 {
            return Ok(());
        }
        let counts = &mut self.counts[slot as usize];
        match counts.binary_search_by_key(&iteration, |(k, _)| *k) {
            Ok(i) => {
                counts[i].1 = counts[i].1.checked_add(weight).ok_or_else(|| {
                    Error::new(ErrorKind::ProgramLimit, "a recursive query derives a row too often")
                })?;
                if counts[i].1 == 0 {
                    counts.remove(i);
                }
            }
            Err(i) => counts.insert(i, (iteration, weight)),
        }
        Ok(())
    }

    /// Works off the changes of one iteration; gives the changes of the rows that derive others.
    fn settle(&mut self, k: u32, changes: Vec<(u32, i64)>) -> Result<Vec<(u32, u32, i64)>> {
        let mut moves = Vec::new();
        if self.all {
            for (slot, weight) in changes {
                self.add(slot, k, weight)?;
                if weight != 0 {
                    moves.push((slot, k, weight));
                }
            }
            return Ok(moves);
        }
        for (slot, weight) in &changes {
            self.add(*slot, k, *weight)?;
        }
        for (slot, _) in changes {
            let s = slot as usize;
            let counts = &self.counts[s];
            let derived = counts.binary_search_by_key(&k, |(i, _)| *i).is_ok_and(|i| counts[i].1 > 0);
            match self.places[s] {
                Some(place) if place < k => {}
                Some(place) if place == k => {
                    if !derived {
                        moves.push((slot, k, -1));
                        self.places[s] = None;
                        // Later derivations may be about to go too: they are looked at when it is their turn.
                        if let Some((next, _)) = self.counts[s].iter().find(|(i, n)| *i > k && *n > 0) {
                            self.pending.entry(*next).or_default().push((slot, 0));
                        }
                    }
                }
                place => {
                    if derived {
                        if let Some(place) = place {
                            moves.push((slot, place, -1));
                        }
                        moves.push((slot, k, 1));
                        self.places[s] = Some(k);
                    } else if place.is_none()
                        && let Some((next, _)) = self.counts[s].iter().find(|(i, n)| *i > k && *n > 0)
                    {
                        self.pending.entry(*next).or_default().push((slot, 0));
                    }
                }
            }
        }
        Ok(moves)
    }

    /// Rows with their iterations, as the step takes them.
    fn work_batch(&self, moves: &[(u32, u32, i64)]) -> Result<ZBatch> {
        let rows = self
            .codec
            .decode(moves.iter().map(|(slot, ..)| self.index.key(*slot)).collect::<Vec<_>>().into_iter())?;
        let mut columns: Vec<ArrayRef> = rows.columns().to_vec();
        columns.push(Arc::new(Int64Array::from_iter_values(moves.iter().map(|(_, k, _)| i64::from(*k)))));
        let rows = RecordBatch::try_new(self.work_schema.clone(), columns)?;
        ZBatch::try_new(rows, compact_weights(moves.iter().map(|(.., w)| *w).collect()))
    }

    fn report(&self, moves: &[(u32, u32, i64)], out: &mut Output) -> Result<()> {
        for piece in moves.chunks(TARGET_ROWS) {
            let batch = self.work_batch(piece)?;
            let errors: Vec<(u32, Error)> = (0..batch.num_rows() as u32)
                .map(|row| {
                    let message = format!("recursion goes on after {} iterations", self.last);
                    (row, Error::new(ErrorKind::ProgramLimit, message))
                })
                .collect();
            out.push_errors(eval_error::error_batch(&batch, &errors, self.name())?);
        }
        Ok(())
    }

    fn emit(&mut self, out: &mut Output) -> Result<()> {
        let changed = std::mem::take(&mut self.changed);
        let mut net: Vec<(u32, i64)> = Vec::new();
        for slot in &changed {
            let before = self.before[*slot as usize].take().unwrap_or(0);
            let weight = self.shown(*slot) - before;
            if weight != 0 {
                net.push((*slot, weight));
            }
        }
        for piece in net.chunks(TARGET_ROWS) {
            let keys: Vec<&[u8]> = piece.iter().map(|(slot, _)| self.index.key(*slot)).collect();
            let rows = self.codec.decode(keys.into_iter())?;
            out.push(ZBatch::try_new(rows, compact_weights(piece.iter().map(|(_, w)| *w).collect()))?);
        }
        for slot in changed {
            let s = slot as usize;
            if self.counts[s].is_empty() && self.places[s].is_none() {
                self.counts[s] = vec![];
                self.index.remove(slot);
            }
        }
        Ok(())
    }
}

impl Operator for Fixpoint {
    fn name(&self) -> &'static str {
        "recursive"
    }

    fn absorb(&mut self, port: usize, changes: ZBatch, out: &mut Output) -> Result<Progress> {
        if port == 0 {
            self.note(&changes, |_| 0)?;
        } else {
            self.derive(port, changes, out)?;
        }
        Ok(Progress::Done)
    }

    fn close_epoch(&mut self, _time: &TimeFacts<'_>, out: &mut Output) -> Result<Progress> {
        while let Some((k, changes)) = self.pending.pop_first() {
            let moves = self.settle(k, changes)?;
            let (deep, moves): (Vec<_>, Vec<_>) = moves.into_iter().partition(|(_, at, _)| *at >= self.last);
            self.report(&deep, out)?;
            for piece in moves.chunks(TARGET_ROWS) {
                let batch = self.work_batch(piece)?;
                self.derive(0, batch, out)?;
            }
        }
        self.emit(out)?;
        Ok(Progress::Done)
    }

    fn state_bytes(&self) -> usize {
        let inner: usize = self
            .nodes
            .iter()
            .map(|n| if let StepKind::Operator(op) = &n.kind { op.state_bytes() } else { 0 })
            .sum();
        // Most rows are derived in one or two iterations.
        inner + self.index.memory_bytes() + self.counts.capacity() * 72
    }

    fn state_rows(&self) -> usize {
        self.index.len()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use arrow::datatypes::{DataType, Field, Schema};
    use datafusion::common::DFSchema;
    use datafusion::logical_expr::{col, lit};
    use rand::{Rng, SeedableRng};

    use super::*;
    use crate::expr::ScalarExpr;
    use crate::operator::join::{Join, JoinSpec};
    use crate::operator::map::Map;
    use crate::time::{Epoch, EventTime, Watermark};

    fn schema(names: &[&str]) -> SchemaRef {
        Arc::new(Schema::new(names.iter().map(|n| Field::new(*n, DataType::Int64, true)).collect::<Vec<_>>()))
    }

    /// Paths over edges: `path(a, b)` of the start, then `path(a, c)` of `path(a, b)` and `edge(b, c)`.
    fn closure(all: bool) -> Fixpoint {
        let (rows, work) = (schema(&["a", "b"]), schema(&["a", "b", "i"]));
        let joined = schema(&["a", "c", "i"]);
        let spec = JoinSpec {
            left_keys: vec![1],
            right_keys: vec![0],
            residual: None,
            output: vec![0, 4, 2],
            left_expiry: None,
            right_expiry: None,
        };
        let join = Join::new(work.clone(), rows.clone(), joined.clone(), spec).unwrap();
        let df = DFSchema::try_from(joined.clone()).unwrap();
        let exprs = [col("a"), col("c"), col("i") + lit(1i64)];
        let exprs = exprs.iter().map(|e| ScalarExpr::compile(e, &df).unwrap()).collect();
        let map = Map::new(joined.clone(), work.clone(), None, Some(exprs)).unwrap();
        let nodes = vec![
            StepNode { kind: StepKind::Operator(Box::new(join)), schema: joined, consumers: vec![(3, 0)] },
            StepNode {
                kind: StepKind::Operator(Box::new(map)),
                schema: work.clone(),
                consumers: vec![(usize::MAX, 0)],
            },
        ];
        Fixpoint::new(rows, work, all, vec![vec![(2, 0)], vec![(2, 1)]], nodes).unwrap()
    }

    fn batch(rows: &[(i64, i64, i64)]) -> ZBatch {
        let column = |f: fn(&(i64, i64, i64)) -> i64| -> ArrayRef {
            Arc::new(Int64Array::from_iter_values(rows.iter().map(f)))
        };
        let columns = vec![column(|r| r.0), column(|r| r.1)];
        let weights = compact_weights(rows.iter().map(|r| r.2).collect());
        ZBatch::try_new(RecordBatch::try_new(schema(&["a", "b"]), columns).unwrap(), weights).unwrap()
    }

    fn epoch(op: &mut Fixpoint, edges: &[(i64, i64, i64)], shown: &mut BTreeMap<(i64, i64), i64>) -> Output {
        let mut out = Output::default();
        // Every edge begins a path.
        op.absorb(1, batch(edges), &mut out).unwrap();
        op.absorb(0, batch(edges), &mut out).unwrap();
        let watermarks = [Watermark(0), Watermark(0)];
        let time = TimeFacts { epoch: Epoch(1), now: EventTime(0), watermarks: &watermarks };
        op.close_epoch(&time, &mut out).unwrap();
        for b in &out.rows {
            let (x, y) = (b.column(0).as_primitive::<Int64Type>(), b.column(1).as_primitive::<Int64Type>());
            for i in 0..b.num_rows() {
                *shown.entry((x.value(i), y.value(i))).or_default() += b.weight(i);
            }
        }
        shown.retain(|_, w| *w != 0);
        out
    }

    #[test]
    fn the_transitive_closure_is_exact_after_any_inserts_and_deletes() {
        for seed in 0..60 {
            let mut rng = rand::rngs::StdRng::seed_from_u64(seed);
            let mut op = closure(false);
            let (mut edges, mut shown) = (BTreeMap::<(i64, i64), i64>::new(), BTreeMap::new());
            let nodes = rng.random_range(3..8);
            for _ in 0..15 {
                let mut changes = vec![];
                for _ in 0..rng.random_range(1..5) {
                    let edge = (rng.random_range(0..nodes), rng.random_range(0..nodes));
                    let have = edges.entry(edge).or_default();
                    let weight = if *have > 0 && rng.random_bool(0.7) { -1 } else { 1 };
                    *have += weight;
                    changes.push((edge.0, edge.1, weight));
                }
                edges.retain(|_, n| *n != 0);
                epoch(&mut op, &changes, &mut shown);
                let mut paths: BTreeSet<(i64, i64)> = edges.keys().copied().collect();
                loop {
                    let before = paths.len();
                    let more: Vec<(i64, i64)> = paths
                        .iter()
                        .flat_map(|(a, b)| edges.keys().filter(move |e| e.0 == *b).map(|e| (*a, e.1)))
                        .collect();
                    paths.extend(more);
                    if paths.len() == before {
                        break;
                    }
                }
                let expected: BTreeMap<(i64, i64), i64> = paths.into_iter().map(|p| (p, 1)).collect();
                assert_eq!(shown, expected, "seed {seed}");
            }
            let all: Vec<(i64, i64, i64)> = edges.iter().map(|((a, b), n)| (*a, *b, -n)).collect();
            epoch(&mut op, &all, &mut shown);
            assert!(shown.is_empty() && op.state_rows() == 0, "seed {seed}");
        }
    }

    #[test]
    fn with_union_all_every_path_counts() {
        let (mut op, mut shown) = (closure(true), BTreeMap::new());
        epoch(&mut op, &[(1, 2, 1), (1, 3, 1), (2, 4, 1), (3, 4, 2)], &mut shown);
        assert_eq!(shown[&(1, 4)], 3);
        epoch(&mut op, &[(3, 4, -1)], &mut shown);
        assert_eq!(shown[&(1, 4)], 2);
        epoch(&mut op, &[(1, 2, -1)], &mut shown);
        assert_eq!((shown[&(1, 4)], shown.len()), (1, 4));
    }

    #[test]
    fn a_recursion_without_end_stops_and_says_so_until_it_has_one() {
        let (mut op, mut shown) = (closure(true), BTreeMap::new());
        let out = epoch(&mut op, &[(1, 1, 1)], &mut shown);
        let errors = |out: &Output| -> i64 {
            out.errors.iter().map(|b| (0..b.num_rows()).map(|i| b.weight(i)).sum::<i64>()).sum()
        };
        assert_eq!(errors(&out), 1);
        assert_eq!(shown[&(1, 1)], i64::from(LAST_ITERATION_ALL) + 1);
        let out = epoch(&mut op, &[(1, 1, -1)], &mut shown);
        assert_eq!((errors(&out), shown.len()), (-1, 0));
    }
}
