# SPDX-License-Identifier: GPL-2.0-only
"""Lines of examples of README.md and the pages that the test "pages" does not run.

Each entry has a page or ``*``, what the lines match, or the line of text above the example, and the reason: a file with the test
that reads the lines from the page, or why no test can run them as they are.
"""

ELSEWHERE = [
    ("*", r"^(make|scripts/[a-z-]+|tests/(check|images)|qemu/vm|bench/report)( |$)", "builds and tests daxfs: the test names knows the targets"),
    ("*", r"^(sudo )?(apt|dnf|pacman|pip) |/sources\.list\.d/", "installs from the network"),
    ("*", r"no_subtree_check", "a line of exports(5), which nfs gives to the kernel"),
    ("*", r"\.\.\.,verify=lazy|-o digest=\.\.\. |^/srv/index\.img", "a digest that is left out: packs"),
    ("CONTRIBUTING.md", r"^(memory: |The kernel's own|gives processes)", "a message of a commit"),
    ("README.md", r"^(demo: |python \"|git version |  [a-z])", "what make demo prints"),
    ("README.md", r"^podman ", "tests/podman"),
    ("README.md", r"^insmod ", "the host's kernel"),
    ("boot.rst", r"^(root=|memmap=|GRUB_CMDLINE_LINUX=)", "a kernel's command line, with an address and a label: boot"),
    ("boot.rst", r"^(update-initramfs|dracut|mmdebstrap) ", "a system that is installed: boot"),
    ("boot.rst", r"^(cp srv-base\.mount|systemctl) ", "systemd: boot"),
    ("boot.rst", r"^tmpfs ", "tests/lib/boot-image"),
    ("boot.rst", r"\*/etc/", "tests/lib/boot-image"),
    ("containers.rst", r"^(systemctl|ctr) ", "systemd, and a registry: containerd does the same with an archive"),
    ("containers.rst", r"^( *\[|version = |  \w+ = |    (root|platform|snapshotter|differ) = )", "tests/lib/containers.py"),
    ("containers.rst", r"storage-driver|^(volumes|systemReserved):|^- name|^  (image|memory):|^    reference:", "Docker and Kubernetes"),
    ("containers.rst", r"^podman |^\[storage|^additionalimagestores", "a registry: imagestore does the same with an archive"),
    ("daxfs.5.rst", r"keyctl |^daxfs sign |signature=required", "keyctl(1): signature calls keyctl(2)"),
    ("daxfs.5.rst", r"^(/dev/(pmem[12]|dax)|none  )", "memory of other machines: load, several_range"),
    ("daxfs.5.rst", r"noauto,user", "another user: options"),
    ("design.rst", r"Each part uses only those below it", "scripts/check-imports"),
    ("format.rst", r"^(xxd |[0-9a-f]{8}: )", "mkfs/tests/library/documentation.rs"),
    ("format.rst", r"^daxfs sha256 ", "a line that is signed"),
    ("library.rst", r"^cc -o tree |^mmap\(|the packs with any of", "tests/library"),
    ("memory-sources.rst", r"phys=", "an address: load"),
    ("memory-sources.rst", r"^\[|^[A-Z]\w+=|^import daxfs|daxfs\.memory\(", "tests/library"),
    ("models.rst", r"share one copy of them", "tests/models"),
    ("models.rst", r"^(python3 -m venv|\. ~/models/bin|skopeo|oras) ?", "installs or copies from the network"),
    ("packages.rst", r"^(dpkg-buildpackage|autopkgtest) ", "Debian's tools: packages"),
    ("packages.rst", r"^(mokutil|reboot|/usr/lib/linux-kbuild-)", "the firmware's keys: secureboot"),
    ("python.rst", r"", "tests/library"),
    ("security.rst", r"\*/etc/", "tests/lib/boot-image"),
    ("sharing.rst", r"mmap\(", "C: mmap"),
    ("sharing.rst", r"/run/c1|^crun |^podman |pmem0 /srv/base$", "tests/podman"),
    ("store.rst", r"^host\d# ", "tests/registry"),
    ("store.rst", r"phys=", "an address: several_range"),
    ("store.rst", r"^daxfs sign |signature=required", "a key that the kernel trusts: signature"),
    ("usage.rst", r"bsdtar ", "mkfs/tests/lists.rs has its lists"),
    ("usage.rst", r"^daxfs: pmem0: ", "a message"),
    ("virtual-machines.rst", r"</?qemu:", "libvirt"),
]
