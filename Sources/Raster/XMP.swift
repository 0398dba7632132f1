/// XMP packets (ISO 16684-1).
public enum XMP {
    /// IPTC's term for media made by a trained model: http://cv.iptc.org/newscodes/digitalsourcetype/.
    public static let trainedAlgorithmicMedia =
        "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"

    /// A packet that says the image was made by a trained model, and by which program.
    /// - Parameter creatorTool: name and version of the program, such as "DreamCache 1.0".
    public static func generatedImage(creatorTool: String) -> String {
        """
        <?xpacket begin="\u{feff}" id="W5M0MpCehiHzreSzNTczkc9d"?>
        <x:xmpmeta xmlns:x="adobe:ns:meta/">
         <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
          <rdf:Description rdf:about=""
            xmlns:xmp="http://ns.adobe.com/xap/1.0/"
            xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
            xmp:CreatorTool="\(escaped(creatorTool))"
            Iptc4xmpExt:DigitalSourceType="\(trainedAlgorithmicMedia)"/>
         </rdf:RDF>
        </x:xmpmeta>
        <?xpacket end="w"?>
        """
    }

    /// Text for an attribute in double quotes; characters that XML 1.0 excludes are left out.
    private static func escaped(_ text: String) -> String {
        var result = ""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "&": result += "&amp;"
            case "<": result += "&lt;"
            case ">": result += "&gt;"
            case "\"": result += "&quot;"
            case "\t", "\n", "\r": result += "&#\(scalar.value);"
            case _ where scalar.value < 0x20 || scalar.value == 0xfffe || scalar.value == 0xffff: continue
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result
    }
}
