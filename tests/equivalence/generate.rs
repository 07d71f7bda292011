//! Random cases: small domains, so that keys meet, rows repeat, groups come and go.
//!
//! Everything is derived from the seed. Values are chosen so that the right answer does not depend on the order of
//! addition (floating-point numbers are multiples of 1/4) and nothing overflows.

use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::case::{Case, Change, Column, Input, Item, Query, Relation, Select, Step, Table, Ty, View};

/// Rows that a join may give at most, by estimate.
const MAX_ROWS: usize = 3000;
const COLUMN_TYPES: [Ty; 8] = [Ty::Int, Ty::Int, Ty::Big, Ty::Num, Ty::Float, Ty::Text, Ty::Bool, Ty::Date];

/// What a query can be made over.
#[derive(Clone)]
struct Source {
    name: String,
    columns: Vec<Column>,
    size: usize,
    beyond: bool,
}

/// A column that an expression may use.
#[derive(Clone)]
struct Reach {
    text: String,
    ty: Ty,
}

struct Generator {
    rng: ChaCha8Rng,
    names: usize,
    next_id: i64,
    beyond: bool,
}

/// The case of a seed.
pub fn case(seed: u64) -> Case {
    let mut g = Generator { rng: ChaCha8Rng::seed_from_u64(seed), names: 0, next_id: 1, beyond: false };
    let tables: Vec<Table> = (0..g.rng.random_range(2..=3)).map(|i| g.table(i)).collect();
    let mut sources: Vec<Source> = tables
        .iter()
        .map(|t| Source { name: t.name.clone(), columns: t.columns.clone(), size: 20, beyond: false })
        .collect();
    let mut views = Vec::new();
    for i in 0..g.rng.random_range(5..=8) {
        g.beyond = false;
        let (query, size) = g.query(&sources, 2);
        let name = format!("v{i}");
        sources.push(Source { name: name.clone(), columns: query.columns(), size, beyond: g.beyond });
        views.push(View { name, query, beyond: g.beyond });
    }
    let steps = g.steps(&tables, views.len());
    Case { tables, views, steps }
}

impl Generator {
    fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }

    fn name(&mut self, prefix: &str) -> String {
        self.names += 1;
        format!("{prefix}{}", self.names)
    }

    fn table(&mut self, number: usize) -> Table {
        let mut columns = vec![
            Column { name: "id".into(), ty: Ty::Int },
            Column { name: "k".into(), ty: Ty::Int },
            Column { name: "s".into(), ty: Ty::Text },
        ];
        for i in 0..self.rng.random_range(1..=4) {
            let ty = *COLUMN_TYPES.choose(&mut self.rng).expect("not empty");
            columns.push(Column { name: format!("c{i}"), ty });
        }
        let not_null = (1..columns.len()).filter(|_| self.chance(15)).collect();
        Table { name: format!("t{number}"), columns, keyed: self.chance(50), not_null }
    }

    // ---- values and expressions -----------------------------------------------------------------

    /// A literal for VALUES.
    fn value(&mut self, ty: Ty, nullable: bool) -> String {
        if nullable && self.chance(18) {
            return "NULL".into();
        }
        // Skew: more than half of all rows share one value.
        let skewed = self.chance(45);
        let n = if skewed { 1 } else { self.rng.random_range(-2..=6i64) };
        match ty {
            Ty::Int | Ty::Big => n.to_string(),
            Ty::Num | Ty::Average => format!("{n}.{}", ["00", "50", "25", "01"][self.rng.random_range(0..4)]),
            Ty::Float => format!("{n}.{}", ["0", "5", "25", "75"][self.rng.random_range(0..4)]),
            Ty::Text => format!("'{}'", ["a", "b", "", "Ab", "é", "a b", "ba"][n.rem_euclid(7) as usize]),
            Ty::Bool => (n % 2 == 0).to_string(),
            Ty::Date => format!("'2024-01-0{}'", n + 3),
        }
    }

    /// A literal with its type.
    fn literal(&mut self, ty: Ty) -> String {
        if self.chance(4) {
            return format!("NULL::{}", ty.sql());
        }
        let mut value = self.value(ty, false);
        if value.starts_with('-') {
            // A cast binds more tightly than the sign.
            value = format!("({value})");
        }
        match ty {
            Ty::Int | Ty::Num | Ty::Average | Ty::Text | Ty::Bool => value,
            Ty::Big => format!("{value}::bigint"),
            Ty::Float => format!("{value}::float8"),
            Ty::Date => format!("date {value}"),
        }
    }

    fn column(&mut self, scope: &[Reach], ty: Ty) -> Option<String> {
        let fitting: Vec<&Reach> = scope.iter().filter(|r| r.ty == ty).collect();
        fitting.choose(&mut self.rng).map(|r| r.text.clone())
    }

    fn leaf(&mut self, scope: &[Reach], ty: Ty) -> String {
        match self.column(scope, ty) {
            Some(c) if self.chance(85) => c,
            _ => self.literal(ty),
        }
    }

    /// A scalar expression of a type.
    fn scalar(&mut self, scope: &[Reach], ty: Ty, depth: usize) -> String {
        if depth == 0 || self.chance(45) {
            return self.leaf(scope, ty);
        }
        if self.chance(20) {
            let (a, b) = (self.scalar(scope, ty, depth - 1), self.scalar(scope, ty, depth - 1));
            return match self.rng.random_range(0..3) {
                0 => format!("CASE WHEN {} THEN {a} ELSE {b} END", self.predicate(scope, depth - 1)),
                1 => format!("coalesce({a}, {b})"),
                _ => format!("nullif({a}, {b})"),
            };
        }
        let a = self.scalar(scope, ty, depth - 1);
        match ty {
            Ty::Int | Ty::Big => {
                let b = self.leaf(scope, Ty::Int);
                match self.rng.random_range(0..8) {
                    0 | 1 => format!("({a} + {b})"),
                    2 => format!("({a} - {b})"),
                    3 => format!("({a} * 2)"),
                    4 => format!("({a} / 2)"),
                    5 => format!("({a} % 3)"),
                    6 if ty == Ty::Int => format!("length({})", self.leaf(scope, Ty::Text)),
                    _ => format!("abs({a})"),
                }
            }
            Ty::Num => match self.rng.random_range(0..4) {
                0 => format!("({a} + {})", self.leaf(scope, Ty::Num)),
                1 => format!("({a} - {})", self.leaf(scope, Ty::Int)),
                2 => format!("({a} * 2)"),
                _ => format!("abs({a})"),
            },
            Ty::Float => match self.rng.random_range(0..4) {
                0 => format!("({a} + {})", self.leaf(scope, Ty::Float)),
                1 => format!("({a} - {})", self.leaf(scope, Ty::Int)),
                2 => format!("({a} * 0.5::float8)"),
                _ => format!("abs({a})"),
            },
            Ty::Text => match self.rng.random_range(0..5) {
                0 => format!("({a} || {})", self.leaf(scope, Ty::Text)),
                1 => format!("upper({a})"),
                2 => format!("lower({a})"),
                3 => format!("substr({a}, 1, 1)"),
                _ => format!("({}::text)", self.leaf(scope, Ty::Int)),
            },
            Ty::Bool => self.predicate(scope, depth - 1),
            Ty::Date => format!("({a} + 1)"),
            Ty::Average => a,
        }
    }

    /// A condition.
    fn predicate(&mut self, scope: &[Reach], depth: usize) -> String {
        let kinds = [Ty::Int, Ty::Int, Ty::Big, Ty::Num, Ty::Float, Ty::Text, Ty::Text, Ty::Date, Ty::Bool];
        let usable: Vec<Ty> = kinds.iter().copied().filter(|t| scope.iter().any(|r| r.ty == *t)).collect();
        let ty = usable.choose(&mut self.rng).copied().unwrap_or(Ty::Int);
        if depth > 0 && self.chance(30) {
            let (a, b) = (self.predicate(scope, depth - 1), self.predicate(scope, depth - 1));
            return match self.rng.random_range(0..5) {
                0 | 1 => format!("({a} OR {b})"),
                2 | 3 => format!("({a} AND {b})"),
                _ => format!("(NOT {a})"),
            };
        }
        let a = self.scalar(scope, ty, depth);
        match self.rng.random_range(0..12) {
            0 => format!("({a} IS NULL)"),
            1 | 2 => format!("({a} IS NOT NULL)"),
            3 => format!("({a} IS DISTINCT FROM {})", self.leaf(scope, ty)),
            4 => format!("({a} IN ({}, {}))", self.literal(ty), self.literal(ty)),
            5 if ty == Ty::Text => {
                format!("({a} LIKE '{}')", ["a%", "%b%", "_", "%"][self.rng.random_range(0..4)])
            }
            5 => format!("({a} BETWEEN {} AND {})", self.literal(ty), self.literal(ty)),
            6 if ty == Ty::Bool => a,
            n => {
                let b = if self.chance(50) { self.literal(ty) } else { self.leaf(scope, ty) };
                let op = ["=", "<>", "<", "<=", ">", ">="][n % 6];
                format!("({a} {op} {b})")
            }
        }
    }

    // ---- queries --------------------------------------------------------------------------------

    /// A query and about how many rows it gives.
    fn query(&mut self, sources: &[Source], depth: usize) -> (Query, usize) {
        let mut ctes = Vec::new();
        let mut sources = sources.to_vec();
        if depth > 0 && self.chance(20) {
            for _ in 0..self.rng.random_range(1..=2) {
                let (query, size) = self.query(&sources, depth - 1);
                let name = self.name("w");
                // Favoured over the rest, so that it is used, perhaps twice.
                for _ in 0..3 {
                    let columns = query.columns();
                    sources.push(Source { name: name.clone(), columns, size, beyond: false });
                }
                ctes.push((name, query));
            }
        }
        let (first, mut size) = self.select(&sources, depth, None);
        let types: Vec<Ty> = first.items.iter().map(|i| i.ty).collect();
        let mut branches = vec![first];
        if self.chance(22) && !types.contains(&Ty::Average) {
            for _ in 0..self.rng.random_range(1..=2) {
                let (mut next, n) = self.select(&sources, depth, Some(&types));
                for (item, like) in next.items.iter_mut().zip(&branches[0].items) {
                    item.name.clone_from(&like.name);
                }
                next.connected = ["", "", "UNION", "EXCEPT", "EXCEPT ALL", "INTERSECT", "INTERSECT ALL"]
                    [self.rng.random_range(0..7)];
                size += n;
                branches.push(next);
            }
        }
        let mut tail = String::new();
        if self.chance(5) {
            self.beyond = true;
            let order: Vec<String> = (1..=types.len())
                .map(|i| format!("{i}{}", if self.chance(30) { " DESC" } else { "" }))
                .collect();
            tail = format!(" ORDER BY {} LIMIT {}", order.join(", "), self.rng.random_range(1..8));
        }
        (Query { ctes, branches, tail }, size)
    }

    fn select(&mut self, sources: &[Source], depth: usize, types: Option<&[Ty]>) -> (Select, usize) {
        let (from, scope, size) = self.from(sources, depth);
        let mut out = Select { from, ..Select::default() };
        for _ in 0..[0, 0, 0, 1, 1, 2][self.rng.random_range(0..6)] {
            let p = self.predicate(&scope, 2);
            out.filters.push(p);
        }
        if self.chance(15) {
            let p = self.subquery_predicate(sources, &scope);
            out.filters.push(p);
        }
        // Averages cannot be asked for by type: a branch of a union passes through plain expressions.
        let grouped = self.chance(50);
        if grouped {
            self.aggregate(&mut out, &scope, types);
            let size = if out.group.is_empty() { 1 } else { size.min(30) };
            return (out, size);
        }
        let wanted: Vec<Ty> = match types {
            Some(t) => t.to_vec(),
            None => (0..self.rng.random_range(1..=4))
                .map(|_| scope.choose(&mut self.rng).expect("a relation has columns").ty)
                .collect(),
        };
        for ty in wanted {
            let expr = match ty {
                Ty::Int | Ty::Big | Ty::Bool if self.chance(8) => self.subquery_value(sources, &scope, ty),
                _ => self.scalar(&scope, ty, 2),
            };
            let name = self.name("x");
            // An untyped NULL or text literal takes its type from its place; the place must not differ by engine.
            let expr = if expr.contains('.') { expr } else { format!("({expr})::{}", ty.sql()) };
            out.items.push(Item { expr, filter: None, name, ty });
        }
        if types.is_none() && self.chance(25) {
            let item = self.window(&scope);
            out.items.push(item);
        }
        out.distinct = self.chance(20);
        let size = if out.distinct { size.min(60) } else { size };
        (out, size)
    }

    /// A window function. Where ties would show, all columns are in its ORDER BY: equal rows are interchangeable.
    fn window(&mut self, scope: &[Reach]) -> Item {
        let exact: Vec<Reach> = scope.iter().filter(|r| r.ty != Ty::Average).cloned().collect();
        let pick = |g: &mut Self| exact.choose(&mut g.rng).expect("a key or a text").clone();
        let direction =
            |g: &mut Self| ["", " DESC", " NULLS FIRST", " DESC NULLS LAST"][g.rng.random_range(0..4)];
        let partition = match self.chance(60) {
            true => format!("PARTITION BY {} ", pick(self).text),
            false => String::new(),
        };
        let key = pick(self);
        let first = format!("{}{}", key.text, direction(self));
        let all: Vec<String> = exact.iter().filter(|r| r.text != key.text).map(|r| r.text.clone()).collect();
        let total = [vec![first.clone()], all].concat().join(", ");
        let whole = exact.len() == scope.len();
        let frame = |g: &mut Self, units: &[&str]| -> String {
            let start = ["UNBOUNDED PRECEDING", "2 PRECEDING", "CURRENT ROW"][g.rng.random_range(0..3)];
            let end = ["CURRENT ROW", "1 FOLLOWING", "UNBOUNDED FOLLOWING"][g.rng.random_range(0..3)];
            let exclude = ["", "", "", " EXCLUDE TIES", " EXCLUDE CURRENT ROW"][g.rng.random_range(0..5)];
            format!(" {} BETWEEN {start} AND {end}{exclude}", units[g.rng.random_range(0..units.len())])
        };
        let number = matches!(key.ty, Ty::Int | Ty::Big | Ty::Num);
        let value = pick(self);
        let (call, order, ty) = match self.rng.random_range(0..if whole { 9 } else { 5 }) {
            0 => ("rank()".to_string(), first, Ty::Big),
            1 => ("dense_rank()".to_string(), first, Ty::Big),
            2 => (format!("count({})", value.text), first + &frame(self, &["GROUPS"]), Ty::Big),
            3 => {
                let units: &[&str] = if number { &["RANGE", "GROUPS"] } else { &["GROUPS"] };
                ("count(*)".to_string(), first + &frame(self, units), Ty::Big)
            }
            4 if value.ty != Ty::Bool => {
                let name = ["min", "max"][self.rng.random_range(0..2)];
                (format!("{name}({})", value.text), first + &frame(self, &["GROUPS"]), value.ty)
            }
            4 => ("rank()".to_string(), first, Ty::Big),
            5 => ("row_number()".to_string(), total, Ty::Big),
            6 => {
                let name = ["lag", "lead"][self.rng.random_range(0..2)];
                (format!("{name}({}, {})", value.text, self.rng.random_range(1..3)), total, value.ty)
            }
            7 => {
                let name = ["first_value", "last_value"][self.rng.random_range(0..2)];
                (format!("{name}({})", value.text), total + &frame(self, &["ROWS", "GROUPS"]), value.ty)
            }
            _ => {
                let int = exact.iter().find(|r| r.ty == Ty::Int).map_or("1".to_string(), |r| r.text.clone());
                (format!("sum({int})"), total + &frame(self, &["ROWS"]), Ty::Big)
            }
        };
        let name = self.name("w");
        Item { expr: format!("{call} OVER ({partition}ORDER BY {order})"), filter: None, name, ty }
    }

    fn aggregate(&mut self, out: &mut Select, scope: &[Reach], types: Option<&[Ty]>) {
        let keys = self.rng.random_range(0..=2);
        for _ in 0..keys {
            let column = scope.choose(&mut self.rng).expect("a relation has columns").clone();
            if out.group.contains(&column.text) || column.ty == Ty::Average {
                continue;
            }
            // Either the column itself or something of it.
            let key = match column.ty {
                Ty::Int if self.chance(30) => format!("({} % 2)", column.text),
                Ty::Text if self.chance(30) => format!("upper({})", column.text),
                Ty::Bool if self.chance(30) => format!("({} IS NULL)", column.text),
                _ => column.text.clone(),
            };
            out.group.push(key.clone());
            if types.is_none() && self.chance(85) {
                let name = self.name("g");
                out.items.push(Item { expr: key, filter: None, name, ty: column.ty });
            }
        }
        if !out.group.is_empty() && self.chance(15) {
            out.sets = if self.chance(60) { "ROLLUP" } else { "CUBE" };
            if types.is_none() {
                // One key alone: what PostgreSQL and DataFusion number must be the same for any of them.
                let key = out.group.choose(&mut self.rng).expect("not empty").clone();
                let name = self.name("x");
                out.items.push(Item { expr: format!("grouping({key})"), filter: None, name, ty: Ty::Int });
            }
        }
        match types {
            Some(types) => {
                for ty in types {
                    let (expr, filter) = self.aggregate_of(scope, *ty);
                    let name = self.name("x");
                    out.items.push(Item { expr, filter, name, ty: *ty });
                }
            }
            None => {
                let n = self.rng.random_range(u32::from(out.items.is_empty())..=3);
                for _ in 0..n {
                    let (expr, ty, filter) = self.any_aggregate(scope);
                    let name = self.name("x");
                    out.items.push(Item { expr, filter, name, ty });
                }
            }
        }
        if self.chance(30) {
            let (expr, ty, _) = self.any_aggregate(scope);
            let condition = match ty {
                Ty::Average => format!("({expr} > 1)"),
                ty => {
                    let op = ["<", ">", "<>", ">="][self.rng.random_range(0..4)];
                    format!("({expr} {op} {})", self.literal(ty))
                }
            };
            out.having.push(condition);
        }
    }

    fn filter(&mut self, scope: &[Reach]) -> Option<String> {
        self.chance(25).then(|| self.predicate(scope, 1))
    }

    /// An aggregate that gives this type.
    fn aggregate_of(&mut self, scope: &[Reach], ty: Ty) -> (String, Option<String>) {
        let filter = self.filter(scope);
        let expr = match ty {
            Ty::Big if self.chance(50) => "count(*)".to_string(),
            Ty::Big => format!("sum({})", self.scalar(scope, Ty::Int, 1)),
            Ty::Float => format!("sum({})", self.scalar(scope, Ty::Float, 1)),
            Ty::Bool => return (format!("(max({}) > 1)", self.scalar(scope, Ty::Int, 1)), None),
            ty => format!("{}({})", if self.chance(50) { "min" } else { "max" }, self.scalar(scope, ty, 1)),
        };
        (expr, filter)
    }

    fn any_aggregate(&mut self, scope: &[Reach]) -> (String, Ty, Option<String>) {
        let filter = self.filter(scope);
        if self.chance(40) {
            let (expr, ty) = self.rarer_aggregate(scope);
            // A cast around the call leaves no place for FILTER.
            let filter = filter.filter(|_| !expr.starts_with('('));
            return (expr, ty, filter);
        }
        let distinct = if self.chance(20) { "DISTINCT " } else { "" };
        let input = scope.choose(&mut self.rng).expect("a relation has columns").ty;
        let arg = self.scalar(scope, input, 1);
        let numeric = matches!(input, Ty::Int | Ty::Big | Ty::Num | Ty::Float);
        let (function, ty) = match self.rng.random_range(0..10) {
            0 | 1 => return ("count(*)".into(), Ty::Big, filter),
            2 => ("count", Ty::Big),
            3 | 4 if numeric => (
                "sum",
                match input {
                    Ty::Int => Ty::Big,
                    Ty::Float => Ty::Float,
                    _ => Ty::Num,
                },
            ),
            5 | 6 if numeric => ("avg", Ty::Average),
            n if input != Ty::Bool => (if n % 2 == 0 { "min" } else { "max" }, input),
            _ => ("count", Ty::Big),
        };
        (format!("{function}({distinct}{arg})"), ty, filter)
    }

    /// An aggregate beside count, sum, avg, min and max, whose result has one right text.
    fn rarer_aggregate(&mut self, scope: &[Reach]) -> (String, Ty) {
        let distinct = if self.chance(25) { "DISTINCT " } else { "" };
        let back = ["", " DESC", " NULLS FIRST", " DESC NULLS LAST"][self.rng.random_range(0..4)];
        let ordered =
            *[Ty::Int, Ty::Big, Ty::Float, Ty::Text, Ty::Date].choose(&mut self.rng).expect("not empty");
        let arg = self.scalar(scope, ordered, 1);
        // PostgreSQL finds no type for a bare literal.
        let arg = if arg.contains('.') { arg } else { format!("({arg})::{}", ordered.sql()) };
        let fraction = ["0", "0.25", "0.5", "0.75", "1"][self.rng.random_range(0..5)];
        match self.rng.random_range(0..12) {
            0 => (format!("bool_and({})", self.predicate(scope, 1)), Ty::Bool),
            1 => (format!("bool_or({})", self.predicate(scope, 1)), Ty::Bool),
            2 => {
                let name = ["bit_and", "bit_or", "bit_xor"][self.rng.random_range(0..3)];
                let ty = if self.chance(50) { Ty::Int } else { Ty::Big };
                (format!("{name}({distinct}({})::{})", self.scalar(scope, ty, 1), ty.sql()), ty)
            }
            3 | 4 => {
                let name = ["stddev", "stddev_pop", "variance", "var_pop"][self.rng.random_range(0..4)];
                let ty = if self.chance(60) { Ty::Int } else { Ty::Num };
                (format!("{name}({distinct}{})", self.scalar(scope, ty, 1)), Ty::Average)
            }
            5 => {
                let name = ["covar_pop", "covar_samp", "regr_sxx", "regr_avgy", "regr_sxy"];
                let name = name[self.rng.random_range(0..5)];
                let (y, x) = (self.scalar(scope, Ty::Float, 1), self.scalar(scope, Ty::Int, 1));
                (format!("{name}({y}, {x})"), Ty::Average)
            }
            6 | 7 => {
                let text = self.scalar(scope, Ty::Text, 1);
                // A bare literal has no type of its own that DISTINCT could find again in ORDER BY.
                let distinct = if text.contains('.') { distinct } else { "" };
                (format!("string_agg({distinct}{text}, ',' ORDER BY {text}{back})"), Ty::Text)
            }
            8 => (format!("percentile_disc({fraction}) WITHIN GROUP (ORDER BY {arg}{back})"), ordered),
            9 => {
                let ty = if self.chance(50) { Ty::Int } else { Ty::Float };
                let arg = self.scalar(scope, ty, 1);
                (format!("percentile_cont({fraction}) WITHIN GROUP (ORDER BY {arg}{back})"), Ty::Float)
            }
            10 => (format!("mode() WITHIN GROUP (ORDER BY {arg}{back})"), ordered),
            _ => {
                let arg = self.scalar(scope, Ty::Int, 1);
                let distinct = if arg.contains('.') { distinct } else { "" };
                (format!("(jsonb_agg({distinct}{arg} ORDER BY {arg}{back})::text)"), Ty::Text)
            }
        }
    }

    /// A relation for a subquery, its columns known as `q`, and a condition on them and on those around.
    fn subquery(&mut self, sources: &[Source], scope: &[Reach]) -> (String, Vec<Reach>, String) {
        let source = sources.choose(&mut self.rng).expect("there are tables").clone();
        self.beyond |= source.beyond;
        let inner: Vec<Reach> =
            source.columns.iter().map(|c| Reach { text: format!("q.{}", c.name), ty: c.ty }).collect();
        let column = self.leaf(&inner, Ty::Int);
        let outer = self.leaf(scope, Ty::Int);
        let own = self.predicate(&inner, 1);
        let condition = match self.rng.random_range(0..6) {
            0 => own,
            1 | 2 => format!("{column} = {outer} AND {own}"),
            3 => format!("{column} < {outer}"),
            4 => format!("{column} = {outer}"),
            _ => {
                let both: Vec<Reach> = inner.iter().chain(scope).cloned().collect();
                format!("({} OR {column} = {outer})", self.predicate(&both, 0))
            }
        };
        (source.name, inner, condition)
    }

    /// IN, EXISTS and comparisons with a subquery.
    fn subquery_predicate(&mut self, sources: &[Source], scope: &[Reach]) -> String {
        let (name, inner, condition) = self.subquery(sources, scope);
        let outer = self.leaf(scope, Ty::Int);
        let column = self.leaf(&inner, Ty::Int);
        let body = format!("FROM {name} AS q WHERE {condition}");
        let p = match self.rng.random_range(0..10) {
            0 => format!("({outer} IN (SELECT {column} {body}))"),
            1 => format!("({outer} NOT IN (SELECT {column} {body}))"),
            2 | 3 => format!("EXISTS (SELECT 1 {body})"),
            4 => format!("NOT EXISTS (SELECT 1 {body})"),
            5 => format!("({outer} >= (SELECT max({column}) {body}))"),
            6 => format!("((SELECT count(*) {body}) > 1)"),
            7 => {
                let (a, b) = (self.leaf(scope, Ty::Int), self.leaf(&inner, Ty::Int));
                format!("(({outer}, {a}) IN (SELECT {column}, {b} {body}))")
            }
            8 => format!("({outer} > ALL (SELECT {column} {body}))"),
            _ => format!("({outer} <= ANY (SELECT {column} {body}))"),
        };
        match self.rng.random_range(0..4) {
            0 => format!("({p} OR {})", self.predicate(scope, 0)),
            1 => format!("(NOT {p})"),
            _ => p,
        }
    }

    /// A subquery as a value.
    fn subquery_value(&mut self, sources: &[Source], scope: &[Reach], ty: Ty) -> String {
        let (name, inner, condition) = self.subquery(sources, scope);
        let column = self.leaf(&inner, Ty::Int);
        let body = format!("FROM {name} AS q WHERE {condition}");
        match ty {
            Ty::Bool => match self.rng.random_range(0..3) {
                0 => format!("EXISTS (SELECT 1 {body})"),
                1 => format!("({} IN (SELECT {column} {body}))", self.leaf(scope, Ty::Int)),
                _ => format!("({} NOT IN (SELECT {column} {body}))", self.leaf(scope, Ty::Int)),
            },
            Ty::Int if self.chance(40) => {
                format!("(SELECT {column} {body} ORDER BY 1 LIMIT 1)")
            }
            Ty::Int => format!("(SELECT max({column}) {body})"),
            _ => format!("(SELECT count(*) {body})"),
        }
    }

    /// A LATERAL subquery and its columns.
    fn lateral(&mut self, sources: &[Source], scope: &[Reach]) -> (String, Vec<Column>) {
        let (name, inner, condition) = self.subquery(sources, scope);
        let (a, b) = (self.leaf(&inner, Ty::Int), self.leaf(scope, Ty::Int));
        let body = format!("FROM {name} AS q WHERE {condition}");
        let text = match self.rng.random_range(0..5) {
            0 => format!("SELECT {a} AS y, ({b} + 1) AS z {body}"),
            1 => format!("SELECT count(*)::int AS y, max({a}) AS z {body}"),
            2 => format!("SELECT {a} AS y, {b} AS z {body} ORDER BY 1, 2 LIMIT 2"),
            3 => format!("SELECT {a} AS y, count(*)::int AS z {body} GROUP BY 1"),
            _ => format!("SELECT DISTINCT {a} AS y, {b} AS z {body}"),
        };
        let column = |name: &str| Column { name: name.into(), ty: Ty::Int };
        (text, vec![column("y"), column("z")])
    }

    fn from(&mut self, sources: &[Source], depth: usize) -> (Vec<Input>, Vec<Reach>, usize) {
        let wanted = [1, 1, 2, 2, 2, 3][self.rng.random_range(0..6)];
        let (mut inputs, mut scope, mut size) = (Vec::<Input>::new(), Vec::<Reach>::new(), 1);
        for i in 0..wanted {
            let lateral = i > 0 && size <= 200 && self.chance(8);
            let (relation, columns, rows) = if lateral {
                let (text, columns) = self.lateral(sources, &scope);
                (Relation::Lateral(text), columns, 5)
            } else if depth > 0 && self.chance(15) {
                let (query, rows) = self.query(sources, depth - 1);
                let columns = query.columns();
                (Relation::Query(Box::new(query)), columns, rows)
            } else {
                let source = sources.choose(&mut self.rng).expect("there are tables").clone();
                self.beyond |= source.beyond;
                (Relation::Named(source.name), source.columns, source.size)
            };
            if i > 0 && size * rows * 2 / 5 > MAX_ROWS {
                continue;
            }
            let alias = self.name("r");
            let new: Vec<Reach> =
                columns.iter().map(|c| Reach { text: format!("{alias}.{}", c.name), ty: c.ty }).collect();
            let (mut join, mut on) = ("JOIN", Vec::new());
            if i > 0 {
                on = self.equalities(&scope, &new);
                let small = size * rows <= 400;
                if lateral {
                    let both: Vec<Reach> = scope.iter().chain(&new).cloned().collect();
                    on = vec![if self.chance(50) { "true".into() } else { self.predicate(&both, 1) }];
                    join = if self.chance(50) { "JOIN" } else { "LEFT JOIN" };
                } else if small && self.chance(8) {
                    let both: Vec<Reach> = scope.iter().chain(&new).cloned().collect();
                    on = vec![self.predicate(&both, 1)];
                    join = ["JOIN", "LEFT JOIN", "RIGHT JOIN"][self.rng.random_range(0..3)];
                } else if on.is_empty() || (small && self.chance(5)) {
                    if !small {
                        continue;
                    }
                    (join, on) = ("CROSS JOIN", Vec::new());
                } else {
                    if self.chance(20) {
                        join = ["LEFT JOIN", "RIGHT JOIN", "FULL JOIN"][self.rng.random_range(0..3)];
                    }
                    if self.chance(20) {
                        let both: Vec<Reach> = scope.iter().chain(&new).cloned().collect();
                        on.push(self.predicate(&both, 1));
                    }
                }
                size = if join == "CROSS JOIN" { size * rows } else { (size * rows * 2 / 5).max(1) };
            } else {
                size = rows;
            }
            scope.extend(new);
            inputs.push(Input { relation, alias, join, on });
        }
        (inputs, scope, size)
    }

    /// One or two equal pairs between what is joined already and what is new; none when no types agree.
    fn equalities(&mut self, old: &[Reach], new: &[Reach]) -> Vec<String> {
        let mut pairs = Vec::new();
        for a in old {
            for b in new {
                let integers = |t: Ty| matches!(t, Ty::Int | Ty::Big);
                if a.ty != Ty::Average && (a.ty == b.ty || (integers(a.ty) && integers(b.ty))) {
                    pairs.push((a.text.clone(), b.text.clone()));
                }
            }
        }
        let n = if self.chance(25) { 2 } else { 1 };
        pairs.choose_multiple(&mut self.rng, n).map(|(a, b)| format!("{a} = {b}")).collect()
    }

    // ---- changes --------------------------------------------------------------------------------

    fn steps(&mut self, tables: &[Table], views: usize) -> Vec<Step> {
        let mut steps = Vec::new();
        let transactions = 10;
        // Some views start empty, some over rows that are there already.
        let mut created = 0;
        for t in 0..transactions {
            while created < views && (t >= 3 || self.chance(45)) {
                steps.push(Step::Create(created));
                created += 1;
            }
            let n = [1, 1, 2, 3, 5][self.rng.random_range(0..5)];
            let commits = !self.chance(7);
            let mut changes: Vec<Change> = (0..n).map(|_| self.change(tables, t)).collect();
            if t == 0 {
                for table in tables {
                    changes.push(self.insert(table, 10));
                    changes.push(self.insert(table, 10));
                }
            }
            steps.push(Step::Transaction(changes, commits || t == 0));
        }
        steps
    }

    fn insert(&mut self, table: &Table, most: usize) -> Change {
        let mut rows = Vec::new();
        for _ in 0..self.rng.random_range(1..=most) {
            let row: Vec<String> = table
                .columns
                .iter()
                .enumerate()
                .map(|(i, c)| {
                    if i == 0 && table.keyed {
                        self.next_id += 1;
                        self.next_id.to_string()
                    } else {
                        self.value(c.ty, !table.not_null.contains(&i))
                    }
                })
                .collect();
            rows.push(format!("({})", row.join(", ")));
            // A row that repeats exactly.
            if !table.keyed && self.chance(25) {
                rows.push(rows[rows.len() - 1].clone());
            }
        }
        Change::Insert { table: table.name.clone(), rows }
    }

    fn change(&mut self, tables: &[Table], step: usize) -> Change {
        let table = tables.choose(&mut self.rng).expect("there are tables");
        let scope: Vec<Reach> =
            table.columns.iter().map(|c| Reach { text: c.name.clone(), ty: c.ty }).collect();
        let name = &table.name;
        let kind = self.rng.random_range(0..20);
        match kind {
            _ if step == 0 => self.insert(table, 6),
            0..=7 => self.insert(table, 5),
            8..=13 => {
                let i = self.rng.random_range(1..table.columns.len());
                let (column, ty) = (&table.columns[i].name, table.columns[i].ty);
                let mut value = self.scalar(&scope, ty, 1);
                if table.not_null.contains(&i) {
                    value = format!("coalesce({value}, {})", self.value(ty, false));
                }
                Change::Other(format!(
                    "UPDATE {name} SET {column} = {value} WHERE {}",
                    self.predicate(&scope, 1)
                ))
            }
            14 if table.keyed => {
                // The key itself moves to where nobody is.
                self.next_id += 1;
                let (to, of) = (self.next_id, self.rng.random_range(1..self.next_id));
                Change::Other(format!("UPDATE {name} SET id = {to} WHERE id = {of}"))
            }
            15 if self.chance(20) => Change::Other(format!("DELETE FROM {name}")),
            16 if !table.keyed => {
                let copied = self.rng.random_range(-2..=6);
                Change::Other(format!(
                    "INSERT INTO {name} SELECT * FROM {name} WHERE id = {copied} AND k <> {copied}"
                ))
            }
            _ => Change::Other(format!("DELETE FROM {name} WHERE {}", self.predicate(&scope, 1))),
        }
    }
}
