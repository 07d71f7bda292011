//! What goes wrong outside the server: clients that flood, vanish, never read or talk nonsense, statements that explode,
//! data directories and sources that are damaged. Whatever comes, the server answers or refuses in PostgreSQL's words,
//! stays up, and panics never.
//!
//! Boundary: the real binary over its port; a full disk is in `disk_full.rs`, kill -9 in `crash.rs`.

mod common;

#[path = "faults/clients.rs"]
mod clients;
#[path = "faults/connections.rs"]
mod connections;
#[path = "faults/directory.rs"]
mod directory;
#[path = "faults/limits.rs"]
mod limits;
#[path = "faults/protocol.rs"]
mod protocol;
#[path = "faults/raw.rs"]
mod raw;
#[path = "faults/settings.rs"]
mod settings;
#[path = "faults/shapes.rs"]
mod shapes;
#[path = "faults/sources.rs"]
mod sources;
#[path = "faults/statements.rs"]
mod statements;
#[path = "faults/stopping.rs"]
mod stopping;

use std::path::PathBuf;

use common::Server;

/// A server in a directory of its own.
pub struct Fresh {
    pub server: Server,
    pub directory: tempfile::TempDir,
}

impl Fresh {
    /// Starts it with more flags.
    pub fn start(flags: &[&str]) -> Fresh {
        let directory = tempfile::tempdir().expect("a directory");
        let server = Server::try_start(&directory.path().join("data"), 2, flags).expect("a server");
        Fresh { server, directory }
    }

    /// Its data directory.
    pub fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// The server still answers, and nothing in it has panicked.
    pub fn is_well(&self) {
        assert_eq!(self.server.connect().value("SELECT 1 + 1").expect("an answer"), "2");
        no_panic(&self.server);
    }
}

/// The log tells of no panic.
pub fn no_panic(server: &Server) {
    let log = server.log();
    assert!(!log.contains("panicked"), "a panic:\n{log}");
}
