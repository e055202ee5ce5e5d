// SPDX-License-Identifier: GPL-2.0-only
/*
 * Leases on files, and inotify watches.
 *
 * Group: vfs
 */
#include <sys/inotify.h>

#include "util.h"

static const char *mnt;

POINT(leases, "leases")
{
	int fd = open_in(mnt, "sizes/4096", O_RDONLY);

	CHECK_EQ(fcntl(fd, F_GETLEASE), F_UNLCK);
	CHECK(!fcntl(fd, F_SETLEASE, F_RDLCK));
	CHECK_EQ(fcntl(fd, F_GETLEASE), F_RDLCK);
	/* Another reader does not break it, and writers cannot exist. */
	CHECK(open_in(mnt, "sizes/4096", O_RDONLY) >= 0);
	CHECK_EQ(fcntl(fd, F_GETLEASE), F_RDLCK);
	CHECK_FAILS(fcntl(fd, F_SETLEASE, F_WRLCK), EAGAIN);
	CHECK(!fcntl(fd, F_SETLEASE, F_UNLCK));
}

POINT(watches, "inotify")
{
	char path[PATH_MAX], buffer[4096] __attribute__((aligned(8)));
	int watch = inotify_init1(IN_CLOEXEC | IN_NONBLOCK), fd;
	unsigned int seen = 0;
	ssize_t length;

	if (watch < 0)
		SKIP("needs CONFIG_INOTIFY_USER");
	snprintf(path, sizeof(path), "%s/sizes", mnt);
	REQUIRE(inotify_add_watch(watch, path, IN_ALL_EVENTS) >= 0);
	fd = open_in(mnt, "sizes/4097", O_RDONLY);
	CHECK_EQ(read(fd, path, 100), 100);
	close(fd);
	length = read(watch, buffer, sizeof(buffer));
	for (char *at = buffer; at < buffer + length;) {
		struct inotify_event *event = (void *)at;

		if (event->len && !strcmp(event->name, "4097"))
			seen |= event->mask;
		at += sizeof(*event) + event->len;
	}
	CHECK_EQ(seen & IN_ALL_EVENTS, IN_OPEN | IN_ACCESS | IN_CLOSE_NOWRITE);
}

int main(void)
{
	mnt = fixture_mount("tree");
	return ktap_run();
}
