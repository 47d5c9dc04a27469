"""Findings about single images after a scan: unreadable, in two splits, in two classes, copied, of a rare kind."""

import collections
import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from efficientnet_tpu.config.color import NO_COLOR
from efficientnet_tpu.config.data import DataConfig
from efficientnet_tpu.data.decoding.image_header import TRANSPARENT, TURNED, format_named, with_article
from efficientnet_tpu.data.split import HostShard, ImageData, Split
from efficientnet_tpu.data_inspection.image_scan import FORMATS, ImageScan
from efficientnet_tpu.texts.printable import escaped

Place = tuple[str, int]  # name of the split, position in its stored order
# The report names at most this many harmless images: finding the name of one in a shard takes milliseconds.
_MOST_NAMED = 1000
_COPIES_NAMED = 4  # on a line


@dataclass(frozen=True)
class Finding:
    """One kind of finding, with all images of that kind."""

    kind: str  # its name in the report
    must_mend: bool
    count: int
    words: str  # follows the count
    advice: str
    items: Sequence[Mapping[str, object]]  # for the report
    examples: Sequence[str]  # for people, one a line

    def to_json(self) -> dict[str, object]:
        return {"count": self.count, "must_mend": self.must_mend, "images": list(self.items)}

    def lines(self, num_examples: int) -> list[str]:
        """Returns lines for the terminal: several with the remedy, or one if the finding is only worth knowing."""
        head = f"  {self.count:,} {self.words}"
        if not self.must_mend:
            return [f"{head}: {', '.join(map(escaped, self.examples[:2]))}{', ...' if self.count > 2 else ''}"]
        shown = [f"      {escaped(example)}" for example in self.examples[:num_examples]]
        more = len(self.examples) - len(shown)
        return [head, *shown, *([f"      and {more:,} more"] if more else []), f"      {self.advice}"]


@dataclass(frozen=True)
class ImageNames:
    """Names of places and their labels."""

    splits: Mapping[str, Split]
    scans: Mapping[str, ImageScan]
    label_names: Sequence[str]

    def where(self, place: Place) -> str:
        name, position = place
        split = self.splits[name]
        paths = split.paths()  # quicker than `locate`, which makes the whole order
        return split.locate(HostShard(), None, position) if paths is None else paths[position].numpy().decode()

    def label(self, place: Place) -> str:
        name, position = place
        label = int(self.scans[name].labels[position])
        return self.label_names[label] if 0 <= label < len(self.label_names) else f"label {label}"

    def item(self, place: Place) -> dict[str, object]:
        return {"split": place[0], "where": self.where(place), "label": self.label(place)}


def find_all(
    data: ImageData, splits: Mapping[str, Split], scans: Mapping[str, ImageScan], config: DataConfig
) -> list[Finding]:
    """Returns all findings, first those to be mended."""
    names = ImageNames(splits, scans, data.label_names)
    copies = group_copies(scans)
    findings = [
        find_unreadable(names),
        find_strange_labels(names),
        find_leaks(names, copies),
        find_conflicts(names, copies),
        find_duplicates(names, copies),
        find_disguises(names),
        *(find_trait(names, trait, words) for trait, words in _describe_traits(config).items()),
    ]
    return [finding for finding in findings if finding.count]


def _describe_traits(config: DataConfig) -> dict[str, str]:
    """Returns, by trait, words that follow the number of images and say what is made of them."""
    turned = "which is not done (--noexif_orientation)"
    if config.exif_orientation:
        turned = "which is done (--noexif_orientation does not)"
    laid = f"laid on {config.background} (--background)"
    if config.background == NO_COLOR:
        laid = "of which the colors below the transparent parts are shown (--background=none)"
    return {
        "CMYK": "in CMYK, converted to RGB",
        "16-bit": "of 16 bits, read as 8",
        "animated": "animated, of which the first frame is used",
        TURNED: f"to be turned, say their EXIF data, {turned}",
        TRANSPARENT: f"with transparent parts, {laid}",
    }


def find_unreadable(names: ImageNames) -> Finding:
    """Finds unreadable images; damaged shards give one example each."""
    items = []
    for name, scan in names.scans.items():
        for position, reason in scan.unreadable.items():
            where, explanation = names.where((name, position)), ""
            if names.splits[name].paths() is None:
                # 'train-00003-of-00016 record 12: the file is cut off ...': what is wrong with the shard says more.
                where, _, explanation = where.partition(": ")
            items.append({"split": name, "where": where, "reason": explanation or reason})
    # All that follows a damaged record is lost with it: a line for each shard.
    examples = []
    for reason, group in itertools.groupby(items, key=lambda item: item["reason"]):
        members = list(group)
        if "at byte" in reason:
            more = f" and the {len(members) - 1:,} after it" if len(members) > 1 else ""
            examples.append(f"{members[0]['where']}{more}: {reason}")
        else:
            examples += [f"{item['where']}: {reason}" for item in members]
    return Finding(
        "unreadable", True, len(items), "unreadable: training leaves them out, evaluation stops at them",
        "Move them elsewhere, or put whole ones in their place; write damaged shards again.", items, examples,
    )  # fmt: skip


def find_strange_labels(names: ImageNames) -> Finding:
    """Finds labels of readable images that stand for no class."""
    places = [
        (name, int(position))
        for name, scan in names.scans.items()
        for position in np.flatnonzero((scan.labels >= len(names.label_names)) | (scan.labels < 0))
        if position not in scan.unreadable
    ]
    items = [names.item(place) for place in places]
    return Finding(
        "strange_labels", True, len(items), f"with a label beyond the {len(names.label_names):,} classes",
        "Write the shards again with their labels, or correct the list of classes.",
        items, [f"{item['where']}: {item['label']}" for item in items],
    )  # fmt: skip


def group_copies(scans: Mapping[str, ImageScan]) -> list[list[Place]]:
    """Groups images of the same content, two or more each, in the order of the first of each."""
    names = list(scans)
    positions = [np.flatnonzero(scan.num_bytes) for scan in scans.values()]
    splits = np.repeat(np.arange(len(names)), [len(part) for part in positions])
    digests = np.concatenate([scan.digests[part] for scan, part in zip(scans.values(), positions, strict=True)])
    position = np.concatenate(positions)
    order = np.lexsort((digests[:, 1], digests[:, 0]))  # stable: a group stays in the order of the images
    is_new = np.ones(len(order), bool)
    is_new[1:] = (digests[order[1:]] != digests[order[:-1]]).any(axis=1)
    begins = np.flatnonzero(is_new)
    sizes = np.diff(begins, append=len(order))
    groups = [order[begins[group] :][: sizes[group]] for group in np.flatnonzero(sizes > 1)]
    return [
        [(names[splits[row]], int(position[row])) for row in group]
        for group in sorted(groups, key=lambda rows: rows[0])
    ]


def _grouped(
    names: ImageNames, groups: Sequence[Sequence[Place]], describe: Callable[[dict[str, object]], str]
) -> tuple[list[dict[str, object]], list[str]]:
    """Returns items and examples of groups of copies."""
    items, examples = [], []
    for group in groups:
        copies = [names.item(place) for place in group]
        items.append({"copies": copies})
        more = f" and {len(copies) - _COPIES_NAMED:,} more" if len(copies) > _COPIES_NAMED else ""
        examples.append(" = ".join(describe(copy) for copy in copies[:_COPIES_NAMED]) + more)
    return items, examples


def find_leaks(names: ImageNames, copies: Sequence[Sequence[Place]]) -> Finding:
    """Finds images that are in more than one split."""
    groups = [group for group in copies if len({name for name, _ in group}) > 1]
    items, examples = _grouped(names, groups, lambda copy: f"{copy['split']} {copy['where']}")
    return Finding(
        "leaks", True, len(groups), "in more than one split: accuracy would be measured on what is trained on",
        "Leave each in one split only.", items, examples,
    )  # fmt: skip


def find_conflicts(names: ImageNames, copies: Sequence[Sequence[Place]]) -> Finding:
    """Finds images that are under more than one class."""
    groups = [group for group in copies if len({names.label(place) for place in group}) > 1]
    items, examples = _grouped(names, groups, lambda copy: f"{copy['where']} ({copy['label']})")
    return Finding(
        "conflicting_labels", True, len(groups), "under more than one class",
        "Leave each under the right class.", items, examples,
    )  # fmt: skip


def find_duplicates(names: ImageNames, copies: Sequence[Sequence[Place]]) -> Finding:
    """Finds copies in one split and class, which only give an image more weight."""
    groups = []
    for group in copies:
        alike: dict[tuple[str, str], list[Place]] = collections.defaultdict(list)
        for place in group:
            alike[place[0], names.label(place)].append(place)
        groups += [places for places in alike.values() if len(places) > 1]
    items, examples = _grouped(names, groups[:_MOST_NAMED], lambda copy: str(copy["where"]))
    count = sum(len(group) - 1 for group in groups)
    return Finding("duplicates", False, count, "further copies within a class", "", items, examples)


def find_disguises(names: ImageNames) -> Finding:
    """Finds files whose names promise another format than their content; TensorFlow goes by the content."""
    items = []
    for name, split in names.splits.items():
        paths = split.paths()
        scan = names.scans[name]
        for position, path in enumerate([] if paths is None else paths.numpy()):
            content, promised = FORMATS[scan.formats[position]], format_named(path.decode())
            if promised and promised != content and scan.num_bytes[position]:
                items.append({"split": name, "where": path.decode(), "format": content})
    examples = [f"{item['where']} is {with_article(item['format'])}" for item in items]
    words = "of another format than their name says, which does no harm"
    return Finding("disguised", False, len(items), words, "", items, examples)


def find_trait(names: ImageNames, trait: str, words: str) -> Finding:
    """Finds images with a trait that is worth knowing. words: describe it after the count."""
    places = [(name, position) for name, scan in names.scans.items() for position in scan.traits.get(trait, [])]
    items = [names.item(place) for place in places[:_MOST_NAMED]]
    kind = trait.replace(" ", "_").replace("-", "_")
    return Finding(kind, False, len(places), words, "", items, [os.path.basename(str(item["where"])) for item in items])
