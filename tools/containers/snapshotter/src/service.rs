// SPDX-License-Identifier: GPL-2.0-only

//! The gRPC service: hands calls to the snapshotter, on threads that may block.

use crate::api::snapshots_server::Snapshots;
use crate::api::{
    CleanupRequest, CommitSnapshotRequest, ListSnapshotsRequest, ListSnapshotsResponse,
    MountsRequest, MountsResponse, PrepareSnapshotRequest, PrepareSnapshotResponse,
    RemoveSnapshotRequest, StatSnapshotRequest, StatSnapshotResponse, UpdateSnapshotRequest,
    UpdateSnapshotResponse, UsageRequest, UsageResponse, ViewSnapshotRequest, ViewSnapshotResponse,
};
use crate::error::{Error, Result};
use crate::files::warn;
use crate::record::State;
use crate::snapshotter::Snapshotter;
use std::sync::Arc;
use tonic::{Request, Response, Status};

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
    ) -> std::result::Result<Response<T>, Status> {
        let snapshotter = Arc::clone(&self.snapshotter);
        match tokio::task::spawn_blocking(move || call(&snapshotter)).await {
            Ok(result) => Ok(Response::new(result?)),
            Err(error) => Err(Status::internal(format!("the call failed: {error}"))),
        }
    }
}

#[tonic::async_trait]
impl Snapshots for Service {
    async fn prepare(
        &self,
        request: Request<PrepareSnapshotRequest>,
    ) -> std::result::Result<Response<PrepareSnapshotResponse>, Status> {
        let request = request.into_inner();
        self.call(move |snapshotter| {
            let PrepareSnapshotRequest {
                key,
                parent,
                labels,
                ..
            } = request;
            let mounts = snapshotter.create(&key, &parent, State::Active, labels)?;
            Ok(PrepareSnapshotResponse { mounts })
        })
        .await
    }

    async fn view(
        &self,
        request: Request<ViewSnapshotRequest>,
    ) -> std::result::Result<Response<ViewSnapshotResponse>, Status> {
        let request = request.into_inner();
        self.call(move |snapshotter| {
            let ViewSnapshotRequest {
                key,
                parent,
                labels,
                ..
            } = request;
            let mounts = snapshotter.create(&key, &parent, State::View, labels)?;
            Ok(ViewSnapshotResponse { mounts })
        })
        .await
    }

    async fn mounts(
        &self,
        request: Request<MountsRequest>,
    ) -> std::result::Result<Response<MountsResponse>, Status> {
        let MountsRequest { key, .. } = request.into_inner();
        self.call(move |snapshotter| {
            let mounts = snapshotter.mounts(&key)?;
            Ok(MountsResponse { mounts })
        })
        .await
    }

    async fn commit(
        &self,
        request: Request<CommitSnapshotRequest>,
    ) -> std::result::Result<Response<()>, Status> {
        let CommitSnapshotRequest {
            name, key, labels, ..
        } = request.into_inner();
        let answer = self.call({
            let name = name.clone();
            move |snapshotter| snapshotter.commit(&name, &key, labels)
        });
        let answer = answer.await?;
        let snapshotter = Arc::clone(&self.snapshotter);
        tokio::task::spawn_blocking(move || {
            if let Err(error) = snapshotter.finish(&name) {
                warn(&error);
            }
        });
        Ok(answer)
    }

    async fn remove(
        &self,
        request: Request<RemoveSnapshotRequest>,
    ) -> std::result::Result<Response<()>, Status> {
        let RemoveSnapshotRequest { key, .. } = request.into_inner();
        self.call(move |snapshotter| snapshotter.remove(&key)).await
    }

    async fn stat(
        &self,
        request: Request<StatSnapshotRequest>,
    ) -> std::result::Result<Response<StatSnapshotResponse>, Status> {
        let StatSnapshotRequest { key, .. } = request.into_inner();
        self.call(move |snapshotter| {
            let info = snapshotter.stat(&key)?;
            Ok(StatSnapshotResponse { info: Some(info) })
        })
        .await
    }

    async fn update(
        &self,
        request: Request<UpdateSnapshotRequest>,
    ) -> std::result::Result<Response<UpdateSnapshotResponse>, Status> {
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

    async fn list(
        &self,
        _request: Request<ListSnapshotsRequest>,
    ) -> std::result::Result<Response<Self::ListStream>, Status> {
        // containerd asks with a filter for targets of Prepare only, and checks the answer itself.
        self.call(move |snapshotter| {
            let parts: Vec<_> = snapshotter
                .list()
                .chunks(TOGETHER)
                .map(|info| {
                    Ok(ListSnapshotsResponse {
                        info: info.to_vec(),
                    })
                })
                .collect();
            Ok(tokio_stream::iter(parts))
        })
        .await
    }

    async fn usage(
        &self,
        request: Request<UsageRequest>,
    ) -> std::result::Result<Response<UsageResponse>, Status> {
        let UsageRequest { key, .. } = request.into_inner();
        self.call(move |snapshotter| {
            let size = snapshotter.usage(&key)?;
            Ok(UsageResponse {
                size: size.bytes as i64,
                inodes: size.inodes as i64,
            })
        })
        .await
    }

    async fn cleanup(
        &self,
        _request: Request<CleanupRequest>,
    ) -> std::result::Result<Response<()>, Status> {
        self.call(|snapshotter| snapshotter.cleanup()).await
    }
}
