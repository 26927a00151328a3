# Sourced by the set-up commands:  ensure_packages NAME...
#
# Installs with apt what is missing; where everything is there it installs nothing and needs no rights. A NAME is a program on the path,
# `c++` for the compiler, or a CMake package, which is looked for as the build does (so CMAKE_PREFIX_PATH counts too). Without apt it
# says what to install and fails.

declare -A debian_package=(
    [c++]=g++ [cmake]=cmake [ninja]=ninja-build [pkg-config]=pkg-config
    [Eigen3]=libeigen3-dev [xsimd]=libxsimd-dev [Catch2]=catch2 [benchmark]=libbenchmark-dev
    [aarch64-linux-gnu-g++]=g++-aarch64-linux-gnu [qemu-aarch64]=qemu-user
    [nlohmann_json]=nlohmann-json3-dev [CLI11]=libcli11-dev
)

# Prints those of the names that are missing, one a line.
missing_packages() {
    local name probe has_tools=yes
    local -a libraries=()
    for name in "$@"; do
        case "$name" in
            c++) command -v "${CXX:-c++}" > /dev/null || { echo "$name"; has_tools=no; } ;;
            cmake | ninja) command -v "$name" > /dev/null || { echo "$name"; has_tools=no; } ;;
            pkg-config | aarch64-linux-gnu-g++ | qemu-aarch64) command -v "$name" > /dev/null || echo "$name" ;;
            *) libraries+=("$name") ;;
        esac
    done
    if [ $has_tools = no ]; then  # nothing to look for the libraries with: apt knows which of them are there
        printf '%s\n' "${libraries[@]}"
        return
    fi
    probe=$(mktemp -d)
    if cmake -S "$(dirname "${BASH_SOURCE[0]}")/installed_packages" -B "$probe" -G Ninja \
        -DPACKAGES="$(IFS=';'; echo "${libraries[*]}")" > "$probe/log" 2>&1; then
        sed -n 's/^missing: //p' "$probe/log"
        rm -r "$probe"
    else
        cat "$probe/log" >&2
        rm -r "$probe"
        return 1
    fi
}

ensure_packages() {
    local missing name
    local -a packages=() as_root=()
    missing=$(missing_packages "$@") || return 1
    [ -n "$missing" ] || return 0
    for name in $missing; do packages+=("${debian_package[$name]}"); done

    [ "$(id -u)" = 0 ] || as_root=(sudo)
    if ! command -v apt-get > /dev/null || ! command -v "${as_root[0]:-true}" > /dev/null; then
        echo "Missing: $(echo $missing)." >&2
        echo "Please install them (on Debian or Ubuntu, as root: apt-get install ${packages[*]}) and try again." >&2
        return 1
    fi
    echo "Installing ${packages[*]}"
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -q || return 1
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${packages[@]}"
}
