//! What the benchmarks share: CPU time and memory of a process, quantiles, tables.
//!
//! Boundary: measures and prints; knows nothing of the engine.
#![allow(dead_code, reason = "every benchmark uses its own part of this")]

use std::time::{Duration, Instant};

/// The allocator of the server, so that what is measured is what runs.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// CPU seconds (user and system) that this process has used.
pub fn cpu_seconds() -> f64 {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: getrusage fills the struct it is given; zeroed memory is a valid rusage even if it failed.
    let usage = unsafe {
        libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr());
        usage.assume_init()
    };
    let seconds = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

/// CPU seconds that another process has used, with its threads: clock ticks of `/proc/PID/stat`.
pub fn cpu_seconds_of(pid: u32) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold spaces.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
    // SAFETY: sysconf has no preconditions.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as f64;
    Some(ticks / per_second)
}

/// CPU seconds of a process and all its living and reaped children (PostgreSQL has a process per connection).
pub fn cpu_seconds_of_tree(pid: u32) -> f64 {
    let Ok(entries) = std::fs::read_dir("/proc") else { return 0.0 };
    let mut total = cpu_seconds_of(pid).unwrap_or(0.0);
    // SAFETY: sysconf has no preconditions.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as f64;
    if let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat"))
        && let Some((_, rest)) = stat.rsplit_once(')')
    {
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let reaped = |i: usize| fields.get(i).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
        total += (reaped(13) + reaped(14)) / per_second;
    }
    for entry in entries.flatten() {
        let Some(child) = entry.file_name().to_str().and_then(|n| n.parse::<u32>().ok()) else { continue };
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{child}/stat")) else { continue };
        let parent =
            stat.rsplit_once(')').and_then(|(_, r)| r.split_whitespace().nth(1)?.parse::<u32>().ok());
        if parent == Some(pid) {
            total += cpu_seconds_of(child).unwrap_or(0.0);
        }
    }
    total
}

fn status_kib(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with(name)).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|v| v.parse().ok()).unwrap_or(0)
}

/// Bytes that are resident now.
pub fn rss() -> u64 {
    status_kib("VmRSS:") * 1024
}

/// Most bytes that were resident since [`reset_peak`].
pub fn peak_rss() -> u64 {
    status_kib("VmHWM:") * 1024
}

/// Begins a new measurement of [`peak_rss`].
pub fn reset_peak() {
    // Where the kernel refuses, the peak is that of the whole run.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// Gives freed memory back, so that the next measurement begins clean.
pub fn release_memory() {
    // SAFETY: mi_collect may be called at any time from any thread.
    unsafe { mi_collect(true) };
}

unsafe extern "C" {
    fn mi_collect(force: bool);
}

/// Wall and CPU time of something.
#[derive(Debug, Clone, Copy)]
pub struct Spent {
    /// Wall time in seconds.
    pub wall: f64,
    /// CPU time of the process in seconds.
    pub cpu: f64,
}

/// Measures `f`.
pub fn measure<T>(f: impl FnOnce() -> T) -> (T, Spent) {
    let (start, cpu) = (Instant::now(), cpu_seconds());
    let value = f();
    (value, Spent { wall: start.elapsed().as_secs_f64(), cpu: cpu_seconds() - cpu })
}

/// The middle one by `key`.
pub fn median_by<T: Clone>(values: &[T], key: impl Fn(&T) -> f64) -> Option<T> {
    let mut sorted: Vec<&T> = values.iter().collect();
    sorted.sort_by(|a, b| key(a).total_cmp(&key(b)));
    sorted.get(sorted.len() / 2).map(|v| (*v).clone())
}

/// A quantile of durations, in microseconds.
pub fn quantile(sorted: &[Duration], q: f64) -> f64 {
    if sorted.is_empty() {
        return f64::NAN;
    }
    let i = ((sorted.len() - 1) as f64 * q).round() as usize;
    sorted[i].as_secs_f64() * 1e6
}

/// A number from the environment.
pub fn env_number(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => {
            text.replace('_', "").parse().unwrap_or_else(|_| panic!("{name} must be a number: {text}"))
        }
        Err(_) => default,
    }
}

/// Bytes as MB.
pub fn mb(bytes: u64) -> String {
    format!("{:.0}", bytes as f64 / 1e6)
}

/// A Markdown table that is printed row by row, so that an interrupted run has shown something.
pub struct Table {
    widths: Vec<usize>,
}

impl Table {
    /// Prints the head.
    pub fn new(head: &[&str]) -> Table {
        let table = Table { widths: head.iter().map(|h| h.chars().count().max(8)).collect() };
        table.line(&head.iter().map(ToString::to_string).collect::<Vec<_>>());
        let rules: Vec<String> = table
            .widths
            .iter()
            .enumerate()
            .map(|(i, w)| if i == 0 { "-".repeat(*w) } else { format!("{}:", "-".repeat(w - 1)) })
            .collect();
        table.line(&rules);
        table
    }

    /// Prints a row.
    pub fn row(&self, cells: &[String]) {
        self.line(cells);
    }

    fn line(&self, cells: &[String]) {
        let mut line = String::from("|");
        for (i, (cell, width)) in cells.iter().zip(&self.widths).enumerate() {
            if i == 0 {
                line.push_str(&format!(" {cell:<width$} |"));
            } else {
                line.push_str(&format!(" {cell:>width$} |"));
            }
        }
        println!("{line}");
    }
}
