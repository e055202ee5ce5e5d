# SPDX-License-Identifier: GPL-2.0-only
"""Read daxfs images.

    >>> import daxfs
    >>> with daxfs.open("base.img") as image:
    ...     image["/etc/hostname"].read()
    b'base\\n'

Images may contain anything: the outcome is a correct answer or an OSError, whose errno is EUCLEAN if the image is
damaged. Paths are strings; bytes that are not UTF-8 are surrogates, as in the module os.
"""

from daxfs._image import File, Image, Info, Stat, open

__all__ = ["File", "Image", "Info", "Stat", "open"]
