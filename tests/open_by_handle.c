// SPDX-License-Identifier: GPL-2.0-only
/* Check that files can be opened by their handles after the caches were dropped. */
#include <err.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

union handle {
	struct file_handle head;
	char bytes[sizeof(struct file_handle) + MAX_HANDLE_SZ];
};

static void forget(void)
{
	int fd = open("/proc/sys/vm/drop_caches", O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, "2", 1) != 1)
		err(1, "/proc/sys/vm/drop_caches");
	close(fd);
}

int main(int argc, char **argv)
{
	union handle *handles;
	struct stat *before, after;
	int mount, id, fd;

	if (argc < 3 || argv[1][0] == '-') {
		fprintf(stderr, "Usage: open_by_handle MOUNT-POINT FILE...\n");
		return 2;
	}
	handles = calloc(argc, sizeof(*handles));
	before = calloc(argc, sizeof(*before));
	mount = open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (mount < 0 || !handles || !before)
		err(1, "%s", argv[1]);
	for (int i = 2; i < argc; i++) {
		handles[i].head.handle_bytes = MAX_HANDLE_SZ;
		if (lstat(argv[i], &before[i]) ||
		    name_to_handle_at(AT_FDCWD, argv[i], &handles[i].head, &id, 0))
			err(1, "%s: no handle", argv[i]);
	}
	forget();
	for (int i = 2; i < argc; i++) {
		fd = open_by_handle_at(mount, &handles[i].head, O_PATH | O_CLOEXEC);
		if (fd < 0 || fstat(fd, &after))
			err(1, "%s: cannot be opened by its handle", argv[i]);
		/* overlayfs invents the inode numbers of directories. */
		if (after.st_mode != before[i].st_mode ||
		    (!S_ISDIR(after.st_mode) && (after.st_ino != before[i].st_ino ||
						 after.st_size != before[i].st_size)))
			errx(1, "%s: the handle leads to another file", argv[i]);
		close(fd);
	}
	return 0;
}
