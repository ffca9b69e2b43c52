#!/bin/sh
# Builds the programs of Qubes that show windows, of the sources in /src: /out/guest is what is laid
# over a guest, /out/dom0 over a dom0.
set -eux
guest=/out/guest
dom0=/out/dom0
cd /src

# A folder is made by who installs into it first, for all to read.
umask 022
mkdir -p $guest $dom0

install -D -m 644 -t /usr/include qubes-gui-common/include/*.h

make -C qubes-core-vchan-xen all
for to in "" $guest $dom0; do make -C qubes-core-vchan-xen install DESTDIR=$to; done

make -C qubes-core-qubesdb/client libqubesdb
make -C qubes-core-qubesdb/include install
for to in "" $guest; do install -D -t $to/usr/lib qubes-core-qubesdb/client/libqubesdb.so; done

# The list of characters that may be shown is in the sources; making it anew needs more.
make -C qubes-linux-utils/qrexec-lib NO_REBUILD_TABLE=1 libqubes-pure.so.0 libqubes-pure.so
install -D -m 644 -t /usr/include/qubes qubes-linux-utils/qrexec-lib/pure.h
for to in "" $dom0; do
    install -D -t $to/usr/lib qubes-linux-utils/qrexec-lib/libqubes-pure.so.0
    ln -s libqubes-pure.so.0 $to/usr/lib/libqubes-pure.so
done
ldconfig

agent=qubes-gui-agent-linux
make -C $agent gui-agent/qubes-gui xf86-input-mfndev/src/.libs/qubes_drv.so \
    xf86-video-dummy/src/.libs/dummyqbs_drv.so
make -C $agent install-common install-systemd LIBDIR=/usr/lib DESTDIR=$guest
install -D -m 644 -t $guest/etc/X11/Xsession.d $agent/appvm-scripts/etc/X11/Xsession.d/*
# As its package is installed.
wants=$guest/etc/systemd/system/multi-user.target.wants
mkdir -p $wants
ln -s /usr/lib/systemd/system/qubes-gui-agent.service $wants

# What it needs of the rest of a guest of Qubes: what its scripts read, the drivers of channels, and
# the file by which it knows that the services of the qube were looked up.
core=qubes-core-agent-linux
install -D -m 644 -t $guest/usr/lib/qubes/init $core/init/functions
install -D -m 644 -t $guest/usr/lib/modules-load.d $core/vm-systemd/qubes-core.conf
mkdir -p $guest/usr/lib/tmpfiles.d
echo 'f /run/qubes-service-environment' > $guest/usr/lib/tmpfiles.d/stock.conf

make -C qubes-gui-daemon/gui-daemon qubes-guid
make -C qubes-gui-daemon/shmoverride shmoverride.so LIBDIR=/usr/lib
install -D -t $dom0/usr/bin qubes-gui-daemon/gui-daemon/qubes-guid
install -D -t $dom0/usr/lib/qubes-gui-daemon qubes-gui-daemon/shmoverride/shmoverride.so

for to in $guest $dom0; do tar -C $to --sort=name --owner=0 --group=0 -cf $to.tar .; done
