//! The command line: `freshet [serve]`, `freshet demo`, `freshet migrate`, `freshet check`.
//!
//! Boundary: reads arguments, talks to the terminal, and calls what does the work. Standard output carries results,
//! standard error the log and errors; the exit code is 0 for success, 1 for failure, 2 for wrong arguments.

mod client;
mod demo;
pub mod migrate;
mod pipeline;
mod screen;

use std::future::Future;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::config::ServerSettings;
use crate::error::{Error, ErrorKind, Result};
use crate::server::{self, Running};
use crate::storage::check;
use crate::storage::fs::RealFs;

/// Where a server with default settings listens.
const DEFAULT_URL: &str = "postgresql://127.0.0.1:4560/freshet";

/// How long threads may still run after the server has stopped.
const LAST_THREADS: Duration = Duration::from_secs(1);

/// A streaming SQL database: always-fresh materialized views over the PostgreSQL protocol.
#[derive(Debug, Parser)]
#[command(name = "freshet", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    settings: ServerSettings,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server (what happens without a command, too)
    Serve(Serve),
    /// Run a server with a month of real flights going through its views
    Demo(Box<Demo>),
    /// Apply numbered SQL files to a server, each once, in order
    Migrate(Migrate),
    /// Verify a data directory without changing it; the server must not be running
    Check(Check),
}

#[derive(Debug, Args)]
struct Serve {
    #[command(flatten)]
    settings: ServerSettings,
}

/// The arguments of `freshet demo`.
#[derive(Debug, Args)]
struct Demo {
    /// Simulated seconds per second; 0 is as fast as possible
    #[arg(long, value_name = "N", default_value_t = 43_200.0, value_parser = speed)]
    speed: f64,
    /// End after the month instead of serving on
    #[arg(long)]
    exit: bool,
    /// Go on with what an earlier demo left in the directory
    #[arg(long)]
    keep: bool,
    #[command(flatten)]
    settings: ServerSettings,
}

#[derive(Debug, Args)]
struct Migrate {
    /// Directory of files named 001_name.sql
    dir: PathBuf,
    /// The server
    #[arg(long, env = "FRESHET_URL", default_value = DEFAULT_URL)]
    url: String,
}

#[derive(Debug, Args)]
struct Check {
    /// The data directory [default: that of the server]
    dir: Option<PathBuf>,
}

fn speed(text: &str) -> std::result::Result<f64, String> {
    match text.parse::<f64>() {
        Ok(n) if n.is_finite() && n >= 0.0 => Ok(n),
        _ => Err("a number from 0 is expected".into()),
    }
}

/// The whole command line as clap sees it. The demo has a directory and a log level of its own; the directory is
/// not taken from the environment because the demo empties it.
fn command() -> clap::Command {
    Cli::command().mut_subcommand("demo", |demo| {
        demo.mut_arg("data_dir", |arg| {
            arg.env(None::<&str>)
                .default_value("./freshet-demo")
                .help("Directory of the demo, emptied at the start unless --keep is given")
        })
        .mut_arg("log_level", |arg| arg.default_value("warn").help("What is written to standard error"))
    })
}

/// Runs the program with its own arguments.
pub fn main() -> ExitCode {
    let cli = match Cli::from_arg_matches(&command().get_matches()) {
        Ok(cli) => cli,
        Err(e) => e.format(&mut command()).exit(),
    };
    let result = match cli.command {
        None => serve(cli.settings),
        Some(Command::Serve(serve_args)) => serve(serve_args.settings),
        Some(Command::Demo(args)) => {
            start_logging(args.settings.log_level());
            run(demo::demo(*args))
        }
        Some(Command::Migrate(args)) => run(migrate::run(&args.dir, &args.url)),
        Some(Command::Check(args)) => check_directory(args.dir.as_deref().unwrap_or(cli.settings.data_dir())),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            print_error(&e);
            ExitCode::FAILURE
        }
    }
}

/// Writes an error to standard error, in the shape psql prints errors in.
fn print_error(e: &Error) {
    let mut text = format!("freshet: {}\n", e.message());
    for (label, more) in [("DETAIL", e.detail()), ("HINT", e.hint())] {
        if let Some(more) = more {
            text.push_str(&format!("{label}:  {more}\n"));
        }
    }
    // Nothing can be done when standard error is closed.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// Writes a line to standard output and flushes it.
fn say(line: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    Ok(writeln!(out, "{line}").and_then(|()| out.flush())?)
}

fn start_logging(level: &str) {
    // The libraries below are chatty at levels where the server's own messages are meant.
    let filter = match level {
        "trace" => EnvFilter::new("trace"),
        other => EnvFilter::new(format!("warn,freshet={other}")),
    };
    tracing_subscriber::fmt()
        // When even the log cannot be written (a full disk), the server goes on without it.
        .log_internal_errors(false)
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
}

/// Runs a command on an async runtime of its own.
fn run(work: impl Future<Output = Result<()>>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(work);
    runtime.shutdown_timeout(LAST_THREADS);
    result
}

fn serve(settings: ServerSettings) -> Result<()> {
    start_logging(settings.log_level());
    run(async {
        let running = server::start(settings).await?;
        say(&format!("freshet is ready: {}", running.url()))?;
        server::wait_for_signal().await;
        stop(running).await
    })
}

/// Stops a server in order; a second signal ends the process at once, which loses nothing acknowledged.
async fn stop(running: Running) -> Result<()> {
    tokio::select! {
        result = running.stop() => result,
        () = server::wait_for_signal() => Err(Error::new(
            ErrorKind::AdminShutdown,
            "ended at the second signal, before everything had stopped",
        )),
    }
}

fn check_directory(dir: &Path) -> Result<()> {
    let report = check::check(dir, &RealFs)?;
    say(&format!("{}: no damage\n{report}", dir.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> std::result::Result<Cli, clap::Error> {
        let all = std::iter::once("freshet").chain(args.iter().copied());
        Cli::from_arg_matches(&command().try_get_matches_from(all)?)
    }

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn serve_is_the_default_command_with_the_same_flags() {
        let without = parse(&["--workers", "2"]).expect("flags");
        assert!(without.command.is_none());
        assert_eq!(without.settings.workers(), 2);
        let Some(Command::Serve(with)) = parse(&["serve", "--workers", "3"]).expect("serve").command else {
            panic!("serve")
        };
        assert_eq!(with.settings.workers(), 3);
    }

    #[test]
    fn the_demo_has_a_directory_of_its_own_and_takes_the_server_s_flags() {
        let demo = |args: &[&str]| match parse(args).expect("demo").command {
            Some(Command::Demo(demo)) => demo,
            other => panic!("{other:?}"),
        };
        let plain = demo(&["demo"]);
        assert_eq!(plain.settings.data_dir(), Path::new("./freshet-demo"));
        assert_eq!(plain.settings.log_level(), "warn");
        let told =
            demo(&["demo", "--data-dir", "elsewhere", "--speed", "0", "--exit", "--pg-addr", "127.0.0.1:0"]);
        assert_eq!(told.settings.data_dir(), Path::new("elsewhere"));
        assert_eq!(told.settings.pg_addr(), "127.0.0.1:0");
        assert!(told.exit && told.speed == 0.0);
        assert!(parse(&["demo", "--speed", "-1"]).is_err());
        assert!(parse(&["demo", "--speed", "fast"]).is_err());
    }

    #[test]
    fn unknown_flags_and_bad_values_are_refused() {
        assert!(parse(&["--nonsense"]).is_err());
        assert!(parse(&["serve", "--memory-limit", "much"]).is_err());
    }
}
