#!/usr/bin/env bash
# All tests. Installs the clients they need where it can (psql and PostgreSQL 15 through apt-get, psycopg into a
# virtual environment); what cannot be installed fails its tests unless FRESHET_SKIP_PSQL, FRESHET_SKIP_PSYCOPG or
# FRESHET_SKIP_POSTGRES is set. Arguments go to cargo test.
set -euo pipefail
cd "$(dirname "$0")/.."

as_root() {
  if [[ "$(id -u)" == 0 ]]; then "$@"; elif command -v sudo >/dev/null; then sudo -n "$@"; else return 1; fi
}

missing=()
if [[ -z "${FRESHET_SKIP_PSQL:-}" ]] && ! command -v psql >/dev/null; then missing+=(postgresql-client); fi
if [[ -z "${FRESHET_SKIP_POSTGRES:-}" && -z "${PG_BIN:-}" && ! -x /usr/lib/postgresql/15/bin/initdb ]]; then
  missing+=(postgresql-15)
fi
if [[ -z "${FRESHET_SKIP_PSYCOPG:-}" ]] && ! python3 -c 'import venv, ensurepip' 2>/dev/null; then
  missing+=(python3 python3-venv)
fi
if ((${#missing[@]})); then
  echo "installing: ${missing[*]}"
  if ! { as_root apt-get update -qq && as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${missing[@]}"; }; then
    echo "could not install ${missing[*]}: their tests will fail unless FRESHET_SKIP_… is set" >&2
  fi
fi

exec cargo test --locked "$@"
