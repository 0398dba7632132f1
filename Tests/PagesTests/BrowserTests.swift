import Foundation
import Testing

@testable import Pages

/// The pages in a real browser, headless: it asks for nothing that is not beside them, and has nothing to complain of.
@Suite(.enabled(if: Browser.path != nil, "found no chromium in PATH")) struct BrowserTests {
    private func folder(_ files: [String: Data]) throws -> URL {
        let root = FileManager.default.temporaryDirectory.appendingPathComponent("pages-\(UUID())")
        for (name, data) in files {
            let file = root.appendingPathComponent(name)
            try FileManager.default.createDirectory(
                at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
            try data.write(to: file)
        }
        return root
    }

    @Test(arguments: [hostileTexts.joined(separator: "\n"), "a lantern on the beach"])
    func nothingFromElsewhereAndNoError(_ text: String) throws {
        let picture = PageTests.picture
        let root = try folder([
            "index.html": Data(PageTests().spool(text).html(time: "noon", seconds: 1).utf8),
            "pages/0002.html": Data(
                ArchivePage(PageTests().spool(text).finished, number: 2, hasNewer: true).html().utf8),
            "out/j/index.html": Data(PageTests().set(text).html().utf8), "out/j/0000.png": picture,
            "out/j/0000.attention.png": picture,
        ])
        defer { try? FileManager.default.removeItem(at: root) }
        for page in ["index.html", "pages/0002.html", "out/j/index.html"] {
            let seen = try Browser.load(root.appendingPathComponent(page))
            #expect(seen.console == [], "\(page)")
            #expect(seen.document.contains("<h1") && !seen.document.contains("src=\"http"))
        }
    }

    /// That the check can fail: what a page asks of elsewhere is refused by its policy, and a script in it does not run.
    @Test func whatIsForbiddenIsSeen() throws {
        let html = try PageTests().set("x").html()
        for evil in ["<img src=\"http://127.0.0.1:9/x.png\">", "<script>document.title = 'run'</script>"] {
            let root = try folder([
                "index.html": Data(html.replacingOccurrences(of: "<main>", with: "<main>" + evil).utf8),
                "0000.png": PageTests.picture, "0000.attention.png": PageTests.picture,
            ])
            defer { try? FileManager.default.removeItem(at: root) }
            let seen = try Browser.load(root.appendingPathComponent("index.html"))
            #expect(seen.console.contains { $0.contains("Content Security Policy") }, "\(evil)")
            #expect(!seen.document.contains("<title>run"))
        }
    }
}

/// Chromium, where it is installed.
private enum Browser {
    static let path: String? = (ProcessInfo.processInfo.environment["PATH"] ?? "").split(separator: ":")
        .flatMap { ["\($0)/chromium", "\($0)/chromium-browser"] }.first(where: FileManager.default.isExecutableFile)

    struct Seen {
        let document: String
        /// What was written to the console.
        let console: [String]
    }

    static func load(_ page: URL) throws -> Seen {
        let profile = FileManager.default.temporaryDirectory.appendingPathComponent("browser-\(UUID())")
        defer { try? FileManager.default.removeItem(at: profile) }
        let process = Process()
        process.executableURL = URL(fileURLWithPath: try #require(path))
        process.arguments = [
            "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
            "--disable-background-networking", "--user-data-dir=\(profile.path)", "--enable-logging=stderr",
            "--virtual-time-budget=3000", "--dump-dom", page.absoluteString,
        ]
        let (output, errors) = (Pipe(), Pipe())
        process.standardOutput = output
        process.standardError = errors
        try process.run()
        // One after the other would wait for ever where the second fills its pipe.
        let log = FileHandleText(errors)
        let document = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        let lines = log.text.split(separator: "\n").map(String.init).filter { $0.contains(":CONSOLE") }
        #expect(process.terminationStatus == 0)
        return Seen(document: document, console: lines)
    }
}

/// What comes out of a pipe, read on a thread of its own.
private final class FileHandleText: @unchecked Sendable {
    // Unchecked: `data` is written before the semaphore is signalled and read after.
    private var data = Data()
    private let done = DispatchSemaphore(value: 0)

    init(_ pipe: Pipe) {
        Thread.detachNewThread { [self] in
            data = pipe.fileHandleForReading.readDataToEndOfFile()
            done.signal()
        }
    }

    var text: String {
        done.wait()
        return String(decoding: data, as: UTF8.self)
    }
}
