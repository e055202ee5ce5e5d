// SPDX-License-Identifier: GPL-2.0-only
/* The calls of a storm that use mappings and files without changing their content. */
#include <linux/futex.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/sendfile.h>
#include <sys/uio.h>

#include "storm.h"

/* ---- bytes that the kernel reads from a mapping ----------------------------------------------------- */

/* Compare @got bytes, or an error of a call that had to read @length bytes from @offset of a page. */
static void compare(struct storm_thread *thread, const char *what, const struct storm_page *page, size_t offset,
		    size_t length, ssize_t got, bool sure)
{
	if (got > 0 && page->mapped && !thread->tolerant && !storm_matches(page, thread->buffer, offset, got))
		storm_wrong(thread, "%s: wrong bytes of page %u of %s at %zu, word %#llx", what, page->index,
			    storm_files[page->file].name, offset, page->written);
	if (got != (ssize_t)length && sure && storm_readable(thread, page))
		storm_wrong(thread, "%s: %zd (%s) of page %u of %s", what, got, strerror(errno), page->index,
			    storm_files[page->file].name);
}

static ssize_t by_vm_readv(struct storm_thread *thread, char *address, size_t length)
{
	struct iovec to = { thread->buffer, length }, from = { address, length };

	return process_vm_readv(getpid(), &to, 1, &from, 1, 0);
}

static ssize_t by_write(struct storm_thread *thread, char *address, size_t length)
{
	ssize_t written = pwrite(thread->scratch, address, length, 0);

	return written < 0 ? written : pread(thread->scratch, thread->buffer, written, 0);
}

static ssize_t by_pipe(struct storm_thread *thread, char *address, size_t length)
{
	ssize_t written = write(thread->pipe[1], address, length);

	return written < 0 ? written : read(thread->pipe[0], thread->buffer, written);
}

/* Empty the pipes, which do not block, after a failed call. */
static void empty_pipes(struct storm_thread *thread)
{
	char left[4096];

	while (read(thread->pipe[0], left, sizeof(left)) > 0 || read(thread->other[0], left, sizeof(left)) > 0)
		;
}

/* vmsplice, tee and splice: the pipes hold pages of the mapping. */
static ssize_t by_vmsplice(struct storm_thread *thread, char *address, size_t length)
{
	struct iovec vector = { address, length };
	ssize_t held = vmsplice(thread->pipe[1], &vector, 1, SPLICE_F_NONBLOCK), copied;

	if (held <= 0)
		return held;
	copied = tee(thread->pipe[0], thread->other[1], held, SPLICE_F_NONBLOCK);
	if (copied > 0)
		read(thread->other[0], thread->buffer, copied);
	if (storm_pick(thread, 2)) {
		loff_t offset = 0;
		ssize_t spliced = splice(thread->pipe[0], NULL, thread->scratch, &offset, held, 0);

		return spliced <= 0 ? spliced : pread(thread->scratch, thread->buffer, spliced, 0);
	}
	return read(thread->pipe[0], thread->buffer, held);
}

static ssize_t by_mem_file(struct storm_thread *thread, char *address, size_t length)
{
	return pread(thread->memory, thread->buffer, length, (uintptr_t)address);
}

static ssize_t by_ring(struct storm_thread *thread, char *address, size_t length)
{
	struct io_uring_sqe request = ring_request(IORING_OP_WRITE, thread->scratch, address, length, 0);
	ssize_t written = ring_do(&thread->ring, &request);

	if (written < 0)
		errno = -written;
	return written < 0 ? written : pread(thread->scratch, thread->buffer, written, 0);
}

/* A registered buffer, for which the kernel pins the pages. */
static ssize_t by_fixed_buffer(struct storm_thread *thread, char *address, size_t length)
{
	struct io_uring_sqe request = ring_request(IORING_OP_WRITE_FIXED, thread->scratch, address, length, 0);
	ssize_t written;

	if (ring_register(&thread->ring, address, length))
		return -1;
	written = ring_do(&thread->ring, &request);
	syscall(SYS_io_uring_register, thread->ring.fd, IORING_UNREGISTER_BUFFERS, NULL, 0);
	return written < 0 ? written : pread(thread->scratch, thread->buffer, written, 0);
}

static void read_mapping(struct storm_thread *thread)
{
	static const struct {
		const char *name;
		ssize_t (*read)(struct storm_thread *thread, char *address, size_t length);
		/* Also works for memory without pages that can be counted. */
		bool sure;
	} ways[] = {
		{ "process_vm_readv", by_vm_readv, false },
		{ "write", by_write, true },
		{ "pipe", by_pipe, true },
		{ "vmsplice", by_vmsplice, false },
		{ "/proc/self/mem", by_mem_file, false },
		{ "io_uring", by_ring, true },
		{ "io_uring's buffer", by_fixed_buffer, false },
	};
	size_t way = storm_pick(thread, ARRAY_SIZE(ways)), offset, length;
	const struct storm_page *page;
	struct storm_range range;
	ssize_t got;

	if (!storm_mapped_range(thread, &range))
		return;
	range.at += storm_pick(thread, range.count);
	page = &range.slot->pages[range.at];
	offset = storm_pick(thread, 2) ? 0 : storm_pick(thread, page_size());
	length = page_size() - offset;
	storm_note(thread, ways[way].name, (uintptr_t)storm_address(&range), offset, 0, 0);
	got = storm_noted(thread, ways[way].read(thread, storm_address(&range) + offset, length));
	empty_pipes(thread);
	compare(thread, ways[way].name, page, offset, length, got, ways[way].sure);
}

/* ---- calls on files ------------------------------------------------------------------------------------ */

static void read_file(struct storm_thread *thread)
{
	size_t file = storm_pick(thread, STORM_FILES), at = storm_pick(thread, storm_files[file].size), length = 8192;
	struct iovec vector = { thread->buffer, length };
	int fd = thread->files[file];
	loff_t offset = at;
	ssize_t got;

	if (length > storm_files[file].size - at)
		length = storm_files[file].size - at;
	storm_note(thread, "read", file, at, 0, 0);
	switch (storm_pick(thread, 4)) {
	case 0:
		got = pread(fd, thread->buffer, sizeof(thread->buffer), at);
		break;
	case 1:
		got = preadv2(fd, &vector, 1, at, RWF_NOWAIT);
		break;
	case 2:
		ftruncate(thread->scratch, 0);
		lseek(thread->scratch, 0, SEEK_SET);
		got = sendfile(thread->scratch, fd, &offset, length);
		got = got < 0 ? got : pread(thread->scratch, thread->buffer, got, 0);
		break;
	default:
		got = splice(fd, &offset, thread->pipe[1], NULL, length, 0);
		got = got <= 0 ? got : read(thread->pipe[0], thread->buffer, got);
	}
	storm_noted(thread, got);
	empty_pipes(thread);
	if (got > 0 && memcmp(thread->buffer, storm_files[file].content + at, got))
		storm_wrong(thread, "wrong bytes of file %s at %zu", storm_files[file].name, at);
	if (got <= 0 && errno != EAGAIN && !storm->disturbed)
		storm_wrong(thread, "read of file %s at %zu: %zd (%s)", storm_files[file].name, at, got, strerror(errno));
}

static void look(struct storm_thread *thread)
{
	static u64 statistics[5];
	struct storm_range range = storm_any_range(thread);
	u64 entries[64];
	unsigned char resident[STORM_PAGES];
	void *pages[16];
	int where[16];
	char *address = storm_address(&range);
	int fd = thread->files[storm_pick(thread, STORM_FILES)], proc;
	u64 kind = storm_pick(thread, 14), cache[2] = { 0, storm_length(&range) };
	static const char *const shown[] = { "/proc/self/smaps", "/proc/self/maps", "/proc/self/smaps_rollup", "/proc/self/numa_maps" };

	storm_note(thread, "look", kind, (uintptr_t)address, range.count, 0);
	switch (kind) {
	case 0:
		mincore(address, storm_length(&range), resident);
		break;
	case 1:
		pread(thread->pagemap, entries, sizeof(entries), (uintptr_t)address / page_size() * 8);
		break;
	case 2:
		msync(address, storm_length(&range), storm_pick(thread, 2) ? MS_SYNC : MS_ASYNC | MS_INVALIDATE);
		break;
	case 3:
		readahead(fd, storm_pick(thread, 5 << 20), 1 << 20);
		break;
	case 4:
		posix_fadvise(fd, storm_pick(thread, 5 << 20), 1 << 20, storm_pick(thread, 6));
		break;
	case 5:
		syscall(SYS_cachestat, fd, cache, statistics, 0);
		break;
	case 6:
		/* The address of the file's page is the key. */
		syscall(SYS_futex, address + storm_pick(thread, 1024) * 4, FUTEX_WAKE, 1, NULL, NULL, 0);
		break;
	case 7:
		prctl(PR_SET_THP_DISABLE, storm_pick(thread, 2), 0, 0, 0);
		break;
	case 8:
		/* Only shared writable mappings have it. */
		if (!syscall(SYS_remap_file_pages, address, storm_length(&range), 0, storm_pick(thread, 512), 0))
			storm_clear(thread, &range);
		break;
	case 9:
		for (size_t i = 0; i < ARRAY_SIZE(pages); i++)
			pages[i] = address + i * page_size() % storm_length(&range);
		syscall(SYS_move_pages, 0, ARRAY_SIZE(pages), pages, NULL, where, 0);
		break;
	case 10:
		proc = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC);
		write(proc, &"1234"[storm_pick(thread, 4)], 1);
		close(proc);
		break;
	case 11:
		syscall(SYS_mbind, address, storm_length(&range), 0, NULL, 0, 3);
		break;
	case 12:
		fsync(fd);
		sync_file_range(fd, 0, 1 << 20, 7);
		break;
	default:
		proc = open(shown[storm_pick(thread, ARRAY_SIZE(shown))], O_RDONLY | O_CLOEXEC);
		while (read(proc, thread->buffer, sizeof(thread->buffer)) > 0 && storm_pick(thread, 8))
			;
		close(proc);
	}
	storm_noted(thread, 0);
}

/* ---- other threads and processes -------------------------------------------------------------------------- */

/* Do harmless things with pages of the other thread, or read pages of another process. */
static void raid(struct storm_thread *thread)
{
	static const int advices[] = {
		MADV_COLD, MADV_PAGEOUT, MADV_WILLNEED, MADV_POPULATE_READ, MADV_HUGEPAGE, MADV_NOHUGEPAGE,
		MADV_COLLAPSE, MADV_RANDOM, MADV_NORMAL,
	};
	/* The slots of threads are one after another. */
	char *mine = thread->slots[0].address - thread->number * STORM_SLOTS * STORM_STRIDE;
	size_t pages = 1 + storm_pick(thread, 600), length = pages * page_size();
	char *address = mine + storm_pick(thread, STORM_THREADS * STORM_SLOTS) * STORM_STRIDE +
			storm_pick(thread, STORM_PAGES) * page_size();
	struct iovec from = { address, 64 }, to = { thread->buffer, 64 };
	u64 kind = storm_pick(thread, 10);
	int other = storm_pick(thread, STORM_PROCESSES);

	storm_note(thread, "raid", kind, (uintptr_t)address, pages, 0);
	switch (kind) {
	case 0:
		mlock(address, length);
		break;
	case 1:
		munlock(address, length);
		break;
	case 2:
		process_vm_readv(storm->progress[other][0].task, &to, 1, &from, 1, 0);
		break;
	case 3:
		by_vmsplice(thread, address, 64);
		empty_pipes(thread);
		break;
	case 4:
	case 5:
		for (size_t i = 0; i < pages; i += 1 + pages / 40)
			storm_copy(thread->buffer, address + i * page_size(), 8);
		break;
	default:
		madvise(address, length, advices[storm_pick(thread, ARRAY_SIZE(advices))]);
	}
	storm_noted(thread, 0);
}

static void child_writes(struct storm_thread *thread)
{
	for (int i = 0; i < 4; i++)
		storm_write(thread);
}

/* Use copies of the mappings in a child, which may seal them. */
static void in_child(struct storm_thread *thread)
{
	struct storm_range range;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	thread->child = true;
	for (int i = 0; i < STORM_SLOTS; i++)
		for (size_t at = 0; at < STORM_PAGES; at++)
			if (thread->slots[i].pages[at].unforked)
				thread->slots[i].pages[at] = (struct storm_page){};
	if (storm_pick(thread, 2))
		child_writes(thread);
	for (int i = 0; i < STORM_SLOTS; i++)
		for (size_t at = storm_pick(thread, 20); at < STORM_PAGES; at += 1 + storm_pick(thread, 20))
			storm_check(thread, &thread->slots[i], at, false);
	if (!storm_pick(thread, 3) && storm_mapped_range(thread, &range)) {
		syscall(SYS_mseal, storm_address(&range), storm_length(&range), 0);
		madvise(storm_address(&range), storm_length(&range), MADV_DONTNEED);
		munmap(storm_address(&range), storm_length(&range));
	}
	_exit(0);
}

static void fork_one(struct storm_thread *thread)
{
	int status = -1;
	pid_t pid;

	storm_note(thread, "fork", 0, 0, 0, 0);
	__atomic_fetch_add(&storm->children, 1, __ATOMIC_RELAXED);
	pid = storm_noted(thread, fork());
	if (!pid)
		in_child(thread);
	if (pid < 0)
		return;
	/* Also break the pages' sharing from this side. */
	if (storm_pick(thread, 2))
		child_writes(thread);
	storm_note(thread, "wait", pid, 0, 0, 0);
	while (waitpid(pid, &status, __WALL) < 0 && errno == EINTR)
		;
	storm_noted(thread, status);
	if (status && !storm->disturbed)
		storm_wrong(thread, "a child ended with wait status %#x", status);
}

/* Read and write a child's pages, which it shares with this process. */
static void trace(struct storm_thread *thread)
{
	struct storm_range range;
	int status;
	pid_t pid;

	storm_note(thread, "ptrace", 0, 0, 0, 0);
	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		raise(SIGSTOP);
		_exit(0);
	}
	if (pid < 0)
		return;
	storm_noted(thread, waitpid(pid, &status, __WALL));
	for (int i = 0; i < 6 && WIFSTOPPED(status) && storm_mapped_range(thread, &range); i++) {
		const struct storm_page *page = &range.slot->pages[range.at];
		size_t offset = storm_word(page);
		char *address = storm_address(&range) + offset;
		long word;

		if (page->unforked)
			continue;
		storm_note(thread, "peek and poke", pid, (uintptr_t)address, 0, 0);
		errno = 0;
		word = ptrace(PTRACE_PEEKDATA, pid, address, NULL);
		memcpy(thread->buffer, &word, sizeof(word));
		compare(thread, "ptrace", page, offset, 8, errno ? -1 : 8, false);
		if (!ptrace(PTRACE_POKEDATA, pid, address, 0x1234567)) {
			if (!page->private)
				storm_wrong(thread, "ptrace wrote to a shared mapping");
			if (ptrace(PTRACE_PEEKDATA, pid, address, NULL) != 0x1234567 && !storm->disturbed)
				storm_wrong(thread, "ptrace does not read back its write");
			ptrace(PTRACE_POKEDATA, pid, address, word);
		}
		storm_noted(thread, errno);
		storm_check(thread, range.slot, range.at, true);
	}
	kill(pid, SIGKILL);
	waitpid(pid, &status, __WALL);
}

/* Execute the image's program. */
static void execute(struct storm_thread *thread)
{
	int fd = thread->files[STORM_FILES - 1], status = -1;
	pid_t pid;

	storm_note(thread, "execve", 0, 0, 0, 0);
	pid = vfork();
	if (!pid) {
		fexecve(fd, (char *[]){ "helper", NULL }, (char *[]){ NULL });
		_exit(1);
	}
	while (pid > 0 && waitpid(pid, &status, __WALL) < 0 && errno == EINTR)
		;
	storm_noted(thread, status);
	if (pid > 0 && !storm->disturbed && !(WIFEXITED(status) && WEXITSTATUS(status) == 42))
		storm_wrong(thread, "a program ended with wait status %#x", status);
}

void storm_use(struct storm_thread *thread)
{
	static void (*const calls[])(struct storm_thread *thread) = {
		read_mapping, read_mapping, read_mapping, read_mapping, read_mapping, read_file, read_file, look, look,
		look, raid, raid, raid, raid, fork_one, trace, execute, storm_uffd,
	};

	calls[storm_pick(thread, ARRAY_SIZE(calls))](thread);
}
