"""Writes Sources/Raster/Fixed6x13Glyphs.swift of X11's font misc-fixed 6x13 (public domain), as Debian's xfonts-base has it:

    zcat /usr/share/fonts/X11/misc/6x13.pcf.gz > 6x13.pcf && pcf2bdf 6x13.pcf | python3 Tools/font/glyphs.py
"""

import sys

# Latin, Greek and Cyrillic with all their letters, then signs that prompts have: dashes, quotes, currencies, arrows.
RANGES = [(0x20, 0x7E), (0xA0, 0x24F), (0x370, 0x52F), (0x1E00, 0x1FFF), (0x2010, 0x2027), (0x2030, 0x205E),
          (0x2070, 0x209C), (0x20A0, 0x20BF), (0x2100, 0x214F), (0x2150, 0x215E), (0x2190, 0x2195)]
WIDTH, ASCENT, DESCENT = 6, 11, 2

HEAD = '''/// The glyphs of ``Fixed6x13``, made by `Tools/font/glyphs.py` of the font's own file: a line each, its code point and the 13
/// rows of 6 pixels, the leftmost in the highest bit.
enum Fixed6x13Glyphs {
    static let hexadecimal = """
'''


def glyphs(lines):
    code = box = None
    for line in lines:
        words = line.split()
        if not words:
            continue
        if words[0] == "ENCODING":
            code = int(words[1])
        elif words[0] == "BBX":
            box = [int(word) for word in words[1:]]
        elif words[0] == "BITMAP":
            width, height, left, bottom = box
            rows = [0] * (ASCENT + DESCENT)
            for number in range(height):
                bits = next(lines).strip()
                row = int(bits, 16) << 8 >> (4 * len(bits) - 8) + 8 if len(bits) > 2 else int(bits, 16)
                rows[ASCENT - bottom - height + number] = row >> left & 0xFF
            yield code, bytes(rows)


def main():
    found = dict(glyphs(iter(sys.stdin)))
    with open("Sources/Raster/Fixed6x13Glyphs.swift", "w") as file:
        file.write(HEAD)
        for first, last in RANGES:
            for code in range(first, last + 1):
                if code in found:
                    file.write(f"        {code:04x} {found[code].hex()}\n")
        file.write('        """\n}\n')


if __name__ == "__main__":
    main()
