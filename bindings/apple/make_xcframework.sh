#!/bin/sh
# libflashinfer.xcframework beside this file: static libraries for iOS, its simulator and macOS, with headers and module map.
# Needs Xcode, and meson, ninja, pkg-config and xxhash (brew install meson pkg-config xxhash).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
source=$(cd "$here/../.." && pwd)
work=${WORK:-$here/build}
out=${OUT:-$here}/libflashinfer.xcframework

# xxHash is compiled in from its headers: copies of them, so that nothing else of the building machine's is found
xxhash=$(pkg-config --variable=includedir libxxhash)
mkdir -p "$work/xxhash"
cp "$xxhash/xxhash.h" "$work/xxhash/"
[ ! -e "$xxhash/xxh3.h" ] || cp "$xxhash/xxh3.h" "$work/xxhash/"
printf 'Name: xxhash\nDescription: headers\nVersion: 0.8.1\nCflags: -I%s\n' "$work/xxhash" >"$work/libxxhash.pc"

# build SDK TARGET: $work/SDK/libflashinfer.a
build() {
    cat >"$work/$1.ini" <<END
[binaries]
c = ['$(xcrun --sdk "$1" --find clang)', '-target', '$2', '-isysroot', '$(xcrun --sdk "$1" --show-sdk-path)']
ar = '$(xcrun --sdk "$1" --find ar)'
strip = '$(xcrun --sdk "$1" --find strip)'
pkgconfig = 'pkg-config'

[project options]
libaio = 'disabled'
io_uring = 'disabled'
blis = 'disabled'
pack = 'disabled'

[host_machine]
system = 'darwin'
cpu_family = 'aarch64'
cpu = 'arm64'
endian = 'little'
END
    PKG_CONFIG_LIBDIR=$work meson setup "$work/$1" "$source" --cross-file "$work/$1.ini" -Ddefault_library=static \
        -Dprograms=false -Dman=false -Db_ndebug=true
    ninja -C "$work/$1" libflashinfer.a
    set -- "$work/$1/libflashinfer.a"
    libraries="$libraries -library $1 -headers $work/headers"
}

mkdir -p "$work/headers"
cp "$source"/include/*.h "$source/include/module.modulemap" "$work/headers/"
libraries=
build iphoneos arm64-apple-ios15.0
build iphonesimulator arm64-apple-ios15.0-simulator
build macosx arm64-apple-macos12.0
rm -rf "$out"
# shellcheck disable=SC2086
xcodebuild -create-xcframework $libraries -output "$out"
