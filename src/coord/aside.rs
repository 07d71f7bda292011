//! Work that takes long and must hold up nobody: building indexes, parsing and binding long statements.
//!
//! Boundary: where work is done; what it is, is the session's.

use std::sync::Arc;

use crate::catalog::ObjectBody;
use crate::coord::Shared;
use crate::coord::backend::CancelHandle;
use crate::coord::command::DdlOp;
use crate::error::{Error, Result};
use crate::store::relation::Relation;

/// A use of an index that ends with this.
pub(super) struct BuiltIndex {
    relation: Arc<Relation>,
    columns: Vec<usize>,
}

impl Drop for BuiltIndex {
    fn drop(&mut self) {
        self.relation.release_index(&self.columns);
    }
}

/// Builds the indexes that a commit creates over relations which are there already: nobody else waits for it. The
/// coordinator finds them built; if the commit fails they go.
pub(super) async fn build_indexes(
    shared: &Shared,
    handle: &CancelHandle,
    ddl: &[DdlOp],
) -> Result<Vec<BuiltIndex>> {
    let mut built = Vec::new();
    for op in ddl {
        let DdlOp::Create(object, _) = op else { continue };
        let ObjectBody::Index { on, columns, .. } = &object.body else { continue };
        let Some(relation) = shared.world().relations.get(on).cloned() else { continue };
        let width = relation.schema().fields().len();
        if columns.iter().any(|c| *c >= width) {
            // Over a column that the same transaction adds: the coordinator builds it with the table's new shape.
            continue;
        }
        let columns = columns.clone();
        let build = move || -> Result<BuiltIndex> {
            relation.create_index(columns.clone())?;
            Ok(BuiltIndex { relation, columns })
        };
        let cancel = handle.token();
        tokio::select! {
            index = tokio::task::spawn_blocking(build) => {
                let failed = |e| Error::internal(format!("an index could not be built: {e}"));
                built.push(index.map_err(failed)??);
            }
            () = cancel.cancelled() => return Err(handle.error()),
        }
    }
    Ok(built)
}

/// Statements of more bytes than this take so long to parse and bind that others should not wait for it.
const LONG: usize = 8192;

/// Does work that takes long for long statements (`length` bytes) without keeping other connections from being
/// served by this thread.
pub(super) fn off_the_wire<T>(length: usize, work: impl FnOnce() -> T) -> T {
    use tokio::runtime::{Handle, RuntimeFlavor};
    let shared = || Handle::try_current().is_ok_and(|h| h.runtime_flavor() == RuntimeFlavor::MultiThread);
    if length > LONG && shared() { tokio::task::block_in_place(work) } else { work() }
}
