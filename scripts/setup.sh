# shellcheck shell=bash
# Sourced by the scripts that build. `need build`, `need test` or `need tsan` finds out which tools and
# headers are missing and installs the Debian packages that bring them; it prints nothing when nothing
# is missing. This is the one place where packages are listed.

has_header() { echo "#include <$1>" | "${CXX:-c++}" -E -x c++ -I/usr/include/eigen3 - > /dev/null 2>&1; }

# MPI's header lies where its own compiler looks. Another MPI than Debian's serves as well.
has_mpi_header() { echo '#include <mpi.h>' | mpicc -E -x c - > /dev/null 2>&1; }

# Looks for the things themselves, so that tools that did not come from a package count too.
missing_packages() {
  local compiler=yes
  command -v "${CXX:-c++}" > /dev/null || { compiler=no; echo g++; }
  command -v cmake > /dev/null || echo cmake
  command -v ninja > /dev/null || echo ninja-build
  command -v ccache > /dev/null || echo ccache
  header() { [ $compiler = yes ] && has_header "$1" || echo "$2"; }
  header Eigen/Core libeigen3-dev
  header CLI/CLI.hpp libcli11-dev
  header yaml-cpp/yaml.h libyaml-cpp-dev
  if [ "$1" != build ]; then
    header doctest/doctest.h doctest-dev
    header benchmark/benchmark.h libbenchmark-dev
    has_mpi_header || echo libopenmpi-dev
    command -v mpiexec > /dev/null || echo openmpi-bin
    command -v pgrep > /dev/null || echo procps
  fi
  if [ "$1" = tsan ]; then
    command -v clang++ > /dev/null || echo clang
    echo '#include <omp.h>' | clang++ -fopenmp -E -x c++ - > /dev/null 2>&1 || echo libomp-dev
  fi
}

# A new machine may be busy with updates of its own, and a server may not answer at once.
apt_get() {
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 "$@"
}
apt_install() { apt_get install -y --no-install-recommends "$@"; }

# Whether all of them only make things faster (ccache) or belong to a part that is left out without.
only_conveniences() { ! printf '%s\n' "$@" | grep -qvxE 'ccache|libbenchmark-dev|libopenmpi-dev|openmpi-bin|procps'; }

install_packages() {
  local as_root=()
  if ! command -v apt-get > /dev/null; then
    echo "Missing: $*" >&2
    echo "There is no apt-get here. Install what these Debian packages bring and run this again." >&2
    return 1
  fi
  if [ "$(id -u)" != 0 ]; then
    if ! command -v sudo > /dev/null; then
      echo "Missing; please run as root: apt-get install $*" >&2
      return 1
    fi
    as_root=(sudo)
  fi
  echo "Installing with apt-get: $*"
  if ! apt_install "$@" > /dev/null 2>&1; then
    echo "Updating apt-get's list of packages"
    apt_get update > /dev/null || return 1
    apt_install "$@" > /dev/null || return 1  # apt-get says why
  fi
}

need() {
  local missing
  mapfile -t missing < <(missing_packages "$1")
  if [ ${#missing[@]} = 0 ]; then return 0; fi
  if only_conveniences "${missing[@]}"; then  # nothing to ask for a password or to stop for
    if [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null; then install_packages "${missing[@]}" || true; fi
    return 0
  fi
  install_packages "${missing[@]}" || return 1
  hash -r
  mapfile -t missing < <(missing_packages "$1")
  if [ ${#missing[@]} != 0 ] && ! only_conveniences "${missing[@]}"; then
    echo "Still missing after the installation: ${missing[*]}" >&2
    return 1
  fi
}
