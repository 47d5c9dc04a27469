"""The notes under the paper's tables and figures: how ours are counted, and why some differ from print.

tests/paper/test_table_notes.py recomputes every number.
"""

_COUNTING = (
    "A difference stands where our figure, rounded like the paper's, is another one. Multiply-adds are counted "
    "exactly: convolutions, squeeze-and-excitation and the classifier."
)

TABLE_NOTES: dict[str, tuple[str, ...]] = {
    "table2": (
        _COUNTING,
        "Parameters are the trainable ones; B2's 9.2M are with batch norm's moving statistics.",
        "FLOPs of B1, B4, B5 and B7 are 2% below to 5% above the printed ones; no rule known to us gives all of those.",
        "Other networks are counted from keras.applications, where it has them (other_networks.json); ResNet-50 is "
        "resnet-50 here, as in Table 3, and counts 4.1B. keras.applications' has its strides in the first 1x1 "
        "convolution instead of the 3x3: 3.9B.",
    ),
    "table3": (
        _COUNTING,
        "MobileNetV1, r=2: four times the baseline's 0.569B is 2.27B. Compound: r=1.3 is 291 pixels; 288 pixels "
        "count 2.24B, 292 pixels 2.47B, and 2.3B lies between them.",
        "ResNet-50: 16.2B and 14.7B stand in each other's place. Four times the depth counts 14.6B, twice the "
        "width 16.1B.",
        "The factors of MobileNetV2's and ResNet-50's compound rows are not printed; here they are MobileNetV1's, "
        "at 288 pixels (r=1.3) and 300 (B3's). ResNet-50 so counts 16.3B; with filters in multiples of 16 it would"
        " be 16.7B.",
        "The paper does not say how these networks were trained; the commands take EfficientNet-B0's recipe.",
    ),
    "table5": (
        "First eight rows: the best publicly available models; last eight: the best reported results.",
        "Parameters are without the 1000-class classifier. B3's 10.7M and B4's 17.5M are printed as 10M and 17M.",
        "Geometric mean of the ratios: printed 4.7x and 9.6x, here 4.3x and 9.5x. Pets' 5.6x is not 58M / 17M, "
        "which is 3.4x.",
        "The paper refers to Kornblith et al. 2019 and Huang et al. 2018 for the transfer recipe; Table 6 has the "
        "data.",
    ),
    "table6": ("train, test (data set): what the data sets' own splits add up to, not counted by us.",),
    "table7": (
        _COUNTING,
        "d=4 counts 1.6B, w=2 1.4B and r=2 1.5B. The printed FLOPs belong to about d=4.4 (1.8B), w=2.2 (1.8B) and "
        "r=2.2 (1.9B, a dot of Figure 3). The compound network is B3, at 300 pixels.",
        "The baseline's 77.3 is as printed; Table 2 has 77.1.",
    ),
    "table8": ("The labels of ImageNet's test images are not public: its server judged the paper's predictions.",),
    "figure1": (
        "Accuracies are Table 2's. Parameters are counted here, where keras.applications has the network, else "
        "printed.",
        "GPipe is left out, as in the paper: 557M parameters.",
    ),
    "figure3": (
        "The paper prints no accuracies here. Drawn is what its dots cost, beside equation 3's rule; they differ "
        "by rounding, and by the layers that do not scale (its footnote 3). r=1.3 is 299 pixels, as in Figure 4.",
    ),
    "figure4": (
        "The paper prints neither the accuracies nor the widths of the dots: drawn are Figure 3's widths. r=1.3 is 299 "
        "pixels, as its caption says.",
    ),
    "figure5": (
        "Accuracies are Table 2's. Multiply-adds are counted here, where keras.applications has the network, else "
        "printed.",
    ),
    "figure8": (
        "The paper prints no numbers here. Drawn are Table 7's five accuracies over the multiply-adds counted "
        "here; the text claims up to 2.5% for compound scaling.",
    ),
}
