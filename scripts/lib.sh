# Shared by ./demo and ./test: sourced, not run.
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.."

say() { printf '== %s\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 2; }

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"
  elif command -v sudo >/dev/null; then sudo "$@"
  else die "packages are missing and neither root nor sudo is here; install them yourself: $*"; fi
}

# need PACKAGE FILE...: the package is wanted unless every FILE (or program) is there.
missing=()
need() {
  local package=$1 thing; shift
  for thing in "$@"; do
    case $thing in
      /*) [ -e "$thing" ] || { missing+=("$package"); return; } ;;
      *) command -v "$thing" >/dev/null || { missing+=("$package"); return; } ;;
    esac
  done
}

has_package() { apt-cache show "$1" >/dev/null 2>&1; }

# Packages without which nothing works; the installer image is optional, distributions other than Debian 12 lack it.
machine_packages() {
  need qemu-system-x86 qemu-system-x86_64
  need qemu-utils qemu-img
  need bubblewrap bwrap
  need grub-rescue-pc /usr/lib/grub-rescue/grub-rescue-cdrom.iso
  need gcc cc
  need libc6-dev /usr/include/stdio.h
  # The allocator is built with it.
  need make make
  need python3 python3
}
installer_image=/usr/lib/debian-installer/images/12/amd64/gtk/debian-installer/amd64/initrd.gz

install_missing() {
  local optional=()
  command -v apt-get >/dev/null || { [ ${#missing[@]} = 0 ] && return; die "this script installs Debian packages; on another distribution install: ${missing[*]}"; }
  if [ ${#missing[@]} -gt 0 ]; then
    say "installing Debian packages: ${missing[*]}"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq >/dev/null || say "apt-get update failed; trying with the lists at hand"
  fi
  if [ ! -e "$installer_image" ] && has_package debian-installer-12-netboot-amd64; then
    if [ "$(id -u)" = 0 ] || command -v sudo >/dev/null; then optional+=(debian-installer-12-netboot-amd64); fi
  fi
  if [ ${#missing[@]} -gt 0 ]; then
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null 2>&1 \
      || install_with_release \
      || die "these packages could not be installed: ${missing[*]}; try: apt-get install ${missing[*]}"
  fi
  if [ ${#optional[@]} -gt 0 ]; then
    say "installing Debian packages: ${optional[*]}"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${optional[@]}" >/dev/null 2>&1 \
      || say "${optional[*]} could not be installed: the installer example will be skipped"
  fi
}

# A qemu-utils from backports keeps the release's qemu-system-x86 out: take both from the release.
install_with_release() {
  local release wanted=() package
  release=$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:-}")
  [ -n "$release" ] || return 1
  for package in "${missing[@]}"; do [ "$package" = qemu-utils ] || wanted+=("$package"); done
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends --allow-downgrades \
    "${wanted[@]}" "qemu-utils/$release" >/dev/null 2>&1
}

check_rust() {
  command -v cargo >/dev/null || die "cargo is missing; install a current Rust (the distribution's may be too old)"
  local have want
  have=$(rustc --version | awk '{print $2}')
  want=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
  [ "$(printf '%s\n%s\n' "$want" "${have%%-*}" | sort -V | head -n1)" = "$want" ] \
    || die "Rust $have is too old for Assay, which needs $want or later; install a current one with rustup"
}
