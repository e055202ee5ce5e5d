// SPDX-License-Identifier: GPL-2.0-only
/*
 * A signal ends verify=full promptly.
 *
 * Group: hashing
 * Machine: rare-debug debug-with=modules cpus=2 nvdimm=big.daxfs
 */
#include "lib/device.h"

static const char *mnt, *device;

/* Mount with a digest that the image does not have. Return the errno. */
static int mount_wrong(void *argument)
{
	signal(SIGTERM, SIG_DFL);
	return context_mount_with(context_new("source", device), mnt, "digest=" WRONG_DIGEST);
}

/* Signal a mount at different times: it ends, and the device is free. */
static void ended_by(int signal)
{
	for (int i = 0; i < repeats(8); i++) {
		pid_t mounting = background(mount_wrong, NULL);
		double start;

		rest(0.05 + 0.2 * i);
		start = now();
		kill(mounting, signal);
		CHECK_EQ(ends_within(mounting, limit()), signal);
		printf("# ended after %.2f s\n", now() - start);
	}
	REQUIRE(!mount(device, mnt, "daxfs", 0, NULL));
	CHECK_EQ(bounded_umount(mnt), 0);
}

POINT(killed, "a mount that is killed")
{
	ended_by(SIGKILL);
}

POINT(terminated, "a mount that a signal ends")
{
	ended_by(SIGTERM);
}

int main(void)
{
	device = fixture_device("big");
	mnt = private_mount_point();
	device_init();
	return ktap_run();
}
