// SPDX-License-Identifier: GPL-2.0

//! The command line.

use clap::Parser;
use std::path::PathBuf;
use uuid::Uuid;

/// Seconds since 1970 and nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time(pub i64, pub u32);

const EXAMPLES: &str = "\
Examples:
  mkdaxfs rootfs rootfs.daxfs                 image the directory rootfs
  mkdaxfs --label model -q model model.daxfs  name the image, say nothing
  mkdaxfs --pack rootfs rootfs.daxfs          make the image as small as can be
  mkdaxfs --block-size 65536 tree arm64.img   for kernels with 64 KiB pages

The same tree gives the same image, byte for byte. An existing IMAGE is
replaced only when the new one is complete and verified; a run that fails
leaves it as it was.

Exit status: 0 done, 1 failed, 2 wrong usage.";

/// Make a daxfs image of a directory: a read-only file system for memory.
#[derive(Debug, Parser)]
#[command(name = "mkdaxfs", version, max_term_width = 100, after_help = EXAMPLES)]
pub struct Args {
    /// Directory that the image shall hold
    pub dir: PathBuf,

    /// File to write the image to
    pub image: PathBuf,

    /// Name of the file system, up to 64 bytes of UTF-8
    #[arg(long, short = 'L', value_name = "TEXT", default_value = "", hide_default_value = true, value_parser = label)]
    pub label: String,

    /// UUID of the file system [default: derived from the content]
    #[arg(long, short = 'U')]
    pub uuid: Option<Uuid>,

    /// Build time in seconds since 1970 [default: SOURCE_DATE_EPOCH, else the newest file's]
    #[arg(long, short = 'T', value_name = "SEC[.NSEC]", env = "SOURCE_DATE_EPOCH", hide_env = true,
          allow_hyphen_values = true, value_parser = time)]
    pub time: Option<Time>,

    /// Alignment of file data: a power of two from 4096 to 65536, at least the reader's page size
    #[arg(long, short = 'b', value_name = "BYTES", default_value_t = 4096, value_parser = block_size)]
    pub block_size: u32,

    /// Put files smaller than a block where others leave room: they are read as fast, but mapped by copies
    #[arg(long)]
    pub pack: bool,

    /// Store files with the same content separately
    #[arg(long)]
    pub no_dedupe: bool,

    /// Print nothing but warnings and errors
    #[arg(long, short)]
    pub quiet: bool,
}

fn label(text: &str) -> Result<String, String> {
    if text.len() > 64 {
        return Err(format!("it has {} bytes, 64 is the limit", text.len()));
    }
    if text.contains('\0') {
        return Err("it must not contain NUL".into());
    }
    Ok(text.into())
}

fn block_size(text: &str) -> Result<u32, String> {
    match text.parse::<u32>() {
        Ok(size) if size.is_power_of_two() && (4096..=65536).contains(&size) => Ok(size),
        _ => Err("use 4096, 8192, 16384, 32768 or 65536".into()),
    }
}

/// Parses seconds with up to nine decimals; the fraction counts upwards from the second, as in `stat`.
fn time(text: &str) -> Result<Time, String> {
    let wrong =
        || "--time and SOURCE_DATE_EPOCH take SECONDS or SECONDS.FRACTION since 1970".to_string();
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = fraction.bytes().all(|byte| byte.is_ascii_digit());
    if fraction.is_empty() || fraction.len() > 9 || !digits {
        return Err(wrong());
    }
    let nanoseconds = format!("{fraction:0<9}").parse().map_err(|_| wrong())?;
    let seconds = seconds.parse().map_err(|_| wrong())?;
    Ok(Time(seconds, nanoseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_is_consistent() {
        use clap::CommandFactory;
        Args::command().debug_assert();
    }

    #[test]
    fn times() {
        assert_eq!(time("0"), Ok(Time(0, 0)));
        assert_eq!(time("-1.5"), Ok(Time(-1, 500_000_000)));
        assert_eq!(time("4294967296.000000001"), Ok(Time(1 << 32, 1)));
        assert_eq!(time("-9223372036854775808"), Ok(Time(i64::MIN, 0)));
        for wrong in [
            "",
            ".",
            "1.",
            ".5",
            "1.0000000000",
            "9223372036854775808",
            "1.-1",
            "1 ",
            "1e3",
        ] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
    }
}
