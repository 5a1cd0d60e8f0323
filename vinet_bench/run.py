"""Carries out a plan: cells in, records out; what is in the store is not computed again."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from vinet_bench import __version__
from vinet_bench.attempts import attempt
from vinet_bench.cluster import Cluster, made_there
from vinet_bench.data import load_data
from vinet_bench.data.dataset import SliceDataset
from vinet_bench.data.facts import picture_facts
from vinet_bench.data.splits import Split, split_as
from vinet_bench.description import by_protocol, describe
from vinet_bench.errors import UserError, unknown_name
from vinet_bench.given_maps import WORD
from vinet_bench.machine import Machine
from vinet_bench.methods import in_order, method
from vinet_bench.models import build_vinet
from vinet_bench.networks import CLASSIFIERS, build_explained, check_classifier, check_importance
from vinet_bench.networks.explained import load_weights
from vinet_bench.plan import Plan
from vinet_bench.progress import Progress, Silent
from vinet_bench.protocols import EvalProtocol, OwnRows, protocol
from vinet_bench.records import Cell, Record, key_of
from vinet_bench.settings import Settings
from vinet_bench.shared_artefacts import shared_at
from vinet_bench.showcase import showcase
from vinet_bench.store import Store
from vinet_bench.workshop import Workshop

NEEDED = {"evidence": "masks", "readers": "masks of single readers"}


@dataclass(frozen=True)
class Outcome:
    """How many cells were made now, were there already, and failed."""

    folder: Path
    made: int
    found: int
    failed: tuple[str, ...]


def choose_machine(
    device: str, precision: str, threads: int = 0, deterministic: bool = False
) -> Machine:
    """Where to run. device 'auto', 'cpu' or 'cuda'. Raises UserError if there is none."""
    if device not in ("auto", "cpu", "cuda"):
        raise unknown_name("device", device, ("auto", "cpu", "cuda"))
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: this machine shows torch no GPU; use --device cpu")
    name = "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
    return Machine(torch.device(name), _bfloat16(name, precision), threads, deterministic)


def machine_of(plan: Plan, device: str) -> Machine:
    """Where and how a plan is computed. Raises UserError if there is no such device."""
    chosen = plan.settings
    return choose_machine(device, chosen.precision, chosen.threads, plan.deterministic)


def _bfloat16(device: str, precision: str) -> bool:
    if precision != "auto":
        return precision == "bfloat16"
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    # Where the processor has no such instructions bfloat16 is emulated and slower than float32. An
    # older torch that cannot tell computes in float32, unless it is told otherwise.
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_tile", "bf16"))


def default_folder(plan: Plan) -> Path:
    """results/<data>-<preset>."""
    return Path("results") / f"{Path(plan.data).resolve().name or 'data'}-{plan.preset}"


@dataclass(frozen=True)
class Prepared:
    """Protocols and a plan that suit the data, with all else that their cells need."""

    protocols: Sequence[EvalProtocol]
    plan: Plan
    data: SliceDataset
    split: Split
    machine: Machine

    def workshop(
        self, store: Store, earlier: Mapping[str, Any] | None, progress: Progress
    ) -> Workshop:
        """Where the cells are made. earlier: what the store noted of this plan."""
        machine = with_threads(self.machine, earlier)
        return Workshop(self.plan, self.data, self.split, store, machine, progress)


def prepared(protocol_names: Sequence[str], plan: Plan, device: str) -> Prepared:
    """Loads the data and holds the plan against it. Raises UserError for bad input."""
    chosen: Sequence[EvalProtocol] = [protocol(name) for name in protocol_names]
    check_rows(plan, chosen)
    machine = machine_of(plan, device)
    data = load_data(plan)
    plan, chosen = suited(plan, data), _with_something_to_measure(chosen, data)
    check_networks(plan.settings, data)
    _check_explained(plan, data)
    split = split_as(data, plan.settings.split)
    for given in plan.given.values():
        given.check(data.ids[split.tested(plan.seeds)].tolist(), data.size)
    return Prepared(chosen, plan, data, split, machine)


def run(
    protocol_names: Sequence[str],
    plan: Plan,
    folder: Path | None = None,
    device: str = "auto",
    progress: Progress | None = None,
    cluster: Cluster | None = None,
) -> Outcome:
    """Runs protocols into a run's folder (default: results/<data>-<preset>), here or on a cluster.

    Raises UserError for bad input, before anything is written. A cell that fails is a record with
    its reason, and the others go on.
    """
    task = prepared(protocol_names, plan, device)
    plan, data, split = task.plan, task.data, task.split
    with closing(_store(plan, folder)) as store, store.held():
        plan_id = id_of(plan, data)
        earlier = store.plan(plan_id)
        shop = task.workshop(store, earlier, progress or Silent())
        told = describe(_widened(_told(task), earlier), data, split, shop.machine)
        told |= by_protocol(plan, task.protocols, earlier or {})
        told["data"]["pictures"] = _keep_facts(data, split, store)
        told["gallery"] = plan_id
        store.start(plan_id, told, time.time())
        outcome = _carry_out(task.protocols, shop, plan_id, cluster)
        explained = [row["name"] for row in told["rows"] if row["kind"] != "reference"]
        if shown := showcase(shop, explained):
            store.save("gallery", plan_id, shown)
        return outcome


def _store(plan: Plan, folder: Path | None) -> Store:
    return Store(folder or default_folder(plan), shared_at(plan.artefacts))


def id_of(plan: Plan, data: SliceDataset) -> str:
    """Under which a store notes the plan for this data."""
    return key_of(plan.identity() | {"data": data.fingerprint})


def with_threads(machine: Machine, earlier: Mapping[str, Any] | None) -> Machine:
    """The same number in a run that goes on, on whatever machine: the same figures."""
    began = (earlier or {}).get("threads", 0)
    return replace(machine, threads=machine.threads or began or torch.get_num_threads())


def _keep_facts(data: SliceDataset, split: Split, store: Store) -> str:
    """Stores what an audit asks of each picture; the key of it."""
    folds = [
        {name: data.ids[place].tolist() for name, place in one.parts().items()}
        for one in split.folds or (split,)
    ]
    parts = folds if split.folds else folds[0]
    key = key_of({"data": data.fingerprint, "parts": parts, "version": __version__})
    if store.load("pictures", key) is None:
        store.save("pictures", key, picture_facts(data, split))
    return key


def _with_something_to_measure(
    chosen: Sequence[EvalProtocol], data: SliceDataset
) -> Sequence[EvalProtocol]:
    """Without the protocols that need what the data set lacks; one that was asked for alone stays,
    and its cells say why they fail."""
    if len(chosen) == 1:
        return chosen
    return [
        how for how in chosen if not how.info.needs or getattr(data, how.info.needs) is not None
    ]


def check_networks(settings: Settings, data: SliceDataset) -> None:
    """Raises UserError for a network of unknown name, or one that does not suit the pictures,
    before any cell would fail of it."""
    vinet, sealed = settings.vinet, settings.sealed
    for section, chosen in (("vinet", vinet), ("sealed", sealed)):
        check_importance(chosen.importance, f"network for --set {section}.importance")
        check_classifier(chosen.classifier, f"network for --set {section}.classifier")
    # Ours suit any pictures, but not all of them the released code's places.
    if vinet.classifier not in CLASSIFIERS or vinet.destruction == "released":
        build_vinet(vinet, data.num_classes, data.size, seed=0)
    if sealed.classifier not in CLASSIFIERS:
        build_vinet(sealed, data.num_classes, data.size, seed=0)


def _check_explained(plan: Plan, data: SliceDataset) -> None:
    """Raises UserError for an explained network of unknown name, one that does not suit the
    pictures, or weights that are not its own."""
    chosen = plan.settings.explained
    check_classifier(chosen.network, "network for --explain")
    model = build_explained(chosen.network, data.num_classes, 0, chosen.width, data.size)
    if chosen.weights:
        load_weights(model, chosen.network, Path(plan.checkpoint))


def check_rows(plan: Plan, chosen: Sequence[EvalProtocol]) -> None:
    """Raises UserError for a row of --rows that no chosen protocol has."""
    own = [how for how in chosen if isinstance(how, OwnRows)]
    for name in plan.rows:
        if not own:
            raise UserError(f"--rows {name}: {chosen[0].info.name} has no rows but --methods")
        alone = plan.model_copy(update={"rows": (name,)})  # smp:NAME and timm:NAME are in no list
        if all(row.kind == "reference" for how in own for row in how.rows(alone)):
            raise unknown_name("row", name, {known for how in own for known in how.row_names()})


def _told(task: Prepared) -> Plan:
    """The plan without its methods where no chosen protocol has a row for them."""
    unasked = all(isinstance(how, OwnRows) for how in task.protocols)
    return task.plan.model_copy(update={"methods": ()}) if unasked else task.plan


def suited(plan: Plan, data: SliceDataset) -> Plan:
    """Notes what the data set has, and leaves out what needs masks that it does not have.

    Raises UserError if such a method was asked for by its name.
    """
    plan = plan.model_copy(update={"readers": data.readers is not None})
    lacking = [name for name in plan.methods if not _possible(name, data)]
    for name in lacking:
        if name in plan.named:
            what = NEEDED[method(name).info.needs]
            raise UserError(f"--methods {name}: the data set {data.name} has no {what}")
    return plan.model_copy(
        update={"methods": tuple(name for name in plan.methods if name not in lacking)}
    )


def _possible(name: str, data: SliceDataset) -> bool:
    needs = method(name).info.needs
    return not needs or getattr(data, needs) is not None


def _widened(plan: Plan, earlier: dict[str, Any] | None) -> Plan:
    """The plan with the methods and seeds that the same tables hold already."""
    if earlier is None:
        return plan
    names = {row["name"] for row in earlier["rows"]} | set(plan.methods)
    renewed = tuple(f"{WORD}:{maps.title}@" for maps in plan.given.values())
    names -= {name for name in names - set(plan.methods) if name.startswith(renewed)}
    seeds = {*plan.seeds, *earlier["seeds"]}
    rows = in_order(sorted(names))
    return plan.model_copy(update={"methods": rows, "seeds": tuple(sorted(seeds))})


def _carry_out(
    chosen: Sequence[EvalProtocol], shop: Workshop, plan_id: str, cluster: Cluster | None
) -> Outcome:
    cells = [(p, cell) for p in chosen for cell in p.cells(shop.plan)]
    keys = {cell: shop.cell_key(cell) for _, cell in cells}
    shop.store.want(plan_id, keys)
    missing = [(how, cell) for how, cell in cells if not shop.store.has(keys[cell])]
    for cell in keys.keys() - {cell for _, cell in missing}:
        shop.store.adopt(plan_id, keys[cell])
    made = _made_here(missing, shop) if cluster is None else made_there(missing, shop, cluster)
    failed = []
    with shop.progress.step("cells", len(cells)) as advance:
        for _ in range(len(cells) - len(missing)):
            advance()
        for cell, records in made:
            shop.store.add(plan_id, keys[cell], cell, records, shop.clock.taken())
            failed += [f"{cell.title}: {r.error}" for r in records if r.error]
            advance()
    return Outcome(shop.store.folder, len(missing), len(cells) - len(missing), tuple(failed))


def _made_here(
    missing: Sequence[tuple[EvalProtocol, Cell]], shop: Workshop
) -> Iterator[tuple[Cell, list[Record]]]:
    """Each cell with its records, one after the other."""
    for how, cell in missing:
        # The cell is still noted as running while its records are added.
        with shop.store.working(shop.cell_key(cell)), shop.machine.computing():
            yield cell, attempt(how, cell, shop)
