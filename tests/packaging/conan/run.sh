#!/usr/bin/env bash
# Makes the Conan package, with its test_package, and builds a project with it:  bash tests/packaging/conan/run.sh [--install] [compiled]
#
# With `compiled` it does so once more with this option of the package; to take less time, it compiles the library without optimisation.
#
# Needs no network: recipes in this folder stand in for those of Eigen and xsimd, and package the headers of the system. Uses the `conan` on
# the path, or that of build/conan/venv, which --install puts there from PyPI. Without one it says so and exits with 77. Conan's cache and
# all that is built lie in the folder $MAGR_CONAN_SCRATCH, by default build/conan.
set -euo pipefail
source=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)
venv=$source/build/conan/venv
scratch=${MAGR_CONAN_SCRATCH:-$source/build/conan}

if [[ " $* " == *" --install "* ]]; then
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

# use_package MODE BUILD_TYPE [OPTION...]: makes the package, and a project that knows nothing of Conan: CMakeDeps and CMakeToolchain write
# what it finds.
use_package() {
    local consumer=$scratch/consumer/$1
    local -a settings=("${options[@]}" -s build_type="$2" "${@:3}")
    conan create "$source" "${settings[@]}"
    mkdir -p "$consumer"
    cd "$consumer"  # where Conan leaves a CMakeUserPresets.json
    conan install --requires="magr/[*]" "${settings[@]}" -g CMakeDeps -g CMakeToolchain --output-folder "$consumer/generators"
    cmake -S "$source/tests/packaging/consumer" -B "$consumer/build" -G Ninja -DMAGR_CONSUME="$1" -DCMAKE_BUILD_TYPE="$2" \
        -DCMAKE_TOOLCHAIN_FILE="$consumer/generators/conan_toolchain.cmake"
    grep "^magr_DIR:PATH=$consumer/generators" "$consumer/build/CMakeCache.txt"  # not an installed one
    cmake --build "$consumer/build"
    "$consumer/build/consumer"
}
use_package find_package Release
if [[ " $* " == *" compiled "* ]]; then
    use_package compiled Debug -o "magr/*:compiled=True"
fi
echo "the package of Conan works"
