//! `nextval`, `currval`, `setval`, `lastval`: calls that reach the session's sequences.
//!
//! Boundary: the sequence is found when the call is bound; its values come from a [`SequenceSource`].

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, Int64Array};
use arrow::datatypes::{DataType, Int64Type};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::resolve::Operand;
use super::{BindContext, Resolver, SequenceSource};
use crate::catalog::{Object, ObjectBody, ObjectId};
use crate::error::{Error, ErrorKind, Result};
use crate::sql::functions::cast::CastContext;
use crate::sql::functions::{DfResult, df_error};
use crate::types::PgType;

/// The functions bound here.
pub const FUNCTIONS: [&str; 5] = ["nextval", "currval", "setval", "lastval", "pg_get_serial_sequence"];

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum What {
    Next,
    Current,
    Last,
    Set,
}

/// A call on a sequence.
struct SequenceCall {
    what: What,
    sequence: Option<Arc<Object>>,
    source: Arc<dyn SequenceSource>,
    signature: Signature,
}

impl SequenceCall {
    fn id(&self) -> Option<ObjectId> {
        self.sequence.as_ref().map(|s| s.id)
    }

    fn sequence(&self) -> Result<&Object> {
        self.sequence.as_deref().ok_or_else(|| Error::internal("a call without its sequence"))
    }
}

impl fmt::Debug for SequenceCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SequenceCall({:?} {:?})", self.what, self.id())
    }
}
impl PartialEq for SequenceCall {
    fn eq(&self, other: &Self) -> bool {
        self.what == other.what && self.id() == other.id()
    }
}
impl Eq for SequenceCall {}
impl Hash for SequenceCall {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.what.hash(state);
        self.id().hash(state);
    }
}

impl ScalarUDFImpl for SequenceCall {
    fn name(&self) -> &str {
        match self.what {
            What::Next => "nextval",
            What::Current => "currval",
            What::Last => "lastval",
            What::Set => "setval",
        }
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        Ok(DataType::Int64)
    }
    fn coerce_types(&self, types: &[DataType]) -> DfResult<Vec<DataType>> {
        Ok(types.to_vec())
    }
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let value = |v: i64| ColumnarValue::Scalar(ScalarValue::Int64(Some(v)));
        (|| -> Result<ColumnarValue> {
            Ok(match self.what {
                What::Next => {
                    let values = self.source.next(self.sequence()?, args.number_rows)?;
                    ColumnarValue::Array(Arc::new(Int64Array::from(values)))
                }
                What::Current => value(self.source.current(self.sequence()?)?),
                What::Last => value(self.source.last()?),
                What::Set => {
                    let arrays = args
                        .args
                        .iter()
                        .map(|a| a.to_array(args.number_rows))
                        .collect::<DfResult<Vec<_>>>()?;
                    let values = arrays[0].as_primitive::<Int64Type>();
                    let called = match arrays.get(1) {
                        Some(called) => called.as_boolean().clone(),
                        None => BooleanArray::from(vec![true; values.len()]),
                    };
                    for (value, called) in values.iter().zip(&called) {
                        if let (Some(value), Some(called)) = (value, called) {
                            self.source.set(self.sequence()?, value, called)?;
                        }
                    }
                    ColumnarValue::Array(Arc::new(values.clone()))
                }
            })
        })()
        .map_err(df_error)
    }
}

/// A call of `nextval` on a known sequence.
pub(super) fn next_of(id: ObjectId, context: &BindContext) -> Result<Expr> {
    let sequence =
        context.catalog.get(id).cloned().ok_or_else(|| {
            Error::new(ErrorKind::UndefinedTable, "the sequence of a column has been dropped")
        })?;
    call(What::Next, Some(sequence), vec![], context)
}

fn call(what: What, sequence: Option<Arc<Object>>, args: Vec<Expr>, context: &BindContext) -> Result<Expr> {
    let source =
        context.sequences.clone().ok_or_else(|| Error::unsupported("a sequence cannot be used here"))?;
    let signature = Signature::user_defined(Volatility::Volatile);
    let udf = ScalarUDF::from(SequenceCall { what, sequence, source, signature });
    Ok(Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(udf), args)))
}

impl Resolver<'_> {
    /// The meaning of a call of one of [`FUNCTIONS`].
    pub(super) fn sequence_call(&mut self, name: &str, mut args: Vec<Operand>) -> Result<Expr> {
        let wrong = |args: &[Operand]| {
            let types: Vec<String> =
                args.iter().map(|a| a.known().map_or("unknown".into(), |t| t.sql_name())).collect();
            Error::new(
                ErrorKind::UndefinedFunction,
                format!("function {name}({}) does not exist", types.join(", ")),
            )
        };
        if name == "pg_get_serial_sequence" {
            let [table, column] = args.as_slice() else { return Err(wrong(&args)) };
            let (table, column) = (constant(table, name)?, constant(column, name)?);
            let found = serial_sequence(&table, &column, self.context)?;
            return Ok(Expr::Literal(ScalarValue::Utf8(found), None));
        }
        if name == "lastval" {
            return if args.is_empty() {
                call(What::Last, None, vec![], self.context)
            } else {
                Err(wrong(&args))
            };
        }
        if args.is_empty() {
            return Err(wrong(&args));
        }
        let sequence = find(&constant(&args.remove(0), name)?, self.context)?;
        match (name, args.len()) {
            ("nextval", 0) => call(What::Next, Some(sequence), vec![], self.context),
            ("currval", 0) => call(What::Current, Some(sequence), vec![], self.context),
            ("setval", 1 | 2) => {
                let types = [PgType::INT8, PgType::BOOL];
                let mut exprs = Vec::with_capacity(2);
                for (arg, to) in args.into_iter().zip(types) {
                    exprs.push(self.coerce(arg, to, CastContext::Implicit)?);
                }
                call(What::Set, Some(sequence), exprs, self.context)
            }
            _ => Err(wrong(&args)),
        }
    }
}

fn constant(arg: &Operand, function: &str) -> Result<String> {
    let mut expr = &arg.expr;
    while let Expr::Alias(a) = expr {
        expr = &a.expr;
    }
    match expr {
        Expr::Literal(ScalarValue::Utf8(Some(text)), _) => Ok(text.clone()),
        _ => {
            Err(Error::unsupported(format!("{function}() of anything but a constant name is not supported"))
                .with_hint("Write the name of the sequence in quotes."))
        }
    }
}

/// The parts of a name as it stands in a text: folded unless quoted.
fn parts(name: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut quoted = false;
    let mut chars = name.trim().chars().peekable();
    while let Some(c) = chars.next() {
        let Some(last) = parts.last_mut() else { break };
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                last.push('"');
            }
            '"' => quoted = !quoted,
            '.' if !quoted => parts.push(String::new()),
            c if quoted => last.push(c),
            c => last.extend(c.to_lowercase()),
        }
    }
    parts
}

fn named(name: &str, context: &BindContext) -> Option<Arc<Object>> {
    match parts(name).as_slice() {
        [name] => context.search_path.iter().find_map(|s| context.catalog.find(s, name)).cloned(),
        [schema, name] => context.catalog.find(schema, name).cloned(),
        _ => None,
    }
}

/// The sequence that a text names.
pub(super) fn find(name: &str, context: &BindContext) -> Result<Arc<Object>> {
    let object = named(name, context).ok_or_else(|| {
        Error::new(
            ErrorKind::UndefinedTable,
            format!("relation \"{}\" does not exist", parts(name).join(".")),
        )
    })?;
    match object.body {
        ObjectBody::Sequence(_) => Ok(object),
        _ => Err(Error::new(ErrorKind::WrongObjectType, format!("\"{}\" is not a sequence", object.name))),
    }
}

fn serial_sequence(table: &str, column: &str, context: &BindContext) -> Result<Option<String>> {
    let object = named(table, context).ok_or_else(|| {
        Error::new(
            ErrorKind::UndefinedTable,
            format!("relation \"{}\" does not exist", parts(table).join(".")),
        )
    })?;
    let Some((number, _)) = object.live_columns().find(|(_, c)| c.name == column) else {
        return Err(Error::new(
            ErrorKind::UndefinedColumn,
            format!("column \"{column}\" of relation \"{}\" does not exist", object.name),
        ));
    };
    let owner = Some((object.id, number));
    let owned = context.catalog.dependents(object.id).into_iter().find(|o| match &o.body {
        ObjectBody::Sequence(s) => s.owned_by == owner,
        _ => false,
    });
    let quote = crate::catalog::system::quote_ident;
    Ok(owned.map(|s| format!("{}.{}", quote(&s.schema), quote(&s.name))))
}
