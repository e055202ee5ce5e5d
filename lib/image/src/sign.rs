// SPDX-License-Identifier: GPL-2.0-only

//! `sign` and `verify`: signatures of images, with openssl(1).

use crate::attach;
use crate::error::{Error, Result};
use crate::source::{cannot_open, name_of, open_now, Opened};
use crate::text::{parse_time, shown_path};
use daxfs_files::digest::hex;
use daxfs_files::region::Region;
use daxfs_files::shown;
use daxfs_reader::layout::SIGNATURE_MAX;
use daxfs_reader::signature::Line;
use daxfs_reader::Image;
use rustix::fs::{fcntl_setfl, memfd_create, MemfdFlags, OFlags};
use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::SystemTime;

/// Maximum size of a certificate or message in bytes.
const READ_MAX: u64 = 1 << 20;

/// How to sign.
#[derive(Clone, Copy)]
pub enum By<'a> {
    /// The files with the private key, its certificate, and the certificates of authorities. Then
    /// the last second in which the signature is valid, if not the certificates'.
    Key(&'a Path, &'a Path, &'a [PathBuf], Option<u64>),
    /// The file with a message from another program, and the last second that it signs.
    Message(&'a Path, u64),
}

/// Signs the image in the file `path`. Returns its SHA-256.
pub fn sign(path: &Path, by: By<'_>) -> Result<String> {
    let name = name_of(path);
    if path.as_os_str() == "-" || path.metadata().is_ok_and(|found| !found.is_file()) {
        let why = "is not a regular file; sign the image in a file, then load or copy it";
        return Err(Error::refused(name, why));
    }
    let file = OpenOptions::new().read(true).write(true).open(path);
    let file = file.map_err(|error| cannot_open(&name, error))?;
    let failed = |error| Error::system(&name, "cannot write the signature", "", error);
    let size = file.metadata().map_err(failed)?.len();
    let image = Region::file(file.try_clone().map_err(failed)?, 0, size);
    let image = Opened::of_source(image, name.clone())?;
    let line = |expires| image.digest().map(|digest| Line { digest, expires });
    let (line, cms) = match by {
        By::Key(key, cert, chain, expires) => {
            let (trusted, end) = certificates(&[cert], true)?;
            let (others, end_of_others) = certificates(chain, true)?;
            let end = end.min(end_of_others);
            let expires = expires.unwrap_or(end);
            if expires > end {
                let why =
                    "the certificate expires before the signature would; choose an earlier end";
                return Err(Error::refused(shown_path(cert), why));
            }
            check_end(shown_path(cert), expires)?;
            let line = line(expires)?;
            let others = (!chain.is_empty()).then_some(&others);
            let cms = make(&line, key, cert, &trusted, others)?;
            check(&name, &line, &cms, Some(&trusted))?;
            (line, cms)
        }
        By::Message(file, expires) => {
            let (line, cms) = (line(expires)?, read(file)?);
            check(&shown_path(file), &line, &cms, None)?;
            (line, cms)
        }
    };
    attach::write::<Region>(&file, &image.superblock, &line, cms).map_err(failed)?;
    Ok(hex(&line.digest))
}

/// Verifies `image`: its signature by the owner of one of `certs` or somebody certified by one of
/// them, its content, and the content of its packs, which must be open. Returns its SHA-256.
pub fn verify(image: &Opened, certs: &[PathBuf]) -> Result<String> {
    let (trusted, _) = certificates(certs, false)?;
    let name = &image.name;
    let (line, cms) = attach::load(&Image::new(&image.source, &image.superblock))
        .map_err(|error| Error::image(name, b"", error))?
        .ok_or_else(|| Error::refused(name, "the image is not signed; sign it with daxfs sign"))?;
    check(name, &line, &cms, Some(&trusted))?;
    check_end(name.clone(), line.expires)?;
    image.require_packs()?;
    let digest = image.digest()?;
    for pack in image.open_packs() {
        pack.digest()?;
    }
    Ok(hex(&digest))
}

/// Fails if a signature that `expires` is no longer valid.
fn check_end(name: String, expires: u64) -> Result<()> {
    if now() > expires {
        Err(Error::refused(
            name,
            "the signature has expired; sign the image again, with a later end",
        ))
    } else {
        Ok(())
    }
}

fn now() -> u64 {
    let now = SystemTime::UNIX_EPOCH.elapsed();
    now.unwrap_or_default().as_secs()
}

/// A file for openssl, in memory, so that nothing remains of it after a signal.
struct Memory(File);

impl Memory {
    fn new(content: &[u8]) -> Result<Self> {
        let make = || {
            // openssl inherits the descriptor.
            let mut file = File::from(memfd_create("openssl", MemfdFlags::empty())?);
            file.write_all(content)?;
            file.rewind()?;
            Ok(Memory(file))
        };
        make().map_err(|error: io::Error| Error::system("", "cannot make a memfd", "", error))
    }

    fn path(&self) -> String {
        format!("/proc/self/fd/{}", self.0.as_raw_fd())
    }
}

/// Reads the file `path`. It may be a pipe, but a FIFO without a writer is empty.
fn read(path: &Path) -> Result<Vec<u8>> {
    let read = || {
        let file = open_now(path)?;
        fcntl_setfl(&file, OFlags::empty())?;
        let mut content = Vec::new();
        file.take(READ_MAX).read_to_end(&mut content)?;
        Ok(content)
    };
    read().map_err(|error| cannot_open(&shown_path(path), error))
}

/// Collects certificates from files, and returns the second, since 1970, until which all are valid.
/// If `signs`, fails unless all are valid now.
fn certificates(paths: &[impl AsRef<Path>], signs: bool) -> Result<(Memory, u64)> {
    let (mut all, mut end) = (String::new(), u64::MAX);
    for path in paths.iter().map(AsRef::as_ref) {
        let mut command = openssl("x509 -enddate -dateopt iso_8601");
        let text = run(
            &shown_path(path),
            command.stdin(Memory::new(&read(path)?)?.0),
        )?;
        let text = String::from_utf8_lossy(&text);
        let date = text.split(['=', '\n']).nth(1).and_then(parse_time);
        let date = date.unwrap_or(0);
        if signs && date < now() {
            return Err(Error::refused(
                shown_path(path),
                "the certificate has expired; renew it",
            ));
        }
        end = end.min(date);
        // openssl accepts a certificate only once.
        if !all.contains(&*text) {
            all += &text;
        }
    }
    Ok((Memory::new(all.as_bytes())?, end))
}

/// Signs `line` with the key for the certificate `signer`, which is from the file `cert`. The
/// message includes the certificates in `chain`.
fn make(
    line: &Line,
    key: &Path,
    cert: &Path,
    signer: &Memory,
    chain: Option<&Memory>,
) -> Result<Vec<u8>> {
    let line = Memory::new(line.to_string().as_bytes())?;
    let mut command = openssl("cms -sign -binary -noattr -md sha256 -outform DER");
    command.arg("-in").arg(line.path());
    command.arg("-inkey").arg(key);
    command.arg("-signer").arg(signer.path());
    if let Some(chain) = chain {
        command.arg("-certfile").arg(chain.path());
    }
    run(&shown_path(cert), &mut command)
}

/// Verifies that `cms` signs `line` and has the required form. A chain must lead from the signer to
/// one of the certificates in `trusted`, if any.
fn check(name: &str, line: &Line, cms: &[u8], trusted: Option<&Memory>) -> Result<()> {
    if cms.len() > SIGNATURE_MAX as usize {
        let why = format!(
            "the signature has more than {SIGNATURE_MAX} bytes; use fewer or shorter certificates"
        );
        return Err(Error::refused(name, why));
    }
    let line = Memory::new(line.to_string().as_bytes())?;
    let message = Memory::new(cms)?;
    let mut command = openssl("cms -verify -binary -inform DER");
    command.arg("-in").arg(message.path());
    command.arg("-content").arg(line.path());
    match trusted {
        // Without the system's own authorities, which vouch for web servers.
        Some(trusted) => command
            .args(
                "-no-CApath -no-CAstore -partial_chain -purpose any -auth_level 2 -CAfile"
                    .split(' '),
            )
            .arg(trusted.path()),
        None => command.arg("-noverify"),
    };
    run(name, &mut command)?;
    let mut command = openssl("cms -cmsout -noout -print -inform DER");
    let text = run(name, command.arg("-in").arg(message.path()))?;
    if has_form(cms, &String::from_utf8_lossy(&text)) {
        Ok(())
    } else {
        Err(Error::refused(name, FORM))
    }
}

const FORM: &str = "the kernel does not take signatures of this form; use an RSA key, or an EC key on P-256 or P-384, \
    at most 8 certificates, and openssl cms -sign -binary -noattr -md sha256 -outform DER";

/// Returns true if a message, and its `text` as openssl prints it, have the form in format.rst.
fn has_form(cms: &[u8], text: &str) -> bool {
    let size = match *cms {
        [0x30, 0x82, high, low, ..] => 4 + usize::from(u16::from_be_bytes([high, low])),
        [0x30, 0x81, size, ..] => 3 + usize::from(size),
        _ => 0,
    };
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let count = |line: &str| lines.iter().filter(|found| **found == line).count();
    // Whether each line that follows one with the prefix `head` starts with one of `allowed`.
    let all = |head: &str, allowed: &[&str]| {
        let mut pairs = lines.windows(2).filter(|pair| pair[0].starts_with(head));
        pairs.all(|pair| allowed.iter().any(|start| pair[1].starts_with(start)))
    };
    let hashes = ["sha256 ", "sha384 ", "sha512 "].map(|hash| format!("algorithm: {hash}"));
    let curves = ["prime256v1 ", "secp384r1 "].map(|curve| format!("parameter: OBJECT:{curve}"));
    size == cms.len()
        && count("eContent: <ABSENT>") == 1
        && count("d.issuerAndSerialNumber:") == 1
        && count("version: 3") == 0
        && count("d.certificate:") <= 8
        && all("signedAttrs:", &["<ABSENT>"])
        && all("unsignedAttrs:", &["<ABSENT>"])
        && all("crls:", &["<ABSENT>"])
        && all("digestAlgorithm:", &hashes.each_ref().map(String::as_str))
        && all(
            "signatureAlgorithm:",
            &["algorithm: rsaEncryption ", "algorithm: ecdsa-with-"],
        )
        && all(
            "algor:",
            &["algorithm: rsaEncryption ", "algorithm: id-ecPublicKey "],
        )
        && all(
            "algorithm: id-ecPublicKey",
            &curves.each_ref().map(String::as_str),
        )
}

fn openssl(arguments: &str) -> Command {
    let mut command = Command::new("openssl");
    // openssl may read a key from there.
    command.args(arguments.split(' ')).stdin(Stdio::inherit());
    command
}

/// Runs an openssl command for the file `name` and returns its output.
fn run(name: &str, command: &mut Command) -> Result<Vec<u8>> {
    let run = command.output().map_err(|error| {
        let remedy = match error.kind() {
            io::ErrorKind::NotFound => "; install the package openssl",
            _ => "",
        };
        Error::system(name, "cannot run openssl", remedy, error)
    })?;
    if run.status.success() {
        Ok(run.stdout)
    } else {
        Err(Error::refused(
            name,
            format!(
                "openssl: {}",
                reasons(&String::from_utf8_lossy(&run.stderr))
            ),
        ))
    }
}

/// Returns openssl's messages on one line; only the reasons of numbered messages.
fn reasons(said: &str) -> String {
    let reasons = said
        .lines()
        .map(|line| line.trim_end_matches(" from <stdin>"))
        .flat_map(|line| match line.splitn(9, ':').collect::<Vec<_>>()[..] {
            [_, "error", _, _, _, reason, _, _, data] => [reason, data],
            _ => [line, ""],
        });
    let reasons = reasons.map(|reason| reason.trim_matches([' ', ':']));
    let mut reasons: Vec<&str> = reasons.filter(|reason| !reason.is_empty()).collect();
    // openssl tries every file type that it knows, and reports the same error for each.
    let mut said = HashSet::new();
    reasons.retain(|reason| said.insert(*reason));
    // File names may contain control characters. The text keeps its backslashes.
    shown(reasons.join(": ").as_bytes()).replace(r"\\", r"\")
}
