#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
user=${MONGO_INITDB_ROOT_USERNAME:-admin}
password=${MONGO_INITDB_ROOT_PASSWORD:-$(cat "$MONGO_INITDB_ROOT_PASSWORD_FILE")}
exec ferretdb --handler=sqlite --sqlite-url=file:/data/db/ --state-dir=/data/db --telemetry=disable --listen-addr=:27017 --debug-addr=- \
  --setup-database=admin --setup-username="$user" --setup-password="$password" --test-enable-new-auth --log-level=warn
