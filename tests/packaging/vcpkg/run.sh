#!/usr/bin/env bash
# Installs the port by vcpkg and builds a project with it through vcpkg's toolchain file:  bash tests/packaging/vcpkg/run.sh [FEATURE...]
#
# Needs no network: ports in this folder stand in for those of Eigen and xsimd, which are the system's. Uses the vcpkg that VCPKG_ROOT names
# or that is on the path, with the scripts and ports beside it. Without one it says so and exits with 77. All that is built lies in the folder
# $MAGR_VCPKG_SCRATCH, by default build/vcpkg.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source=$(cd "$here/../../.." && pwd)
scratch=${MAGR_VCPKG_SCRATCH:-$source/build/vcpkg}

vcpkg=$(PATH=${VCPKG_ROOT:+$VCPKG_ROOT:}$PATH command -v vcpkg || true)
if [ -z "$vcpkg" ]; then
    echo "skipped: there is no vcpkg in VCPKG_ROOT or on the path"
    exit 77
fi
export VCPKG_ROOT=${VCPKG_ROOT:-$(dirname "$(readlink -f "$vcpkg")")}
export VCPKG_FORCE_SYSTEM_BINARIES=1 VCPKG_DISABLE_METRICS=1
mode=find_package
[[ " $* " != *" compiled "* ]] || mode=compiled
features=$(for feature; do printf '"%s", ' "$feature"; done)

rm -rf "$scratch"
mkdir -p "$scratch/manifest"
echo "{\"dependencies\": [{\"name\": \"magr\", \"features\": [${features%, }]}]}" > "$scratch/manifest/vcpkg.json"
cmake -S "$here/../consumer" -B "$scratch/consumer" -G Ninja -DMAGR_CONSUME=$mode -DCMAKE_BUILD_TYPE=Release \
    -DCMAKE_TOOLCHAIN_FILE="$VCPKG_ROOT/scripts/buildsystems/vcpkg.cmake" -DVCPKG_MANIFEST_DIR="$scratch/manifest" \
    -DVCPKG_OVERLAY_PORTS="$source/ports;$here/ports" -DVCPKG_INSTALLED_DIR="$scratch/installed" \
    -DVCPKG_INSTALL_OPTIONS="--binarysource=clear;--x-buildtrees-root=$scratch/buildtrees;--x-packages-root=$scratch/packages;--downloads-root=$scratch/downloads" |
    tee "$scratch/log"
grep -q "^magr_DIR:PATH=$scratch/installed" "$scratch/consumer/CMakeCache.txt"  # not another one
grep -q 'magr::magr' "$scratch/log"  # what a user is told to link
if grep -i -e 'magr::xsimd' -e 'warning:' "$scratch/log"; then
    echo "vcpkg should find nothing to complain about in the package, and name no target of the library's own use" >&2
    exit 1
fi
cmake --build "$scratch/consumer"
"$scratch/consumer/consumer"
echo "the port of vcpkg works"
