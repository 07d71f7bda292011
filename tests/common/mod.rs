//! What the tests of the whole server share: starting and ending the real binary, and a small blocking client.
//!
//! Boundary: nothing here looks inside the server; it is a child process reached over its port.

#![allow(dead_code, reason = "each test file uses its own part")]

pub mod wire;

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use wire::Wire;

/// How long a server may take to start: the machine may be busy with other tests.
const START: Duration = Duration::from_secs(90);
/// How long a server may take to end after SIGTERM.
const STOP: Duration = Duration::from_secs(30);

/// The binary under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_freshet");

/// The repository: servers run here, so that paths in SQL can be relative to it.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A running server; dropping it kills it.
pub struct Server {
    child: Option<Child>,
    /// Where its data are.
    pub dir: PathBuf,
    /// `host:port` for PostgreSQL clients.
    pub address: String,
    /// The line it printed, `postgresql://…`.
    pub url: String,
}

impl Server {
    /// Starts a server on free ports.
    pub fn start(dir: &Path, workers: usize) -> Server {
        Server::try_start(dir, workers, &[]).unwrap_or_else(|e| panic!("the server does not start: {e}"))
    }

    /// Starts a server that may refuse; the error is what it wrote to standard error.
    pub fn try_start(dir: &Path, workers: usize, more: &[&str]) -> Result<Server, String> {
        fs::create_dir_all(dir).map_err(|e| e.to_string())?;
        let log_path = dir.with_extension("stderr");
        let log = File::options().create(true).append(true).open(&log_path).map_err(|e| e.to_string())?;
        let before = log.metadata().map(|m| m.len()).unwrap_or(0);
        let mut child = Command::new(BINARY)
            .args(["--pg-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0"])
            .arg("--data-dir")
            .arg(dir)
            .args(["--workers", &workers.to_string()])
            .args(more)
            .current_dir(repository())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(|e| format!("{BINARY}: {e}"))?;
        let stdout = child.stdout.take().expect("stdout is piped");
        let (send, receive) = mpsc::channel();
        std::thread::spawn(move || {
            // Reads on after the ready line, so that the server never blocks on a full pipe.
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                drop(send.send(line));
            }
        });
        let said = || {
            let text = fs::read(&log_path).unwrap_or_default();
            String::from_utf8_lossy(&text[text.len().min(before as usize)..]).into_owned()
        };
        let deadline = Instant::now() + START;
        loop {
            match receive.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    let Some(at) = line.find("postgresql://") else { continue };
                    let url = line[at..].split_whitespace().next().unwrap_or_default().to_string();
                    let address = url["postgresql://".len()..].split('/').next().unwrap_or_default();
                    let address = address.rsplit('@').next().unwrap_or_default().to_string();
                    return Ok(Server { child: Some(child), dir: dir.to_path_buf(), address, url });
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    let status = child.wait().map_err(|e| e.to_string())?;
                    return Err(format!("{status}\n{}", said()));
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    drop(child.kill());
                    drop(child.wait());
                    return Err(format!("not ready after {START:?}\n{}", said()));
                }
            }
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// A new session.
    pub fn connect(&self) -> Wire {
        Wire::connect(&self.address, "freshet", "freshet").expect("a session")
    }

    /// kill -9.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.kill());
            drop(child.wait());
        }
    }

    /// SIGTERM, and waits for the end.
    pub fn terminate(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("a running server");
        let pid = child.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status().expect("kill runs");
        assert!(sent.success(), "SIGTERM could not be sent");
        let deadline = Instant::now() + STOP;
        loop {
            if let Some(status) = child.try_wait().expect("the child can be waited for") {
                return status;
            }
            if Instant::now() > deadline {
                drop(child.kill());
                drop(child.wait());
                panic!("the server has not ended {STOP:?} after SIGTERM");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Everything the server has written to standard error.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.with_extension("stderr")).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Tries until it is true; panics after the time with the last answer.
pub fn eventually<T: std::fmt::Debug>(within: Duration, mut look: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + within;
    loop {
        match look() {
            Ok(found) => return found,
            Err(e) if Instant::now() > deadline => panic!("not within {within:?}: {e}"),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// Recomputes every materialized view of the search path and gives what differs.
pub fn check_views(session: &mut Wire) -> Result<(), String> {
    let views = session.rows("SHOW MATERIALIZED VIEWS").map_err(|e| e.to_string())?;
    for view in views {
        let name = view[0].clone().unwrap_or_default();
        let quoted = format!("\"{}\"", name.replace('"', "\"\""));
        match session.rows(&format!("CHECK MATERIALIZED VIEW {quoted}")) {
            Ok(rows) if rows.is_empty() => {}
            Ok(rows) => return Err(format!("{name} differs from its query: {rows:?}")),
            // A source that keeps no history cannot be read again.
            Err(e) if e.code() == "0A000" => {}
            Err(e) => return Err(format!("CHECK MATERIALIZED VIEW {quoted}: {e}")),
        }
    }
    Ok(())
}

/// A generator of numbers for tests: the same seed, the same numbers.
pub struct Random(u64);

impl Random {
    /// Starts at a seed.
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % n
    }
}
