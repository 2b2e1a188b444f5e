from covertreex.data.payload import PayloadStore
from covertreex.protocols import ScanPlan, SearchOutput
from covertreex.settings import TraversalSettings

NEIGHBOR: list[tuple[str, str]]

def scan(payload: PayloadStore, plan: ScanPlan, k: int, settings: TraversalSettings, out: SearchOutput) -> None: ...
