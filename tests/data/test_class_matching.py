"""Classes of the same names fit each other in any order, and what differs is named."""

import random

import pytest

from efficientnet_tpu.data.class_matching import are_numbers, match_classes, require_all, require_same
from efficientnet_tpu.data.sources.imagenet_classes import imagenet_classes, imagenet_names
from efficientnet_tpu.errors import UserError

NUMBERS = tuple(number for number, _ in imagenet_classes())
RUN, DATA = "--model_dir=/run", "--data_dir=/photos"


@pytest.mark.parametrize("seed", range(5))
def test_any_order_of_the_same_names(seed):
    names = [f"animal {index}" for index in range(30)]
    order = random.Random(seed).sample(range(30), 30)
    assert match_classes([names[label] for label in order], names) == tuple(order)


@pytest.mark.parametrize(
    ("names", "known", "labels"),
    [
        (("0", "1", "2", "10"), ("0", "1", "10", "2"), (0, 1, 3, 2)),
        (("00", "01", "10"), ("0", "1", "10"), (0, 1, 2)),
        (("1.0", "2.0"), ("1", "2"), (0, 1)),
        (("00", "0"), ("0", "1"), (None, 0)),  # two classes are not one
        (("café",), ("cafe\u0301", "bar"), (0,)),
        (("dog",), ("cat", "dog", "owl"), (1,)),
        (("dog", "yak"), ("cat", "dog", "owl"), (1, None)),
        (("Dog",), ("cat", "dog"), (None,)),
        (("n01443537", "n01440764"), imagenet_names(), (1, 0)),
        (("n01443537 goldfish", "n01440764-tench"), imagenet_names(), (1, 0)),
        (("goldfish", "tench"), NUMBERS, (1, 0)),
        (("goldfish",), ("n01440764", "n01443537"), (1,)),
        (("Great_white_shark", "tench, Tinca tinca"), NUMBERS, (2, 0)),
        (("cardigan", "Cardigan"), NUMBERS, (474, 264)),
        (("n01443537", "yak shaving"), imagenet_names(), (1, None)),
        (("tench",), ("n01440764", "cat"), (None,)),  # not ImageNet's
        (tuple(f"class {label}" for label in range(1000)), imagenet_names(), tuple(range(1000))),
        (("n01443537", "n01440764"), tuple(f"class {label}" for label in range(1000)), (1, 0)),
        (NUMBERS[::-1], imagenet_names(), tuple(range(999, -1, -1))),
        (("class 3", "class 1"), ("class 1", "class 2", "class 3"), (2, 0)),
    ],
)
def test_names_that_mean_the_same(names, known, labels):
    assert match_classes(names, known) == labels


def test_all_classes_of_the_data_must_be_known():
    assert require_all(DATA, ["dog", "cat"], RUN, ["cat", "dog", "owl"]) == (1, 0)
    with pytest.raises(UserError) as error:
        require_all(DATA, ["cat", "yak", "zebu", "gnu", "emu"], RUN, ["cat", "dog", "owl"])
    assert str(error.value) == (
        "--data_dir=/photos: 4 of its 5 classes (yak, zebu, gnu, ... (4)) are not among the 3 of the run in "
        "--model_dir=/run, which also has dog, owl. Use that data, or another --model_dir."
    )


def test_records_without_names_are_told_how_to_have_some():
    with pytest.raises(UserError, match=r"take a labels\.txt beside them"):
        require_all(DATA, ["class 0", "class 1"], RUN, ["cat", "dog"])


def test_a_run_goes_on_with_all_of_its_classes():
    assert require_same(DATA, ["b", "c", "a"], RUN, ["a", "b", "c"]) == (1, 2, 0)
    with pytest.raises(UserError, match=r"has 2 of the 3 classes of the run in --model_dir=/run, and lacks c\. "):
        require_same(DATA, ["b", "a"], RUN, ["a", "b", "c"])
    with pytest.raises(UserError, match=r"1 of its 3 classes \(d\) are not among the 3 of the run"):
        require_same(DATA, ["b", "a", "d"], RUN, ["a", "b", "c"])


def test_numbers_are_no_names():
    assert are_numbers(["0", "class 12", "-1", "2.0"])
    assert not are_numbers(["0", "1e5"])
    assert not are_numbers(["class a"])
