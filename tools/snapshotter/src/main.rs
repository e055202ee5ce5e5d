// SPDX-License-Identifier: GPL-2.0-only

//! The daemon `daxfs-snapshotter`.

use clap::Parser;
use daxfs_files::signals::survive_limits;
use daxfs_files::{eprintln, notify, usage};
use daxfs_snapshotter::config::Config;
use daxfs_snapshotter::error::{warn, Error, Result};
use daxfs_snapshotter::loader::{self, KernelLoader, Loader};
use daxfs_snapshotter::options::Args;
use daxfs_snapshotter::record::RealDisk;
use daxfs_snapshotter::server::{report, serve};
use daxfs_snapshotter::snapshotter::Snapshotter;
use std::process::ExitCode;
use std::sync::Arc;
use tokio::signal::unix::{signal, SignalKind};

fn run(args: Args) -> Result<()> {
    let config = Config::read(&args.config)?;
    config.check()?;
    if args.check {
        return Ok(());
    }
    let memory = KernelLoader::new(&config);
    memory.check()?;
    KernelLoader::check_namespace(config.private_mounts)?;
    let snapshotter = Arc::new(Snapshotter::open(
        &config,
        Box::new(memory),
        Box::new(RealDisk),
    )?);
    let room = Arc::clone(&snapshotter);
    let room = move |size| match room.make_room_for_pack(size) {
        Err(Error::Load(error)) => Err(error),
        other => other.map_err(|error| daxfs_image::Error::refused("", error.to_string())),
    };
    loader::serve(&config, Box::new(room))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::Invalid(format!("cannot start threads: {error}")))?;
    let served = runtime.block_on(async {
        let catch = |kind| {
            signal(kind).map_err(|error| Error::Invalid(format!("cannot handle signals: {error}")))
        };
        let mut terminate = catch(SignalKind::terminate())?;
        let mut interrupt = catch(SignalKind::interrupt())?;
        let end = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        let ready = || {
            if let Err(error) = notify() {
                warn(&format_args!("cannot notify systemd: {error}"));
            }
            let snapshotter = Arc::clone(&snapshotter);
            tokio::task::spawn_blocking(move || snapshotter.tidy());
        };
        if !config.metrics.as_os_str().is_empty() {
            let (path, snapshotter) = (config.metrics.clone(), Arc::clone(&snapshotter));
            std::thread::spawn(move || report(&path, &snapshotter));
        }
        serve(&config, Arc::clone(&snapshotter), ready, end).await
    });
    // Old metrics would look current.
    let _ = std::fs::remove_file(&config.metrics);
    // The next start removes the rest.
    runtime.shutdown_background();
    served
}

fn main() -> ExitCode {
    daxfs_image::warning::send_to(warn);
    survive_limits();
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return usage("daxfs-snapshotter", &error, 2),
    };
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("daxfs-snapshotter: {error}");
            ExitCode::FAILURE
        }
    }
}
