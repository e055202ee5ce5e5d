// SPDX-License-Identifier: GPL-2.0-only
/* Functions for CONFIG_DAXFS_FS_SIGNATURES, see helpers.c. */
#include "bindings.h"

struct key *daxfs_helper_keyring_alloc(const char *name)
{
	return keyring_alloc(name, GLOBAL_ROOT_UID, GLOBAL_ROOT_GID, current_cred(),
			     KEY_POS_SEARCH | KEY_USR_VIEW | KEY_USR_READ | KEY_USR_WRITE |
			     KEY_USR_SEARCH | KEY_USR_SETATTR,
			     KEY_ALLOC_NOT_IN_QUOTA, NULL, NULL);
}

int daxfs_helper_verify_pkcs7(const void *data, size_t length, const void *pkcs7,
			      size_t pkcs7_length, struct key *keyring)
{
	return verify_pkcs7_signature(data, length, pkcs7, pkcs7_length,
				      keyring ?: VERIFY_USE_SECONDARY_KEYRING,
				      VERIFYING_UNSPECIFIED_SIGNATURE, NULL, NULL);
}
