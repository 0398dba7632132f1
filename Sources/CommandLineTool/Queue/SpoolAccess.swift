import Foundation
import Application
import Spool

extension ConfigurationOptions {
    /// The spool of the configuration, and the configuration.
    func client() throws -> (SpoolClient, Settings) {
        let settings = try settings()
        let client = try onSpool { () throws(SpoolError) in try SpoolClient(root: settings.spool.root) }
        return (client, settings)
    }

    /// Asks the daemon for something about a job, and prints the name under which the answer will be found.
    func request(
        _ job: String, _ ask: (SpoolClient, JobID) throws(SpoolError) -> String
    ) throws {
        try Terminal.run {
            let (client, _) = try client()
            let id = try client.job(named: job)
            Terminal.result(try onSpool { () throws(SpoolError) in try ask(client, id) })
        }
    }
}

/// Runs work on the spool; its errors become the program's.
func onSpool<R>(_ work: () throws(SpoolError) -> R) throws -> R {
    do { return try work() } catch {
        throw Failure(code: Failure.Code(rawValue: error.exitCode) ?? .failed, message: "\(error)".printable)
    }
}

extension SpoolClient {
    /// A job by its id or by the name it was dropped under.
    func job(named name: String) throws -> JobID {
        if let id = JobID(name), try onSpool({ () throws(SpoolError) in try summary(id) }) != nil { return id }
        let found = try onSpool { () throws(SpoolError) in try standing(of: name) }
        switch found {
        case .working(let summary): return summary.id
        case .ended(.done(let id, _)), .ended(.failed(let id, _)), .ended(.quarantined(let id, _)): return id
        case .unknown: throw Failure(code: .unknownJob, message: "\(name.printable): not known")
        case .dropped, .waiting, .ended: throw Failure(code: .unknownJob, message: "\(name.printable): no job (yet)")
        }
    }
}
