import Foundation
import Golden
import Testing

/// The shell recipes of README.md and spool/README.md, executed as they stand.
@Suite(.serialized) struct RecipeTests {
    private static let repository = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
        .deletingLastPathComponent().deletingLastPathComponent()
    private static let spoolFolder = repository.appendingPathComponent("spool")

    /// The blocks of a language in a section of a README.
    private func blocks(
        under heading: String, _ language: String = "sh", in folder: URL = spoolFolder
    ) throws -> [String] {
        let text = try String(contentsOf: folder.appendingPathComponent("README.md"), encoding: .utf8)
        let section = try #require(text.components(separatedBy: "## \(heading)\n").dropFirst().first)
            .components(separatedBy: "\n## ")[0]
        return section.components(separatedBy: "```\(language)\n").dropFirst().map {
            $0.components(separatedBy: "```")[0]
        }
    }

    /// A folder with what the recipes speak of, and the daemon.
    private func prepare() throws -> (Workplace, Daemon) {
        let place = try Workplace()
        let photos = place.folder.appendingPathComponent("work/backpack")
        try FileManager.default.createDirectory(at: photos, withIntermediateDirectories: true)
        let picture = URL(fileURLWithPath: Golden.path("reference.png"))
        try FileManager.default.copyItem(at: picture, to: photos.appendingPathComponent("0.png"))
        try FileManager.default.copyItem(
            at: Golden.fixtures.appendingPathComponent("Raster/orientation-1.jpg"),
            to: place.folder.appendingPathComponent("work/photo.jpg"))
        _ = try Workplace.run(
            "/bin/tar", ["-c", "-C", place.path("work"), "-f", place.path("work/backpack.tar"), "backpack"])
        try FileManager.default.copyItem(
            at: Self.spoolFolder.appendingPathComponent("examples"),
            to: place.folder.appendingPathComponent("work/examples"))
        return (place, try place.startDaemon())
    }

    /// Runs a script in the folder as a user would, with `dreamcache` on the path and the spool's configuration.
    private func sh(_ script: String, _ place: Workplace) throws -> Workplace.Result {
        let file = try place.write(
            "recipe.sh",
            """
            set -eu
            export SPOOL=\(place.path("spool"))
            dreamcache() { "\(Workplace.programs.path)/dreamcache" "$@" --config "\(place.path("config.yaml"))"; }
            cd "\(place.path("work"))"
            \(script)
            """)
        return try Workplace.run("/bin/bash", [file])
    }

    /// README's own: installing below another root, for which `sudo` and `make` are told so, then working with files and in
    /// the foreground.
    @Test(
        .enabled(
            if: getuid() == 0 && FileManager.default.isExecutableFile(atPath: "/usr/bin/systemd-tmpfiles"),
            "it needs root and systemd-tmpfiles"))
    func installingAndUsing() throws {
        let (place, daemon) = try prepare()
        let root = place.path("root")
        let installed = try sh(
            "make -C \(Self.repository.path) install RELEASE=\(Workplace.programs.path) DESTDIR=\(root)", place)
        #expect(installed.status == 0, "\(installed.errors)")
        let shell = try blocks(under: "Using it", in: Self.repository)
        #expect(shell.count == 3)
        for script in shell {
            let result = try sh(
                """
                sudo() {
                    if [ "$1" = systemctl ]; then set -- systemctl enable "${@: -1}"; fi
                    "$1" --root="\(root)" "${@:2}"
                }
                """ + "\n"
                    + script.replacingOccurrences(of: "/var/lib/dreamcache/spool", with: "$SPOOL")
                    // Few steps, for a test.
                    .replacingOccurrences(of: #""seed""#, with: #""num_inference_steps": 2, "seed""#), place)
            #expect(result.status == 0, "\(script): \(result.output) \(result.errors)")
        }
        for file in [
            "usr/bin/dreamcached", "usr/bin/dreamcache", "etc/dreamcache/dreamcached.yaml",
            "etc/systemd/system/multi-user.target.wants/dreamcached.service", "usr/share/man/man1/dreamcache.1",
            "usr/share/man/man8/dreamcached.8", "usr/share/bash-completion/completions/dreamcache",
            "usr/share/zsh/vendor-completions/_dreamcached", "usr/share/fish/vendor_completions.d/dreamcache.fish",
        ] {
            let attributes = try? FileManager.default.attributesOfItem(atPath: "\(root)/\(file)")
            #expect((attributes?[.size] as? Int ?? 0) > 0, "\(file)")
        }
        #expect(try String(contentsOfFile: "\(root)/etc/passwd", encoding: .utf8).contains("dreamcache:"))
        let drops = try FileManager.default.attributesOfItem(
            atPath: "\(root)/var/lib/dreamcache/spool/drop/references")
        #expect(drops[.posixPermissions] as? Int == 0o3770)
        #expect(FileManager.default.fileExists(atPath: place.path("work/beach/0003.png")))
        #expect(daemon.stop() == 0)
    }

    @Test func everyWayOfDroppingPhotos() throws {
        let (place, daemon) = try prepare()
        let lines = try blocks(under: "Dropping photos").joined().split(separator: "\n")
        #expect(lines.count >= 7)
        // The moving line last, since the others copy what it takes away; each is answered before the next comes.
        for line in lines.sorted(by: { !$0.hasPrefix("mv") && $1.hasPrefix("mv") }) {
            try? FileManager.default.removeItem(atPath: place.path("spool/receipts/backpack.json"))
            try? FileManager.default.removeItem(atPath: place.path("spool/receipts/backpack.jpg.json"))
            let result = try sh(String(line), place)
            #expect(result.status == 0, "\(line): \(result.errors)")
            try place.eventually("\(line) is answered") {
                (place.receipt("backpack") + place.receipt("backpack.jpg")).contains("accepted")
            }
        }
        #expect(daemon.stop() == 0)
    }

    /// Tables as shells, spreadsheets and Windows write them, and prompts that are no shell's or JSON's to read.
    static let tables: [(table: String, prompts: [String: String])] = [
        (
            "snow,a lantern in the snow\nsea,a lantern by the sea\n",
            ["snow": "a lantern in the snow", "sea": "a lantern by the sea"]
        ),
        ("snow,no line end", ["snow": "no line end"]),
        ("\u{FEFF}b1,a lantern\r\nb2,\"red, in \"\"snow\"\"\"\r\n\r\n", ["b1": "a lantern", "b2": "red, in \"snow\""]),
        (
            "h1,\"quote \"\" back\\slash $(id) `id` 'x' \n line\"\nh2,\"%s %d \"\"}, {\"\"\"\n",
            ["h1": "quote \" back\\slash $(id) `id` 'x' \n line", "h2": "%s %d \"}, {\""]
        ),
    ]

    @Test(.enabled(if: FileManager.default.isExecutableFile(atPath: "/usr/bin/python3"), "python3 is not installed"))
    func tablesOfPrompts() throws {
        let place = try Workplace()
        let script = try #require(try blocks(under: "In scripts").first { $0.contains("prompts.csv") })
            .components(separatedBy: "mkdir -p collected")[0]
        for folder in ["work", "spool/drop/jobs"] {
            try FileManager.default.createDirectory(atPath: place.path(folder), withIntermediateDirectories: true)
        }
        for (table, prompts) in Self.tables {
            _ = try place.write("work/prompts.csv", table)
            let result = try sh(script, place)
            #expect(result.status == 0, "\(table): \(result.errors)")
            for (name, prompt) in prompts {
                let data = try Data(contentsOf: URL(fileURLWithPath: place.path("spool/drop/jobs/\(name).json")))
                let manifest = try JSONSerialization.jsonObject(with: data) as? [String: Any]
                #expect(manifest?["prompt"] as? String == prompt)
            }
            let names = try String(contentsOfFile: place.path("work/names"), encoding: .utf8)
            #expect(Set(names.split(separator: "\n").map(String.init)) == Set(prompts.keys))
        }
        let before = try FileManager.default.contentsOfDirectory(atPath: place.path("spool/drop/jobs")).sorted()
        for table in ["../x,a\n", "a,b,c\n", "same,a\nsame,b\n", "-rf,a\n", "good,a\nbad\n"] {
            _ = try place.write("work/prompts.csv", table)
            let refused = try sh(script, place)
            #expect(
                refused.status != 0 && refused.errors.contains("expected a new plain name and a prompt"), "\(table)")
        }
        // A table with a fault drops nothing at all.
        #expect(try FileManager.default.contentsOfDirectory(atPath: place.path("spool/drop/jobs")).sorted() == before)
    }

    /// The demo removes what it has made itself, and nothing of anybody's.
    @Test func theDemoLeavesFoldersAlone() throws {
        let place = try Workplace()
        _ = try place.write("precious.txt", "mine")
        let demo = Self.spoolFolder.appendingPathComponent("examples/demo.sh").path
        let refused = try Workplace.run("/bin/bash", [demo, Workplace.programs.path, place.folder.path])
        #expect(refused.status == 1)
        #expect(refused.errors.contains("expected a new or empty folder"))
        #expect(FileManager.default.fileExists(atPath: place.path("precious.txt")))
        #expect(FileManager.default.fileExists(atPath: place.path("config.yaml")))
    }

    @Test(.enabled(if: FileManager.default.isExecutableFile(atPath: "/usr/bin/python3"), "python3 is not installed"))
    func scripts() throws {
        let (place, daemon) = try prepare()
        _ = try sh("cp -r examples/lantern \"$SPOOL/drop/references/\"", place)
        _ = try place.write("work/prompts.csv", Self.tables[0].table)
        for script in try blocks(under: "In scripts") {
            // Few steps, for a test.
            let result = try sh(
                "sed -i 's/\"seed\"/\"num_inference_steps\": 2, \"seed\"/' examples/beach.json\n" + script, place)
            #expect(result.status == 0, "\(script): \(result.errors)")
        }
        #expect(
            try FileManager.default.contentsOfDirectory(atPath: place.path("work/collected")).sorted() == [
                "sea", "snow",
            ])
        for name in ["sea", "snow"] {
            #expect(FileManager.default.fileExists(atPath: place.path("work/collected/\(name)/0000.png")))
        }
        #expect(daemon.stop() == 0)
    }

    @Test func aJobThatBeginsWithAPicture() throws {
        let (place, daemon) = try prepare()
        _ = try sh(
            "cp -r examples/lantern \"$SPOOL/drop/references/\"; cp \(Golden.path("reference.png")) sketch.png", place)
        let script = try #require(try blocks(under: "Dropping a job").first { $0.contains("init_image") })
        let result = try sh(
            script.replacingOccurrences(of: #""strength""#, with: #""num_inference_steps": 4, "strength""#), place)
        #expect(result.status == 0, "\(result.errors)")
        let done = try place.dreamcache("wait", "sea", "--timeout", "60")
        #expect(done.status == 0, "\(done.errors)")
        #expect(daemon.stop() == 0)
    }

    /// The units as systemd judges them, and their command as it stands but for the two folders.
    @Test(
        .enabled(
            if: FileManager.default.isExecutableFile(atPath: "/usr/bin/systemd-analyze"),
            "systemd-analyze is not installed"))
    func aPathUnitThatReactsToFinishedSets() throws {
        let place = try Workplace()
        let units = try blocks(under: "In scripts", "ini")
        #expect(units.count == 2)
        var files: [String] = []
        for unit in units {
            let path = try #require(unit.split(separator: "\n").first).dropFirst(2)
            files.append(try place.write(URL(fileURLWithPath: String(path)).lastPathComponent, unit))
        }
        let verdict = try Workplace.run("/usr/bin/systemd-analyze", ["verify"] + files)
        #expect(verdict.errors == "")
        #expect(verdict.status == 0)

        let command = try #require(units.joined().split(separator: "\n").first { $0.hasPrefix("ExecStart=") })
            .dropFirst("ExecStart=".count)
        for folder in ["spool/out/one", "spool/out/two", "pictures"] {
            try FileManager.default.createDirectory(atPath: place.path(folder), withIntermediateDirectories: true)
        }
        let arguments = command.replacingOccurrences(of: "/var/lib/dreamcache", with: place.folder.path)
            .replacingOccurrences(of: "/srv", with: place.folder.path).split(separator: " ").map(String.init)
        #expect(try Workplace.run(arguments[0], Array(arguments.dropFirst())).status == 0)
        #expect(try FileManager.default.contentsOfDirectory(atPath: place.path("pictures")).sorted() == ["one", "two"])
        #expect(try FileManager.default.contentsOfDirectory(atPath: place.path("spool/out")).isEmpty)
    }
}
