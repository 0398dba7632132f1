// swift-tools-version: 6.2
import PackageDescription

/// Warnings are errors in every target of ours; dependencies are built as they are.
let swift: [SwiftSetting] = [
    .treatAllWarnings(as: .error),
    .enableUpcomingFeature("MemberImportVisibility"),
    .enableUpcomingFeature("ExistentialAny"),
]

/// C is optimised in debug builds too: a kernel at -O0 would make the tests of the model unusably slow.
/// `-ffp-contract=off` keeps the scalar references exact; kernels ask for fused multiply-add where they want it.
let c: [CSetting] = [
    .treatAllWarnings(as: .error),
    .unsafeFlags(["-O3", "-fno-math-errno", "-ffp-contract=off", "-Wall", "-Wextra"]),
    .define("_GNU_SOURCE"),
]

/// Undefined behaviour traps in debug builds, and so in every test. The kernels are left out, which would take twice the time
/// and their scalar twins six times; `make sanitize` has them. There the traps give way to reports.
let checked: [CSetting] =
    Context.environment["DREAMCACHE_TESTS"] == nil
    ? c + [.unsafeFlags(["-fsanitize=undefined", "-fsanitize-trap=undefined"], .when(configuration: .debug))] : c

let package = Package(
    name: "dreamcache",
    products: [
        .executable(name: "dreamcached", targets: ["dreamcached"]),
        .executable(name: "dreamcache", targets: ["CommandLineTool"]),
        // Preloaded into the programs by tests; not installed.
        .library(name: "FaultShim", type: .dynamic, targets: ["FaultShim"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.0"),
        .package(
            url: "https://github.com/apple/swift-configuration", from: "1.4.0",
            traits: []),
        .package(url: "https://github.com/apple/swift-crypto", from: "4.5.0"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.0"),
        .package(url: "https://github.com/apple/swift-system", from: "1.8.0"),
        .package(url: "https://github.com/hummingbird-project/swift-mustache", from: "2.1.1"),
        .package(url: "https://github.com/jpsim/Yams", from: "6.2.0"),
    ],
    targets: [
        // Debian's C libraries, as module maps.
        .systemLibrary(name: "OneDNN", path: "Sources/CLibraries/OneDNN", providers: [.apt(["libdnnl-dev"])]),
        .systemLibrary(name: "OpenBLAS", path: "Sources/CLibraries/OpenBLAS", providers: [.apt(["libopenblas-dev"])]),
        .systemLibrary(name: "PNG", path: "Sources/CLibraries/PNG", providers: [.apt(["libpng-dev"])]),
        .systemLibrary(name: "JPEG", path: "Sources/CLibraries/JPEG", providers: [.apt(["libjpeg-dev"])]),
        .systemLibrary(name: "Zlib", path: "Sources/CLibraries/Zlib", providers: [.apt(["zlib1g-dev"])]),
        .systemLibrary(name: "LCMS", path: "Sources/CLibraries/LCMS", providers: [.apt(["liblcms2-dev"])]),
        .systemLibrary(name: "HEIF", path: "Sources/CLibraries/HEIF", providers: [.apt(["libheif-dev"])]),
        .systemLibrary(name: "HEVC", path: "Sources/CLibraries/HEVC", providers: [.apt(["libde265-dev"])]),
        .systemLibrary(name: "AVIF", path: "Sources/CLibraries/AVIF", providers: [.apt(["libavif-dev"])]),
        .systemLibrary(name: "WebP", path: "Sources/CLibraries/WebP", providers: [.apt(["libwebp-dev"])]),
        .systemLibrary(
            name: "InotifyTools", path: "Sources/CLibraries/InotifyTools", providers: [.apt(["libinotifytools0-dev"])]),

        // C of our own.
        .target(name: "CKernels", cSettings: c, linkerSettings: [.linkedLibrary("gomp")]),
        .target(
            name: "COneDNN", dependencies: ["OneDNN"], cSettings: checked, linkerSettings: [.linkedLibrary("dnnl")]),
        .target(
            name: "CImageCodecs", dependencies: ["PNG", "JPEG", "LCMS", "HEIF", "HEVC", "AVIF", "WebP"],
            cSettings: checked,
            linkerSettings: ["png", "jpeg", "lcms2", "heif", "de265", "avif", "webp", "webpdemux", "z"].map {
                .linkedLibrary($0)
            }),
        .target(name: "CLinux", cSettings: checked),
        .target(name: "CCheckpoint", cSettings: checked),
        .target(name: "CConfinement", cSettings: checked),

        // Bytes on their way to a disk: written whole or not at all, and their digests.
        .target(
            name: "Bytes", dependencies: ["CLinux", .product(name: "Crypto", package: "swift-crypto")],
            swiftSettings: swift),

        // The model.
        .target(name: "TensorEngine", dependencies: ["CKernels", "COneDNN", "OpenBLAS"], swiftSettings: swift),
        .target(name: "Checkpoint", dependencies: ["Bytes", "CCheckpoint", "CKernels", "Zlib"], swiftSettings: swift),
        .target(name: "Raster", dependencies: ["Bytes", "CImageCodecs"], swiftSettings: swift),
        .target(
            name: "Diffusion",
            dependencies: ["Bytes", "Checkpoint", "TensorEngine", .product(name: "Yams", package: "Yams")],
            resources: [.copy("Resources")], swiftSettings: swift),
        .target(
            name: "Vision", dependencies: ["Bytes", "Checkpoint", "Diffusion", "Raster", "TensorEngine"],
            resources: [.copy("Resources")], swiftSettings: swift),
        .target(
            name: "DreamCache",
            dependencies: [
                "Bytes", "Checkpoint", "Diffusion", "Raster", "TensorEngine", "Vision",
                .product(name: "Crypto", package: "swift-crypto"),
            ],
            swiftSettings: swift),

        // Judges pictures, whoever made them: never imports DreamCache.
        .target(name: "Evaluation", dependencies: ["Pages", "Raster", "Vision"], swiftSettings: swift),
        .target(
            name: "Training",
            dependencies: [
                "Bytes", "Checkpoint", "Diffusion", "DreamCache", "Evaluation", "Pages", "Raster", "TensorEngine",
                "Vision",
                .product(name: "Crypto", package: "swift-crypto"), .product(name: "Yams", package: "Yams"),
            ], swiftSettings: swift),

        // What people look at.
        .target(
            name: "Pages",
            dependencies: [
                .product(name: "Crypto", package: "swift-crypto"),
                .product(name: "Mustache", package: "swift-mustache"),
            ], swiftSettings: swift),

        // The spool.
        .target(
            name: "Spool",
            dependencies: [
                "Bytes", "CLinux", "InotifyTools", "Pages", "Raster",
                .product(name: "Crypto", package: "swift-crypto"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "SystemPackage", package: "swift-system"),
            ], swiftSettings: swift),

        // The programs.
        .target(
            name: "Application",
            dependencies: [
                "Bytes", "CConfinement", "CLinux", "Checkpoint", "Diffusion", "DreamCache", "Evaluation", "Pages",
                "Raster",
                "Spool", "TensorEngine", "Training", "Vision",
                .product(name: "Configuration", package: "swift-configuration"),
                .product(name: "Yams", package: "Yams"),
                .product(name: "Logging", package: "swift-log"),
            ], swiftSettings: swift),
        .executableTarget(
            name: "dreamcached",
            dependencies: [
                "Application", "DreamCache", "Spool", "TensorEngine",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "SystemPackage", package: "swift-system"),
            ],
            swiftSettings: swift),
        .executableTarget(
            name: "CommandLineTool",
            dependencies: [
                "Application", "Bytes", "CLinux", "Checkpoint", "Diffusion", "DreamCache", "Evaluation", "Raster",
                "Spool",
                "TensorEngine", "Training",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: swift),

        .target(name: "FaultShim", path: "Tests/FaultShim", cSettings: c, linkerSettings: [.linkedLibrary("dl")]),
        .target(
            name: "Golden", dependencies: ["Checkpoint", "TensorEngine"], path: "Tests/Golden", swiftSettings: swift),
        .testTarget(name: "BytesTests", dependencies: ["Bytes"], swiftSettings: swift),
        .testTarget(name: "CheckpointTests", dependencies: ["Checkpoint"], swiftSettings: swift),
        .testTarget(name: "RasterTests", dependencies: ["Raster"], swiftSettings: swift),
        .testTarget(name: "TensorEngineTests", dependencies: ["CKernels", "TensorEngine"], swiftSettings: swift),
        .testTarget(
            name: "DiffusionTests", dependencies: ["Checkpoint", "Diffusion", "Golden", "TensorEngine"],
            swiftSettings: swift),
        .testTarget(
            name: "VisionTests", dependencies: ["Checkpoint", "Golden", "Raster", "TensorEngine", "Vision"],
            swiftSettings: swift),
        .testTarget(name: "EvaluationTests", dependencies: ["Evaluation", "Raster"], swiftSettings: swift),
        .testTarget(
            name: "DreamCacheTests",
            dependencies: ["Checkpoint", "Diffusion", "DreamCache", "Golden", "Raster", "TensorEngine"],
            swiftSettings: swift),
        .testTarget(
            name: "TrainingTests",
            dependencies: ["Checkpoint", "Diffusion", "DreamCache", "Golden", "Raster", "TensorEngine", "Training"],
            swiftSettings: swift),
        .testTarget(name: "PagesTests", dependencies: ["Pages"], swiftSettings: swift),
        .testTarget(
            name: "SpoolTests",
            dependencies: [
                "CLinux", "Raster", "Spool", .product(name: "Logging", package: "swift-log"),
                .product(name: "SystemPackage", package: "swift-system"),
            ], swiftSettings: swift),
        .testTarget(
            name: "ApplicationTests",
            dependencies: [
                "Application", "Checkpoint", "Diffusion", "DreamCache", "Golden", "Raster", "Spool", "TensorEngine",
                .product(name: "Logging", package: "swift-log"),
            ], swiftSettings: swift),
        .target(
            name: "FuzzPictures", dependencies: ["CImageCodecs", "Raster"], path: "Tests/FuzzPictures",
            swiftSettings: swift),
        .target(
            name: "FuzzReaders", dependencies: ["Checkpoint", "CImageCodecs", "DreamCache", "FuzzPictures", "Spool"],
            path: "Tests/FuzzReaders", swiftSettings: swift),
        .testTarget(name: "FuzzCorpusTests", dependencies: ["FuzzReaders"], swiftSettings: swift),
        .testTarget(
            name: "EndToEndTests",
            dependencies: ["Checkpoint", "Raster", "Golden", "Spool", "dreamcached", "CommandLineTool"],
            swiftSettings: swift),
    ],
    swiftLanguageModes: [.v6]
)

// `make fuzz` sets this, to "pictures" where no other reader is wanted; an ordinary build does not know the target.
if let readers = Context.environment["DREAMCACHE_FUZZ"] {
    let arePictures = readers == "pictures"
    package.targets.append(
        .executableTarget(
            name: "Fuzz", dependencies: [arePictures ? "FuzzPictures" : "FuzzReaders"], path: "Tests/Fuzz",
            swiftSettings: swift + (arePictures ? [.define("PICTURES")] : [])
                + [.unsafeFlags(["-parse-as-library"])],
            linkerSettings: [.unsafeFlags(["-sanitize=fuzzer"])]))
}

// `make sanitize` and the campaigns set this: some test targets, and what they need, so that its builds stay small.
if let chosen = Context.environment["DREAMCACHE_TESTS"] {
    var names = Set(chosen.split(separator: ",").map(String.init))
    var count = 0
    while count < names.count {
        count = names.count
        for target in package.targets where names.contains(target.name) {
            for case .byNameItem(let name, _) in target.dependencies { names.insert(name) }
        }
    }
    package.targets.removeAll { !names.contains($0.name) }
    package.products = []
}
