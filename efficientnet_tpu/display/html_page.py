"""A page as one HTML file that needs no other, and no network."""

import base64

from efficientnet_tpu.texts.printable import html_text


def document(title: str, style: str, body: str) -> str:
    """Returns the HTML file. style: CSS; body: HTML."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        # Whatever a class or a file is called: the page loads nothing and runs nothing.
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
        'img-src data:">'
        f"<title>{html_text(title)}</title><style>{style}</style></head>\n<body>\n{body}\n</body></html>\n"
    )


def data_uri(png: bytes) -> str:
    """Returns an address that holds a PNG file."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
