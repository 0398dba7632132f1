import Checkpoint
import Diffusion
import DreamCache
import TensorEngine

/// The parameters of an adapter in training, and their gradients: all in one array each, so that whatever treats every
/// parameter alike (the optimiser, clipping, means over time) is one operation.
public final class AdapterParameters {
    /// One tensor of the adapter.
    public struct Entry: Sendable {
        /// The name in an adapter's file.
        public let key: String
        /// The sizes in an adapter's file.
        public let shape: [Int]
        /// The elements in the array.
        public let range: Range<Int>
    }

    /// The tensors of one site, in the order in which they lie.
    enum Part: String, CaseIterable {
        case normWeight = "norm2_mem.weight"
        case normBias = "norm2_mem.bias"
        case toQ = "attn_mem.to_q.weight"
        // Keys and values are one product, so these two follow one another.
        case toK = "attn_mem.to_k.weight"
        case toV = "attn_mem.to_v.weight"
        case toOut = "attn_mem.to_out.0.weight"
        case toOutBias = "attn_mem.to_out.0.bias"
        case cat = "linear_cat.weight"
        case catBias = "linear_cat.bias"

        func shape(channels c: Int) -> [Int] {
            switch self {
            case .normWeight, .normBias, .toOutBias, .catBias: [c]
            case .toQ, .toK, .toV, .toOut: [c, c]
            case .cat: [c, 2 * c]
            }
        }
    }

    /// All tensors, site by site.
    public let entries: [Entry]
    /// The trained sites, in the U-Net's order.
    public let sites: [InjectionSite]
    /// All parameters, float32.
    public let values: Tensor
    /// Their gradients, float32: zero at first, then the sum of what was added.
    public let gradients: Tensor
    private let firstEntry: [InjectionSite: Int]

    /// Takes the parameters from an adapter's tensors.
    ///
    /// - Parameter sites: those that are trained; nil for all of the U-Net's.
    /// - Throws: `DreamCacheError` with all missing, unused and misshapen tensors.
    public init(
        _ store: ParameterStore, for unet: UNet, sites: [InjectionSite]? = nil, engine: Engine
    ) throws(DreamCacheError) {
        let sites = sites ?? unet.sites
        var (entries, firstEntry, stored) = ([Entry](), [InjectionSite: Int](), [StoredTensor]())
        var count = 0
        for site in sites {
            firstEntry[site] = entries.count
            for part in Part.allCases {
                let key = "diffusion_model.\(site.name).transformer_blocks.0.\(part.rawValue)"
                let shape = part.shape(channels: site.channels)
                let size = shape.reduce(1, *)
                entries.append(Entry(key: key, shape: shape, range: count..<count + size))
                stored.append(store.take(key, shape: shape))
                count += size
            }
        }
        do { try store.finish() } catch { throw .diffusion(.checkpoint(error)) }
        (self.sites, self.entries, self.firstEntry) = (sites, entries, firstEntry)
        do {
            (values, gradients) = (try engine.empty([count]), try engine.empty([count]))
        } catch { throw .diffusion(.engine(error)) }
        values.withFloats { all in
            for (entry, tensor) in zip(entries, stored) {
                tensor.copyFloats(into: UnsafeMutableBufferPointer(rebasing: all[entry.range]))
            }
        }
        clearGradients()
    }

    /// Parameters of the same tensors with other values; the gradients are those of `other`.
    init(_ other: AdapterParameters, values: Tensor) {
        (entries, sites, firstEntry) = (other.entries, other.sites, other.firstEntry)
        (self.values, gradients) = (values, other.gradients)
    }

    /// Sets all gradients to zero.
    public func clearGradients() { gradients.withFloats { $0.update(repeating: 0) } }

    /// A part of `values` or of `gradients`, in its memory.
    func part(_ part: Part, of site: InjectionSite, in all: Tensor) throws(EngineError) -> Tensor {
        try parts(part, part, of: site, in: all).reshaped(part.shape(channels: site.channels))
    }

    /// Keys' and values' matrices as one, `[2c, c]`.
    func keysValues(of site: InjectionSite, in all: Tensor) throws(EngineError) -> Tensor {
        try parts(.toK, .toV, of: site, in: all).reshaped([2 * site.channels, site.channels])
    }

    private func parts(
        _ first: Part, _ last: Part, of site: InjectionSite, in all: Tensor
    ) throws(EngineError) -> Tensor {
        guard let start = firstEntry[site], let from = Part.allCases.firstIndex(of: first),
            let to = Part.allCases.firstIndex(of: last)
        else {
            throw .shapes(operation: "parameters of \(site.name)", found: [], expected: "one of the trained sites")
        }
        return try all.slice(entries[start + from].range.lowerBound..<entries[start + to].range.upperBound)
    }
}
