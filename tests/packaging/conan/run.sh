#!/usr/bin/env bash
# Makes the Conan package, with its test_package, and builds a project with it:  bash tests/packaging/conan/run.sh [--install]
#
# Needs no network: recipes in this folder stand in for those of Eigen and xsimd, and package the headers of the system. Uses the `conan` on
# the path, or that of build/conan/venv, which --install puts there from PyPI. Without one it says so and exits with 77. Conan's cache and
# all that is built lie in the folder $MAGR_CONAN_SCRATCH, by default build/conan.
set -euo pipefail
source=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)
venv=$source/build/conan/venv
scratch=${MAGR_CONAN_SCRATCH:-$source/build/conan}

if [ "${1-}" = --install ]; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install -q conan==2.34.0
fi
[ ! -x "$venv/bin/conan" ] || PATH=$venv/bin:$PATH
if ! command -v conan > /dev/null; then
    echo "skipped: there is no conan; bash tests/packaging/conan/run.sh --install installs it into build/conan"
    exit 77
fi

export CONAN_HOME=$scratch/home
rm -rf "$CONAN_HOME" "$scratch/test_package" "$scratch/consumer"
conan profile detect
options=(-nr -s compiler.cppstd=20 -c tools.cmake.cmaketoolchain:generator=Ninja -c tools.cmake.cmaketoolchain:user_presets=False
         -c tools.cmake.cmake_layout:test_folder="$scratch/test_package")
conan create "$source/tests/packaging/conan/eigen" "${options[@]}"
conan create "$source/tests/packaging/conan/xsimd" "${options[@]}"
conan create "$source" "${options[@]}"

# A project that knows nothing of Conan: CMakeDeps and CMakeToolchain write what it finds.
mkdir -p "$scratch/consumer"
cd "$scratch/consumer"  # where Conan leaves a CMakeUserPresets.json
conan install --requires="magr/[*]" "${options[@]}" -g CMakeDeps -g CMakeToolchain --output-folder "$scratch/consumer/generators"
cmake -S "$source/tests/packaging/consumer" -B "$scratch/consumer/build" -G Ninja -DMAGR_CONSUME=find_package -DCMAKE_BUILD_TYPE=Release \
    -DCMAKE_TOOLCHAIN_FILE="$scratch/consumer/generators/conan_toolchain.cmake"
grep "^magr_DIR:PATH=$scratch/consumer/generators" "$scratch/consumer/build/CMakeCache.txt"  # not an installed one
cmake --build "$scratch/consumer/build"
"$scratch/consumer/build/consumer"
echo "the package of Conan works"
