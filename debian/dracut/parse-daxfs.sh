#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# shellcheck disable=SC2034,SC2154 # dracut sets and uses the variables
#
# dracut knows what root= names, except a root in a range of physical addresses, which rootflags= names. systemd mounts it.

case $fstype,$rflags in
daxfs,*phys=*) rootok=1 ;;
esac
