"""What a user can set, and `key=value` texts as changes of it."""

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
)

from vinet_bench.data.phantom import PhantomSettings
from vinet_bench.errors import UserError, unknown_name

PICTURE_SIZES = (16, 1024)  # the smallest and the largest side of a picture in pixels
MOST_FOLDS = 20


class Frozen(BaseModel):
    """Settings cannot change under way, and a mistyped name is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Training(Frozen):
    """How one network is trained (Adam, betas 0.9 / 0.999)."""

    epochs: int = Field(100, ge=1, description="passes over the training part")
    batch: int = Field(8, ge=2, description="pictures a step")
    learning_rate: float = Field(1e-4, gt=0, description="the peak rate")
    schedule: Literal["constant", "one-cycle"] = Field(
        "constant", description="one-cycle warms up and anneals (Smith 2018); short runs need it"
    )
    flips: bool = Field(False, description="random horizontal and vertical flips")
    width: float = Field(
        1.0,
        gt=0,
        le=4,
        description="channels, as a share of the standard net's (of ours)",
    )


class VINetTraining(Training):
    """VINet: its two networks, Eq. 6's a, and how it is reached."""

    importance: str = Field("deeplabv3plus", description="importance network, ours or smp:NAME")
    classifier: str = Field("seresnet50", description="classifier, ours or timm:NAME")
    alpha: float = Field(0.25, ge=0, description="a of Eq. 6 (0.25 in the paper's experiments)")
    ramp: float = Field(
        0.0, ge=0, le=1, description="share of the epochs over which a rises from 0"
    )
    warmup: float = Field(
        0.0, ge=0, lt=1, description="share of the epochs in which the classifier trains with M = 1"
    )
    shift: float = Field(
        0.0, description="added to M0 before Eq. 1; the released code adds 20 (keep everything)"
    )
    destruction: Literal["multi", "single", "released"] = Field(
        "multi",
        description="multi: the input and after every downsampling; single: the input; released:"
        " the released code's four places (the input, a ResNet's conv1, layer1, layer2)",
    )
    activation: Literal["normalized-softplus", "sigmoid"] = Field(
        "normalized-softplus", description="Eq. 1, or an ablation: sigmoid collapses (Sec. III-A)"
    )
    replace: Literal["noise", "zero", "absolute-noise"] = Field(
        "noise", description="what takes the place: Eq. 3 to 5, or an ablation of Sec. III-C"
    )
    antialias: bool = Field(False, description="antialias M when it is resized")


class SealedTraining(Training):
    """A VINet whose map cannot be a code (docs/sealed.md), and what else was tried to that end."""

    importance: str = Field("shallow-unet", description="importance network, ours or smp:NAME")
    classifier: str = Field("seresnet50", description="classifier, ours or timm:NAME")
    share: float = Field(
        0.04, ge=0, lt=1, description="share of the pixels that every map keeps; 0: Eq. 1, a price"
    )
    form: Literal["disc", "free"] = Field(
        "disc", description="what the share looks like: one disc, wherever it lies, or any pixels"
    )
    cells: int = Field(
        8, ge=4, le=256, description="cells a side in which free maps and masks vary"
    )
    masks: Literal["random", "others", "own"] = Field(
        "others",
        description="what the classifier learns to read under: random masks; those and other"
        " pictures' maps; each picture's own map",
    )
    replace: Literal["noise", "air", "swap"] = Field(
        "noise",
        description="what takes a destroyed pixel's place: Eq. 3 to 5; zero; another picture",
    )
    target: Literal["prediction", "label"] = Field(
        "prediction", description="what kept pixels must give: the classifier's answer to the whole"
    )
    complement: float = Field(
        1.0, ge=0, description="weight of what the pixels that are not kept must not give"
    )
    warmup: float = Field(
        0.3, ge=0, lt=1, description="share of the epochs in which the classifier sees all"
    )
    moves: float = Field(
        0.1, ge=0, lt=0.5, description="random shifts in training, as a share of the side"
    )
    price: float = Field(
        2.0, ge=0, description="a of Eq. 6 without a share, while the kept pixels say enough"
    )
    critic: float = Field(
        3.0,
        ge=0,
        description="weight that a reader of the map alone, its gradient reversed, rises to",
    )
    samples: int = Field(1, ge=1, le=32, description="draws of the noise a step, for the map")
    views: bool = Field(
        False, description="the map is of a flipped view in training, the mean of four in a test"
    )
    shift: float = Field(4.0, description="added to M0 before Eq. 1, where there is no share")


class Evaluation(Frozen):
    """How closely the protocols that go through whole maps look."""

    steps: int = Field(10, ge=2, le=100, description="steps of a deletion curve")
    blur: float = Field(
        0.1, gt=0, le=1, description="sigma of the blurred start picture, as a share of its side"
    )
    pictures: int = Field(
        100, ge=1, description="test pictures for faithfulness, robustness and sanity (by content)"
    )
    subsets: int = Field(
        50, ge=3, description="random sets of pixels of each size, a picture (faithfulness)"
    )
    perturbations: int = Field(
        10, ge=1, description="perturbed copies of a picture (max-sensitivity)"
    )


def _several(folds: int) -> int:
    """Raises ValueError for one fold alone."""
    if folds == 1:
        raise ValueError("one fold leaves nothing to train on; give 0, or 2 or more")
    return folds


Folds = Annotated[int, Field(ge=0, le=MOST_FOLDS), AfterValidator(_several)]


Percent = Literal[1, 2, 5, 10, 20, 30, 50, 70, 90]


class Curves(Frozen):
    """Where `budget-curves` retrains."""

    percents: tuple[Percent, ...] = Field(
        (2, 10, 30), min_length=1, description="percent of the pixels kept or removed, e.g. 2,10,30"
    )

    cross_fit: Folds = Field(
        0,
        description="folds of networks, so that none explains pictures it was trained on; 0: none",
    )

    @field_validator("percents", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        """'2,10' as --set gives it, in any order."""
        words = value.split(",") if isinstance(value, str) else value
        if not isinstance(words, list | tuple):
            return value
        known = [int(w) if isinstance(w, str) and w.strip().isdecimal() else w for w in words]
        return tuple(sorted(set(known))) if all(isinstance(k, int) for k in known) else known


class Explained(Training):
    """The classifier that methods explain, and whose weights it has."""

    network: str = Field("vgg16", description="the network itself, ours or timm:NAME")
    weights: str = Field("", description="hash of the --checkpoint; empty: trained here")


class SplitSettings(Frozen):
    """How slices are shared out; patients are never on two sides unless by=slice."""

    by: Literal["patient", "slice"] = "patient"
    validation: float = Field(0.1, gt=0, lt=0.5, description="share of the slices")
    test: float = Field(0.2, gt=0, lt=0.8, description="share of the slices")
    seed: int = Field(0, ge=0)
    folds: Folds = Field(
        0, description="cross-validation: seed s tests part s modulo folds; 0: all test one part"
    )

    @model_serializer(mode="wrap")
    def _as_ever(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without folds the keys of cells are what they were before there were any."""
        told: dict[str, Any] = dump(self)
        if not self.folds:
            told.pop("folds", None)
        return told


Share = Annotated[float, Field(gt=0, lt=1)]


class Settings(Frozen):
    """Everything that --set can change and a preset fixes."""

    phantom: PhantomSettings = PhantomSettings()
    split: SplitSettings = SplitSettings()
    size: int = Field(
        128, ge=PICTURE_SIZES[0], le=PICTURE_SIZES[1], description="side of the pictures in pixels"
    )
    vinet: VINetTraining = VINetTraining()
    sealed: SealedTraining = SealedTraining()
    explained: Explained = Field(Explained(), description="what CAM, VBP, LRP... explain")
    retrain: Training = Field(Training(), description="the ResNet-18 of the protocols")
    mask_size: int = Field(
        128, ge=16, le=1024, description="side at which the mask-only networks see masks"
    )
    evaluation: Evaluation = Evaluation()
    curves: Curves = Curves()
    control_budget: Literal["vinet"] | Share = Field(
        "vinet", description="share of pixels that the controls reserve, or vinet for VINet's S"
    )
    costly_pictures: int = Field(
        64, ge=1, description="test pictures, the same for all, that costly methods explain"
    )
    threads: int = Field(
        0, ge=0, le=1024, description="of torch on the CPU; 0: as many as the run began with"
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="auto: bfloat16 in training where the hardware has it"
    )


def _flat(model: type[BaseModel], prefix: str = "") -> dict[str, str]:
    names: dict[str, str] = {}
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            names |= _flat(inner, f"{prefix}{name}.")
        else:
            names[prefix + name] = field.description or ""
    return names


def setting_names() -> dict[str, str]:
    """Every key of --set with its description; the pictures' size has one key, not two, and a
    hash cannot be chosen."""
    hidden = ("phantom.size", "explained.weights")
    return {k: about for k, about in _flat(Settings).items() if k not in hidden}


def with_changes(settings: Settings, changes: list[str]) -> Settings:
    """The settings with `key=value` texts applied.

    Raises UserError for an unknown key, a value that does not fit, or text without '='.
    """
    tree = settings.model_dump()
    for change in changes:
        key, equals, value = change.partition("=")
        if not equals:
            raise UserError(f"--set {change}: write it as key=value, e.g. --set vinet.alpha=1")
        if key not in setting_names():
            raise unknown_name("setting", key, setting_names())
        *sections, name = key.split(".")
        branch: dict[str, Any] = tree
        for section in sections:
            branch = branch[section]
        branch[name] = None if value in ("none", "None") else value
    return _validated(tree)


def _validated(tree: dict[str, Any]) -> Settings:
    try:
        return Settings.model_validate(tree)
    except ValidationError as error:
        found = error.errors()
        key = _key(found[0]["loc"])
        told = ", or ".join(e["msg"] for e in found if _key(e["loc"]) == key)
        told = told.replace("Input should", "it should").replace("Value error, ", "")
        raise UserError(f"--set {key}={found[0]['input']}: {told}") from None


def _key(place: tuple[int | str, ...]) -> str:
    """The setting at a place of pydantic's, which goes on below it where a type is a union."""
    steps = [".".join(map(str, place[:end])) for end in range(1, len(place) + 1)]
    return next((step for step in steps if step in setting_names()), steps[-1])
