// SPDX-License-Identifier: GPL-2.0-only

//! The gRPC service: hands calls to the snapshotter, on threads that may block.

use crate::api::snapshots_server::Snapshots;
use crate::api::{
    CleanupRequest, CommitSnapshotRequest, Labels, ListSnapshotsRequest, ListSnapshotsResponse,
    Mount, MountsRequest, MountsResponse, PrepareSnapshotRequest, PrepareSnapshotResponse,
    RemoveSnapshotRequest, StatSnapshotRequest, StatSnapshotResponse, UpdateSnapshotRequest,
    UpdateSnapshotResponse, UsageRequest, UsageResponse, ViewSnapshotRequest, ViewSnapshotResponse,
};
use crate::error::{warn, Error, Result};
use crate::record::State;
use crate::snapshotter::Snapshotter;
use std::sync::Arc;
use tokio::sync::oneshot;
use tonic::{Request, Response, Status};

/// The answer to a call.
type Answer<T> = std::result::Result<Response<T>, Status>;

/// Snapshots in one message of `List`.
const TOGETHER: usize = 100;

/// The service.
pub struct Service {
    snapshotter: Arc<Snapshotter>,
}

impl Service {
    /// Return a service for this snapshotter.
    pub fn new(snapshotter: Arc<Snapshotter>) -> Self {
        Service { snapshotter }
    }

    /// Run `call`, which may block.
    async fn call<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Snapshotter) -> Result<T> + Send + 'static,
    ) -> Answer<T> {
        let snapshotter = Arc::clone(&self.snapshotter);
        let called = tokio::task::spawn_blocking(move || call(&snapshotter)).await;
        self.answer(called.map_err(failed).and_then(|it| Ok(it?)))
    }

    /// Return the answer to a call, and count failures.
    fn answer<T>(&self, result: std::result::Result<T, Status>) -> Answer<T> {
        let count = |status: &Status| self.snapshotter.count(status.code());
        result.inspect_err(count).map(Response::new)
    }

    /// Create a snapshot, unless the client has gone before the image of `parent` is made: containerd would not know it.
    async fn create(
        &self,
        key: String,
        parent: String,
        state: State,
        labels: Labels,
    ) -> std::result::Result<Vec<Mount>, Status> {
        let waits = Arc::new(());
        let client = Arc::downgrade(&waits);
        let made = self.call(move |snapshotter| {
            snapshotter.finish(&parent)?;
            if client.strong_count() == 0 {
                return Err(Error::Gone);
            }
            snapshotter.create(&key, &parent, state, labels)
        });
        let made = made.await?.into_inner();
        drop(waits);
        Ok(made)
    }
}

/// Return the status for a call if its thread has not ended as it should.
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
        self.call(move |snapshotter| {
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
        // This goes on if the client has gone.
        tokio::task::spawn_blocking(move || {
            let committed = snapshotter.commit(&name, &key, labels);
            let is_committed = committed.is_ok();
            let _ = answer.send(committed);
            if let Some(Err(error)) = is_committed.then(|| snapshotter.finish(&name)) {
                snapshotter.count(error.code());
                warn(&error);
            }
        });
        self.answer(answered.await.map_err(failed).and_then(|it| Ok(it?)))
    }

    async fn remove(&self, request: Request<RemoveSnapshotRequest>) -> Answer<()> {
        let key = request.into_inner().key;
        self.call(move |snapshotter| snapshotter.remove(&key)).await
    }

    async fn stat(&self, request: Request<StatSnapshotRequest>) -> Answer<StatSnapshotResponse> {
        let key = request.into_inner().key;
        self.call(move |snapshotter| {
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
        self.call(move |snapshotter| {
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
        // containerd asks with a filter for targets of Prepare only, and checks the answer itself.
        self.call(move |snapshotter| {
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
        self.call(move |snapshotter| {
            let size = snapshotter.usage(&key)?;
            Ok(UsageResponse {
                size: size.bytes as i64,
                inodes: size.inodes as i64,
            })
        })
        .await
    }

    async fn cleanup(&self, _request: Request<CleanupRequest>) -> Answer<()> {
        self.call(|snapshotter| snapshotter.cleanup()).await
    }
}
