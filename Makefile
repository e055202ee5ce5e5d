# SPDX-License-Identifier: GPL-2.0-only
#
# For people; the kernel's build reads Kbuild instead, also when this directory is fs/daxfs in its tree.
# All output lands in build/. Compilers come from a cached build root, so that the machine needs none; see
# scripts/prepare --help.

MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := all

ifneq ($(words $(subst :, ,$(CURDIR))),1)
$(error The build of a kernel module needs a directory without white space or a colon in its name, unlike $(CURDIR))
endif
# As scripts/lib.sh has it.
export HOME := $(or $(HOME),$(shell bash -c 'echo ~'))
CACHE := $(or $(DAXFS_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/daxfs)
RUN := scripts/run
# The architecture that everything is for, by Debian's name: amd64, arm64, or loong64 for the module only.
ARCHITECTURE := $(or $(if $(findstring command,$(origin ARCH)),$(ARCH)),$(DAXFS_ARCH),amd64)
ifdef KDIR
ARCHITECTURE := $(or $(shell sed -n 's/^CONFIG_ARM64=y$$/arm64/p; s/^CONFIG_LOONGARCH=y$$/loong64/p' $(KDIR)/.config 2>/dev/null),amd64)
endif
export DAXFS_ARCH := $(ARCHITECTURE)
# The kernel has other names for it. scripts/run sets this variable for its build.
unexport ARCH CDPATH
machine := $(patsubst arm64,aarch64,$(patsubst loong64,loongarch64,$(filter-out amd64,$(ARCHITECTURE))))
cross := $(if $(machine),$(if $(filter $(machine),$(shell uname -m)),,$(machine)-linux-gnu-))
BUILD := build$(if $(cross),/$(ARCHITECTURE))
# Debian's kernel that everything is for: stock, or a version such as 7.2.12; see scripts/prepare --help.
KERNEL = $(or $(DAXFS_KERNEL),stock)
export DAXFS_KERNEL := $(KERNEL)
# Its directory. It is read when the kernel is prepared: stock is a link.
stock = $(realpath $(CACHE)/kernels$(addprefix -,$(filter-out amd64,$(ARCHITECTURE)))/$(KERNEL))
# Kernels of another suite than Debian 13 need the compilers of that suite.
KERNEL_RUN = $(if $(filter sid experimental,$(KERNEL)),env DAXFS_SUITE=$(KERNEL)) $(RUN)
JOBS := -j$(shell nproc)
VERBOSE := $(if $(V),V=$(V))
Q := $(if $(V),,@)
# When this began, for the progress messages of all scripts.
export DAXFS_CLOCK := $(or $(DAXFS_CLOCK),$(shell date +%s))
say = printf '[%4d s] %s\n' $$(($$(date +%s) - $(DAXFS_CLOCK))) '$(1)' >&2

help:
	@echo 'daxfs: a read-only filesystem for memory'
	@echo
	@echo '  make                the kernel module for the Debian kernel KERNEL, and the tools:'
	@echo '                      build/daxfs.ko, build/bin/mkdaxfs, ...'
	@echo '  make TARGET KERNEL=NAME'
	@echo '                      TARGET for another kernel than the newest known one of Debian 13 backports: a version'
	@echo '                      in backports, such as 7.2.12 or 7.2.12-rt (scripts/prepare --list-kernels), sid or experimental'
	@echo '  make TARGET ARCH=arm64'
	@echo '                      TARGET for arm64, in build/arm64: module, tools, tests, demo, check, shell'
	@echo '  make KDIR=DIR       the module only, for the kernel tree DIR, with the compilers of this machine'
	@echo '                      if they are those of DIR; for the Debian kernel that is running, make'
	@echo '                      DIR with scripts/rust-metadata --output DIR'
	@echo '  make demo           a real Debian root filesystem, mounted from emulated persistent memory'
	@echo '  make demo-containers'
	@echo '                      containerd in the virtual machine, with images of containers in memory'
	@echo '  make demo-machines  two virtual machines that share images, of which one is replaced while they run'
	@echo '  make check          the tests: tools on this machine, kernel module in a virtual machine; DEBUG=1: also most'
	@echo '                      of make check-debug; ALL=1: also tests that take minutes and rarely fail'
	@echo '  make check-debug    the tests of the module on a kernel with KASAN, lockdep, kmemleak, ...'
	@echo '  make bench          measures daxfs and other filesystems, prints tables; SECTIONS="table ..." or'
	@echo '                      SECTIONS=all, see bench/run --help'
	@echo '  make soak           damaged images for an hour, on both kernels, while memory is written to or short;'
	@echo '                      then any memory call for as long; SECONDS=3600 or IMAGES=20000 for both kernels together, SOAK="stock debug"'
	@echo '  make matrix         builds and tests on each kernel and configuration (hours); ONLY="CELL ..." CHECKS="GROUP ..."'
	@echo '  make shell          a shell in the virtual machine, with the module and the tools on board'
	@echo
	@echo '  make module | tools | tests | debug-module      parts of the above'
	@echo '  make prepare        only what building and testing takes, cached in'
	@echo '                      $(CACHE)'
	@echo '  make install        programs, module, manual pages, completions below $$(DESTDIR)$$(prefix), after make'
	@echo '                      (prefix=$(prefix))'
	@echo '  make library        libdaxfs for C, in build/lib; make wheel: for Python, in build/wheel'
	@echo '  make deb            Debian packages in build/deb: the tools, the module, the libraries, the documentation'
	@echo '  make release        tags the version, and makes the source archive, the packages and the web pages in build/release;'
	@echo '                      ARCHITECTURES="amd64 arm64"'
	@echo '  make html           the documentation as web pages, in build/html'
	@echo '  make manual         the manual pages, in build/man, and the shells'\'' completions, in build/completions'
	@echo '  make format         rustfmt for all Rust source'
	@echo '  make fuzz           fuzzes the tools, guided by coverage; TARGET=image|tools|archive, SECONDS=60'
	@echo '  make lint           the lines of each part, rustfmt, clippy, shellcheck, checkpatch, the documentation'
	@echo '  make lint-packages  lintian for the packages of make deb'
	@echo '  make lint-commits   checks the messages and sizes of the commits in RANGE, or of all since the rules'
	@echo '  make lines          counts the lines of each part, beside the limits in scripts/lint/budget'
	@echo '  make hooks          has git check each commit in this repository; unhooks ends that'
	@echo '  make clean          removes build/'
	@echo '  make distclean      says how to remove the cache as well'

# ---- the kernel module ----------------------------------------------------------------------------

# $(call kernel_source,kernel tree): the source, which the Makefile of a directory of headers or of a build includes.
kernel_source = $(shell sed -n 's|^include \(/.*\)/Makefile$$|\1|p' $(1)/Makefile)

# $(call kbuild,how to run,kernel tree,output directory,variables): builds the module, which needs all symbols to be exported.
# The module has no names of directories, also in the debugging information, which the build ID depends on: two directories
# give the same module. The last prefix that fits counts: the compilers run in the output directory, which may be below others.
# If build/ is a link, they see its target.
prefixes = $(foreach directory,$(CURDIR) $(1) $(call kernel_source,$(1)),$(realpath $(directory))/=) $(abspath $(2))=. \
	$(addsuffix /$(notdir $(2))=.,$(realpath $(dir $(2))))
define kbuild
	@$(call say,building the module for the kernel in $(2))
	@mkdir -p $(3)
	$(Q)$(1) make --no-print-directory -C $(2) M=$(CURDIR) MO=$(abspath $(3)) $(JOBS) $(VERBOSE) $(4) \
		KCFLAGS='$(KCFLAGS) $(addprefix -ffile-prefix-map=,$(call prefixes,$(2),$(3)))' \
		KRUSTFLAGS='$(KRUSTFLAGS) $(addprefix --remap-path-prefix=,$(call prefixes,$(2),$(3)))' modules
endef

# The tests load it from their directory, by the kernel's release.
test_module := $(if $(filter amd64,$(ARCHITECTURE)),DAXFS_TESTS=m)
copy_test_module = $(if $(test_module),@mkdir -p $(BUILD)/tests && $(1) strip --strip-debug \
	-o "$(BUILD)/tests/$$(cat $(2)/release).ko" $(3)/tests/test_modules/daxfs_pages.ko)

ifdef KDIR

kdir := $(realpath $(KDIR))
output := $(BUILD)/kdir$(subst /,-,$(kdir))
CROSS_COMPILE := $(or $(CROSS_COMPILE),$(cross))

# Asked once, and only when it is needed: nothing or scripts/run, or "failed".
runner = $(eval runner := $(shell scripts/check-kdir "$(KDIR)" || echo failed))$(runner)

all: module
module: check-kdir
	$(call kbuild,$(runner),$(kdir),$(output),$(if $(DAXFS_BINDGEN_PARAMETERS),DAXFS_BINDGEN_PARAMETERS=$(abspath $(DAXFS_BINDGEN_PARAMETERS))) $(if $(cross),ARCH=$(patsubst loong64,loongarch,$(ARCHITECTURE)) CROSS_COMPILE=$(CROSS_COMPILE)) $(if $(shell grep -s CONFIG_CC_IS_CLANG=y $(kdir)/.config),$(if $(LLVM),,LLVM=1)))
	@$(runner) $(CROSS_COMPILE)strip --strip-debug -o $(BUILD)/daxfs.ko $(output)/daxfs.ko

check-kdir:
	@test "$(runner)" != failed

else

all: module tools library manual
module: prepare-kernel
	$(call kbuild,$(KERNEL_RUN),$(stock)/kdir,$(BUILD)/$(notdir $(stock)),$(test_module))
	@$(KERNEL_RUN) $(cross)strip --strip-debug -o $(BUILD)/daxfs.ko $(BUILD)/$(notdir $(stock))/daxfs.ko
	$(call copy_test_module,$(KERNEL_RUN),$(stock),$(BUILD)/$(notdir $(stock)))

endif

debug := debug$(if $(filter-out stock,$(KERNEL)),-$(KERNEL))
debug-module: prepare-debug
	$(call kbuild,$(RUN),$(CACHE)/$(debug)/kdir,build/$(debug),LLVM=1 $(test_module))
	$(call copy_test_module,$(RUN),$(CACHE)/$(debug),build/$(debug))

# ---- user space -----------------------------------------------------------------------------------

# Static, so that they run on any machine and in the guest.
target := $(if $(filter arm64,$(ARCHITECTURE)),aarch64,x86_64)-unknown-linux-gnu
cargo := scripts/cargo
# Programs that run here: those that write the documentation, and those that make the tests' images.
NATIVE := env DAXFS_ARCH=amd64 DAXFS_KERNEL=stock

# The programs of the demo take half as long as all. They are built alone where nothing was built: with other programs, cargo
# compiles some crates with more features.
demo_packages :=
demo: demo_packages := $(if $(filter-out demo,$(MAKECMDGOALS))$(wildcard $(BUILD)/bin/daxfs-snapshotter \
	$(CACHE)/crates/*/*/release/deps/libtonic-*),,--package daxfs --package mkdaxfs)
tools: prepare-root
	@$(call say,building the tools into $(BUILD)/bin)
	$(Q)$(cargo) build $(demo_packages)
	@mkdir -p $(BUILD)/bin
	@find $(BUILD)/cargo/$(target)/release -maxdepth 1 -type f -executable ! -name manual -exec cp -p -t $(BUILD)/bin {} +
	@for name in mount.daxfs mount.fuse.daxfs fsck.daxfs; do ln -sf daxfs $(BUILD)/bin/$$name; done
	@ln -sf mkdaxfs $(BUILD)/bin/mkfs.daxfs

# libdaxfs. Cargo does not make a shared library from code for static programs, so link it here.
library: tools
	@mkdir -p $(BUILD)/lib
	$(Q)$(RUN) $(cross)strip --strip-debug -o $(BUILD)/lib/libdaxfs.a $(BUILD)/cargo/$(target)/release/libdaxfs_capi.a
	$(Q)$(RUN) $(cross)gcc -shared -o $(BUILD)/lib/libdaxfs.so.0 -Wl,-soname,libdaxfs.so.0 -Wl,--version-script=tools/capi/libdaxfs.map \
		-Wl,--whole-archive $(BUILD)/lib/libdaxfs.a -Wl,--no-whole-archive -Wl,--gc-sections -Wl,-z,defs,-z,relro,-z,now -s

# libdaxfs and the Python package, to be installed with pip.
ifeq ($(cross),)
wheel: library
	$(Q)mkdir -p build/wheel
	$(Q)rm -f build/wheel/*.whl
	$(Q)cd tools/python && $(CURDIR)/$(RUN) python3 -B -m hatchling build --target wheel --directory $(CURDIR)/build/wheel >/dev/null
	$(Q)echo "the wheel is $$(echo build/wheel/*.whl)"
else
wheel:
	@echo "make: wheel is for the architecture of this machine only" >&2; exit 2
endif

# Manual pages and the shells' completions, from the programs' command lines. Building all tools at once takes half as
# long as building this program after them, with other features of its crates.
manual: prepare-root build/man/daxfs.5 build/pages/benchmark-table.rst
	@rm -rf build/man/*.8 build/completions
	$(Q)$(NATIVE) $(cargo) build --quiet
	$(Q)build/cargo/x86_64-unknown-linux-gnu/release/manual build

# $(call sphinx,builder,output directory). All pages are read each time (-E): a page that is not has no warnings.
sphinx = scripts/sphinx -q -W -E -b $(1) -d build/doctrees/$(1) Documentation $(2)
page_date = $(shell sed -n 's/^const DATE.*"\(.*\)";/\1/p' tools/manual/src/lib.rs)

# Give it the header of the other pages.
build/man/daxfs.5: Documentation/daxfs.5.rst Documentation/conf.py Cargo.toml tools/manual/src/lib.rs | build/pages/benchmark-table.rst
	@$(call say,building the manual pages into build/man)
	@mkdir -p $(@D)
	$(Q)$(call sphinx,man,build/pages)
	$(Q)sed -e '1i .\\" SPDX-License-Identifier: GPL-2.0-only' \
		-e 's/^\.TH "DAXFS" "5" "[^"]*" "\([^"]*\)".*/.TH DAXFS 5 "$(page_date)" "daxfs \1" "File formats"/' \
		-e '/^\.SH/ { n; /^\.sp$$/d }' build/pages/daxfs.5 >$@

# The tables of all benchmarks.
build/pages/benchmark-table.rst: Documentation/benchmarks.tsv bench/report | prepare-root
	@mkdir -p $(@D)
	@rm -f $(@D)/benchmark-*
	$(Q)$(RUN) bench/report $(@D)

html: manual
	$(Q)$(call sphinx,html,build/html)
	@$(call say,the documentation is in build/html/index.html)

tests: prepare-root
	@$(call say,building the tests into $(BUILD)/tests)
	@mkdir -p $(BUILD)/tests
	$(Q)$(RUN) make --no-print-directory -C tests OUTPUT=$(CURDIR)/$(BUILD)/tests $(addprefix CROSS_COMPILE=,$(cross)) $(JOBS)

native-programs:
	@$(NATIVE) $(MAKE) ARCH=amd64 KERNEL=stock tools tests

# ---- installation ---------------------------------------------------------------------------------

include debian/install.mk

deb: tools manual library
	@$(call say,building the packages into $(BUILD)/deb)
	$(Q)$(MAKE) packages

# Make packages of what has been built, in a copy of debian/ beside links to all else. The build root is no Debian that
# dpkg has installed: its database is empty (-d), and shlibs.local names the packages of libraries.
deb_dir ?= $(BUILD)/deb
dpkg_database = $(abspath $(deb_dir))/dpkg
packages:
	@rm -rf $(deb_dir) && mkdir -p $(deb_dir)/source $(dpkg_database)/info && touch $(dpkg_database)/status
	@ln -s $(filter-out $(CURDIR)/debian,$(wildcard $(CURDIR)/*)) $(deb_dir)/source/
	@cp -r debian $(deb_dir)/source/
	@glibc=$$($(RUN) objdump -T $(BUILD)/lib/libdaxfs.so.0 | grep -o 'GLIBC_2\.[0-9]*' | sort -V | tail -n 1); printf '%s\n' \
		"libc 6 libc6 (>= $${glibc#*_})" 'libgcc_s 1 libgcc-s1 (>= 4.2)' 'ld-linux-x86-64 2 libc6' 'ld-linux-aarch64 1 libc6' \
		>$(deb_dir)/source/debian/shlibs.local
	@sed -n 's/^Package: //p' debian/control >$(deb_dir)/source/debian/debhelper-build-stamp
	@$(if $(deb_version),sed -i '1s/(.*)/($(deb_version))/' $(deb_dir)/source/debian/changelog)
	$(Q)cd $(deb_dir)/source && DPKG_ADMINDIR=$(dpkg_database) $(if $(V),,DH_QUIET=1) $(RUN) dpkg-buildpackage -b -us -uc -nc -d -a$(ARCHITECTURE) --admindir=$(dpkg_database)

release:
	scripts/release $(ARCHITECTURES)

# ---- use ------------------------------------------------------------------------------------------

ifeq ($(ARCHITECTURE),amd64)
demo: module tools prepare-guest prepare-demo
	qemu/demo

demo-containers: module tools tests prepare-guest
	@tests/images containerd
	@echo 'running two versions of an image, and 40 containers of each, in a virtual machine'
	@qemu/vm run --kernel $(KERNEL) --cpus 2 --memory 4096 --timeout 1200 --virtio-pmem $(BUILD)/test-images/containerd.daxfs -- \
		env DAXFS_CONTAINERS=40 /opt/daxfs/tests/run versions >$(BUILD)/demo-containers.log 2>&1; status=$$?; \
		grep -E '^ +((not )?ok |# the first)' $(BUILD)/demo-containers.log || tail -n 20 $(BUILD)/demo-containers.log; exit $$status

demo-machines: module tools tests prepare-guest
	tests/machines

# With DEBUG=1 the tests on both kernels are in one queue, so that no processor waits for the last machine of each.
check:
	@$(MAKE) $(if $(findstring -j,$(MAKEFLAGS)),,-j2) all tests prepare-guest prepare-demo prepare-system \
		$(if $(ALL),prepare-packages) $(if $(DEBUG),debug-module)
	tests/check $(if $(ALL),--all) $(if $(DEBUG),--kernel $(KERNEL) --kernel debug)
else
demo: module tools native-programs prepare-guest prepare-demo
	qemu/demo

check: module tools tests native-programs prepare-guest prepare-demo
	tests/check
endif

check-debug: debug-module tools tests prepare-guest
	tests/check --all --kernel debug

# SECONDS is a variable of the shell as well, so only the command line's value counts, here and for fuzz.
SOAK ?= stock debug
each = $(shell echo $$(($(1) / $(words $(SOAK)))))
soak: $(if $(filter stock,$(SOAK)),all) $(if $(filter debug,$(SOAK)),debug-module) tools tests prepare-guest
	$(if $(IMAGES),DAXFS_MOUNTS=$(call each,$(IMAGES)),DAXFS_SECONDS=$(call each,$(if $(findstring command,$(origin SECONDS)),$(SECONDS),3600))) \
		tests/check $(addprefix --kernel ,$(SOAK)) soak $(if $(IMAGES),,storm)

fuzz: prepare-root
	scripts/fuzz $(if $(TARGET),--target $(TARGET)) $(if $(findstring command,$(origin SECONDS)),--seconds $(SECONDS))

bench: all prepare-guest prepare-demo prepare-peers
	bench/run $(SECTIONS)

matrix: prepare-root
	CHECKS="$(CHECKS)" scripts/matrix $(ONLY)

shell: all tests prepare-guest
	qemu/vm shell

# ---- the build environment ------------------------------------------------------------------------

prepare: prepare-all
prepare-%:
	@scripts/prepare $*

# ---- source ---------------------------------------------------------------------------------------

module_rust := $(shell find src -name '*.rs' 2>/dev/null)
checkpatch = $(RUN) $(stock)/kdir/source/scripts/checkpatch.pl --no-tree --terse --no-summary
# Shell scripts are recognized by their first line; files that they source are checked too.
scripts := $(shell grep -lrE -m 1 '^\#!/bin/(ba)?sh' scripts qemu tests bench debian .ci 2>/dev/null)

format: prepare-root
	$(RUN) rustfmt --edition 2021 $(module_rust)
	$(RUN) cargo fmt --all --manifest-path Cargo.toml

lint: lint-budget lint-format lint-tools lint-module lint-shell lint-c lint-documentation
lint-format: prepare-root
	$(RUN) rustfmt --edition 2021 --check $(module_rust)
	$(RUN) cargo fmt --all --check --manifest-path Cargo.toml
	@awk 'length > 100 { print FILENAME ":" FNR ": more than 100 columns"; bad = 1 } END { exit bad }' $(module_rust)
	$(RUN) scripts/lint/check-imports
lint-tools: prepare-root
	$(cargo) clippy --workspace --all-targets -- -D warnings
lint-module: prepare-kernel
	$(KERNEL_RUN) make --no-print-directory -C $(stock)/kdir M=$(CURDIR) MO=$(CURDIR)/build/clippy CLIPPY=1 KRUSTFLAGS=-Dwarnings $(JOBS) modules
lint-shell: prepare-root
	$(RUN) shellcheck --check-sourced --severity=warning $(scripts)
lint-c: prepare-kernel
	$(checkpatch) --strict --file $(wildcard src/*.c src/*.h)
	$(checkpatch) --strict --ignore LONG_LINE,LONG_LINE_STRING,BIT_MACRO,CAMELCASE,PREFER_DEFINED_ATTRIBUTE_MACRO,PREFER_KERNEL_TYPES \
		--file $(wildcard tests/*.c tests/lib/*.[ch] tests/test_modules/*.c)
lint-documentation: html
# Any remark of lintian's fails. Its Debian takes a minute to make.
lint-packages: deb
	@mkdir -p build/lintian
	$(Q)cp build/deb/*.deb build/lintian/
	$(Q)root=$$(scripts/debian-root lintian --make) && scripts/debian-root lintian --exec \
		$(RUN) bwrap --bind "$$root" / --dev-bind /dev /dev --ro-bind /proc /proc --tmpfs /tmp --ro-bind $(CURDIR)/build/lintian /mnt \
		env -i PATH=/usr/bin LC_ALL=C.UTF-8 sh -c 'lintian --allow-root --display-info --tag-display-limit 0 --fail-on error,warning,info /mnt/*.deb'
lint-commits:
	scripts/lint/check-commits $(RANGE)

# Inputs of fuzzing and lock files are not written by hand, and the protocol is containerd's.
count_lines = git grep -Ic '' -- . ':!*corpus/*' ':!*.lock' ':!*.proto' | tr : ' ' | awk ' \
	NR == FNR { if (/^[^\#]/) limit[$$1] = $$2; next } { sub("/.*", "", $$1); lines[$$1] += $$2; lines["all"] += $$2 } \
	END { lines["lib+tools"] = lines["lib"] + lines["tools"]; for (part in lines) { over = part in limit && lines[part] > limit[part]; bad += over; \
		if (over || !$(1)) print lines[part], part (part in limit ? ", the limit is " limit[part] : "") (over ? ": see scripts/lint/budget" : "") } \
		exit bad && $(1) }' scripts/lint/budget -
lines:
	@$(call count_lines,0) | sort -n
	@$(RUN) scripts/lint/check-imports --core
lint-budget:
	@$(call count_lines,1) >&2

hooks:
	git config core.hooksPath scripts/lint/hooks
unhooks:
	git config --unset core.hooksPath

clean:
	rm -rf build

distclean: clean
	@echo "The cache is left. Remove it with: for tree in demo system packages nginx valkey tomcat nginx-security valkey-security tomcat-security; do scripts/debian-root \$$tree --remove; done; rm -rf '$(CACHE)'"

.PHONY: help all module check-kdir debug-module tools library wheel manual tests native-programs demo demo-containers demo-machines check check-debug bench soak fuzz matrix shell prepare \
	html format lint lint-budget lint-format lint-tools lint-module lint-shell lint-c lint-documentation lint-packages lint-commits lines hooks unhooks deb packages release \
	clean distclean
