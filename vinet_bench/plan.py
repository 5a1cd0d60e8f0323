"""What the user asked for, validated before anything is made."""

import hashlib
from pathlib import Path

from pydantic import Field

from vinet_bench.errors import UserError, unknown_name
from vinet_bench.given_maps import GivenMaps
from vinet_bench.presets import DEFAULT_METHODS, PRESETS
from vinet_bench.settings import PICTURE_SIZES, Frozen, Settings, with_changes

ALL = "all"  # every method of the registry that the data set has something for


class Plan(Frozen):
    """One run: data, methods, seeds, threshold and settings.

    named: the methods that were asked for one by one, not as `all`.
    rows: those wanted of the protocols that have rows of their own; empty for their usual ones.
    readers: whether the data set tells its readers apart; known once it is loaded.
    checkpoint: the file of the explained network's weights, of which the settings have the hash.
    given: by their rows' names (with a hash) the folders of maps that were made elsewhere.
    deterministic: no setting, since on a CPU it changes nothing; on a GPU it is part of the keys.
    artefacts: the address where networks and maps lie; empty for the run's folder.
    """

    data: str = "phantom"
    patients: str = "column"
    preset: str = "quick"
    methods: tuple[str, ...] = DEFAULT_METHODS
    seeds: tuple[int, ...] = (0,)
    threshold: float = Field(0.9, gt=0, lt=1)
    size_given: bool = False
    named: tuple[str, ...] = ()
    rows: tuple[str, ...] = ()
    readers: bool = False
    checkpoint: str = ""
    given: dict[str, GivenMaps] = Field(default_factory=dict)
    deterministic: bool = False
    artefacts: str = ""
    settings: Settings = PRESETS["quick"].settings

    def identity(self) -> dict[str, object]:
        """All but the data that makes two plans different tables, not more rows of one table."""
        return self.model_dump(mode="json", include={"threshold", "settings"})

    def retrained(self) -> tuple[str, ...]:
        """The methods on whose masked pictures networks are trained: a costly one, whose maps of
        the training part take hours, only where --methods names it."""
        from vinet_bench.methods import method

        return tuple(n for n in self.methods if n in self.named or not method(n).info.costly)


def make_plan(
    data: str = "phantom",
    preset: str = "quick",
    methods: list[str] | None = None,
    seeds: int | None = None,
    threshold: float = 0.9,
    size: int | None = None,
    patients: str = "column",
    changes: list[str] | None = None,
    rows: list[str] | None = None,
    checkpoint: Path | None = None,
    maps: list[str] | None = None,
    deterministic: bool = False,
    artefacts: str | None = None,
) -> Plan:
    """The plan that a user's options make. Raises UserError for anything that does not fit."""
    if preset not in PRESETS:
        raise unknown_name("preset", preset, PRESETS)
    chosen = PRESETS[preset]
    if not 0 < threshold < 1:
        raise UserError(f"--threshold {threshold:g}: T must lie between 0 and 1, e.g. 0.9 (Eq. 9)")
    if patients not in ("column", "unknown"):
        raise unknown_name("value of --patients", patients, ("column", "unknown"))
    if seeds is not None and seeds < 1:
        raise UserError(f"--seeds {seeds}: at least one seed is needed")
    if size is not None and not PICTURE_SIZES[0] <= size <= PICTURE_SIZES[1]:
        raise UserError(
            f"--size {size}: give a side of {PICTURE_SIZES[0]} to {PICTURE_SIZES[1]} pixels"
        )
    resized = [] if size is None else [f"size={size}"]
    settings = with_changes(chosen.settings, [*(changes or []), *resized])
    if checkpoint is not None:
        settings = _with_weights(settings, checkpoint)
    given = _given(maps or [])
    return Plan(
        data=data,
        patients=patients,
        preset=preset,
        methods=(*_known_methods(methods), *given),
        named=tuple(name for name in methods or () if name != ALL),
        rows=tuple(dict.fromkeys(rows or ())),
        seeds=tuple(range(seeds or chosen.seeds)),
        threshold=threshold,
        size_given=size is not None,
        checkpoint=str(checkpoint or ""),
        given=given,
        deterministic=deterministic,
        artefacts=artefacts or "",
        settings=settings,
    )


def _with_weights(settings: Settings, checkpoint: Path) -> Settings:
    """The path is no setting: the same content elsewhere gives the same figures."""
    explained = settings.explained.model_copy(update={"weights": content_hash(checkpoint)})
    return settings.model_copy(update={"explained": explained})


def _given(options: list[str]) -> dict[str, GivenMaps]:
    """The rows of --maps by name. Raises UserError where two have one title."""
    found: dict[str, GivenMaps] = {}
    for option in options:
        maps = GivenMaps.of(option)
        if any(maps.title == other.title for other in found.values()):
            raise UserError(f"--maps {option}: another --maps is named {maps.title} too")
        found[maps.name] = maps
    return found


def content_hash(checkpoint: Path) -> str:
    """Of the file's bytes. Raises UserError if it does not read."""
    try:
        return hashlib.sha256(checkpoint.read_bytes()).hexdigest()[:16]
    except OSError as error:
        raise UserError(f"--checkpoint {checkpoint}: cannot be read ({error.strerror})") from None


def _known_methods(names: list[str] | None) -> tuple[str, ...]:
    """The named methods in the registry's order, each once; 'all' stands for every one."""
    if names is None:
        return DEFAULT_METHODS
    from vinet_bench.methods import in_order, method, methods

    for name in names:
        if name != ALL:
            method(name)  # an unknown one is an error
    return in_order(known for name in names for known in (methods() if name == ALL else [name]))
