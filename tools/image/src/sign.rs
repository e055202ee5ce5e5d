// SPDX-License-Identifier: GPL-2.0-only

//! `sign` and `verify`: signatures of images, by openssl(1).

use crate::attach;
use crate::error::{Error, Result};
use crate::source::{cannot_open, name_of, At, Opened};
use crate::text::{parse_time, shown_path};
use daxfs_files::digest::hex;
use daxfs_files::region::Region;
use daxfs_reader::layout::SIGNATURE_MAX;
use daxfs_reader::signature::Line;
use daxfs_reader::Image;
use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;
use tempfile::TempDir;

/// Means of making a signature.
#[derive(Clone, Copy)]
pub enum By<'a> {
    /// The private key in a file, the file with its certificate, and those with certificates of
    /// authorities; the last second in which the signature counts if it is not the certificates'.
    Key(&'a Path, &'a Path, &'a [PathBuf], Option<u64>),
    /// Another program, which has put it into a file, and the last second that it has signed.
    Message(&'a Path, u64),
}

/// Signs the image in the file `path`. Returns its SHA-256.
pub fn sign(path: &Path, by: By<'_>) -> Result<String> {
    let name = name_of(path);
    if path.as_os_str() == "-" || path.metadata().is_ok_and(|found| !found.is_file()) {
        let why = "is not a regular file; sign the image in a file, then load or copy it";
        return Err(Error::refused(name, why));
    }
    let work = Work::new()?;
    let expires = match by {
        By::Key(_, cert, chain, expires) => {
            let end = work
                .certificates("trusted", &[cert])?
                .min(work.certificates("chain", chain)?);
            let expires = expires.unwrap_or(end);
            if expires > end {
                let why =
                    "the certificate expires before the signature would; choose an earlier end";
                return Err(Error::refused(shown_path(cert), why));
            }
            check_end(shown_path(cert), expires)?;
            expires
        }
        By::Message(_, expires) => expires,
    };
    let file = OpenOptions::new().read(true).write(true).open(path);
    let file = file.map_err(|error| cannot_open(&name, error))?;
    let failed = |error| Error::system(&name, "cannot write the signature", "", error);
    let size = file.metadata().map_err(failed)?.len();
    let image = Region::file(file.try_clone().map_err(failed)?, 0, size);
    let image = Opened::of_source(image, name.clone())?;
    let digest = image.digest()?;
    let line = Line { digest, expires };
    let cms = match by {
        By::Key(key, cert, chain, _) => {
            let cms = work.sign(&line, key, cert, !chain.is_empty())?;
            work.verify(&name, &line, &cms, true)?;
            cms
        }
        By::Message(file, _) => {
            let cms = fs::read(file).map_err(|error| cannot_open(&shown_path(file), error))?;
            work.verify(&shown_path(file), &line, &cms, false)?;
            cms
        }
    };
    if cms.len() > SIGNATURE_MAX as usize {
        let why = format!("the signature has {} bytes, more than {SIGNATURE_MAX}; use fewer or shorter certificates", cms.len());
        return Err(Error::refused(name, why));
    }
    attach::write::<Region>(&file, &image.superblock, &line, cms).map_err(failed)?;
    Ok(hex(&digest))
}

/// Verifies the image at the place `at` in `path`: its signature by the owner of one of `certs`, or by somebody for
/// whom one of these vouches, and its content. Returns its SHA-256.
pub fn verify(path: &Path, at: &At, certs: &[PathBuf]) -> Result<String> {
    let work = Work::new()?;
    work.certificates("trusted", certs)?;
    let image = Opened::open_at(path, at)?;
    let name = &image.name;
    let (line, cms) = attach::load(&Image::new(&image.source, &image.superblock))
        .map_err(|error| Error::image(name, b"", error))?
        .ok_or_else(|| Error::refused(name, "the image is not signed; sign it with daxfs sign"))?;
    work.verify(name, &line, &cms, true)?;
    check_end(name.clone(), line.expires)?;
    Ok(hex(&image.digest()?))
}

/// Checks that a signature that `expires` counts now.
fn check_end(name: String, expires: u64) -> Result<()> {
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    match now.as_secs() > expires {
        true => Err(Error::refused(
            name,
            "the signature has expired; sign the image again, with a later end",
        )),
        false => Ok(()),
    }
}

/// A directory with files for openssl.
struct Work(TempDir);

impl Work {
    fn new() -> Result<Self> {
        let failed = |error| {
            Error::system(
                "",
                "cannot make a temporary directory",
                "; set TMPDIR to another",
                error,
            )
        };
        TempDir::new().map(Work).map_err(failed)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, content: &[u8]) -> Result<()> {
        let path = self.path(name);
        fs::write(&path, content)
            .map_err(|error| Error::system(shown_path(&path), "cannot write", "", error))
    }

    /// Collects certificates from files as `name`, and returns the second until which all are valid, since 1970.
    fn certificates(&self, name: &str, paths: &[impl AsRef<Path>]) -> Result<u64> {
        let (mut all, mut end) = (String::new(), u64::MAX);
        for path in paths.iter().map(AsRef::as_ref) {
            let mut command = openssl("x509 -enddate -dateopt iso_8601");
            let text = run(&shown_path(path), command.arg("-in").arg(path))?;
            let text = String::from_utf8_lossy(&text);
            let date = text.split(['=', '\n']).nth(1).and_then(parse_time);
            end = end.min(date.unwrap_or(0));
            all += &text;
        }
        self.write(name, all.as_bytes())?;
        Ok(end)
    }

    /// Signs `line`. With `chain`, the certificates of this name are in the message.
    fn sign(&self, line: &Line, key: &Path, cert: &Path, chain: bool) -> Result<Vec<u8>> {
        self.write("line", line.to_string().as_bytes())?;
        let mut command = openssl("cms -sign -binary -noattr -md sha256 -outform DER");
        command.arg("-in").arg(self.path("line"));
        command.arg("-inkey").arg(key).arg("-signer").arg(cert);
        if chain {
            command.arg("-certfile").arg(self.path("chain"));
        }
        run(&shown_path(cert), &mut command)
    }

    /// Verifies that `cms` signs `line`. With `trust`, a chain must lead from the signer to one of the
    /// trusted certificates.
    fn verify(&self, name: &str, line: &Line, cms: &[u8], trust: bool) -> Result<()> {
        self.write("line", line.to_string().as_bytes())?;
        self.write("cms", cms)?;
        let mut command = openssl("cms -verify -binary -inform DER");
        command
            .arg("-in")
            .arg(self.path("cms"))
            .arg("-content")
            .arg(self.path("line"));
        match trust {
            // The system's own authorities vouch for web servers.
            true => command
                .args(
                    "-no-CApath -no-CAstore -partial_chain -purpose any -auth_level 2 -CAfile"
                        .split(' '),
                )
                .arg(self.path("trusted")),
            false => command.arg("-noverify"),
        };
        run(name, &mut command).map(|_| ())
    }
}

/// Returns a command of openssl.
fn openssl(arguments: &str) -> Command {
    let mut command = Command::new("openssl");
    command.args(arguments.split(' '));
    command
}

/// Runs a command of openssl for the file `name`, and returns its output.
fn run(name: &str, command: &mut Command) -> Result<Vec<u8>> {
    let run = command.output().map_err(|error| {
        let remedy = match error.kind() {
            io::ErrorKind::NotFound => "; install the package openssl",
            _ => "",
        };
        Error::system(name, "cannot run openssl", remedy, error)
    })?;
    match run.status.success() {
        true => Ok(run.stdout),
        false => Err(Error::refused(
            name,
            format!(
                "openssl: {}",
                reasons(&String::from_utf8_lossy(&run.stderr))
            ),
        )),
    }
}

/// Returns openssl's messages on one line. Of those with a number, only the reasons.
fn reasons(said: &str) -> String {
    let reasons = said
        .lines()
        .flat_map(|line| match line.splitn(9, ':').collect::<Vec<_>>()[..] {
            [_, "error", _, _, _, reason, _, _, data] => [reason, data],
            _ => [line, ""],
        });
    let reasons = reasons.map(|reason| reason.trim_matches([' ', ':']));
    let reasons: Vec<&str> = reasons.filter(|reason| !reason.is_empty()).collect();
    reasons.join(": ")
}
