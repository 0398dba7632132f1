import Glibc

/// Lines for a terminal that is narrower than they are.
public enum TerminalLine {
    /// Columns of the terminal that standard output is; nil where it is none, or does not say.
    public static func columns() -> Int? {
        var size = winsize()
        guard ioctl(STDOUT_FILENO, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0 else { return nil }
        return Int(size.ws_col)
    }

    /// A line as several, broken at spaces so that each fits; the later ones begin with two spaces. A word that is wider than the
    /// terminal stays whole.
    public static func wrapped(_ line: String, columns: Int) -> [String] {
        guard line.count > columns else { return [line] }
        var lines: [String] = []
        var current = ""
        for word in line.split(separator: " ", omittingEmptySubsequences: false) {
            if !current.isEmpty, current.count + 1 + word.count > columns {
                lines.append(current)
                current = "  " + word
            } else {
                current += (current.isEmpty ? "" : " ") + word
            }
        }
        return lines + [current]
    }
}
