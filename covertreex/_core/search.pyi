from covertreex.data.payload import PayloadStore
from covertreex.data.tree import Tree
from covertreex.protocols import QueryBlock, SearchOutput
from covertreex.settings import TraversalSettings

def search(
    tree: Tree,
    payload: PayloadStore,
    queries: QueryBlock,
    k: int,
    settings: TraversalSettings,
    out: SearchOutput,
) -> None: ...
