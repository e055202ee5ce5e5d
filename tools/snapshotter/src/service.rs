// SPDX-License-Identifier: GPL-2.0-only

//! The gRPC services, which pass calls to the snapshotter on threads that may block.

use crate::api::diff_server::Diff;
use crate::api::snapshots_server::Snapshots;
use crate::api::{
    ApplyRequest, ApplyResponse, CleanupRequest, CommitSnapshotRequest, Descriptor, DiffRequest,
    DiffResponse, Labels, ListSnapshotsRequest, ListSnapshotsResponse, Mount, MountsRequest,
    MountsResponse, PrepareSnapshotRequest, PrepareSnapshotResponse, RemoveSnapshotRequest,
    StatSnapshotRequest, StatSnapshotResponse, UpdateSnapshotRequest, UpdateSnapshotResponse,
    UsageRequest, UsageResponse, ViewSnapshotRequest, ViewSnapshotResponse,
};
use crate::error::{warn, Error, Result};
use crate::record::State;
use crate::snapshotter::{Content, Snapshotter};
use daxfs_store::{IMAGE, PACKS};
use mkdaxfs::input::is_layer;
use std::iter;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::oneshot;
use tonic::{Request, Response, Status};

type Answer<T> = std::result::Result<Response<T>, Status>;

/// Number of snapshots per message of `List`.
const TOGETHER: usize = 100;

/// The services.
#[derive(Clone)]
pub struct Service {
    snapshotter: Arc<Snapshotter>,
    /// The directory with containerd's data.
    containerd: PathBuf,
}

impl Service {
    /// Returns services for `snapshotter`, and for the containerd whose data is in `containerd`.
    pub fn new(snapshotter: Arc<Snapshotter>, containerd: &Path) -> Self {
        let containerd = containerd.into();
        Service {
            snapshotter,
            containerd,
        }
    }

    /// Runs `call`, which may block, and may check whether the client is still waiting for it.
    async fn call<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Snapshotter, &dyn Fn() -> bool) -> Result<T> + Send + 'static,
    ) -> Answer<T> {
        let (snapshotter, waits) = (Arc::clone(&self.snapshotter), Arc::new(()));
        let client = Arc::downgrade(&waits);
        let call = move || call(&snapshotter, &|| client.strong_count() > 0);
        let called = tokio::task::spawn_blocking(call).await;
        drop(waits);
        self.answer(called.map_err(failed).and_then(|it| Ok(it?)))
    }

    /// Returns the answer to a call, and counts failures.
    fn answer<T>(&self, result: std::result::Result<T, Status>) -> Answer<T> {
        let count = |status: &Status| self.snapshotter.count(status.code());
        result.inspect_err(count).map(Response::new)
    }

    /// Creates a snapshot, unless the client, which must know of it, leaves before `parent` is
    /// ready.
    async fn create(
        &self,
        key: String,
        parent: String,
        state: State,
        labels: Labels,
    ) -> std::result::Result<Vec<Mount>, Status> {
        let made = self.call(move |snapshotter, waits| {
            snapshotter.finish(&parent)?;
            if !waits() {
                return Err(Error::Gone);
            }
            snapshotter.create(&key, &parent, state, labels)
        });
        Ok(made.await?.into_inner())
    }
}

/// Returns the status for a call whose thread ended abnormally.
fn failed(error: impl std::error::Error) -> Status {
    Status::internal(format!("the call failed: {error}"))
}

#[tonic::async_trait]
impl Snapshots for Service {
    async fn prepare(
        &self,
        request: Request<PrepareSnapshotRequest>,
    ) -> Answer<PrepareSnapshotResponse> {
        let request = request.into_inner();
        let mounts = self.create(request.key, request.parent, State::Active, request.labels);
        let mounts = mounts.await?;
        Ok(Response::new(PrepareSnapshotResponse { mounts }))
    }

    async fn view(&self, request: Request<ViewSnapshotRequest>) -> Answer<ViewSnapshotResponse> {
        let request = request.into_inner();
        let mounts = self.create(request.key, request.parent, State::View, request.labels);
        let mounts = mounts.await?;
        Ok(Response::new(ViewSnapshotResponse { mounts }))
    }

    async fn mounts(&self, request: Request<MountsRequest>) -> Answer<MountsResponse> {
        let key = request.into_inner().key;
        self.call(move |snapshotter, _| {
            let mounts = snapshotter.mounts(&key)?;
            Ok(MountsResponse { mounts })
        })
        .await
    }

    async fn commit(&self, request: Request<CommitSnapshotRequest>) -> Answer<()> {
        let CommitSnapshotRequest {
            name, key, labels, ..
        } = request.into_inner();
        let snapshotter = Arc::clone(&self.snapshotter);
        let (answer, answered) = oneshot::channel();
        // This continues even if the client leaves.
        tokio::task::spawn_blocking(move || {
            let committed = snapshotter.commit(&name, &key, labels);
            let is_committed = committed.is_ok();
            let _ = answer.send(committed);
            if let Some(Err(error)) = is_committed.then(|| snapshotter.bring_up(&name)) {
                snapshotter.count(error.code());
                warn(&error);
            }
        });
        self.answer(answered.await.map_err(failed).and_then(|it| Ok(it?)))
    }

    async fn remove(&self, request: Request<RemoveSnapshotRequest>) -> Answer<()> {
        let key = request.into_inner().key;
        self.call(move |snapshotter, _| snapshotter.remove(&key))
            .await
    }

    async fn stat(&self, request: Request<StatSnapshotRequest>) -> Answer<StatSnapshotResponse> {
        let key = request.into_inner().key;
        self.call(move |snapshotter, _| {
            let info = snapshotter.stat(&key)?;
            Ok(StatSnapshotResponse { info: Some(info) })
        })
        .await
    }

    async fn update(
        &self,
        request: Request<UpdateSnapshotRequest>,
    ) -> Answer<UpdateSnapshotResponse> {
        let UpdateSnapshotRequest {
            info, update_mask, ..
        } = request.into_inner();
        let paths = update_mask.map_or_else(Vec::new, |mask| mask.paths);
        self.call(move |snapshotter, _| {
            let info =
                info.ok_or_else(|| Error::Invalid("the request names no snapshot".into()))?;
            let info = snapshotter.update(info, &paths)?;
            Ok(UpdateSnapshotResponse { info: Some(info) })
        })
        .await
    }

    type ListStream =
        tokio_stream::Iter<std::vec::IntoIter<std::result::Result<ListSnapshotsResponse, Status>>>;

    async fn list(&self, _request: Request<ListSnapshotsRequest>) -> Answer<Self::ListStream> {
        // containerd filters only for targets of Prepare, and checks the answer itself.
        self.call(move |snapshotter, _| {
            let parts: Vec<_> = snapshotter
                .list()
                .chunks(TOGETHER)
                .map(<[_]>::to_vec)
                .map(|info| Ok(ListSnapshotsResponse { info }))
                .collect();
            Ok(tokio_stream::iter(parts))
        })
        .await
    }

    async fn usage(&self, request: Request<UsageRequest>) -> Answer<UsageResponse> {
        let key = request.into_inner().key;
        self.call(move |snapshotter, _| {
            let size = snapshotter.usage(&key)?;
            Ok(UsageResponse {
                size: size.bytes as i64,
                inodes: size.inodes as i64,
            })
        })
        .await
    }

    async fn cleanup(&self, _request: Request<CleanupRequest>) -> Answer<()> {
        self.call(|snapshotter, _| snapshotter.cleanup()).await
    }
}

#[tonic::async_trait]
impl Diff for Service {
    /// Builds an image of the layer instead of unpacking files into the snapshot's directory.
    async fn apply(&self, request: Request<ApplyRequest>) -> Answer<ApplyResponse> {
        let ApplyRequest { diff, mounts, .. } = request.into_inner();
        let diff = diff.unwrap_or_default();
        let place = upper(&mounts).zip(content(&self.containerd, &diff));
        // containerd then tries the next differ, which unpacks the layer.
        let other = |why: &str| Status::unimplemented(format!("{}: {why}", diff.digest));
        let Some((upper, content)) = place else {
            return Err(other(
                "not a layer that can be read, or not for a snapshot of daxfs",
            ));
        };
        let applied = self
            .call(move |snapshotter, waits| snapshotter.apply(&upper, &content, waits))
            .await?;
        let Some((digest, size)) = applied.into_inner() else {
            return Err(other("not for an empty snapshot of daxfs"));
        };
        let kind = match &*diff.media_type {
            IMAGE => IMAGE,
            _ => "application/vnd.oci.image.layer.v1.tar",
        };
        let applied = Descriptor {
            media_type: kind.into(),
            digest,
            size: size as i64,
            annotations: Default::default(),
        };
        Ok(Response::new(ApplyResponse {
            applied: Some(applied),
        }))
    }

    async fn diff(&self, _request: Request<DiffRequest>) -> Answer<DiffResponse> {
        Err(Status::unimplemented("daxfs makes no layers of snapshots"))
    }
}

/// Returns the directory with the active snapshot's files in `mounts`.
fn upper(mounts: &[Mount]) -> Option<PathBuf> {
    let [mount] = mounts else {
        return None;
    };
    let mut options = mount.options.iter();
    match &*mount.r#type {
        "overlay" => options.find_map(|option| option.strip_prefix("upperdir=").map(PathBuf::from)),
        "bind" => Some((&*mount.source).into()),
        _ => None,
    }
}

/// Returns the content of the blob that `layer` describes, from the content store in `containerd`.
fn content(containerd: &Path, layer: &Descriptor) -> Option<Content> {
    let dir = containerd.join("io.containerd.content.v1.content");
    if layer.media_type == IMAGE {
        let packs = layer.annotations.get(PACKS)?.split_terminator(',');
        let digests = iter::once(&*layer.digest).chain(packs);
        let digests = digests.map(str::to_owned).collect();
        return Some(Content::Image { dir, digests });
    }
    let (algorithm, digits) = layer.digest.split_once(':')?;
    let is_name =
        |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let path = (is_layer(&layer.media_type) && is_name(algorithm) && is_name(digits))
        .then(|| dir.join("blobs").join(algorithm).join(digits))?;
    path.is_file().then_some(Content::Archive(path))
}
