#!/usr/bin/env bash
# Bills of materials of a packed tarball: .github/sbom.sh TARBALL LOCKFILE FOLDER
# `npm sbom --omit dev` in a checkout leaves out what a development package needs as well, such as zod. So they are made
# of what is in the tarball, in the versions of the lock file.
set -euo pipefail
tarball=$(realpath "$1") lockfile=$(realpath "$2") folder=$(realpath "$3")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tar -xzf "$tarball" -C "$work"
mv "$work/package" "$work/cyber-collect" # the folder's name is what npm calls the whole
cp "$lockfile" "$work/cyber-collect/package-lock.json"
cd "$work/cyber-collect"
npm pkg delete devDependencies peerDependencies peerDependenciesMeta scripts
npm install --package-lock-only --offline --ignore-scripts --no-audit --no-fund >&2
npm sbom --package-lock-only --sbom-type application --sbom-format cyclonedx >"$folder/cyber-collect.cdx.json"
npm sbom --package-lock-only --sbom-type application --sbom-format spdx >"$folder/cyber-collect.spdx.json"
