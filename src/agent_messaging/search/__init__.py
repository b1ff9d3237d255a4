"""What searching means, the same for every store: words of texts, queries, matches and their order. Pure, no I/O.

A store keeps an index of words alone, which says which messages may match. Whether one does, and how well, is judged
here, from its text. So both stores find the same in the same order, and a message that is not in the index yet is
judged as any other.
"""
