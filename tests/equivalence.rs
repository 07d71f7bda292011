//! The promise, tested at random: at every epoch a view equals its query recomputed; one worker equals four; ten
//! epochs equal one; and where both have the SQL, Freshet equals PostgreSQL.
//!
//! Cases come from seeds. A failing case is made smaller and printed as a script for psql, with its seed.
//! `FRESHET_EQUIVALENCE_CASES=n` runs n cases of each kind instead of the usual few, `FRESHET_EQUIVALENCE_SEED=s`
//! starts at another seed: with both set, `1` and the printed seed, one case is run again.

#[path = "equivalence/case.rs"]
mod case;
#[path = "equivalence/compare.rs"]
mod compare;
#[path = "equivalence/engine.rs"]
mod engine;
#[path = "equivalence/generate.rs"]
mod generate;
#[path = "equivalence/shrink.rs"]
mod shrink;

use std::time::{Duration, Instant};

use compare::{AgainstPostgres, Bench, Itself, Tally};

/// How long a run without settings goes on once it has compared enough.
const USUAL_TIME: Duration = Duration::from_secs(60);

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} must be a number, not \"{text}\"")))
}

/// Runs cases until their number is reached; reports the first one that fails.
fn run_cases(bench: &mut dyn Bench, usual: u64, least: usize) {
    let since = Instant::now();
    let cases = number("FRESHET_EQUIVALENCE_CASES");
    let first = number("FRESHET_EQUIVALENCE_SEED").unwrap_or(1);
    let keep_going = std::env::var_os("FRESHET_EQUIVALENCE_KEEP_GOING").is_some();
    let (mut tally, mut failures) = (Tally::default(), Vec::new());
    for seed in first..first + cases.unwrap_or(usual) {
        if cases.is_none() && since.elapsed() > USUAL_TIME && tally.comparisons >= least {
            break;
        }
        let case = generate::case(seed);
        match bench.run(&case) {
            Ok(t) => tally.add(t),
            Err(failure) => {
                println!("seed {seed} fails ({}); making it smaller", failure.kind);
                bench.renew();
                let (small, failure) = shrink::shrink(bench, case, failure);
                bench.renew();
                let report = format!(
                    "seed {seed}: {}\n{}\n-- paste into psql:\n{}",
                    failure.kind,
                    failure.text,
                    small.script()
                );
                println!("{report}");
                failures.push(report);
                if !keep_going {
                    break;
                }
            }
        }
    }
    println!(
        "seeds {first}..: {} comparisons ({} with rows, {} but for the scale of a numeric) of {} views \
         ({} beyond today's SQL refused) in {:.1} s",
        tally.comparisons,
        tally.filled,
        tally.rescaled,
        tally.views,
        tally.refused,
        since.elapsed().as_secs_f64()
    );
    assert!(failures.is_empty(), "{} failing cases, the first:\n{}", failures.len(), failures[0]);
    if cases.is_none() {
        assert!(tally.comparisons >= least, "only {} comparisons", tally.comparisons);
        assert!(
            tally.filled * 4 > tally.comparisons,
            "most views were empty: the generator has lost its edge"
        );
    }
}

#[test]
fn a_view_equals_its_query_at_every_epoch_for_one_worker_and_four_in_ten_epochs_or_one() {
    run_cases(&mut Itself::start(), 40, 2000);
}

#[test]
fn views_give_what_postgresql_gives() {
    if std::env::var_os("FRESHET_SKIP_POSTGRES").is_some() {
        println!("skipped: FRESHET_SKIP_POSTGRES is set");
        return;
    }
    run_cases(&mut AgainstPostgres::start(), 45, 300);
}
