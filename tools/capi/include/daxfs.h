/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * libdaxfs: reads daxfs images. Documentation/library.rst describes it.
 *
 * Functions that return int or ssize_t return a negative error number on failure; daxfs_error() then describes it.
 * Any number of threads may use an image concurrently, until daxfs_close().
 */
#ifndef DAXFS_H
#define DAXFS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/* An open image. */
struct daxfs;

/* The superblock. */
struct daxfs_info {
	uint64_t size;		/* bytes of the image */
	uint64_t inodes;	/* numbered from 1 */
	int64_t build_sec;	/* build time, seconds since 1970 */
	uint32_t build_nsec;
	uint32_t block_size;
	uint8_t uuid[16];
	uint8_t sha256[32];	/* of the image, not verified */
	char label[72];		/* terminated by NUL */
};

/* A pack: an image that stores content of another image's files. */
struct daxfs_pack {
	uint64_t size;		/* bytes of the pack */
	uint8_t sha256[32];
};

/* An inode. The modification time is also the access time and the change time. */
struct daxfs_stat {
	uint64_t size;		/* of a directory: the size of its entries in the image */
	uint64_t offset;	/* of a non-empty regular file: where its bytes are in this image, unaligned; else 0 */
	int64_t mtime_sec;
	uint32_t mtime_nsec;
	uint32_t ino;
	uint32_t mode;		/* like st_mode: use S_ISREG(mode) etc. */
	uint32_t nlink;
	uint32_t uid;
	uint32_t gid;
	uint32_t major;		/* of a device */
	uint32_t minor;
};

/* A directory entry, with its inode. */
struct daxfs_dirent {
	struct daxfs_stat stat;
	uint8_t length;		/* of the name */
	char name[256];		/* terminated by NUL */
};

/* For daxfs_find(): do not follow a symlink at the end of the path. */
#define DAXFS_NOFOLLOW 1

/*
 * Open the image in a file or on a block device. daxfs_open_fd() duplicates the descriptor. daxfs_open_memory() reads
 * from memory, which must stay readable and unchanged until daxfs_close().
 */
int daxfs_open(const char *path, struct daxfs **image);
int daxfs_open_fd(int fd, struct daxfs **image);
int daxfs_open_memory(const void *memory, size_t size, struct daxfs **image);

/*
 * Open the image at byte offset of a file or block device, or if name is not NULL, the image of this name in the store
 * there. daxfs_offset() returns the offset of an image in its file or device.
 */
int daxfs_open_part(int fd, uint64_t offset, const char *name, struct daxfs **image);
uint64_t daxfs_offset(const struct daxfs *image);

/*
 * Locate the bytes of an open file on a mounted image in the dma-buf, memfd or device that was mounted. Returns -ENODEV
 * if the file is not on a mounted image, and -EOPNOTSUPP if its bytes are in a pack, which daxfs_source() finds by inode
 * number. The bytes of a file in an open image are at daxfs_offset() + daxfs_stat.offset. offset and length must not
 * overlap.
 */
int daxfs_locate(int fd, uint64_t *offset, uint64_t *length);

/*
 * Like daxfs_locate(), but also obtain a descriptor of the dma-buf or memfd, which the caller closes, from "daxfs load
 * --serve" at a socket. Returns -ENODEV if it serves another image's memory, -ENOENT or -ECONNREFUSED if it has ended,
 * -EACCES if this process lacks write permission for the socket, -EPROTO if another program serves there, and -EMFILE if
 * this process has too many open files. The results must not overlap.
 */
int daxfs_memory(int fd, const char *socket, int *memory, uint64_t *offset, uint64_t *length);

/* Close an image that no other thread uses; NULL is ignored. */
void daxfs_close(struct daxfs *image);

/* Describe the last failure in this thread. Valid until the next one. */
const char *daxfs_error(void);

void daxfs_info(const struct daxfs *image, struct daxfs_info *info);

/* Compare the metadata with its checksum. "daxfs fsck" also verifies all data. */
int daxfs_verify(const struct daxfs *image);

/* Find a file by its path. Symlinks are followed within the image. */
int daxfs_find(const struct daxfs *image, const char *path, unsigned int flags, struct daxfs_stat *stat);

/* Get an inode by its number. */
int daxfs_stat(const struct daxfs *image, uint32_t ino, struct daxfs_stat *stat);

/*
 * Describe a pack of the image, 0 for the first; returns -EINVAL after the last. Most images have no packs.
 *
 * daxfs_add_pack() makes the content of files in the open image pack readable. Returns -EINVAL unless the pack's SHA-256
 * and size match one of the image's packs. You may close the pack immediately. If it was opened from memory, the memory
 * must stay readable until both are closed.
 */
int daxfs_pack(const struct daxfs *image, uint32_t index, struct daxfs_pack *pack);
int daxfs_add_pack(struct daxfs *image, const struct daxfs *pack);

/*
 * Find the bytes of a regular file: in this image if *pack is 0, otherwise in a pack, 1 for the first. stat is the inode
 * there, with the offset. For a file in a pack, all other functions return an offset of 0.
 */
int daxfs_source(const struct daxfs *image, uint32_t ino, uint32_t *pack, struct daxfs_stat *stat);

/*
 * Read content of a regular file. Returns the number of bytes, less than size only at the end of the file; -EOPNOTSUPP if
 * the content is in a pack that was not added, and -ESTALE if another image has replaced this one in its file.
 */
ssize_t daxfs_read(const struct daxfs *image, uint32_t ino, void *buffer, size_t size, uint64_t offset);

/*
 * Read up to count entries of a directory, beginning with entry number position, 0 for the first. Returns the number
 * read, 0 after the last. Omits "." and "..", and returns names in any order. A damaged entry is an error only if it is
 * the first. A walk from the root visits each directory once.
 */
ssize_t daxfs_readdir(const struct daxfs *image, uint32_t ino, uint32_t position, struct daxfs_dirent *entries, size_t count);

/*
 * Read the target of a symlink, without a NUL; list the names of extended attributes, each with a NUL; read the value
 * of an attribute. Each returns the number of bytes, or -ERANGE if size is too small. If size is 0, nothing is copied.
 */
ssize_t daxfs_readlink(const struct daxfs *image, uint32_t ino, char *target, size_t size);
ssize_t daxfs_listxattr(const struct daxfs *image, uint32_t ino, char *names, size_t size);
ssize_t daxfs_getxattr(const struct daxfs *image, uint32_t ino, const char *name, void *value, size_t size);

#ifdef __cplusplus
}
#endif

#endif
