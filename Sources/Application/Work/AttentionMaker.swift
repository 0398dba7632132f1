import Checkpoint
import DreamCache
import Foundation
import Glibc
import Raster
import Spool
import TensorEngine

/// Writes what a picture read of its references beside it. Belongs to the renderer's thread.
struct AttentionMaker {
    /// Finds the subjects of pictures; loaded when it is first needed.
    private var finder: (path: ComputePath, maker: CutOutMaker)?
    /// References as the last pictures read them: the pictures of a set read the same ones.
    private var seen: [(key: Key, picture: Raster, mask: Plane??)] = []
    private static let remembered = 16

    private struct Key: Equatable {
        let path: String, state: FileIdentity?, side: Int, fit: Raster.Fit
    }

    /// A picture that read references.
    struct Picture {
        /// What it read, or why that is not known.
        let reading: Result<AttentionReading, DreamCacheError>?
        let raster: Raster
        /// Side of the square in which the model saw the references, and how they were made square.
        let side: Int, fit: Raster.Fit
        let compute: ComputePath
    }

    /// Writes overlay and maps. That never costs the picture: where something cannot be made the report says why, and nothing is
    /// left of it.
    ///
    /// - Parameter decode: reads a reference, with its mask.
    /// - Throws: `RendererError.stopped` alone.
    mutating func report(
        on picture: Picture, _ request: AttentionRequest, shouldStop: () -> Bool,
        decode: (String) throws(RendererError) -> Raster
    ) throws(RendererError) -> AttentionReport {
        do throws(RendererError) {
            return try made(picture, request, shouldStop, decode)
        } catch {
            unlink(request.overlay)
            unlink(request.maps)
            if case .stopped = error { throw error }
            return AttentionReport(error: error.description)
        }
    }

    private mutating func made(
        _ picture: Picture, _ request: AttentionRequest, _ shouldStop: () -> Bool,
        _ decode: (String) throws(RendererError) -> Raster
    ) throws(RendererError) -> AttentionReport {
        if finder?.path != picture.compute {
            finder = (picture.compute, CutOutMaker(path: picture.compute))
            seen = []
        }
        var reading: AttentionReading
        switch picture.reading {
        case .success(let known): reading = known
        case .failure(let error): throw RendererError(error)
        case nil: throw .transient(message: "nothing was recorded")
        }
        var references: [Int: Raster] = [:]
        for (number, reference) in request.references.enumerated() {
            if shouldStop() { throw .stopped }
            let isKnown = reading.isForegroundKnown(of: number)
            if isKnown, references.count >= AttentionOverlay.shown { continue }
            // Of a photo that was kept whole the cache does not say where its subject is.
            guard let (raster, mask) = try look(at: reference, picture, findsSubject: !isKnown, shouldStop, decode)
            else { continue }
            if let mask { reading.setForeground(of: number, by: mask) }
            if references.count < AttentionOverlay.shown { references[number] = raster }
        }
        let drawn = AttentionOverlay(reading, references: references).picture(picture.raster)
        do {
            if let drawn { try JobRunner.write(drawn.encodedPNG(), to: request.overlay) }
            try reading.writer().write(toPath: request.maps)
        } catch { throw RendererError(error) }
        return Self.report(reading, picture: try mask(of: picture.raster, shouldStop))
    }

    private func mask(of raster: Raster, _ shouldStop: () -> Bool) throws(RendererError) -> Plane? {
        do { return try finder?.maker.subjectMask(of: raster, shouldStop: shouldStop) } catch {
            throw RendererError(error)
        }
    }

    /// A reference as the model saw it, and where it shows its subject if that is asked for; nil where it cannot be read any more.
    private mutating func look(
        at reference: GridRequest.Reference, _ picture: Picture, findsSubject: Bool, _ shouldStop: () -> Bool,
        _ decode: (String) throws(RendererError) -> Raster
    ) throws(RendererError) -> (picture: Raster, mask: Plane?)? {
        let cutOut = reference.existingCutOut
        let path = cutOut ?? reference.path
        let key = Key(path: path, state: FileIdentity(path: path), side: picture.side, fit: picture.fit)
        do throws(RendererError) {
            if !seen.contains(where: { $0.key == key }) {
                if seen.count >= Self.remembered { seen.removeFirst() }
                let raster: Raster
                if cutOut == nil {
                    raster = try decode(path)
                } else {
                    do { raster = try Raster.decode(path: path) } catch { throw RendererError(error) }
                }
                seen.append((key, raster.fitted(toSquare: picture.side, mode: picture.fit), nil))
            }
            guard let index = seen.firstIndex(where: { $0.key == key }) else { return nil }
            if findsSubject, seen[index].mask == nil {
                seen[index].mask = .some(try mask(of: seen[index].picture, shouldStop))
            }
            return (seen[index].picture, findsSubject ? seen[index].mask ?? nil : nil)
        } catch {
            if case .stopped = error { throw error }
            return nil
        }
    }

    private static func report(_ reading: AttentionReading, picture: Plane?) -> AttentionReport {
        let sites = reading.sites.compactMap { site in
            reading.numbers(site, picture: picture).map { AttentionReport.Site(name: site.name, numbers: $0.byName) }
        }
        var mean: [String: Double] = [:]
        for name in Set(sites.flatMap(\.numbers.keys)) {
            let values = sites.compactMap { $0.numbers[name] }
            mean[name] = values.reduce(0, +) / Double(values.count)
        }
        return AttentionReport(steps: reading.steps, mean: mean, sites: sites)
    }
}

extension AttentionReading.Numbers {
    /// As `result.json` has them, to four digits.
    fileprivate var byName: [String: Double] {
        let known: [String: Double?] = [
            "localisation": localisation, "leak": leak, "coverage": coverage, "area": area, "background": background,
            "background_area": backgroundArea,
        ]
        return known.compactMapValues { $0.flatMap { $0.isFinite ? ($0 * 1e4).rounded() / 1e4 : nil } }
    }
}
