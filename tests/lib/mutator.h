/* SPDX-License-Identifier: GPL-2.0-only */
/* Damage to the fields of an image, which depends on the number of a round alone. */
#ifndef MUTATOR_H
#define MUTATOR_H

#include "image.h"

/* Copies of @image will be damaged. Called once. */
void damage_init(const struct image *image);

/* Return number @index of this round, less than @limit. Indexes 2 to 9 are for other uses. */
u64 draw(u64 round, unsigned int index, u64 limit);

/* Damage a copy of the image: one to twelve fields, most of them in the tables. */
void damage(struct image *image, u64 round);

/* Damage a field of 1, 2, 4 or 8 bytes at a multiple of its size, somewhere in @length bytes at @from. */
void damage_anywhere(struct image *image, u64 round, unsigned int index, u64 from, u64 length);

#endif
