"""Named settings: how large, how long, and on which networks."""

from dataclasses import dataclass

from vinet_bench.data.phantom import PhantomSettings
from vinet_bench.settings import (
    Curves,
    Evaluation,
    Explained,
    SealedTraining,
    Settings,
    SplitSettings,
    Training,
    VINetTraining,
)

DEFAULT_METHODS = (
    *("vinet", "vbp", "cam", "lrp", "lrp-epsilon", "gradcam", "ig"),
    *("random", "centre", "edges", "outline"),
)


@dataclass(frozen=True)
class Preset:
    """A sentence for `list presets`, the settings, and the number of seeds."""

    about: str
    settings: Settings
    seeds: int


PAPER = Settings()  # the defaults of Settings are the paper's values where it gives them

# Short trainings need a cycled rate. VINet's classifier first learns to read (warm-up), and M
# starts near 1 (shift; the released code adds 20). Trained together from the start, the importance
# network wrote the class into the map's shape instead (docs/vinet-training.md).
_CLASSIFIER = Training(epochs=8, batch=32, learning_rate=1e-3, schedule="one-cycle", flips=True)
_EXPLAINED = Explained(
    **_CLASSIFIER.model_dump(exclude={"epochs", "learning_rate", "width"}),
    epochs=12,
    learning_rate=5e-4,
    width=0.5,
)
_VINET = VINetTraining(
    **_CLASSIFIER.model_dump(include={"learning_rate", "schedule", "flips"}),
    epochs=20,
    batch=16,
    importance="unet",
    classifier="resnet18",
    alpha=2.0,
    warmup=0.3,
    shift=4.0,
)
_SEALED = SealedTraining(
    **_CLASSIFIER.model_dump(include={"learning_rate", "schedule", "flips"}),
    epochs=30,
    batch=16,
    width=0.5,
    importance="shallow-unet",
    classifier="resnet18",
)
_TINY = {"epochs": 2, "batch": 16, "width": 0.25}

PRESETS = {
    "smoke": Preset(
        "tiny, a minute or two: does everything run?",
        Settings(
            phantom=PhantomSettings(slices=120),
            split=SplitSettings(validation=1 / 6, test=1 / 3),
            size=32,
            # Too few steps for M to fall from "keep everything".
            vinet=_VINET.model_copy(update=_TINY | {"shift": 0.0, "warmup": 0.0}),
            sealed=_SEALED.model_copy(update=_TINY | {"warmup": 0.0}),
            explained=_EXPLAINED.model_copy(update=_TINY),
            retrain=_CLASSIFIER.model_copy(update=_TINY),
            mask_size=32,
            costly_pictures=16,
            evaluation=Evaluation(steps=5, pictures=8, subsets=10, perturbations=3),
            curves=Curves(percents=(2, 30)),
        ),
        seeds=1,
    ),
    "quick": Preset(
        "an honest first look: 64 x 64, under an hour on two cores",
        Settings(
            phantom=PhantomSettings(slices=1800),
            split=SplitSettings(validation=1 / 9, test=1 / 3),
            size=64,
            vinet=_VINET,
            sealed=_SEALED,
            explained=_EXPLAINED,
            retrain=_CLASSIFIER,
            mask_size=32,
        ),
        seeds=1,
    ),
    "standard": Preset(
        "what conclusions are drawn from: 64 x 64, 3 seeds, hours on a CPU",
        Settings(
            phantom=PhantomSettings(slices=6500),
            split=SplitSettings(validation=1 / 13, test=4 / 13),
            size=64,
            vinet=_VINET.model_copy(update={"epochs": 14, "alpha": 5.0}),
            sealed=_SEALED,
            explained=_EXPLAINED.model_copy(update={"epochs": 15, "batch": 64}),
            retrain=_CLASSIFIER.model_copy(update={"epochs": 10, "batch": 64}),
            mask_size=32,
        ),
        seeds=3,
    ),
    "paper": Preset(
        "the paper's networks, sizes, optimiser and a = 0.25 at 128 x 128; meant for a GPU",
        PAPER.model_copy(update={"phantom": PhantomSettings(slices=6500)}),
        seeds=3,
    ),
}


def deviations(settings: Settings, sealed: bool) -> list[str]:
    """What differs from the preset `paper`, for every report that these settings make: the paper
    gives no epochs, schedule, or settings of VGG-16 and ResNet-18, and what is there is ours.

    sealed: whether sealed VINets are among what is trained. Data, split, precision and threads
    have notes of their own.
    """
    found = []
    # A checkpoint was not trained here; its hash is in another note.
    untrained = {"explained": {"network"}} if settings.explained.weights else {}
    for section in ("vinet", *["sealed"] * sealed, "explained", "retrain", "evaluation", "curves"):
        wanted = untrained.get(section)
        ours = getattr(settings, section).model_dump(include=wanted, exclude={"weights"})
        theirs = getattr(PAPER, section).model_dump()
        found += [
            f"{section}.{key} = {_short(value)} (there: {_short(theirs[key])})"
            for key, value in ours.items()
            if value != theirs[key]
        ]
    for name in ("control_budget", "costly_pictures", "size"):
        own, there = getattr(settings, name), getattr(PAPER, name)
        if own != there:
            found.append(f"{name} = {_short(own)} (there: {_short(there)})")
    if settings.mask_size != settings.size:
        found.append(f"mask-only networks see masks at {settings.mask_size}")
    return found


def _short(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
