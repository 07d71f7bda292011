//! Nexmark: events made beforehand as Arrow batches in memory, run through the engine as fast as it takes them.
//!
//! Run with `cargo bench --bench nexmark`. Environment:
//! `NEXMARK_EVENTS` (2,000,000), `NEXMARK_QUERIES` (`q0,q3`; all), `NEXMARK_WORKERS` (`1,2`), `NEXMARK_EPOCH`
//! (events per epoch, 524,288), `NEXMARK_RUNS` (3; the median by CPU time is shown), `NEXMARK_SMALL` (0: leave the
//! epochs of 1,000 and 100 events out), `NEXMARK_STATS` (1: print the figures of the operators), and
//! `NEXMARK_TARGET` (`blackhole` or `view`; both).
//!
//! The queries are the official texts over the standard wide rows; what differs is said at each. The first column
//! sends the changelog to a `blackhole`; the second keeps a view with the key index of its unique key as well.

mod support;

use std::ops::Range;
use std::sync::Arc;

use freshet::catalog::object::{LateRows, WatermarkSpec};
use freshet::catalog::{Catalog, Column, Object, ObjectBody, ObjectId};
use freshet::connector::source::nexmark::{Generator, GeneratorConfig, Table};
use freshet::coord::ddl::plan_query;
use freshet::dataflow::{DataflowSpec, Engine, EpochInput, Target};
use freshet::error::Result;
use freshet::expr::eval_error;
use freshet::plan::Plan;
use freshet::sql::bind::{BindContext, NoSystemTables, bind_query_text};
use freshet::sql::statement::Emit;
use freshet::store::relation::Relation;
use freshet::time::{Epoch, EventTime, Watermark};
use freshet::zset::ZBatch;
use support::{Spent, env_number, mb, measure, median_by};

const PERSON: ObjectId = ObjectId(16384);
const AUCTION: ObjectId = ObjectId(16385);
const BID: ObjectId = ObjectId(16386);
const VIEW: ObjectId = ObjectId(16400);
/// Events whose rows form one batch of each table.
const BATCH_EVENTS: u64 = 8192;
/// The official delay of the watermark.
const DELAY: i64 = 4_000_000;

/// (name, text). `input` is not of Nexmark: bids that are read and all filtered out.
const QUERIES: &[(&str, &str)] = &[
    ("input", "SELECT auction FROM bid WHERE auction < 0"),
    ("q0", "SELECT auction, bidder, price, date_time, extra FROM bid"),
    ("q1", "SELECT auction, bidder, 0.908 * price AS price, date_time, extra FROM bid"),
    ("q2", "SELECT auction, price FROM bid WHERE MOD(auction, 123) = 0"),
    (
        "q3",
        "SELECT P.name, P.city, P.state, A.id FROM auction AS A INNER JOIN person AS P ON A.seller = P.id
         WHERE A.category = 10 AND (P.state = 'OR' OR P.state = 'ID' OR P.state = 'CA')",
    ),
    (
        "q4",
        "SELECT Q.category, AVG(Q.final) FROM (
           SELECT MAX(B.price) AS final, A.category FROM auction A, bid B
           WHERE A.id = B.auction AND B.date_time BETWEEN A.date_time AND A.expires
           GROUP BY A.id, A.category) Q
         GROUP BY Q.category",
    ),
    (
        "q5",
        "SELECT AuctionBids.auction, AuctionBids.num FROM
           (SELECT auction, count(*) AS num, window_start AS starttime, window_end AS endtime
            FROM HOP(bid, date_time, INTERVAL '2 seconds', INTERVAL '10 seconds')
            GROUP BY auction, window_start, window_end) AS AuctionBids
         JOIN
           (SELECT max(CountBids.num) AS maxn, CountBids.starttime, CountBids.endtime FROM
              (SELECT count(*) AS num, window_start AS starttime, window_end AS endtime
               FROM HOP(bid, date_time, INTERVAL '2 seconds', INTERVAL '10 seconds')
               GROUP BY auction, window_start, window_end) AS CountBids
            GROUP BY CountBids.starttime, CountBids.endtime) AS MaxBids
         ON AuctionBids.starttime = MaxBids.starttime AND AuctionBids.endtime = MaxBids.endtime
           AND AuctionBids.num >= MaxBids.maxn",
    ),
    (
        "q7",
        "SELECT B.auction, B.price, B.bidder, B.date_time, B.extra
         FROM bid B
         JOIN (SELECT max(price) AS maxprice, window_end AS date_time
               FROM TUMBLE(bid, date_time, INTERVAL '10 seconds') GROUP BY window_start, window_end) B1
         ON B.price = B1.maxprice
         WHERE B.date_time BETWEEN B1.date_time - INTERVAL '10 seconds' AND B1.date_time",
    ),
    (
        "q8",
        "SELECT P.id, P.name, P.starttime FROM
           (SELECT id, name, window_start AS starttime, window_end AS endtime
            FROM TUMBLE(person, date_time, INTERVAL '10 seconds') GROUP BY id, name, window_start, window_end) P
         JOIN
           (SELECT seller, window_start AS starttime, window_end AS endtime
            FROM TUMBLE(auction, date_time, INTERVAL '10 seconds') GROUP BY seller, window_start, window_end) A
         ON P.id = A.seller AND P.starttime = A.starttime AND P.endtime = A.endtime",
    ),
    (
        "q9",
        "SELECT id, item_name, description, initial_bid, reserve, date_time, expires, seller, category, extra,
           auction, bidder, price, bid_date_time, bid_extra
         FROM (SELECT A.*, B.auction, B.bidder, B.price, B.date_time AS bid_date_time, B.extra AS bid_extra,
             ROW_NUMBER() OVER (PARTITION BY A.id ORDER BY B.price DESC, B.date_time ASC) AS rownum
           FROM auction A, bid B
           WHERE A.id = B.auction AND B.date_time BETWEEN A.date_time AND A.expires)
         WHERE rownum <= 1",
    ),
    // The official text windows by processing time; here the event time takes its place.
    (
        "q12",
        "SELECT bidder, count(*) AS bid_count, window_start AS starttime, window_end AS endtime
         FROM TUMBLE(bid, date_time, INTERVAL '10 seconds') GROUP BY bidder, window_start, window_end",
    ),
    // The user-defined function count_char is what its two lengths say.
    (
        "q14",
        "SELECT auction, bidder, 0.908 * price AS price,
           CASE WHEN extract(hour FROM date_time) >= 8 AND extract(hour FROM date_time) <= 18 THEN 'dayTime'
                WHEN extract(hour FROM date_time) <= 6 OR extract(hour FROM date_time) >= 20 THEN 'nightTime'
                ELSE 'otherTime' END AS bidTimeType,
           date_time, extra, length(extra) - length(replace(extra, 'c', '')) AS c_counts
         FROM bid WHERE 0.908 * price > 1000000 AND 0.908 * price < 50000000",
    ),
    (
        "q15",
        "SELECT to_char(date_time, 'YYYY-MM-DD') AS day, count(*) AS total_bids,
           count(*) FILTER (WHERE price < 10000) AS rank1_bids,
           count(*) FILTER (WHERE price >= 10000 AND price < 1000000) AS rank2_bids,
           count(*) FILTER (WHERE price >= 1000000) AS rank3_bids,
           count(DISTINCT bidder) AS total_bidders,
           count(DISTINCT bidder) FILTER (WHERE price < 10000) AS rank1_bidders,
           count(DISTINCT bidder) FILTER (WHERE price >= 10000 AND price < 1000000) AS rank2_bidders,
           count(DISTINCT bidder) FILTER (WHERE price >= 1000000) AS rank3_bidders,
           count(DISTINCT auction) AS total_auctions,
           count(DISTINCT auction) FILTER (WHERE price < 10000) AS rank1_auctions,
           count(DISTINCT auction) FILTER (WHERE price >= 10000 AND price < 1000000) AS rank2_auctions,
           count(DISTINCT auction) FILTER (WHERE price >= 1000000) AS rank3_auctions
         FROM bid GROUP BY to_char(date_time, 'YYYY-MM-DD')",
    ),
    (
        "q16",
        "SELECT channel, to_char(date_time, 'YYYY-MM-DD') AS day, max(to_char(date_time, 'HH24:MI')) AS minute,
           count(*) AS total_bids,
           count(*) FILTER (WHERE price < 10000) AS rank1_bids,
           count(*) FILTER (WHERE price >= 10000 AND price < 1000000) AS rank2_bids,
           count(*) FILTER (WHERE price >= 1000000) AS rank3_bids,
           count(DISTINCT bidder) AS total_bidders,
           count(DISTINCT bidder) FILTER (WHERE price < 10000) AS rank1_bidders,
           count(DISTINCT bidder) FILTER (WHERE price >= 10000 AND price < 1000000) AS rank2_bidders,
           count(DISTINCT bidder) FILTER (WHERE price >= 1000000) AS rank3_bidders,
           count(DISTINCT auction) AS total_auctions,
           count(DISTINCT auction) FILTER (WHERE price < 10000) AS rank1_auctions,
           count(DISTINCT auction) FILTER (WHERE price >= 10000 AND price < 1000000) AS rank2_auctions,
           count(DISTINCT auction) FILTER (WHERE price >= 1000000) AS rank3_auctions
         FROM bid GROUP BY channel, to_char(date_time, 'YYYY-MM-DD')",
    ),
    (
        "q17",
        "SELECT auction, to_char(date_time, 'YYYY-MM-DD') AS day, count(*) AS total_bids,
           count(*) FILTER (WHERE price < 10000) AS rank1_bids,
           count(*) FILTER (WHERE price >= 10000 AND price < 1000000) AS rank2_bids,
           count(*) FILTER (WHERE price >= 1000000) AS rank3_bids,
           min(price) AS min_price, max(price) AS max_price, avg(price) AS avg_price, sum(price) AS sum_price
         FROM bid GROUP BY auction, to_char(date_time, 'YYYY-MM-DD')",
    ),
    (
        "q18",
        "SELECT auction, bidder, price, channel, url, date_time, extra
         FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY bidder, auction ORDER BY date_time DESC) AS rank_number
           FROM bid) WHERE rank_number <= 1",
    ),
    (
        "q19",
        "SELECT * FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY auction ORDER BY price DESC) AS rank_number
           FROM bid) WHERE rank_number <= 10",
    ),
    (
        "q20",
        "SELECT auction, bidder, price, channel, url, B.date_time AS bid_date_time, B.extra AS bid_extra,
           item_name, description, initial_bid, reserve, A.date_time AS auction_date_time, expires, seller,
           category, A.extra AS auction_extra
         FROM bid AS B INNER JOIN auction AS A ON B.auction = A.id WHERE A.category = 10",
    ),
    (
        "q21",
        "SELECT auction, bidder, price, channel,
           CASE WHEN lower(channel) = 'apple' THEN '0' WHEN lower(channel) = 'google' THEN '1'
                WHEN lower(channel) = 'facebook' THEN '2' WHEN lower(channel) = 'baidu' THEN '3'
                ELSE substring(url FROM 'channel_id=([^&]*)') END AS channel_id
         FROM bid
         WHERE substring(url FROM 'channel_id=([^&]*)') IS NOT NULL
           OR lower(channel) IN ('apple', 'google', 'facebook', 'baidu')",
    ),
    // SPLIT_INDEX counts from 0, split_part from 1.
    (
        "q22",
        "SELECT auction, bidder, price, channel, split_part(url, '/', 4) AS dir1,
           split_part(url, '/', 5) AS dir2, split_part(url, '/', 6) AS dir3 FROM bid",
    ),
];

/// The three sources, with a watermark on `date_time`.
fn catalog() -> Catalog {
    let mut catalog = Catalog::new();
    for (id, name, table) in
        [(PERSON, "person", Table::Person), (AUCTION, "auction", Table::Auction), (BID, "bid", Table::Bid)]
    {
        let schema = table.schema();
        let columns: Vec<Column> = schema.fields().iter().map(|f| Column::of_field(f.name(), f)).collect();
        let time = columns.iter().position(|c| c.name == "date_time").expect("every table has an event time");
        let watermark = WatermarkSpec {
            column: time,
            delay: DELAY,
            allowed_lateness: 0,
            idle_timeout: None,
            late_rows: LateRows::Drop,
        };
        let body = ObjectBody::Source {
            connector: "nexmark".into(),
            options: [("table".to_string(), name.to_string())].into(),
            format: None,
            watermark: Some(watermark),
            keeps_history: false,
        };
        let object = Object {
            id,
            schema: "public".into(),
            name: name.into(),
            columns,
            body,
            depends_on: vec![],
            ddl: String::new(),
            search_path: vec![],
            comment: None,
            seen: vec![],
        };
        catalog.insert(object).expect("a new name");
    }
    catalog
}

fn plan(catalog: &Catalog, sql: &str) -> Result<Arc<Plan>> {
    let mut context = BindContext::new(catalog.clone(), EventTime(0), &NoSystemTables);
    context.in_view = true;
    let bound = bind_query_text(sql, &context)?;
    plan_query(&bound, catalog, Emit::OnUpdate)
}

/// What an epoch brings: the changes of the three tables and the watermark after it.
struct Events {
    changes: Vec<(ObjectId, Vec<ZBatch>)>,
    watermark: Watermark,
}

fn events(generator: &Generator, total: u64, per_epoch: u64) -> Vec<Events> {
    let mut epochs = Vec::new();
    let mut start = 0;
    while start < total {
        let end = (start + per_epoch).min(total);
        epochs.push(epoch(generator, start..end));
        start = end;
    }
    epochs
}

fn epoch(generator: &Generator, range: Range<u64>) -> Events {
    let mut tables: [Vec<ZBatch>; 3] = Default::default();
    let mut start = range.start;
    while start < range.end {
        let end = (start + BATCH_EVENTS).min(range.end);
        let made = generator.generate(start..end).expect("events");
        for (table, rows) in tables.iter_mut().zip([made.person, made.auction, made.bid]) {
            if rows.num_rows() > 0 {
                table.push(ZBatch::inserts(rows));
            }
        }
        start = end;
    }
    let watermark = Watermark(generator.event_time(range.end - 1) - DELAY);
    let changes = [PERSON, AUCTION, BID].into_iter().zip(tables).filter(|(_, b)| !b.is_empty()).collect();
    Events { changes, watermark }
}

/// Figures of a run.
#[derive(Clone)]
struct Run {
    spent: Spent,
    changes: usize,
    peak: u64,
    state: usize,
    longest: f64,
}

fn run(plan: &Arc<Plan>, epochs: &[Events], workers: usize, maintained: bool) -> Run {
    support::release_memory();
    let before = support::rss();
    support::reset_peak();
    let mut engine = Engine::start(workers);
    let view = maintained.then(|| {
        let key = plan.facts().best_key().map(<[usize]>::to_vec).unwrap_or_default();
        Arc::new(Relation::new("view", plan.schema.clone(), key, workers))
    });
    let target = match &view {
        Some(view) => {
            let errors = Relation::new("errors", eval_error::schema(), vec![], 1);
            Target::View(view.clone(), Arc::new(errors))
        }
        None => Target::Blackhole,
    };
    engine
        .create(DataflowSpec { id: VIEW, plan: plan.clone(), target, keep_changelog: true })
        .expect("create");
    let first = EpochInput { epoch: Epoch(1), ..EpochInput::default() };
    engine.finish_hydration(VIEW, first).expect("an empty hydration");
    let (mut changes, mut longest) = (0, 0f64);
    let ((), spent) = measure(|| {
        for (i, events) in epochs.iter().enumerate() {
            let start = std::time::Instant::now();
            let epoch = Epoch(i as u64 + 2);
            let input = EpochInput {
                epoch,
                now: EventTime(0),
                changes: events.changes.clone(),
                watermarks: [PERSON, AUCTION, BID].map(|t| (t, events.watermark)).to_vec(),
            };
            let report = engine.step(input).expect("step");
            if let Some((_, e)) = report.failed.first() {
                panic!("the dataflow has failed: {e:?}");
            }
            changes += report.changelogs.iter().flat_map(|(_, b)| b).map(ZBatch::num_rows).sum::<usize>();
            drop(report);
            if let Some(view) = &view {
                view.compact(epoch).expect("compact");
            }
            longest = longest.max(start.elapsed().as_secs_f64());
        }
    });
    let peak = support::peak_rss().saturating_sub(before);
    let state = engine.state_bytes();
    if std::env::var_os("NEXMARK_STATS").is_some() {
        for node in engine.stats().iter().flat_map(|d| &d.nodes) {
            println!(
                "    {:>2} {:<10} in {:>9} out {:>9} state {:>9} rows {:>6} MB busy {:>7.1} ms",
                node.node,
                node.name,
                node.rows_in,
                node.rows_out,
                node.state_rows,
                mb(node.state_bytes as u64),
                node.busy.as_secs_f64() * 1e3
            );
        }
    }
    Run { spent, changes, peak, state, longest }
}

fn millions(events: u64, seconds: f64) -> String {
    format!("{:.2}", events as f64 / seconds / 1e6)
}

fn wanted(variable: &str, name: &str) -> bool {
    match std::env::var(variable) {
        Ok(list) if !list.is_empty() => list.split(',').any(|q| q.trim() == name),
        _ => true,
    }
}

fn bench() {
    let total = env_number("NEXMARK_EVENTS", 2_000_000);
    let per_epoch = env_number("NEXMARK_EPOCH", 64 * BATCH_EVENTS);
    let runs = env_number("NEXMARK_RUNS", 3) as usize;
    let generator = Generator::new(GeneratorConfig::default());
    let (epochs, made) = measure(|| events(&generator, total, per_epoch));
    let bytes: usize =
        epochs.iter().flat_map(|e| &e.changes).flat_map(|(_, b)| b).map(ZBatch::memory_size).sum();
    println!(
        "{total} events, {per_epoch} per epoch, {} MB in Arrow, median of {runs} runs",
        mb(bytes as u64)
    );
    println!("generator alone: {} M events per CPU second, one thread\n", millions(total, made.cpu));
    let catalog = catalog();
    let head =
        ["query", "workers", "target", "M/s wall", "M/s CPU", "peak MB", "state MB", "changes", "epoch ms"];
    let table = support::Table::new(&head);
    for (name, sql) in QUERIES.iter().filter(|(name, _)| wanted("NEXMARK_QUERIES", name)) {
        let plan = match plan(&catalog, sql) {
            Ok(plan) => plan,
            Err(e) => {
                println!("| {name} | not possible: {} |", e.message());
                continue;
            }
        };
        for workers in [1, 2] {
            for (target, maintained) in [("blackhole", false), ("view", true)] {
                let left_out =
                    !wanted("NEXMARK_WORKERS", &workers.to_string()) || !wanted("NEXMARK_TARGET", target);
                if left_out {
                    continue;
                }
                let all: Vec<Run> = (0..runs).map(|_| run(&plan, &epochs, workers, maintained)).collect();
                let r = median_by(&all, |r| r.spent.cpu).expect("at least one run");
                table.row(&row(name, workers, target, total, &r));
            }
        }
    }
    drop(epochs);
    if env_number("NEXMARK_SMALL", 1) == 1 {
        small_epochs(&generator, &catalog, total, runs);
    }
}

fn row(name: &str, workers: usize, target: &str, total: u64, r: &Run) -> Vec<String> {
    vec![
        name.to_string(),
        workers.to_string(),
        target.to_string(),
        millions(total, r.spent.wall),
        millions(total, r.spent.cpu),
        mb(r.peak),
        mb(r.state as u64),
        r.changes.to_string(),
        format!("{:.1}", r.longest * 1e3),
    ]
}

/// What is left of the rate when epochs are small.
fn small_epochs(generator: &Generator, catalog: &Catalog, total: u64, runs: usize) {
    let total = total.min(1_000_000);
    println!("\nSmall epochs: {total} events, 1 worker, into a view, M events per CPU second\n");
    let table = support::Table::new(&["query", "40000", "1000", "100", "share 1000", "share 100"]);
    for (name, sql) in
        QUERIES.iter().filter(|(n, _)| ["q4", "q17", "q12"].contains(n) && wanted("NEXMARK_QUERIES", n))
    {
        let Ok(plan) = plan(catalog, sql) else { continue };
        let rates: Vec<f64> = [40_000, 1_000, 100]
            .into_iter()
            .map(|per_epoch| {
                let epochs = events(generator, total, per_epoch);
                let all: Vec<Run> = (0..runs).map(|_| run(&plan, &epochs, 1, true)).collect();
                let r = median_by(&all, |r| r.spent.cpu).expect("at least one run");
                total as f64 / r.spent.cpu / 1e6
            })
            .collect();
        let mut cells = vec![name.to_string()];
        cells.extend(rates.iter().map(|r| format!("{r:.2}")));
        cells.extend(rates[1..].iter().map(|r| format!("{:.0} %", r / rates[0] * 100.0)));
        table.row(&cells);
    }
}

fn main() {
    // Plans nest deeply; the main thread's stack is not ours to choose.
    let thread = std::thread::Builder::new().stack_size(64 << 20).spawn(bench).expect("a thread");
    if thread.join().is_err() {
        std::process::exit(1);
    }
}
