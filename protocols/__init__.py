"""Evaluation protocols by name; one file a protocol."""

from vinet_bench.protocols import ProtocolFactory

from protocols.keep_important import KeepImportant
from protocols.occlusion import Occlusion

PROTOCOLS: dict[str, ProtocolFactory] = {"keep-important": KeepImportant, "occlusion": Occlusion}
