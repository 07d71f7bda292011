//! The functions and operators of the SQL dialect, with PostgreSQL's types and errors.
//!
//! While DataFusion's SQL planner runs, every function and operator is a [`Symbol`]: a name without a type.
//! The binder then replaces each symbol, arguments first, by what it means for the types of its arguments:
//! a function of DataFusion where it agrees with PostgreSQL, one of our [`Native`] kernels where it does not.
//!
//! Boundary: expressions and column kernels; nothing of relations or statements.

pub mod aggregates;
pub mod arrays;
pub mod cast;
pub mod datetime;
pub mod intervals;
pub mod json;
pub mod json_build;
pub mod json_text;
pub mod kernel;
pub mod numbers;
pub mod operators;
pub mod pattern;
pub mod periods;
pub mod regexps;
pub mod registry;
pub mod sets;
pub mod strings;
pub mod texts;
pub mod times;
pub mod to_char;
pub mod to_char_number;
pub mod windows;

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{DataFusionError, ScalarValue};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::error::{Error, ErrorKind};

/// What DataFusion calls return.
pub type DfResult<T> = std::result::Result<T, DataFusionError>;

/// Key of the field metadata that says how a numeric is to be displayed.
pub const NUMERIC_DISPLAY: &str = "pg.numeric";
/// Its value for results of division and avg: PostgreSQL chooses their digits by their magnitude.
pub const NUMERIC_DIVISION: &str = "div";
/// Its value for results of arithmetic with operands that show as many digits as they have.
pub const NUMERIC_TRIMMED: &str = "trim";
/// A variance: like a quotient, but nothing is "0".
pub const NUMERIC_VARIANCE: &str = "var";
/// A standard deviation: with the digits of its square.
pub const NUMERIC_DEVIATION: &str = "dev";
/// Scale in which quotients are kept.
pub const DIVISION_SCALE: i8 = 20;

/// The symbol around each cell of a VALUES list, which keeps DataFusion from deciding its type.
pub const VALUES_ITEM: &str = "values_item";

/// Passes one of our errors through DataFusion; `Error::from` takes it out again.
pub fn df_error(e: impl Into<Error>) -> DataFusionError {
    DataFusionError::External(Box::new(e.into()))
}

/// Calls over deeper trees are named by a hash of their arguments: DataFusion makes the name of every level of a
/// tree anew, and names that spell the tree out would take time cubic in its depth.
const SPELLED_DEPTH: usize = 10;

/// The short name of a call over deep arguments.
fn short_name(name: &str, args: &[Expr]) -> Option<String> {
    if !args.iter().any(|a| deeper_than(a, SPELLED_DEPTH)) {
        return None;
    }
    let mut hasher = std::hash::DefaultHasher::new();
    args.hash(&mut hasher);
    Some(format!("{name}(#{:016x})", hasher.finish()))
}

fn deeper_than(expr: &Expr, levels: usize) -> bool {
    use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
    if levels == 0 {
        return true;
    }
    let mut found = false;
    // The closure never fails, so neither does the walk.
    let _ = expr.apply_children(|child| {
        found = deeper_than(child, levels - 1);
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    found
}

/// A function or operator whose meaning is not yet known, because its arguments have no final types yet.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Symbol {
    name: String,
    signature: Signature,
}

impl Symbol {
    /// The symbol of this name.
    pub fn udf(name: &str) -> Arc<ScalarUDF> {
        let volatility =
            if registry::is_volatile(name) { Volatility::Volatile } else { Volatility::Immutable };
        Arc::new(ScalarUDF::from(Symbol {
            name: name.to_string(),
            signature: Signature::user_defined(volatility),
        }))
    }

    /// A call of it.
    pub fn call(name: &str, args: Vec<Expr>) -> Expr {
        Expr::ScalarFunction(ScalarFunction::new_udf(Symbol::udf(name), args))
    }
}

impl ScalarUDFImpl for Symbol {
    fn name(&self) -> &str {
        &self.name
    }
    fn schema_name(&self, args: &[Expr]) -> DfResult<String> {
        Ok(short_name(&self.name, args).unwrap_or_else(|| {
            let args: Vec<String> = args.iter().map(|a| a.schema_name().to_string()).collect();
            format!("{}({})", self.name, args.join(","))
        }))
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, arg_types: &[DataType]) -> DfResult<DataType> {
        Ok(registry::provisional_type(&self.name, arg_types))
    }
    fn coerce_types(&self, arg_types: &[DataType]) -> DfResult<Vec<DataType>> {
        Ok(arg_types.to_vec())
    }
    fn invoke_with_args(&self, _args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        Err(df_error(Error::internal(format!("function {} was not resolved", self.name))))
    }
}

/// Computes a column from argument columns; the last parameter is the result type.
pub type Kernel = fn(&ScalarFunctionArgs, &DataType) -> DfResult<ColumnarValue>;

/// A function of ours whose argument and result types are settled.
pub struct Native {
    name: String,
    result: FieldRef,
    kernel: Kernel,
    signature: Signature,
}

impl fmt::Debug for Native {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Native({} -> {})", self.name, self.result.data_type())
    }
}

// The name and the result type decide the kernel.
impl PartialEq for Native {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.result == other.result && self.signature == other.signature
    }
}
impl Eq for Native {}
impl Hash for Native {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
        self.result.data_type().hash(state);
    }
}

impl Native {
    /// The type of the result, which does not depend on the arguments any more.
    pub fn result(&self) -> &FieldRef {
        &self.result
    }
}

impl ScalarUDFImpl for Native {
    fn name(&self) -> &str {
        &self.name
    }
    fn schema_name(&self, args: &[Expr]) -> DfResult<String> {
        if let Some(short) = short_name(&self.name, args) {
            return Ok(short);
        }
        let args: Vec<String> = args.iter().map(|a| a.schema_name().to_string()).collect();
        Ok(match args.as_slice() {
            [l, r] if !self.name.starts_with(|c: char| c.is_alphabetic()) => {
                format!("({l} {} {r})", self.name)
            }
            _ => format!("{}({})", self.name, args.join(", ")),
        })
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, _arg_types: &[DataType]) -> DfResult<DataType> {
        Ok(self.result.data_type().clone())
    }
    fn return_field_from_args(&self, _args: ReturnFieldArgs) -> DfResult<FieldRef> {
        Ok(self.result.clone())
    }
    fn coerce_types(&self, arg_types: &[DataType]) -> DfResult<Vec<DataType>> {
        Ok(arg_types.to_vec())
    }
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        // DataFusion's optimizer tries conditions over columns that have no type; it takes an error for "not known".
        if args.args.iter().any(|a| matches!(a, ColumnarValue::Array(c) if *c.data_type() == DataType::Null))
        {
            return Err(df_error(Error::internal(format!("{} of a column without type", self.name))));
        }
        (self.kernel)(&args, self.result.data_type())
    }
}

/// A call of one of our kernels. The name must be unique for kernel and argument types.
pub fn native(name: impl Into<String>, result: DataType, kernel: Kernel, args: Vec<Expr>) -> Expr {
    native_with(name, Field::new("", result, true), kernel, Volatility::Immutable, args)
}

/// A call of one of our kernels whose result is a numeric quotient.
pub fn native_quotient(name: impl Into<String>, result: DataType, kernel: Kernel, args: Vec<Expr>) -> Expr {
    let field = Field::new("", result, true)
        .with_metadata([(NUMERIC_DISPLAY.to_string(), NUMERIC_DIVISION.to_string())].into());
    native_with(name, field, kernel, Volatility::Immutable, args)
}

/// A call of one of our kernels whose result is a numeric that shows no trailing zeros.
pub fn native_trimmed(name: impl Into<String>, result: DataType, kernel: Kernel, args: Vec<Expr>) -> Expr {
    let field = Field::new("", result, true)
        .with_metadata([(NUMERIC_DISPLAY.to_string(), NUMERIC_TRIMMED.to_string())].into());
    native_with(name, field, kernel, Volatility::Immutable, args)
}

/// A call of one of our kernels, all of its properties given.
pub fn native_with(
    name: impl Into<String>,
    result: Field,
    kernel: Kernel,
    volatility: Volatility,
    args: Vec<Expr>,
) -> Expr {
    let name = name.into();
    let result = Arc::new(result.with_name(&name));
    let udf = Native { name, result, kernel, signature: Signature::user_defined(volatility) };
    Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(ScalarUDF::from(udf)), args))
}

/// The arguments as arrays of one length, and whether all were scalars (then the length is one).
pub fn as_arrays(args: &ScalarFunctionArgs) -> DfResult<(Vec<ArrayRef>, bool)> {
    let scalar = args.args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_)));
    let rows = if scalar { 1 } else { args.number_rows };
    let arrays = args.args.iter().map(|a| a.to_array(rows)).collect::<DfResult<Vec<_>>>()?;
    Ok((arrays, scalar))
}

/// The result of a kernel over [`as_arrays`].
pub fn from_array(array: ArrayRef, scalar: bool) -> DfResult<ColumnarValue> {
    Ok(if scalar {
        ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?)
    } else {
        ColumnarValue::Array(array)
    })
}

/// PostgreSQL's refusal of a call that no function fits.
pub fn no_function(name: &str, arg_types: &[String]) -> Error {
    Error::new(
        ErrorKind::UndefinedFunction,
        format!("function {name}({}) does not exist", arg_types.join(", ")),
    )
    .with_hint(
        "No function matches the given name and argument types. You might need to add explicit type casts.",
    )
}

/// PostgreSQL's refusal of an operator that no types fit.
pub fn no_operator(left: Option<&str>, op: &str, right: &str) -> Error {
    let message = match left {
        Some(left) => format!("operator does not exist: {left} {op} {right}"),
        None => format!("operator does not exist: {op} {right}"),
    };
    Error::new(ErrorKind::UndefinedFunction, message).with_hint(
        "No operator matches the given name and argument types. You might need to add explicit type casts.",
    )
}
