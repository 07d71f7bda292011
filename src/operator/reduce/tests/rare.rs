//! The aggregates beside count, sum, avg, min and max: against plain definitions, and against themselves from scratch.

use super::*;
use crate::expr::aggregate::{Order, Ordered, Pairs, Shape, Spread};
use crate::operator::reduce::groups::Groups;

fn list(of: DataType) -> DataType {
    DataType::List(Arc::new(Field::new("item", of, true)))
}

fn ordered(kind: Ordered, arguments: &[usize], data_type: DataType) -> AggregateCall {
    AggregateCall {
        more: arguments[1..].to_vec(),
        ..call(AggregateKind::Ordered(kind), Some(arguments[0]), data_type)
    }
}

fn by(call: AggregateCall, column: usize, order: Order) -> AggregateCall {
    let shape = Shape { order: vec![(column, order)], ..call.shape.clone() };
    AggregateCall { shape, ..call }
}

fn at(call: AggregateCall, fraction: f64) -> AggregateCall {
    let shape = Shape { fractions: vec![Some(fraction.to_bits())], ..call.shape.clone() };
    AggregateCall { shape, ..call }
}

fn calls() -> Vec<AggregateCall> {
    use AggregateKind as K;
    let numeric = DataType::Decimal128(38, 20);
    let distinct = |c: AggregateCall| AggregateCall { distinct: true, ..c };
    let filtered = |c: AggregateCall| AggregateCall { filter: Some(6), ..c };
    let pairs = |kind, t| AggregateCall { more: vec![2], ..call(K::Pairs(kind), Some(4), t) };
    let nulls_first = Order { descending: true, nulls_first: true };
    let mut least = by(ordered(Ordered::First, &[5, 2], DataType::Utf8), 1, Order::ASCENDING);
    least.shape.skips_null = vec![1];
    vec![
        call(K::BoolAnd, Some(6), DataType::Boolean),
        call(K::BoolOr, Some(6), DataType::Boolean),
        call(K::BitXor, Some(2), DataType::Int32),
        call(K::BitAnd, Some(3), DataType::Int64),
        distinct(call(K::BitOr, Some(2), DataType::Int32)),
        call(K::Spread(Spread::VarSamp), Some(2), numeric.clone()),
        distinct(call(K::Spread(Spread::StddevPop), Some(2), numeric)),
        filtered(call(K::Spread(Spread::VarPop), Some(4), DataType::Float64)),
        by(ordered(Ordered::Array, &[2], list(DataType::Int32)), 0, nulls_first),
        distinct(by(ordered(Ordered::Array, &[5], list(DataType::Utf8)), 0, Order::ASCENDING)),
        filtered(by(ordered(Ordered::Text, &[5, 1, 2], DataType::Utf8), 2, Order::DESCENDING)),
        ordered(Ordered::Jsonb, &[4], DataType::Utf8),
        least,
        ordered(Ordered::Last, &[5], DataType::Utf8),
        by(ordered(Ordered::Mode, &[2], DataType::Int32), 0, Order::ASCENDING),
        at(ordered(Ordered::Continuous, &[4], DataType::Float64), 0.3),
        at(by(ordered(Ordered::Discrete, &[2], DataType::Int32), 0, Order::DESCENDING), 0.7),
        pairs(Pairs::Count, DataType::Int64),
    ]
}

/// Results of some calls by plain definitions, in the order of [`plain_calls`].
fn plain(rows: &[&Row]) -> String {
    let mut v: Vec<i32> = rows.iter().filter_map(|r| r.v).collect();
    let mut words: Vec<Option<&String>> = rows.iter().map(|r| r.t.as_ref()).collect();
    let flags: Vec<bool> = rows.iter().filter_map(|r| r.m).collect();
    v.sort_unstable();
    words.sort_by_key(|w| (w.is_none(), *w));
    let some = |there: bool, text: String| if there { text } else { "NULL".to_string() };
    let n = v.len() as i128;
    let (sum, squares) = v.iter().fold((0, 0), |(s, q), x| (s + i128::from(*x), q + i128::from(*x).pow(2)));
    let variance = (n * squares - sum * sum) as f64 / (n * (n - 1)).max(1) as f64;
    let mode = v.iter().map(|x| (v.iter().filter(|y| *y == x).count(), -i64::from(*x))).max();
    let disc = v.get(((0.7 * n as f64).ceil() as usize).saturating_sub(1));
    let joined: Vec<&str> = words.iter().flatten().map(|w| w.as_str()).collect();
    [
        some(!flags.is_empty(), flags.iter().all(|b| *b).to_string()),
        some(!flags.is_empty(), flags.iter().any(|b| *b).to_string()),
        some(!v.is_empty(), v.iter().fold(0, |a, b| a ^ b).to_string()),
        some(n > 1, format!("{variance:.6}")),
        some(!v.is_empty(), mode.map_or(0, |(_, x)| -x).to_string()),
        show(disc),
        some(!joined.is_empty(), joined.concat()),
    ]
    .join(" ")
}

fn plain_calls() -> Vec<AggregateCall> {
    use AggregateKind as K;
    vec![
        call(K::BoolAnd, Some(6), DataType::Boolean),
        call(K::BoolOr, Some(6), DataType::Boolean),
        call(K::BitXor, Some(2), DataType::Int32),
        call(K::Spread(Spread::VarSamp), Some(2), DataType::Decimal128(38, 20)),
        by(ordered(Ordered::Mode, &[2], DataType::Int32), 0, Order::ASCENDING),
        at(by(ordered(Ordered::Discrete, &[2], DataType::Int32), 0, Order::ASCENDING), 0.7),
        ordered(Ordered::Text, &[5], DataType::Utf8),
    ]
}

/// Random changes of an epoch; `live` follows.
fn changes(rng: &mut Rng8, live: &mut Vec<Row>) -> Vec<(Row, i64)> {
    let mut changes: Vec<(Row, i64)> = vec![];
    for _ in 0..rng.random_range(0..60) {
        let row = random_row(rng, 5);
        let weight = if rng.random_bool(0.2) { 2 } else { 1 };
        live.extend(std::iter::repeat_n(row.clone(), weight));
        changes.push((row, weight as i64));
    }
    let share = if rng.random_bool(0.2) { 1.0 } else { 0.4 };
    let (gone, kept): (Vec<Row>, Vec<Row>) =
        std::mem::take(live).into_iter().partition(|_| rng.random_bool(share));
    *live = kept;
    changes.extend(gone.into_iter().map(|r| (r, -1)));
    changes.shuffle(rng);
    changes
}

fn epochs(seed: u64, calls: Vec<AggregateCall>, check: impl Fn(&HashMap<String, i64>, &[Row], &mut Rng8)) {
    println!("seed {seed}");
    let mut rng = Rng8::seed_from_u64(seed);
    let mut op = reduce(&input(), spec(vec![0], calls));
    let (mut live, mut view) = (vec![], HashMap::new());
    for _ in 0..15 {
        let changes = changes(&mut rng, &mut live);
        let mut rest = changes.as_slice();
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rng.random_range(1..=rest.len()));
            op.absorb(0, batch(now), &mut Output::default()).unwrap();
            rest = later;
        }
        let out = close(&mut op);
        assert!(out.errors.is_empty());
        accumulate(&mut view, &out.rows);
        check(&view, &live, &mut rng);
    }
}

fn by_key(live: &[Row]) -> BTreeMap<String, Vec<&Row>> {
    let mut groups: BTreeMap<String, Vec<&Row>> = BTreeMap::new();
    live.iter().for_each(|row| groups.entry(show(row.k)).or_default().push(row));
    groups
}

#[test]
fn rare_aggregates_equal_plain_definitions_after_random_epochs() {
    for seed in 0..20 {
        epochs(seed, plain_calls(), |view, live, _| {
            // Variances are cut to the digits of the definition.
            let cut = |line: &String| -> String {
                let mut parts: Vec<String> = line.split(' ').map(str::to_string).collect();
                if let Ok(v) = parts[4].parse::<f64>() {
                    parts[4] = format!("{v:.6}");
                }
                parts.join(" ")
            };
            let shown: BTreeSet<String> = view.keys().map(cut).collect();
            let wanted = by_key(live).iter().map(|(k, rows)| format!("{k} {}", plain(rows))).collect();
            assert_eq!(shown, wanted, "seed {seed}");
        });
    }
}

#[test]
fn what_a_view_shows_is_what_the_same_rows_give_in_any_order_at_once() {
    for seed in 0..20 {
        epochs(seed, calls(), |view, live, rng| {
            let mut wanted = HashMap::new();
            for rows in by_key(live).values() {
                let mut rows: Vec<(Row, i64)> = rows.iter().map(|r| ((*r).clone(), 1)).collect();
                rows.shuffle(rng);
                let key = batch(&rows[..1]).column(0).clone();
                let mut columns = vec![key];
                for call in calls() {
                    let mut groups = Groups::new(call, &input()).unwrap();
                    groups.grow(1);
                    for part in rows.chunks(7) {
                        let part = batch(part);
                        groups.update(&vec![0; part.num_rows()], None, part.columns()).unwrap();
                    }
                    columns.push(groups.output(&[0]).unwrap());
                }
                let fields = columns.iter().map(|c| Field::new("c", c.data_type().clone(), true));
                let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
                let row = ZBatch::inserts(RecordBatch::try_new(schema, columns).unwrap());
                accumulate(&mut wanted, &[row]);
            }
            assert_eq!(*view, wanted, "seed {seed}");
        });
    }
}

#[test]
fn a_null_key_of_an_object_is_an_error_until_it_goes() {
    let object = ordered(Ordered::JsonbObject, &[5, 2], DataType::Utf8);
    let mut op = reduce(&input(), spec(vec![0], vec![object]));
    let row = |t: Option<&str>, v| Row {
        k: Some(1),
        s: None,
        v: Some(v),
        b: None,
        f: None,
        t: t.map(str::to_string),
        m: None,
    };
    op.absorb(0, batch(&[(row(Some("a"), 1), 1), (row(None, 2), 1)]), &mut Output::default()).unwrap();
    let out = close(&mut op);
    assert_eq!((out.rows.len(), out.errors.len()), (0, 1));
    op.absorb(0, batch(&[(row(None, 2), -1)]), &mut Output::default()).unwrap();
    let out = close(&mut op);
    assert_eq!((shown(&out).as_str(), out.errors.len()), ("+1 1 {\"a\": 1}", 1));
}
