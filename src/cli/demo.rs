//! `freshet demo`: a server of its own, the flights pipeline, and a month of flights replayed into it.
//!
//! Boundary: the replay is an ordinary client; everything it does goes over the wire.

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::SinkExt;
use tokio_postgres::Client;

use super::pipeline::{self, COLUMNS, Flight};
use super::screen::{Carrier, Figures, Screen, milliseconds};
use super::{Demo, client, migrate, say, stop};
use crate::error::{Error, ErrorKind, Result};
use crate::server;
use crate::sql::statement::quote_identifier;
use crate::storage::dir::DataDir;

/// The file that says that a directory is the demo's own and may be emptied.
const MARKER: &str = "freshet-demo";
/// Time between two batches of a replay in simulated time.
const TICK: Duration = Duration::from_millis(50);
/// Flights per batch of a replay as fast as possible.
const BATCH: usize = 1_000;
/// How long reading the small files of the dimensions may take.
const SOURCES_WITHIN: Duration = Duration::from_secs(30);

/// The command.
pub(super) async fn demo(args: Demo) -> Result<()> {
    let dir = args.settings.data_dir();
    prepare(dir, args.keep)?;
    let input = dir.join("input");
    pipeline::unpack(&input)?;
    let running = server::start(args.settings.clone()).await?;
    let work = async {
        say(&format!("freshet is ready: {}", running.url()))?;
        play(&running.url(), &input, args.speed).await?;
        say(&format!("\nconnect with:  psql {}", running.url()))
    };
    let outcome = tokio::select! {
        result = work => result.map(|()| !args.exit),
        () = server::wait_for_signal() => Ok(false),
    };
    if let Ok(true) = outcome {
        say("ctrl-C ends the server")?;
        server::wait_for_signal().await;
    }
    let stopped = stop(running).await;
    outcome.and(stopped)
}

/// Makes the directory ready: empty, or as an earlier demo left it. What is not the demo's is left alone.
fn prepare(dir: &Path, keep: bool) -> Result<()> {
    let is_ours = dir.join(MARKER).exists();
    if !is_ours && dir.exists() && std::fs::read_dir(dir)?.next().is_some() {
        return Err(Error::new(
            ErrorKind::ObjectInUse,
            format!("directory \"{}\" is not empty and was not made by the demo", dir.display()),
        )
        .with_hint("Choose a directory that does not exist yet with --data-dir."));
    }
    if is_ours && !keep {
        // A running demo holds the lock: its directory must not vanish under it.
        drop(DataDir::open(dir)?);
        std::fs::remove_dir_all(dir)?;
    }
    std::fs::create_dir_all(dir)?;
    Ok(std::fs::write(dir.join(MARKER), "The demo of freshet empties this directory.\n")?)
}

async fn play(url: &str, input: &Path, speed: f64) -> Result<()> {
    let flights = pipeline::flights()?;
    let client = client::connect(url, "freshet demo", false).await?;
    migrate::apply(&client, &pipeline::migrations(input)?, |m, took| {
        say(&format!("applied {} ({} ms)", m.name, took.as_millis()))
    })
    .await?;
    wait_for_sources(&client).await?;
    let sent =
        usize::try_from(client::number(&client, "SELECT count(*) FROM flights").await?).unwrap_or(usize::MAX);
    if sent > 0 {
        say(&format!("going on after {sent} flights"))?;
    }
    let mut replay = Replay {
        client: &client,
        flights: &flights,
        sent: sent.min(flights.len()),
        first: sent.min(flights.len()),
        started: Instant::now(),
        batches: Vec::new(),
    };
    let mut screen = Screen::new();
    replay.run(speed, &mut screen).await?;
    screen.last(&replay.figures().await?)?;
    say(&replay.summary())?;
    check_views(&client).await
}

async fn wait_for_sources(client: &Client) -> Result<()> {
    let deadline = Instant::now() + SOURCES_WITHIN;
    for (source, rows) in pipeline::source_rows()? {
        let count = format!("SELECT count(*) FROM {source}");
        while client::number(client, &count).await? < rows {
            if Instant::now() > deadline {
                return Err(Error::new(ErrorKind::ObjectNotInState, format!("source {source} is not read")));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    Ok(())
}

/// The flights on their way into the table.
struct Replay<'a> {
    client: &'a Client,
    flights: &'a [Flight],
    sent: usize,
    /// Where this replay began.
    first: usize,
    started: Instant,
    /// How long each batch took from being sent to being acknowledged, which is when every view has it.
    batches: Vec<Duration>,
}

impl Replay<'_> {
    async fn run(&mut self, speed: f64, screen: &mut Screen) -> Result<()> {
        let Some(from) = self.flights.get(self.sent).map(|f| f.time) else { return Ok(()) };
        self.started = Instant::now();
        let mut show_at = self.started;
        let mut ticks = tokio::time::interval(TICK);
        while self.sent < self.flights.len() {
            let until = if speed == 0.0 {
                (self.sent + BATCH).min(self.flights.len())
            } else {
                ticks.tick().await;
                let now = from as f64 + self.started.elapsed().as_secs_f64() * speed;
                self.flights.partition_point(|f| f.time as f64 <= now)
            };
            self.send(until).await?;
            if Instant::now() >= show_at {
                screen.show(&self.figures().await?)?;
                show_at = Instant::now() + screen.interval();
            }
        }
        Ok(())
    }

    /// Sends the flights up to `until` as one COPY.
    async fn send(&mut self, until: usize) -> Result<()> {
        let Some(batch) = self.flights.get(self.sent..until).filter(|b| !b.is_empty()) else { return Ok(()) };
        let mut text = String::with_capacity(batch.len() * 96);
        for flight in batch {
            text.push_str(&flight.line);
            text.push('\n');
        }
        let start = Instant::now();
        let copy = format!("COPY flights ({}) FROM STDIN WITH (FORMAT csv, NULL 'NA')", COLUMNS.join(", "));
        let sent = async {
            let mut sink = Box::pin(self.client.copy_in::<_, Bytes>(&copy).await?);
            sink.send(Bytes::from(text)).await?;
            sink.as_mut().finish().await
        };
        sent.await.map_err(|e| client::error(&e))?;
        self.batches.push(start.elapsed());
        self.sent = until;
        Ok(())
    }

    async fn figures(&self) -> Result<Figures> {
        let rows = client::rows(
            self.client,
            "SELECT carrier, name, scheduled, departed, mean_delay, late FROM carrier_delays \
             ORDER BY mean_delay DESC NULLS LAST, carrier",
        )
        .await?;
        let carriers = rows
            .iter()
            .map(|row| {
                let text = |i: usize| row.get(i).cloned().flatten();
                let number = |i: usize| text(i).and_then(|t| t.parse().ok()).unwrap_or(0);
                Carrier {
                    code: text(0).unwrap_or_default(),
                    name: text(1).unwrap_or_default(),
                    scheduled: number(2),
                    departed: number(3),
                    mean_delay: text(4).and_then(|t| t.parse().ok()),
                    late: number(5),
                }
            })
            .collect();
        Ok(Figures {
            time: self.sent.checked_sub(1).and_then(|i| self.flights.get(i)).map_or(0, |f| f.time),
            sent: self.sent,
            total: self.flights.len(),
            rate: self.rate(),
            last: self.batches.last().copied(),
            carriers,
        })
    }

    fn rate(&self) -> f64 {
        (self.sent - self.first) as f64 / self.started.elapsed().as_secs_f64().max(0.001)
    }

    fn summary(&self) -> String {
        let mut batches = self.batches.clone();
        batches.sort();
        let (Some(median), Some(worst)) = (batches.get(batches.len() / 2), batches.last()) else {
            return "\nthe month was complete already".into();
        };
        format!(
            "\nsent {} flights in {:.1} s; a batch was in all views after {} (median of {}), {} at worst",
            self.sent - self.first,
            self.started.elapsed().as_secs_f64(),
            milliseconds(*median),
            batches.len(),
            milliseconds(*worst),
        )
    }
}

/// Has every view compared with its query, run from scratch.
async fn check_views(client: &Client) -> Result<()> {
    let views =
        client::rows(client, "SELECT name FROM freshet.views WHERE schema = 'public' ORDER BY name").await?;
    let names: Vec<&str> = views.iter().filter_map(|row| row.first()?.as_deref()).collect();
    for name in &names {
        let sql = format!("CHECK MATERIALIZED VIEW {}", quote_identifier(name));
        let different = client::rows(client, &sql).await?.len();
        if different > 0 {
            return Err(Error::internal(format!("view {name} differs from its query in {different} rows")));
        }
    }
    say(&format!("checked {} views: each equals its query computed from scratch", names.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_demo_s_own_directory_is_emptied() {
        let top = tempfile::tempdir().expect("dir");
        let (ours, theirs) = (top.path().join("ours"), top.path().join("theirs"));
        prepare(&ours, false).expect("new");
        std::fs::write(ours.join("left"), "").expect("write");
        prepare(&ours, true).expect("kept");
        assert!(ours.join("left").exists());
        prepare(&ours, false).expect("again");
        assert!(!ours.join("left").exists() && ours.join(MARKER).exists());
        std::fs::create_dir(&theirs).expect("dir");
        std::fs::write(theirs.join("precious"), "").expect("write");
        assert!(prepare(&theirs, false).is_err() && prepare(&theirs, true).is_err());
        assert!(theirs.join("precious").exists());
    }

    #[test]
    fn a_running_demo_keeps_its_directory() {
        let dir = tempfile::tempdir().expect("dir");
        prepare(dir.path(), false).expect("new");
        let held = DataDir::open(dir.path()).expect("open");
        assert_eq!(prepare(dir.path(), false).expect_err("in use").kind(), ErrorKind::LockFileExists);
        drop(held);
        prepare(dir.path(), false).expect("free");
    }
}
