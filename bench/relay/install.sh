#!/usr/bin/env bash
# Installs the programs that `npm run bench -- relay` measures natward beside, and the compiler of its load
# generator. Where there is no apt it installs nothing and fails: the benchmark then says what is missing.
set -euo pipefail

packages=(haproxy nginx-light libnginx-mod-stream socat rinetd iproute2 gcc libc6-dev)

if ! command -v apt-get >/dev/null; then
  echo 'bench: this system has no apt-get, so nothing was installed.' >&2
  exit 1
fi

missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
done
if [ ${#missing[@]} -eq 0 ]; then
  echo 'bench: everything is installed.'
  exit 0
fi

as_root=()
[ "$(id -u)" -eq 0 ] || as_root=(sudo)
# The lock is waited for: a fresh machine often still runs its own first upgrade.
apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120 -q -y)

# Packages start their daemons, here and at each boot. The benchmark starts its own, in networks of its own.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
  "${as_root[@]}" chmod 755 "$policy"
  trap '"${as_root[@]}" rm -f "$policy"' EXIT
fi

echo "bench: installing ${missing[*]}"
"${apt[@]}" update </dev/null
"${apt[@]}" install --no-install-recommends "${missing[@]}" </dev/null
for daemon in haproxy nginx rinetd; do
  if command -v systemctl >/dev/null; then
    "${as_root[@]}" systemctl --quiet disable "$daemon" 2>/dev/null || true
  fi
done
