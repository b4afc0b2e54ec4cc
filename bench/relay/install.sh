#!/usr/bin/env bash
# Installs the programs that `npm run bench -- relay` and `-- kernel` measure natward beside, and the compiler of its load generator.
set -euo pipefail

packages=(nftables iptables haproxy nginx-light libnginx-mod-stream socat rinetd iproute2 gcc libc6-dev)
bash "$(dirname "$0")/../../scripts/apt-install.sh" bench "${packages[@]}"
