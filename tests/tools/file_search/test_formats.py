"""What is read out of a file of each format, and which files are refused."""

import codecs
import re
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Final

import pytest
from pypdf import PdfWriter

from rethread.tools.file_search.documents import SUPPORTED, Document, Unreadable, read
from tests.fakes import documents
from tests.fakes.documents import docx, links, paragraph, pdf, slide, zipped

CONTRACT: Final = {
    *(".c", ".cpp", ".cs", ".css", ".doc", ".docx", ".go", ".html", ".java", ".js", ".json"),
    *(".md", ".pdf", ".php", ".pptx", ".py", ".rb", ".sh", ".tex", ".ts", ".txt"),
}
ROOT: Final = Path(__file__).parents[3]
BINARY: Final = {".doc", ".docx", ".epub", ".eml", ".odt", ".pdf", ".pptx", ".xlsx"}
NOT_READ: Final = {".png", ".exe", ".zip", ".mp3"}

Read = Callable[[str, bytes | str], Document]


@pytest.fixture
def reading(tmp_path: Path) -> Read:
    def of(filename: str, content: bytes | str) -> Document:
        path = tmp_path / "file-0123"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return read(path, filename)

    return of


def test_all_formats_of_the_contract_are_supported() -> None:
    assert CONTRACT | {".csv", ".xlsx", ".odt", ".epub", ".eml", ".rst"} <= SUPPORTED
    assert not SUPPORTED & NOT_READ


def test_every_format_stands_in_the_docs() -> None:
    table, _, _ = (ROOT / "docs" / "file-formats.md").read_text("utf-8").partition("\n## ")
    assert set(re.findall(r"`(\.\w+)`", table)) == SUPPORTED


@pytest.mark.parametrize("extension", ["", *sorted(SUPPORTED - BINARY)])
def test_text_is_read_in_three_encodings_whatever_is_written_in_it(
    extension: str, reading: Read
) -> None:
    text = "Subject: Grüße\n\nname,city\r\nJürgen,Köln\r\n"
    for content in (
        text.encode(),
        codecs.BOM_UTF8 + text.encode(),
        text.encode("utf-16"),
        codecs.BOM_UTF16_BE + text.encode("utf-16-be"),
    ):
        read = reading(f"a{extension}", content).text
        assert "Grüße" in read
        assert "Jürgen" in read
        assert "\r" not in read


@pytest.mark.parametrize("filename", ["a.png", "a.exe", "a.tar.gz", "a.PNG"])
def test_what_no_reader_is_there_for_is_unsupported(filename: str, reading: Read) -> None:
    with pytest.raises(Unreadable, match=r"Files with extensions \[\.\w+\] are not") as refused:
        reading(filename, "text")
    assert refused.value.code == "unsupported_file"


def test_a_pdf_has_pages(reading: Read) -> None:
    document = reading("Report.PDF", pdf(["First page", "Second page", "Third page"]))
    first, second, third = document.pages
    assert document.text[first:second].strip() == "First page"
    assert document.text[second:third].strip() == "Second page"
    assert document.text[third:].strip() == "Third page"


def test_a_pdf_loses_no_more_than_its_damaged_page(reading: Read) -> None:
    whole = pdf(["First page", "Second page"])
    damaged = whole.replace(b"/Contents 5 0 R", b"/Contents 1 0 R")
    assert reading("a.pdf", damaged).text.strip() == "Second page"


def test_a_pdf_with_a_password_is_refused_and_one_without_is_read(
    tmp_path: Path, reading: Read
) -> None:
    writer = PdfWriter(clone_from=BytesIO(pdf(["A secret"])))
    writer.encrypt(user_password="", owner_password="x", algorithm="RC4-128")
    writer.write(tmp_path / "open.pdf")
    assert reading("a.pdf", (tmp_path / "open.pdf").read_bytes()).text.strip() == "A secret"
    writer.encrypt(user_password="y", owner_password="x", algorithm="RC4-128")
    writer.write(tmp_path / "closed.pdf")
    with pytest.raises(Unreadable, match="password"):
        reading("a.pdf", (tmp_path / "closed.pdf").read_bytes())


def test_word_has_headings_lists_tables_and_notes(reading: Read) -> None:
    body = (
        paragraph("Der Titel", '<w:pStyle w:val="berschrift1"/>')
        + paragraph("One &amp; two")
        + paragraph("Point", "<w:numPr/>")
        + paragraph("Other", '<w:pStyle w:val="Listen"/>')
        + "<w:tbl><w:tr>"
        + f"<w:tc>{paragraph('Name')}</w:tc><w:tc>{paragraph('Ci')}{paragraph('ty')}</w:tc>"
        + "</w:tr></w:tbl>"
        + "<w:p><w:del><w:r><w:delText>gone</w:delText></w:r></w:del>"
        + "<w:moveFrom><w:r><w:t>moved</w:t></w:r></w:moveFrom>"
        + "<w:r><w:lastRenderedPageBreak/><w:t>a</w:t><w:tab/><w:t>b</w:t></w:r></w:p>"
    )
    styles = '<w:style w:styleId="berschrift1"><w:name w:val="heading 1"/></w:style>'
    styles += '<w:style w:styleId="Listen"><w:pPr><w:numPr/></w:pPr></w:style>'
    space = f'xmlns:w="{documents.WORD}"'
    content = docx(
        body,
        {
            "word/styles.xml": f"<w:styles {space}>{styles}</w:styles>",
            "word/footnotes.xml": f"<w:footnotes {space}>{paragraph('A note')}</w:footnotes>",
        },
    )
    document = reading("a.docx", content)
    assert document.text == (
        "# Der Titel\n\nOne & two\n\n- Point\n- Other\n\n| Name | Ci ty |\n\na\tb\n\nA note"
    )
    assert len(document.pages) == 2


def test_old_word_puts_its_pieces_together(reading: Read) -> None:
    main = [
        ("Caf\u00e9 \u2013 first\r", True),
        ('\u03b1\u03b2\u03b3 \u0013 HYPERLINK "x" \u0014link\u0015 end\r', False),
        ("a\x07b\x07\x07", True),
    ]
    footnote, header, endnote = (
        ("A footnote\r", True),
        ("On every page\r", True),
        ("An endnote\r", False),
    )
    counts = [sum(len(text) for text, _ in main), len(footnote[0]), len(header[0]), 0, 0]
    content = documents.doc([*main, footnote, header, endnote], [*counts, len(endnote[0])])
    assert reading("a.doc", content).text == (
        "Caf\u00e9 \u2013 first\n\n\u03b1\u03b2\u03b3 link end\n\na | b\n\nA footnote\n\nAn endnote"
    )


def test_slides_come_in_the_order_in_which_they_are_shown(reading: Read) -> None:
    space = f'xmlns:p="{documents.SLIDES}" xmlns:r="{documents.OFFICE}"'
    order = '<p:sldId id="256" r:id="rId8"/><p:sldId id="257" r:id="rId7"/>'
    content = zipped(
        {
            "ppt/presentation.xml": f"<p:presentation {space}>{order}</p:presentation>",
            "ppt/_rels/presentation.xml.rels": links(
                {
                    "rId7": ("slide", "slides/slide1.xml"),
                    "rId8": ("slide", "/ppt/slides/slide2.xml"),
                }
            ),
            "ppt/slides/slide1.xml": slide([("title", "Later"), ("body", "What then")]),
            "ppt/slides/slide2.xml": slide([("ctrTitle", "Sooner"), ("sldNum", "1")]),
            "ppt/slides/_rels/slide1.xml.rels": links(
                {"rId1": ("notesSlide", "../notesSlides/notesSlide1.xml")}
            ),
            "ppt/notesSlides/notesSlide1.xml": slide([("body", "To be said")]),
        }
    )
    document = reading("a.pptx", content)
    assert document.text == "# Sooner\n\n# Later\n\nWhat then\n\nTo be said"
    assert document.text[document.pages[1] :].startswith("\n\n# Later")


def test_a_sheet_is_rows_that_know_their_columns(reading: Read) -> None:
    sheet = (
        '<row><c t="s"><v>0</v></c><c t="s"><v>1</v></c>'
        '<c t="inlineStr"><is><t>Paid</t></is></c></row>'
        '<row><c t="s"><v>2</v></c><c s="1"><v>45292</v></c></row>'
        '<row><c r="A3" t="str"><v>Bo</v></c><c r="C3"><v>0.30000000000000004</v></c></row>'
    )
    texts = "".join(f"<si><t>{text}</t></si>" for text in ("Name", "Born", "Ann"))
    styles = '<numFmts><numFmt numFmtId="165" formatCode="dd/mm/yyyy"/></numFmts>'
    styles += '<cellXfs><xf numFmtId="0"/><xf numFmtId="165"/></cellXfs>'
    space = f'xmlns="{documents.SHEETS}" xmlns:r="{documents.OFFICE}"'
    book = '<sheets><sheet name="People" sheetId="1" r:id="rId1"/></sheets>'
    content = zipped(
        {
            "xl/workbook.xml": f"<workbook {space}>{book}</workbook>",
            "xl/_rels/workbook.xml.rels": links({"rId1": ("worksheet", "worksheets/sheet1.xml")}),
            "xl/worksheets/sheet1.xml": f"<worksheet {space}>{sheet}</worksheet>",
            "xl/sharedStrings.xml": f"<sst {space}>{texts}</sst>",
            "xl/styles.xml": f"<styleSheet {space}>{styles}</styleSheet>",
        }
    )
    assert reading("a.xlsx", content).text.splitlines() == [
        "Sheet: People",
        "Name | Born | Paid",
        "Name: Ann | Born: 2024-01-01",
        "Name: Bo | Paid: 0.3",
    ]


def test_a_row_of_text_knows_its_columns_too(reading: Read) -> None:
    named = reading("a.csv", 'Name;City\nAnn;"Oslo;\nand Bergen"\n;;\nBo;\n')
    assert named.text.splitlines() == [
        "Name | City",
        "Name: Ann | City: Oslo; and Bergen",
        "Name: Bo",
    ]
    assert reading("a.tsv", "1\t2\n3\t4\n").text.splitlines() == ["1 | 2", "3 | 4"]


def test_open_document_has_headings_lists_tables_and_notes(reading: Read) -> None:
    body = (
        '<t:h t:outline-level="2">Title</t:h><t:p>One<t:s t:c="2"/>two<t:note><t:note-citation>1'
        "</t:note-citation><t:note-body><t:p>A note</t:p></t:note-body></t:note> three</t:p>"
        "<t:list><t:list-item><t:p>Point</t:p></t:list-item></t:list>"
        "<t:tracked-changes><t:p>gone</t:p></t:tracked-changes>"
        "<b:table-row><b:table-cell><t:p>a</t:p></b:table-cell>"
        "<b:table-cell><t:p>b</t:p></b:table-cell></b:table-row>"
    )
    content = f'<o xmlns:t="urn:text" xmlns:b="urn:table">{body}</o>'
    assert reading("a.odt", zipped({"content.xml": content})).text == (
        "## Title\n\nOne  two three\n\nA note\n\n- Point\n\n| a | b |"
    )


def test_html_is_what_its_reader_sees(reading: Read) -> None:
    page = (
        "<!doctype html><html><head><title>Title</title><style>p {}</style></head><body>"
        "<script>let a = '<p>not shown</p>'</script><h2>Part &amp; whole</h2>"
        "<p>Some <b>bold</b>\n words<br>and more</p><ul><li>one<li><p>two</p></li></ul>"
        "<table><tr><th>Name</th><th>City</th></tr><tr><td>Ann<td><p>Oslo</p></table>"
        "<pre>a\n  b</pre>after"
    )
    assert reading("a.html", page).text == (
        "# Title\n\n## Part & whole\n\nSome bold words\nand more\n\n- one\n- two\n\n"
        "| Name | City |\n| Ann | Oslo |\n\na\n  b\n\nafter"
    )


def test_a_book_is_its_chapters_in_order(reading: Read) -> None:
    container = (
        '<container><rootfiles><rootfile full-path="OEBPS/book.opf"/></rootfiles></container>'
    )
    chapters = "".join(
        f'<item id="c{number}" href="chapter%20{number}.xhtml" media-type="application/xhtml+xml"/>'
        for number in (1, 2)
    )
    spine = '<itemref idref="c2"/><itemref idref="c1"/>'
    book = f"<package><manifest>{chapters}</manifest><spine>{spine}</spine></package>"
    content = zipped(
        {
            "META-INF/container.xml": container,
            "OEBPS/book.opf": book,
            "OEBPS/chapter 1.xhtml": "<!DOCTYPE html><html><h1>One</h1><p>First</p></html>",
            "OEBPS/chapter 2.xhtml": "<html><h1>Two</h1><p>Second</p></html>",
        }
    )
    assert reading("a.epub", content).text == "# Two\n\nSecond\n\n# One\n\nFirst"


def test_a_mail_says_who_when_and_what(reading: Read) -> None:
    mail = (
        b"From: Ann <ann@example.com>\nTo: bo@example.com\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\n"
        b"Date: Mon, 1 Jan 2024 10:00:00 +0000\nMIME-Version: 1.0\n"
        b'Content-Type: multipart/mixed; boundary="x"\n\n--x\n'
        b"Content-Type: text/html; charset=iso-8859-1\nContent-Transfer-Encoding: 8bit\n\n"
        b"<p>Sch\xf6n</p>\n--x\n"
        b'Content-Type: image/png\nContent-Disposition: attachment; filename="a.png"\n\nx\n--x--'
    )
    assert reading("a.eml", mail).text == (
        "# Gr\u00fc\u00dfe\n\nFrom: Ann <ann@example.com>\nTo: bo@example.com\n"
        "Date: Mon, 01 Jan 2024 10:00:00 +0000\nAttachments: a.png\n\nSch\u00f6n"
    )


def test_a_zip_bomb_is_not_unpacked(reading: Read) -> None:
    bomb = docx(paragraph("a" * 64 * 1024 * 1024))
    assert len(bomb) < 100_000
    with pytest.raises(Unreadable, match="unpacks to too much"):
        reading("a.docx", bomb)


def test_an_entity_bomb_is_not_blown_up(reading: Read) -> None:
    entities = "".join(
        f'<!ENTITY e{number} "{f"&e{number - 1};" * 10}">' for number in range(1, 10)
    )
    bomb = f'<!DOCTYPE a [<!ENTITY e0 "lol">{entities}]><a><p>&e9;</p></a>'
    with pytest.raises(Unreadable, match="document type"):
        reading("a.odt", zipped({"content.xml": bomb}))
    outside = '<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/passwd">]><a><p>&e;</p></a>'
    with pytest.raises(Unreadable, match="document type"):
        reading("a.docx", zipped({"word/document.xml": outside}))


def test_what_no_database_takes_as_text_is_left_out(reading: Read) -> None:
    mail = b"Subject: a\\ud800\n\n" + "a\ud800b".encode("utf-8", "surrogatepass")
    text = reading("a.eml", mail + b"\0c").text
    assert "\0" not in text
    text.encode()
