//! CREATE SEQUENCE, ALTER SEQUENCE, and the sequences of serial and identity columns.

use super::table::serial_type;
use super::{Definer, position, undefined};
use crate::catalog::object::{ColumnSequence, SequenceUse};
use crate::catalog::{Column, Object, ObjectBody, ObjectId, SequenceSpec, SequenceValue};
use crate::coord::command::DdlOp;
use crate::coord::sequence::{bounds, first};
use crate::error::{Error, ErrorKind, Result};
use crate::sql::statement::{ColumnDef, CreateSequence, Name, SequenceOptions};
use crate::types::PgType;

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidParameter, message)
}

/// The name of a sequence as it stands in `nextval('…')`.
pub(super) fn default_text(schema: &str, name: &str, search_path: &[String]) -> String {
    let quote = crate::catalog::system::quote_ident;
    let written = if search_path.iter().any(|s| s == schema) {
        quote(name)
    } else {
        format!("{}.{}", quote(schema), quote(name))
    };
    format!("nextval('{}'::regclass)", written.replace('\'', "''"))
}

impl Definer<'_> {
    /// CREATE SEQUENCE.
    pub fn create_sequence(&mut self, stmt: &CreateSequence) -> Result<()> {
        let (schema, name) = self.new_name_in(&stmt.name, stmt.temporary)?;
        if self.exists(&schema, &name, stmt.if_not_exists)? {
            return Ok(());
        }
        let mut spec = self.spec(None, &stmt.options, PgType::INT8)?;
        spec.owned_by = match &stmt.options.owned_by {
            Some(Some((table, column))) => Some(self.owner(table, column)?),
            _ => None,
        };
        self.add_sequence(&schema, &name, spec).map(drop)
    }

    fn owner(&self, table: &Name, column: &str) -> Result<(ObjectId, usize)> {
        let object = self.find(table).ok_or_else(|| undefined(table))?;
        if !matches!(object.body, ObjectBody::Table { .. }) {
            return Err(Error::new(
                ErrorKind::WrongObjectType,
                format!("sequence cannot be owned by relation \"{}\"", object.name),
            ));
        }
        let at = position(&object.columns, column).ok_or_else(|| {
            Error::new(
                ErrorKind::UndefinedColumn,
                format!("column \"{column}\" of relation \"{}\" does not exist", object.name),
            )
        })?;
        Ok((object.id, at))
    }

    fn add_sequence(&mut self, schema: &str, name: &str, spec: SequenceSpec) -> Result<ObjectId> {
        let value = first(&spec);
        let object = self.object(schema, name, Vec::new(), ObjectBody::Sequence(spec));
        let id = self.create(object, None)?;
        self.ops.push(DdlOp::Sequence(id, value));
        Ok(id)
    }

    /// The sequence with these options, changed from `old` if there is one.
    fn spec(&self, old: Option<&SequenceSpec>, o: &SequenceOptions, default: PgType) -> Result<SequenceSpec> {
        let type_oid = match &o.data_type {
            Some(t) => crate::sql::types::pg_type(t)?.oid,
            None => old.map_or(default.oid, |s| s.type_oid),
        };
        let (least, greatest) =
            bounds(type_oid).ok_or_else(|| invalid("sequence type must be smallint, integer, or bigint"))?;
        let type_name = PgType::of(type_oid).sql_name();
        let increment = o.increment.or(old.map(|s| s.increment)).unwrap_or(1);
        if increment == 0 {
            return Err(invalid("INCREMENT must not be zero"));
        }
        let own = |s: &SequenceSpec| bounds(s.type_oid).unwrap_or((i64::MIN, i64::MAX));
        let max = match (o.max, old) {
            (Some(Some(max)), _) => max,
            (None, Some(s)) if o.data_type.is_none() || s.max != own(s).1 => s.max,
            _ if increment > 0 => greatest,
            _ => -1,
        };
        let min = match (o.min, old) {
            (Some(Some(min)), _) => min,
            (None, Some(s)) if o.data_type.is_none() || s.min != own(s).0 => s.min,
            _ if increment > 0 => 1,
            _ => least,
        };
        for (value, what) in [(max, "MAXVALUE"), (min, "MINVALUE")] {
            if !(least..=greatest).contains(&value) {
                return Err(invalid(format!(
                    "{what} ({value}) is out of range for sequence data type {type_name}"
                )));
            }
        }
        if min >= max {
            return Err(invalid(format!("MINVALUE ({min}) must be less than MAXVALUE ({max})")));
        }
        let start = o.start.or(old.map(|s| s.start)).unwrap_or(if increment > 0 { min } else { max });
        if start < min {
            return Err(invalid(format!("START value ({start}) cannot be less than MINVALUE ({min})")));
        }
        if start > max {
            return Err(invalid(format!("START value ({start}) cannot be greater than MAXVALUE ({max})")));
        }
        let cache = o.cache.or(old.map(|s| s.cache)).unwrap_or(1);
        if cache <= 0 {
            return Err(invalid(format!("CACHE ({cache}) must be greater than zero")));
        }
        let cycle = o.cycle.or(old.map(|s| s.cycle)).unwrap_or(false);
        let owned_by = old.and_then(|s| s.owned_by);
        Ok(SequenceSpec { type_oid, start, increment, min, max, cache, cycle, owned_by })
    }

    /// ALTER SEQUENCE, and the options of identity columns.
    pub(super) fn alter_sequence(&mut self, object: &Object, options: &SequenceOptions) -> Result<()> {
        let ObjectBody::Sequence(old) = &object.body else {
            return Err(Error::new(
                ErrorKind::WrongObjectType,
                format!("\"{}\" is not a sequence", object.name),
            ));
        };
        let mut spec = self.spec(Some(old), options, PgType::INT8)?;
        spec.owned_by = match &options.owned_by {
            Some(Some((table, column))) => Some(self.owner(table, column)?),
            Some(None) => None,
            None => old.owned_by,
        };
        if let Some(restart) = options.restart {
            let last = restart.unwrap_or(spec.start);
            if last < spec.min {
                let message = format!("RESTART value ({last}) cannot be less than MINVALUE ({})", spec.min);
                return Err(invalid(message));
            }
            if last > spec.max {
                let message =
                    format!("RESTART value ({last}) cannot be greater than MAXVALUE ({})", spec.max);
                return Err(invalid(message));
            }
            self.ops.push(DdlOp::Sequence(object.id, SequenceValue { last, called: false }));
        }
        let mut altered = object.clone();
        altered.body = ObjectBody::Sequence(spec);
        self.replace(altered)
    }

    /// The sequence of a serial or identity column, or of one whose DEFAULT is `nextval`.
    pub(super) fn column_sequence(
        &mut self,
        schema: &str,
        table: &str,
        id: ObjectId,
        number: usize,
        column: &mut Column,
        def: &ColumnDef,
    ) -> Result<()> {
        let serial = serial_type(&def.data_type).filter(|_| def.identity.is_none());
        for (taken, what) in [(&def.default, "default"), (&def.generated, "generation expression")] {
            if taken.is_some() && def.identity.is_some() {
                return Err(Error::new(
                    ErrorKind::Syntax,
                    format!(
                        "both {what} and identity specified for column \"{}\" of table \"{table}\"",
                        def.name
                    ),
                ));
            }
        }
        let usage = match (&def.identity, serial) {
            (Some(identity), _) if identity.always => SequenceUse::Always,
            (Some(_), _) => SequenceUse::ByDefault,
            (None, Some(_)) if def.default.is_some() => {
                return Err(Error::new(
                    ErrorKind::Syntax,
                    format!(
                        "multiple default values specified for column \"{}\" of table \"{table}\"",
                        def.name
                    ),
                ));
            }
            (None, Some(_)) => SequenceUse::Default,
            (None, None) => return self.default_sequence(column),
        };
        let none = SequenceOptions::default();
        let options = def.identity.as_ref().map_or(&none, |i| &i.options);
        if bounds(column.type_oid).is_none() {
            return Err(invalid("identity column type must be smallint, integer, or bigint"));
        }
        let mut spec = self.spec(None, options, column.pg_type())?;
        spec.owned_by = Some((id, number));
        let name = self.free_sequence_name(schema, table, &column.name);
        let sequence = self.add_sequence(schema, &name, spec)?;
        column.nullable = false;
        column.sequence = Some(ColumnSequence { id: sequence, usage });
        if usage == SequenceUse::Default {
            column.default = Some(default_text(schema, &name, &self.search_path));
        }
        Ok(())
    }

    /// Notes the sequence of a DEFAULT that is just `nextval('…')`, so that it can be renamed.
    pub(super) fn default_sequence(&mut self, column: &mut Column) -> Result<()> {
        let Some(text) = &column.default else { return Ok(()) };
        let lower = text.trim().to_ascii_lowercase();
        let Some(inner) = lower.strip_prefix("nextval(").and_then(|t| t.strip_suffix(')')) else {
            return Ok(());
        };
        let inner = inner.trim().trim_end_matches("::regclass").trim();
        let plain = inner.strip_prefix('\'').and_then(|t| t.strip_suffix('\''));
        let Some(name) = plain.filter(|n| !n.contains(['\'', '"'])) else { return Ok(()) };
        let name = match name.split_once('.') {
            Some((schema, name)) => Name::in_schema(schema, name),
            None => Name::bare(name),
        };
        if let Some(sequence) = self.find(&name).filter(|o| matches!(o.body, ObjectBody::Sequence(_))) {
            column.sequence = Some(ColumnSequence { id: sequence.id, usage: SequenceUse::Default });
        }
        Ok(())
    }

    fn free_sequence_name(&self, schema: &str, table: &str, column: &str) -> String {
        let base = format!("{table}_{column}_seq");
        std::iter::once(base.clone())
            .chain((1..).map(|n| format!("{base}{n}")))
            .find(|name| self.catalog.find(schema, name).is_none())
            .unwrap_or(base)
    }
}
