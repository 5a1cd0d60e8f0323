"""Makes tests/fuzz_seeds: for each reader of files from strangers a small, valid folder.

python -m tools.fuzz_seeds
"""

import json
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
import SimpleITK
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from tools.fuzz_readers import CELL, PLAN, SEEDS, SERIES, SIDE
from vinet_bench.data import load_data
from vinet_bench.data.facts import picture_facts
from vinet_bench.data.lidc_xml import CHARACTERISTICS
from vinet_bench.data.prepared import Description, Piece, write_prepared
from vinet_bench.data.splits import split_slices
from vinet_bench.description import describe
from vinet_bench.plan import make_plan
from vinet_bench.records import Cell, Record
from vinet_bench.run import choose_machine
from vinet_bench.store import Store

RNG = np.random.default_rng(0)


def _folder(name: str) -> Path:
    folder = SEEDS / name
    folder.mkdir(parents=True)
    return folder


def _grey(*shape: int) -> Any:
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def labels() -> None:
    """A table with pictures of every kind, masks and a split."""
    folder = _folder("labels")
    Image.fromarray(_grey(SIDE, SIDE)).save(folder / "a.png")
    Image.fromarray(_grey(SIDE, SIDE)).save(folder / "b.jpg")
    np.save(folder / "c.npy", np.arange(SIDE * SIDE, dtype=np.int16).reshape(SIDE, SIDE))
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[4:9, 4:9] = 255
    Image.fromarray(mask).save(folder / "mask.png")
    rows = (
        *("image,label,patient,mask,split", "a.png,0,P1,mask.png,train"),
        *("b.jpg,1,P2,,validation", "c.npy,1,P3,mask.png,test"),
    )
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")


def scans() -> None:
    """MetaImages and a DICOM series of two slices, one of them compressed."""
    hu = RNG.integers(-1000, 400, (3, 64, 64), dtype=np.int16)
    volume = SimpleITK.GetImageFromArray(hu)
    volume.SetSpacing((0.7, 0.7, 2.5))
    for ending in ("mhd", "mha"):
        SimpleITK.WriteImage(volume, _folder(ending) / f"a.{ending}", useCompression=False)
    folder = _folder("dicom")
    for k in range(2):
        one = volume[:, :, k]
        tags = {
            **{"0008|0060": "CT", "0010|0020": "P", "0020|000d": "1.2", "0020|000e": SERIES},
            **{"0008|0018": f"1.2.3.{k}", "0020|0013": str(k), "0020|0032": f"0\\0\\{2.5 * k}"},
            "0020|0037": "1\\0\\0\\0\\1\\0",
        }
        for tag, value in tags.items():
            one.SetMetaData(tag, value)
        writer = SimpleITK.ImageFileWriter()
        writer.KeepOriginalImageUIDOn()
        writer.SetUseCompression(k == 1)
        writer.SetFileName(str(folder / f"{k}.dcm"))
        writer.Execute(one)


def lidc_xml() -> None:
    """Three readers' square outlines of one nodule in two slices."""
    rated = "".join(f"<{name}>3</{name}>" for name in CHARACTERISTICS)
    corners = ((10, 10), (16, 10), (16, 16), (10, 16))
    points = "".join(
        f"<edgeMap><xCoord>{x}</xCoord><yCoord>{y}</yCoord></edgeMap>" for x, y in corners
    )
    rois = "".join(
        f"<roi><imageZposition>{z}</imageZposition><inclusion>TRUE</inclusion>{points}</roi>"
        for z in (-10.0, -7.5)
    )
    mark = f"<unblindedReadNodule><characteristics>{rated}</characteristics>{rois}"
    session = f"<readingSession>{mark}</unblindedReadNodule></readingSession>"
    header = f"<ResponseHeader><SeriesInstanceUid>{escape(SERIES)}</SeriesInstanceUid>"
    text = f'<LidcReadMessage xmlns="http://www.nih.gov">{header}</ResponseHeader>{session * 3}'
    (_folder("lidc_xml") / "a.xml").write_text(
        f'<?xml version="1.0" encoding="UTF-8"?>\n{text}</LidcReadMessage>\n'
    )


def prepared() -> None:
    """Four slices of two patients with readers' masks."""
    rows = [
        {"id": f"s{i}", "label": "ab"[i % 2], "patient": f"P{i // 2}", "readers": "3"}
        for i in range(4)
    ]
    bits = RNG.integers(0, 8, (4, SIDE, SIDE), dtype=np.uint8)
    about = Description(
        name="small",
        class_names=("a", "b"),
        patients_known=True,
        notes=("a note",),
        recipe={"source": "fuzz"},
    )
    pieces = [Piece(_grey(4, SIDE, SIDE), bits, rows)]
    write_prepared(SEEDS / "prepared", about, 4, pieces, [["status", "reason"]])


def maps() -> None:
    """Maps as one file for each picture, and as one archive."""
    stack = RNG.random((2, SIDE, SIDE)).astype(np.float32)
    folder = _folder("maps")
    for name, one in zip("ab", stack, strict=True):
        np.save(folder / f"{name}.npy", one)
    np.savez(_folder("maps_npz") / "maps.npz", maps=stack, ids=np.array(["a", "b"]))


def weights() -> None:
    """A linear layer's, in both formats."""
    folder = _folder("weights")
    state = nn.Linear(3, 2).state_dict()
    save_file(state, folder / "a.safetensors")
    torch.save({"state_dict": state}, folder / "b.pt")


def run() -> None:
    """A run's folder as `run` leaves it, with made-up figures; and its plan and a cell as JSON."""
    plan = make_plan(
        preset="smoke", methods=["cam", "random"], seeds=1, size=32, changes=["phantom.slices=30"]
    )
    data = load_data(plan)
    wanted = plan.settings.split
    split = split_slices(data, wanted.validation, wanted.test, wanted.seed, wanted.by)
    told = describe(plan, data, split, choose_machine("cpu", "float32"))
    told |= {"gallery": "plan", "commit": "", "protocol_seeds": {"occlusion": [0]}}
    told["data"]["pictures"] = "facts"
    for name in ("run", "plan"):
        store = Store(_folder(name))
        store.start("plan", told, 1.0)
        store.save("pictures", "facts", picture_facts(data, split))
        _add_cells(store, [row["name"] for row in told["rows"]], len(split.test))
        shown = {"pictures": _grey(2, 32, 32), "evidence": _grey(2, 32, 32) // 255}
        names = {f"map:{name}": _grey(2, 32, 32) for name in ("cam", "random")}
        store.save("gallery", "plan", {"places": np.array([0, 3]), **shown, **names})
        store.close()
    (SEEDS / "plan" / PLAN).write_text(json.dumps(told, sort_keys=True))
    cell = vars(Cell("occlusion", "original", 0, budget="everything"))
    (SEEDS / "plan" / CELL).write_text(json.dumps(cell, sort_keys=True))


def _add_cells(store: Store, rows: list[str], pictures: int) -> None:
    budgets = ("threshold", "equal", "everything")
    cells = [Cell("occlusion", row, 0, budget=budget) for row in rows for budget in budgets]
    store.want("plan", {cell: f"key{i}" for i, cell in enumerate(cells)})
    for i, cell in enumerate(cells[:-1]):
        figures = {"probability_drop": 0.25, "accuracy": 0.5, "fraction_kept": 0.1}
        records = [Record(cell, m, value, pictures, 0.5) for m, value in figures.items()]
        store.add("plan", f"key{i}", cell, records)
        store.save("scores", f"key{i}", {"probability_drop": RNG.random(pictures)})


def main() -> None:
    """Makes all of them; the folder must not exist."""
    for make in (labels, scans, lidc_xml, prepared, maps, weights, run):
        make()
    with (SEEDS / "README.md").open("w") as file:
        file.write("Made by `python -m tools.fuzz_seeds`; read by tests/test_fuzz.py.\n")


if __name__ == "__main__":
    main()
