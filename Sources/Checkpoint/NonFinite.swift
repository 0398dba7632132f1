/// What messages call a number that is not finite.
package func nameOfNonFinite(_ value: Float) -> String {
    if value.isNaN { return "NaN" }
    return value < 0 ? "-infinity" : "infinity"
}
