#!/bin/busybox sh
# The only program of the Linux guest: takes orders on the serial console, one in a line.
#   write OFFSET LENGTH WORD   fill a piece of /dev/vda with lines of WORD, and flush it
#   storm COUNT LENGTH         that many writes of random bytes, at offsets from the start on
#   see NAME                   say whether there is a disk of that name
#   off                        power off
for name in dd head insmod mkdir mount poweroff stty yes; do
    # shellcheck disable=SC2139
    alias "$name=busybox $name"
done
mkdir -p /dev
mount -t devtmpfs none /dev
for module in virtio_ring virtio virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci virtio_blk; do
    insmod "/modules/$module.ko"
done
exec </dev/ttyS0 >/dev/ttyS0 2>&1
stty -echo

put() {
    dd of=/dev/vda bs=4k seek="$(($1 / 4096))" conv=notrunc,fsync 2>/dev/null
}

echo "guest: ready"
while read -r order first second third; do
    case $order in
    write) yes "$third" | head -c "$second" | put "$first" ;;
    storm)
        number=0
        while [ "$number" -lt "$first" ]; do
            head -c "$second" /dev/urandom | put "$((number * second))"
            number=$((number + 1))
            echo "guest: stormy"
        done
        ;;
    see) [ -b "/dev/$first" ] && echo "guest: sees $first" || echo "guest: misses $first" ;;
    off) poweroff -f ;;
    esac
    echo "guest: done"
done
