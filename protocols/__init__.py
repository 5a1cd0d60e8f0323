"""Evaluation protocols by name; one file a protocol, or two that differ in one word."""

from protocols.budget_curves import BudgetCurves
from protocols.destruction import Destruction
from protocols.keep_important import KeepImportant
from protocols.localisation import Localisation
from protocols.networks import Classifiers, ImportanceNetworks
from protocols.occlusion import Occlusion
from protocols.policies import Policies
from protocols.sanity import Sanity
from protocols.shortcut import Shortcut
from vinet_bench.protocols import ProtocolFactory

PROTOCOLS: dict[str, ProtocolFactory] = {
    "keep-important": KeepImportant,
    "occlusion": Occlusion,
    "importance-networks": ImportanceNetworks,
    "classifiers": Classifiers,
    "destruction": Destruction,
    "localisation": Localisation,
    "policies": Policies,
    "sanity": Sanity,
    "budget-curves": BudgetCurves,
    "shortcut": Shortcut,
}
