"""Mails (.eml): who wrote to whom, when and about what, the body, and the names of attachments."""

from email import policy
from email.message import MIMEPart
from email.parser import BytesParser
from pathlib import Path
from typing import Final

from rethread.tools.file_search.documents import Document, Unreadable
from rethread.tools.file_search.formats import html
from rethread.tools.file_search.formats.blocks import Blocks

HEADERS: Final = ("From", "To", "Cc", "Date")


def read(path: Path, extension: str) -> Document:
    """The mail's text."""
    with path.open("rb") as file:
        mail = BytesParser(policy=policy.default).parse(file)
    if mail["From"] is None and mail["Date"] is None and mail["Subject"] is None:
        raise Unreadable("invalid_file", "This is no mail: it has no From, no Date, no Subject.")
    blocks = Blocks()
    blocks.heading(1, mail["Subject"] or "")
    named = [f"{name}: {mail[name]}" for name in HEADERS if mail[name]]
    attached = [part.get_filename() or "" for part in mail.iter_attachments()]
    if any(attached):
        named.append(f"Attachments: {', '.join(filter(None, attached))}")
    blocks.paragraph("\n".join(named))
    if body := mail.get_body(("plain", "html")):
        _add(body, blocks)
    return blocks.document()


def _add(body: MIMEPart, blocks: Blocks) -> None:
    try:
        text = body.get_content()
    except LookupError:  # a character set that nobody knows
        payload = body.get_payload(decode=True)
        text = payload.decode("utf-8", "replace") if isinstance(payload, bytes) else ""
    if body.get_content_subtype() == "html":
        html.add(text, blocks)
    else:
        blocks.paragraph(text.replace("\r\n", "\n"))
