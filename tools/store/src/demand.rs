// SPDX-License-Identifier: GPL-2.0-only

//! Packs on demand: a server loads a pack when a file in it is opened for the first time.
//!
//! Such an image is mounted without packs. The server listens to fanotify(7) on its superblock, so
//! it sees each open(2) and execve(2) before the driver, even those through overlayfs. It loads the
//! pack, attaches it to the mount, and lets the opener continue. If the server exits, the kernel
//! lets all openers continue, but the driver refuses files whose pack is missing (`ENOMEDIUM`).
//!
//! One server handles all mounts of a store. mount.daxfs hands a new mount to the server through a
//! socket, before anybody can open files there. A new server finds orphaned mounts in
//! /proc/self/mountinfo. The server keeps no file of a mount open, so umount(8) works as usual, and
//! inotify(7) reports that a mount is gone.

use crate::files::{failed, lock};
use crate::store::Store;
use daxfs_image::error::{Error, Result};
use daxfs_image::source::Opened;
use daxfs_image::text::shown_path;
use daxfs_load::file::ImageFile;
use daxfs_load::mountinfo::{mounts, read_of, status};
use daxfs_load::packs::{domain_of, Packs};
use daxfs_reader::Content;
use nix::sys::fanotify::{
    EventFFlags, Fanotify, FanotifyEvent, InitFlags, MarkFlags, MaskFlags, Response,
};
use rustix::event::{poll, PollFd, PollFlags, Timespec};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::fs::{
    flock, fstat, major, makedev, minor, open, FlockOperation, Mode, OFlags, StatxAttributes,
};
use rustix::io::Errno;
use rustix::net::{
    recvmsg, sendmsg, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use std::collections::{BTreeSet, HashMap};
use std::fs::{read_to_string, remove_file, DirBuilder, File};
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// The directory of the servers' sockets. Only root can enter it.
const RUN: &str = "/run/daxfs";

/// Seconds that a server without mounts waits for the next one.
const IDLE: i64 = 5;

/// How long mount.daxfs waits for the server, and how long the server waits for mount.daxfs.
const PATIENCE: [Duration; 2] = [Duration::from_secs(60), Duration::from_secs(5)];

/// Maximum number of opens that wait for packs. Further ones are refused.
const WAITING: usize = 1 << 16;

/// Fails if there is no room to load this many bytes.
pub type AskRoom = Box<dyn Fn(u64) -> Result<()> + Send + Sync>;

/// A mounted image with missing packs.
struct Served {
    device: u64,
    watch: i32,
    image: Opened,
    packs: Packs,
    missing: Mutex<BTreeSet<usize>>,
    /// Where the mount was found last.
    place: Mutex<PathBuf>,
}

/// An open that waits for the image's pack with this index.
type Waiting = (Arc<Served>, usize, FanotifyEvent);

/// The server of a store.
pub struct Server {
    store: PathBuf,
    domain: String,
    room: AskRoom,
    fanotify: Fanotify,
    inotify: OwnedFd,
    listener: UnixListener,
    mounts: Mutex<HashMap<u64, Arc<Served>>>,
    /// Opens that wait for packs being loaded.
    loading: Mutex<HashMap<[u8; 32], Vec<Waiting>>>,
    answering: Mutex<()>,
    _lock: File,
}

/// Logs a message for root. Writes the text with one call, so that /dev/kmsg has one record.
fn log(store: &Path, text: &str) {
    let line = format!("daxfs: {}: {text}\n", shown_path(store));
    let _ = io::stderr().write_all(line.as_bytes());
}

fn socket(domain: &str) -> PathBuf {
    Path::new(RUN).join(domain)
}

impl Server {
    /// Becomes the server of the store in the directory `dir`, and serves mounts without a server.
    /// Checks `room` before loading a pack. Returns `None` if another process is the server.
    pub fn start(dir: &Path, room: AskRoom) -> Result<Option<Arc<Self>>> {
        let store = dir.canonicalize().map_err(|e| failed(dir, "open", e))?;
        Store::open(&store)?;
        let domain = domain_of(&store)?;
        let run = Path::new(RUN);
        match DirBuilder::new().mode(0o700).create(run) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(failed(run, "make the directory", error));
            }
            _ => {}
        }
        let (path, lock) = (socket(&domain), run.join(format!("{domain}.lock")));
        let fail = |error| failed(&lock, "lock", error);
        let lock = File::create(&lock).map_err(fail)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => return Ok(None),
            locked => locked.map_err(|error| fail(error.into()))?,
        }
        let flags = InitFlags::FAN_CLASS_PRE_CONTENT
            | InitFlags::FAN_CLOEXEC
            | InitFlags::FAN_UNLIMITED_QUEUE
            | InitFlags::FAN_UNLIMITED_MARKS;
        let files = EventFFlags::O_RDONLY | EventFFlags::O_LARGEFILE | EventFFlags::O_CLOEXEC;
        let fanotify = Fanotify::init(flags, files).map_err(|error| {
            let remedy = "; load=demand needs root, outside of user namespaces, \
                          and a kernel with CONFIG_FANOTIFY_ACCESS_PERMISSIONS";
            Error::system("", "cannot listen to fanotify", remedy, error)
        })?;
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC);
        let _ = remove_file(&path);
        let listener =
            UnixListener::bind(&path).and_then(|it| it.set_nonblocking(true).map(|()| it));
        daxfs_files::make_room(WAITING);
        let server = Arc::new(Server {
            inotify: inotify.map_err(|error| failed(&path, "watch", error.into()))?,
            listener: listener.map_err(|error| failed(&path, "listen on", error))?,
            store,
            domain,
            room,
            fanotify,
            mounts: Mutex::default(),
            loading: Mutex::default(),
            answering: Mutex::default(),
            _lock: lock,
        });
        let reader = Arc::clone(&server);
        thread::spawn(move || reader.read_events());
        server.find_mounts();
        Ok(Some(server))
    }

    /// Serves until this process ends, or, unless it `stays`, until the last mount is gone.
    pub fn run(&self, stays: bool) {
        loop {
            let is_idle = !stays && lock(&self.mounts).is_empty();
            let limit = Timespec {
                tv_sec: IDLE,
                tv_nsec: 0,
            };
            let mut files = [
                PollFd::new(&self.listener, PollFlags::IN),
                PollFd::new(&self.inotify, PollFlags::IN),
            ];
            if let Ok(0) = poll(&mut files, is_idle.then_some(&limit)) {
                let _ = remove_file(socket(&self.domain));
                return;
            }
            match self.listener.accept() {
                Ok((stream, _)) => self.take(stream),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // The system is temporarily short of memory or descriptors.
                Err(_) => thread::sleep(Duration::from_millis(100)),
            }
            let mut space = [MaybeUninit::uninit(); 512];
            let mut events = inotify::Reader::new(&self.inotify, &mut space);
            while let Ok(event) = events.next() {
                // The end of a watch produces an event, too.
                lock(&self.mounts).retain(|_, served| served.watch != event.wd());
            }
        }
    }

    /// Accepts a mount from mount.daxfs, and answers with a line, which is empty on success.
    fn take(&self, mut stream: UnixStream) {
        let _ = stream.set_read_timeout(Some(PATIENCE[1]));
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let (mut byte, flags) = ([0], RecvFlags::CMSG_CLOEXEC);
        let mut parts = [IoSliceMut::new(&mut byte)];
        let received = recvmsg(&stream, &mut parts, &mut control, flags);
        let root = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut files) => files.next(),
            _ => None,
        });
        if let (Ok(_), Some(root)) = (received, root) {
            let added = self.add(root.as_fd());
            drop(root);
            let answer = added.map_or_else(|error| error.to_string(), |()| String::new());
            let _ = stream.write_all(format!("{answer}\n").as_bytes());
        }
    }

    /// Serves the store's mounts that lack packs.
    fn find_mounts(&self) {
        let text = read_of("self").unwrap_or_default();
        let of_store = |mount: &daxfs_load::mountinfo::Mount<'_>| {
            mount.kind == b"daxfs" && mount.option("domain").is_some_and(|it| *it == *self.domain)
        };
        let devices = mounts(&text).filter(of_store).filter_map(|mount| {
            let (major, minor) = std::str::from_utf8(mount.device).ok()?.split_once(':')?;
            Some(makedev(major.parse().ok()?, minor.parse().ok()?))
        });
        for device in devices.collect::<BTreeSet<_>>() {
            let Some(place) = place_of(device, "self") else {
                continue;
            };
            let root = open(&place, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
            let added = root.map_err(|error| failed(&place, "open", error.into()));
            if let Err(error) = added.and_then(|root| self.add(root.as_fd())) {
                log(&self.store, &error.to_string());
            }
        }
    }

    /// Serves the mount with the directory `root`, if it lacks packs.
    fn add(&self, root: BorrowedFd<'_>) -> Result<()> {
        let fail = |what: &'static str| {
            move |error: Errno| Error::system("", what, "; mount the image again", error)
        };
        let status = fstat(root).map_err(fail("cannot examine the mount"))?;
        let device = status.st_dev;
        let figure = |name: &str| {
            let number = format!("{}:{}", major(device), minor(device));
            let path = Path::new("/sys/fs/daxfs").join(number).join(name);
            read_to_string(&path).map_err(|error| failed(&path, "read", error))
        };
        let packs = figure("packs")?;
        let lines = packs.lines().enumerate();
        let is_missing = |line: &str| line.split_whitespace().nth(2) == Some("missing");
        let missing = lines.filter(|(_, line)| is_missing(line));
        let missing: BTreeSet<usize> = missing.map(|(index, _)| index).collect();
        if missing.is_empty() {
            return Ok(());
        }
        for needed in [&*self.store, Path::new("/proc/self/exe")] {
            if needed.metadata().is_ok_and(|found| found.dev() == device) {
                let shown = shown_path(&needed.canonicalize().unwrap_or_default());
                let why = "is in the image itself, so it cannot load the image's packs; \
                           mount it without load=demand";
                return Err(Error::refused(shown, why));
            }
        }
        let digest = figure("digest")?;
        let store = Store::open(&self.store)?;
        let digest = digest.trim_end();
        let is_it = |name: &String| store.needs_of(name).is_ok_and(|it| it.0 == digest);
        let Some(name) = store.images()?.into_iter().find(is_it) else {
            let why = format!("has no image {digest} any longer; add it again");
            return Err(Error::refused(shown_path(&self.store), why));
        };
        let path = store.image(&name)?;
        let packs = Packs::of_file(&ImageFile::open(&path)?, &[])?;
        // A watch does not keep the mount busy.
        let link = format!("/proc/self/fd/{}", root.as_raw_fd());
        let watch = inotify::add_watch(&self.inotify, link, WatchFlags::DELETE_SELF);
        let served = Served {
            device,
            watch: watch.map_err(fail("cannot watch the mount"))?,
            image: Opened::open(&path)?,
            packs,
            missing: Mutex::new(missing),
            place: Mutex::default(),
        };
        lock(&self.mounts).insert(device, Arc::new(served));
        let flags = MarkFlags::FAN_MARK_ADD | MarkFlags::FAN_MARK_FILESYSTEM;
        // `root` is O_PATH, so it cannot be marked directly.
        let marked = self.mark(flags, root, Some("."));
        marked.map_err(|error| {
            let error = Errno::from_raw_os_error(error as i32);
            let remedy = if error == Errno::INVAL {
                "; the kernel needs CONFIG_FANOTIFY_ACCESS_PERMISSIONS"
            } else {
                "; mount the image again"
            };
            Error::system("", "cannot listen to opens there", remedy, error)
        })
    }

    fn mark(&self, flags: MarkFlags, file: BorrowedFd<'_>, path: Option<&str>) -> nix::Result<()> {
        let open = MaskFlags::FAN_OPEN_PERM;
        self.fanotify.mark(flags, open, file, path)
    }

    /// Reads events forever. Never opens a file: if the file were on a served mount, for example
    /// through an overlay, opening it would wait for this function.
    fn read_events(self: &Arc<Self>) {
        loop {
            // An unreadable event was answered with an error.
            for event in self.fanotify.read_events().unwrap_or_default() {
                let is_own = event.pid() == std::process::id() as i32;
                match self.wanted(&event) {
                    _ if is_own => self.answer(event, Response::FAN_ALLOW),
                    None => self.let_go(event),
                    Some((served, index)) => self.wait((served, index, event)),
                }
            }
        }
    }

    /// Returns the image and the index of the missing pack with the opened file.
    fn wanted(&self, event: &FanotifyEvent) -> Option<(Arc<Served>, usize)> {
        let found = fstat(event.fd()?).ok()?;
        let served = Arc::clone(lock(&self.mounts).get(&found.st_dev)?);
        let inode = served.image.image().inode(found.st_ino as u32).ok()?;
        let Content::InPack { pack, .. } = inode.content else {
            return None;
        };
        let index = pack as usize;
        let is_missing = lock(&served.missing).contains(&index);
        is_missing.then_some((served, index))
    }

    /// Queues the event until its pack is loaded, and loads the pack unless that is under way.
    fn wait(self: &Arc<Self>, waiting: Waiting) {
        let sum = waiting.0.packs.sum(waiting.1);
        let mut loading = lock(&self.loading);
        if let Some(others) = loading.get_mut(&sum) {
            return others.push(waiting);
        }
        loading.insert(sum, vec![waiting]);
        drop(loading);
        let server = Arc::clone(self);
        let loader = thread::Builder::new().spawn(move || server.load(&sum));
        if loader.is_err() {
            for (_, _, event) in lock(&self.loading).remove(&sum).unwrap_or_default() {
                self.answer(event, deny(Errno::AGAIN));
            }
        }
    }

    /// Loads the pack `sum` for all who wait for it.
    fn load(&self, sum: &[u8; 32]) {
        let mut error = None;
        loop {
            let mut loading = lock(&self.loading);
            let Some((served, index, event)) = loading.get_mut(sum).and_then(Vec::pop) else {
                loading.remove(sum);
                return;
            };
            drop(loading);
            if error.is_none() && lock(&served.missing).contains(&index) {
                error = self.attach(&served, index, &event).err();
                if let Some(error) = &error {
                    let (sum, process) = (daxfs_files::digest::hex(sum), event.pid());
                    let text = format!("cannot load pack {sum} for process {process}: {error}");
                    log(&self.store, &text);
                }
            }
            match error.as_ref().map(errno_of) {
                None => self.let_go(event),
                // The driver reports that the pack is missing.
                Some(None) => self.answer(event, Response::FAN_ALLOW),
                Some(Some(errno)) => self.answer(event, deny(errno)),
            }
        }
    }

    /// Attaches pack `index` to a mount, for `event`.
    fn attach(&self, served: &Served, index: usize, event: &FanotifyEvent) -> Result<()> {
        let known = Some(lock(&served.place).clone()).filter(|it| shows(it, served.device));
        let place = known.or_else(|| place_of(served.device, "self"));
        // The opener may be in another mount namespace.
        let place = place.or_else(|| place_of(served.device, &event.pid().to_string()));
        let place = place.ok_or_else(|| {
            let why = "is mounted nowhere that this process or the opener sees";
            Error::refused(&served.image.name, why)
        })?;
        served.packs.attach(index, &place, &*self.room)?;
        *lock(&served.place) = place;
        let mut missing = lock(&served.missing);
        missing.remove(&index);
        if let (true, Some(file)) = (missing.is_empty(), event.fd()) {
            let flags = MarkFlags::FAN_MARK_REMOVE | MarkFlags::FAN_MARK_FILESYSTEM;
            let _ = self.mark(flags, file, None);
            let _ = inotify::remove_watch(&self.inotify, served.watch);
        }
        Ok(())
    }

    /// Lets this open and later ones continue without further events.
    fn let_go(&self, event: FanotifyEvent) {
        let flags = MarkFlags::FAN_MARK_ADD
            | MarkFlags::FAN_MARK_IGNORED_MASK
            | MarkFlags::FAN_MARK_EVICTABLE;
        if let Some(file) = event.fd() {
            // If setting the mark fails, the next open retries.
            let _ = self.mark(flags, file, None);
        }
        self.answer(event, Response::FAN_ALLOW);
    }

    /// Answers, after closing the file, which keeps the mount busy. An event that reuses the file's
    /// number meanwhile is behind this one in the kernel's list, so it is not answered by mistake.
    fn answer(&self, event: FanotifyEvent, response: Response) {
        let Some(number) = event.fd().map(|file| file.as_raw_fd()) else {
            return;
        };
        let _alone = lock(&self.answering);
        drop(event);
        let words = [number.to_ne_bytes(), response.bits().to_ne_bytes()];
        // This fails if the opener was killed.
        let _ = rustix::io::write(&self.fanotify, words.as_flattened());
    }
}

/// Returns a denial with `errno`, which must be one that fanotify(7) accepts.
fn deny(errno: Errno) -> Response {
    Response::from_bits_retain(Response::FAN_DENY.bits() | ((errno.raw_os_error() as u32) << 24))
}

/// Returns the error that open(2) reports for `error`, or `None` for `ENOMEDIUM`.
fn errno_of(error: &Error) -> Option<Errno> {
    let (Error::System { source, .. } | Error::Mount { source, .. }) = error else {
        return match error {
            Error::Refused { .. } => None,
            Error::Full { .. } => Some(Errno::DQUOT),
            _ => Some(Errno::IO),
        };
    };
    match Errno::from_io_error(source) {
        Some(Errno::NOENT) => None,
        Some(Errno::NOMEM | Errno::NOSPC | Errno::FBIG | Errno::MFILE | Errno::NFILE) => {
            Some(Errno::NOSPC)
        }
        Some(Errno::BUSY) => Some(Errno::BUSY),
        _ => Some(Errno::IO),
    }
}

/// Returns where the process `who` sees a mount of the image with this device number.
fn place_of(device: u64, who: &str) -> Option<PathBuf> {
    let text = read_of(who).ok()?;
    let number = format!("{}:{}", major(device), minor(device));
    let places = mounts(&text).filter(|mount| mount.device == number.as_bytes());
    let mut places = places.filter_map(|mount| {
        let below = mount.mount_point.strip_prefix("/").ok()?.to_owned();
        Some(Path::new("/proc").join(who).join("root").join(below))
    });
    places.find(|place| shows(place, device))
}

/// Returns true if the uppermost mount on `place` is of the image with this device number.
fn shows(place: &Path, device: u64) -> bool {
    status(place).is_ok_and(|it| {
        let is_mount = it.stx_attributes.contains(StatxAttributes::MOUNT_ROOT);
        is_mount && makedev(it.stx_dev_major, it.stx_dev_minor) == device
    })
}

/// Hands `mount` to the server of the store in `dir`. Calls `start` if there is no server.
pub fn hand_over(dir: &Path, mount: BorrowedFd<'_>, start: fn(&Path) -> Result<()>) -> Result<()> {
    let path = socket(&domain_of(dir)?);
    let fail = |error| failed(&path, "talk to the server on", error);
    for _ in 0..3 {
        let mut stream = match UnixStream::connect(&path) {
            Err(error)
                if [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused]
                    .contains(&error.kind()) =>
            {
                start(dir)?;
                continue;
            }
            stream => stream.map_err(fail)?,
        };
        stream.set_read_timeout(Some(PATIENCE[0])).map_err(fail)?;
        let files = [mount];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&files));
        let sent = sendmsg(
            &stream,
            &[IoSlice::new(b"m")],
            &mut control,
            SendFlags::NOSIGNAL,
        );
        let mut answer = String::new();
        match sent
            .map_err(io::Error::from)
            .and_then(|_| stream.read_to_string(&mut answer))
        {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let why = "its server does not answer; end that process \
                           (daxfs store serve), and try again";
                return Err(Error::refused(shown_path(dir), why));
            }
            // The server was about to exit.
            Err(_) | Ok(0) => {}
            Ok(1) => return Ok(()),
            Ok(_) => return Err(Error::refused("", answer.trim_end().to_owned())),
        }
    }
    let why = "no server of it stays; start one: daxfs store serve";
    Err(Error::refused(shown_path(dir), why))
}
