#!/bin/sh
# Finishes the unpacked packages in the folder $1: none of their own install scripts has run.
set -eu
root=$1

# What the packages' scripts would have linked.
ln -sf python3.11 "$root/usr/bin/python3"
ln -sf python3.11 "$root/usr/bin/python"
[ -e "$root/bin/sh" ] || ln -s dash "$root/bin/sh"

# One file of all certificate authorities, as update-ca-certificates writes it.
mkdir -p "$root/etc/ssl/certs"
cat "$root"/usr/share/ca-certificates/mozilla/*.crt > "$root/etc/ssl/certs/ca-certificates.crt"

# The people of the image: nonroot is who runs in a Pod.
cat > "$root/etc/passwd" <<'PASSWD'
root:x:0:0:root:/root:/bin/sh
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
nonroot:x:65532:65532:nonroot:/home/nonroot:/usr/sbin/nologin
PASSWD
cat > "$root/etc/group" <<'GROUP'
root:x:0:
tty:x:5:
staff:x:50:
nogroup:x:65534:
nonroot:x:65532:
GROUP
mkdir -p "$root/home/nonroot" "$root/root"
chown 65532:65532 "$root/home/nonroot"
printf 'passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n' > "$root/etc/nsswitch.conf"

# A read-only root cannot keep bytecode: without it every start compiles the standard library.
chroot "$root" /usr/bin/python3.11 -m compileall -q --invalidation-mode unchecked-hash /usr/lib/python3.11

# Not needed to run anything; the package source list also names this machine's registries.
rm -rf "$root"/usr/share/doc "$root"/usr/share/man "$root"/usr/share/info "$root"/usr/share/locale \
    "$root"/usr/share/lintian "$root"/usr/share/bug "$root"/usr/share/pixmaps "$root"/usr/share/applications \
    "$root"/etc/apt "$root"/var/lib/apt "$root"/var/cache/apt "$root"/var/lib/dpkg "$root"/var/log/*
rm -f "$root/etc/resolv.conf" "$root/etc/hostname"
