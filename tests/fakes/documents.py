"""Small files of every format, written by hand: the least that is still one."""

import io
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from typing import Final

WORD: Final = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
SLIDES: Final = "http://schemas.openxmlformats.org/presentationml/2006/main"
DRAWING: Final = "http://schemas.openxmlformats.org/drawingml/2006/main"
SHEETS: Final = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
OFFICE: Final = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
LINKS: Final = "http://schemas.openxmlformats.org/package/2006/relationships"

SECTOR: Final = 512
FREE, END, FAT = 0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFFD


def zipped(parts: Mapping[str, str | bytes]) -> bytes:
    """A zip file of these parts."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return file.getvalue()


def docx(body: str, more: Mapping[str, str] | None = None) -> bytes:
    """A Word document of that XML."""
    document = f'<w:document xmlns:w="{WORD}"><w:body>{body}</w:body></w:document>'
    return zipped({"word/document.xml": document, **(more or {})})


def paragraph(text: str, properties: str = "") -> str:
    """One of a Word document."""
    return f"<w:p><w:pPr>{properties}</w:pPr><w:r><w:t>{text}</w:t></w:r></w:p>"


def links(targets: Mapping[str, tuple[str, str]]) -> str:
    """What a part refers to: by id, type and target."""
    found = "".join(
        f'<Relationship Id="{id}" Type="{OFFICE}/{kind}" Target="{target}"/>'
        for id, (kind, target) in targets.items()
    )
    return f'<Relationships xmlns="{LINKS}">{found}</Relationships>'


def slide(shapes: Sequence[tuple[str, str]]) -> str:
    """A slide with text in placeholders of these types."""
    found = "".join(
        f'<p:sp><p:nvSpPr><p:nvPr><p:ph type="{kind}"/></p:nvPr></p:nvSpPr>'
        f"<p:txBody><a:p><a:r><a:t>{text}</a:t></a:r></a:p></p:txBody></p:sp>"
        for kind, text in shapes
    )
    return f'<p:sld xmlns:p="{SLIDES}" xmlns:a="{DRAWING}">{found}</p:sld>'


def pdf(pages: Sequence[str], *, encrypt: str = "") -> bytes:
    """A PDF with a line of text a page; each content is compressed."""
    contents = [f"BT /F1 12 Tf 72 720 Td ({text}) Tj ET".encode() for text in pages]
    return pdf_of(contents, encrypt=encrypt)


def pdf_of(contents: Sequence[bytes], *, encrypt: str = "") -> bytes:
    """A PDF whose pages are drawn by these commands."""
    count = len(contents)
    kids = " ".join(f"{4 + 2 * number} 0 R" for number in range(count))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {count} >>".encode(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for number, content in enumerate(contents):
        packed = zlib.compress(content)
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792]"
            b" /Resources << /Font << /F1 3 0 R >> >> /Contents %d 0 R >>" % (5 + 2 * number)
        )
        objects.append(
            b"<< /Filter /FlateDecode /Length %d >>\nstream\n%b\nendstream" % (len(packed), packed)
        )
    written = b"%PDF-1.4\n"
    places = []
    for number, content in enumerate(objects, 1):
        places.append(len(written))
        written += b"%d 0 obj\n%b\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    size = len(objects) + 1
    written_table = b"xref\n0 %d\n0000000000 65535 f \n%b" % (size, table)
    trailer = b"trailer << /Size %d /Root 1 0 R %b >>\n" % (size, encrypt.encode())
    return written + written_table + trailer + b"startxref\n%d\n%%%%EOF" % len(written)


def doc(pieces: Sequence[tuple[str, bool]], counts: Sequence[int], *, flags: int = 0) -> bytes:
    """A Word 97 document; a piece is narrow (cp1252) or not. `counts`: ccpText and so on."""
    base = struct.pack("<HH6xH20x", 0xA5EC, 0x00C1, 0x0200 | flags)
    numbers = [0, 0, 0, *counts] + [0] * (19 - len(counts))
    # csw, FibRgW97, cslw, FibRgLw97, cbRgFcLcb, FibRgFcLcb97
    fib = base + struct.pack("<H28x", 14) + struct.pack("<H22i", 22, *numbers)
    main_place = len(fib) + 2 + 93 * 8
    text, descriptors, ends = b"", b"", [0]
    for piece, is_narrow in pieces:
        place = main_place + len(text)
        text += piece.encode("cp1252" if is_narrow else "utf-16-le")
        where = (place * 2) | (1 << 30) if is_narrow else place
        descriptors += struct.pack("<HIH", 0, where, 0)
        ends.append(ends[-1] + len(piece))
    table = struct.pack(f"<{len(ends)}I", *ends) + descriptors
    clx = struct.pack("<BHxx", 1, 2) + struct.pack("<BI", 2, len(table)) + table
    pairs = [0] * 186
    pairs[2 * 33 : 2 * 33 + 2] = [0, len(clx)]
    main = fib + struct.pack("<H186I", 93, *pairs) + text
    return compound({"WordDocument": main, "1Table": clx})


def compound(streams: Mapping[str, bytes]) -> bytes:
    """A compound file of two streams, by the names WordDocument and 1Table."""
    sectors: list[bytes] = []
    fat = [FAT, END]  # the table itself, then the directory
    starts, sizes = {}, {}
    for name, content in streams.items():
        count = max(8, -(-len(content) // SECTOR))  # smaller ones lie elsewhere
        padded = content.ljust(count * SECTOR, b"\0")
        starts[name], sizes[name] = len(fat), len(padded)
        fat += [*range(len(fat) + 1, len(fat) + count), END]
        sectors += [padded[i * SECTOR : (i + 1) * SECTOR] for i in range(count)]

    def entry(name: str, kind: int, left: int, child: int) -> bytes:
        encoded = name.encode("utf-16-le") + b"\0\0" if name else b""
        start, size = starts.get(name, END), sizes.get(name, 0)
        head = encoded.ljust(64, b"\0") + struct.pack("<HBB", len(encoded), kind, 1)
        return head + struct.pack("<III36xIQ", left, FREE, child, start, size)

    directory = entry("Root Entry", 5, FREE, 1) + entry("WordDocument", 2, 2, FREE)
    directory += entry("1Table", 2, FREE, FREE) + entry("", 0, FREE, FREE)
    header = bytes.fromhex("D0CF11E0A1B11AE1").ljust(24, b"\0")
    header += struct.pack(
        "<HHHHH6xIIIIIIIII", 0x3E, 3, 0xFFFE, 9, 6, 0, 1, 1, 0, 4096, END, 0, END, 0
    )
    header += struct.pack("<109I", 0, *[FREE] * 108)
    table = struct.pack("<128I", *fat, *[FREE] * (128 - len(fat)))
    return header + table + directory + b"".join(sectors)
