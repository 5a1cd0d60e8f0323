"""What the paper itself printed (Gu et al. 2020, LUNA16): never mixed into a table of ours."""

from dataclasses import dataclass

from vinet_bench.report.layout import ABSENT

SOURCE = "Gu et al., IEEE Trans. Multimedia 2020, doi 10.1109/TMM.2020.2971170"
TITLE = "The paper's values (LUNA16, not comparable row by row)"

_KEPT = ("Reserved %", "Accuracy %")
TABLE_I = (
    ("Original", "100.00", "82.57"),
    ("VINet", "2.37", "82.15"),
    ("VBP", "17.71", "78.58"),
    ("CAM", "36.22", "78.35"),
    ("LRP", "7.68", "77.57"),
)
TABLE_II = (
    ("Original", "100.00", "82.57"),
    ("VINet", "97.63", "8.11"),
    ("VBP", "82.29", "17.08"),
    ("CAM", "63.78", "10.60"),
    ("LRP", "92.32", "40.03"),
)
# With the classifier SEResNet-50, and with the importance network DeepLabv3+.
TABLE_III = (
    ("None", "83.43", ABSENT),
    ("DeepLabv3+", "81.37", "2.95"),
    ("GridNet", "80.75", "3.46"),
    ("U-Net", "80.63", "3.85"),
    ("SegNet", "76.78", "7.57"),
)
TABLE_IV = (
    ("SEResNet-50", "81.37", "2.95"),
    ("DenseNet-121", "80.58", "3.24"),
    ("ResNet-50", "79.90", "3.19"),
    ("VGG-19", "75.54", "8.25"),
)
_LOSS = ("Accuracy %", "Importance loss (× 1e-2)")
# The paper shows destruction in pictures alone (Fig. 6).
TABLES = {
    "table1": ("Table I", ("Method", *_KEPT), TABLE_I),
    "table2": ("Table II", ("Method", *_KEPT), TABLE_II),
    "table3": ("Table III (SEResNet-50)", ("Importance network", *_LOSS), TABLE_III),
    "table4": ("Table IV (DeepLabv3+)", ("Classifier", *_LOSS), TABLE_IV),
}


@dataclass(frozen=True)
class Claim:
    """What the paper says of two rows, by their titles, in one figure: the first is better."""

    first: str
    second: str
    figure: str
    where: str


CLAIMS = {
    "table3": Claim("DeepLabv3+", "SegNet", "importance_loss", "Table III"),
    "destruction": Claim("Multi-scale", "Single-scale", "evidence_recall", "Fig. 6"),
}
