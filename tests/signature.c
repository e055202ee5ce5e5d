// SPDX-License-Identifier: GPL-2.0-only
/*
 * signature=required: an image with a signature that the kernel trusts is mounted and verified as
 * with digest=, and every other one is refused, each with a different error. The module's parameter
 * demands it of all mounts.
 *
 * tests/images makes the images and their keys.
 *
 * Group: signature
 * Machine: rare-debug with=hashing nvdimm=signed.daxfs share
 */
#include <dirent.h>
#include <linux/keyctl.h>

#include "device.h"

#define SIGNED (6UL << 20)
/* The end of the lines that tests/images signs. */
#define LINE_END 4000000000UL

static const char *mnt, *device;
static char other_mnt[PATH_MAX], directory[PATH_MAX];

/* Load a file with an image and its signature. */
static struct image file_load(const char *name)
{
	char path[PATH_MAX + 100];

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	return image_load(path);
}

/* Return the offset of the signature, which follows the sums. */
static size_t signature_at(const struct image *file)
{
	u64 pieces = (file->super->total_size + PIECE - 1) / PIECE;

	return (file->super->total_size + 32 * pieces + 63) / 64 * 64;
}

/* The header of the signature; the CMS message follows it. */
struct header {
	char magic[8], sha256[32];
	u64 expires;
	u32 length, crc;
};

static struct header *header_of(const struct image *file)
{
	return (struct header *)(file->bytes + signature_at(file));
}

/* Correct the checksum of the signature. */
static void seal(struct image *file)
{
	struct header *header = header_of(file);
	size_t head = offsetof(struct header, crc);
	char *copy = malloc(head + header->length);

	memcpy(copy, header, head);
	memcpy(copy + head, header + 1, header->length);
	header->crc = crc32c(copy, head + header->length);
	free(copy);
}

static const char required[] = "signature=required", lazily[] = "verify=lazy,signature=required";

/* Mount a sealed memfd with @file. Return 0 or an errno. */
static int mount_file(const struct image *file, const char *options)
{
	int memfd = memfd_create("image", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int context = context_new(NULL, NULL);

	REQUIRE(memfd >= 0 && !ftruncate(memfd, file->size));
	REQUIRE(pwrite(memfd, file->bytes, file->size, 0) == (ssize_t)file->size);
	REQUIRE(!fcntl(memfd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW));
	REQUIRE(!context_set(context, FSCONFIG_SET_FD, "memfd", NULL, memfd));
	close(memfd);
	return context_mount_with(context, mnt, options);
}

/* Mount the device. */
static int mount_device(const char *options, const char *dir)
{
	return context_mount_with(context_new("source", device), dir, options);
}

static int remount(const char *options)
{
	return context_remount(mnt, options);
}

static void unmount(void)
{
	CHECK_EQ(bounded_umount(mnt), 0);
}

/* Check that the image is refused, and the message in the log. */
static void refused(const char *name, int error, const char *text)
{
	struct image file = file_load(name);

	if (!check_refused(mount_file(&file, required), error, text))
		printf("# %s\n", name);
	image_free(&file);
}

/* Check that the image can be mounted, and its content read. */
static void accepted(const char *name, const char *options)
{
	struct image file = file_load(name);
	char *buffer = malloc(SIGNED);
	int fd;

	if (!CHECK_EQ(mount_file(&file, options), 0)) {
		printf("# %s: %s\n", name, context_log);
	} else {
		fd = open_in(mnt, "large", O_RDONLY);
		CHECK_EQ(pread(fd, buffer, SIGNED, 0), SIGNED);
		CHECK(pattern_matches(buffer, SIGNED, SIGNED, 0));
		close(fd);
		unmount();
	}
	free(buffer);
	image_free(&file);
}

/* Write @byte at @offset of each @part in the signature, and correct the checksum. Return how many there are. */
static unsigned int replace(struct image *file, const char *part, size_t offset, char byte)
{
	char *message = (char *)(header_of(file) + 1);
	unsigned int count = 0;

	for (size_t i = 0; i + offset < header_of(file)->length; i++) {
		if (memcmp(message + i, part, strlen(part)))
			continue;
		message[i + offset] = byte;
		count++;
	}
	seal(file);
	return count;
}

/* Give all SHA-256 identifiers in the signature another last byte. */
static unsigned int rename_hash(struct image *file, char last)
{
	return replace(file, "\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02", 10, last);
}

/* Return the serial number of the module's keyring. */
static int own_keyring(void)
{
	char line[300];
	FILE *keys = fopen("/proc/keys", "re");
	unsigned int serial = 0;

	REQUIRE(keys);
	while (fgets(line, sizeof(line), keys))
		if (strstr(line, " keyring   .daxfs:"))
			serial = strtoul(line, NULL, 16);
	fclose(keys);
	REQUIRE(serial);
	return serial;
}

/* Add a certificate to a keyring. Return the key, or -1. */
static int add_to(int keyring, const char *name)
{
	struct image file = file_load(name);
	int key = syscall(SYS_add_key, "asymmetric", name, file.bytes, file.size, keyring);

	image_free(&file);
	return key;
}

/* Add a certificate to the module's keyring. Return the key, or -1. */
static int add(const char *name)
{
	return add_to(own_keyring(), name);
}

static void clear(void)
{
	CHECK(!syscall(SYS_keyctl, KEYCTL_CLEAR, own_keyring()));
}

/* The first point: the mount loads the module, which makes the keyring. */
POINT(bad_options, "invalid options")
{
	struct image file = file_load("rsa.daxfs");

	check_refused(mount_file(&file, "signature=wanted"), EINVAL, "signature= takes");
	check_refused(mount_file(&file, "verify=full"), EINVAL, "signature=required");
	image_free(&file);
}

POINT(untrusted, "a signer who is not trusted")
{
	clear();
	refused("rsa.daxfs", ENOKEY, "not trusted");
	refused("chain.daxfs", ENOKEY, "not trusted");
	CHECK(add("other.der") > 0);
	refused("rsa.daxfs", ENOKEY, "not trusted");
}

POINT(trusted, "signers who are trusted")
{
	clear();
	CHECK(add("rsa.der") > 0);
	accepted("rsa.daxfs", required);
	accepted("rsa.daxfs", lazily);
	accepted("rsa.daxfs", "verify=full,signature=required");
	/* Made by openssl. */
	accepted("openssl.daxfs", required);
}

POINT(elliptic_curves, "signers with keys on elliptic curves")
{
	clear();
	if (add("p256.der") < 0 && errno == ENOENT) {
		refused("p256.daxfs", ENOPKG, "lacks an algorithm");
		SKIP("the kernel has no CRYPTO_ECDSA");
	}
	CHECK(add("p256.der") > 0 && add("p384.der") > 0);
	accepted("p256.daxfs", required);
	accepted("p384.daxfs", required);
}

/* Only the certificate of the authority is in the keyring. */
POINT(authority, "an authority that is trusted")
{
	clear();
	CHECK(add("ca.der") > 0);
	accepted("chain.daxfs", required);
	refused("rsa.daxfs", ENOKEY, "not trusted");
}

POINT(unsigned_image, "an image without a signature")
{
	refused("unsigned.daxfs", ENODATA, "not signed");
	accepted("unsigned.daxfs", "");
}

POINT(wrong, "damaged signatures, and another image's")
{
	struct image file = file_load("rsa.daxfs");
	size_t at = signature_at(&file);

	clear();
	CHECK(add("rsa.der") > 0);
	/* The signature of another image, attached to this one. */
	refused("moved.daxfs", EKEYREJECTED, "signature is wrong");
	/* The checksum does not match. */
	file.bytes[at + 100] ^= 1;
	check_refused(mount_file(&file, required), EBADMSG, "malformed signature");
	file.bytes[at + 100] ^= 1;
	/* Too long, and longer than the memory. */
	header_of(&file)->length ^= 2 << 16;
	CHECK_EQ(mount_file(&file, required), EBADMSG);
	header_of(&file)->length ^= 2 << 16;
	file.size = at + 100;
	CHECK_EQ(mount_file(&file, required), EBADMSG);
	/* Part of a header is not a signature. */
	file.size = at + 40;
	CHECK_EQ(mount_file(&file, required), ENODATA);
	image_free(&file);
	file = file_load("rsa.daxfs");
	file.bytes[at] ^= 1;
	CHECK_EQ(mount_file(&file, required), ENODATA);
	image_free(&file);
}

POINT(unknown_algorithms, "algorithms that the kernel does not know")
{
	struct image file = file_load("rsa.daxfs");

	clear();
	/* The checksum that it writes is right. */
	CHECK(rename_hash(&file, 1) >= 2);
	CHECK(add("rsa.der") > 0);
	CHECK_EQ(mount_file(&file, required), 0);
	unmount();
	CHECK(rename_hash(&file, 0x7f) >= 2);
	check_refused(mount_file(&file, required), ENOPKG, "lacks an algorithm");
	image_free(&file);
}

/* Mount at a time of the system's clock, in seconds since 1970. */
static int mount_at(u64 second, const struct image *file, const char *options)
{
	struct timespec before, start, end, then = { .tv_sec = second };
	int error;

	REQUIRE(!clock_gettime(CLOCK_REALTIME, &before));
	REQUIRE(!clock_gettime(CLOCK_MONOTONIC, &start));
	REQUIRE(!clock_settime(CLOCK_REALTIME, &then));
	error = mount_file(file, options);
	REQUIRE(!clock_gettime(CLOCK_MONOTONIC, &end));
	before.tv_sec += end.tv_sec - start.tv_sec;
	REQUIRE(!clock_settime(CLOCK_REALTIME, &before));
	return error;
}

/* Put a CMS message after an image. */
static void attach(struct image *file, const char *name, u64 expires)
{
	struct image cms = file_load(name);
	struct header *header = header_of(file);

	file->size = signature_at(file) + sizeof(*header) + cms.size;
	file->bytes = realloc(file->bytes, file->size);
	file->super = (struct superblock *)file->bytes;
	header = header_of(file);
	*header = (struct header){ .magic = "\211daxsig\n", .expires = expires, .length = cms.size };
	memcpy(header->sha256, file->super->sha256, 32);
	memcpy(header + 1, cms.bytes, cms.size);
	seal(file);
	image_free(&cms);
}

POINT(times, "signatures that have expired")
{
	struct image file = file_load("unsigned.daxfs");

	clear();
	CHECK(add("rsa.der") > 0 && add("expired.der") > 0 && add("ca.der") > 0);
	refused("expired.daxfs", EKEYEXPIRED, "the signature has expired");
	refused("expired-chain.daxfs", EKEYEXPIRED, "the signature has expired");
	/* The last second counts. */
	attach(&file, "line-right.cms", LINE_END);
	CHECK_EQ(mount_at(LINE_END - 100, &file, required), 0);
	unmount();
	check_refused(mount_at(LINE_END + 1, &file, required), EKEYEXPIRED, "expired, at 4000000000 seconds since 1970");
	CHECK_EQ(mount_at(LINE_END + 1, &file, lazily), EKEYEXPIRED);
	clear();
	/* It is not known who has signed the time. */
	CHECK_EQ(mount_at(LINE_END + 1, &file, required), ENOKEY);
	image_free(&file);
}

/* The signature covers the time that follows the image. */
POINT(other_times, "a signature with another end")
{
	static const u64 others[] = { 0, 1, LINE_END, 1UL << 63, ~0UL };
	struct image file = file_load("expired.daxfs");
	u64 end = header_of(&file)->expires;

	clear();
	CHECK(add("expired.der") > 0);
	CHECK_EQ(mount_file(&file, required), EKEYEXPIRED);
	for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
		header_of(&file)->expires = others[i];
		seal(&file);
		check_refused(mount_file(&file, required), EKEYREJECTED, "signature is wrong");
	}
	/* The checksum covers it. */
	header_of(&file)->expires = end;
	check_refused(mount_file(&file, required), EBADMSG, "malformed signature");
	seal(&file);
	CHECK_EQ(mount_file(&file, required), EKEYEXPIRED);
	image_free(&file);
}

/* The times of certificates do not count: a signature names its own. */
POINT(certificates_times, "certificates that are not valid now")
{
	clear();
	CHECK(add("expired.der") > 0 && add("future.der") > 0);
	accepted("late.daxfs", required);
	accepted("future.daxfs", required);
}

/* A trusted key has signed lines that say nearly the same. There is one form, and no other counts. */
POINT(lines, "lines of another form")
{
	struct image file = file_load("unsigned.daxfs");
	unsigned int count = 0;
	struct dirent *entry;
	DIR *dir;

	clear();
	CHECK(add("rsa.der") > 0);
	dir = opendir(directory);
	REQUIRE(dir);
	while ((entry = readdir(dir))) {
		static const u64 ends[] = { LINE_END, 0, ~0UL };

		if (strncmp(entry->d_name, "line-", 5))
			continue;
		count++;
		for (int i = 0; i < repeats(ARRAY_SIZE(ends)); i++) {
			bool right = !strcmp(entry->d_name, "line-right.cms") && ends[i] == LINE_END;

			attach(&file, entry->d_name, ends[i]);
			if (!CHECK_EQ(mount_file(&file, required), right ? 0 : EKEYREJECTED))
				printf("# %s, %llu: %s\n", entry->d_name, ends[i], context_log);
			if (right)
				unmount();
			else
				CHECK(strstr(context_log, "signature is wrong"));
		}
	}
	closedir(dir);
	CHECK(count > 15);
	/* The line may not be in the message either. */
	attach(&file, "content.cms", LINE_END);
	check_refused(mount_file(&file, required), EBADMSG, "cannot parse the signature");
	/* Not a CMS message. */
	attach(&file, "rsa.der", LINE_END);
	CHECK_EQ(mount_file(&file, required), EBADMSG);
	image_free(&file);
}

/* root can limit the time for which a key counts, while it is in a keyring of the process. */
POINT(key_timeout, "a key that expires in the keyring")
{
	int key;

	clear();
	key = add_to(KEY_SPEC_PROCESS_KEYRING, "rsa.der");
	REQUIRE(key > 0);
	REQUIRE(!syscall(SYS_keyctl, KEYCTL_SET_TIMEOUT, key, 3600));
	REQUIRE(!syscall(SYS_keyctl, KEYCTL_LINK, key, own_keyring()));
	accepted("rsa.daxfs", required);
	REQUIRE(!syscall(SYS_keyctl, KEYCTL_SET_TIMEOUT, key, 1));
	rest(2.5);
	refused("rsa.daxfs", ENOKEY, "not trusted");
}

/* A revoked key does not count, and neither do certificates that it has issued. */
POINT(key_revoked, "a key that is revoked in the keyring")
{
	int key;

	clear();
	key = add_to(KEY_SPEC_PROCESS_KEYRING, "ca.der");
	REQUIRE(key > 0);
	REQUIRE(!syscall(SYS_keyctl, KEYCTL_LINK, key, own_keyring()));
	accepted("chain.daxfs", required);
	REQUIRE(!syscall(SYS_keyctl, KEYCTL_REVOKE, key));
	refused("chain.daxfs", EKEYREVOKED, "revoked");
	/* It does not prevent the use of others. */
	CHECK(add("rsa.der") > 0);
	accepted("rsa.daxfs", required);
}

/* The whole image is compared with the SHA-256 at mount, or each piece before its first use. */
POINT(content, "content that differs from the signed one")
{
	struct image file = file_load("rsa.daxfs");
	char byte;
	int fd;

	clear();
	CHECK(add("rsa.der") > 0);
	/* The large file has the last pieces of the image. */
	file.bytes[file.super->total_size - PIECE - 5] ^= 1;
	check_refused(mount_file(&file, required), EBADMSG, "SHA-256");
	CHECK_EQ(mount_file(&file, lazily), 0);
	fd = open_in(mnt, "large", O_RDONLY);
	CHECK_FAILS(pread(fd, &byte, 1, SIGNED - PIECE - 5), EIO);
	CHECK_EQ(pread(fd, &byte, 1, SIGNED - 5), 1);
	close(fd);
	unmount();
	image_free(&file);
}

POINT(with_digest, "signature=required and digest=")
{
	struct image file = file_load("rsa.daxfs");
	char both[200], command[PATH_MAX];

	clear();
	CHECK(add("rsa.der") > 0);
	check_refused(mount_file(&file, "digest=" WRONG_DIGEST ",signature=required"), EBADMSG, "is not digest=");
	snprintf(both, sizeof(both), "digest=%s,signature=required", image_digest(&file));
	CHECK_EQ(mount_file(&file, both), 0);
	unmount();
	CHECK_EQ(mount_file(&file, required), 0);
	CHECK(strstr(mount_options(mnt), image_digest(&file)));
	CHECK(strstr(mount_options(mnt), ",signature=required"));
	/* mount(8) repeats these options. */
	snprintf(command, sizeof(command), "mount -o remount,ro,noexec '%s'", mnt);
	CHECK(!system(command));
	unmount();
	image_free(&file);
}

/* A mounted image is mounted again, or remounted, with the option. */
POINT(again, "mounts and remounts of a mounted image")
{
	struct image good = file_load("rsa.daxfs"), none_yet = file_load("unsigned.daxfs");
	char digest[80];

	clear();
	image_write(&none_yet, device);
	CHECK_EQ(mount_device("", mnt), 0);
	CHECK_EQ(mount_device(required, other_mnt), ENODATA);
	CHECK_EQ(remount(required), ENODATA);
	CHECK_EQ(remount(""), 0);
	unmount();
	image_write(&good, device);
	CHECK_EQ(mount_device("", mnt), 0);
	CHECK_EQ(mount_device(required, other_mnt), ENOKEY);
	CHECK_EQ(remount(required), ENOKEY);
	CHECK(add("rsa.der") > 0);
	/* Earlier reads are unverified. */
	check_refused(remount(required), EBUSY, "without digest=");
	CHECK_EQ(mount_device(required, other_mnt), EBUSY);
	unmount();
	snprintf(digest, sizeof(digest), "digest=%s", image_digest(&good));
	CHECK_EQ(mount_device(digest, mnt), 0);
	CHECK_EQ(remount(required), 0);
	CHECK_EQ(mount_device(required, other_mnt), 0);
	CHECK_EQ(bounded_umount(other_mnt), 0);
	unmount();
	image_free(&good);
	image_free(&none_yet);
}

static int add_as_user(void *argument)
{
	return add_to(*(int *)argument, "other.der") >= 0 ? 0 : errno;
}

/* Only root may add certificates. */
POINT(ordinary_user, "an ordinary user adds a certificate")
{
	int serial = own_keyring();
	int status = reaped("adding a key", background_user(add_as_user, &serial));

	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == EACCES);
}

/* Reload the module with the parameter, which then stays. */
POINT(parameter, "the module's parameter")
{
	struct image good = file_load("rsa.daxfs"), none_yet = file_load("unsigned.daxfs");

	if (access("/sys/module/daxfs/refcnt", F_OK))
		SKIP("daxfs is built into the kernel");
	REQUIRE(!system("rmmod daxfs && modprobe daxfs require_signatures=1"));
	CHECK_EQ(mount_file(&none_yet, ""), ENODATA);
	CHECK_EQ(mount_file(&good, ""), ENOKEY);
	CHECK(add("rsa.der") > 0);
	CHECK_EQ(mount_file(&good, ""), 0);
	unmount();
	CHECK_EQ(mount_file(&good, "verify=lazy"), 0);
	unmount();
	image_write(&good, device);
	CHECK_EQ(mount_device("", mnt), 0);
	CHECK_EQ(mount_device("", other_mnt), 0);
	CHECK_EQ(remount(""), 0);
	CHECK_EQ(bounded_umount(other_mnt), 0);
	unmount();
	CHECK(system("rmmod daxfs 2>/dev/null"));
	image_free(&good);
	image_free(&none_yet);
}

/* No user can add a certificate after root has restricted the keyring. This is the last point. */
POINT(restricted, "a restricted keyring")
{
	clear();
	CHECK(add("rsa.der") > 0);
	CHECK(!syscall(SYS_keyctl, KEYCTL_RESTRICT_KEYRING, own_keyring(), NULL, NULL));
	CHECK_FAILS(add("other.der"), EPERM);
	accepted("rsa.daxfs", required);
	refused("chain.daxfs", ENOKEY, "not trusted");
}

/* A kernel without SYSTEM_DATA_VERIFICATION refuses all of them. */
static void not_supported(void)
{
	refused("rsa.daxfs", EOPNOTSUPP, "SYSTEM_DATA_VERIFICATION");
}

int main(void)
{
	static const struct ktap_test without[] = {
		{ "a kernel that cannot verify signatures", not_supported },
	};
	const char *images = getenv("DAXFS_IMAGES");
	char line[100];
	FILE *symbols;
	bool can = false;

	device = getenv("DAXFS_DEV");
	snprintf(directory, sizeof(directory), "%s/signed", images ?: "/run/images");
	if (!device || access(directory, R_OK))
		ktap_skip_all("needs signed/ in DAXFS_IMAGES, and DAXFS_DEV");
	mnt = private_mount_point();
	snprintf(other_mnt, sizeof(other_mnt), "%s/other", work_dir());
	mkdir(other_mnt, 0755);
	device_init();
	symbols = fopen("/proc/kallsyms", "re");
	while (symbols && !can && fgets(line, sizeof(line), symbols))
		can = strstr(line, " verify_pkcs7_signature");
	if (symbols)
		fclose(symbols);
	return can ? ktap_run() : ktap_run_these(without, ARRAY_SIZE(without));
}
