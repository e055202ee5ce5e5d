// SPDX-License-Identifier: GPL-2.0-only

// Run containerd's test suite for snapshotters with daxfs-snapshotter. Each case has its own daemon.
package suite

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	api "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/containerd/snapshots"
	"github.com/containerd/containerd/snapshots/proxy"
	"github.com/containerd/containerd/snapshots/testsuite"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// start starts a daemon whose files are below root, and returns it with a function that ends it.
func start(_ context.Context, root string) (snapshots.Snapshotter, func() error, error) {
	socket, config := filepath.Join(root, "socket"), filepath.Join(root, "config")
	lines := fmt.Sprintf("root = %q\nsocket = %q\nprivate-mounts = true\n", filepath.Join(root, "daxfs"), socket)
	if err := os.WriteFile(config, []byte(lines), 0600); err != nil {
		return nil, nil, err
	}
	daemon := exec.Command("daxfs-snapshotter", "--config", config)
	daemon.Stderr = os.Stderr
	if err := daemon.Start(); err != nil {
		return nil, nil, err
	}
	end := func() error {
		if err := daemon.Process.Signal(os.Interrupt); err != nil {
			return err
		}
		return daemon.Wait()
	}
	for limit := time.Now().Add(300 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		if _, err := os.Stat(socket); err == nil {
			break
		} else if time.Now().After(limit) {
			_ = end()
			return nil, nil, err
		}
	}
	connection, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		_ = end()
		return nil, nil, err
	}
	return proxy.NewSnapshotter(api.NewSnapshotsClient(connection), "daxfs"), end, nil
}

func TestSuite(t *testing.T) {
	// The suite does not rename directories of lower layers where overlayfs is: rename(2) fails with EXDEV there.
	testsuite.SnapshotterSuite(t, "overlayfs", start)
}
