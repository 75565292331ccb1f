//! Where the answer goes: checked writes, at the very end, or none. An answer may be larger than
//! memory, so it is written piece by piece.
//!
//! `println!` panics when nobody reads. Here every write and flush is checked, and a failure is the
//! exit code's business. The file for the JSON is opened before the run, so that a bad path costs a
//! second and not a minute; its old content stays until the new one is there.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::schema::Report;
use super::text;
use crate::error::Error;
use crate::interrupt::{self, interrupted};

/// The file that standard output goes to, where the system has a name for that.
const STDOUT: &str = "/dev/stdout";
/// Bytes that are written at once.
const BUFFER: usize = 1 << 16;

/// What a command has found, and how it is written.
pub(crate) trait Answer {
    /// The part that every command has.
    fn report(&self) -> &Report;

    /// Writes it for people.
    fn write_text(&self, out: &mut dyn Write) -> io::Result<()>;

    /// Writes all of it for programs.
    fn write_json(&self, out: &mut dyn Write) -> io::Result<()>;
}

impl Answer for Report {
    fn report(&self) -> &Report {
        self
    }

    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(text::render(self, &[]).as_bytes())
    }

    fn write_json(&self, out: &mut dyn Write) -> io::Result<()> {
        write_json(self, out)
    }
}

/// Writes something as JSON, for people to read too.
pub(crate) fn write_json(what: &impl Serialize, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, what)?;
    out.write_all(b"\n")
}

/// Where the answer of a run goes.
#[derive(Debug)]
pub(crate) enum Destination {
    /// The text to standard output.
    Text,
    /// The JSON to standard output, and nothing else.
    Json,
    /// The JSON to a file, and the text to standard output.
    Both(JsonFile),
}

/// A file that is there, and can be written.
#[derive(Debug)]
pub(crate) struct JsonFile {
    path: PathBuf,
    file: File,
    /// Whether to take the file away again when nothing gets written.
    ours: bool,
}

impl Destination {
    /// Looks at the user's `--json`, and opens the file, which must be none of the files that the
    /// command reads, and not the one that the text is redirected to: each would overwrite the
    /// other.
    pub(crate) fn open(json: Option<PathBuf>, inputs: &[&Path]) -> Result<Self, Error> {
        match json {
            None => Ok(Self::Text),
            Some(path) if path == Path::new("-") => Ok(Self::Json),
            Some(path) => {
                if let Some(input) = inputs.iter().find(|input| is_same_file(input, &path)) {
                    let (path, input) = (path.display(), input.display());
                    return Err(Error::Usage(format!(
                        "--json {path} would overwrite {input}, which is read"
                    )));
                }
                if is_same_file(Path::new(STDOUT), &path) {
                    let path = path.display();
                    return Err(Error::Usage(format!(
                        "--json {path} is where standard output goes; for JSON alone there write --json -"
                    )));
                }
                JsonFile::open(path).map(Self::Both)
            }
        }
    }

    /// Writes the answer: the file first, so that standard output stays empty when the file cannot
    /// be written.
    pub(crate) fn deliver(self, answer: &dyn Answer) -> Result<(), Error> {
        match self {
            Self::Text => print(|out| answer.write_text(out)),
            Self::Json => print(|out| answer.write_json(out)),
            Self::Both(file) => {
                file.write(|out| answer.write_json(out))?;
                print(|out| answer.write_text(out))
            }
        }
    }
}

/// Whether two paths lead to one regular file, be it through links. Devices may be read and written
/// at once.
fn is_same_file(one: &Path, other: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let identity = |path: &Path| {
            let metadata = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file)?;
            Some((metadata.dev(), metadata.ino()))
        };
        identity(one).is_some_and(|identity_of_one| identity(other) == Some(identity_of_one))
    }
    #[cfg(not(unix))]
    {
        let both = (one.canonicalize(), other.canonicalize());
        matches!(both, (Ok(one), Ok(other)) if one == other && one.is_file())
    }
}

impl JsonFile {
    fn open(path: PathBuf) -> Result<Self, Error> {
        let refused = |source| Error::io(format!("write {}", path.display()), source);
        let (file, ours) = match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(file) => {
                interrupt::set_unfinished(Some(path.clone()));
                (file, true)
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                // Through a dangling link this creates its target.
                let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
                (file.map_err(refused)?, false)
            }
            Err(error) => return Err(refused(error)),
        };
        Ok(Self { path, file, ours })
    }

    fn write(mut self, content: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Error> {
        let written = self.replace(content);
        self.ours &= written.is_err();
        if written.is_ok() {
            interrupt::set_unfinished(None);
        }
        written.map_err(|source| refused(format!("write {}", self.path.display()), source))
    }

    fn replace(&mut self, content: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
        // Devices and pipes have no length to cut.
        let regular = self.file.metadata()?.is_file();
        if regular {
            self.file.set_len(0)?;
        }
        let mut out = BufWriter::with_capacity(BUFFER, &self.file);
        content(&mut out)?;
        out.flush()?;
        drop(out);
        // Some file systems report a full disk only here. On a busy disk that takes seconds, which
        // a run that was stopped does not have.
        if regular && !interrupted() { self.file.sync_all() } else { Ok(()) }
    }
}

impl Drop for JsonFile {
    fn drop(&mut self) {
        if self.ours {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Writes to standard output, to the last byte.
pub(crate) fn print(content: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Error> {
    let mut out = BufWriter::with_capacity(BUFFER, io::stdout().lock());
    content(&mut out)
        .and_then(|()| out.flush())
        .map_err(|source| refused("write to standard output".to_owned(), source))
}

/// Writes to standard error, and does not mind when nobody listens.
pub(crate) fn complain(what: &str) {
    let _ = writeln!(io::stderr(), "ringmain-bench: {what}");
}

/// An answer that was not written whole: because somebody stopped the run, or the system refused.
fn refused(action: String, source: io::Error) -> Error {
    if interrupted() { Error::Interrupted } else { Error::io(action, source) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("ringmain-bench-output-{}-{name}", std::process::id()))
    }

    #[test]
    fn a_file_keeps_its_content_until_the_new_one_is_there() {
        let path = scratch("kept");
        std::fs::write(&path, "a much longer text than the one that follows").expect("a scratch file");
        drop(JsonFile::open(path.clone()).expect("an existing file"));
        assert!(std::fs::read_to_string(&path).expect("still there").starts_with("a much longer"));
        JsonFile::open(path.clone())
            .expect("an existing file")
            .write(|out| out.write_all(b"{}\n"))
            .expect("room on the disk");
        assert_eq!(std::fs::read_to_string(&path).expect("written"), "{}\n");
        std::fs::remove_file(path).expect("our file");
    }

    #[test]
    fn a_run_without_an_answer_leaves_no_file_behind() {
        let path = scratch("new");
        drop(JsonFile::open(path.clone()).expect("a new file"));
        assert!(!path.exists());
    }
}
