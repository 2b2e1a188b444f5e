/* The heaps of the core, for items of any type. Before including define
 *
 *   CX_ITEM         the type of an item,
 *   CX_BEFORE(a, b) whether item a is nearer to the top than item b (pointers),
 *   CX_HEAP(x)      which makes names;
 *
 * they are undefined again. A heap is an array that the caller owns; nothing is allocated. */

/* Put an item into a heap of `size`, which has room for one more. */
CX_INLINE void CX_HEAP(push)(CX_ITEM *heap, ptrdiff_t size, CX_ITEM item)
{
    ptrdiff_t here = size;
    while (here > 0) {
        ptrdiff_t above = (here - 1) / 2;
        if (!CX_BEFORE(&item, heap + above))
            break;
        heap[here] = heap[above];
        here = above;
    }
    heap[here] = item;
}

/* Put an item in the place of the top of a heap of `size`. To take the top off, put the last in its place. */
CX_INLINE void CX_HEAP(replace_top)(CX_ITEM *heap, ptrdiff_t size, CX_ITEM item)
{
    ptrdiff_t here = 0;
    for (;;) {
        ptrdiff_t child = 2 * here + 1;
        if (child >= size)
            break;
        if (child + 1 < size && CX_BEFORE(heap + child + 1, heap + child))
            child += 1;
        if (!CX_BEFORE(heap + child, &item))
            break;
        heap[here] = heap[child];
        here = child;
    }
    heap[here] = item;
}

#undef CX_ITEM
#undef CX_BEFORE
#undef CX_HEAP
