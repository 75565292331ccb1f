# Sourced by every script here: strict mode, and the repository's root as the working directory.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
