#!/usr/bin/env bash
# Writes PostgreSQL 15's answers into the .slt files that run in mode `postgres` (materialized views become plain
# views there), or, with a mode as argument, Freshet's own answers. Look at the difference before you keep it.
# Usage: tests/pg/expect.sh [postgres|workers1] [part of a path]
set -euo pipefail
cd "$(dirname "$0")/../.."
FRESHET_SLT=update cargo test --test sqllogictest -- "${1:-postgres}::${2:-}"
git --no-pager diff --stat -- sqllogictest
