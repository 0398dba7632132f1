import Foundation
import Glibc
import TensorEngine

/// What libraries read from the environment before `main` begins. Whoever sets a variable is obeyed.
public enum LibraryEnvironment {
    /// How often libgomp's threads look for one another before they sleep. The default, 300,000, is made for a machine of one's own:
    /// where another program has the other core, a thread turns in place for the whole of it. Loading a small model then took
    /// up to ten times as long. With this number it takes no longer on an idle machine either.
    private static let spins = "5000"

    /// Starts the program again, as the same process, where something is to be set. Where that cannot be done the program goes on
    /// as it is.
    public static func settle() {
        var wanted: [(name: String, value: String)] = []
        if getenv("OMP_WAIT_POLICY") == nil { wanted.append(("GOMP_SPINCOUNT", spins)) }
        if let core = OpenBLASCore.better { wanted.append(("OPENBLAS_CORETYPE", core)) }
        wanted.removeAll { getenv($0.name) != nil }
        // By its own path, and not by /proc/self/exe: the process keeps the name by which people look for it.
        guard !wanted.isEmpty,
            let program = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
        else { return }
        for (name, value) in wanted { setenv(name, value, 1) }
        execv(program, CommandLine.unsafeArgv)
    }
}
