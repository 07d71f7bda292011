//! The objects of the catalog and the catalog itself: an immutable snapshot that DDL replaces.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::logical_expr::{TableSource, TableType};
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::types::PgType;

/// The schema that unqualified names of new objects go to.
pub const DEFAULT_SCHEMA: &str = "public";
/// The one database.
pub const DATABASE: &str = "freshet";
/// First OID of user objects, as in PostgreSQL.
pub const FIRST_USER_OID: u32 = 16384;

/// Identity of an object; it is its OID in pg_class and never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ObjectId(pub u32);

impl std::fmt::Display for ObjectId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// A column of a relation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Column {
    /// Name, as written after PostgreSQL's folding.
    pub name: String,
    /// OID of its type.
    pub type_oid: u32,
    /// Type modifier, -1 if none.
    pub typmod: i32,
    /// Whether it may be NULL.
    pub nullable: bool,
    /// SQL text of the DEFAULT expression.
    pub default: Option<String>,
    /// SQL text of a generated column (`GENERATED ALWAYS AS (…) STORED`, `col type AS expr`).
    pub generated: Option<String>,
    /// COMMENT ON COLUMN.
    pub comment: Option<String>,
    /// How a numeric without modifier is kept, where it is not as its type says.
    #[serde(default)]
    pub numeric: Option<NumericStorage>,
}

/// Decimal parameters of a numeric column whose type has no modifier (results of sum, avg, division).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct NumericStorage {
    /// Digits.
    pub precision: u8,
    /// Digits after the point.
    pub scale: i8,
    /// A quotient: it shows as many digits as PostgreSQL's division gives.
    pub quotient: bool,
    /// It shows no trailing zeros.
    #[serde(default)]
    pub trimmed: bool,
    /// It shows its digits as a variance does.
    #[serde(default)]
    pub variance: bool,
    /// It shows its digits as a standard deviation does.
    #[serde(default)]
    pub deviation: bool,
    /// It is what the elements of an array are.
    #[serde(default)]
    pub element: bool,
}

/// Field metadata that marks a quotient.
pub const NUMERIC_KEY: &str = "pg.numeric";
/// Its value.
pub const NUMERIC_QUOTIENT: &str = "div";
/// Its value for numerics that show no trailing zeros.
pub const NUMERIC_TRIMMED: &str = "trim";
/// Its value for variances.
pub const NUMERIC_VARIANCE: &str = "var";
/// Its value for standard deviations.
pub const NUMERIC_DEVIATION: &str = "dev";

impl Column {
    /// A nullable column without default.
    pub fn new(name: impl Into<String>, pg_type: PgType) -> Self {
        Column {
            name: name.into(),
            type_oid: pg_type.oid,
            typmod: pg_type.typmod,
            nullable: true,
            default: None,
            generated: None,
            comment: None,
            numeric: None,
        }
    }

    /// A column that holds what a field of a bound query gives.
    pub fn of_field(name: impl Into<String>, field: &Field) -> Self {
        let pg_type = PgType::of_field(field);
        let mut column = Column::new(name, pg_type);
        let shown = |how: &str| field.metadata().get(NUMERIC_KEY).is_some_and(|v| v == how);
        let (quotient, trimmed) = (shown(NUMERIC_QUOTIENT), shown(NUMERIC_TRIMMED));
        let (variance, deviation) = (shown(NUMERIC_VARIANCE), shown(NUMERIC_DEVIATION));
        let own = quotient || trimmed || variance || deviation;
        let (value, element) = match field.data_type() {
            DataType::List(item) => (item.data_type(), true),
            t => (t, false),
        };
        if let DataType::Decimal128(precision, scale) | DataType::Decimal256(precision, scale) = value
            && (own || pg_type.arrow() != *field.data_type())
        {
            let (precision, scale) = (*precision, *scale);
            column.numeric =
                Some(NumericStorage { precision, scale, quotient, trimmed, variance, deviation, element });
        }
        column
    }

    /// The Arrow field of this column.
    pub fn field(&self) -> Field {
        let Some(numeric) = self.numeric else {
            return self.pg_type().field(&self.name, self.nullable);
        };
        let arrow = if numeric.precision > 38 {
            DataType::Decimal256(numeric.precision, numeric.scale)
        } else {
            DataType::Decimal128(numeric.precision, numeric.scale)
        };
        let arrow =
            if numeric.element { DataType::List(Arc::new(Field::new("item", arrow, true))) } else { arrow };
        let mut metadata = self.pg_type().metadata();
        let shown = [
            (numeric.quotient, NUMERIC_QUOTIENT),
            (numeric.trimmed, NUMERIC_TRIMMED),
            (numeric.variance, NUMERIC_VARIANCE),
            (numeric.deviation, NUMERIC_DEVIATION),
        ];
        if let Some((_, how)) = shown.iter().find(|(so, _)| *so) {
            metadata.insert(NUMERIC_KEY.into(), (*how).into());
        }
        Field::new(&self.name, arrow, self.nullable).with_metadata(metadata)
    }

    /// Its PostgreSQL type.
    pub fn pg_type(&self) -> PgType {
        PgType { oid: self.type_oid, typmod: self.typmod }
    }
}

/// `WATERMARK FOR column AS expr` and what belongs to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WatermarkSpec {
    /// The event-time column (position).
    pub column: usize,
    /// The watermark is the greatest event time seen less this, in µs.
    pub delay: i64,
    /// Rows later than the watermark by up to this many µs are still used.
    pub allowed_lateness: i64,
    /// A partition that is silent for this many µs no longer holds the watermark back.
    pub idle_timeout: Option<i64>,
    /// What happens to late rows.
    pub late_rows: LateRows,
}

/// Where late rows go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LateRows {
    /// To the companion relation of this name (`name$late` unless said otherwise).
    To(String),
    /// Nowhere; they are counted.
    Drop,
}

/// What kind of object this is, with what only this kind has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ObjectBody {
    /// A table written by INSERT, UPDATE, DELETE, COPY.
    Table {
        /// Columns of the primary key; empty: none.
        primary_key: Vec<usize>,
        /// Only INSERT is allowed.
        append_only: bool,
        /// Event time, if declared.
        watermark: Option<WatermarkSpec>,
        /// CHECK constraints: (name, SQL text).
        checks: Vec<(String, String)>,
    },
    /// A source read by a connector. Sources of several relations (nexmark) are one object per relation.
    Source {
        /// Name of the connector: file, datagen, nexmark.
        connector: String,
        /// Options of WITH, lower case keys.
        options: BTreeMap<String, String>,
        /// FORMAT … ENCODE …: (format, encoding, options), lower case.
        format: Option<(String, String, BTreeMap<String, String>)>,
        /// Event time, if declared.
        watermark: Option<WatermarkSpec>,
        /// Whether its rows are kept so that they can be queried and new views see them all.
        keeps_history: bool,
    },
    /// A view: expanded where it is used.
    View {
        /// SQL text of the query.
        query: String,
    },
    /// A view kept up to date by a dataflow.
    MaterializedView {
        /// SQL text of the query.
        query: String,
        /// Emit only on window close.
        emit_on_window_close: bool,
        /// A unique key that the plan guarantees; empty: none.
        unique_key: Vec<usize>,
        /// Whether the plan only ever inserts.
        append_only: bool,
        /// (column, delay µs): columns that the watermark bounds, as [`crate::catalog`]'s users need them.
        watermark_columns: Vec<(usize, i64)>,
    },
    /// An index on a relation.
    Index {
        /// The relation.
        on: ObjectId,
        /// Its columns.
        columns: Vec<usize>,
        /// Declared UNIQUE.
        unique: bool,
    },
    /// A sink fed by a dataflow.
    Sink {
        /// The relation it reads, or the query.
        query: String,
        /// Name of the connector: blackhole.
        connector: String,
        /// Options of WITH.
        options: BTreeMap<String, String>,
    },
    /// `$errors` and `$late`: filled by the object they accompany, dropped with it.
    Companion {
        /// The object it accompanies.
        of: ObjectId,
        /// `errors` or `late`.
        role: String,
    },
}

/// An object of the catalog.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Object {
    /// Identity and OID.
    pub id: ObjectId,
    /// Schema it lives in.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Columns, for relations; empty for indexes' own bookkeeping and sinks.
    pub columns: Vec<Column>,
    /// What it is.
    pub body: ObjectBody,
    /// Objects it is built on.
    pub depends_on: Vec<ObjectId>,
    /// The user's own DDL text.
    pub ddl: String,
    /// The search path its texts were written under.
    pub search_path: Vec<String>,
    /// COMMENT ON.
    pub comment: Option<String>,
}

impl Object {
    /// The Arrow schema of its rows.
    pub fn arrow_schema(&self) -> SchemaRef {
        Arc::new(Schema::new(self.columns.iter().map(Column::field).collect::<Vec<_>>()))
    }

    /// PostgreSQL's word for the kind of object, as error messages use it.
    pub fn kind_name(&self) -> &'static str {
        match self.body {
            ObjectBody::Table { .. } => "table",
            ObjectBody::Source { .. } => "source",
            ObjectBody::View { .. } => "view",
            ObjectBody::MaterializedView { .. } => "materialized view",
            ObjectBody::Index { .. } => "index",
            ObjectBody::Sink { .. } => "sink",
            ObjectBody::Companion { .. } => "table",
        }
    }

    /// Whether it can stand in FROM.
    pub fn is_relation(&self) -> bool {
        !matches!(self.body, ObjectBody::Index { .. } | ObjectBody::Sink { .. })
    }

    /// Whether it has rows of its own in the store.
    pub fn is_stored(&self) -> bool {
        self.is_relation() && !matches!(self.body, ObjectBody::View { .. })
    }

    /// The event time of a table or source.
    pub fn watermark(&self) -> Option<&WatermarkSpec> {
        match &self.body {
            ObjectBody::Table { watermark, .. } | ObjectBody::Source { watermark, .. } => watermark.as_ref(),
            _ => None,
        }
    }

    /// Whether its rows are only ever inserted.
    pub fn is_append_only(&self) -> bool {
        match &self.body {
            ObjectBody::Table { append_only, .. } => *append_only,
            ObjectBody::Source { .. } => true,
            ObjectBody::Companion { role, .. } => role == "late",
            ObjectBody::MaterializedView { append_only, .. } => *append_only,
            _ => false,
        }
    }

    /// A key no two rows share: the primary key of a table, the inferred key of a view.
    pub fn unique_key(&self) -> &[usize] {
        match &self.body {
            ObjectBody::Table { primary_key, .. } => primary_key,
            ObjectBody::MaterializedView { unique_key, .. } => unique_key,
            _ => &[],
        }
    }
}

/// All objects at one moment. Cheap to clone; DDL makes a new one.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    objects: Arc<BTreeMap<ObjectId, Arc<Object>>>,
    names: Arc<BTreeMap<(String, String), ObjectId>>,
    schemas: Arc<BTreeMap<String, u32>>,
    next_oid: u32,
    version: u64,
}

impl Catalog {
    /// A catalog with the schema `public` and nothing else.
    pub fn new() -> Self {
        Catalog {
            schemas: Arc::new(BTreeMap::from([(DEFAULT_SCHEMA.to_string(), 2200)])),
            next_oid: FIRST_USER_OID,
            ..Catalog::default()
        }
    }

    /// Increases with every change; statements bound at an older version are bound again.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The next free OID, taken.
    pub fn allocate_id(&mut self) -> ObjectId {
        let id = ObjectId(self.next_oid);
        self.next_oid += 1;
        id
    }

    /// OID that the next object will get.
    pub fn next_oid(&self) -> u32 {
        self.next_oid
    }

    /// Makes sure that OIDs below `oid` are not given out (used by recovery).
    pub fn reserve_oids(&mut self, oid: u32) {
        self.next_oid = self.next_oid.max(oid);
    }

    /// The schemas with their OIDs.
    pub fn schemas(&self) -> impl Iterator<Item = (&str, u32)> {
        self.schemas.iter().map(|(n, o)| (n.as_str(), *o))
    }

    /// Whether a schema of this name exists.
    pub fn has_schema(&self, name: &str) -> bool {
        self.schemas.contains_key(name)
    }

    /// Adds a schema.
    pub fn add_schema(&mut self, name: &str) -> Result<()> {
        if self.has_schema(name) {
            return Err(Error::new(ErrorKind::DuplicateSchema, format!("schema \"{name}\" already exists")));
        }
        let oid = self.allocate_id().0;
        Arc::make_mut(&mut self.schemas).insert(name.to_string(), oid);
        self.version += 1;
        Ok(())
    }

    /// Removes an empty schema.
    pub fn remove_schema(&mut self, name: &str) {
        Arc::make_mut(&mut self.schemas).remove(name);
        self.version += 1;
    }

    /// All objects in the order of their ids, which is a topological order of their dependencies.
    pub fn objects(&self) -> impl DoubleEndedIterator<Item = &Arc<Object>> {
        self.objects.values()
    }

    /// The object of this id.
    pub fn get(&self, id: ObjectId) -> Option<&Arc<Object>> {
        self.objects.get(&id)
    }

    /// The object of this schema and name.
    pub fn find(&self, schema: &str, name: &str) -> Option<&Arc<Object>> {
        self.names.get(&(schema.to_string(), name.to_string())).and_then(|id| self.objects.get(id))
    }

    /// Adds an object whose id was given by [`Catalog::allocate_id`].
    pub fn insert(&mut self, object: Object) -> Result<()> {
        if !self.has_schema(&object.schema) {
            return Err(Error::new(
                ErrorKind::UndefinedSchema,
                format!("schema \"{}\" does not exist", object.schema),
            ));
        }
        let name = (object.schema.clone(), object.name.clone());
        if self.names.contains_key(&name) {
            return Err(Error::new(
                ErrorKind::DuplicateTable,
                format!("relation \"{}\" already exists", object.name),
            ));
        }
        Arc::make_mut(&mut self.names).insert(name, object.id);
        self.next_oid = self.next_oid.max(object.id.0 + 1);
        Arc::make_mut(&mut self.objects).insert(object.id, Arc::new(object));
        self.version += 1;
        Ok(())
    }

    /// Replaces the object of the same id (comment, rename, new definition of a view).
    pub fn replace(&mut self, object: Object) -> Result<()> {
        let Some(old) = self.objects.get(&object.id).cloned() else {
            return Err(Error::internal(format!("object {} is not in the catalog", object.id)));
        };
        let name = (object.schema.clone(), object.name.clone());
        if self.names.get(&name).is_some_and(|id| *id != object.id) {
            return Err(Error::new(
                ErrorKind::DuplicateTable,
                format!("relation \"{}\" already exists", object.name),
            ));
        }
        let names = Arc::make_mut(&mut self.names);
        names.remove(&(old.schema.clone(), old.name.clone()));
        names.insert(name, object.id);
        Arc::make_mut(&mut self.objects).insert(object.id, Arc::new(object));
        self.version += 1;
        Ok(())
    }

    /// Removes an object.
    pub fn remove(&mut self, id: ObjectId) -> Option<Arc<Object>> {
        let object = Arc::make_mut(&mut self.objects).remove(&id)?;
        Arc::make_mut(&mut self.names).remove(&(object.schema.clone(), object.name.clone()));
        self.version += 1;
        Some(object)
    }

    /// The objects built directly on `id`: views, sinks, indexes, companions.
    pub fn dependents(&self, id: ObjectId) -> Vec<Arc<Object>> {
        self.objects
            .values()
            .filter(|o| {
                o.depends_on.contains(&id)
                    || matches!(o.body, ObjectBody::Index { on, .. } if on == id)
                    || matches!(o.body, ObjectBody::Companion { of, .. } if of == id)
            })
            .cloned()
            .collect()
    }

    /// The indexes on a relation.
    pub fn indexes_on(&self, id: ObjectId) -> Vec<Arc<Object>> {
        self.objects
            .values()
            .filter(|o| matches!(o.body, ObjectBody::Index { on, .. } if on == id))
            .cloned()
            .collect()
    }
}

/// A whole catalog as it is kept in files.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StoredCatalog {
    /// All objects.
    pub objects: Vec<Object>,
    /// All schemas with their OIDs.
    pub schemas: Vec<(String, u32)>,
    /// The next free OID.
    pub next_oid: u32,
}

impl From<&Catalog> for StoredCatalog {
    fn from(c: &Catalog) -> Self {
        StoredCatalog {
            objects: c.objects().map(|o| (**o).clone()).collect(),
            schemas: c.schemas().map(|(n, o)| (n.to_string(), o)).collect(),
            next_oid: c.next_oid(),
        }
    }
}

impl From<StoredCatalog> for Catalog {
    fn from(stored: StoredCatalog) -> Self {
        let mut c = Catalog::new();
        c.schemas = Arc::new(stored.schemas.into_iter().collect());
        for object in stored.objects {
            let object = Arc::new(object);
            Arc::make_mut(&mut c.names).insert((object.schema.clone(), object.name.clone()), object.id);
            Arc::make_mut(&mut c.objects).insert(object.id, object);
        }
        c.next_oid = stored.next_oid.max(FIRST_USER_OID);
        c
    }
}

/// A relation as DataFusion's logical plans name it. `plan::lower` and `read` find the object by its id.
#[derive(Debug)]
pub struct CatalogTable {
    /// The relation (a stored one; plain views are expanded when a statement is bound).
    pub object: Arc<Object>,
    schema: SchemaRef,
}

impl CatalogTable {
    /// A reference to a stored relation.
    pub fn new(object: Arc<Object>) -> Self {
        let schema = object.arrow_schema();
        CatalogTable { object, schema }
    }
}

impl TableSource for CatalogTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }
    fn table_type(&self) -> TableType {
        TableType::Base
    }
}
