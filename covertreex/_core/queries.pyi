from covertreex._core.canonical import PayloadView
from covertreex.protocols import QueryBlock

class QueriesView:
    def __init__(self, queries: QueryBlock, payload: PayloadView) -> None: ...
