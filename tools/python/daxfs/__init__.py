# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""Read daxfs images.

    >>> import daxfs
    >>> with daxfs.open("base.img") as image:
    ...     image["/etc/hostname"].read()
    b'base\\n'

Images are untrusted: you get a correct answer or an OSError, whose errno is EUCLEAN if the image is damaged. Paths are
strings, in which bytes that are not UTF-8 are surrogates, as in the module os.
"""

from typing import Any

from daxfs._image import File, Image, Info, Memory, Pack, Place, Stat, locate, memory, open

__all__ = ["File", "Image", "Info", "Memory", "Pack", "Place", "Stat", "locate", "memory", "open"]


def __getattr__(name: str) -> Any:
    """Return the version of the installed package."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import version

    return version(__name__)
