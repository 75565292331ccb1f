#!/usr/bin/env bash
# Unpacks a Rust compiler with the source of its standard library into DEST, beside whatever is installed, and prints the
# compiler's path. ThreadSanitizer needs that source: it takes the synchronisation inside a prebuilt, uninstrumented
# standard library (the count of an `Arc`, channels, scoped threads) for races. Does nothing where DEST is complete.
#
# Needs Debian's apt-get with a `rustc-web` no older than the workspace's `rust-version` (as root where its package lists
# must be fetched first), dpkg-deb, and the sanitizer runtimes that rustup's toolchains bring and Debian's do not.
# Elsewhere, name such a compiler to `sanitize.sh` in TSAN_RUSTC.
#
# usage: tsan-toolchain.sh DEST
source "$(dirname "$0")/common.sh"

give_up() {
  printf 'tsan-toolchain.sh: %s\n' "$*" >&2
  exit 1
}

dest=${1:?usage: tsan-toolchain.sh DEST}
if [ -x "$dest/rustc" ] && "$dest/rustc" -V >&2; then
  realpath "$dest/rustc"
  exit
fi
for tool in apt-get dpkg-deb rustc; do
  command -v "$tool" >/dev/null || give_up "$tool is missing; or set TSAN_RUSTC to a compiler with its library's source"
done

triple=x86_64-unknown-linux-gnu
runtimes=$(rustc --print sysroot)/lib/rustlib/$triple/lib
runtime=$(find "$runtimes" -name 'librustc-*_rt.tsan.a' 2>/dev/null | head -n 1)
[ -n "$runtime" ] || give_up "no sanitizer runtime in $runtimes; use a toolchain of rustup's"

oldest=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
new=$dest.new
rm -rf "$new" "$dest"
mkdir -p "$new"
cd "$new"

# Only `download`: nothing is installed.
fetch() {
  apt-get -o APT::Sandbox::User=root download -q "$@" >&2
}
# The version of the package that was fetched, where it is new enough.
fetch_new_enough() {
  rm -f ./*.deb
  fetch rustc-web rust-web-src || return
  version=$(dpkg-deb -f rustc-web_*.deb Version)
  printf '%s\n%s\n' "$oldest" "$version" | sort -C -V
}
# Package lists that were fetched long ago may name a package that is gone, or one that is too old.
if ! fetch_new_enough; then
  apt-get update -qq >&2 || give_up "apt-get could not fetch its package lists"
  fetch_new_enough || give_up "apt-get offers rustc-web ${version:-in no version}, and the workspace needs $oldest"
fi
# The compiler proper is a shared library, named after its version; and that is linked with an LLVM.
compiler=libstd-rust-web-$(cut -d. -f1,2 <<<"$version")
fetch libstd-rust-web-dev "$compiler" || give_up "apt-get has no $compiler"
llvm=$(dpkg-deb -f "$compiler"_*.deb Depends | grep -oE 'libllvm[0-9]+' | head -n 1)
fetch "$llvm" || give_up "apt-get does not have the compiler's LLVM, $llvm"
for deb in ./*.deb; do
  dpkg-deb -x "$deb" root
done
rm -f ./*.deb
# Debian's is of the stable channel, and looks for the runtime under that name.
cp "$runtime" "root/usr/lib/rustlib/$triple/lib/librustc-stable_rt.tsan.a"
cat >rustc <<'WRAPPER'
#!/usr/bin/env bash
# bash, since other shells drop variables whose name has a hyphen, such as cargo's CARGO_BIN_EXE_name-of-program.
root=$(dirname "$(readlink -f "$0")")/root/usr
LD_LIBRARY_PATH=$root/lib/x86_64-linux-gnu exec "$root/bin/rustc" "$@"
WRAPPER
chmod +x rustc
./rustc -V >&2 || give_up "the unpacked compiler does not start"
cd - >/dev/null
mv "$new" "$dest"
realpath "$dest/rustc"
