import Diffusion

/// The value of a parameter, as files have it.
enum SettingValue: Sendable, Equatable {
    case integer(Int)
    case number(Double)
    case text(String)

    var text: String {
        switch self {
        case .integer(let value): "\(value)"
        case .number(let value): "\(value)"
        case .text(let value): value
        }
    }

    /// As JSON has it, which is YAML too.
    var scalar: String {
        switch self {
        case .integer, .number: text
        case .text(let value): quoted(value)
        }
    }
}

/// What values a parameter takes.
public enum SettingRange: Sendable, Equatable {
    /// Whole numbers.
    case integer(ClosedRange<Int>)
    /// Numbers.
    case number(ClosedRange<Double>)
    /// Any text that is not empty, of this meaning.
    case text(String)
    /// One of these texts.
    case choice([String])

    /// In words.
    var expected: String {
        switch self {
        case .integer(let range) where range.upperBound == .max: "a whole number of at least \(range.lowerBound)"
        case .integer(let range): "a whole number from \(range.lowerBound) to \(range.upperBound)"
        case .number(let range): "a number from \(range.lowerBound) to \(range.upperBound)"
        case .text(let meaning): meaning
        case .choice(let values): "one of \(values.joined(separator: ", "))"
        }
    }

    /// In the terms of JSON Schema.
    var schemaType: String {
        switch self {
        case .integer(let range):
            "\"type\": \"integer\", \"minimum\": \(range.lowerBound)"
                + (range.upperBound == .max ? "" : ", \"maximum\": \(range.upperBound)")
        case .number(let range):
            "\"type\": \"number\", \"minimum\": \(range.lowerBound), \"maximum\": \(range.upperBound)"
        case .text: "\"type\": \"string\", \"minLength\": 1"
        case .choice(let values): "\"enum\": [\(values.map(quoted).joined(separator: ", "))]"
        }
    }
}

/// A parameter as other forms of a run's settings need it, such as the manifest of a training in a spool.
public struct SettingDescription: Sendable {
    /// Its name, and what it means in a sentence.
    public let name: String, meaning: String
    /// What values it takes.
    public let range: SettingRange
    /// Its default, as files have it.
    public let initial: String
}

/// A parameter of a run: its name in files, what values it takes, and what it means.
public struct SettingField<Value: Sendable>: AnySettingField {
    let name: String
    let meaning: String
    let decides: Bool
    let range: SettingRange
    let initialValue: Value
    /// Nil of a text that is no value of it.
    let read: @Sendable (String) -> SettingValue?
    /// To the program's own type and back; a value of another field's is none.
    let value: @Sendable (SettingValue) -> Value?
    let stored: @Sendable (Value) -> SettingValue

    var initial: SettingValue { stored(initialValue) }
}

/// A field of whatever type.
protocol AnySettingField: Sendable {
    var name: String { get }
    var meaning: String { get }
    /// Whether the adapter of a run depends on it.
    var decides: Bool { get }
    /// What values are taken.
    var range: SettingRange { get }
    /// The default.
    var initial: SettingValue { get }
    var read: @Sendable (String) -> SettingValue? { get }
}

extension SettingField {
    static func integer(
        _ name: String, _ initial: Int, _ range: ClosedRange<Int>, _ meaning: String, decides: Bool = true
    ) -> SettingField where Value == Int {
        SettingField(
            name: name, meaning: meaning, decides: decides, range: .integer(range), initialValue: initial,
            read: { Int($0).flatMap { range.contains($0) ? .integer($0) : nil } },
            value: { if case .integer(let value) = $0 { value } else { nil } }, stored: { .integer($0) })
    }

    static func number(
        _ name: String, _ initial: Double, _ range: ClosedRange<Double>, _ meaning: String, decides: Bool = true
    ) -> SettingField where Value == Double {
        SettingField(
            name: name, meaning: meaning, decides: decides, range: .number(range), initialValue: initial,
            read: { Double($0).flatMap { range.contains($0) ? .number($0) : nil } },
            value: { if case .number(let value) = $0 { value } else { nil } }, stored: { .number($0) })
    }

    static func share(_ name: String, _ initial: Double, _ meaning: String) -> SettingField where Value == Double {
        number(name, initial, 0...1, meaning)
    }

    static func text(
        _ name: String, _ initial: String, expected: String, _ meaning: String
    ) -> SettingField where Value == String {
        SettingField(
            name: name, meaning: meaning, decides: true, range: .text(expected), initialValue: initial,
            read: { $0.isEmpty ? nil : .text($0) }, value: { $0.text }, stored: { .text($0) })
    }

    static func choice(
        _ name: String, _ initial: Value, _ meaning: String, decides: Bool = true
    ) -> SettingField where Value: RawRepresentable & CaseIterable, Value.RawValue == String {
        let values = Value.allCases.map(\.rawValue)
        return SettingField(
            name: name, meaning: meaning, decides: decides, range: .choice(values), initialValue: initial,
            read: { values.contains($0) ? .text($0) : nil }, value: { Value(rawValue: $0.text) },
            stored: { .text($0.rawValue) })
    }
}
