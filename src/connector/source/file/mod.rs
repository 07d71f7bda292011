//! The file source: a file, the files of a directory or of a pattern, read once or followed as they grow.
//!
//! Each file is a partition. The offset of a file of text is the number of (uncompressed) bytes taken, that of
//! a Parquet file the number of rows. Files are read one after the other in the order of their names.
//!
//! Boundary: which files there are and how far each has been read; what is in them is [`open_file`]'s and the
//! format's business.

mod open_file;

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use serde_json::{Map, Value};

use self::open_file::{OpenFile, Piece};
use super::{Fetch, SourceBatch, SourceReader, Status};
use crate::connector::format::{Format, FormatClause, csv};
use crate::connector::options::Options;
use crate::error::{Error, ErrorKind, Result};
use crate::time::EventTime;

const KNOWN: &[&str] = &["path", "follow", "poll.interval", "format", "max.record.size"];
const POLL: Duration = Duration::from_secs(1);
const MAX_RECORD: usize = 4 << 20;

/// The options of a file source.
#[derive(Debug, Clone)]
pub struct FileOptions {
    /// A file, a directory, or a pattern with `*`, `?`, `[…]`.
    pub path: String,
    /// Whether to wait for more lines and files; by default for directories and patterns.
    pub follow: Option<bool>,
    /// How long to wait before looking again.
    pub poll: Duration,
    /// What is in the files.
    pub format: Format,
    /// A longer record of text is a dead letter.
    pub max_record: usize,
}

impl FileOptions {
    /// Reads and checks the options. The encoding is that of ENCODE, of the option `format`, or of the path's name.
    pub fn read(
        options: &BTreeMap<String, String>,
        format: Option<&FormatClause>,
        schema: &SchemaRef,
    ) -> Result<Self> {
        let o = Options::new("connector \"file\"", options);
        let path = o.require("path")?.to_string();
        let format = match format {
            Some(clause) => {
                o.refuse_unknown(KNOWN)?;
                Format::from_clause(clause)?
            }
            None => {
                let known: Vec<&str> = KNOWN.iter().chain(csv::KNOWN).copied().collect();
                o.refuse_unknown(&known)?;
                let encoding = o.get("format").or_else(|| Format::encoding_of(&path)).ok_or_else(|| {
                    Error::new(ErrorKind::InvalidParameter, "the format of the files is not known")
                        .with_hint("Add FORMAT PLAIN ENCODE CSV, JSON or PARQUET.")
                })?;
                let own = options.iter().filter(|(k, _)| !KNOWN.contains(&k.as_str()));
                Format::read(
                    &encoding.to_ascii_lowercase(),
                    &own.map(|(k, v)| (k.clone(), v.clone())).collect(),
                )?
            }
        };
        let poll = o.duration("poll.interval")?.unwrap_or(POLL);
        if !(Duration::from_millis(10)..=Duration::from_secs(3600)).contains(&poll) {
            return Err(o.invalid(
                "poll.interval",
                o.get("poll.interval").unwrap_or(""),
                "between 10ms and 1h",
            ));
        }
        let max_record = match o.get("max.record.size") {
            None => MAX_RECORD,
            Some(text) => crate::config::parse_bytes(text)
                .filter(|n| (1024..=1 << 28).contains(n))
                .ok_or_else(|| o.invalid("max.record.size", text, "a size between 1kB and 256MB"))?
                as usize,
        };
        if schema.fields().is_empty() {
            return Err(Error::new(
                ErrorKind::InvalidTableDefinition,
                "a source must have at least one column",
            ));
        }
        Ok(FileOptions { path, follow: o.bool("follow")?, poll, format, max_record })
    }

    /// Whether the path is a pattern.
    fn is_pattern(&self) -> bool {
        self.path.contains(['*', '?', '['])
    }

    /// At CREATE SOURCE: a path that is no pattern must be there.
    pub fn check_exists(&self) -> Result<()> {
        if self.is_pattern() {
            return glob::Pattern::new(&self.path).map(drop).map_err(|e| {
                Error::new(ErrorKind::InvalidParameter, format!("invalid pattern \"{}\": {e}", self.path))
            });
        }
        std::fs::metadata(&self.path).map(drop).map_err(|e| could_not("open", &self.path, e))
    }

    /// The files of now, in the order of their names. Hidden and temporary ones are left alone.
    fn list(&self) -> Result<Vec<String>> {
        let mut files = Vec::new();
        if self.is_pattern() {
            let found = glob::glob(&self.path).map_err(|e| {
                Error::new(ErrorKind::InvalidParameter, format!("invalid pattern \"{}\": {e}", self.path))
            })?;
            files.extend(found.filter_map(|f| f.ok()).filter(|f| f.is_file()));
        } else if Path::new(&self.path).is_dir() {
            for entry in
                std::fs::read_dir(&self.path).map_err(|e| could_not("open directory", &self.path, e))?
            {
                let path = entry.map_err(|e| could_not("read directory", &self.path, e))?.path();
                if path.is_file() {
                    files.push(path);
                }
            }
        } else {
            return Ok(vec![self.path.clone()]);
        }
        files.retain(|f| {
            let name = f.file_name().map(|n| n.to_string_lossy().to_string()).unwrap_or_default();
            !name.starts_with(['.', '_']) && !name.ends_with(".tmp") && !name.ends_with('~')
        });
        let mut names: Vec<String> = files.into_iter().map(|f| f.to_string_lossy().to_string()).collect();
        names.sort();
        Ok(names)
    }
}

/// The error for a file that the system refuses.
fn could_not(what: &str, path: &str, e: std::io::Error) -> Error {
    let reason = e.to_string();
    let reason = reason.split(" (os error").next().unwrap_or_default();
    Error::new(ErrorKind::Io, format!("could not {what} \"{path}\": {reason}")).with_source(e)
}

/// How far a file has been read.
#[derive(Debug, Default, Clone)]
struct Progress {
    /// Bytes or rows taken.
    offset: u64,
    /// The size at which there was nothing more to take.
    exhausted_at: Option<u64>,
    /// Nothing more will come.
    done: bool,
}

/// Reads the files of a source.
pub struct FileReader {
    options: FileOptions,
    schema: SchemaRef,
    follow: bool,
    progress: BTreeMap<String, Progress>,
    /// Files still to be looked at in this round.
    queue: VecDeque<String>,
    open: Option<(String, OpenFile)>,
    /// Whether anything was read, and whether anything failed, in this round.
    advanced: bool,
    failed: bool,
    in_round: bool,
}

impl FileReader {
    /// Opens a reader at the offsets.
    pub fn open(options: FileOptions, schema: SchemaRef, start: &Map<String, Value>) -> Result<Self> {
        let key = if options.format == Format::Parquet { "row" } else { "byte" };
        let mut progress = BTreeMap::new();
        for path in start.keys() {
            let offset = super::offset_number(start, path, key)?;
            progress.insert(path.clone(), Progress { offset, ..Progress::default() });
        }
        let follow =
            options.follow.unwrap_or_else(|| options.is_pattern() || Path::new(&options.path).is_dir());
        Ok(FileReader {
            options,
            schema,
            follow,
            progress,
            queue: VecDeque::new(),
            open: None,
            advanced: false,
            failed: false,
            in_round: false,
        })
    }

    /// Opens the next file that has something to read. `None`: the round is over.
    fn next_file(&mut self, problems: &mut Vec<(String, Error)>) -> Option<(String, OpenFile)> {
        while let Some(path) = self.queue.pop_front() {
            let progress = self.progress.entry(path.clone()).or_default();
            if progress.done {
                continue;
            }
            match std::fs::metadata(&path) {
                Ok(m) if progress.exhausted_at == Some(m.len()) => continue,
                Ok(_) => {}
                Err(e) => {
                    problems.push((path.clone(), could_not("open", &path, e)));
                    self.failed = true;
                    continue;
                }
            }
            match OpenFile::open(&path, &self.options, self.schema.clone(), progress.offset, self.follow) {
                Ok(file) => return Some((path, file)),
                Err(e) => {
                    problems.push((path, e));
                    self.failed = true;
                }
            }
        }
        None
    }

    /// The status when a round is over.
    fn round_over(&mut self) -> Status {
        self.in_round = false;
        if self.advanced {
            return Status::More;
        }
        if self.follow || self.failed { Status::Idle(self.options.poll) } else { Status::Finished }
    }

    fn begin_round(&mut self) -> Result<(), Error> {
        self.queue = self.options.list()?.into();
        (self.in_round, self.advanced, self.failed) = (true, false, false);
        Ok(())
    }
}

impl SourceReader for FileReader {
    fn next(&mut self, max_rows: usize, max_bytes: usize, _now: EventTime) -> Result<Fetch> {
        let mut fetch = Fetch::nothing(Status::More);
        if !self.in_round
            && let Err(e) = self.begin_round()
        {
            fetch.problems.push((self.options.path.clone(), e));
            fetch.status = Status::Idle(self.options.poll);
            return Ok(fetch);
        }
        loop {
            let next = self.open.take().or_else(|| self.next_file(&mut fetch.problems));
            let Some((path, mut file)) = next else {
                fetch.status = self.round_over();
                return Ok(fetch);
            };
            match file.next(&path, max_rows.max(1), max_bytes.max(1)) {
                Ok(Piece::Rows { rows, dead_letters, offset_after }) => {
                    let progress = self.progress.entry(path.clone()).or_default();
                    (progress.offset, progress.exhausted_at) = (offset_after, None);
                    self.advanced = true;
                    fetch.dead_letters = dead_letters;
                    fetch.batches.push(SourceBatch {
                        partition: path.clone(),
                        rows,
                        offset_after: file.offset_json(offset_after),
                    });
                    self.open = Some((path, file));
                    return Ok(fetch);
                }
                Ok(Piece::Exhausted { size, done }) => {
                    let progress = self.progress.entry(path).or_default();
                    (progress.exhausted_at, progress.done) = (Some(size), done);
                }
                Err(e) => {
                    fetch.problems.push((path, e));
                    self.failed = true;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
