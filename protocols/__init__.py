"""Evaluation protocols by name; one file a protocol, or two that differ in one word."""

from protocols.budget_curves import BudgetCurves
from protocols.complexity import Complexity
from protocols.deletion import Deletion
from protocols.destruction import Destruction
from protocols.faithfulness import Faithfulness
from protocols.keep_important import KeepImportant
from protocols.localisation import Localisation
from protocols.networks import Classifiers, ImportanceNetworks
from protocols.occlusion import Occlusion
from protocols.policies import Policies
from protocols.road import Road
from protocols.robustness import Robustness
from protocols.sanity import Sanity
from protocols.sealing import Sealing
from protocols.shortcut import Shortcut
from vinet_bench.protocols import ProtocolFactory

PROTOCOLS: dict[str, ProtocolFactory] = {
    "keep-important": KeepImportant,
    "occlusion": Occlusion,
    "importance-networks": ImportanceNetworks,
    "classifiers": Classifiers,
    "destruction": Destruction,
    "budget-curves": BudgetCurves,
    "deletion": Deletion,
    "road": Road,
    "faithfulness": Faithfulness,
    "localisation": Localisation,
    "sanity": Sanity,
    "robustness": Robustness,
    "complexity": Complexity,
    "policies": Policies,
    "shortcut": Shortcut,
    "sealing": Sealing,
}
