"""Parts of a report page with images: mistakes, ordinary images, activation maps. Each is a list of pieces of HTML."""

from collections.abc import Sequence

from efficientnet_tpu.display.html_page import data_uri, name, note
from efficientnet_tpu.model_inspection.report.contents import Report, ShownImage
from efficientnet_tpu.texts.printable import html_text

TINY = 64  # pixels of a side up to which an image keeps its pixels visible


def mistakes(report: Report) -> list[str]:
    """Returns the wrong predictions of highest confidence."""
    if not report.errors:
        return ["<p>None: every image was recognized.</p>"]
    text = (
        f"{len(report.errors):,} of {report.num_errors:,}, as the model saw them. Some may be labelled wrongly: look "
        "at the file."
    )
    return [note(text), _tiles(report.errors)]


def ordinary(report: Report) -> list[str]:
    """Returns images that were not chosen by what the model says of them."""
    right = sum(image.is_right for image in report.ordinary)
    text = (
        f"{len(report.ordinary):,} images at equal distances in the order of the data, {right:,} of them right: what "
        "the model does on any day."
    )
    return [note(text), _tiles(report.ordinary)]


def maps(report: Report) -> list[str]:
    """Returns images with maps of where they speak for a class."""
    if not report.maps:
        return [note(f"There are no activation maps. {report.no_maps}")]
    text = (
        "Class activation maps (Zhou et al. 2016): red is where most of an image speaks for the class, blue where "
        "least does. Of a mistake, the maps of both classes."
    )
    return [note(text), _tiles(report.maps)]


def _tiles(images: Sequence[ShownImage]) -> str:
    has_maps = any(image.maps for image in images)
    items = "".join(f"<li>{_figure(image)}</li>" for image in images)
    return f'<ul class="tiles{" trios" if has_maps else ""}">{items}</ul>'


def _figure(image: ShownImage) -> str:
    """Returns an image over its prediction. It is described by the caption, which a reader hears anyway."""
    verdict = "right" if image.is_right else "wrong"
    sign = "\N{CHECK MARK}" if image.is_right else "\N{MULTIPLICATION X}"
    mark = f'<span class="{verdict}" aria-hidden="true">{sign}</span><span class="unseen">{verdict}:</span>'
    words = f"{mark} {name(image.predicted)} {image.confidence:.0%}"
    if not image.is_right:
        words += f"<br>is {name(image.label)}, {image.label_probability:.0%}"
    shown = _img(image.picture, f"{image.label}, as the model saw it")
    if image.maps:
        others = "".join(
            f"<div>{_img(picture, f'Where the image speaks for {of}')}<span>for {name(of)}</span></div>"
            for of, picture in image.maps.items()
        )
        shown = f'<div class="side"><div>{shown}<span>image</span></div>{others}</div>'
    return f'<figure>{shown}<figcaption>{words}<span class="where">{name(image.where)}</span></figcaption></figure>'


def _img(picture: bytes, alt: str) -> str:
    tiny = ' class="tiny"' if picture.startswith(b"\x89PNG") else ""
    return f'<img{tiny} alt="{html_text(alt)}" src="{data_uri(picture)}" decoding="async">'
