//! The relations of schema `freshet`: what the server shows of itself, as rows.
//!
//! A statement that names one of them gets its rows at the moment it runs. Which columns each has is fixed here, in one
//! table; what fills them comes from the shared figures and, for what only the coordinator knows, from one [`Stats`].

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

use crate::catalog::{Catalog, Object, ObjectBody, ObjectId};
use crate::config::SessionSettings;
use crate::coord::World;
use crate::coord::server::Server;
use crate::dataflow::{DataflowStats, NodeStats};
use crate::error::{Error, Result};
use crate::sql::bind::SystemTables;
use crate::types::UTC;

/// The schema these relations live in.
pub const SCHEMA: &str = "freshet";

/// What only the coordinator knows.
#[derive(Debug, Default)]
pub struct Stats {
    /// One entry per dataflow.
    pub dataflows: Vec<DataflowStats>,
    /// One entry per source.
    pub sources: Vec<SourceStats>,
    /// (subscriber, relation, bytes waiting).
    pub subscriptions: Vec<(u64, ObjectId, usize)>,
    /// Views that are being filled.
    pub hydrating: Vec<ObjectId>,
    /// (relation, watermark in µs).
    pub watermarks: Vec<(ObjectId, i64)>,
}

/// Progress of one source.
#[derive(Debug)]
pub struct SourceStats {
    /// The source.
    pub id: ObjectId,
    /// What its reader last said.
    pub status: String,
    /// (partition, offset as JSON, rows, errors).
    pub partitions: Vec<(String, String, u64, u64)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Type {
    Text,
    Int,
    Bool,
    Time,
}

struct Relation {
    name: &'static str,
    columns: &'static [(&'static str, Type)],
}

use Type::{Bool, Int, Text, Time};

const RELATIONS: &[Relation] = &[
    Relation {
        name: "epochs",
        columns: &[
            ("epoch", Int),
            ("closed_at", Time),
            ("epochs_closed", Int),
            ("changes_taken_in", Int),
            ("last_step_us", Int),
            ("longest_step_us", Int),
        ],
    },
    Relation {
        name: "operators",
        columns: &[
            ("object", Text),
            ("object_id", Int),
            ("node", Int),
            ("operator", Text),
            ("rows_in", Int),
            ("rows_out", Int),
            ("state_rows", Int),
            ("state_bytes", Int),
            ("busy_us", Int),
        ],
    },
    Relation {
        name: "relations",
        columns: &[
            ("schema", Text),
            ("name", Text),
            ("kind", Text),
            ("object_id", Int),
            ("rows", Int),
            ("bytes", Int),
            ("chunks", Int),
        ],
    },
    Relation {
        name: "sessions",
        columns: &[("pid", Int), ("user", Text), ("application_name", Text), ("connected_at", Time)],
    },
    Relation { name: "settings", columns: &[("name", Text), ("value", Text), ("description", Text)] },
    Relation {
        name: "source_partitions",
        columns: &[("source", Text), ("partition", Text), ("offset", Text), ("rows", Int), ("errors", Int)],
    },
    Relation {
        name: "sources",
        columns: &[
            ("schema", Text),
            ("name", Text),
            ("connector", Text),
            ("status", Text),
            ("rows", Int),
            ("errors", Int),
            ("watermark", Time),
        ],
    },
    Relation { name: "subscriptions", columns: &[("id", Int), ("relation", Text), ("bytes_waiting", Int)] },
    Relation {
        name: "view_freshness",
        columns: &[
            ("schema", Text),
            ("name", Text),
            ("epoch", Int),
            ("fresh_as_of", Time),
            ("hydrating", Bool),
            ("failed", Bool),
        ],
    },
    Relation {
        name: "views",
        columns: &[
            ("schema", Text),
            ("name", Text),
            ("status", Text),
            ("error_code", Text),
            ("error", Text),
            ("rows", Int),
            ("state_rows", Int),
            ("state_bytes", Int),
            ("errors", Int),
            ("hydration_us", Int),
        ],
    },
];

struct Known;

impl SystemTables for Known {
    fn relation(&self, schema: &str, name: &str) -> Option<SchemaRef> {
        (schema == SCHEMA).then(|| find(name).map(schema_of)).flatten()
    }
}

/// The system relations that statements may name.
pub fn system_tables() -> &'static dyn SystemTables {
    &Known
}

/// Names of all system relations.
pub fn names() -> impl Iterator<Item = &'static str> {
    RELATIONS.iter().map(|r| r.name)
}

fn find(name: &str) -> Option<&'static Relation> {
    RELATIONS.iter().find(|r| r.name == name)
}

fn schema_of(relation: &Relation) -> SchemaRef {
    let field = |(name, t): &(&str, Type)| {
        let data_type = match t {
            Text => DataType::Utf8,
            Int => DataType::Int64,
            Bool => DataType::Boolean,
            Time => DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into())),
        };
        Field::new(*name, data_type, true)
    };
    Arc::new(Schema::new(relation.columns.iter().map(field).collect::<Vec<_>>()))
}

/// A value of a system relation.
#[derive(Clone)]
enum Value {
    T(String),
    N(i64),
    B(bool),
    Null,
}

impl From<&str> for Value {
    fn from(s: &str) -> Self {
        Value::T(s.to_string())
    }
}
impl From<String> for Value {
    fn from(s: String) -> Self {
        Value::T(s)
    }
}
impl From<usize> for Value {
    fn from(n: usize) -> Self {
        Value::N(i64::try_from(n).unwrap_or(i64::MAX))
    }
}
impl From<u64> for Value {
    fn from(n: u64) -> Self {
        Value::N(i64::try_from(n).unwrap_or(i64::MAX))
    }
}
impl From<bool> for Value {
    fn from(b: bool) -> Self {
        Value::B(b)
    }
}
impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(o: Option<T>) -> Self {
        o.map_or(Value::Null, Into::into)
    }
}

fn batch(relation: &Relation, rows: &[Vec<Value>]) -> Result<RecordBatch> {
    let schema = schema_of(relation);
    let columns = relation
        .columns
        .iter()
        .enumerate()
        .map(|(i, (_, t))| -> ArrayRef {
            let number = |r: &Vec<Value>| match r.get(i) {
                Some(Value::N(n)) => Some(*n),
                _ => None,
            };
            match t {
                Text => Arc::new(
                    rows.iter()
                        .map(|r| match r.get(i) {
                            Some(Value::T(s)) => Some(s.as_str()),
                            _ => None,
                        })
                        .collect::<StringArray>(),
                ),
                Int => Arc::new(rows.iter().map(number).collect::<Int64Array>()),
                Time => Arc::new(
                    rows.iter().map(number).collect::<TimestampMicrosecondArray>().with_timezone(UTC),
                ),
                Bool => Arc::new(
                    rows.iter()
                        .map(|r| match r.get(i) {
                            Some(Value::B(b)) => Some(*b),
                            _ => None,
                        })
                        .collect::<BooleanArray>(),
                ),
            }
        })
        .collect();
    Ok(RecordBatch::try_new(schema, columns)?)
}

/// Everything that rows can come from.
pub struct Sources<'a> {
    /// The server.
    pub server: &'a Server,
    /// Names and relations.
    pub world: &'a World,
    /// What the coordinator answered.
    pub stats: &'a Stats,
    /// The session's settings.
    pub settings: &'a SessionSettings,
}

/// The rows of a system relation now.
pub fn rows(name: &str, from: &Sources<'_>) -> Result<RecordBatch> {
    let relation =
        find(name).ok_or_else(|| Error::internal(format!("there is no system relation \"{name}\"")))?;
    let rows = match name {
        "epochs" => vec![epochs(from)],
        "operators" => from
            .stats
            .dataflows
            .iter()
            .flat_map(|d| d.nodes.iter().map(|n| operator(d.id, n, &from.world.catalog)))
            .collect(),
        "relations" => relations(from),
        "sessions" => from
            .server
            .sessions()
            .into_iter()
            .map(|s| {
                vec![
                    Value::N(i64::from(s.pid)),
                    s.user.into(),
                    s.application_name.into(),
                    Value::N(s.connected_at.0),
                ]
            })
            .collect(),
        "settings" => from
            .settings
            .rows()
            .into_iter()
            .map(|s| vec![s.name.into(), s.shown.into(), s.setting_def.map(|d| d.doc).into()])
            .collect(),
        "source_partitions" => partitions(from),
        "sources" => sources(from),
        "subscriptions" => from
            .stats
            .subscriptions
            .iter()
            .map(|(id, object, bytes)| {
                let name = from.world.catalog.get(*object).map(|o| o.name.clone());
                vec![(*id).into(), name.into(), (*bytes).into()]
            })
            .collect(),
        "view_freshness" => views(from).map(|v| freshness(&v, from)).collect(),
        _ => views(from).map(|v| view(&v, from)).collect(),
    };
    batch(relation, &rows)
}

fn epochs(from: &Sources<'_>) -> Vec<Value> {
    let shared = &from.server.shared;
    let (figures, epoch) = (&shared.figures, shared.epochs.published());
    vec![
        epoch.0.into(),
        Value::N(epoch.as_time().0),
        figures.epochs().into(),
        figures.rows().into(),
        figures.last_step_micros().into(),
        figures.longest_step_micros().into(),
    ]
}

fn operator(dataflow: ObjectId, n: &NodeStats, catalog: &Catalog) -> Vec<Value> {
    vec![
        catalog.get(dataflow).map(|v| v.name.clone()).into(),
        Value::N(i64::from(dataflow.0)),
        n.node.into(),
        n.name.as_str().into(),
        n.rows_in.into(),
        n.rows_out.into(),
        n.state_rows.into(),
        n.state_bytes.into(),
        u64::try_from(n.busy.as_micros()).unwrap_or(u64::MAX).into(),
    ]
}

fn relations(from: &Sources<'_>) -> Vec<Vec<Value>> {
    from.world
        .relations
        .iter()
        .filter_map(|(id, r)| {
            let o = from.world.catalog.get(*id)?;
            Some(vec![
                o.schema.as_str().into(),
                o.name.as_str().into(),
                o.kind_name().into(),
                Value::N(i64::from(id.0)),
                r.row_count().into(),
                r.memory_bytes().into(),
                r.chunk_count().into(),
            ])
        })
        .collect()
}

fn partitions(from: &Sources<'_>) -> Vec<Vec<Value>> {
    let mut rows = Vec::new();
    for s in &from.stats.sources {
        let Some(o) = from.world.catalog.get(s.id) else { continue };
        for (partition, offset, n, errors) in &s.partitions {
            rows.push(vec![
                o.name.as_str().into(),
                partition.as_str().into(),
                offset.as_str().into(),
                (*n).into(),
                (*errors).into(),
            ]);
        }
    }
    rows
}

fn sources(from: &Sources<'_>) -> Vec<Vec<Value>> {
    from.world
        .catalog
        .objects()
        .filter_map(|o| {
            let ObjectBody::Source { connector, .. } = &o.body else { return None };
            let stats = from.stats.sources.iter().find(|s| s.id == o.id);
            let sum = |f: fn(&(String, String, u64, u64)) -> u64| {
                stats.map_or(0, |s| s.partitions.iter().map(f).sum::<u64>())
            };
            let watermark = from.stats.watermarks.iter().find(|(id, _)| *id == o.id).map(|(_, w)| *w);
            Some(vec![
                o.schema.as_str().into(),
                o.name.as_str().into(),
                connector.as_str().into(),
                stats.map(|s| s.status.clone()).into(),
                sum(|p| p.2).into(),
                sum(|p| p.3).into(),
                watermark.filter(|w| *w != i64::MIN).map_or(Value::Null, Value::N),
            ])
        })
        .collect()
}

fn views<'a>(from: &'a Sources<'_>) -> impl Iterator<Item = Arc<Object>> + 'a {
    from.world.catalog.objects().filter(|o| matches!(o.body, ObjectBody::MaterializedView { .. })).cloned()
}

fn freshness(v: &Object, from: &Sources<'_>) -> Vec<Value> {
    let shared = &from.server.shared;
    let epoch = shared.epochs.published();
    vec![
        v.schema.as_str().into(),
        v.name.as_str().into(),
        epoch.0.into(),
        Value::N(epoch.as_time().0),
        from.stats.hydrating.contains(&v.id).into(),
        shared.figures.view(v.id).failure.is_some().into(),
    ]
}

fn view(v: &Object, from: &Sources<'_>) -> Vec<Value> {
    let shared = &from.server.shared;
    let figures = shared.figures.view(v.id);
    let own = from.stats.dataflows.iter().filter(|d| d.id == v.id).flat_map(|d| &d.nodes);
    let (state_rows, state_bytes) =
        own.fold((0, 0), |(rows, bytes), n| (rows + n.state_rows, bytes + n.state_bytes));
    let status = match (&figures.failure, from.stats.hydrating.contains(&v.id)) {
        (Some(_), _) => "failed",
        (None, true) => "hydrating",
        (None, false) => "running",
    };
    let count = |id: Option<ObjectId>| id.and_then(|id| from.world.relations.get(&id)).map(|r| r.row_count());
    vec![
        v.schema.as_str().into(),
        v.name.as_str().into(),
        status.into(),
        figures.failure.as_ref().map(|(code, _)| code.clone()).into(),
        figures.failure.as_ref().map(|(_, text)| text.clone()).into(),
        count(Some(v.id)).into(),
        state_rows.into(),
        state_bytes.into(),
        count(shared.companion(&from.world.catalog, v.id, "errors")).into(),
        figures.hydration.map(|d| u64::try_from(d.as_micros()).unwrap_or(u64::MAX)).into(),
    ]
}
