import Foundation
import Golden
import Testing

extension DaemonTests {
    /// Several people share a spool whose users, folders and rights are those of etc/sysusers.d and etc/tmpfiles.d as shipped.
    @Suite(.disabled(if: InstalledSpool.obstacle != nil, "\(InstalledSpool.obstacle ?? "")"))
    struct InstalledUsers {
        private static let ann = 48_002, bob = 48_003, stranger = 48_004
        private let photo = Golden.path("reference.png")
        private let manifest = #"{"subject": "cat", "prompt": "x", "seed": 1, "num_inference_steps": 2}"#

        /// A person with photos that nobody else may read drops them, and takes the set home.
        @Test func privatePhotosBecomeASetThatIsTakenHome() throws {
            let spool = try InstalledSpool()
            let place = spool.place
            let daemon = try spool.startDaemon()
            let ann = try spool.home(of: Self.ann)
            let bob = try spool.home(of: Self.bob)
            _ = try Workplace.run("/bin/cp", [photo, ann + "/photo.png"])
            #expect(chown(ann + "/photo.png", uid_t(Self.ann), gid_t(Self.ann)) == 0)
            let dreamcache = Workplace.programs.appendingPathComponent("dreamcache").path
            let config = place.path("config.yaml")
            let submitted = try spool.run(
                as: Self.ann, umask: "077",
                """
                cd \(ann); mkdir cat && mv photo.png cat/ && chmod 600 cat/photo.png && echo '\(manifest)' > cat.json &&
                \(dreamcache) submit cat.json --references cat --wait --timeout 120 --config \(config)
                """)
            #expect(submitted.status == 0, "\(submitted.errors)\(submitted.output)")
            let set = submitted.output.split(separator: "\n").last.map(String.init) ?? ""
            #expect(try spool.names("drop/references") == [] && spool.names("drop/jobs") == [])
            // Of the group, and of nobody else's: the set is read, moved away and thrown away by who dropped its job.
            let taken = try spool.run(
                as: Self.ann, "mv \(set) \(ann)/set && cat \(ann)/set/0000.png | wc -c && rm -r \(ann)/set")
            #expect(taken.status == 0, "\(taken.errors)")
            #expect(Int(taken.output.trimmingCharacters(in: .whitespacesAndNewlines)) ?? 0 > 100)
            #expect(try spool.names("out") == [])

            // Another drops by hand, in the ways of spool/README.md, with the umask of most people.
            let copied = try spool.run(
                as: Self.bob,
                """
                cd \(spool.path)/drop && mkdir references/.owl && cp \(photo) references/.owl/a.png &&
                mv references/.owl references/owl && echo '\(manifest.replacing("cat", with: "owl"))' > jobs/.bob &&
                mv jobs/.bob jobs/bob.json
                """)
            #expect(copied.status == 0, "\(copied.errors)")
            let owl = try place.dreamcache("wait", "bob", "--timeout", "120")
            #expect(owl.status == 0, "\(owl.errors)\(owl.output)")
            #expect(try spool.names("drop/references") == [] && spool.names("drop/jobs") == [])
            let set2 = owl.output.trimmingCharacters(in: .whitespacesAndNewlines)
            #expect(try spool.run(as: Self.bob, "mv \(set2) \(bob)/set && rm -r \(bob)/set").status == 0)
            #expect(try place.dreamcache("verify").status == 0)
            #expect(daemon.stop() == 0)
        }

        /// What is refused is where its receipt says, and what one person has dropped another cannot take away.
        @Test func whatIsRefusedIsWhereItsReceiptSays() throws {
            let spool = try InstalledSpool()
            let place = spool.place
            let daemon = try spool.startDaemon()
            let drop = spool.path + "/drop"
            // A manifest that is wrong, one that the daemon may not read, and photos it may not read.
            let dropped = try spool.run(
                as: Self.ann,
                """
                cd \(drop)/jobs && echo '[]' > .w && mv .w wrong.json && umask 077 && echo '\(manifest)' > .p &&
                chmod 600 .p && mv .p private.json && cd ../references && mkdir .dog && cp \(photo) .dog/ &&
                chmod 600 .dog/* && chmod 700 .dog && mv .dog dog && echo x > \(drop)/jobs/draft.part
                """)
            #expect(dropped.status == 0, "\(dropped.errors)")
            for name in ["wrong.json", "private.json", "dog"] {
                try place.eventually("\(name) is refused") { spool.receipt(name).contains(#""state": "rejected""#) }
                let kept = try #require(spool.receipt(name).firstMatch(of: /"kept_at": "([^"]+)"/)).1
                // Its owner, as a member of the group, finds it there.
                let found = try spool.run(as: Self.ann, "ls -d \(spool.path)/\(kept)")
                #expect(found.status == 0, "\(name): \(found.errors)")
            }
            let theft = try spool.run(as: Self.bob, "rm -f \(drop)/jobs/draft.part")
            #expect(theft.status != 0 && theft.errors.contains("not permitted"), "\(theft.errors)")
            // Who is not of the group drops nothing, and sees nothing of the daemon's own.
            for command in ["echo x > \(drop)/jobs/x.json", "ls \(drop)/jobs", "ls \(spool.path)/lib"] {
                #expect(try spool.run(as: Self.stranger, isMember: false, command).status != 0, "\(command)")
            }
            #expect(daemon.isRunning)
            #expect(try place.dreamcache("verify").status == 0)
            #expect(daemon.stop() == 0)
        }
    }
}
