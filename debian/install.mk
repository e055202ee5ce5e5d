# SPDX-License-Identifier: GPL-2.0-only
#
# Install the built files. Nothing is compiled here, so that this can run as another user than the build.

prefix ?= /usr/local
bindir ?= $(prefix)/bin
mandir ?= $(prefix)/share/man
docdir ?= $(prefix)/share/doc/daxfs-doc
libdir ?= $(prefix)/lib
includedir ?= $(prefix)/include
bashdir ?= $(prefix)/share/bash-completion/completions
# Debian's zsh looks there, but not in site-functions below /usr.
zshdir ?= $(prefix)/share/zsh/$(if $(and $(filter /usr,$(prefix)),$(wildcard /etc/debian_version)),vendor-completions,site-functions)
fishdir ?= $(prefix)/share/fish/vendor_completions.d
# The directory where mount(8), fsck(8) and mkfs(8) look for their helpers, with any prefix.
helperdir ?= /usr/sbin
udevdir ?= /usr/lib/udev/rules.d
# The directory where mkinitramfs(8) looks for the hooks of packages.
initramfsdir ?= /usr/share/initramfs-tools/hooks
# The directory where dracut(8) looks for modules.
dracutdir ?= /usr/lib/dracut/modules.d
moduledir ?= /usr/lib/modules
# The snapshotter looks for its configuration there, with any prefix.
sysconfdir ?= /etc
unitdir ?= /usr/lib/systemd/system

# Programs that install-tools leaves to install-snapshotter.
snapshotter := daxfs-snapshotter
tools := mkdaxfs daxfs mount.daxfs fsck.daxfs mkfs.daxfs
# $(call completions,program,directory): install the completions of a program from a directory.
completions = install -m 0644 $(2)/bash/$(1) $(DESTDIR)$(bashdir) && install -m 0644 $(2)/zsh/_$(1) $(DESTDIR)$(zshdir) && \
	install -m 0644 $(2)/fish/$(1).fish $(DESTDIR)$(fishdir)
version = $(shell sed -n 's/^version = "\(.*\)"$$/\1/p' Cargo.toml | head -n 1)
# The kernel that the module was built for. It is read when it is needed.
module_release = $(shell tr '\0' '\n' <$(BUILD)/daxfs.ko | sed -n 's/^vermagic=\([^ ]*\).*/\1/p' | head -n 1)

built = @test -e $(1) || { echo "make: $(1) is not there; run 'make$(2)' first" >&2; exit 1; }

install: install-tools install-snapshotter install-library install-doc
	@test ! -e $(BUILD)/daxfs.ko || $(MAKE) install-module

install-tools:
	$(call built,$(BUILD)/bin/mkdaxfs)
	$(call built,build/completions, manual)
	install -d $(DESTDIR)$(bindir) $(DESTDIR)$(helperdir)
	install -m 0755 $(BUILD)/bin/mkdaxfs $(BUILD)/bin/daxfs $(DESTDIR)$(bindir)
	for name in mount.daxfs mount.fuse.daxfs fsck.daxfs; do ln -srf $(DESTDIR)$(bindir)/daxfs $(DESTDIR)$(helperdir)/$$name; done
	ln -srf $(DESTDIR)$(bindir)/mkdaxfs $(DESTDIR)$(helperdir)/mkfs.daxfs
	install -d $(DESTDIR)$(mandir)/man5 $(DESTDIR)$(mandir)/man8
	install -m 0644 build/man/daxfs.5 $(DESTDIR)$(mandir)/man5
	install -m 0644 $(filter-out %/$(snapshotter).8,$(wildcard build/man/*.8)) $(DESTDIR)$(mandir)/man8
	ln -sf mount.daxfs.8 $(DESTDIR)$(mandir)/man8/mount.fuse.daxfs.8
	install -d $(DESTDIR)$(bashdir) $(DESTDIR)$(zshdir) $(DESTDIR)$(fishdir)
	for name in $(tools); do $(call completions,$$name,build/completions) || exit 1; done
	install -d $(DESTDIR)$(udevdir)
	sed 's|/usr/sbin/daxfs|$(bindir)/daxfs|g' debian/udev/64-daxfs.rules >$(DESTDIR)$(udevdir)/64-daxfs.rules
	install -D -m 0644 debian/magic $(DESTDIR)$(prefix)/share/daxfs/magic
	install -D -m 0755 debian/initramfs-tools/hook $(DESTDIR)$(initramfsdir)/daxfs
	install -D -m 0755 debian/initramfs-tools/local-premount $(DESTDIR)$(dir $(initramfsdir))scripts/local-premount/daxfs
	install -D -m 0755 -t $(DESTDIR)$(dracutdir)/90daxfs debian/dracut/module-setup.sh debian/dracut/parse-daxfs.sh

# The configuration is left as it is if there is one.
install-snapshotter:
	$(call built,$(BUILD)/bin/$(snapshotter))
	$(call built,build/completions, manual)
	install -D -m 0755 -t $(DESTDIR)$(bindir) $(BUILD)/bin/$(snapshotter)
	install -D -m 0644 -t $(DESTDIR)$(mandir)/man8 build/man/$(snapshotter).8
	install -d $(DESTDIR)$(bashdir) $(DESTDIR)$(zshdir) $(DESTDIR)$(fishdir) $(DESTDIR)$(unitdir)
	$(call completions,$(snapshotter),build/completions)
	sed 's|/usr/bin/$(snapshotter)|$(bindir)/$(snapshotter)|' debian/systemd/$(snapshotter).service >$(DESTDIR)$(unitdir)/$(snapshotter).service
	test -e $(DESTDIR)$(sysconfdir)/$(snapshotter).toml || \
		install -D -m 0644 debian/$(snapshotter).toml $(DESTDIR)$(sysconfdir)/$(snapshotter).toml

# Files to run a program with the library, and to compile one. As depmod, ldconfig is for this machine only.
install-library:
	$(call built,$(BUILD)/lib/libdaxfs.so.0, library)
	install -d $(DESTDIR)$(libdir)/pkgconfig $(DESTDIR)$(includedir)
	install -m 0644 $(BUILD)/lib/libdaxfs.so.0 $(BUILD)/lib/libdaxfs.a $(DESTDIR)$(libdir)
	ln -sf libdaxfs.so.0 $(DESTDIR)$(libdir)/libdaxfs.so
	install -m 0644 tools/capi/include/daxfs.h $(DESTDIR)$(includedir)
	sed 's|@prefix@|$(prefix)|; s|@includedir@|$(includedir)|; s|@libdir@|$(libdir)|; s|@VERSION@|$(version)|' \
		tools/capi/daxfs.pc.in >$(DESTDIR)$(libdir)/pkgconfig/daxfs.pc
	$(if $(DESTDIR),,ldconfig)

install-doc:
	install -d $(DESTDIR)$(docdir)
	$(call built,build/pages/benchmark-table.rst, manual)
	install -m 0644 README.md Documentation/*.rst Documentation/*.svg Documentation/*.mount Documentation/*.json \
		Documentation/ABI/testing/sysfs-fs-daxfs build/pages/benchmark-* $(DESTDIR)$(docdir)
	sed -i 's|:: \.\./build/pages/|:: |' $(DESTDIR)$(docdir)/*.rst

# Run depmod only where the module will be used, not below DESTDIR.
install-module:
	$(call built,$(BUILD)/daxfs.ko, module)
	install -d $(DESTDIR)$(moduledir)/$(module_release)/updates
	install -m 0644 $(BUILD)/daxfs.ko $(DESTDIR)$(moduledir)/$(module_release)/updates/daxfs.ko
	$(if $(DESTDIR),,depmod $(module_release))

.PHONY: install install-tools install-snapshotter install-library install-doc install-module
