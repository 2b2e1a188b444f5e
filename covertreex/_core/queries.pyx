"""Query blocks as kernels see them."""


cdef class QueriesView:
    def __init__(self, queries, PayloadView payload):
        self.payload = payload
        self.rows = queries.rows
        self.exclude = queries.exclude
        self.limit = queries.limit
        self.rank = queries.rank
        self.coords = queries.coords
        self.factors = queries.factors
        self.p = queries.p
        self.prefix = queries.prefix
