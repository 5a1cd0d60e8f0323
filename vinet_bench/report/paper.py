"""What the paper itself printed (Gu et al. 2020, LUNA16): never mixed into a table of ours."""

SOURCE = "Gu et al., IEEE Trans. Multimedia 2020, doi 10.1109/TMM.2020.2971170"
TITLE = "The paper's values (LUNA16, not comparable row by row)"
HEADINGS = ("Method", "Reserved %", "Accuracy %")

# Method, reserved %, accuracy %.
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
TABLES = {"table1": ("Table I", TABLE_I), "table2": ("Table II", TABLE_II)}
