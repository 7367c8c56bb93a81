# Runs as the first process of new namespaces: makes a small file system of its own, leaves the old one behind, and
# starts the interpreter in it without any right. Its arguments are named below; the program comes over standard input.
set -eu
root=$1 uid=$2 python=$3 prefix=$4 harness=$5
seconds=$6 processes=$7 memory_bytes=$8 file_bytes=$9
shift 9
folder_bytes=$1

mount -t tmpfs -o "size=$folder_bytes,nr_inodes=4096,mode=755,nosuid,nodev" tmpfs "$root"
cd "$root"
mkdir -p box/dev box/work old proc

show() { # binds a folder of the host, to be read only
    mkdir -p "box$1"
    mount --bind "$1" "box$1"
    mount -o remount,bind,ro,nosuid,nodev "box$1"
}

show /usr
ln -s box/usr usr
for name in bin sbin lib lib32 lib64; do
    if [ -L "/$name" ]; then
        ln -s "$(readlink "/$name")" "box/$name"
    elif [ -d "/$name" ]; then
        show "/$name"
    else
        continue
    fi
    ln -s "box/$name" "$name"
done
case "$prefix/" in
    /usr/*) ;;
    *) show "$prefix" ;;
esac
for name in null zero urandom; do
    : >"box/dev/$name"
    mount --bind "/dev/$name" "box/dev/$name"
done
[ -z "$uid" ] || chown "$uid:$uid" box/work

# umount reads the table of mounts, so /proc goes last.
mount --rbind /proc proc
pivot_root . old
cd /
umount -n -l /old
umount -n -l /proc

set -- setpriv --no-new-privs --bounding-set=-all --inh-caps=-all
[ -z "$uid" ] || set -- "$@" "--reuid=$uid" "--regid=$uid" --clear-groups
echo confined
# The root of the box is not the root of its namespace, and so the kernel lets nobody in it make new user namespaces.
# This shell stays the first process: when it ends, the kernel ends all others.
status=0
timeout --signal=KILL "$seconds" \
    prlimit "--nproc=$processes" "--as=$memory_bytes" "--fsize=$file_bytes" "--cpu=$seconds" --core=0 --nofile=64 \
    chroot /box "$@" "$python" -s -B -c "$harness" 2>&1 || status=$?
exit "$status"
