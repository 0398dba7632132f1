import Foundation
import Golden

/// A spool with its users, as etc/sysusers.d and etc/tmpfiles.d make them when the package is installed: systemd's own programs
/// read the files as shipped, in a mount namespace where /etc, /var/lib and /var/cache are the place's.
final class InstalledSpool: Sendable {
    let place: Workplace
    /// The daemon's user and group, as systemd-sysusers has numbered them.
    let user: Int, group: Int

    static let repository = Golden.fixtures.deletingLastPathComponent().deletingLastPathComponent()

    /// Why there cannot be one here, or nil.
    static let obstacle: String? = {
        guard getuid() == 0 else { return "only root may change users" }
        for program in ["systemd-sysusers", "systemd-tmpfiles", "setpriv", "unshare"] {
            guard FileManager.default.isExecutableFile(atPath: "/usr/bin/" + program) else {
                return "\(program) is not installed"
            }
        }
        let namespace = try? Workplace.run("/usr/bin/unshare", ["-m", "/bin/true"])
        return namespace?.status == 0 ? nil : "mount namespaces are not allowed here"
    }()

    struct Failure: Error { let message: String }

    init() throws {
        place = try Workplace()
        let etc = Self.repository.appendingPathComponent("etc").path
        let script = """
            set -e; cd \(place.folder.path); mount --make-rprivate /
            mkdir installed installed/lib installed/cache; cp -a /etc installed/etc
            sed -i /^dreamcache:/d installed/etc/passwd installed/etc/group
            for folder in etc var/lib var/cache; do mount --bind installed/${folder#var/} /$folder; done
            systemd-sysusers \(etc)/sysusers.d/dreamcache.conf
            systemd-tmpfiles --create \(etc)/tmpfiles.d/dreamcache.conf
            id -u dreamcache; id -g dreamcache
            """
        let made = try Workplace.run("/usr/bin/unshare", ["-m", "/bin/bash", "-c", script])
        let numbers = made.output.split(separator: "\n").compactMap { Int($0) }
        guard made.status == 0, numbers.count == 2 else { throw Failure(message: made.errors + made.output) }
        (user, group) = (numbers[0], numbers[1])
        let config = place.path("config.yaml")
        let text = try String(contentsOfFile: config, encoding: .utf8)
        _ = try place.write("config.yaml", text.replacing(place.path("spool") + "\n", with: path + "\n"))
        chmod(place.folder.path, 0o755)
    }

    /// The spool's root.
    var path: String { place.path("installed/lib/dreamcache/spool") }

    /// Starts the daemon as its unit does: its own user, its umask, no rights beyond.
    func startDaemon() throws -> Daemon {
        let daemon = try Daemon(
            configuration: place.path("config.yaml"), log: place.path("daemon.log"), environment: [:],
            prefix: [
                "/usr/bin/setpriv", "--reuid=\(user)", "--regid=\(group)", "--clear-groups", "--bounding-set=-all",
                "--inh-caps=-all", "--no-new-privs", "/bin/sh", "-c", #"umask 0027; exec "$0" "$@""#,
            ])
        try place.eventually("the daemon runs") { try place.dreamcache("status").output.hasPrefix("running") }
        return daemon
    }

    /// Runs a shell's commands as a person with a group of their own, who is of the group dreamcache or not.
    @discardableResult
    func run(as person: Int, umask: String = "022", isMember: Bool = true, _ script: String) throws -> Workplace.Result
    {
        try Workplace.run(
            "/usr/bin/setpriv",
            ["--reuid=\(person)", "--regid=\(person)"] + (isMember ? ["--groups=\(group)"] : ["--clear-groups"])
                + ["/bin/sh", "-c", "umask \(umask); \(script)"])
    }

    /// A folder of a person's own.
    func home(of person: Int) throws -> String {
        let home = place.path("home-\(person)")
        try FileManager.default.createDirectory(atPath: home, withIntermediateDirectories: true)
        guard chown(home, uid_t(person), gid_t(person)) == 0, chmod(home, 0o700) == 0 else {
            throw Failure(message: "\(home): \(String(cString: strerror(errno)))")
        }
        return home
    }

    /// The names in a folder of the spool.
    func names(_ folder: String) throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: path + "/" + folder).sorted()
    }

    func receipt(_ drop: String) -> String {
        (try? String(contentsOfFile: path + "/receipts/\(drop).json", encoding: .utf8)) ?? ""
    }
}
