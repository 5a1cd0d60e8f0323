"""Evaluation protocols by name; one file a protocol."""

from protocols.keep_important import KeepImportant
from protocols.occlusion import Occlusion
from vinet_bench.protocols import ProtocolFactory

PROTOCOLS: dict[str, ProtocolFactory] = {"keep-important": KeepImportant, "occlusion": Occlusion}
