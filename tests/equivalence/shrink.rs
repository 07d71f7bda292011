//! Making a failing case smaller, as long as it fails in the same way.

use std::time::{Duration, Instant};

use super::case::{Case, Change, Query, Relation, Select, Step};
use super::compare::{Bench, Failure};

/// How long it may take to make a case smaller.
const PATIENCE: Duration = Duration::from_secs(90);

/// The smallest case found that fails as `failure` does, and its failure.
pub fn shrink(bench: &mut dyn Bench, case: Case, failure: Failure) -> (Case, Failure) {
    let since = Instant::now();
    let (mut best, mut found) = (case, failure);
    loop {
        let mut smaller = false;
        // From coarse to fine; after a success the list is made anew from the smaller case.
        for candidate in candidates(&best, &found) {
            if since.elapsed() > PATIENCE {
                return (best, found);
            }
            match bench.run(&candidate) {
                Err(f) if f.kind == found.kind => {
                    if f.kind.ends_with("hung") || f.kind.ends_with("panic") {
                        bench.renew();
                    }
                    (best, found) = (candidate, f);
                    smaller = true;
                    break;
                }
                Err(f) if f.kind.ends_with("hung") || f.kind.ends_with("panic") => bench.renew(),
                _ => {}
            }
        }
        if !smaller {
            return (best, found);
        }
    }
}

fn mentions(text: &str, name: &str) -> bool {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == name)
}

/// Only these views, and those they need.
fn only(case: &Case, view: usize) -> Case {
    let mut needed = vec![false; case.views.len()];
    needed[view] = true;
    for v in (0..case.views.len()).rev() {
        if needed[v] {
            let sql = case.views[v].query.sql();
            for (u, n) in needed.iter_mut().enumerate().take(v) {
                *n |= mentions(&sql, &case.views[u].name);
            }
        }
    }
    let mut out = case.clone();
    out.steps.retain(|s| !matches!(s, Step::Create(v) if !needed[*v]));
    out
}

fn drop_unused(case: &Case) -> Option<Case> {
    let mut out = case.clone();
    let text: String = case
        .steps
        .iter()
        .filter_map(|s| match s {
            Step::Create(v) => Some(case.views[*v].query.sql() + " "),
            Step::Transaction(..) => None,
        })
        .collect();
    out.tables.retain(|t| mentions(&text, &t.name));
    for table in &case.tables {
        if !mentions(&text, &table.name) {
            for step in &mut out.steps {
                if let Step::Transaction(changes, _) = step {
                    changes.retain(|c| !mentions(&c.sql(), &table.name));
                }
            }
        }
    }
    (out.tables.len() < case.tables.len()).then_some(out)
}

fn candidates(case: &Case, failure: &Failure) -> Vec<Case> {
    let mut out = Vec::new();
    let created = |c: &Case| c.steps.iter().filter(|s| matches!(s, Step::Create(_))).count();
    if let Some(view) = failure.view {
        let fewer = only(case, view);
        if created(&fewer) < created(case) {
            out.push(fewer);
        }
    }
    if failure.step + 1 < case.steps.len() {
        let mut shorter = case.clone();
        shorter.steps.truncate(failure.step + 1);
        out.push(shorter);
    }
    out.extend(drop_unused(case));
    // Halves of the steps, then single ones.
    let mut width = case.steps.len() / 2;
    while width > 0 {
        for start in (0..case.steps.len()).step_by(width) {
            let mut fewer = case.clone();
            let end = (start + width).min(fewer.steps.len());
            fewer.steps.drain(start..end);
            out.push(fewer);
        }
        width /= 2;
    }
    for (i, step) in case.steps.iter().enumerate() {
        let Step::Transaction(changes, _) = step else { continue };
        let with = |changes: Vec<Change>| {
            let mut fewer = case.clone();
            fewer.steps[i] = Step::Transaction(changes, true);
            fewer
        };
        if changes.len() > 1 {
            for c in 0..changes.len() {
                let mut fewer = changes.clone();
                fewer.remove(c);
                out.push(with(fewer));
            }
        }
        for (c, change) in changes.iter().enumerate() {
            let Change::Insert { table, rows } = change else { continue };
            let mut width = rows.len() / 2;
            while width > 0 {
                for start in (0..rows.len()).step_by(width) {
                    let mut fewer = rows.clone();
                    fewer.drain(start..(start + width).min(rows.len()));
                    if !fewer.is_empty() {
                        let mut changed = changes.clone();
                        changed[c] = Change::Insert { table: table.clone(), rows: fewer };
                        out.push(with(changed));
                    }
                }
                width /= 2;
            }
        }
    }
    for step in &case.steps {
        if let Step::Create(v) = step {
            for query in queries(&case.views[*v].query) {
                let mut simpler = case.clone();
                simpler.views[*v].query = query;
                out.push(simpler);
            }
        }
    }
    out
}

/// Simpler queries. Many are not valid: they fail in another way and are passed over.
fn queries(query: &Query) -> Vec<Query> {
    let mut out = Vec::new();
    if !query.tail.is_empty() {
        out.push(Query { tail: String::new(), ..query.clone() });
    }
    for i in 0..query.ctes.len() {
        let mut fewer = query.clone();
        fewer.ctes.remove(i);
        out.push(fewer);
    }
    if query.branches.len() > 1 {
        for i in 0..query.branches.len() {
            let mut fewer = query.clone();
            fewer.branches.remove(i);
            out.push(fewer);
        }
    }
    for (i, (name, cte)) in query.ctes.iter().enumerate() {
        for simpler in queries(cte) {
            let mut changed = query.clone();
            changed.ctes[i] = (name.clone(), simpler);
            out.push(changed);
        }
    }
    for (i, branch) in query.branches.iter().enumerate() {
        for simpler in selects(branch) {
            let mut changed = query.clone();
            changed.branches[i] = simpler;
            out.push(changed);
        }
    }
    out
}

fn selects(select: &Select) -> Vec<Select> {
    let mut out = Vec::new();
    let mut without = |change: &dyn Fn(&mut Select)| {
        let mut simpler = select.clone();
        change(&mut simpler);
        out.push(simpler);
    };
    for i in 0..select.from.len() {
        if select.from.len() > 1 {
            without(&|s| {
                s.from.remove(i);
            });
        }
        for j in 0..select.from[i].on.len() {
            without(&|s| {
                s.from[i].on.remove(j);
            });
        }
        if matches!(select.from[i].join, "LEFT JOIN" | "RIGHT JOIN" | "FULL JOIN") {
            without(&|s| s.from[i].join = "JOIN");
        }
        if let Relation::Query(q) = &select.from[i].relation {
            for simpler in queries(q) {
                without(&|s| s.from[i].relation = Relation::Query(Box::new(simpler.clone())));
            }
        }
    }
    for i in 0..select.filters.len() {
        without(&|s| {
            s.filters.remove(i);
        });
    }
    for i in 0..select.having.len() {
        without(&|s| {
            s.having.remove(i);
        });
    }
    if !select.sets.is_empty() {
        without(&|s| {
            s.sets = "";
        });
    }
    for i in 0..select.group.len() {
        without(&|s| {
            s.group.remove(i);
        });
    }
    if select.items.len() > 1 {
        for i in 0..select.items.len() {
            without(&|s| {
                s.items.remove(i);
            });
        }
    }
    for i in 0..select.items.len() {
        if select.items[i].filter.is_some() {
            without(&|s| s.items[i].filter = None);
        }
    }
    if select.distinct {
        without(&|s| s.distinct = false);
    }
    out
}
