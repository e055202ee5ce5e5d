// SPDX-License-Identifier: GPL-2.0-only
/*
 * Wrong extended attributes and access control lists: what can be read is right, and a list that
 * cannot be read grants no access. The checksums are corrected, so that only the driver's own
 * checks can refuse it.
 *
 * Group: modules
 * Machine: cpus=2 virtio-pmem=scratch
 */
#include <sys/xattr.h>

#include "corrupt.h"

/* The set of "labelled": user.a, an access control list, trusted.b. */
static struct xattr_set *labels(struct image *image)
{
	return image_xattrs(image, image_inode(image, image_entry(image, "labelled")->ino));
}

static struct xattr_entry *label(struct image *image, unsigned int number)
{
	struct xattr_entry *entry = (struct xattr_entry *)(labels(image) + 1);

	while (number--)
		entry = (void *)((char *)entry +
				 ((sizeof(*entry) + entry->name_len + entry->value_len + 3) & ~3));
	return entry;
}

/*
 * Mount the image that @damage has changed. Expect these errnos, or 0: @get from reading user.a, @list_error from
 * listing the names, @last from reading trusted.b, and @acl from opening the file as a user.
 */
static void xattr_case(void (*damage)(struct image *image), int get, int list_error, int last,
		       int acl)
{
	struct image image = image_copy(&good);
	char value[1 << 16];

	damage(&image);
	if (in_child_with(&image)) {
		struct stat stat;

		CHECK(!lstat("labelled", &stat));
#define GIVES(call, error) (((call) < 0 ? errno : 0) == (error))
		CHECK(GIVES(getxattr("labelled", "user.a", value, sizeof(value)), get));
		CHECK(GIVES(getxattr("labelled", "user.a", NULL, 0), get));
		CHECK(GIVES(listxattr("labelled", value, sizeof(value)), list_error));
		CHECK(GIVES(listxattr("labelled", NULL, 0), list_error));
		CHECK(GIVES(getxattr("labelled", "trusted.b", value, sizeof(value)), last));
		/* An access control list that cannot be read grants nothing. */
		REQUIRE(!setresgid(1000, 1000, 1000) && !setresuid(1000, 1000, 1000));
		CHECK(GIVES(open("labelled", O_RDONLY), acl));
		CHECK(GIVES(access("labelled", R_OK), acl));
		child_is_done();
	}
}

SPOIL(nothing, (void)image)
SPOIL(set_too_long, labels(image)->length = 0xffffffff)
SPOIL(set_empty, labels(image)->length = 0)
SPOIL(set_ends_early, labels(image)->length = 20)
SPOIL(count_maximal, labels(image)->count = 0xffffffff)
SPOIL(count_over_limit, labels(image)->count = 65536 / 7 + 1)
SPOIL(count_too_large, labels(image)->count++)
SPOIL(value_too_long, label(image, 2)->value_len = 1 << 16)
SPOIL(value_negative, label(image, 0)->value_len = 0xffffffff)
SPOIL(prefix_unknown, label(image, 0)->prefix = 5)
SPOIL(name_is_empty, label(image, 2)->name_len = 0)
SPOIL(name_has_nul, memset(label(image, 2) + 1, 0, 1))
SPOIL(acl_with_name, (label(image, 1)->name_len++, label(image, 1)->value_len--))
SPOIL(acl_version, ((u32 *)(label(image, 1) + 1))[0] = 3)
SPOIL(acl_tag, ((u32 *)(label(image, 1) + 1))[1] = 3)
SPOIL(acl_without_owner, ((u32 *)(label(image, 1) + 1))[1] = 0x40020)
SPOIL(acl_in_part, label(image, 1)->value_len -= 4)
SPOIL(acl_is_default, label(image, 1)->prefix = 3)
SPOIL(acl_permissions, ((u32 *)(label(image, 1) + 1))[1] = 0x80001)

POINT(extended_attributes, "extended attributes")
{
	const int bad = EUCLEAN;

	xattr_case(nothing, 0, 0, 0, 0);
	xattr_case(set_too_long, bad, bad, bad, bad);
	xattr_case(set_empty, bad, bad, bad, bad);
	xattr_case(set_ends_early, 0, bad, bad, bad);
	xattr_case(count_maximal, bad, bad, bad, bad);
	xattr_case(count_over_limit, bad, bad, bad, bad);
	xattr_case(count_too_large, 0, bad, 0, 0);
	xattr_case(value_too_long, 0, bad, bad, 0);
	xattr_case(value_negative, bad, bad, bad, bad);
	xattr_case(prefix_unknown, bad, bad, bad, bad);
	xattr_case(name_is_empty, 0, bad, ENODATA, 0);
	xattr_case(name_has_nul, 0, bad, bad, 0);
	xattr_case(acl_version, 0, 0, 0, bad);
	xattr_case(acl_tag, 0, 0, 0, bad);
	xattr_case(acl_without_owner, 0, 0, 0, bad);
	xattr_case(acl_permissions, 0, 0, 0, bad);
}

/* Here the entries after the list move as well, to where none are. */
POINT(access_control_lists, "access control lists")
{
	struct image image = image_copy(&good);
	char value[100];

	acl_in_part(&image);
	seal_and_mount(&image);
	REQUIRE(!setresgid(1000, 1000, 1000) && !setresuid(1000, 1000, 1000));
	CHECK_FAILS(open("labelled", O_RDONLY), EUCLEAN);
	CHECK_FAILS(getxattr("labelled", "system.posix_acl_access", value, sizeof(value)),
		    EUCLEAN);
	rest_is_good();
}

POINT(list_with_a_name, "an access control list with a name")
{
	struct image image = image_copy(&good);

	acl_with_name(&image);
	seal_and_mount(&image);
	REQUIRE(!setresgid(1000, 1000, 1000) && !setresuid(1000, 1000, 1000));
	/* This is not the file's access control list, so only its mode counts. */
	CHECK_FAILS(open("labelled", O_RDONLY), EACCES);
	rest_is_good();
}

/* Only a directory can have one. */
POINT(default_list_of_a_file, "a default access control list of a file")
{
	struct image image = image_copy(&good);
	char value[100];

	acl_is_default(&image);
	seal_and_mount(&image);
	CHECK_FAILS(getxattr("labelled", "system.posix_acl_default", value, sizeof(value)),
		    EUCLEAN);
	CHECK_FAILS(getxattr("labelled", "system.posix_acl_access", value, sizeof(value)),
		    ENODATA);
	REQUIRE(!setresgid(1000, 1000, 1000) && !setresuid(1000, 1000, 1000));
	CHECK_FAILS(open("labelled", O_RDONLY), EACCES);
	rest_is_good();
}

int main(void)
{
	corrupt_init();
	return ktap_run();
}
