// SPDX-License-Identifier: GPL-2.0-only

//! Runs programs as a user does: with lines of the shell, in a directory of their own.

use crate::listing::Listing;
use crate::{assert_same, listing_of, scratch, snapshot};
use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Output and exit status of a run.
pub struct Run {
    /// Exit status, or the signal's number negated.
    pub status: i32,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stdout = String::from_utf8_lossy(&self.stdout);
        write!(f, "status {}, {stdout:?}, {:?}", self.status, self.stderr)
    }
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        let status = output.status;
        Run {
            status: status.code().unwrap_or_else(|| -status.signal().unwrap()),
            stdout: output.stdout,
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Run {
    /// Returns standard output as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap()
    }

    /// Parses standard output as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.stdout).unwrap()
    }
}

/// A directory and a program under test.
pub struct Place {
    directory: tempfile::TempDir,
    programs: tempfile::TempDir,
}

impl Place {
    /// Creates a directory, and runs `script` in it. `names` are names of `program` there.
    pub fn new(program: &str, names: &[&str], script: &str) -> Self {
        let place = Place {
            directory: scratch(),
            programs: scratch(),
        };
        // Let other users run it, too.
        chmod(place.programs.path(), 0o755);
        for name in names {
            std::os::unix::fs::symlink(program, place.programs.path().join(name)).unwrap();
        }
        place.shell(script);
        place
    }

    /// Adds a program under its own name.
    pub fn with(self, program: &Path) -> Self {
        let name = program.file_name().unwrap();
        std::os::unix::fs::symlink(program, self.programs.path().join(name)).unwrap();
        self
    }

    /// Returns the path of the file `name`.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Returns the path of the file `name` as text.
    pub fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().into()
    }

    pub fn exists(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    pub fn read(&self, name: impl AsRef<Path>) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    pub fn write(&self, name: impl AsRef<Path>, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).unwrap();
    }

    /// Returns the sorted names in the directory `name`.
    pub fn names(&self, name: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(name)).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }

    /// Returns the listing of the image `name`, which must follow every rule.
    pub fn listing(&self, name: &str) -> Listing {
        listing_of(&self.path(name))
    }

    /// Checks that two images are identical.
    #[track_caller]
    pub fn same(&self, found: &str, wanted: &str) {
        if self.read(found) != self.read(wanted) {
            assert_same(&self.listing(found), &self.listing(wanted));
            panic!("{found} and {wanted}: the same files in different images");
        }
    }

    /// Returns a command that runs `program` here, one of the names or another program.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("env");
        let mut path = self.programs.path().as_os_str().to_owned();
        for more in [":", &std::env::var("PATH").unwrap(), ":/usr/sbin:/sbin"] {
            path.push(more);
        }
        command.arg(program).current_dir(self.directory.path());
        command.env("PATH", path).env_remove("SOURCE_DATE_EPOCH");
        command.stdin(Stdio::null());
        command
    }

    /// Runs a shell command line.
    pub fn run(&self, line: impl AsRef<OsStr>) -> Run {
        let mut command = self.command("bash");
        command.arg("-c").arg(line).output().unwrap().into()
    }

    /// Runs a script, which must succeed.
    #[track_caller]
    pub fn shell(&self, script: impl AsRef<OsStr>) {
        let mut command = self.command("bash");
        let output = command.arg("-ec").arg(&script).output().unwrap();
        assert!(output.status.success(), "{:?}: {output:?}", script.as_ref());
    }

    /// Runs a line, which must succeed and print nothing on standard error.
    #[track_caller]
    pub fn ok(&self, line: impl AsRef<OsStr>) -> Run {
        let run = self.run(&line);
        let shown = line.as_ref();
        assert_eq!((run.status, run.stderr.as_str()), (0, ""), "{shown:?}");
        run
    }

    /// Runs a line, which must fail with status 1 and a single line on standard error that contains
    /// `part`. Returns that line.
    #[track_caller]
    pub fn fails(&self, line: impl AsRef<OsStr>, part: &str) -> String {
        let run = self.run(&line);
        let shown = line.as_ref();
        let found = (run.status, run.text(), run.stderr.lines().count());
        assert_eq!(found, (1, "", 1), "{shown:?}: {run:?}");
        assert!(run.stderr.contains(part), "{shown:?}: {part}: {run:?}");
        run.stderr
    }

    /// Runs a line, which must exit with `status` and print `part` on standard error.
    #[track_caller]
    pub fn says(&self, line: impl AsRef<OsStr>, status: i32, part: &str) -> Run {
        let run = self.run(&line);
        let is_said = run.status == status && run.stderr.contains(part);
        assert!(is_said, "{:?}: {part}: {run:?}", line.as_ref());
        run
    }

    /// Runs a line, which must succeed and print `part`. Returns its output.
    #[track_caller]
    pub fn prints(&self, line: impl AsRef<OsStr>, part: &str) -> String {
        let text = self.ok(&line).text().to_owned();
        assert!(text.contains(part), "{:?}: {part}: {text}", line.as_ref());
        text
    }

    /// Runs `program` with each row's `ARGUMENTS | STATUS | PART`: it must exit with the status and
    /// print the part, maybe as an error. Arguments alone must succeed.
    #[track_caller]
    pub fn steps(&self, program: &str, rows: &str) {
        for row in rows.lines().map(str::trim_start) {
            let mut fields = row.splitn(3, " | ");
            let run = self.run(format!("{program} {}", fields.next().unwrap()));
            let status = fields.next().unwrap_or("0").parse();
            let said = [&run.stdout, run.stderr.as_bytes()].concat();
            let said = String::from_utf8_lossy(&said);
            let is_said = said.contains(fields.next().unwrap_or_default());
            assert!(Ok(run.status) == status && is_said, "{row}: {run:?}");
        }
    }

    /// Provokes errors. Each row is a shell command line, its exit status and part of the message,
    /// separated by bars. Each must print exactly one line on standard error, and change no file.
    #[track_caller]
    pub fn mistakes(&self, rows: &str) {
        let before = snapshot(self.directory.path());
        let is_row = |row: &&str| !row.is_empty() && !row.starts_with('#');
        for row in rows.lines().map(str::trim_start).filter(is_row) {
            let [line, status, part] = row.splitn(3, " | ").collect::<Vec<_>>()[..] else {
                panic!("not a mistake: {row}");
            };
            let run = self.run(line);
            let message = &run.stderr;
            assert_eq!(Ok(run.status), status.parse(), "{line}: {run:?}");
            assert!(run.stdout.is_empty(), "{line}: {run:?}");
            assert_eq!(message.lines().count(), 1, "{line}: {message}");
            assert!(message.contains(part), "{line}: {message}");
            // The text of system errors is enough.
            assert!(!message.contains("os error"), "{line}: {message}");
            assert!(snapshot(self.directory.path()) == before, "{line}");
        }
    }

    /// Sets up a loop device for the file `name`, if possible.
    pub fn loop_device(&self, name: &str) -> Option<Loop> {
        let run = self.run(format!("losetup --find --show {name}"));
        if run.status != 0 {
            skip("losetup cannot set up a loop device");
            return None;
        }
        Some(Loop(run.text().trim_end().into()))
    }
}

/// A loop device, by its path.
pub struct Loop(pub String);

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["-d", &self.0]).status();
    }
}

/// Returns the owner, the group and the permissions of a file.
pub fn who(path: &Path) -> (u32, u32, u32) {
    use std::os::unix::fs::MetadataExt;
    let found = path.metadata().unwrap();
    (found.uid(), found.gid(), found.mode() & 0o7777)
}

/// Sets the permissions of a file.
pub fn chmod(path: impl AsRef<Path>, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Returns true if tests have root's privileges.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Reports that a test, or part of it, was skipped.
pub fn skip(why: &str) {
    println!("SKIP: {why}");
}

/// Returns true if the program exists. Reports a skipped test otherwise.
pub fn available(program: &str) -> bool {
    let mut command = Command::new("sh");
    let found = command.args(["-c", "command -v \"$0\" >/dev/null", program]);
    let found = found.status().is_ok_and(|status| status.success());
    if !found {
        skip(&format!("no {program}"));
    }
    found
}
