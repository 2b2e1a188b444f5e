/* What the core keeps in heaps (heap.h), and in which order. */
#ifndef COVERTREEX_HEAPS_H
#define COVERTREEX_HEAPS_H

#include "canonical.h"

/* A row that may be among the k nearest: the farthest is on top (kbest.pxd). */
typedef struct {
    cx_nearness at;
    int64_t index;
} cx_neighbor;

/* INVARIANT A7: which of two comes later. */
CX_INLINE int cx_farther(const cx_neighbor *a, const cx_neighbor *b)
{
    if (a->at.distance != b->at.distance)
        return a->at.distance > b->at.distance;
    if (a->at.rho != b->at.rho)
        return a->at.rho < b->at.rho;
    if (a->at.r2 != b->at.r2)
        return a->at.r2 > b->at.r2;
    return a->index > b->index;
}

#define CX_ITEM cx_neighbor
#define CX_BEFORE(a, b) cx_farther(a, b)
#define CX_HEAP(x) cx_neighbors_##x
#include "heap.h"

/* A node of the cover tree on the frontier of a search: the least bound is on top, of equal ones the first pushed. */
typedef struct {
    double bound;
    int64_t sequence;
    int64_t node;
    double distance;
} cx_frontier_node;

#define CX_ITEM cx_frontier_node
#define CX_BEFORE(a, b) ((a)->bound < (b)->bound || ((a)->bound == (b)->bound && (a)->sequence < (b)->sequence))
#define CX_HEAP(x) cx_frontier_##x
#include "heap.h"

/* Numbers, the least on top. */
#define CX_ITEM double
#define CX_BEFORE(a, b) (*(a) < *(b))
#define CX_HEAP(x) cx_least_##x
#include "heap.h"

#endif
