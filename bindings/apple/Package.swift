// swift-tools-version:5.9
// The Swift sketch over the library as an XCFramework, which make_xcframework.sh builds beside this file first. In Xcode: Add
// Package Dependencies, Add Local.
import PackageDescription

let package = Package(
    name: "Flashinfer",
    platforms: [.iOS(.v15), .macOS(.v12)],
    products: [
        .library(name: "Flashinfer", targets: ["Flashinfer"])
    ],
    targets: [
        .binaryTarget(name: "libflashinfer", path: "libflashinfer.xcframework"),
        .target(name: "Flashinfer", dependencies: ["libflashinfer"]),
    ]
)
