import Foundation
import Testing

@testable import Pages

/// Texts that would be markup, or change what is around them, if they were not escaped.
let hostileTexts = [
    "<script>alert(1)</script>", "\"><img src=x onerror=alert(1)>", "' onmouseover='alert(1)", "</style><b>",
    "{{policy}}",
    "{{{style}}}", "{{#content}}x{{/content}}", "&lt;b&gt;", "</details><script src=//elsewhere>", "--><!--",
    // One character to Swift, two scalars to a browser.
    "\"\u{301} onerror=alert(1) x=\"", "<\u{301}script>", "'\u{200D}x", "\"\u{FE0F} autofocus onfocus=alert(1)",
    "javascript:alert(1)", "\u{202E}gnp.exe", "\u{2066}a\u{2069}", "a\u{0}b\u{1B}[31m\u{7F}\u{85}", "\u{FFFE}",
    "a\r\nb",
]

@Suite struct PageTextTests {
    @Test func markupIsEscapedScalarByScalar() {
        for text in hostileTexts {
            let escaped = PageText.escaped(text).unicodeScalars
            for harmful: Unicode.Scalar in ["<", ">", "\"", "'", "\u{202E}", "\u{2066}", "\u{0}", "\u{1B}", "\u{FFFE}"]
            {
                #expect(!escaped.contains(harmful), "\(text) gives \(escaped)")
            }
        }
        #expect(PageText.escaped("\"\u{301}") == "&quot;\u{301}")
        #expect(PageText.escaped("a & b\n\tc\u{1B}") == "a &amp; b\n\tc\u{241B}")
        #expect(PageText.escaped("Ω Ж é 猫 👩‍🚀 שלום") == "Ω Ж é 猫 👩‍🚀 שלום")
        #expect(PageText.escaped("\u{202E}x") == "\u{27E8}U+202E\u{27E9}x")
    }

    @Test func addressesStayInTheirFolder() {
        #expect(PageText.address(["out", "a b", "0000.png"]) == "out/a%20b/0000.png")
        #expect(PageText.address(["javascript:x"]) == "javascript%3Ax")
        #expect(PageText.address(["a/../b?c#d\"é"]) == "a%2F..%2Fb%3Fc%23d%22%C3%A9")
    }
}

@Suite struct PageTests {
    /// Two pixels by two.
    static let picture =
        Data(
            base64Encoded:
                "iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAIAAAD91JpzAAAAFUlEQVR42mM4IScnd0KOAUjcuSMHAB7gBOMmYo2MAAAAAElFTkSuQmCC"
        )
        ?? Data()

    func set(_ text: String) -> SetPage {
        var page = SetPage(title: text, manifest: "{\"prompt\": \"\(text)\"}")
        page.facts = [PageFact(text, text)]
        page.notes = [text]
        page.isInSpool = true
        page.pictures = [
            SetPage.Picture(
                file: "0000.png", prompt: text, size: (64, 32), facts: [PageFact("seed", "7")],
                overlays: [SetPage.Overlay(file: "0000.attention.png", caption: text)])
        ]
        page.references = [
            SetPage.Reference(
                subject: text, name: text, picture: EmbeddedPicture([1, 2, 3], type: "image/jpeg"), cutOut: nil),
            SetPage.Reference(subject: text, name: text, picture: nil, cutOut: nil),
        ]
        page.sheet = "grid.png"
        return page
    }

    func spool(_ text: String) -> SpoolPage {
        var page = SpoolPage(state: "working")
        page.message = text
        page.work = SpoolPage.Work(
            job: text, subjects: text, prompt: text, words: text, share: 0.25,
            preview: EmbeddedPicture([UInt8](Self.picture), type: "image/png"))
        page.waiting = [SpoolPage.Waiting(name: text, subjects: text, pictures: 3, reason: text)]
        page.waitingCount = 4
        page.finished = [
            SpoolPage.FinishedSet(
                job: "j", subjects: text, prompt: text, images: 2, time: text, picture: "0000.png", hasPage: true),
            SpoolPage.FinishedSet(
                job: "k", subjects: text, prompt: text, images: 1, time: text, picture: nil, hasPage: false),
        ]
        page.finishedCount = 60
        page.archive = 2
        page.refused = [SpoolPage.Refusal(name: text, reason: text, faults: [text], advice: text)]
        page.failed = page.refused
        return page
    }

    private func pages(_ text: String) throws -> [String] {
        [
            try set(text).html(), try spool(text).html(time: text, seconds: 1),
            try ArchivePage(spool(text).finished, number: 2, hasNewer: true).html(),
        ]
    }

    /// Tags and attributes do not depend on the text, whatever it is.
    @Test func whatUsersWriteIsNoMarkup() throws {
        func skeleton(_ html: String) -> [String] {
            var inside = false
            var tags: [String] = []
            var tag = ""
            var quote = false
            for scalar in html.unicodeScalars {
                if inside {
                    if scalar == "\"" { quote.toggle() }
                    if scalar == ">", !quote {
                        inside = false
                        tags.append(tag)
                    } else if !quote || scalar == "\"" {
                        tag.unicodeScalars.append(scalar)
                    }
                } else if scalar == "<" {
                    (inside, tag) = (true, "")
                }
            }
            return tags
        }
        let plain = try pages("plain").map(skeleton)
        #expect(plain.allSatisfy { $0.count > 20 })
        for text in hostileTexts { #expect(try pages(text).map(skeleton) == plain, "\(text)") }
    }

    @Test func aSetShowsWhatItHas() throws {
        let html = try set("a lantern").html()
        for part in [
            "<img src=\"0000.png\" alt=\"a lantern\" loading=\"lazy\" width=\"64\" height=\"32\">",
            "<dt>seed</dt><dd><bdi>7</bdi></dd>", "0000.attention.png", "data:image/jpeg;base64,AQID",
            "it cannot be shown", "href=\"grid.png\"", "href=\"../../index.html\"",
            "{&quot;prompt&quot;: &quot;a lantern&quot;}", "<p class=\"quiet\">1 picture</p>",
        ] {
            #expect(html.contains(part), "\(part)")
        }
        #expect(html == (try set("a lantern").html()))
        let bare = try SetPage(title: "x", manifest: "{}").html()
        for part in ["References", "contact sheet", "All sets", "class=\"note\"", "<script", "http-equiv=\"refresh\""] {
            #expect(!bare.contains(part), "\(part)")
        }
    }

    @Test func aLargeSetIsCutShort() throws {
        var page = SetPage(title: "x", manifest: "{}")
        page.pictures = (0..<1003).map { SetPage.Picture(file: "\($0).png", prompt: "p", size: nil, facts: []) }
        let html = try page.html()
        #expect(html.contains("3 more pictures are in this folder") && !html.contains("1000.png"))
    }

    @Test func aSpoolShowsWhatItHas() throws {
        let html = try spool("lantern").html(time: "noon", seconds: 5)
        for part in [
            "<progress value=\"250\" max=\"1000\">", "data:image/png;base64,iVBOR", "and 3 more", "out/j/index.html",
            "src=\"out/j/0000.png\"", "taken away", "href=\"pages/0002.html\">All 60 sets", "2 pictures, lantern",
            "<noscript><meta http-equiv=\"refresh\"",
        ] {
            #expect(html.contains(part), "\(part)")
        }
        let bare = try SpoolPage(state: "idle").html(time: "noon", seconds: 5)
        #expect(bare.contains("None yet."))
        for part in ["At work", "Waiting", "Refused", "Failed", "All 0 sets"] {
            #expect(!bare.contains(part), "\(part)")
        }
    }

    @Test func anArchivePageKnowsItsNeighbours() throws {
        let middle = try ArchivePage(spool("x").finished, number: 2, hasNewer: true).html()
        #expect(middle.contains("href=\"0003.html\"") && middle.contains("href=\"0001.html\""))
        #expect(middle.contains("src=\"../out/j/0000.png\"") && middle.contains("href=\"../out/j/index.html\""))
        let only = try ArchivePage([], number: 1, hasNewer: false).html()
        #expect(!only.contains("Older") && !only.contains("Newer"))
    }
}
