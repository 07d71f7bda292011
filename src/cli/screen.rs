//! How the demo shows its figures: a table that is redrawn on a terminal, plain lines elsewhere.
//!
//! Boundary: figures in, text out.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write};
use std::time::Duration;

use crate::error::Result;

/// A carrier's row of the view `carrier_delays`.
#[derive(Debug, Clone)]
pub(super) struct Carrier {
    /// Its two-character code.
    pub code: String,
    /// Its name.
    pub name: String,
    /// Flights on the schedule so far.
    pub scheduled: u64,
    /// Flights that left.
    pub departed: u64,
    /// Mean delay of departure in minutes.
    pub mean_delay: Option<f64>,
    /// Flights that left more than 15 minutes late.
    pub late: u64,
}

/// What is shown.
#[derive(Debug, Clone)]
pub(super) struct Figures {
    /// Simulated time, seconds since 1970.
    pub time: i64,
    /// Flights sent so far.
    pub sent: usize,
    /// Flights of the month.
    pub total: usize,
    /// Flights per second of real time.
    pub rate: f64,
    /// How long the last batch took from being sent to being in every view.
    pub last: Option<Duration>,
    /// Carriers by mean delay, the worst first.
    pub carriers: Vec<Carrier>,
}

impl Figures {
    /// Flights that the view has counted.
    pub fn counted(&self) -> u64 {
        self.carriers.iter().map(|c| c.scheduled).sum()
    }

    fn clock(&self) -> String {
        chrono::DateTime::from_timestamp(self.time, 0)
            .map_or_else(String::new, |t| t.format("%Y-%m-%d %H:%M UTC").to_string())
    }

    fn freshness(&self) -> String {
        let behind = (self.sent as u64).saturating_sub(self.counted());
        let state = match behind {
            0 => "the view has every flight sent".to_string(),
            n => format!("the view is {n} flights behind"),
        };
        match self.last {
            Some(last) => {
                format!("{state}; last batch in the views {} after it was sent", milliseconds(last))
            }
            None => state,
        }
    }

    fn line(&self) -> String {
        let mut out =
            format!("{}  {:>5} flights  {:>6.0}/s  {}", self.clock(), self.sent, self.rate, self.freshness());
        for c in self.carriers.iter().filter(|c| c.mean_delay.is_some()).take(3) {
            let _ = write!(out, "  {} {}", c.code, minutes(c.mean_delay));
        }
        out
    }

    /// The table of carriers.
    pub fn table(&self) -> String {
        let mut out = format!(
            "{}   {} of {} flights   {:.0}/s\n{}\n\n",
            self.clock(),
            self.sent,
            self.total,
            self.rate,
            self.freshness()
        );
        let _ = writeln!(
            out,
            "{:<32}{:>9}{:>11}{:>12}{:>8}",
            "carrier", "departed", "cancelled", "mean delay", "late"
        );
        for c in &self.carriers {
            let name: String = format!("{}  {}", c.code, c.name).chars().take(31).collect();
            let late = match c.departed {
                0 => "-".to_string(),
                n => format!("{:.0} %", 100.0 * c.late as f64 / n as f64),
            };
            let cancelled = c.scheduled.saturating_sub(c.departed);
            let delay = minutes(c.mean_delay);
            let _ = writeln!(out, "{name:<32}{:>9}{cancelled:>11}{delay:>12}{late:>8}", c.departed);
        }
        out
    }
}

fn minutes(delay: Option<f64>) -> String {
    delay.map_or_else(|| "-".to_string(), |d| format!("{d:.1} min"))
}

/// A duration with a digit after the point.
pub(super) fn milliseconds(d: Duration) -> String {
    format!("{:.1} ms", d.as_secs_f64() * 1e3)
}

/// Standard output as the demo uses it.
#[derive(Debug)]
pub(super) struct Screen {
    is_terminal: bool,
    /// Lines of the table that stands on the terminal.
    drawn: usize,
}

impl Screen {
    pub fn new() -> Self {
        Screen { is_terminal: std::io::stdout().is_terminal(), drawn: 0 }
    }

    /// How often figures are worth showing.
    pub fn interval(&self) -> Duration {
        if self.is_terminal { Duration::from_millis(250) } else { Duration::from_secs(5) }
    }

    /// Shows figures on the way: the table in place of the last one, or a line.
    pub fn show(&mut self, figures: &Figures) -> Result<()> {
        if self.is_terminal { self.redraw(figures) } else { super::say(&figures.line()) }
    }

    /// Shows figures to stay.
    pub fn last(&mut self, figures: &Figures) -> Result<()> {
        self.redraw(figures)?;
        self.drawn = 0;
        Ok(())
    }

    fn redraw(&mut self, figures: &Figures) -> Result<()> {
        let table = figures.table();
        // Up to the first line of the old table, and clear from there.
        let back = match self.drawn {
            0 => String::new(),
            n => format!("\x1b[{n}A\x1b[J"),
        };
        self.drawn = if self.is_terminal { table.lines().count() } else { 0 };
        let mut out = std::io::stdout().lock();
        Ok(write!(out, "{back}{table}").and_then(|()| out.flush())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures() -> Figures {
        let carrier = |code: &str, scheduled, departed, mean_delay| Carrier {
            code: code.into(),
            name: "An Airline With Quite a Long Name Inc.".into(),
            scheduled,
            departed,
            mean_delay,
            late: departed / 4,
        };
        Figures {
            time: 1_357_034_400,
            sent: 13,
            total: 100,
            rate: 4.4,
            last: Some(Duration::from_micros(2_340)),
            carriers: vec![carrier("AA", 9, 8, Some(12.345)), carrier("ZZ", 3, 0, None)],
        }
    }

    #[test]
    fn the_table_fits_a_terminal_and_shows_what_is_missing() {
        let table = figures().table();
        assert!(table.lines().all(|l| l.chars().count() <= 80), "{table}");
        assert!(table.starts_with("2013-01-01 10:00 UTC   13 of 100 flights   4/s\n"), "{table}");
        assert!(
            table.contains("the view is 1 flights behind; last batch in the views 2.3 ms after it was sent")
        );
        let last: Vec<&str> = table.lines().last().expect("a line").split_whitespace().collect();
        assert!(last.ends_with(&["0", "3", "-", "-"]), "{table}");
        assert!(table.contains("12.3 min    25 %"), "{table}");
    }

    #[test]
    fn a_line_names_only_carriers_that_have_flown() {
        let line = figures().line();
        assert!(line.contains("AA 12.3 min") && !line.contains("ZZ"), "{line}");
    }
}
