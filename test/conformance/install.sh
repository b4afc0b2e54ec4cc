#!/usr/bin/env bash
# Installs the forwarders that the conformance suite (test/conformance) runs beside natward.
set -euo pipefail

bash "$(dirname "$0")/../../scripts/apt-install.sh" conformance haproxy nginx-light libnginx-mod-stream socat rinetd
