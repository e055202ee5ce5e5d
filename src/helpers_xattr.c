// SPDX-License-Identifier: GPL-2.0-only
/* Functions for CONFIG_DAXFS_FS_XATTR, see helpers.c. */
#include "bindings.h"

/* Make a list of the value of an extended attribute, and check it as setxattr(2) does. */
struct posix_acl *daxfs_helper_valid_posix_acl(struct user_namespace *namespace, const void *value,
					       size_t length)
{
#ifdef CONFIG_FS_POSIX_ACL
	struct posix_acl *acl = posix_acl_from_xattr(namespace, value, length);
	int error = IS_ERR_OR_NULL(acl) ? 0 : posix_acl_valid(namespace, acl);

	if (!error)
		return acl;
	posix_acl_release(acl);
	return ERR_PTR(error);
#else
	return NULL;
#endif
}
